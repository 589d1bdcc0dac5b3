"""Pure pursuit: where on a new path the robot already is, and how far ahead to meet it (GR-3 report, section 4.2).

A policy looks at the *measured* robot, which trails its reference; followed by the clock, each chunk would pull the
reference back by that lag. The closest point of the path ahead of what has been consumed tells how much of it lies
behind already. Never backwards: the search starts at what has been consumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajectory_optimizer.chunk_fusion import ChunkPath

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pursuit:
    """What pursuit found.

    `shift`: s of policy time of the path that is already behind the robot. `distance`: to the path there, in units of
    the path tolerance (RMS over columns); `before`: the same by consumed actions alone.
    """

    shift: float
    distance: float
    before: float


def pursue(path: ChunkPath, u: float, present: Array, scale: Array, dead_band: float, reach: float) -> Pursuit:
    """Find the closest point of `path` ahead of policy time `u`.

    The look-ahead adapts: it is the time in which the path covers the present offset, at most `reach`. What is found
    counts as far as the offset lies *along* the path, f = 1 - (distance / before)^2: disagreement in every direction
    has f near 1 / D and moves nothing, a lag has f near 1 and is taken whole.

    Args:
        path: the new path.
        u: s of its time consumed.
        present: (D,) where the robot's reference is.
        scale: (D,) unit of distance per column, 0 for columns that do not count.
        dead_band: offsets below this (RMS, in units of `scale`) are noise.
        reach: s, the longest look-ahead.
    """
    weight = np.where(scale > 0, 1.0 / np.where(scale > 0, scale, 1.0), 0.0)
    weight /= np.sqrt(max(float((weight > 0).sum()), 1.0))
    here = path.at(np.array([u]))[0]
    offset = (present - here) * weight
    before = float(np.sqrt(offset @ offset))
    if before <= dead_band:
        return Pursuit(0.0, before, before)
    window = min(reach, path.end - u)
    if window <= 0.0:
        return Pursuit(0.0, before, before)
    points = path.at(u + np.linspace(0.0, window, 17)) * weight
    step = window / 16
    segments = np.diff(points, axis=0)
    lengths = np.einsum("ij,ij->i", segments, segments)
    travelled = np.concatenate(([0.0], np.cumsum(np.sqrt(lengths))))
    last = int(np.searchsorted(travelled, before * 1.5))  # beyond this the path is farther away than its start
    segments, lengths = segments[: max(last, 1)], lengths[: max(last, 1)]
    away = present * weight - points[: len(segments)]
    part = np.clip(np.einsum("ij,ij->i", away, segments) / np.maximum(lengths, 1e-18), 0.0, 1.0)
    gap = away - part[:, None] * segments
    squared = np.einsum("ij,ij->i", gap, gap)
    best = int(np.argmin(squared))
    distance = float(np.sqrt(squared[best]))
    along = 1.0 - (distance / before) ** 2
    trust = min(max((along - 0.3) / 0.4, 0.0), 1.0)
    return Pursuit(trust * (best + float(part[best])) * step, distance, before)


def rejoin_time(offset: Array, velocity: Array, acceleration: Array, jerk: Array) -> float:
    """Seconds in which a minimum-jerk move by `offset` (D,) stays within the given magnitudes (D,).

    A rest-to-rest minimum-jerk move by e in T peaks at 15/8 e/T, 10/sqrt(3) e/T^2 and 60 e/T^3.
    """
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
