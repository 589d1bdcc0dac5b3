"""A person who shows a task without a robot: what the headset tells of head and hands, and its camera's pictures.

Pure. Poses are in the headset's floor space with REP-103 axes (x forward, y left, z up); that of the head is the
camera's optical frame (z forward, x right). The page stamps frames and pictures with one clock of its own; `PageClock`
turns it into ours, so that a picture and the hands that it shows belong together however late each arrives.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from bytemini_core.types import NANOSECONDS, Array

from teleop_vr.poses import multiply
from teleop_vr.protocol import HeadsetFrame, Refused

CAMERA_MAGIC = 0x31434D42
CAMERA = struct.Struct("<IIdHHI")
"""Magic ("BMC1"), sequence, time (s, the page's clock), width, height, 0; then the JPEG."""

LARGEST = 1 << 20
"""Bytes of a picture of the headset's camera at most."""

OPTICAL: Array = np.array((-0.5, 0.5, -0.5, 0.5))
"""Quaternion of a camera's optical frame in one with x forward and z up."""

JUMP = 1.0
"""Seconds by which the page's clock may run off before it counts as another: a page that was loaded anew."""

DRIFT = 1e-4
"""Seconds per second by which the page's clock may run slower than ours."""


class Person(Protocol):
    """Who takes what a person shows. Called in the service's threads; must not block."""

    def moved(self, frame: HeadsetFrame, stamp: int) -> None:
        """A frame of the headset, of the time `stamp` (ns, steady)."""

    def saw(self, picture: HeadsetPicture, stamp: int) -> None:
        """A picture of the headset's camera, of the time `stamp` (ns, steady)."""


@dataclass(frozen=True, slots=True)
class HeadsetPicture:
    """One picture of the headset's camera. `time`: s of the page's clock. `jpeg`: as it came."""

    sequence: int
    time: float
    width: int
    height: int
    jpeg: bytes


def parse_picture(data: bytes) -> HeadsetPicture:
    """The picture that a message holds; the JPEG itself is not looked into.

    Raises:
        Refused: it is none.
    """
    if not CAMERA.size < len(data) <= LARGEST:
        raise Refused("length", f"a picture has {len(data)} bytes, expected {CAMERA.size + 1} to {LARGEST}")
    magic, sequence, time, width, height, zero = CAMERA.unpack_from(data)
    if magic != CAMERA_MAGIC or zero != 0:
        raise Refused("magic", f"a picture begins with {magic:#x}, expected {CAMERA_MAGIC:#x}")
    if not math.isfinite(time) or time < 0.0:
        raise Refused("finite", f"the time of a picture is {time}")
    if not (16 <= width <= 4096 and 16 <= height <= 4096):
        raise Refused("range", f"a picture is {width} x {height}, expected 16 to 4096")
    return HeadsetPicture(sequence, time, width, height, data[CAMERA.size :])


class PageClock:
    """The page's clock in ours: the least delay that was seen lately counts as none."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._at = 0.0

    def stamp(self, now: int, time: float) -> int:
        """When it was, ns of the clock of `now`, for what has the page's `time` (s) and arrived at `now` (ns)."""
        arrived = now / NANOSECONDS
        offset = arrived - time
        if self._offset is None or abs(offset - self._offset) > JUMP:
            self._offset = offset
        else:
            self._offset = min(offset, self._offset + DRIFT * (arrived - self._at))
        self._at = arrived
        return min(now, round((time + self._offset) * NANOSECONDS))


def poses_of(frame: HeadsetFrame) -> tuple[Array | None, Array | None, Array | None]:
    """Head camera, left and right hand, (7,) each; None for what is not seen."""
    head = np.concatenate((frame.head[:3], multiply(frame.head[3:], OPTICAL))) if frame.head_tracked else None
    left, right = (hand.pose if hand.tracked else None for hand in (frame.left, frame.right))
    return head, left, right
