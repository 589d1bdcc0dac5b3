"""The clutch of one arm: while it is engaged the robot's hand moves as the operator's does, from where both were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bytemini_core.types import Array

from teleop_vr.poses import about_z, conjugate, multiply, rotate, unit

CLOSE_AT, OPEN_AT = 0.7, 0.4
"""Squeeze from which the grip counts as held, and below which as let go."""

PENDING = 0.5
"""s that a squeeze waits for the controller to hand over the robot; after that it has to be repeated."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where operator and robot were when the clutch closed. Poses (7,).

    `grip`: the controller in the operator's space. `hand`: the robot's hand, measured, in the cabin (`retarget`).
    `heading`: direction (rad about z, operator's space) that counts as the robot's forward. `scale`: of translations.
    """

    grip: Array
    hand: Array
    heading: float
    scale: float = 1.0

    def target(self, grip: Array) -> Array:
        """Where the hand should be for a controller at `grip`: the measured pose itself for the anchor's own grip."""
        turn = about_z(-self.heading)
        moved = self.scale * rotate(turn, grip[:3] - self.grip[:3])
        turned = multiply(grip[3:], conjugate(self.grip[3:]))
        seen = multiply(multiply(turn, turned), conjugate(turn))
        return np.concatenate((self.hand[:3] + moved, unit(multiply(seen, self.hand[3:]))))

    def ghost(self, hand: Array) -> Array:
        """Where the controller would be for a hand at `hand`: the inverse of `target`."""
        turn = about_z(self.heading)
        moved = rotate(turn, hand[:3] - self.hand[:3]) / self.scale
        turned = multiply(hand[3:], conjugate(self.hand[3:]))
        seen = multiply(multiply(turn, turned), conjugate(turn))
        return np.concatenate((self.grip[:3] + moved, unit(multiply(seen, self.grip[3:]))))


class Squeeze:
    """Turns a squeeze into presses: each engagement takes a fresh one. Times in ns."""

    def __init__(self) -> None:
        self.held = True  # until seen open: a grip that was held before we looked is no fresh act
        self.since: int | None = None

    def update(self, now: int, squeeze: float) -> None:
        """Take the squeeze (0 to 1) of a frame."""
        if self.held and squeeze < OPEN_AT:
            self.held, self.since = False, None
        elif not self.held and squeeze > CLOSE_AT:
            self.held, self.since = True, now

    def wants(self, now: int) -> bool:
        """Whether a fresh press waits to be granted."""
        return self.since is not None and now - self.since <= PENDING * 1e9

    def spend(self) -> None:
        """The press was granted, or refused: the next engagement takes another."""
        self.since = None

    def forget(self) -> None:
        """Something broke off: the grip has to be seen open first."""
        self.held, self.since = True, None


class Gripper:
    """The trigger's hold on a gripper: none, until the trigger has come to where the gripper is.

    Engaging with the trigger let go must not drop what the gripper holds; so the trigger takes over when it first
    reaches the gripper's present closure, and from then on leads.
    """

    def __init__(self, closure: float) -> None:
        """Begin at `closure`: 0 open to 1 closed."""
        self.closure = closure
        self.waiting = True
        self._before: float | None = None

    def reach(self, trigger: float, most: float) -> float:
        """The closure for this trigger (0 to 1), at most `most` away from the last."""
        if self.waiting:
            before = trigger if self._before is None else self._before
            close = abs(trigger - self.closure) <= 0.05
            if close or min(before, trigger) <= self.closure <= max(before, trigger):
                self.waiting = False
            self._before = trigger
        if not self.waiting:
            self.closure += min(max(trigger - self.closure, -most), most)
        return self.closure
