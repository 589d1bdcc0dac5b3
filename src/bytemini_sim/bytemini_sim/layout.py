"""Where things stand on a table: random, never touching, and every object open to a hand that comes in at an angle.

The wrist's range makes grasps from straight above mostly unreachable (ROBOT.md): hands come in at 30 to 60 degrees
below horizontal. So it is not enough that things do not touch: each object needs a direction from which nothing taller
stands in the way of hand and forearm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from bytemini_core.types import Array

from bytemini_sim.catalogue import MAX_GRASP_WIDTH, Item
from bytemini_sim.scene import Placed, Table

OBJECT_GAP = 0.055
"""Least free space between two objects, m: an open finger is 0.026 m thick."""
CONTAINER_GAP = 0.060
"""Least free space between a container and anything else, m."""

_FINGER_ROOM = 0.046
"""What a finger takes beside a thing, m: 0.026 itself, 0.009 between them, 0.010 of clearance, 0.001 to spare."""

_REST = 5e-4  # things start this high above the table, m, and settle
_MAX_TRIES = 5000
_TRIES_PER_ITEM = 40

# The hand's way in, behind an object: how far back it is checked, half its width, the slope of its underside and how
# far that lies below the middle of the hand, m.
_LANE_LENGTH = 0.24
_LANE_HALF_WIDTH = 0.072
_LANE_SLOPE = 1.0
_LANE_DROP = 0.055
_SHOULDER_X, _SHOULDER_Y = 0.12, 0.205

# Headings of a hand over the table that the arm reaches at 30 to 60 degrees below horizontal, relative to the line from
# its shoulder, positive outwards, rad: by inverse kinematics, -55 to 20 degrees nearly everywhere in the zone.
_INWARDS, _OUTWARDS = math.radians(-55.0), math.radians(20.0)
_TURNS = tuple(math.radians(turn) for turn in (0.0, -20.0, 20.0, -40.0, -55.0))
_SKEWS = (0.0, 0.2, -0.2)
"""How far a hand may be off the long side of a thing that fits between the fingers only one way, rad."""


# The head camera at home (ROBOT.md): where it is (x, height, m), how far it looks down, half the angle of its square
# picture less a margin. A number of the robot in a scene's layout, so that scenes do not depend on its version.
_EYE_X, _EYE_Z = 0.177, 1.268
_EYE_PITCH = 0.75
_EYE_SLOPE = 0.9 * math.tan(math.radians(65.0 / 2))


@dataclass(frozen=True, slots=True)
class Zone:
    """The part of the table that both hands reach: things are centred within `x` and `y`, odom, m."""

    x: tuple[float, float]
    y: tuple[float, float]


OBJECT_ZONE = Zone(x=(0.43, 0.68), y=(-0.38, 0.38))
CONTAINER_ZONE = Zone(x=(0.52, 0.62), y=(-0.28, 0.28))


def arrange(
    rng: np.random.Generator,
    objects: Sequence[Item],
    containers: Sequence[Item],
    table: Table,
    fixed: Sequence[Placed] = (),
    zone: Zone = OBJECT_ZONE,
) -> tuple[tuple[Placed, ...], tuple[Placed, ...]]:
    """Draw a layout.

    Args:
        rng: source of chance.
        objects: what to grasp.
        containers: what to put it into.
        table: what they stand on.
        fixed: what stands there already.
        zone: where objects may stand.

    Returns:
        The objects and the containers, placed, in the order given, without what is fixed.

    Raises:
        ValueError: no layout was found; there is too much to place.
    """
    order = sorted(range(len(objects)), key=lambda i: -objects[i].radius)
    for _ in range(_MAX_TRIES):
        standing: list[Placed] = list(fixed)
        if all(_place(rng, item, CONTAINER_ZONE, 0.3, table, standing) for item in containers) and all(
            _place(rng, objects[i], zone, math.pi, table, standing) for i in order
        ):
            by_name = {placed.name: placed for placed in standing}
            return tuple(by_name[item.name] for item in objects), tuple(by_name[item.name] for item in containers)
    raise ValueError(f"no room on the table for {len(objects)} objects and {len(containers)} containers; place fewer")


def scatter(
    rng: np.random.Generator,
    items: Sequence[Item],
    basket: Placed,
    least: float,
    square: bool = False,
    farthest: float = math.inf,
) -> tuple[Placed, ...] | None:
    """Lay things side by side into a basket, turned so that an arm reaches them; None where they did not fit this time.

    A hand gets in over the walls. Fingers fit on two sides of each between it and the walls, and between it
    and all that was laid down before it: so a hand can take out one after the other, the last one first.

    Args:
        rng: source of chance.
        items: what to lay down.
        basket: where; not turned.
        least: least free space between things, and to the walls on the longer sides, m.
        square: turn them by quarters only: more of them fit.
        farthest: no centre lies further ahead (m).
    """
    x, y, z = basket.position
    low = np.array([x, y]) - np.array(basket.item.inner[:2]) / 2
    high = np.array([x, y]) + np.array(basket.item.inner[:2]) / 2
    floor = z - basket.item.size[2] / 2 + basket.item.floor
    walls = _walls(low, high, basket.item.size[2] - basket.item.floor)
    standing: list[Placed] = []
    outlines: list[_Rectangle] = []
    for item in sorted(items, key=lambda item: -item.radius):
        for u, v, turn in rng.uniform((low[0], low[1], -math.pi), (high[0], high[1], math.pi), (200, 3)).tolist():
            yaw = round(turn / (math.pi / 2)) * math.pi / 2 if square else turn
            placed = Placed(item, (u, v, floor + item.size[2] / 2 + _REST), yaw)
            outline = _rectangle(placed)
            fingers = _with_fingers(placed)
            bounds = (outline.grown(least), fingers)
            reach_x = max(abs(r.c) * r.a + abs(r.s) * r.b for r in bounds)
            reach_y = max(abs(r.s) * r.a + abs(r.c) * r.b for r in bounds)
            inside = low[0] + reach_x <= u <= high[0] - reach_x and low[1] + reach_y <= v <= high[1] - reach_y
            apart = all(outline.gap(other) >= least and fingers.gap(other) >= 0.0 for other in outlines)
            if (
                inside
                and apart
                and u <= farthest
                and any(_lane_is_free(placed, heading, walls) for heading in _headings(placed))
            ):
                standing.append(placed)
                outlines.append(outline)
                break
        else:
            return None
    by_name = {placed.name: placed for placed in standing}
    return tuple(by_name[item.name] for item in items)


def _place(rng: np.random.Generator, item: Item, zone: Zone, turn: float, table: Table, standing: list[Placed]) -> bool:
    """Add one thing where it is clear of what stands and nothing loses its way in; False when there is none."""
    low, high = (zone.x[0], zone.y[0], -turn), (zone.x[1], zone.y[1], turn)
    around = [(_rectangle(other), CONTAINER_GAP if _boxed(item, other) else OBJECT_GAP) for other in standing]
    for x, y, yaw in rng.uniform(low, high, (_TRIES_PER_ITEM, 3)).tolist():
        placed = Placed(item, (x, y, table.height + item.size[2] / 2 + _REST), yaw)
        if not _in_view(*placed.position):
            continue
        outline = _rectangle(placed)
        if any(outline.gap(other) < least for other, least in around):
            continue
        together = [*standing, placed]
        if all(open_to_hand(thing, together) for thing in reversed(together) if not thing.item.container):
            standing.append(placed)
            return True
    return False


def _boxed(item: Item, other: Placed) -> bool:
    return item.container or other.item.container


def _in_view(x: float, y: float, z: float) -> bool:
    """Whether the head's square picture shows the point."""
    distance = (x - _EYE_X) * math.cos(_EYE_PITCH) + (_EYE_Z - z) * math.sin(_EYE_PITCH)
    return abs(y) <= _EYE_SLOPE * distance


@dataclass(frozen=True, slots=True)
class _Rectangle:
    """A rectangle on the table: centre, half edge lengths (m), cosine and sine of its yaw. Plain floats are fast."""

    x: float
    y: float
    a: float
    b: float
    c: float
    s: float

    def gap(self, other: _Rectangle) -> float:
        """Largest separation over the four edge directions (separating axes); negative when they overlap."""
        dx, dy = other.x - self.x, other.y - self.y
        cc = abs(self.c * other.c + self.s * other.s)
        ss = abs(self.s * other.c - self.c * other.s)
        return max(
            abs(self.c * dx + self.s * dy) - self.a - cc * other.a - ss * other.b,
            abs(self.c * dy - self.s * dx) - self.b - ss * other.a - cc * other.b,
            abs(other.c * dx + other.s * dy) - other.a - cc * self.a - ss * self.b,
            abs(other.c * dy - other.s * dx) - other.b - ss * self.a - cc * self.b,
        )

    def grown(self, margin: float) -> _Rectangle:
        """The rectangle with a margin on all sides, m."""
        return replace(self, a=self.a + margin, b=self.b + margin)

    def nearest(self, x: float, y: float, ux: float, uy: float) -> float:
        """How far along the direction (ux, uy) from (x, y) the rectangle begins, m."""
        middle = (self.x - x) * ux + (self.y - y) * uy
        return middle - abs(self.c * ux + self.s * uy) * self.a - abs(self.c * uy - self.s * ux) * self.b


def _walls(low: Array, high: Array, height: float) -> list[tuple[float, _Rectangle]]:
    """The inner sides of a box between two corners (2,), as things of a height (m) in a hand's way."""
    (x, y), (a, b) = (low + high) / 2, (high - low) / 2
    across = [(height, _Rectangle(x + side * a, y, 0.0, b, 1.0, 0.0)) for side in (-1.0, 1.0)]
    return across + [(height, _Rectangle(x, y + side * b, a, 0.0, 1.0, 0.0)) for side in (-1.0, 1.0)]


def _with_fingers(placed: Placed) -> _Rectangle:
    """A thing's outline with room for the fingers of a hand on two sides.

    The narrower ones; of a thing that fits between the fingers both ways those that a hand from the front closes on.
    """
    outline = _rectangle(placed)
    both = max(placed.item.size[:2]) <= MAX_GRASP_WIDTH
    if abs(outline.s) > abs(outline.c) if both else outline.a <= outline.b:
        return replace(outline, a=outline.a + _FINGER_ROOM)
    return replace(outline, b=outline.b + _FINGER_ROOM)


def _rectangle(placed: Placed) -> _Rectangle:
    x, y, _ = placed.position
    width, depth, _ = placed.item.size
    return _Rectangle(x, y, width / 2, depth / 2, math.cos(placed.yaw), math.sin(placed.yaw))


def gap(first: Placed, second: Placed) -> float:
    """Free space between two footprints (rectangles), m: a lower bound, negative when they overlap."""
    return _rectangle(first).gap(_rectangle(second))


def open_to_hand(placed: Placed, standing: Sequence[Placed]) -> bool:
    """Whether the arm on the object's side has a way in over nothing too tall, fingers across a narrow side."""
    others = [(other.item.size[2], _rectangle(other)) for other in standing if other is not placed]
    return any(_lane_is_free(placed, heading, others) for heading in _headings(placed))


def _headings(placed: Placed) -> list[float]:
    """Directions over the table in which a hand can come to grasp the thing, rad."""
    x, y, _ = placed.position
    side = 1.0 if y >= 0 else -1.0
    straight = math.atan2(y - side * _SHOULDER_Y, x - _SHOULDER_X)
    width, depth, _ = placed.item.size
    if max(width, depth) <= MAX_GRASP_WIDTH:
        return [straight + side * turn for turn in _TURNS]
    along = placed.yaw + (math.pi / 2 if depth > width else 0.0)
    turn = side * math.remainder(along - straight, math.pi)
    return [straight + side * (turn + skew) for skew in _SKEWS if _INWARDS <= turn + skew <= _OUTWARDS]


def _lane_is_free(placed: Placed, heading: float, others: Sequence[tuple[float, _Rectangle]]) -> bool:
    x, y, _ = placed.position
    back_x, back_y = -math.cos(heading), -math.sin(heading)
    half = _LANE_LENGTH / 2
    lane = _Rectangle(x + back_x * half, y + back_y * half, half, _LANE_HALF_WIDTH, back_x, back_y)
    grasp = max(0.03, placed.item.size[2] / 2)
    return not any(
        lane.gap(other) <= 0
        and height > grasp + _LANE_SLOPE * max(0.0, other.nearest(x, y, back_x, back_y)) - _LANE_DROP
        for height, other in others
    )
