"""A headset of thought: frames as the page builds them, for tests, benchmarks and the recording of journals."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from bytemini_core.types import Array

from teleop_vr.poses import IDENTITY, to_webxr
from teleop_vr.protocol import (
    FRAME,
    FRAME_MAGIC,
    HEAD_TRACKED,
    LEFT_BARE,
    LEFT_TRACKED,
    RIGHT_BARE,
    RIGHT_TRACKED,
    VISIBLE,
)


@dataclass(slots=True)
class SimulatedHand:
    """One controller. `pose` (7,): REP-103 axes of the operator's space. `stick`: (forward, left)."""

    pose: Array
    tracked: bool = True
    bare: bool = False
    trigger: float = 0.0
    squeeze: float = 0.0
    stick: tuple[float, float] = (0.0, 0.0)
    buttons: int = 0


def _at(x: float, y: float, z: float) -> Array:
    pose = IDENTITY.copy()
    pose[:3] = x, y, z
    return pose


@dataclass(slots=True)
class SimulatedHeadset:
    """A headset whose frames are built one by one. `echo` (s): the server's time last heard; `held` (s): since then.

    `tracked`: the head, `visible`: the page.
    """

    left: SimulatedHand = field(default_factory=lambda: SimulatedHand(_at(0.4, 0.2, 1.1)))
    right: SimulatedHand = field(default_factory=lambda: SimulatedHand(_at(0.4, -0.2, 1.1)))
    head: Array = field(default_factory=lambda: _at(0.0, 0.0, 1.6))
    sequence: int = 0
    time: float = 10.0
    echo: float = 0.0
    held: float = 0.0
    epoch: int = 1
    visible: bool = True
    tracked: bool = True

    def hand(self, side: str) -> SimulatedHand:
        """The "left" or "right" hand."""
        return self.left if side == "left" else self.right

    def frame(self, dt: float) -> bytes:
        """The next frame, dt (s) after the last."""
        self.sequence += 1
        self.time += dt
        flags = (HEAD_TRACKED if self.tracked else 0) | (VISIBLE if self.visible else 0)
        for hand, tracked, bare in (
            (self.left, LEFT_TRACKED, LEFT_BARE),
            (self.right, RIGHT_TRACKED, RIGHT_BARE),
        ):
            flags |= (tracked if hand.tracked else 0) | (bare if hand.bare else 0)
        poses = np.concatenate([to_webxr(pose) for pose in (self.head, self.left.pose, self.right.pose)])
        analog = [
            value
            for hand in (self.left, self.right)
            for value in (hand.trigger, hand.squeeze, -hand.stick[1], -hand.stick[0])
        ]
        return FRAME.pack(
            FRAME_MAGIC,
            self.sequence,
            self.time,
            self.echo,
            self.held,
            flags,
            self.epoch,
            *poses.tolist(),
            *analog,
            self.left.buttons | self.right.buttons << 8,
        )
