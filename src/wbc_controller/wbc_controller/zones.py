"""Where hands and forearms must not be: floor and boxes in odom, for `WholeBodyController.set_environment`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from bytemini_core.types import Array

_NUMBERS = 7
_WIDE, _DEEP = 50.0, 1.0  # m: half edges of the box that the floor is, below its surface


def keep_out(boxes: Sequence[float], floor: float | None, distance: float) -> Array:
    """The zones (k, 16) that `set_environment` takes.

    Args:
        boxes: seven numbers each: x, y, z of the centre (m, odom), yaw (rad), length, width, height (m); zeros are no
            box (a list of parameters cannot be empty).
        floor: height (m) of a floor everywhere; None for none.
        distance: that hands and forearms keep from all of them (m).

    Raises:
        ValueError: not seven numbers each, not finite, or a box without size.
    """
    given = np.asarray(boxes, dtype=np.float64)
    if given.size % _NUMBERS or not np.isfinite(given).all():
        raise ValueError(
            f"keep_out has {given.size} numbers, expected finite x, y, z, yaw, length, width, height of each box"
        )
    given = given.reshape(-1, _NUMBERS)
    given = given[given.any(axis=1)]
    if (given[:, 4:] <= 0.0).any():
        raise ValueError(f"keep_out has a box of {given[(given[:, 4:] <= 0.0).any(axis=1)][0, 4:]} m, expected a size")
    items = []
    for x, y, z, yaw, *size in given.tolist():
        cos, sin = np.cos(yaw), np.sin(yaw)
        items.append([cos, -sin, 0, sin, cos, 0, 0, 0, 1, x, y, z, *(0.5 * edge for edge in size), distance])
    if floor is not None:
        items.append([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, floor - _DEEP, _WIDE, _WIDE, _DEEP, distance])
    return np.array(items, dtype=np.float64).reshape(-1, 16)
