"""Distances between bodies and the rows that keep them apart; `proximity.c` does the same, number for number.

All distances are between a capsule's segment and a segment or a box, minus the radii: segment to segment in closed form
(Ericson, "Real-Time Collision Detection", 5.1.9), segment to box by the exact root of a piecewise linear slope.
With d the distance, s = d - smallest and n the unit normal, the row on the velocity is

    n' (J_first - J_second) v >= -min(gain s / dt, stopping_speed(s, brake))   for s > 0 (velocity damper, Faverjon and
    n' (J_first - J_second) v >=  min(-gain s / dt, retreat)                   otherwise  Tournassoud, 1987)

and a column of n'J is n . (axis x (point - origin)) where the variable turns and n . axis where it slides;
variables that carry both bodies drop out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import casadi as ca
import numpy as np
from bytemini_core.types import Array
from numpy.typing import NDArray

from .problem import Problem
from .problem import stopping_speed as sx_stopping_speed
from .shapes import Box, Capsule

MAX_ITEMS = 32
ITEM = 16  # of an environment item: rotation 9, centre 3, half edges 3, smallest distance 1
TINY = 1e-9
PARALLEL = 1e-12  # m: a segment that moves less along an axis of a box is parallel to its faces
STEEP = 1e30
FAR = 1e3  # m


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
    """Closest points of segments (k, 3) and boxes (rotation (k, 3, 3), columns their axes).

    Half the slope of the squared distance along the segment, g(s) = (p(s) - clamp(p(s))) . p', never falls and is
    linear between the s at which a coordinate enters or leaves the box: its root lies on the line between the last of
    these (or an end) with g <= 0 and the first with g >= 0.
    """
    start = np.einsum("kji,kj->ki", rotation, a0 - centre)
    along = np.einsum("kji,kj->ki", rotation, a1 - a0)
    divisor = np.where(np.abs(along) < PARALLEL, PARALLEL, along)
    bends = np.hstack(
        (np.zeros((len(a0), 1)), np.ones((len(a0), 1)), (-half - start) / divisor, (half - start) / divisor)
    )
    low, high = np.zeros(len(a0)), np.ones(len(a0))
    below, above = np.full(len(a0), -STEEP), np.full(len(a0), STEEP)
    for bend in _unit(bends).T:
        point = start + bend[:, None] * along
        g = _dot(point - np.minimum(np.maximum(point, -half), half), along)
        low, below = np.where(g <= 0.0, np.maximum(low, bend), low), np.where(g <= 0.0, np.maximum(below, g), below)
        high, above = np.where(g >= 0.0, np.minimum(high, bend), high), np.where(g >= 0.0, np.minimum(above, g), above)
    s = low - below * (high - low) / np.maximum(above - below, TINY * TINY)
    point = start + s[:, None] * along
    on_box = np.minimum(np.maximum(point, -half), half)
    return a0 + s[:, None] * (a1 - a0), centre + np.einsum("kij,kj->ki", rotation, on_box)


def _dot(x: Array, y: Array) -> Array:
    product: Array = np.einsum("ki,ki->k", x, y)
    return product


def _unit(x: Array) -> Array:
    return np.minimum(np.maximum(x, 0.0), 1.0)


class Proximity:
    """Distances and rows without a compiler: what is needed of each row in CasADi's virtual machine, rows in numpy.

    `distance` (k,): of all pairs, then of all items and watched capsules. `R` (k + more, N), `least` (k + more,): their
    rows and least rates, then room for other rows. `near` (k + more,): whether the bodies are near enough for the row
    to count; true for the others.
    """

    def __init__(self, problem: Problem, axis: Array, origin: Array, placement: Array, more: int = 0) -> None:
        """Read axis (N, 3), origin (N, 3) and placement (links, 12) of the tick from where they are written."""
        self.problem = problem
        self.tables = tables_of(problem)
        self._inputs = (placement, axis, origin)
        self._more = more
        self._carries = np.array(problem.carries, dtype=np.float64).reshape(len(problem.links), len(problem.columns))
        self._smallest = np.zeros(1)
        self._turns, self._moments = np.zeros((3, len(problem.columns))), np.zeros((3, len(problem.columns)))
        self.surround(0.0, np.zeros((0, ITEM)))

    def surround(self, smallest: float, items: Array) -> None:
        """As `solver.TickSolver.surround`."""
        t, pairs = self.tables, len(self.tables.first)
        self._smallest[0] = smallest
        self._items: Array = np.ascontiguousarray(items).reshape(-1)
        around = np.tile(t.watched, len(items))
        total, n = pairs + len(around), len(self.problem.columns)
        self.R, self.least = np.zeros((total + self._more, n)), np.zeros(total + self._more)
        self.near = np.ones(total + self._more, dtype=bool)
        self.distance, self._spare = np.zeros(total), np.zeros(total)
        self._vectors = np.zeros((3 * total, 3))  # p x n of the first bodies, of the second ones, n
        self._parts = np.zeros((3 * total, n))
        self._buffer, self._evaluate = _witnesses(self.problem, len(items)).buffer()
        for i, array in enumerate((*self._inputs, self._smallest, self._items)):
            self._buffer.set_arg(i, memoryview(array.reshape(-1).data))  # type: ignore[call-arg]
        outputs = (self.distance, self._spare, self.least[:total], *np.split(self._vectors, 3))
        for i, result in enumerate((*outputs, self._turns, self._moments)):
            self._buffer.set_res(i, memoryview(result.reshape(-1).data))  # type: ignore[call-arg]
        first = self._carries[t.capsule_link[np.concatenate((t.first, around))]]
        second = np.zeros_like(first)
        second[:pairs] = self._carries[np.concatenate((t.capsule_link, t.box_link))[t.second]]
        # what carries both bodies does not part them
        self._signs = np.concatenate((first * (1.0 - second), second * (first - 1.0), second - first))

    def update(self) -> None:
        """Make distances and rows anew.

        With p a point of a body, n . (axis x (p - origin)) = axis . (p x n) - n . (axis x origin): two products of
        matrices for all rows and variables at once.
        """
        self._evaluate()
        total, parts = len(self.distance), self._parts
        np.less(self._spare, self.problem.tuning.watch, out=self.near[:total])
        np.matmul(self._vectors[: 2 * total], self._turns, out=parts[: 2 * total])
        np.matmul(self._vectors[2 * total :], self._moments, out=parts[2 * total :])
        np.multiply(parts, self._signs, out=parts)
        np.add(parts[:total], parts[total : 2 * total], out=self.R[:total])
        np.add(self.R[:total], parts[2 * total :], out=self.R[:total])


@functools.lru_cache(maxsize=64)
def _witnesses(problem: Problem, items: int) -> ca.Function:
    """What rows are made of, for every pair and watched capsule, matrices row-major.

    (placement, axis, origin, smallest, environment) -> (distance, spare distance, least rate, p x n of the first and of
    the second body (rows, 3), normal n (rows, 3), axes of what turns (3, N), axis x origin or -axis (3, N)).
    """
    t, tuning = tables_of(problem), problem.tuning
    placement = ca.SX.sym("placement", 12 * len(problem.links))
    axis, origin = (ca.SX.sym(name, 3 * len(problem.columns)) for name in ("axis", "origin"))
    smallest, environment = ca.SX.sym("smallest"), ca.SX.sym("environment", ITEM * items)

    def at(link: int) -> tuple[ca.SX, ca.SX]:
        given = placement[12 * link : 12 * link + 12]
        return ca.reshape(given[:9], 3, 3).T, given[9:]

    def ends(capsule: int) -> tuple[ca.SX, ca.SX]:
        rotation, translation = at(int(t.capsule_link[capsule]))
        start, end = (translation + ca.mtimes(rotation, ca.SX(x[capsule])) for x in (t.start, t.end))
        return start, end

    outputs: list[list[ca.SX]] = [[], [], [], [], [], []]

    def add(points: tuple[ca.SX, ca.SX], radii: float, least: ca.SX) -> None:
        away = points[0] - points[1]
        length = ca.sqrt(ca.dot(away, away) + TINY * TINY)
        normal, spare = away / length, length - radii - least
        rate = ca.if_else(
            spare > 0.0,
            -ca.fmin(
                tuning.collision_gain / tuning.dt * spare, sx_stopping_speed(spare, tuning.collision_brake, tuning.dt)
            ),
            ca.fmin(-tuning.collision_gain / tuning.dt * spare, tuning.retreat),
        )
        row = (length - radii, spare, rate, ca.cross(points[0], normal), ca.cross(points[1], normal), normal)
        for column, value in zip(outputs, row, strict=True):
            column.append(value)

    for first, second in zip(t.first, t.second, strict=True):
        if second < t.capsules:
            add(_sx_segments(*ends(first), *ends(second)), float(t.radius[first] + t.radius[second]), smallest)
        else:
            box = second - t.capsules
            rotation, translation = at(int(t.box_link[box]))
            centre = translation + ca.mtimes(rotation, ca.SX(t.centre[box]))
            turned = ca.mtimes(rotation, ca.sparsify(ca.SX(t.rotation[box])))
            add(_sx_box(*ends(first), turned, centre, ca.SX(t.half[box])), float(t.radius[first]), smallest)
    for item in range(items):
        given = environment[ITEM * item : ITEM * (item + 1)]
        rotation = ca.reshape(given[:9], 3, 3).T
        for capsule in t.watched:
            add(_sx_box(*ends(capsule), rotation, given[9:12], given[12:15]), float(t.radius[capsule]), given[15])
    turns, moments = [], []
    for i, turning in enumerate(problem.turning):
        a, o = axis[3 * i : 3 * i + 3], origin[3 * i : 3 * i + 3]
        turns.append(a if turning else ca.SX.zeros(3))
        moments.append(ca.cross(a, o) if turning else -a)
    across = [ca.vec(ca.horzcat(*column).T) for column in (turns, moments)]
    dense = [ca.densify(x) for x in (*(ca.vertcat(*column) for column in outputs), *across)]
    return ca.Function("witnesses", [placement, axis, origin, smallest, environment], dense, {"cse": True})


def nearest_of(problem: Problem) -> ca.Function:
    """Map q (3 + n,) to the smallest distance of all pairs (m), from which `guard` knows whether braking is safe."""
    t = tables_of(problem)
    q = ca.SX.sym("q", problem.variables)
    placement = problem.places(q)
    distances = [ca.SX(FAR)]

    def at(link: int) -> tuple[ca.SX, ca.SX]:
        given = placement[12 * link : 12 * link + 12]
        return ca.reshape(given[:9], 3, 3).T, given[9:]

    def ends(capsule: int) -> tuple[ca.SX, ca.SX]:
        rotation, translation = at(int(t.capsule_link[capsule]))
        start, end = (translation + ca.mtimes(rotation, ca.SX(x[capsule])) for x in (t.start, t.end))
        return start, end

    for first, second in zip(t.first, t.second, strict=True):
        if second < t.capsules:
            points = _sx_segments(*ends(first), *ends(second))
            radii = float(t.radius[first] + t.radius[second])
        else:
            box = second - t.capsules
            rotation, translation = at(int(t.box_link[box]))
            centre = translation + ca.mtimes(rotation, ca.SX(t.centre[box]))
            turned = ca.mtimes(rotation, ca.sparsify(ca.SX(t.rotation[box])))
            points = _sx_box(*ends(first), turned, centre, ca.SX(t.half[box]))
            radii = float(t.radius[first])
        distances.append(ca.norm_2(points[0] - points[1]) - radii)
    return ca.Function("nearest", [q], [ca.mmin(ca.vertcat(*distances))], {"cse": True})


def _sx_segments(a0: ca.SX, a1: ca.SX, b0: ca.SX, b1: ca.SX) -> tuple[ca.SX, ca.SX]:
    """`segment_segment` as an expression."""
    u, v, w = a1 - a0, b1 - b0, a0 - b0
    a, b, c = ca.dot(u, u) + TINY, ca.dot(u, v), ca.dot(v, v) + TINY
    d, e = ca.dot(u, w), ca.dot(v, w)
    s = _sx_unit((b * e - c * d) / ca.fmax(a * c - b * b, TINY * TINY))
    t = _sx_unit((b * s + e) / c)
    s = _sx_unit((b * t - d) / a)
    return a0 + s * u, b0 + t * v


def _sx_box(a0: ca.SX, a1: ca.SX, rotation: ca.SX, centre: ca.SX, half: ca.SX) -> tuple[ca.SX, ca.SX]:
    """`segment_box` as an expression."""
    start, along = ca.mtimes(rotation.T, a0 - centre), ca.mtimes(rotation.T, a1 - a0)
    divisor = ca.if_else(ca.fabs(along) < PARALLEL, PARALLEL, along)
    low, high, below, above = ca.SX(0.0), ca.SX(1.0), ca.SX(-STEEP), ca.SX(STEEP)
    ends = [ca.SX(0.0), ca.SX(1.0)]
    for bend in (*ends, *ca.vertsplit((-half - start) / divisor), *ca.vertsplit((half - start) / divisor)):
        s = _sx_unit(bend)
        point = start + s * along
        g = ca.dot(point - ca.fmin(ca.fmax(point, -half), half), along)
        # of these bends the one does not count: it is moved out of the way, which takes a third of the instructions of
        # a choice
        over, under = STEEP * (g > 0.0), STEEP * (g < 0.0)
        low, below = ca.fmax(low, s - over), ca.fmax(below, g - over)
        high, above = ca.fmin(high, s + under), ca.fmin(above, g + under)
    s = low - below * (high - low) / ca.fmax(above - below, TINY * TINY)
    point = start + s * along
    on_box = ca.fmin(ca.fmax(point, -half), half)
    return a0 + s * (a1 - a0), centre + ca.mtimes(rotation, on_box)


def _sx_unit(x: ca.SX) -> ca.SX:
    return ca.fmin(ca.fmax(x, 0.0), 1.0)


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
        "PARALLEL": PARALLEL,
        "STEEP": STEEP,
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
