"""Which depth frame belongs to which colour frame."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Colour = TypeVar("Colour")
Depth = TypeVar("Depth")

KEPT = 3
"""Frames of each stream that wait for their partner."""


class Pairing(Generic[Colour, Depth]):
    """Pairs the two streams of one camera by stamps of the same clock, in whichever order they arrive."""

    def __init__(self, tolerance: int) -> None:
        """Pair frames at most `tolerance` nanoseconds apart (half a frame's period: then the partner is unique)."""
        self._tolerance = tolerance
        self._colour: deque[tuple[int, Colour]] = deque(maxlen=KEPT)
        self._depth: deque[tuple[int, Depth]] = deque(maxlen=KEPT)

    def colour(self, stamp: int, frame: Colour) -> tuple[Colour, Depth] | None:
        """Add a colour frame; the pair that it completes, or None."""
        other = _take(self._depth, stamp, self._tolerance)
        if other is None:
            self._colour.append((stamp, frame))
            return None
        return frame, other

    def depth(self, stamp: int, frame: Depth) -> tuple[Colour, Depth] | None:
        """Add a depth frame; the pair that it completes, or None."""
        other = _take(self._colour, stamp, self._tolerance)
        if other is None:
            self._depth.append((stamp, frame))
            return None
        return other, frame

    def clear(self) -> None:
        """Forget the frames that wait."""
        self._colour.clear()
        self._depth.clear()


Item = TypeVar("Item")


def _take(waiting: deque[tuple[int, Item]], stamp: int, tolerance: int) -> Item | None:
    """Take the frame nearest to `stamp` if it is near enough, and drop those before it."""
    near = min(waiting, key=lambda entry: abs(entry[0] - stamp), default=None)
    if near is None or abs(near[0] - stamp) > tolerance:
        return None
    while waiting.popleft() is not near:
        pass
    return near[1]
