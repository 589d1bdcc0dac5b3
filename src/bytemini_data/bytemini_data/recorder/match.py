"""Which messages make a frame: the head camera is the master clock, everything else is found by stamp.

Pure: messages come in as (stream, stamp, value) in the order in which they arrived, frames come out. The outcome
depends on stamps and on that order alone, so that a recording gives the same frames whenever it is converted.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bytemini_core.types import NANOSECONDS

PATIENCE = 0.25
"""Seconds that a frame waits for the other streams, by the head camera's clock."""

STATE_AGE = 0.05
"""Seconds within which a state, a command or a status belongs to a frame."""


ENOUGH = 9
"""Pictures of the head camera after which its own rate is known."""


@dataclass(frozen=True)
class Slot:
    """One frame. `stamp`: its time, ns; `picks`: stream to (stamp, value), absent where none is near enough."""

    stamp: int
    picks: dict[str, tuple[int, Any]]


@dataclass
class _Stream:
    """The newest values of one stream, in order of their stamps."""

    stamps: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, stamp: int, value: Any) -> bool:
        if self.stamps and stamp <= self.stamps[-1]:
            return False
        self.stamps.append(stamp)
        self.values.append(value)
        return True

    def nearest(self, stamp: int, within: int) -> tuple[int, Any] | None:
        """The value nearest to a time and at most `within` ns from it; of two as near the earlier."""
        i = bisect_left(self.stamps, stamp)
        best = min(
            range(max(0, i - 1), min(i + 1, len(self.stamps))), key=lambda j: abs(self.stamps[j] - stamp), default=-1
        )
        if best < 0 or abs(self.stamps[best] - stamp) > within:
            return None
        return self.stamps[best], self.values[best]

    def forget(self, before: int) -> None:
        """Drop what is older, but keep the last of it."""
        i = bisect_left(self.stamps, before) - 1
        if i > 0:
            del self.stamps[:i], self.values[:i]


@dataclass
class Counts:
    """What came and what was missing. `frames`: slots; `late`: messages out of order, by stream."""

    frames: int = 0
    received: dict[str, int] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)


class Matcher:
    """Makes frames at a fixed rate out of streams of any rate.

    Frames follow the head camera: from one frame to the next it is the head's picture nearest to one period later.
    Where no picture lies within half a period of that, the head has dropped one and the frame takes place without it.
    A picture of
    another camera belongs to a frame if it is nearest and within half a period: the frames', or the head camera's where
    that is faster.
    """

    def __init__(self, fps: int, cameras: Sequence[str], others: Sequence[str], prompt: Sequence[str] = ()) -> None:
        """Begin.

        Args:
            fps: frames per second.
            cameras: streams of pictures; the first is the master clock.
            others: streams of states, commands and words.
            prompt: those of the others that a frame waits for, as it does for cameras.
        """
        self._master, *_ = cameras
        self._cameras = tuple(cameras)
        self._prompt = (*cameras, *prompt)
        self._streams = {name: _Stream() for name in (*cameras, *others)}
        self._period = NANOSECONDS // fps
        self._half = self._period // 2
        self._age = round(STATE_AGE * NANOSECONDS)
        self._patience = round(PATIENCE * NANOSECONDS)
        self._times: list[int] = []  # decided, not yet given out
        self._last: int | None = None  # time of the last frame decided
        self._best: int | None = None  # the head's picture that may become the next frame
        self._gaps: deque[int] = deque(maxlen=31)  # between the head's last pictures
        self._used: dict[str, int] = {}  # stamp of the last picture of each camera that is in a frame
        self.counts = Counts()
        self.counts.drops = dict.fromkeys(cameras, 0)

    def add(self, stream: str, stamp: int, value: Any) -> Iterator[Slot]:
        """Take one message in; the frames that it completes, oldest first.

        Raises:
            KeyError: no such stream.
        """
        known = self._streams[stream]
        before = known.stamps[-1] if known.stamps else None
        self.counts.received[stream] = self.counts.received.get(stream, 0) + 1
        if not known.add(stamp, value):
            self.counts.late[stream] = self.counts.late.get(stream, 0) + 1
            return
        if stream == self._master:
            if before is not None:
                self._gaps.append(stamp - before)
            self._tick(stamp)
        yield from self._ready(stamp if stream == self._master else None)

    def flush(self) -> Iterator[Slot]:
        """The frames that were still waiting, at the end."""
        # With no later picture to compare, one that comes much too early is the camera's next, not the frame's.
        if self._best is not None and (self._last or 0) + self._period - self._best <= self._near():
            self._decide(self._best)
        while self._times:
            yield self._take()

    def _tick(self, stamp: int) -> None:
        """A picture of the head: which frames it decides."""
        if self._last is None:
            self._decide(stamp)
            return
        while True:
            due = self._last + self._period
            best = self._best
            if best is not None and abs(best - due) <= abs(stamp - due):
                self._decide(best)  # it cannot get nearer any more
                continue
            if stamp - due <= self._half:
                self._best = stamp
                return
            self._best = None
            self._decide(due)  # the head has dropped one

    def _decide(self, stamp: int) -> None:
        self._times.append(stamp)
        self._last, self._best = stamp, None

    def _ready(self, head: int | None) -> Iterator[Slot]:
        """Frames for which every stream has come far enough, or that have waited long enough."""
        while len(self._times) > 1:
            # What a frame commands is told by the time of the frame after it, so that must be known as well.
            newest = self._streams[self._master].stamps[-1] if head is None else head
            waited = newest - self._times[1] >= self._patience
            streams = [self._streams[name].stamps for name in self._prompt]
            if not waited and any(not stamps or stamps[-1] < self._times[1] for stamps in streams):
                return
            yield self._take()

    def _near(self) -> int:
        """How far from a frame's time a picture may be, ns."""
        if len(self._gaps) < ENOUGH:
            return self._half
        return min(self._half, statistics.median_low(self._gaps) // 2)

    def _take(self) -> Slot:
        stamp = self._times.pop(0)
        following = self._times[0] if self._times else stamp + self._period
        near = self._near()
        picks: dict[str, tuple[int, Any]] = {}
        for name, stream in self._streams.items():
            within = near if name in self._cameras else self._age
            found = stream.nearest(stamp, within)
            if name in self._cameras:
                if found is not None and found[0] <= self._used.get(name, -1):
                    found = None  # it is in the frame before: that of this frame is missing
                if found is None:
                    self.counts.drops[name] += 1
                else:
                    self._used[name] = found[0]
            else:
                after = stream.nearest(following, within)
                if after is not None:
                    picks[f"{name} next"] = after
            if found is not None:
                picks[name] = found
            stream.forget(stamp - self._age)
        self.counts.frames += 1
        return Slot(stamp, picks)
