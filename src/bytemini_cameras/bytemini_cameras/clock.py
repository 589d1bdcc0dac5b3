"""From a camera's own clock to the host's, by the arrivals of its frames alone.

A frame arrives some time after it was stamped, never before. Seen over a while, arrival minus stamp is therefore a
cloud above a straight line whose slope is the drift between the clocks. The line that touches the cloud from below, and
lies closest to it, is an edge of its lower convex hull: that is the map. Scheduling delays of the host only thicken the
cloud upwards and do not move the line.

What cannot be seen in one direction is the shortest delay itself: stamps are late by it (exposure, readout and USB of
the fastest frame), the same for every frame.
"""

from __future__ import annotations

from itertools import pairwise

from bytemini_core.types import NANOSECONDS

WRAP = 2**32 * 1000
"""Nanoseconds after which the 32-bit microsecond counter of a RealSense camera starts again (71.6 minutes)."""

WINDOW = 60 * NANOSECONDS
"""Nanoseconds of arrivals that the line is laid through."""

BUCKET = NANOSECONDS
"""Nanoseconds of which only the fastest frame counts."""

SETTLED = 10 * NANOSECONDS
"""Nanoseconds of arrivals before a drift is believed; until then the clocks are taken to run alike."""

MAX_DRIFT = 200e-6
"""Largest drift believed, s/s: two quartz clocks differ by less than 100 parts in a million."""

JUMP = NANOSECONDS // 2
"""Nanoseconds that a frame may be off the line before one of the clocks is taken to have been set."""


class ClockMap:
    """Maps the stamps of one camera's clock to the host's."""

    def __init__(self, wrap: int = WRAP) -> None:
        """Start with nothing known.

        Args:
            wrap: nanoseconds after which the device's clock starts again from 0.
        """
        self._wrap = wrap
        self.restarts = -1
        """How often one of the clocks was set, or the camera was started anew, since the first frame."""
        self._begin()

    def _begin(self) -> None:
        self.restarts += 1
        self._laps = 0
        self._raw: int | None = None
        self._last: int | None = None
        self._fastest: list[tuple[int, int]] = []
        self._offset = 0.0
        self.drift = 0.0
        """Seconds that the host's clock gains on the device's, per second."""

    def reset(self) -> None:
        """Forget everything: the camera has been opened anew, its clock may have started again."""
        restarts = self.restarts
        self._begin()
        self.restarts = restarts

    def map(self, stamp: int, arrival: int) -> int:
        """The host's time of a frame.

        Args:
            stamp: the frame's, nanoseconds of the device's clock.
            arrival: when it arrived, nanoseconds of the host's clock.

        Returns:
            Nanoseconds of the host's clock: never after the arrival, and later than the last frame's unless the host's
            clock was set back.
        """
        if self._raw is not None and stamp < self._raw:
            if self._raw - stamp > self._wrap // 2:
                self._laps += 1
            else:
                self._begin()
        device, delay = self._since_first(stamp, arrival)
        if self._raw is not None and abs(delay - self._line(device)) > JUMP:
            self._begin()
            device, delay = self._since_first(stamp, arrival)
        self._raw = stamp
        if self._note(device, delay):
            self._fit()
        mapped = min(self._arrival + device + round(self._line(device)), arrival)
        if self._last is not None and mapped <= self._last < arrival:
            mapped = self._last + 1  # the line was moved down by more than the time between two frames
        self._last = mapped
        return mapped

    def _since_first(self, stamp: int, arrival: int) -> tuple[int, int]:
        """Nanoseconds since the first frame by the device's clock, and by how much the host's says more."""
        if self._raw is None:
            # All that follows is relative to the first frame: a float holds seconds to the nanosecond, an epoch not.
            self._stamp, self._arrival = stamp, arrival
        device = stamp + self._laps * self._wrap - self._stamp
        return device, arrival - self._arrival - device

    def _line(self, device: int) -> float:
        return self._offset + self.drift * device

    def _note(self, device: int, delay: int) -> bool:
        """Keep the fastest frame of each bucket; whether the line has to be laid anew."""
        if self._fastest and device // BUCKET == self._fastest[-1][0] // BUCKET:
            if delay >= self._fastest[-1][1]:
                return False
            self._fastest[-1] = (device, delay)
            return True
        self._fastest.append((device, delay))
        while self._fastest[0][0] < device - WINDOW:
            self._fastest.pop(0)
        return True

    def _fit(self) -> None:
        points = self._fastest
        self.drift, self._offset = 0.0, float(min(delay for _, delay in points))
        if points[-1][0] - points[0][0] < SETTLED:
            return
        middle = sum(device for device, _ in points) / len(points)
        hull = _lower_hull(points)
        for (x0, y0), (x1, y1) in pairwise(hull):
            if x1 >= middle:
                drift = min(max((y1 - y0) / (x1 - x0), -MAX_DRIFT), MAX_DRIFT)
                self.drift = drift
                self._offset = min(delay - drift * device for device, delay in points)
                return


def _lower_hull(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The lower convex hull of points that are in order of x (Andrew's monotone chain)."""
    hull: list[tuple[int, int]] = []
    for x, y in points:
        while len(hull) >= 2:
            (x0, y0), (x1, y1) = hull[-2:]
            if (x1 - x0) * (y - y0) > (y1 - y0) * (x - x0):
                break
            hull.pop()
        hull.append((x, y))
    return hull
