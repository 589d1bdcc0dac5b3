"""How smooth a motion is: jerk, what happens at a seam between chunks, lag and error against a clean path.

The seam metrics are those users know from GR00T's deployment guide: acceleration inside a chunk, position jump at the
seam, cosine between the velocities on its two sides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def derivatives(positions: Array, step: float) -> tuple[Array, Array, Array]:
    """Velocity, acceleration and jerk of samples (t, D) `step` s apart, as differences (t - 1 ... t - 3, D)."""
    velocity = np.diff(positions, axis=0) / step
    acceleration = np.diff(velocity, axis=0) / step
    return velocity, acceleration, np.diff(acceleration, axis=0) / step


def jerk_rms(positions: Array, step: float) -> float:
    """Root mean square of the third differences of samples (t, D)."""
    return float(np.sqrt(np.mean(derivatives(positions, step)[2] ** 2)))


def chunk_acceleration(rows: Array, dt: float) -> float:
    """The largest second difference of a chunk's rows (k, D), 0 for fewer than three."""
    return float(np.abs(np.diff(rows, n=2, axis=0)).max(initial=0.0)) / dt**2


def cosine(a: Array, b: Array) -> float:
    """Cosine of the angle between two velocities (D,), nan where either rests."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 1e-12 else float("nan")


def lag_and_error(positions: Array, clean: Array, step: float, most: float = 0.3) -> tuple[float, float]:
    """The time shift (s, positive: late) that best explains `positions` by `clean`, and the RMS error without it.

    Args:
        positions: (t, D) samples of a motion.
        clean: (t, D) of the path it should follow, at the same times.
        step: s between samples.
        most: s, the largest shift looked for.
    """
    width = round(most / step)
    middle = positions[width:-width]
    errors = np.array(
        [np.mean((middle - clean[width + s : len(clean) - width + s]) ** 2) for s in range(-width, width + 1)]
    )
    best = int(errors.argmin())
    shift = float(best)
    if 0 < best < 2 * width:  # the vertex of the parabola through the three lowest
        before, here, after = errors[best - 1 : best + 2]
        shift += 0.5 * (before - after) / (before - 2.0 * here + after)
    return -(shift - width) * step, float(np.sqrt(np.mean((positions - clean) ** 2)))
