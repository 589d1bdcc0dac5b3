"""The path that every controller in the benchmark follows with both hands.

10 s at 200 Hz: 0.3 Hz figures of +-0.1 m and +-0.15 to 0.3 rad, a drift forward at 0.1 m/s for the base,
with `crossing` the hands also swing inward until only the distance they have to keep parts them, and after 6 s a step
of 5 cm upward, which no controller can follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bytemini_core.types import Array
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel

from wbc_controller.hands import exponential

DURATION = 10.0
STEP_TIME = 6.0
STEP = (0.0, 0.0, 0.05)
_W = 2.0 * np.pi * 0.3
_RAMP = 1.0
_INWARD = 0.057


@dataclass(frozen=True, slots=True)
class Target:
    """Pose and twist of a hand in odom."""

    rotation: Array
    position: Array
    twist: Array


class Path:
    """Targets of both hands over time, starting at rest at home."""

    def __init__(self, robot: RobotModel, crossing: bool, step: bool = True) -> None:
        kinematics = Kinematics(robot)
        self._home = [kinematics.forward(f"{side}_tcp", robot.home) for side in ("left", "right")]
        self._crossing = crossing
        self._step = step

    def _pose(self, hand: int, t: float) -> tuple[Array, Array]:
        side = 1.0 if hand == 0 else -1.0
        # a C2 start: the amplitude grows with 10 s^3 - 15 s^4 + 6 s^5, the drift with its integral
        s = min(t / _RAMP, 1.0)
        grown = s**3 * (10.0 - 15.0 * s + 6.0 * s * s)
        drift = 0.1 * (_RAMP * (2.5 * s**4 - 3.0 * s**5 + s**6) + max(t - _RAMP, 0.0))
        inward = _INWARD * 0.5 * (1.0 - np.cos(_W * t)) if self._crossing else 0.0
        offset = grown * np.array(
            (
                0.1 * np.sin(_W * t),
                0.05 * side * np.sin(2.0 * _W * t) - side * inward,
                0.1 * np.sin(_W * t + 0.6) - 0.1 * np.sin(0.6),
            )
        )
        offset[0] += drift
        if self._step and t >= STEP_TIME:
            offset += STEP
        vector = grown * np.array(
            (0.15 * side * np.sin(_W * t), 0.2 * np.sin(_W * t), 0.3 * side * np.sin(0.5 * _W * t))
        )
        home = self._home[hand]
        return exponential(vector) @ home[:3, :3], home[:3, 3] + offset

    def at(self, hand: int, t: float) -> Target:
        """Target of hand 0 (left) or 1 (right); the twist is the central difference."""
        h = 1e-6
        rotation, position = self._pose(hand, t)
        before, after = self._pose(hand, t - h), self._pose(hand, t + h)
        velocity = (after[1] - before[1]) / (2.0 * h)
        if np.abs(velocity).max() > 10.0:  # across the step
            velocity = np.zeros(3)
        spin = (after[0] - before[0]) @ rotation.T / (2.0 * h)
        return Target(rotation, position, np.concatenate((velocity, (spin[2, 1], spin[0, 2], spin[1, 0]))))
