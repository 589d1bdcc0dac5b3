"""Live chunks as measurements of one path.

Every chunk that still reaches into the future measures where the policy wants to go. The target at a time is their
weighted mean, the newest first:

    d = d_0 + sum_a w_a (d_a - d_0) / sum_a w_a,     w_0 = 1,  w_a = decay^a agree_a
    agree_a = 1 / (1 + (rms_a / agreement)^4)   per column, rms_a the disagreement with the newest chunk

so noise averages out, and a chunk that means something else (another mode, an object that moved) is not averaged in,
which is what goes wrong with temporal ensembling. Where an older chunk has ended, its last disagreement with the newest
goes on: dropping it there would put a step into the target that no policy asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from trajectory_optimizer.limits import Limits

Array = NDArray[np.float64]

UPSAMPLE_ABOVE = 0.05
"""s; rows farther apart than this are joined by cubics: straight lines would cut the curve by dt^2 / 12 times its
acceleration on average."""
UPSAMPLING = 4
HELD = 4
"""Targets before an older chunk's end whose mean disagreement goes on after it."""


@dataclass(frozen=True, slots=True)
class ChunkPath:
    """A chunk as a path over policy time u, straight between rows, held at both ends.

    `rows`: (r + 1, D) at u = 0, dt, 2 dt, ..., the last one twice. Row 0 is where the plan was when the policy looked.
    `offset`: policy time consumed when u was 0, so that u at a moment is what has been consumed since: delay is counted
    in actions consumed, not in seconds passed.
    """

    rows: Array
    dt: float
    offset: float

    @property
    def end(self) -> float:
        """The u of the last row."""
        return (len(self.rows) - 2) * self.dt

    def at(self, u: Array) -> Array:
        """(m, D) positions at `u` (m,)."""
        x = np.minimum(np.maximum(u * (1.0 / self.dt), 0.0), len(self.rows) - 2)
        i = x.astype(np.intp)
        value = self.rows.take(i, 0)
        return np.asarray(value + (x - i)[:, None] * (self.rows.take(i + 1, 0) - value))

    def point(self, u: float) -> tuple[Array, Array]:
        """(D,) position and its derivative by u, at one u (forwards at a row)."""
        last = len(self.rows) - 2
        x = min(max(u / self.dt, 0.0), float(last))
        i = int(x)
        step = self.rows[i + 1] - self.rows[i]
        return self.rows[i] + (x - i) * step, step / self.dt


def chunk_path(start: Array, targets: Array, dt: float, offset: float, limits: Limits) -> ChunkPath:
    """Make a path of a chunk.

    Args:
        start: (D,) where the plan was at the chunk's stamp.
        targets: (k, D) rows of the chunk.
        dt: s between rows.
        offset: s of policy time consumed at the chunk's stamp.
        limits: of the columns; crisp ones must not overshoot between rows.
    """
    k = len(targets)
    rows = np.empty((k + 2, len(start)))
    rows[0], rows[1:-1], rows[-1] = start, targets, targets[-1]
    if dt > UPSAMPLE_ABOVE and k > 1:
        cubic, straight = _upsampling(k + 1)
        fine = cubic @ rows[:-1]
        fine[:, limits.crisp] = straight @ rows[:-1, limits.crisp]
        rows, dt = limits.clamp(fine), dt / UPSAMPLING
    return ChunkPath(rows, dt, offset)


@lru_cache(maxsize=64)
def _upsampling(rows: int) -> tuple[Array, Array]:
    """Two (4 (rows - 1) + 2, rows) matrices that put three points between rows and repeat the last one.

    The first by Catmull-Rom cubics, the second by straight lines.
    """
    fine = UPSAMPLING * (rows - 1) + 1
    cubic, straight = np.zeros((fine + 1, rows)), np.zeros((fine + 1, rows))
    for j in range(fine):
        i = min(j // UPSAMPLING, rows - 2)
        u = j / UPSAMPLING - i
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
    cubic[-1, -1] = straight[-1, -1] = 1.0
    return cubic, straight


class LiveChunks:
    """The chunks in force, the newest first, laid out so that all are sampled at once."""

    def __init__(self, paths: Sequence[ChunkPath]) -> None:
        self.paths = tuple(paths)
        self._rows = self.paths[0].rows if len(self.paths) == 1 else np.concatenate([p.rows for p in self.paths])
        table, first = [], 0
        for path in self.paths:
            table.append((1.0 / path.dt, path.offset / path.dt, len(path.rows) - 2.0, first))
            first += len(path.rows)
        self._table = np.array(table)

    def at(self, consumed: Array) -> Array:
        """(A, m, D) every chunk's positions at the policy times `consumed` (m,)."""
        table = self._table
        x = consumed * table[:, 0:1]
        x -= table[:, 1:2]
        np.maximum(x, 0.0, out=x)
        np.minimum(x, table[:, 2:3], out=x)
        x += table[:, 3:4]
        i = x.astype(np.intp)
        x -= i
        value: Array = self._rows.take(i, 0)
        i += 1
        step = self._rows.take(i, 0)
        step -= value
        step *= x[:, :, None]
        value += step
        return value


def fuse(live: LiveChunks, consumed: Array, doubt: Array, decay: float) -> Array:
    """(m, D) the targets that the live chunks agree on.

    Args:
        live: the chunks.
        consumed: (m,) policy time consumed at each target, ascending.
        doubt: (D,) agreement^-2, from the disagreement at which an older chunk's say has halved.
        decay: weight of a chunk relative to the next newer one.
    """
    values = live.at(consumed)
    target: Array = values[0]
    if len(values) == 1:
        return target
    total: Array | None = None
    for age, path in enumerate(live.paths[1:], 1):
        inside = int(consumed.searchsorted(path.offset + path.end))
        if inside == 0:
            continue
        apart = values[age]
        apart -= target
        shared = apart[:inside]
        ratio = np.einsum("ij,ij->j", shared, shared)
        ratio *= doubt
        ratio *= 1.0 / inside
        ratio *= ratio
        ratio += 1.0
        say = decay**age / ratio
        if inside < len(apart):
            tail = shared[-HELD:]
            apart[inside:] = np.add.reduce(tail, axis=0) / len(tail)
        apart *= say
        if total is None:
            total, change = 1.0 + say, apart
        else:
            total += say
            change += apart
    if total is not None:
        change /= total
        target += change
    return target
