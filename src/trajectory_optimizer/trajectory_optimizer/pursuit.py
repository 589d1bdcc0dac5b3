"""Pure pursuit: where on a new path the robot already is, and how far ahead to meet it (GR-3 report, section 4.2).

A policy looks at the *measured* robot, which trails its reference; followed by the clock, each chunk would pull the
reference back by that lag. The closest point of the path ahead of what has been consumed tells how much of it lies
behind already. Never backwards: the search starts at what has been consumed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajectory_optimizer.chunk_fusion import ChunkPath

Array = NDArray[np.float64]

ALONG = (0.3, 0.7)
"""Share of an offset that must lie along the path for pursuit to begin to count it, and to take it whole."""
POINTS = 17
"""Of the path within the look-ahead, between which the closest is sought."""


def pursue(path: ChunkPath, u: float, present: Array, weight: Array, dead_band: float, reach: float) -> float:
    """Seconds of `path` ahead of policy time `u` that the robot has behind it.

    The look-ahead adapts: it is the time in which the path covers the present offset, at most `reach`. What is found
    counts as far as the offset lies *along* the path, f = 1 - (distance / before)^2: disagreement in every direction
    has f near 1 / D and moves nothing, a lag has f near 1 and is taken whole.

    Args:
        path: the new path.
        u: s of its time consumed.
        present: (D,) where the robot's reference is.
        weight: (D,) such that |weight * offset| is the distance; 0 for columns that do not count.
        dead_band: distances up to this are noise.
        reach: s, the longest look-ahead.
    """
    here, speed = path.point(u)
    offset = (present - here) * weight
    before = float(offset @ offset)
    if before <= dead_band * dead_band:
        return 0.0
    direction = speed * weight
    ahead = float(offset @ direction)
    if ahead <= 0.0 or ahead * ahead < 0.25 * ALONG[0] * before * float(direction @ direction):
        return 0.0  # the path leads elsewhere: no need to search it
    before = before**0.5
    window = min(reach, path.end - u)
    if window <= 0.0:
        return 0.0
    step = window / (POINTS - 1)
    points = path.at(u + step * np.arange(POINTS, dtype=np.float64)) * weight
    segments = np.diff(points, axis=0)
    lengths = np.einsum("ij,ij->i", segments, segments)
    travelled = np.concatenate(([0.0], np.cumsum(np.sqrt(lengths))))
    last = max(int(np.searchsorted(travelled, 1.5 * before)), 1)  # farther on, the path is farther away than its start
    segments, lengths = segments[:last], lengths[:last]
    away = present * weight - points[: len(segments)]
    part = np.clip(np.einsum("ij,ij->i", away, segments) / np.maximum(lengths, 1e-18), 0.0, 1.0)
    gap = away - part[:, None] * segments
    squared = np.einsum("ij,ij->i", gap, gap)
    best = int(np.argmin(squared))
    along = 1.0 - float(squared[best]) / before**2
    trust = min(max((along - ALONG[0]) / (ALONG[1] - ALONG[0]), 0.0), 1.0)
    return float(trust * (best + float(part[best])) * step)


def rejoin_reach(duration: float, velocity: Array, acceleration: Array, jerk: Array) -> Array:
    """(D,) the largest offsets that a minimum-jerk move closes in `duration` s within the given magnitudes (D,).

    A rest-to-rest minimum-jerk move by e in T peaks at 15/8 e/T, 10/sqrt(3) e/T^2 and 60 e/T^3.
    """
    return np.minimum(
        velocity * duration / 1.875, np.minimum(acceleration * duration**2 / 5.7735, jerk * duration**3 / 60.0)
    )


def rejoin_time(offset: Array, velocity: Array, acceleration: Array, jerk: Array) -> float:
    """Seconds in which a minimum-jerk move by `offset` (D,) stays within the given magnitudes (D,)."""
    e = np.abs(offset)
    return float(
        max(
            (1.875 * e / velocity).max(),
            np.sqrt((5.7735 * e / acceleration).max()),
            np.cbrt((60.0 * e / jerk).max()),
        )
    )


def rejoin_profile(tau: Array, duration: float) -> Array:
    """(m,) fraction of the offset that is left at `tau` s: 1 - (10 x^3 - 15 x^4 + 6 x^5)."""
    x = np.minimum(np.maximum(tau / duration, 0.0), 1.0)
    return 1.0 - x * x * x * (10.0 + x * (6.0 * x - 15.0))
