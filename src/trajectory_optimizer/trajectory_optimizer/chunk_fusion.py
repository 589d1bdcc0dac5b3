"""Live chunks as measurements of one path.

Every chunk that still reaches into the future measures where the policy wants to go. The target at a time is their
weighted mean, the newest first:

    d = sum_a w_a d_a / sum_a w_a,     w_a = decay^a * taper_a(t) * agree_a,    w_0 = 1
    agree_a = 1 / (1 + (rms_a / tolerance)^4)   per column, rms_a the disagreement with the newest chunk

so noise averages out, and a chunk that means something else (another mode, an object that moved) is not averaged in,
which is what goes wrong with temporal ensembling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UPSAMPLE_ABOVE = 0.05
"""s; rows farther apart than this are joined by cubics: straight lines would cut the curve by dt^2 / 12 times its
acceleration on average."""
UPSAMPLING = 4


@dataclass(frozen=True)
class ChunkPath:
    """A chunk as a path over policy time u: `rows` (r, D) at u = 0, dt, 2 dt, ..., straight between.

    Row 0 is where the plan was when the policy looked. `offset`: policy time consumed when u was 0, so that u at a
    moment is what has been consumed since: delay is counted in actions consumed, not in seconds passed.
    """

    rows: Array
    slopes: Array
    dt: float
    offset: float

    @property
    def end(self) -> float:
        """u of the last row."""
        return (len(self.rows) - 1) * self.dt

    def at(self, u: Array) -> Array:
        """(m, D) positions at `u` (m,), held at both ends."""
        x = np.minimum(np.maximum(u * (1.0 / self.dt), 0.0), len(self.rows) - 1)
        i = x.astype(np.intp)
        value: Array = self.rows.take(i, 0)
        value += (x - i)[:, None] * self.slopes.take(i, 0)
        return value


def chunk_path(start: Array, targets: Array, dt: float, offset: float, crisp: NDArray[np.bool_]) -> ChunkPath:
    """Make a path of a chunk.

    Args:
        start: (D,) where the plan was at the chunk's stamp.
        targets: (k, D) rows of the chunk.
        dt: s between rows.
        offset: s of policy time consumed at the chunk's stamp.
        crisp: (D,) columns that must not overshoot between rows.
    """
    rows = np.vstack((start, targets))
    if dt > UPSAMPLE_ABOVE and len(rows) > 2:
        cubic, straight = _upsampling(len(rows))
        fine = cubic @ rows
        fine[:, crisp] = straight @ rows[:, crisp]
        rows, dt = fine, dt / UPSAMPLING
    slopes = np.zeros_like(rows)
    slopes[:-1] = rows[1:] - rows[:-1]
    return ChunkPath(rows, slopes, dt, offset)


@lru_cache(maxsize=64)
def _upsampling(rows: int) -> tuple[Array, Array]:
    """Two (4 (rows - 1) + 1, rows) matrices that put three points between rows: Catmull-Rom, and straight lines."""
    fine = UPSAMPLING * (rows - 1) + 1
    cubic, straight = np.zeros((fine, rows)), np.zeros((fine, rows))
    for j in range(fine):
        i, u = min(j // UPSAMPLING, rows - 2), j / UPSAMPLING - min(j // UPSAMPLING, rows - 2)
        straight[j, i] += 1.0 - u
        straight[j, i + 1] += u
        weights = (
            (-u + 2 * u**2 - u**3) / 2,
            (2 - 5 * u**2 + 3 * u**3) / 2,
            (u + 4 * u**2 - 3 * u**3) / 2,
            (-(u**2) + u**3) / 2,
        )
        for k, weight in zip(range(i - 1, i + 3), weights, strict=True):
            if k < 0:  # a row before the first, on the line through the first two
                cubic[j, 0] += 2 * weight
                cubic[j, 1] -= weight
            elif k >= rows:
                cubic[j, rows - 1] += 2 * weight
                cubic[j, rows - 2] -= weight
            else:
                cubic[j, k] += weight
    return cubic, straight


def fuse(
    paths: Sequence[ChunkPath],
    consumed: Array,
    agreement: Array,
    crisp: NDArray[np.bool_],
    decay: float,
    taper: float,
) -> Array:
    """(m, D) the targets that the live chunks agree on.

    Args:
        paths: live chunks, the newest first.
        consumed: (m,) policy time consumed at each target.
        agreement: (D,) disagreement at which an older chunk's say has halved.
        crisp: (D,) columns for which only the newest chunk counts.
        decay: weight of a chunk relative to the next newer one.
        taper: s before its end over which a chunk's say fades.
    """
    target = paths[0].at(consumed - paths[0].offset)
    if len(paths) == 1:
        return target
    total = np.ones_like(target)
    change = np.zeros_like(target)
    for age, path in enumerate(paths[1:], 1):
        u = consumed - path.offset
        say = np.minimum(np.maximum((path.end - u) * (1.0 / taper), 0.0), 1.0)
        weight_sum = float(say.sum())
        if weight_sum <= 0.0:
            continue
        difference = path.at(u) - target
        mean_square = (say @ (difference * difference)) / weight_sum
        agree = decay**age / (1.0 + (mean_square / (agreement * agreement)) ** 2)
        agree[crisp] = 0.0
        weight = np.outer(say, agree)
        total += weight
        change += weight * difference
    target += change / total
    return target
