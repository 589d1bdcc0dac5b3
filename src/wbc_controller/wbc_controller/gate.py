"""The last gate: what comes in is fresh, named rightly, inside the limits and continuous, or it is refused."""

from __future__ import annotations

import math

import numpy as np
from bytemini_core.types import NANOSECONDS, Array, RobotState, WholeBodyReference
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray

from .config import WbcConfig
from .hands import length


class Gate:
    """Checks on states and references. Each answers with a reason to refuse, "" when there is none.

    Finiteness, shapes and unique names are kept by the types themselves (`bytemini_core.types`).
    """

    def __init__(self, robot: RobotModel, config: WbcConfig, hand_frames: tuple[str, ...]) -> None:
        self._robot = robot
        self._config = config
        self.hand_frames = hand_frames
        self._known = set(robot.joint_names)
        self._span = span = robot.upper - robot.lower
        self._lag = config.max_lag * span
        self._followed = np.array([not name.endswith("_gripper_joint") for name in robot.joint_names])
        self._tolerance = config.limit_tolerance * span
        self._jump = config.max_jump * span
        self._indices: dict[tuple[str, ...], NDArray[np.intp]] = {}

    def indices(self, names: tuple[str, ...]) -> NDArray[np.intp]:
        """Positions of `names` in the robot's joint order, remembered by the names.

        Raises:
            KeyError: a name is not a joint of the robot (its argument is the name).
        """
        known = self._indices.get(names)
        if known is None:
            order = {name: i for i, name in enumerate(self._robot.joint_names)}
            known = np.array([order[name] for name in names], dtype=np.intp)
            if len(self._indices) > 32:  # a sender that varies its names for ever must not fill the memory
                self._indices.clear()
            self._indices[names] = known
        return known

    def _stamp(self, what: str, stamp: int, t: float, oldest: float) -> str:
        age = t - stamp / NANOSECONDS
        if age > oldest:
            return f"{what} is stale: {age:.3f} s old, at most {oldest:.3f} s is taken"
        if age < -self._config.max_future:
            return f"{what} is stamped {-age:.3f} s in the future: check that the clocks agree"
        return ""

    def state(self, t: float, state: RobotState) -> str:
        """Why `state` cannot be used at time t (s)."""
        if reason := self._stamp("state", state.stamp, t, self._config.max_state_age):
            return reason
        if state.names != self._robot.joint_names and (missing := self._known - set(state.names)):
            return f"state lacks {', '.join(sorted(missing))}"
        return ""

    def leap(self, before: RobotState, state: RobotState) -> str:
        """Why two states, one after the other, cannot be of a robot that moves: a slipped encoder, a lost wheel.

        Both name the robot's joints in its own order.
        """
        robot, config = self._robot, self._config
        seconds = min(max(state.stamp - before.stamp, 0) / NANOSECONDS, config.max_silence) + config.period
        moved = np.abs(state.position - before.position)
        far = moved > 2.0 * robot.velocity * seconds + config.max_leap * self._span
        if far.any():
            i = int(np.argmax(far))
            return f"{robot.joint_names[i]} is measured {moved[i]:.3f} away from where it was: check its sensor"
        base = np.abs(state.base_pose - before.base_pose)
        base[2] = abs((base[2] + np.pi) % (2.0 * np.pi) - np.pi)
        if (base > 2.0 * robot.base_velocity * seconds + config.max_base_leap * np.array([1.0, 1.0, 2.0])).any():
            return f"odometry leaps by {np.hypot(base[0], base[1]):.3f} m, {base[2]:.3f} rad: check the wheels' sensors"
        return ""

    def astray(self, state: RobotState, commanded: Array) -> str:
        """Which joint is not where it was sent ((n,) rad, m), in the robot's own order; "" for none. Fingers may."""
        far = (np.abs(state.position - commanded) > self._lag) & self._followed
        if not far.any():
            return ""
        i = int(np.argmax(far))
        away = abs(float(state.position[i] - commanded[i]))
        return f"{self._robot.joint_names[i]} does not follow: {away:.3f} from where it was sent"

    def fresh(self, t: float, reference: WholeBodyReference) -> str:
        """Why `reference` is too old, or too young, to be executed at time t (s)."""
        return self._stamp("reference", reference.stamp, t, self._config.max_reference_age)

    def reference(
        self, t: float, reference: WholeBodyReference, before: WholeBodyReference | None, target: Array | None
    ) -> str:
        """Why `reference` cannot be executed at time t (s).

        `before` and `target` ((n,) joints) are the same owner's last reference and joint targets, None at first.
        """
        if reason := self.fresh(t, reference):
            return reason
        if reference.hands and (reason := self._hands(reference, before)):
            return reason
        try:
            index = self.indices(reference.names)
        except KeyError as error:
            return f"reference names {error.args[0]}, which is not a joint of this robot"
        robot = self._robot
        outside = (reference.position - robot.upper[index]) > self._tolerance[index]
        outside |= (robot.lower[index] - reference.position) > self._tolerance[index]
        if outside.any():
            i = int(np.argmax(outside))
            j = index[i]
            return (
                f"reference asks {reference.names[i]} for {reference.position[i]:.4f}, "
                f"outside its limits [{robot.lower[j]:.4f}, {robot.upper[j]:.4f}]"
            )
        if target is not None:
            step = np.abs(reference.position - target[index])
            jumps = step > self._jump[index]
            if jumps.any():
                i = int(np.argmax(jumps))
                return (
                    f"reference of {reference.names[i]} jumps by {step[i]:.4f}, "
                    f"at most {self._jump[index[i]]:.4f} is taken from one to the next"
                )
        base, last = reference.base, before.base if before else None
        if base is not None and last is not None and base.pose is not None and last.pose is not None:
            leap = np.abs(base.pose - last.pose)
            leap[2] = abs((leap[2] + np.pi) % (2.0 * np.pi) - np.pi)
            if leap.max() > self._config.max_base_jump:
                return f"base reference jumps by {leap.max():.3f}, at most {self._config.max_base_jump:.3f} is taken"
        return ""

    def _hands(self, reference: WholeBodyReference, before: WholeBodyReference | None) -> str:
        frames = [hand.frame for hand in reference.hands]
        if unknown := [frame for frame in frames if frame not in self.hand_frames]:
            return f"reference has hand frame {unknown[0]}, expected {' or '.join(self.hand_frames)}"
        if len(set(frames)) != len(frames):
            return f"reference has two targets for {frames[0]}"
        last = {hand.frame: hand for hand in before.hands} if before else {}
        for hand in reference.hands:
            if (known := last.get(hand.frame)) is None:
                continue
            leap = length(hand.pose[:3] - known.pose[:3])
            turn = 2.0 * math.acos(min(1.0, abs(float(hand.pose[3:] @ known.pose[3:]))))
            if leap > self._config.hand_jump or turn > np.pi * self._config.hand_jump:
                return (
                    f"reference of {hand.frame} jumps by {leap:.3f} m, {turn:.3f} rad, at most "
                    f"{self._config.hand_jump:.3f} m, {np.pi * self._config.hand_jump:.3f} rad is taken"
                )
        return ""
