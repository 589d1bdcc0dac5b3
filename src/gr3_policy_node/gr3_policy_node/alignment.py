"""Observations from sensors that keep their own time: the newest picture of every camera, the state that belongs to it.

On the wire of a real robot no two cameras share a stamp. An observation is made whenever every camera has delivered
since the last one; it belongs to the newest picture's stamp. What does not belong together is refused with the reason:
a robot must not act on a view that froze.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bytemini_core.types import NANOSECONDS

DEPTH = 256
"""Messages kept of each stream: more than a second at 200 Hz."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """What belongs to one observation. `stamp`: nanoseconds, of its newest frame."""

    stamp: int
    values: Mapping[str, Any]


class NewestJoin:
    """Joins frames (pictures: the newest counts) and streams (states: the nearest to the frames counts)."""

    def __init__(self, frames: Sequence[str], streams: Sequence[str], max_age: float, max_skew: float):
        """Prepare.

        Args:
            frames: names, at least one.
            streams: names.
            max_age: s from the newest frame's stamp to now, beyond which a set is stale.
            max_skew: s between two stamps of one set.
        """
        if not frames:
            raise ValueError("an observation needs at least one kind of frame")
        self._max_age, self._max_skew = round(max_age * NANOSECONDS), round(max_skew * NANOSECONDS)
        self._frames: dict[str, tuple[int, Any] | None] = dict.fromkeys(frames)
        self._streams: dict[str, deque[tuple[int, Any]]] = {name: deque(maxlen=DEPTH) for name in streams}
        self._fresh: set[str] = set()

    def add(self, name: str, stamp: int, value: Any, now: int) -> Aligned | str | None:
        """Take one message.

        Args:
            name: one of the frames or streams.
            stamp: nanoseconds; one not later than the last of its name is late and is dropped.
            value: anything.
            now: nanoseconds of the clock that the stamps are of; 0 while it is not known.

        Returns:
            The set that this message completes; why a complete set is refused; None while something is missing.

        Raises:
            KeyError: nothing is called so.
        """
        if name in self._streams:
            stream = self._streams[name]
            if not stream or stamp > stream[-1][0]:
                stream.append((stamp, value))
        else:
            last = self._frames[name]
            if last is None or stamp > last[0]:
                self._frames[name] = (stamp, value)
                self._fresh.add(name)
        return self._complete(now)

    def _complete(self, now: int) -> Aligned | str | None:
        if len(self._fresh) < len(self._frames):
            return None
        frames = {name: frame for name, frame in self._frames.items() if frame is not None}
        stamp = max(frame[0] for frame in frames.values())
        if any(not stream or stream[-1][0] < stamp for stream in self._streams.values()):
            return None  # the state of that moment is still on its way
        self._fresh.clear()
        if now and abs(now - stamp) > self._max_age:
            side = "old" if now > stamp else "ahead of the clock"
            return f"the pictures are {_seconds(abs(now - stamp))} {side}, expected at most {_seconds(self._max_age)}"
        found = dict(frames)
        for name, stream in self._streams.items():
            found[name] = min(stream, key=lambda item: abs(item[0] - stamp))
        for name, (own, _) in found.items():
            if abs(own - stamp) > self._max_skew:
                side = "behind" if own < stamp else "ahead of"
                off, most = _seconds(abs(own - stamp)), _seconds(self._max_skew)
                return f"{name} is {off} {side} the newest picture, expected at most {most}"
        return Aligned(stamp, {name: value for name, (_, value) in found.items()})


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / NANOSECONDS:.2f} s"
