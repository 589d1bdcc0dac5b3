"""What bounds the motion, as plain arrays over the columns of a plan.

Coupled pairs of columns (a wrist's pitch and roll, the base's x and y) are bounded by a disc. The disc is taken as its
inscribed regular 16-gon, |n_k . (a, b)| <= R cos(pi / 16) for the eight directions n_k = (cos, sin)((k + 1/2) pi / 8):
linear, convex, never outside the disc, exact along both axes and within 2 % of it elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DIRECTIONS = 8
_ANGLES = (np.arange(DIRECTIONS) + 0.5) * np.pi / DIRECTIONS
NORMALS = np.stack((np.cos(_ANGLES), np.sin(_ANGLES)), axis=1)
"""(8, 2) unit normals of the edges of the 16-gon."""
INSET = 1e-6
"""Targets keep this much (rad or m; relative for discs) inside their bounds: what rests exactly on a bound leaves a
solver with tolerances no room to move it away."""
APOTHEM = float(np.cos(np.pi / (2 * DIRECTIONS)))


@dataclass(frozen=True, slots=True)
class Disc:
    """Columns `a` and `b` stay together within `radius` at derivative `order` (0 position ... 3 jerk)."""

    a: int
    b: int
    order: int
    radius: float


@dataclass(frozen=True)
class Limits:
    """Bounds and tolerances of the D columns of a plan; (D,) arrays in SI units per column.

    `lower`, `upper`: position (infinite where free). `velocity`, `acceleration`, `jerk`: magnitudes, > 0.
    `tolerance`: how far the motion may cut a corner of its path. `agreement`: disagreement of two chunks beyond which
    the older one is not believed. `jump`: how far from the present a chunk may start.
    `crisp`: columns that follow the newest chunk sharply (grippers). `discs`: coupled bounds.
    """

    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    jerk: Array
    tolerance: Array
    agreement: Array
    jump: Array
    crisp: NDArray[np.bool_]
    discs: tuple[Disc, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.lower)
        for name in ("lower", "upper", "velocity", "acceleration", "jerk", "tolerance", "agreement", "jump", "crisp"):
            value = getattr(self, name)
            if value.shape != (size,):
                raise ValueError(f"Limits.{name} has shape {value.shape}, expected ({size},)")
            if name not in ("lower", "upper", "crisp") and not (value > 0).all():
                raise ValueError(f"Limits.{name} must be positive, is {value.min()} at column {int(value.argmin())}")
        if not (self.lower <= self.upper).all():
            raise ValueError(f"Limits.lower exceeds upper at column {int(np.argmax(self.lower > self.upper))}")

    @cached_property
    def _inset(self) -> tuple[Array, Array]:
        """Lower and upper position limits less `INSET`."""
        inset = np.minimum(INSET, 0.5 * (self.upper - self.lower))
        return self.lower + inset, self.upper - inset

    @cached_property
    def _position_discs(self) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
        """Columns a and b of the discs in position and the squares of the circles inside their 16-gons."""
        discs = [disc for disc in self.discs if disc.order == 0]
        a, b = (np.array([getattr(disc, side) for disc in discs], dtype=np.intp) for side in ("a", "b"))
        return a, b, np.array([(disc.radius * APOTHEM * (1.0 - INSET)) ** 2 for disc in discs])

    def allows(self, positions: Array) -> bool:
        """Whether rows (k, D) are surely within the position limits: False asks for `clamp` to look closer."""
        lower, upper = self._inset
        if (positions.max(axis=0) > upper).any() or (positions.min(axis=0) < lower).any():
            return False
        a, b, most = self._position_discs
        if len(a):
            x, y = positions.take(a, 1), positions.take(b, 1)
            return not (x * x + y * y > most).any()
        return True

    @property
    def size(self) -> int:
        """Number of columns D."""
        return len(self.lower)

    def clamp(self, position: Array) -> Array:
        """`position` (..., D) moved to the nearest that is allowed, box and discs, less `INSET`; a copy."""
        lower, upper = self._inset
        clamped = np.clip(position, lower, upper)
        for disc in self.discs:
            if disc.order == 0:
                a, b = clamped[..., disc.a], clamped[..., disc.b]
                reach = np.abs(a[..., None] * NORMALS[:, 0] + b[..., None] * NORMALS[:, 1]).max(axis=-1)
                scale = np.minimum(1.0, disc.radius * APOTHEM * (1.0 - INSET) / np.maximum(reach, 1e-12))
                clamped[..., disc.a], clamped[..., disc.b] = a * scale, b * scale
        return clamped
