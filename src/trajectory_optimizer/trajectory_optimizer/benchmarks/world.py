"""A clean path, and a policy that sees it with noise: the same chunks for every method.

19 columns, each the sum of four sinusoids of 0.08 to 0.7 Hz; chunks of 50 rows at 30 Hz, every 0.5 s, 0.1 s late, each
off by a constant bias per column (sigma 20 mrad: chunks disagree) and by noise per row (sigma 5 mrad).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from bytemini_description.robot import RobotModel, load_robot
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

COLUMNS = 19
TICK = 0.005
VELOCITY, ACCELERATION, JERK = 2.0, 15.0, 150.0
"""Limits of every column, the optimiser's and ruckig's."""


@dataclass(frozen=True)
class Setting:
    """How a policy speaks: times in s, angles in rad.

    `period`: between observations, or a range to draw from. `latency`: from observation to arrival, or a range.
    `stamp_error`: sigma of the error of the stamp. `bias`, `noise`: sigma of a chunk's and of a row's error.
    """

    rows: int = 50
    dt: float = 1.0 / 30.0
    period: tuple[float, float] = (0.5, 0.5)
    latency: tuple[float, float] = (0.1, 0.1)
    stamp_error: float = 0.0
    bias: float = 0.020
    noise: float = 0.005


@dataclass(frozen=True)
class Arrival:
    """A chunk: observed at `stamp` as it says (s), arrived at `time`; `values` (rows, COLUMNS)."""

    time: float
    stamp: float
    values: Array


class CleanPath:
    """What the policy means."""

    def __init__(self, rng: np.random.Generator) -> None:
        shape = (4, COLUMNS)
        self._amplitude = rng.uniform(0.1, 0.25, shape)
        self._omega = 2.0 * np.pi * rng.uniform(0.08, 0.7, shape)
        # A path that the limits allow: what none of the methods could follow would measure nothing.
        self._amplitude *= np.minimum(1.0, 0.9 * VELOCITY / (self._amplitude * self._omega).sum(axis=0))
        self._phase = rng.uniform(0.0, 2.0 * np.pi, shape)

    def __call__(self, times: ArrayLike) -> Array:
        """(len(times), COLUMNS) positions."""
        angle = np.asarray(times)[:, None, None] * self._omega + self._phase
        return np.asarray((self._amplitude * np.sin(angle)).sum(axis=1))


def arrivals(path: CleanPath, setting: Setting, duration: float, rng: np.random.Generator) -> Iterator[Arrival]:
    """The chunks of one run in order of their observation; one that would overtake an earlier one waits for it."""
    seen, last = 0.0, 0.0
    ahead = setting.dt * (np.arange(setting.rows) + 1)
    while seen < duration:
        values = path(seen + ahead) + rng.normal(0.0, setting.bias, COLUMNS)
        values += rng.normal(0.0, setting.noise, values.shape)
        last = max(last, seen + rng.uniform(*setting.latency))
        # A stamp may be wrong by a little, but no chunk is observed after it has arrived.
        stamp = float(np.clip(seen + rng.normal(0.0, 1.0) * setting.stamp_error, 0.0, last))
        yield Arrival(last, stamp, values)
        # Whole ticks, as a robot observes.
        seen += round(rng.uniform(*setting.period) / TICK) * TICK


class SyntheticRobot(RobotModel):
    """Nineteen like columns without grippers, so that every method is asked the same thing."""

    def gripper_joint(self, side: str) -> str:
        """None of the joints."""
        return f"{side}_none"


def synthetic_robot() -> SyntheticRobot:
    """ByteMini's joint names with one set of limits."""
    robot = load_robot("v1")
    values = {item.name: getattr(robot, item.name) for item in fields(robot)}
    ones = np.ones(len(robot.joint_names))
    values.update(
        lower=-10.0 * ones,
        upper=10.0 * ones,
        velocity=VELOCITY * ones,
        acceleration=ACCELERATION * ones,
        jerk=JERK * ones,
        policy_columns=robot.joint_names,
        wrist_tilt_limit=20.0,
    )
    return SyntheticRobot(**values)
