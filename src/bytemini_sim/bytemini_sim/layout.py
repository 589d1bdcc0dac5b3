"""Where things stand on a table: random, never touching, and every object open to a hand that comes in at an angle.

The wrist's range makes grasps from straight above mostly unreachable (ROBOT.md): hands come in at 30 to 60 degrees
below horizontal. So it is not enough that things do not touch: each object needs a direction from which nothing taller
stands in the way of hand and forearm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bytemini_core.types import Array

from bytemini_sim.catalogue import Item
from bytemini_sim.scene import Placed, Table

OBJECT_GAP = 0.045
"""Least free space between two objects, m: an open finger is 0.026 m thick."""
CONTAINER_GAP = 0.055
"""Least free space between a container and anything else, m."""

_REST = 5e-4  # things start this high above the table, m, and settle
_MAX_TRIES = 400
_TRIES_PER_ITEM = 40

# The hand's way in, behind an object: how far back it is checked, half its width, the slope of its underside and how
# far that lies below the middle of the hand, m.
_LANE_LENGTH = 0.24
_LANE_HALF_WIDTH = 0.072
_LANE_SLOPE = 1.0
_LANE_DROP = 0.055
_LANE_TURNS = np.radians([0.0, 20.0, -20.0, 40.0, -40.0])
_SHOULDERS = np.array([[0.12, 0.205], [0.12, -0.205]])


@dataclass(frozen=True, slots=True)
class Zone:
    """The part of the table that both hands' reach and the head's view cover, odom, m.

    Things are centred within `x` and `y`, and their outline keeps within |y| < `view` + 0.4 (x - 0.42), the edge of
    the head camera's square picture.
    """

    x: tuple[float, float] = (0.44, 0.67)
    y: tuple[float, float] = (-0.38, 0.38)
    view: float = 0.375


OBJECT_ZONE = Zone()
CONTAINER_ZONE = Zone(x=(0.52, 0.62), y=(-0.30, 0.30), view=0.42)


def arrange(
    rng: np.random.Generator, objects: Sequence[Item], containers: Sequence[Item], table: Table
) -> tuple[tuple[Placed, ...], tuple[Placed, ...]]:
    """Draw a layout.

    Args:
        rng: source of chance.
        objects: what to grasp.
        containers: what to put it into.
        table: what they stand on.

    Returns:
        The objects and the containers, placed, in the order given.

    Raises:
        ValueError: no layout was found; there is too much to place.
    """
    order = sorted(range(len(objects)), key=lambda i: -objects[i].radius)
    for _ in range(_MAX_TRIES):
        boxes: list[Placed] = []
        if not all(_place(rng, item, CONTAINER_ZONE, boxes, table, turn=0.3) for item in containers):
            continue
        standing = list(boxes)
        if not all(_place(rng, objects[i], OBJECT_ZONE, standing, table, turn=np.pi) for i in order):
            continue
        if not all(open_to_hand(placed, standing) for placed in standing[len(boxes) :]):
            continue
        by_name = {placed.name: placed for placed in standing}
        return tuple(by_name[item.name] for item in objects), tuple(boxes)
    raise ValueError(f"no room on the table for {len(objects)} objects and {len(containers)} containers; place fewer")


def _place(rng: np.random.Generator, item: Item, zone: Zone, standing: list[Placed], table: Table, turn: float) -> bool:
    """Add one thing where it is clear of what stands already; False when no place was found."""
    for _ in range(_TRIES_PER_ITEM):
        x, y = rng.uniform(*zone.x), rng.uniform(*zone.y)
        yaw = rng.uniform(-turn, turn)
        placed = Placed(item, (x, y, table.height + item.size[2] / 2 + _REST), yaw)
        outline = _corners(placed)
        if np.any(np.abs(outline[:, 1]) > zone.view + 0.4 * (outline[:, 0] - 0.42)):
            continue
        if all(
            gap(placed, other) >= (CONTAINER_GAP if item.container or other.item.container else OBJECT_GAP)
            for other in standing
        ):
            standing.append(placed)
            return True
    return False


def _axes(yaw: float) -> Array:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, s], [-s, c]])


def _corners(placed: Placed) -> Array:
    """(4, 2) corners of its footprint, odom, m."""
    half = np.array(placed.item.size[:2]) / 2
    local = half * np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
    return np.asarray(placed.position[:2] + local @ _axes(placed.yaw), dtype=np.float64)


def gap(first: Placed, second: Placed) -> float:
    """Free space between two footprints (rectangles), m: a lower bound, negative when they overlap."""
    return _rectangle_gap(
        np.array(first.position[:2]),
        np.array(first.item.size[:2]) / 2,
        _axes(first.yaw),
        np.array(second.position[:2]),
        np.array(second.item.size[:2]) / 2,
        _axes(second.yaw),
    )


def _rectangle_gap(c1: Array, h1: Array, a1: Array, c2: Array, h2: Array, a2: Array) -> float:
    """Largest separation over the rectangles' four edge directions (separating axes)."""
    between = c2 - c1
    cross = np.abs(a1 @ a2.T)
    along1 = np.abs(a1 @ between) - h1 - cross @ h2
    along2 = np.abs(a2 @ between) - h2 - cross.T @ h1
    return float(max(along1.max(), along2.max()))


def open_to_hand(placed: Placed, standing: Sequence[Placed]) -> bool:
    """Whether some direction from one of the shoulders leads to the object over nothing too tall."""
    centre = np.array(placed.position[:2])
    shoulder = _SHOULDERS[0] if centre[1] >= 0 else _SHOULDERS[1]
    straight = np.arctan2(*(centre - shoulder)[::-1])
    others = [(o, _corners(o)) for o in standing if o is not placed]
    return any(_lane_is_free(placed, centre, straight + turn, others) for turn in _LANE_TURNS)


def _lane_is_free(placed: Placed, centre: Array, heading: float, others: Sequence[tuple[Placed, Array]]) -> bool:
    back = -np.array([np.cos(heading), np.sin(heading)])
    axes = np.array([back, [-back[1], back[0]]])
    middle = centre + back * (_LANE_LENGTH / 2)
    half = np.array([_LANE_LENGTH / 2, _LANE_HALF_WIDTH])
    grasp = max(0.03, placed.item.size[2] / 2)
    for other, corners in others:
        size = np.array(other.item.size[:2]) / 2
        if _rectangle_gap(middle, half, axes, np.array(other.position[:2]), size, _axes(other.yaw)) > 0:
            continue
        nearest = max(0.0, float(((corners - centre) @ back).min()))
        if other.item.size[2] > grasp + _LANE_SLOPE * nearest - _LANE_DROP:
            return False
    return True
