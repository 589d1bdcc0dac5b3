from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from bytemini_core.types import ActionChunk, RobotState
from bytemini_description.robot import RobotModel, load_robot
from trajectory_optimizer.limits import Limits


@pytest.fixture(scope="session")
def robot() -> RobotModel:
    return load_robot("v1")


@pytest.fixture
def state(robot: RobotModel) -> Callable[..., RobotState]:
    def make(stamp: int = 0, base: tuple[float, float, float] = (0.0, 0.0, 0.0), position=None) -> RobotState:
        zero = np.zeros(len(robot.joint_names))
        q = robot.home if position is None else position
        return RobotState(stamp, robot.joint_names, q, zero, zero, np.array(base))

    return make


@pytest.fixture
def home(robot: RobotModel) -> np.ndarray:
    """The policy's columns at home, base at its own origin."""
    at = dict(zip(robot.joint_names, robot.home, strict=True))
    return np.array([at.get(name, 0.0) for name in robot.policy_columns])


@pytest.fixture
def make_chunk(robot: RobotModel) -> Callable[..., ActionChunk]:
    def make(rows, stamp=0, sequence=0, dt=0.1, names=None, status=None, instruction="") -> ActionChunk:
        rows = np.asarray(rows, dtype=np.float32)
        status = np.zeros(len(rows)) if status is None else status
        return ActionChunk(
            stamp, sequence, names or robot.policy_columns, dt, rows, status, np.ones(len(rows)), instruction
        )

    return make


@pytest.fixture(scope="session")
def make_limits() -> Callable[..., Limits]:
    def make(size=2, discs=(), velocity=2.0) -> Limits:
        ones = np.ones(size)
        return Limits(
            lower=-3 * ones,
            upper=3 * ones,
            velocity=velocity * ones,
            acceleration=15 * ones,
            jerk=150 * ones,
            tolerance=0.03 * ones,
            agreement=0.1 * ones,
            jump=ones,
            crisp=ones < 0,
            discs=tuple(discs),
        )

    return make
