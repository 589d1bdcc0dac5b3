"""How rough the commanded motion is, as a share of what each joint is allowed."""

from __future__ import annotations

import math

import numpy as np
from bytemini_core.types import NANOSECONDS, Array

SPAN = 0.02
"""Seconds between the commands that are compared. Over the wire one reference may be a tick late, the next one early: a
drive hardly follows that, and tick by tick it would hide how the motion itself is."""

LONGEST_STEP = 0.06
"""Seconds between two commands beyond which they do not belong to one motion."""


class JerkMeter:
    """Takes commanded velocities one by one; three of them, `SPAN` apart, give a jerk."""

    def __init__(self, names: tuple[str, ...], limits: Array) -> None:
        """Measure these joints against these limits, (n,) rad/s^3 or m/s^3."""
        self._limits = dict(zip(names, limits.tolist(), strict=True))
        self._names: tuple[str, ...] = ()
        self._last: list[tuple[int, Array]] = []

    def add(self, stamp: int, names: tuple[str, ...], velocity: Array) -> float:
        """Take the velocities of one command.

        Args:
            stamp: of the command, nanoseconds.
            names: the joints.
            velocity: (n,) rad/s or m/s.

        Returns:
            The largest jerk of any joint over its limit, or NaN where this command adds none.
        """
        if names != self._names:
            self._names = names
            self._scale = np.array([1.0 / self._limits.get(name, math.inf) for name in names])
            self._last.clear()
        if self._last and not 0 < stamp - self._last[-1][0] < LONGEST_STEP * NANOSECONDS:
            self._last.clear()
        if self._last and stamp - self._last[-1][0] < SPAN * NANOSECONDS:
            return math.nan
        self._last.append((stamp, velocity))
        if len(self._last) < 3:
            return math.nan
        (t0, v0), (t1, v1), (t2, v2) = self._last
        self._last.pop(0)
        step, before = (t2 - t1) / NANOSECONDS, (t1 - t0) / NANOSECONDS
        jerk = ((v2 - v1) / step - (v1 - v0) / before) / (0.5 * (step + before))
        return float(np.abs(jerk * self._scale).max(initial=0.0))
