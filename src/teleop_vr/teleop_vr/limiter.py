"""Pass, clamp or reject: what a hand's pose goes through before it becomes a target.

A pose that a hand cannot have reached since the last one is rejected (`JumpGate`): controllers seen again after an
occlusion have jumped by up to 0.7 m in one frame. What passes is followed exactly while it keeps the limits of speed
and acceleration, and is otherwise approached within them (`Follower`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from bytemini_core.types import Array

from teleop_vr.poses import conjugate, distance, from_vector, multiply, to_vector, unit


@dataclass(frozen=True, slots=True)
class HandLimits:
    """Limits of one hand's target.

    `speed` (m/s), `turn_speed` (rad/s), `acceleration` (m/s^2), `turn_acceleration` (rad/s^2): of what goes out.
    `jump_speed` (m/s), `jump_turn` (rad/s): what comes in faster than this is no hand's motion; `jump_floor` (m),
    `jump_floor_turn` (rad): but steps below are always noise. `patience`: s of rejected poses after which the hand
    counts as lost.
    """

    speed: float = 1.0
    turn_speed: float = 4.0
    acceleration: float = 12.0
    turn_acceleration: float = 60.0
    jump_speed: float = 5.0
    jump_turn: float = 25.0
    jump_floor: float = 0.03
    jump_floor_turn: float = 0.2
    patience: float = 0.15


class JumpGate:
    """Rejects poses that a hand cannot have reached; after `patience` s of them it gives up. Times in s."""

    def __init__(self, limits: HandLimits) -> None:
        self._limits = limits
        self._pose: Array | None = None
        self._time = 0.0

    def reset(self) -> None:
        """Forget the last pose: the next one is believed."""
        self._pose = None

    def check(self, time: float, pose: Array) -> str:
        """Answer "pass", "reject", or "lost" when poses have been rejected for too long; `time`: of the pose."""
        limits = self._limits
        if self._pose is None:
            self._pose, self._time = pose, time
            return "pass"
        # The time since the last good pose counts only so far: after a gap a hand may be anywhere, and that is a jump.
        elapsed = min(max(time - self._time, 0.0), limits.patience)
        step, turn = distance(pose, self._pose)
        fits = step <= max(limits.jump_floor, limits.jump_speed * min(elapsed, 0.05))
        fits &= turn <= max(limits.jump_floor_turn, limits.jump_turn * min(elapsed, 0.05))
        if fits:
            self._pose, self._time = pose, time
            return "pass"
        return "lost" if time - self._time >= limits.patience else "reject"


class Follower:
    """Follows a moving pose within limits of speed and acceleration; exactly, where that keeps them.

    `pose` (7,) and `twist` (6,): where it is and how it moves, in the axes of what it follows.
    """

    def __init__(self, limits: HandLimits, pose: Array) -> None:
        self._limits = limits
        self._target = pose.copy()
        self.pose = pose.copy()
        self.twist = np.zeros(6)

    def step(self, target: Array, dt: float) -> tuple[str, ...]:
        """Move on by dt (s) towards `target` (7,); the names of the limits by which it falls behind noticeably."""
        limits = self._limits
        behind = _difference(self._target, self.pose)
        motion = _difference(target, self._target) / dt
        self._target = target.copy()
        bound = set[str]()
        for part, fastest, hardest, notable in (
            (slice(0, 3), limits.speed, limits.acceleration, 0.01),
            (slice(3, 6), limits.turn_speed, limits.turn_acceleration, 0.05),
        ):
            wanted = motion[part] + _closing(behind[part], hardest, dt)
            velocity, by = _within(wanted, self.twist[part], fastest, hardest, dt)
            left = behind[part] + (motion[part] - velocity) * dt
            if by and _size(left) > notable:
                bound.add(by)
            self.twist[part] = velocity
        self._move(dt)
        return tuple(sorted(bound))

    def stop(self, dt: float) -> None:
        """Move on by dt (s), braking as hard as the limits allow; what is left of the way is given up."""
        limits = self._limits
        for part, hardest in ((slice(0, 3), limits.acceleration), (slice(3, 6), limits.turn_acceleration)):
            size = _size(self.twist[part])
            self.twist[part] *= max(0.0, 1.0 - hardest * dt / size) if size > 0.0 else 0.0
        self._move(dt)

    def _move(self, dt: float) -> None:
        moved = from_vector(self.twist[3:] * dt)
        self.pose = np.concatenate((self.pose[:3] + self.twist[:3] * dt, unit(multiply(moved, self.pose[3:]))))


def _size(vector: Array) -> float:
    return math.sqrt(float(vector @ vector))


def _difference(to: Array, of: Array) -> Array:
    """Translation and rotation vector (6,) from one pose to another."""
    return np.concatenate((to[:3] - of[:3], to_vector(multiply(to[3:], conjugate(of[3:])))))


def _closing(behind: Array, hardest: float, dt: float) -> Array:
    """Velocity that closes what one is behind by, slow enough to brake in time: v^2 / 2a is at most what is left."""
    size = _size(behind)
    if size <= hardest * dt * dt:
        return behind / dt
    return behind * (min(size / dt, math.sqrt(2.0 * hardest * size)) / size)


def _within(wanted: Array, velocity: Array, fastest: float, hardest: float, dt: float) -> tuple[Array, str]:
    """`wanted` brought within the limits of speed, and of change from `velocity`; which of them bound it ("": none)."""
    bound = ""
    if (size := _size(wanted)) > fastest:
        wanted, bound = wanted * (fastest / size), "speed"
    change = wanted - velocity
    if (size := _size(change)) > hardest * dt:
        wanted, bound = velocity + change * (hardest * dt / size), bound or "acceleration"
    return wanted, bound
