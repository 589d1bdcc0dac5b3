"""Plans of the scripted expert: which arm, which grasp, where the base stands, and the paths in between.

Everything is searched in batches: all grasps x all elbow swivels are solved in closed form, sorted by cost, and checked
for clearance a handful at a time until one passes. Paths near the object and the container are straight lines of the
hand; the longer ways are straight lines too where those are free, else joint-space moves, else over a raised posture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from bytemini_core.types import SIDES, Array, SceneObject, SceneState
from numpy.typing import NDArray

from bytemini_sim.clearance import BodyModel, Solid, Solids, Spheres, carried, inside_of, parts_of, solids_of
from bytemini_sim.grasp import Grasps, candidates, hand_rotation
from bytemini_sim.ik import Arm, from_rotation_vector, quaternion_matrix, rotation_vector, rotation_z

if TYPE_CHECKING:
    from bytemini_description.robot import RobotModel

STANDOFF = 0.11
"""How far before the grasp the straight approach starts (m)."""
RETREAT = 0.10
"""How far the hand backs out after letting go (m)."""
LIFTS = (0.16, 0.13, 0.105)
"""How high an object is carried (m above where it stood), best first."""
SWIVELS = np.linspace(-0.5, 1.7, 12)
HEADINGS = np.radians(np.arange(-75.0, 76.0, 15.0))

CLEAR_NEAR = 0.004
"""Kept from the table and from the object taken while the open hand passes around it (m)."""
CLEAR = 0.010
"""Kept from everything else near the grasp and the release (m)."""
CLEAR_GOOD = 0.020
"""Better kept there: room for tracking errors and for what the spheres do not cover (m)."""
CLEAR_FREE = 0.025
"""Kept from everything on the longer ways (m)."""
CLEAR_SELF = 0.06
"""Kept from the trunk and the resting arm: further than where the controller would begin to intervene (m)."""
FAR = 0.15
"""What is further from a sphere's centre (m) is not looked at: more than is kept anywhere, and the largest radius."""
FAR_HAND = 0.06
"""The same of the hand's spheres, which are smaller (m)."""
HELD_SLACK = 0.014
"""What the sphere model of a held object is too large by, near enough (m)."""

GRASPS = 160
"""How many grasps are looked at closely, unless none of them is free."""
TIGHT = 12
"""How many grasps in tight places are collected at one place to stand before the next is tried."""
STANDS = 6
"""How many places to stand are looked at closely."""
PLACES = 50
"""How many ways to put a held object down are looked at closely."""
BASE_LOWER = np.array([-0.28, -0.24, -0.70])
BASE_UPPER = np.array([0.04, 0.24, 0.70])
"""Where the expert may park the base: x, y, yaw (m, rad) in the scene, which is laid out for 0; clear of the table."""
SPOTS = 9
"""At how many spots of a container ways to put something down are looked for at once."""
DEEP = 0.20
"""What is deeper (m) is filled from its rim."""
ROOMY = 0.14
"""An object has room where nothing else is nearer than this (m, centre to centre)."""
ASIDE = 0.40
"""What lies further to a side (m) is served from places to stand that are shifted towards it."""


def _grid(*counts: int) -> Array:
    axes = (np.linspace(low, high, n) for low, high, n in zip(BASE_LOWER, BASE_UPPER, counts, strict=True))
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=-1)


_STANDS = (_grid(5, 5, 5), _grid(8, 9, 9))
_COARSE = SWIVELS[::2]


def _shifted(grid: Array, y: float) -> Array:
    """Places to stand (n, 3) for something at y (m): the usual ones unless it lies far aside."""
    if abs(y) <= ASIDE:
        return grid
    return np.asarray(grid + np.array([0.0, y - np.copysign(0.20, y), 0.0]))


@dataclass(frozen=True)
class Held:
    """An object in a hand: its centre `offset` (3,) and rotation (3, 3) in the tcp frame."""

    item: SceneObject
    offset: Array
    rotation: Array

    @staticmethod
    def measure(item: SceneObject, rotation: Array, tcp: Array) -> Held:
        """How an object lies in a hand at a pose."""
        return Held(item, rotation.T @ (np.asarray(item.pose[:3]) - tcp), rotation.T @ quaternion_matrix(item.pose[3:]))


@dataclass(frozen=True)
class Pick:
    """A feasible grasp: arm paths (n, 7), the base pose (3,) it is made from, and what it holds.

    `key` names its family of similar grasps; `gap` is the least distance from other things on the way in and out (m).
    """

    side: str
    base: Array
    rotation: Array
    tcp: Array
    width: float
    opening: float
    approach: Array
    descend: Array
    lift: Array
    held: Held
    key: tuple[int, int]
    gap: float


@dataclass(frozen=True)
class Place:
    """A feasible way to put a held object down: arm paths (n, 7), with the base moving along `base` (n, 3) first."""

    base: Array
    transfer: Array
    lower: Array
    opening: float
    retreat: Array
    home: Array


@dataclass(frozen=True)
class Drops:
    """Ways to let an object go in a container: hand `rotation` (n, 3, 3), `tcp` and, clear of the rim, `above` (n, 3).

    `cost` (n,): 0 best. `central` (n,): over the container's middle. `level` (n,): 0 at its floor, 2 over its rim.
    `spot` (n,): number of the spot it is over.
    """

    rotation: Array
    tcp: Array
    above: Array
    cost: Array
    central: NDArray[np.bool_]
    level: NDArray[np.int_]
    spot: NDArray[np.int_]


@dataclass(frozen=True)
class Room:
    """What is in the way: `solids`, the table's height `floor` (m) and the lift's position (m)."""

    solids: Solids
    floor: float
    lift: float


@dataclass(frozen=True)
class Ground:
    """What a thing stands on: a surface's `height` (m), and the container whose floor it is, "" for the table."""

    height: float
    container: str = ""

    def above(self, item: SceneObject) -> list[Solid]:
        """A scene object's parts, less the floor that is this ground: kept from as from a table, not as from a wall."""
        solids = solids_of(item)
        if item.name != self.container:
            return solids
        return [solid for solid in solids if solid.position[2] > self.height]


@dataclass(frozen=True)
class Mover:
    """What moves: an arm, its gripper joint (m), and what it holds, in the tcp frame."""

    side: str
    opening: float
    held: Spheres | None = None


class Planner:
    """Plans for one robot. Nothing of a scene is kept between calls."""

    def __init__(self, robot: RobotModel, rest: Mapping[str, Array] | None = None) -> None:
        """`rest`: side to the posture (7,) of an arm that has nothing to do; at home if not given."""
        self.robot = robot
        self.body = BodyModel(robot)
        self.arms = {side: Arm(robot, side, margin=0.03, tilt_margin=0.03) for side in SIDES}
        self.rest = rest or {side: robot.home[robot.indices(robot.arm_joints(side))] for side in SIDES}
        self.open = {side: float(robot.home[robot.indices([robot.gripper_joint(side)])[0]]) for side in SIDES}
        self._still: dict[tuple[str, float], tuple[Solids, tuple[Array, Array]]] = {}

    # -- picking ------------------------------------------------------------------------------------------------------

    def picks(
        self,
        scene: SceneState,
        target: SceneObject,
        arms: dict[str, Array],
        base: Array,
        lift: float,
        avoid: frozenset[tuple[int, int]],
    ) -> Iterator[Pick]:
        """Feasible grasps of an object, best first: those from where the base stands before those that need a drive.

        Args:
            scene: ground truth.
            target: the object to take.
            arms: side to present joint angles (7,).
            base: present base pose (3,).
            lift: present position of the lift (m).
            avoid: keys of grasps that failed before.
        """
        ground = ground_of(scene, target)
        for ends in (False, True):  # by an end only what is not to be had by its middle
            found = False
            for pick in self._picks(scene, target, arms, base, lift, avoid, ground, ends):
                found = True
                yield pick
            if found:
                return

    def _picks(
        self,
        scene: SceneState,
        target: SceneObject,
        arms: dict[str, Array],
        base: Array,
        lift: float,
        avoid: frozenset[tuple[int, int]],
        ground: Ground,
        ends: bool,
    ) -> Iterator[Pick]:
        grasps, openings = self._graspable(scene, target, float(base[2]), ground, ends)
        if not len(grasps):
            return
        around = room_of(scene, target.name, lift, ground)
        everything = room_of(scene, None, lift)
        best = np.argsort(grasps.cost, kind="stable")[:30]
        ways = self._via(grasps)
        for usual in _STANDS:
            grid = _shifted(usual, float(target.pose[1]))
            found, tight = False, []
            aims = (grasps.rotation[best], ways[best], grasps.cost[best])
            for stand in self._stands(grid, base, *aims, SIDES, everything):
                for side, swivel, index, q in self._reachable(grasps, stand, arms, lift):
                    key = _key(grasps, index, target)
                    if key in avoid:
                        continue
                    mover = Mover(side, float(openings[index]))
                    pick = self._pick(mover, grasps.take(index), swivel, stand, q, target, around, key)
                    if pick is None:
                        continue
                    approach = self.way(
                        Mover(side, self.open[side]), arms[side], pick.descend[0], base, stand, everything
                    )
                    if approach is None:
                        continue
                    found = True
                    if pick.gap >= CLEAR_GOOD:
                        yield replace(pick, approach=approach)
                    else:
                        tight.append(replace(pick, approach=approach))
                        if len(tight) % TIGHT == 0:
                            break
            yield from sorted(tight, key=lambda pick: -pick.gap)
            if found:  # the caller wants others only if none of these will do
                return

    def _graspable(
        self, scene: SceneState, target: SceneObject, ahead: float, ground: Ground, ends: bool
    ) -> tuple[Grasps, Array]:
        """Grasps whose way in is free for the hand, and how far (n,) it is open (m): fully, where there is room."""
        grasps = candidates(target, ahead, ground.height, ends=ends)
        order = np.argsort(grasps.cost, kind="stable")
        # The better half first: the others are looked at only where none of them is free.
        for part in (order[:GRASPS], order[GRASPS:]):
            free, openings = self._unobstructed(grasps.take(part), scene, target, ground)
            if len(free):
                break
        return free, openings

    def _unobstructed(
        self, grasps: Grasps, scene: SceneState, target: SceneObject, ground: Ground
    ) -> tuple[Grasps, Array]:
        itself = Solids(solids_of(target))
        near = [item for item in scene.objects if item.name != target.name and _gap(item, target) < 0.20]
        solids = Solids(solid for item in near for solid in ground.above(item))
        hand, length = self.body.arms["left"]["hand"], self.arms["left"].hand_length
        openings, gap = np.zeros(len(grasps)), np.zeros(len(grasps))
        narrow = np.minimum(grasps.width / 2 + 0.009, self.open["left"])
        wide = np.full(len(grasps), self.open["left"])

        def spheres(opening: Array) -> Array:
            offset = np.broadcast_to(
                hand.offset + np.array([0.0, 0.0, length]), (len(grasps), *hand.offset.shape)
            ).copy()
            offset[..., 1] += hand.finger * opening[:, None]
            return np.asarray(grasps.tcp[:, None] + offset @ np.swapaxes(grasps.rotation, -1, -2))

        # Pads that meet another part before the one they are meant for would slip off it.
        nearly = spheres(grasps.width / 2 + 0.006)
        meant = (itself.distance(nearly, FAR_HAND) - hand.radius).min(axis=1) >= 0.0045
        for opening in (narrow, wide):
            points = spheres(opening)
            left, room = np.flatnonzero(meant), np.full(len(grasps), np.inf)
            for back in np.linspace(0.0, STANDOFF, 6):  # the whole way in: a mug's handle is no obstacle at its end
                shifted = points[left] - back * grasps.approach[left, None]
                free = (itself.distance(shifted, FAR_HAND) - hand.radius).min(axis=1) >= CLEAR_NEAR * 0.75
                left, shifted = left[free], shifted[free]
                room[left] = np.minimum(room[left], (solids.distance(shifted, FAR_HAND) - hand.radius).min(axis=1))
                left = left[room[left] >= CLEAR]
            # Wide open where that leaves as much room as it takes, or no less than with the fingers half closed.
            better = left[(room[left] >= CLEAR_GOOD) | (openings[left] == 0.0) | (room[left] >= gap[left])]
            openings[better], gap[better] = opening[better], room[better]
        keep = openings > 0
        crowded = np.maximum(CLEAR_GOOD - gap[keep], 0.0)
        free = grasps.take(keep)
        return replace(free, cost=free.cost + 60.0 * crowded), openings[keep]

    @staticmethod
    def _via(grasps: Grasps) -> Array:
        """Where the tcp has to get (n, 3, 3): before the grasp, at it, lifted."""
        before = grasps.tcp - STANDOFF * grasps.approach
        return np.stack([before, grasps.tcp, grasps.tcp + np.array([0.0, 0.0, LIFTS[-1]])], axis=1)

    def _stands(
        self, grid: Array, base: Array, rotation: Array, ways: Array, cost: Array, sides: Sequence[str], room: Room
    ) -> list[Array]:
        """The best base poses (3,) from which a tcp can take one of some ways (n, k, 3), each with its cost (n,)."""
        stands = np.concatenate([base[None], grid])
        drive = 2.0 * np.linalg.norm(stands[:, :2] - base[:2], axis=1) + 0.9 * np.abs(stands[:, 2] - base[2])
        drive[1:] += 0.25
        total = np.full(len(stands), np.inf)
        for side in sides:
            arm = self.arms[side]
            effort = np.zeros((len(stands), len(rotation), len(_COARSE)))
            for point in range(ways.shape[1]):
                R, p = to_base(rotation[None], ways[None, :, point], stands[:, None])
                q, valid = arm.inverse(R[:, :, None], p[:, :, None], _COARSE, room.lift)
                effort[~valid] = np.inf
                effort[valid] = np.maximum(effort[valid], self.effort(arm, q[valid]))
                effort += self._crowding(arm, R, p, room.lift)[:, :, None]
            total = np.minimum(total, (effort.min(axis=2) + cost).min(axis=1))
        total += drive
        best: list[Array] = []
        for i in np.argsort(total, kind="stable"):
            if not np.isfinite(total[i]) or len(best) == STANDS:
                break
            if self._parked(np.linspace(base, stands[i], 5)[1:], room) >= CLEAR:
                best.append(stands[i])
        return best

    def _parked(self, bases: Array, room: Room) -> float:
        """The least distance (m) from solids of both arms at rest, their elbows above all, at base poses (n, 3)."""
        gap = np.inf
        for side in SIDES:
            _, (points, radius) = self._own(side, round(room.lift, 3))
            placed = to_scene(np.broadcast_to(points, (len(bases), *points.shape)), bases)
            gap = min(gap, float((room.solids.distance(placed, FAR) - radius).min()))
        return gap

    def _reachable(
        self, grasps: Grasps, base: Array, arms: dict[str, Array], lift: float
    ) -> list[tuple[str, float, int, Array]]:
        """(side, swivel, index, grasp posture) of grasps that the arms reach from a base pose, cheapest first."""
        found: list[tuple[float, str, float, int, Array]] = []
        points = self._via(grasps)
        for side in SIDES:
            arm = self.arms[side]
            rotation, position = to_base(grasps.rotation[:, None], points, base)
            q, valid = arm.inverse(rotation[:, :, None], position[:, :, None], SWIVELS, lift)
            index, swivel = np.nonzero(valid.all(axis=1))
            if not len(index):
                continue
            posture = q[index, 1, swivel]
            cost = grasps.cost[index] + self.effort(arm, q[index, :, swivel]).max(axis=1)
            cost += 0.08 * np.abs(q[index, 0, swivel] - arms[side]).sum(axis=1)
            # The arm on the object's own side has the better view and leaves the middle free.
            cost += 1.0 * np.maximum((-1.0 if side == "left" else 1.0) * position[index, 1, 1], 0.0)
            for i in _best_per_group(cost, index, 2)[:60]:
                found.append((float(cost[i]), side, float(SWIVELS[swivel[i]]), int(index[i]), posture[i]))
        found.sort(key=lambda entry: entry[0])
        return [entry[1:] for entry in found[:48]]

    def effort(self, arm: Arm, q: Array) -> Array:
        """A cost (...) of postures (..., 7): near limits, near the wrist's disc, elbow far from its natural swing."""
        span = arm.upper - arm.lower
        near = np.minimum(q - arm.lower, arm.upper - q) / span
        tilt = np.hypot(q[..., 5], q[..., 6]) / arm.tilt
        return np.asarray(
            0.5 * (np.maximum(0.12 - near, 0.0) / 0.12).sum(axis=-1)
            + 0.6 * tilt**4
            + 0.4 * np.abs(arm.swivel(q) - 0.35)
            + 1.5 * np.maximum(0.35 - q[..., 3], 0.0)
        )

    def _crowding(self, arm: Arm, rotation: Array, position: Array, lift: float) -> Array:
        """A cost (...) of hands (..., 3, 3), (..., 3) in base_footprint near the resting hand; inf where they touch.

        A quick look at both hands' axes, before the whole arms are compared.
        """
        other = self.arms[_other(arm.side)]
        hand, tcp = other.forward(self.rest[other.side], lift)["tcp"]
        s = np.array([0.0, 0.5, 1.0])[:, None]
        resting = tcp + s * other.hand_length * hand[:, 2]
        moving = position[..., None, :] + s * arm.hand_length * rotation[..., None, :, 2]
        gap = np.linalg.norm(moving[..., :, None, :] - resting, axis=-1).min(axis=(-1, -2))
        return np.asarray(np.where(gap < 0.13, np.inf, 6.0 * np.maximum(0.22 - gap, 0.0)))

    def _pick(
        self,
        mover: Mover,
        grasp: Grasps,
        swivel: float,
        base: Array,
        q: Array,
        target: SceneObject,
        room: Room,
        key: tuple[int, int],
    ) -> Pick | None:
        """One grasp made from a base pose, without the way there; None if the arm does not get in or out."""
        rotation, tcp, width = grasp.rotation, grasp.tcp, float(grasp.width)
        side, opening, lift = mover.side, mover.opening, room.lift
        along = np.linspace(1.0, 0.0, 10)[:, None]
        descend = self.line(side, rotation, tcp - STANDOFF * along * grasp.approach, base, swivel, lift, q)
        if descend is None:
            return None
        # The hand was checked before; now the arm behind it.
        pair = np.stack([base, base])
        gap = self._clearance(mover, descend[[0, 4, -1]], np.stack([base] * 3), room)
        if gap < CLEAR:
            return None
        up = None
        for height in LIFTS:
            rise = np.linspace(0.0, height, 9)[:, None] * [0.0, 0.0, 1.0]
            path = self.line(side, rotation, tcp + rise, base, swivel, lift, descend[-1])
            risen = -np.inf if path is None else self._clearance(Mover(side, width / 2), path[[4, 8]], pair, room)
            if risen >= CLEAR:
                up, gap = path, min(gap, risen)
                break
        if up is None:
            return None
        held = Held.measure(target, rotation, tcp)
        return Pick(side, base, rotation, tcp, width, opening, descend[:1], descend, up, held, key, gap)

    # -- placing ------------------------------------------------------------------------------------------------------

    def place(
        self,
        scene: SceneState,
        container: SceneObject,
        held: Held,
        side: str,
        arm_posture: Array,
        base: Array,
        lift: float,
        opening: float,
    ) -> Place | None:
        """How to put a held object into a container, from a posture high enough to carry it there; None if nowhere.

        Args:
            scene: ground truth.
            container: where to.
            held: the object and how it lies in the hand.
            side: the arm that holds it.
            arm_posture: its joint angles (7,).
            base: base pose (3,).
            lift: position of the lift (m).
            opening: the gripper joint (m) as it holds the object.
        """
        room = room_of(scene, held.item.name, lift)
        mover = Mover(side, opening, carried(held.item, held.offset, held.rotation))
        grid = _shifted(_STANDS[0], float(container.pose[1]))
        spots, price = self._spots(scene, container, held)
        tries = 0
        for part in range(0, len(spots), SPOTS):
            some = slice(part, part + SPOTS)
            drops = self._drops(container, held, side, arm_posture, base, lift, spots[some], price[some])
            ways = np.stack([drops.tcp, drops.above], axis=1)
            for aims in self._aims(drops):
                stands = self._stands(grid, base, drops.rotation[aims], ways[aims], drops.cost[aims], (side,), room)
                for stand in stands:
                    for index, swivel, q in self._droppable(drops, side, stand, arm_posture, lift):
                        tries += 1
                        if tries > PLACES:
                            return None
                        found = self._place(mover, drops, index, swivel, q, arm_posture, base, stand, room)
                        if found is not None:
                            return found
                if stands:
                    break
        return None

    @staticmethod
    def _aims(drops: Drops) -> Iterator[NDArray[np.intp]]:
        """Drops for which a place to stand is looked for: the best over the middle; if it cannot be reached, of all."""
        middle = np.flatnonzero(drops.central)
        yield middle[np.argsort(drops.cost[middle], kind="stable")[:40]]
        yield np.array(_best_per_group(drops.cost, drops.spot, 5))

    def _drops(
        self,
        container: SceneObject,
        held: Held,
        side: str,
        start: Array,
        base: Array,
        lift: float,
        spots: Array,
        price: Array,
    ) -> Drops:
        """Ways to hold an object over and in a container at some spots (n, 2) and their price, reachable or not."""
        frame, middle = quaternion_matrix(container.pose[3:]), np.asarray(container.pose[:3])
        inside = inside_of(container)
        rim = middle[2] + container.size[2] / 2
        bottom = middle[2] - container.size[2] / 2 + inside.floor
        now = self.arms[side].forward(start, lift)["tcp"][0]
        pitch = np.arcsin(np.clip(now[2, 2], -1, 1))
        elevations = np.clip(pitch + np.radians([-16.0, -8.0, 0.0, 8.0, 16.0]), np.radians(20), np.radians(75))
        # Into what is deeper than a hand is long things are dropped from its rim.
        levels = np.arange(3) if rim - bottom <= DEEP else np.array([2])
        h, e, spot, level = (
            grid.ravel()
            for grid in np.meshgrid(base[2] + HEADINGS, elevations, np.arange(len(spots)), levels, indexing="ij")
        )
        R = hand_rotation(h, e)
        hang = below(held, R)
        # The object is let go just above the floor; half-way down or over the rim where the hand finds no room inside.
        heights = np.array([bottom + 0.012, (bottom + rim) / 2, rim + 0.008])
        centre = middle + np.concatenate([spots[spot] @ frame[:2, :2].T, np.zeros((len(spot), 1))], axis=1)
        centre[:, 2] = heights[level] + hang
        tcp = centre - (R @ held.offset[:, None])[..., 0]
        above = tcp.copy()
        above[:, 2] += np.maximum(rim + 0.030 + hang - centre[:, 2], 0.0)
        cost = 0.8 * level + price[spot] + 1.0 * np.abs(e - pitch)
        return Drops(R, tcp, above, cost, price[spot] <= price.min() + 0.1, level, spot)

    @staticmethod
    def _spots(scene: SceneState, container: SceneObject, held: Held) -> tuple[Array, Array]:
        """Places (n, 2) in a container's frame to put something, and what each costs (n,): its middle while empty.

        Where things lie in it already, the places with the most room around them first.
        """
        inside, frame = inside_of(container), quaternion_matrix(container.pose[3:])
        others = [
            local[:2]
            for item in scene.objects
            if not item.container and item.name != held.item.name
            for local in [frame.T @ (item.pose[:3] - container.pose[:3])]
            if inside.holds(local) and local[2] < container.size[2] / 2 + 0.05
        ]
        if not others or inside.size[2] > DEEP:
            spots = inside.spots(0.07)
            return spots, 8.0 * np.linalg.norm(spots, axis=1)
        half = np.maximum(inside.size[:2] / 2 * (np.sqrt(0.5) if inside.round else 1.0) - 0.055, 0.0)
        grid = np.stack(np.meshgrid(*(np.linspace(-h, h, 6) for h in half), indexing="ij"), axis=-1).reshape(-1, 2)
        room = np.linalg.norm(grid[:, None] - np.array(others), axis=-1).min(axis=1)
        best = np.argsort(-np.minimum(room, ROOMY), kind="stable")[: 3 * SPOTS]
        return grid[best], 12.0 * np.maximum(ROOMY - room[best], 0.0)

    def _droppable(
        self, drops: Drops, side: str, base: Array, start: Array, lift: float
    ) -> list[tuple[int, float, Array]]:
        """(index, swivel, posture at release) of the ways that the arm reaches from a base pose, cheapest first."""
        arm = self.arms[side]
        rotation, points = to_base(drops.rotation[:, None], np.stack([drops.tcp, drops.above], axis=1), base)
        q, valid = arm.inverse(rotation[:, :, None], points[:, :, None], _COARSE, lift)
        crowding = self._crowding(arm, rotation, points, lift).max(axis=1)
        index, swivel = np.nonzero(valid.all(axis=1) & np.isfinite(crowding)[:, None])
        if not len(index):
            return []
        posture = q[index, 0, swivel]
        cost = drops.cost[index] + crowding[index] + self.effort(arm, q[index, :, swivel]).max(axis=1)
        cost += 0.15 * np.abs(posture - start).sum(axis=1)
        single = np.array(_best_per_group(cost, index, 1))
        # Some of every level: what is impossible at the floor may work from above.
        order = single[_best_per_group(cost[single], drops.level[index[single]], 7)]
        return [(int(index[i]), float(_COARSE[swivel[i]]), posture[i]) for i in order]

    def _place(
        self,
        mover: Mover,
        drops: Drops,
        index: int,
        swivel: float,
        q: Array,
        start: Array,
        base: Array,
        stand: Array,
        room: Room,
    ) -> Place | None:
        """One way to put an object down, with the way there and back; None if any of it is blocked."""
        side = mover.side
        rotation, drop, above = drops.rotation[index], drops.tcp[index], drops.above[index]
        span = np.linspace(0.0, 1.0, 8)[:, None]
        lower = self.line(side, rotation, above + span * (drop - above), stand, swivel, room.lift, None)
        if lower is None or np.abs(lower[-1] - q).max() > 1e-6:
            return None
        stands = np.broadcast_to(stand, (len(lower), 3))
        if self._clearance(mover, lower, stands, room) < CLEAR:
            return None
        empty = Mover(side, min(mover.opening + 0.016, self.open[side]))
        up = np.array([0.0, 0.0, 1.0])
        back = rotation[:, 2]  # away from the fingertips
        for direction in (back, up, (back + up) / np.linalg.norm(back + up)):
            retreat = self.line(side, rotation, drop + RETREAT * span * direction, stand, swivel, room.lift, q)
            # The pads have just been inside, they may pass the walls closely on the way out.
            if retreat is not None and self._clearance(empty, retreat, stands, room) >= 0.6 * CLEAR:
                break
        else:
            return None
        home = self.way(Mover(side, self.open[side]), retreat[-1], self.rest[side], stand, stand, room)
        transfer = self.way(mover, start, lower[0], base, stand, room) if home is not None else None
        if home is None or transfer is None:
            return None
        return Place(np.linspace(base, stand, len(transfer)), transfer, lower, empty.opening, retreat, home)

    def back_off(self, side: str, q: Array, base: Array, lift: float) -> Array:
        """A path (n, 7) that backs a hand out and up as far as it can, from a posture (7,)."""
        rotation, tcp = self.arms[side].forward(q, lift)["tcp"]
        c, s = np.cos(base[2]), np.sin(base[2])
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        rotation, tcp = turn @ rotation, turn @ tcp + [base[0], base[1], 0.0]
        swivel = float(self.arms[side].swivel(q))
        out = rotation[:, 2] + np.array([0.0, 0.0, 0.5])
        for length in (0.12, 0.08, 0.04):
            points = tcp + np.linspace(0.0, length, 8)[:, None] * out / np.linalg.norm(out)
            path = self.line(side, rotation, points, base, swivel, lift, q)
            if path is not None:
                return path
        return np.stack([q, q])

    # -- paths --------------------------------------------------------------------------------------------------------

    def line(
        self, side: str, rotation: Array, points: Array, base: Array, swivel: float, lift: float, near: Array | None
    ) -> Array | None:
        """Joint path (n, 7) of a hand that keeps its rotation along points (n, 3) in the scene; None if it breaks."""
        R, p = to_base(rotation[None], points, base)
        q, valid = self.arms[side].inverse(R, p, np.full(len(points), swivel), lift)
        if not valid.all() or np.abs(np.diff(q, axis=0)).max() > 0.35:
            return None
        if near is not None and np.minimum(np.abs(q[0] - near).max(), np.abs(q[-1] - near).max()) > 0.1:
            return None
        return q

    def way(self, mover: Mover, start: Array, goal: Array, base: Array, stand: Array, room: Room) -> Array | None:
        """A free joint path (n, 7) from one posture to another while the base drives from `base` to `stand`."""
        best, gap = None, CLEAR
        bases = np.linspace(base, stand, 16)
        for path in self._ways(mover.side, start, goal, bases, room.lift, sweep=mover.held is not None):
            if not self.arms[mover.side].within(path[1:-1]).all():
                continue
            # Both ends were chosen for less clearance than a free way keeps: they are not held against it.
            bends = np.linspace(base, stand, len(path))
            found = self._clearance(mover, path[2:-2], bends[2:-2], room)
            if found >= gap:  # worth a closer look
                found = min(found, self._clearance(mover, _dense(path[1:-1]), _dense(bends[1:-1]), room))
            if found >= CLEAR_FREE:
                return path
            if found >= gap:
                best, gap = path, found
        return best

    def _ways(self, side: str, start: Array, goal: Array, bases: Array, lift: float, sweep: bool) -> Iterator[Array]:
        """Paths (n, 7) worth a look, the straightest first."""
        if sweep:
            straight = self._sweep(side, start, goal, bases, lift)
            if straight is not None:
                yield straight
        yield start + np.linspace(0.0, 1.0, len(bases))[:, None] * (goal - start)
        yield from self._over(side, start, goal, len(bases), lift)

    def _sweep(self, side: str, start: Array, goal: Array, bases: Array, lift: float) -> Array | None:
        """The path (n, 7) whose hand goes straight and turns evenly in the scene, None if it leaves the arm's reach."""
        arm = self.arms[side]
        ends = arm.forward(np.stack([start, goal]), lift)["tcp"]
        turn = rotation_z(bases[[0, -1], 2])
        R0, R1 = turn @ ends[0]
        p = (turn @ ends[1][..., None])[..., 0]
        p[:, :2] += bases[[0, -1], :2]
        s = np.linspace(0.0, 1.0, len(bases))
        axis = rotation_vector(R0.T @ R1)
        rotation = R0 @ from_rotation_vector(s[:, None] * axis)
        swivels = arm.swivel(np.stack([start, goal]))
        local_R, local_p = to_base(rotation, p[0] + s[:, None] * (p[1] - p[0]), bases)
        q, valid = arm.inverse(local_R, local_p, swivels[0] + s * (swivels[1] - swivels[0]), lift)
        q[0], q[-1] = start, goal
        return q if valid[1:-1].all() and np.abs(np.diff(q, axis=0)).max() < 0.5 else None

    def _over(self, side: str, start: Array, goal: Array, n: int, lift: float) -> Iterator[Array]:
        """Joint paths (2 n, 7) over a raised posture: smooth curves through a via point."""
        arm = self.arms[side]
        s = np.linspace(0.0, 1.0, 2 * n)[:, None]
        for anchor in (goal, start, 0.5 * (start + goal)):
            rotation, point = arm.forward(anchor, lift)["tcp"]
            swivels = arm.swivel(anchor) + np.array([0.0, 0.3, -0.3])
            for rise in (0.08, 0.16):
                q, valid = arm.inverse(rotation, point + np.array([-0.03, 0.0, rise]), swivels, lift)
                for via in q[valid][:1]:
                    # The quadratic curve that passes the via point half-way.
                    yield start + s * (goal - start) + 4 * s * (1 - s) * (via - 0.5 * (start + goal))

    # -- clearance ----------------------------------------------------------------------------------------------------

    def _clearance(self, mover: Mover, q: Array, bases: Array, room: Room) -> float:
        """The least distance (m) of postures (n, 7) at base poses (n, 3) from solids; -inf near table or robot."""
        side, lift = mover.side, room.lift
        placed = self.body.spheres(self.arms[side], q, np.full(len(q), mover.opening), lift)
        local = np.concatenate([points for points, _ in placed.values()], axis=1)
        radius = np.concatenate([radius for _, radius in placed.values()])
        trunk, rest = self._own(_other(side), round(lift, 3))
        if (trunk.distance(local, FAR) - radius).min() < CLEAR_SELF:
            return -np.inf
        if (_apart(local, rest[0]) - radius[:, None] - rest[1]).min() < CLEAR_SELF:
            return -np.inf
        if mover.held is not None:
            hand, tcp = self.arms[side].forward(q, lift)["tcp"]
            local = np.concatenate([local, mover.held.offset @ np.swapaxes(hand, -1, -2) + tcp[:, None]], axis=1)
            # Its spheres bulge over its faces, and it is about to touch the container anyway.
            radius = np.concatenate([radius, mover.held.radius - HELD_SLACK])
        points = to_scene(local, bases)
        if (points[..., 2] - radius).min() < room.floor + CLEAR_NEAR:
            return -np.inf
        return float((room.solids.distance(points, FAR) - radius).min())

    def _own(self, side: str, lift: float) -> tuple[Solids, tuple[Array, Array]]:
        """What of the robot does not move: the trunk's solids, and spheres (n, 3), (n,) of an arm at rest."""
        if (side, lift) not in self._still:
            placed = self.body.spheres(self.arms[side], self.rest[side], np.array(self.open[side]), lift)
            points = np.concatenate([points for points, _ in placed.values()])
            radius = np.concatenate([radius for _, radius in placed.values()])
            self._still[side, lift] = self.body.trunk_solids(lift), (points, radius)
        return self._still[side, lift]


def to_base(rotation: Array, position: Array, base: Array) -> tuple[Array, Array]:
    """Poses (..., 3, 3), (..., 3) of the scene as seen from base poses (..., 3), broadcast."""
    turn = rotation_z(-base[..., 2])
    shift = np.concatenate([base[..., :2], np.zeros((*base.shape[:-1], 1))], axis=-1)
    return turn @ rotation, (turn @ (position - shift)[..., None])[..., 0]


def to_scene(points: Array, bases: Array) -> Array:
    """Points (n, k, 3) in base_footprint, one base pose (n, 3) for each row, in the scene."""
    turned = points @ np.swapaxes(rotation_z(bases[:, 2]), -1, -2)
    turned[..., :2] += bases[:, None, :2]
    return np.asarray(turned)


def _apart(points: Array, others: Array) -> Array:
    """Distances (..., n, m) between points (..., n, 3) and others (m, 3)."""
    squares = np.einsum("...i,...i->...", points, points)[..., None] + np.einsum("mi,mi->m", others, others)
    return np.asarray(np.sqrt(np.maximum(squares - 2.0 * (points @ others.T), 0.0)))


def with_knots(path: Array, n: int) -> Array:
    """A path (m, columns) on n knots, even in progress."""
    if len(path) == n:
        return path
    at = np.linspace(0.0, len(path) - 1.0, n)
    return np.stack([np.interp(at, np.arange(len(path)), column) for column in path.T], axis=-1)


def _dense(path: Array) -> Array:
    """A path (n, columns) with three more knots between any two."""
    return with_knots(path, 4 * (len(path) - 1) + 1)


def below(held: Held, rotation: Array) -> Array:
    """How far (...) the lowest point of a held object is below its centre for hands (..., 3, 3), m."""
    up = rotation[..., 2, :]  # the scene's up in the tcp frame
    parts = [part.posed(held.rotation, np.zeros(3)) for part in parts_of(held.item)]
    return np.asarray(np.max([part.extent(up) / 2 - up @ part.position for part in parts], axis=0))


def ground_of(scene: SceneState, item: SceneObject) -> Ground:
    """What an object stands on: the floor of the container that it is in, else the table."""
    for container in scene.objects:
        inside = inside_of(container) if container.container else None
        local = quaternion_matrix(container.pose[3:]).T @ (item.pose[:3] - container.pose[:3])
        if inside is not None and inside.holds(local) and abs(local[2]) < container.size[2]:
            return Ground(float(container.pose[2] - container.size[2] / 2 + inside.floor), container.name)
    return Ground(scene.table_height)


def room_of(scene: SceneState, without: str | None, lift: float, ground: Ground | None = None) -> Room:
    """What is in the way in a scene, less one thing by name, with the lift at a position (m), over a ground."""
    ground = ground or Ground(scene.table_height)
    others = (item for item in scene.objects if item.name != without)
    return Room(Solids(solid for item in others for solid in ground.above(item)), ground.height, lift)


def _gap(first: SceneObject, second: SceneObject) -> float:
    """A lower bound of the distance between two objects (m)."""
    reach = (np.linalg.norm(first.size) + np.linalg.norm(second.size)) / 2
    return float(np.linalg.norm(first.pose[:3] - second.pose[:3]) - reach)


def _key(grasps: Grasps, index: int, target: SceneObject) -> tuple[int, int]:
    """Names a family of similar grasps: heading relative to the object and elevation, coarsely."""
    approach = quaternion_matrix(target.pose[3:]).T @ grasps.approach[index]
    return round(float(np.arctan2(approach[1], approach[0])) / 0.3), round(float(approach[2]) / 0.2)


def _best_per_group(cost: Array, group: NDArray[np.intp], most: int) -> list[int]:
    """Indices in the order of cost, no more than `most` of each group."""
    taken: dict[int, int] = {}
    best = []
    for i in np.argsort(cost, kind="stable"):
        count = taken.get(int(group[i]), 0)
        if count < most:
            taken[int(group[i])] = count + 1
            best.append(int(i))
    return best


def _other(side: str) -> str:
    return "right" if side == "left" else "left"
