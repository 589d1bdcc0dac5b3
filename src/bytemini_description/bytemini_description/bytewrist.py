"""ByteWrist."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def project_to_disc(tilt: ArrayLike, limit: float) -> Array:
    """Bring (pitch, roll) radially into the wrist's range pitch^2 + roll^2 <= limit^2.

    Args:
        tilt: (..., 2) pitch and roll, rad.
        limit: radius of the disc, rad.

    Returns:
        (..., 2), the same where it already lies within.
    """
    tilt = np.asarray(tilt, dtype=np.float64)
    norm = np.sqrt(np.einsum("...i,...i->...", tilt, tilt))[..., None]
    projected: Array = tilt * (limit / np.maximum(norm, limit))
    return projected
