"""Take-over without a jump: the offset to a new owner's reference fades with least jerk."""

from __future__ import annotations

import numpy as np
from bytemini_core.types import Array


class Blend:
    """Quintics o(s), s = (t - start) / T in [0, 1], from (offset, rate, 0) to (0, 0, 0), each joint with its own T.

    With o0 the offset and w = rate T (Flash and Hogan, 1985, boundary values of the minimum-jerk quintic):
    o(s) = o0 (1 - 10 s^3 + 15 s^4 - 6 s^5) + w (s - 6 s^3 + 8 s^4 - 3 s^5).

    T leaves the offset half of each limit and the rate half of the acceleration: the peaks of the unit offset's quintic
    are 1.875 / T, 5.7735 / T^2, 60 / T^3, the unit rate's acceleration peaks at 3.94 / T.
    """

    def __init__(
        self,
        start: float,
        offset: Array,
        rate: Array,
        velocity: Array,
        acceleration: Array,
        jerk: Array,
        shortest: float,
    ) -> None:
        """Offset and rate at `start` (s) and the limits, all (n,); no T is below `shortest` (s)."""
        size = np.abs(offset)
        self.start = start
        self.offset = offset
        self.duration = np.maximum.reduce(
            [
                np.full(len(offset), shortest),
                1.875 * size / (0.5 * velocity),
                np.sqrt(5.7735 * size / (0.5 * acceleration)),
                np.cbrt(60.0 * size / (0.5 * jerk)),
                3.94 * np.abs(rate) / (0.5 * acceleration),
            ]
        )
        self.end = start + float(self.duration.max())
        self._w = rate * self.duration

    def at(self, t: float) -> tuple[Array, Array, Array] | None:
        """Offset, its rate and its acceleration (each (n,)) at time t; None when the blend is over."""
        if t >= self.end:
            return None
        T, o, w = self.duration, self.offset, self._w
        s = np.clip((t - self.start) / T, 0.0, 1.0)
        r = s * s
        return (
            o * (1.0 + r * s * (-10.0 + s * (15.0 - 6.0 * s))) + w * (s + r * s * (-6.0 + s * (8.0 - 3.0 * s))),
            (o * (r * (-30.0 + s * (60.0 - 30.0 * s))) + w * (1.0 + r * (-18.0 + s * (32.0 - 15.0 * s)))) / T,
            (o * (s * (-60.0 + s * (180.0 - 120.0 * s))) + w * (s * (-36.0 + s * (96.0 - 60.0 * s)))) / (T * T),
        )
