"""What one stream of a camera delivers: which frames are taken, and how many, how late and how many not."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

RATE_WINDOW = 2.0
"""Seconds over which the rate is counted."""

SLOW = 0.9
"""Share of the nominal rate below which a stream is reported as slow."""


FROZEN = 0.3
"""Seconds for which a picture may come again and again, under new stamps, until the camera counts as frozen."""

_REPEATS = 3
_STRIDE = 613  # bytes from one that is compared to the next: 1500 of a picture of 640 x 480


class Stillness:
    """Tells pictures that change, as a sensor's noise alone makes them, from one picture that is sent for ever."""

    def __init__(self) -> None:
        self._sample = b""
        self._since = 0.0
        self._repeats = 0

    def frozen(self, now: float, pixels: memoryview) -> bool:
        """Take a picture at `now` (s, monotonic), of bytes; whether its like has come for too long."""
        sample = pixels.cast("B")[::_STRIDE].tobytes()
        if sample != self._sample:
            self._sample, self._since, self._repeats = sample, now, 0
            return False
        self._repeats += 1
        return self._repeats >= _REPEATS and now - self._since >= FROZEN


@dataclass(frozen=True)
class StreamReport:
    """A stream's account: counts since the start, and of late `rate` (Hz) and `latency` (mean s, stamp to arrival)."""

    rate: float
    latency: float
    frames: int
    dropped: int
    repeated: int
    misshapen: int
    frozen: int
    gap: float
    """Longest time between two frames of late, s."""


class StreamMonitor:
    """Judges the frames of one stream and counts."""

    def __init__(self, width: int, height: int, pixel_bytes: int) -> None:
        """Expect frames of `height` x `width` pixels of `pixel_bytes` bytes each."""
        self._shape = (width, height, width * height * pixel_bytes)
        self._frames = self._dropped = self._repeated = self._misshapen = self._frozen = 0
        self._stillness = Stillness()
        self._number: int | None = None
        self._stamp: int | None = None
        self._recent: deque[tuple[float, float]] = deque()

    def begin(self) -> None:
        """The camera was opened anew: its counters start again."""
        self._number = self._stamp = None

    def refuse(self, number: int, stamp: int, shape: tuple[int, int, int]) -> str:
        """Why a frame is not taken, "" if it is.

        Args:
            number: the device's frame counter.
            stamp: nanoseconds of the device's clock.
            shape: width, height and size in bytes.
        """
        if shape != self._shape:
            self._misshapen += 1
            return (
                f"a frame is {shape[0]}x{shape[1]} with {shape[2]} bytes, "
                f"expected {self._shape[0]}x{self._shape[1]} with {self._shape[2]}"
            )
        if stamp == self._stamp or number == self._number:
            self._repeated += 1
            return f"frame {number} with stamp {stamp} ns came twice"
        if self._number is not None and number > self._number:
            self._dropped += number - self._number - 1
        self._number, self._stamp = number, stamp
        self._frames += 1
        return ""

    def still(self, now: float, pixels: memoryview) -> str:
        """Why a good frame that came at `now` (s, monotonic) is not to be shown, "" if it is: nothing in it changes."""
        if not self._stillness.frozen(now, pixels):
            return ""
        self._frozen += 1
        return "the same picture comes again and again under new stamps: the camera hangs, or has no light"

    def arrived(self, now: float, latency: float) -> None:
        """Count a frame that was taken at `now` (s, monotonic), `latency` seconds after its stamp."""
        self._recent.append((now, latency))
        self._forget(now)

    def report(self, now: float) -> StreamReport:
        """The account at `now`."""
        self._forget(now)
        recent = self._recent
        times = [time for time, _ in recent] + [now]
        return StreamReport(
            rate=len(recent) / RATE_WINDOW,
            latency=sum(latency for _, latency in recent) / len(recent) if recent else float("nan"),
            frames=self._frames,
            dropped=self._dropped,
            repeated=self._repeated,
            misshapen=self._misshapen,
            frozen=self._frozen,
            gap=max((late - early for early, late in pairwise(times)), default=RATE_WINDOW),
        )

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - RATE_WINDOW:
            self._recent.popleft()
