from __future__ import annotations

import numpy as np
import pytest
from bytemini_core.types import BaseReference, Mode, RobotState, WholeBodyReference
from bytemini_description.robot import RobotModel, load_robot
from wbc_controller.config import WbcConfig
from wbc_controller.controller import WholeBodyCommand, WholeBodyController

DT = 0.005


class Bench:
    """A robot whose joints do at once what they are told, and whose base does after `lag` s; a watch on every limit."""

    def __init__(self, robot: RobotModel, config: WbcConfig | None = None, lag: float = 0.0) -> None:
        self.robot = robot
        self._follow = DT / max(lag, DT)
        self._twist = np.zeros(3)
        self.controller = WholeBodyController(robot, config)
        self.position = robot.home.copy()
        self.base = np.zeros(3)
        self.tick = 0
        self.commanded: np.ndarray | None = None
        self.velocity = np.zeros(22)
        self.violations: list[str] = []
        self.jerk = 0.0
        self._acceleration = np.zeros(22)
        self.step()

    @property
    def t(self) -> float:
        return self.tick * DT

    def state(self, age: float = 0.0) -> RobotState:
        zero = np.zeros(19)
        stamp = round((self.t - age) * 1e9)
        return RobotState(stamp, self.robot.joint_names, self.position, zero, zero, self.base)

    def reference(self, names=(), position=(), velocity=None, acceleration=None, source=Mode.POLICY, **more):
        position = np.asarray(position, float)
        zero = np.zeros(len(position))
        return WholeBodyReference(
            round(self.t * 1e9) + more.pop("late", 0),
            source,
            tuple(names),
            position,
            zero if velocity is None else velocity,
            zero if acceleration is None else acceleration,
            **more,
        )

    def drive(self, vx: float, vy: float = 0.0, wz: float = 0.0) -> WholeBodyReference:
        return self.reference(base=BaseReference(None, np.array((vx, vy, wz))))

    def step(self, reference: WholeBodyReference | None = None, age: float = 0.0) -> WholeBodyCommand:
        command = self.controller.update(self.t, self.state(age), reference)
        self._watch(command)
        joint = command.joint
        cos, sin = np.cos(self.base[2]), np.sin(self.base[2])
        self._twist += self._follow * (joint.base_twist - self._twist)
        vx, vy, wz = self._twist
        self.base = self.base + DT * np.array((cos * vx - sin * vy, sin * vx + cos * vy, wz))
        self.position = joint.position.copy()
        self.tick += 1
        return command

    def _watch(self, command: WholeBodyCommand) -> None:
        q, robot = command.joint.position, self.robot
        if self.commanded is not None:
            moved = (q - self.commanded) / DT
            velocity = np.concatenate((command.joint.base_twist, moved))
            acceleration = (velocity - self.velocity) / DT
            most = np.concatenate((robot.base_velocity, robot.velocity))
            hardest = np.concatenate((robot.base_acceleration, robot.acceleration))
            if (np.abs(velocity) > most * (1 + 1e-7)).any():
                self.violations.append(f"velocity at tick {self.tick}")
            if (np.abs(acceleration) > hardest * (1 + 1e-7)).any():
                self.violations.append(f"acceleration at tick {self.tick}")
            self.jerk = max(self.jerk, float(np.max(np.abs(acceleration - self._acceleration) / DT / hardest)))
            self.velocity, self._acceleration = velocity, acceleration
        if (q < robot.lower).any() or (q > robot.upper).any():
            self.violations.append(f"position at tick {self.tick}")
        for side in ("left", "right"):
            tilt = q[robot.indices((f"{side}_wrist_pitch_joint", f"{side}_wrist_roll_joint"))]
            if np.hypot(*tilt) >= robot.wrist_tilt_limit:
                self.violations.append(f"{side} wrist disc at tick {self.tick}")
        self.commanded = q


@pytest.fixture(params=["v1", "v2"])
def robot(request: pytest.FixtureRequest) -> RobotModel:
    return load_robot(request.param)


@pytest.fixture
def bench(robot: RobotModel) -> Bench:
    return Bench(robot)


@pytest.fixture
def make_bench() -> type[Bench]:
    return Bench
