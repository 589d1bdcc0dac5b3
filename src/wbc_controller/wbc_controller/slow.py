"""No hand faster than it may be: the last step before a velocity is taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from bytemini_core.types import Array

from .hands import length

_MARGIN = 0.98  # of the limit that is aimed at: what a clipped brake leaves over stays below it
_HALVINGS = 6


def slow_hands(
    jacobians: Sequence[Array], velocity: Array, low: Array, high: Array, limit: float
) -> tuple[Array, bool]:
    """The velocity, scaled down as a whole until no hand moves faster than `limit`, and whether it had to be.

    Scaled as a whole, what moves keeps its path. What lies beside the box of a tick (`viability`) is brought into it:
    no joint brakes harder than it may.

    Args:
        jacobians: (3, n) of each hand's origin, linear.
        velocity: (n,) wanted.
        low: (n,) lowest velocity of this tick.
        high: (n,) highest.
        limit: m/s.
    """

    def speed(of: Array) -> float:
        return max(length(jacobian @ of) for jacobian in jacobians)

    most = _MARGIN * limit
    fastest = speed(velocity)
    if fastest <= most:
        return velocity, False
    above, below = 1.0, 0.0  # shares: too fast, slow enough (or as slow as it gets)
    share = most / fastest
    for _ in range(_HALVINGS):
        scaled = np.clip(share * velocity, low, high)
        if speed(scaled) > most:
            above = share
        else:
            below = share
            if share > 0.99 * above:
                break
        share = 0.5 * (above + below)
    return np.clip(below * velocity, low, high), True
