"""Distances between bodies and the rows that keep them apart; `proximity.c` does the same, number for number.

All distances are between a capsule's segment and a segment or a box, minus the radii: segment to segment in closed form
(Ericson, "Real-Time Collision Detection", 5.1.9), segment to box by a fixed number of alternating projections between
the two convex sets. With d the distance, s = d - smallest and n the unit normal, the row on the velocity is

    n' (J_first - J_second) v >= -min(gain s / dt, stopping_speed(s, brake))   for s > 0 (velocity damper, Faverjon and
    n' (J_first - J_second) v >=  min(-gain s / dt, retreat)                   otherwise  Tournassoud, 1987)

and a column of n'J is n . (axis x (point - origin)) where the variable turns and n . axis where it slides;
variables that carry both bodies drop out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bytemini_core.types import Array
from numpy.typing import NDArray

from .problem import Problem, Tuning
from .shapes import Box, Capsule
from .viability import stopping_speed

PROJECTIONS = 6
MAX_ITEMS = 32
ITEM = 16  # of an environment item: rotation 9, centre 3, half edges 3, smallest distance 1
TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Tables:
    """The bodies as arrays. Capsules first, then boxes; environment rows come after the pairs, item by item.

    `first`, `second`: (pairs,) body indices. `..._link`: index into the problem's links. `start`, `end`, `radius`: of
    capsules. `rotation`, `centre`, `half`: of boxes. `watched`: (k,) capsules that keep away from the environment.
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    capsule_link: NDArray[np.int32]
    start: Array
    end: Array
    radius: Array
    box_link: NDArray[np.int32]
    rotation: Array
    centre: Array
    half: Array
    watched: NDArray[np.int32]

    @property
    def capsules(self) -> int:
        """How many of the bodies are capsules."""
        return len(self.radius)


def tables_of(problem: Problem) -> Tables:
    """Arrays of the problem's bodies."""
    capsules: list[Capsule] = []
    boxes: list[Box] = []
    for body in (*(b for p in problem.pairs for b in (p.first, p.second)), *problem.watched):
        if isinstance(body, Capsule) and all(body is not known for known in capsules):
            capsules.append(body)
        elif isinstance(body, Box) and all(body is not known for known in boxes):
            boxes.append(body)
    bodies: list[Capsule | Box] = [*capsules, *boxes]
    index = {b.name: i for i, b in enumerate(bodies)}
    links = {name: i for i, name in enumerate(problem.links)}

    def ints(values: list[int]) -> NDArray[np.int32]:
        return np.array(values, dtype=np.int32)

    return Tables(
        first=ints([index[p.first.name] for p in problem.pairs]),
        second=ints([index[p.second.name] for p in problem.pairs]),
        capsule_link=ints([links[c.link] for c in capsules]),
        start=np.array([c.start for c in capsules]).reshape(-1, 3),
        end=np.array([c.end for c in capsules]).reshape(-1, 3),
        radius=np.array([c.radius for c in capsules]),
        box_link=ints([links[b.link] for b in boxes]),
        rotation=np.array([b.rotation for b in boxes]).reshape(-1, 3, 3),
        centre=np.array([b.centre for b in boxes]).reshape(-1, 3),
        half=np.array([b.half for b in boxes]).reshape(-1, 3),
        watched=ints([index[c.name] for c in problem.watched]),
    )


def segment_segment(a0: Array, a1: Array, b0: Array, b1: Array) -> tuple[Array, Array]:
    """Closest points of segments, all (k, 3)."""
    u, v, w = a1 - a0, b1 - b0, a0 - b0
    a, b, c = _dot(u, u) + TINY, _dot(u, v), _dot(v, v) + TINY
    d, e = _dot(u, w), _dot(v, w)
    s = _unit((b * e - c * d) / np.maximum(a * c - b * b, TINY * TINY))
    t = _unit((b * s + e) / c)
    s = _unit((b * t - d) / a)
    return a0 + s[:, None] * u, b0 + t[:, None] * v


def segment_box(a0: Array, a1: Array, rotation: Array, centre: Array, half: Array) -> tuple[Array, Array]:
    """Closest points of segments (k, 3) and boxes (rotation (k, 3, 3), columns their axes), from the middle."""
    start = np.einsum("kji,kj->ki", rotation, a0 - centre)
    along = np.einsum("kji,kj->ki", rotation, a1 - a0)
    scale = along / (_dot(along, along) + TINY)[:, None]
    s = np.full(len(a0), 0.5)
    for _ in range(PROJECTIONS):
        on_box = np.minimum(np.maximum(start + s[:, None] * along, -half), half)
        s = _unit(_dot(on_box - start, scale))
    on_box = np.minimum(np.maximum(start + s[:, None] * along, -half), half)
    return a0 + s[:, None] * (a1 - a0), centre + np.einsum("kij,kj->ki", rotation, on_box)


def _dot(x: Array, y: Array) -> Array:
    product: Array = np.einsum("ki,ki->k", x, y)
    return product


def _unit(x: Array) -> Array:
    return np.minimum(np.maximum(x, 0.0), 1.0)


def least_rate(spare: Array, tuning: Tuning) -> Array:
    """Smallest rate of the distance that a row admits, for the spare distance."""
    gain = tuning.collision_gain / tuning.dt
    closing = np.minimum(gain * spare, stopping_speed(spare, np.full(len(spare), tuning.collision_brake), tuning.dt))
    return np.where(spare > 0.0, -closing, np.minimum(-gain * spare, tuning.retreat))


class Proximity:
    """Distances and rows in numpy."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.tables = t = tables_of(problem)
        self._carries = np.array(problem.carries, dtype=bool).reshape(len(problem.links), len(problem.columns))
        self._turning = np.array(problem.turning)
        boxed = t.second >= t.capsules
        self._to_capsule = np.flatnonzero(~boxed)
        self._to_box = np.flatnonzero(boxed)

    def rows(
        self, axis: Array, origin: Array, placement: Array, smallest: float, environment: Array
    ) -> tuple[Array, Array, Array, NDArray[np.intp]]:
        """Distances of all pairs, and the rows of the near ones.

        Args:
            axis: (N, 3) in odom.
            origin: (N, 3).
            placement: (links, 12) rotation (row-major) and translation.
            smallest: distance that pairs keep (m).
            environment: (items, 16) boxes in odom, each with the distance it asks for.

        Returns:
            distance (pairs + items * watched,), rows R (k, N), least rates (k,) and which of the distances they are of.
        """
        t, problem = self.tables, self.problem
        turn, shift = placement[:, :9].reshape(-1, 3, 3), placement[:, 9:]
        link = t.capsule_link
        start = shift[link] + np.einsum("kij,kj->ki", turn[link], t.start)
        end = shift[link] + np.einsum("kij,kj->ki", turn[link], t.end)
        box_turn = turn[t.box_link] @ t.rotation
        box_centre = shift[t.box_link] + np.einsum("kij,kj->ki", turn[t.box_link], t.centre)
        pairs, watched, items = len(t.first), len(t.watched), len(environment)
        total = pairs + items * watched
        one, two = np.empty((total, 3)), np.empty((total, 3))
        radii, least = np.empty(total), np.full(total, smallest)
        i, a, b = self._to_capsule, t.first[self._to_capsule], t.second[self._to_capsule]
        one[i], two[i] = segment_segment(start[a], end[a], start[b], end[b])
        radii[i] = t.radius[a] + t.radius[b]
        first = np.concatenate((t.first[self._to_box], np.tile(t.watched, items)))
        i = np.concatenate((self._to_box, np.arange(pairs, total)))
        b = t.second[self._to_box] - t.capsules
        which = np.repeat(np.arange(items), watched)
        rotations = np.concatenate((box_turn[b], environment[which, :9].reshape(-1, 3, 3)))
        centres = np.concatenate((box_centre[b], environment[which, 9:12]))
        halves = np.concatenate((t.half[b], environment[which, 12:15]))
        one[i], two[i] = segment_box(start[first], end[first], rotations, centres, halves)
        radii[i] = t.radius[first]
        least[pairs:] = environment[which, 15]

        away = one - two
        length = np.sqrt(_dot(away, away) + TINY * TINY)
        distance = length - radii
        near = np.flatnonzero(distance < least + problem.tuning.watch)
        normal = away[near] / length[near, None]
        mine = np.concatenate((t.first, np.tile(t.watched, items)))[near]
        carried = self._carries[t.capsule_link[mine]]
        other = np.zeros_like(carried)
        inner = near < pairs
        second = t.second[near[inner]]
        links = np.concatenate((t.capsule_link, t.box_link))
        other[inner] = self._carries[links[second]]

        def gradient(points: Array) -> Array:
            turned = np.cross(axis[None], points[:, None] - origin[None])
            return np.einsum("ki,kji->kj", normal, np.where(self._turning[None, :, None], turned, axis[None]))

        R = np.where(carried & ~other, gradient(one[near]), 0.0) - np.where(other & ~carried, gradient(two[near]), 0.0)
        return distance, R, least_rate(distance[near] - least[near], problem.tuning), near


def c_tables(problem: Problem) -> str:
    """The same tables as C arrays, for `proximity.c`."""
    t = tables_of(problem)
    masks = [sum(1 << j for j, moves in enumerate(row) if moves) for row in problem.carries]
    turning = sum(1 << j for j, turns in enumerate(problem.turning) if turns)

    def array(kind: str, name: str, values: object) -> str:
        flat = np.asarray(values).reshape(-1).tolist() or [0]
        return f"static const {kind} {name}[] = {{{', '.join(repr(x) for x in flat)}}};\n"

    tuning = problem.tuning
    defines = {
        "PAIRS": len(t.first),
        "CAPSULES": t.capsules,
        "BOXES": len(t.box_link),
        "WATCHED": len(t.watched),
        "LINKS": len(problem.links),
        "TURNING": f"{turning}u",
        "PROJECTIONS": PROJECTIONS,
        "MAX_ITEMS": MAX_ITEMS,
        "ITEM": ITEM,
        "TINY": TINY,
        "DT": repr(tuning.dt),
        "GAIN": repr(tuning.collision_gain / tuning.dt),
        "BRAKE": repr(tuning.collision_brake),
        "RETREAT": repr(tuning.retreat),
        "WATCH": repr(tuning.watch),
    }
    text = "".join(f"#define {name} {value}\n" for name, value in defines.items())
    for kind, name, values in (
        ("int", "pair_first", t.first),
        ("int", "pair_second", t.second),
        ("int", "capsule_link", t.capsule_link),
        ("double", "capsule_start", t.start),
        ("double", "capsule_end", t.end),
        ("double", "capsule_radius", t.radius),
        ("int", "box_link", t.box_link),
        ("double", "box_rotation", t.rotation),
        ("double", "box_centre", t.centre),
        ("double", "box_half", t.half),
        ("int", "watched", t.watched),
        ("unsigned", "carries", masks),
    ):
        text += array(kind, name, values)
    return text
