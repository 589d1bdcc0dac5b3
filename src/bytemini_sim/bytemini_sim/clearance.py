"""How far the arms are from everything else: spheres against solids, for whole paths in one numpy call.

The robot's collision shapes are read from the URDF and covered with spheres; the scene's objects stay exact boxes,
cylinders, ellipsoids and capsules. A box's edges stand out of its spheres by up to 0.41 of its smallest half edge: 9 mm
on the palm, 2.5 mm on the pads. Planners keep more than that.
"""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from bytemini_core.types import Array, SceneObject

from bytemini_sim.catalogue import Item, Part, kind_of, load_catalogue
from bytemini_sim.ik import Arm, quaternion_matrix, rotation_x, rotation_y, rotation_z

if TYPE_CHECKING:
    from bytemini_description.robot import RobotModel

WALL = 0.008
"""Thickness of the walls and floor (m) of a container that the catalogue does not know."""


@dataclass(frozen=True)
class Solid:
    """A primitive: `kind` "box", "cylinder", "capsule" (both along z) or "ellipsoid"; `half` its half edges (3,)."""

    kind: str
    rotation: Array
    position: Array
    half: Array

    def posed(self, rotation: Array, position: Array) -> Solid:
        """The same solid after its frame is put somewhere."""
        return Solid(self.kind, rotation @ self.rotation, rotation @ self.position + position, self.half)

    def extent(self, direction: Array) -> Array:
        """Edge to edge size (...) along unit vectors (..., 3), m."""
        local = np.abs(direction @ self.rotation)
        if self.kind == "ellipsoid":
            return np.asarray(2 * np.linalg.norm(local * self.half, axis=-1))
        if self.kind == "cylinder":
            across = np.hypot(local[..., 0], local[..., 1])
            return np.asarray(2 * (self.half[0] * across + self.half[2] * local[..., 2]))
        if self.kind == "capsule":
            return np.asarray(2 * (self.half[0] + (self.half[2] - self.half[0]) * local[..., 2]))
        return np.asarray(2 * (local @ self.half))


def parts_of(item: SceneObject) -> tuple[Solid, ...]:
    """What a scene object is to the touch, in its own frame: from the catalogue where it is known, else its box.

    A container is its floor and walls, so that hands may reach in.
    """
    known = _known(item.name)
    if known is not None and np.allclose(known.size, item.size, atol=1e-6):
        return tuple(_solid(part) for part in known.parts if part.solid)
    half = np.asarray(item.size) / 2
    if not item.container:
        kind = {"cylinder": "cylinder", "sphere": "ellipsoid", "ellipsoid": "ellipsoid", "capsule": "capsule"}
        return (Solid(kind.get(item.shape, "box"), np.eye(3), np.zeros(3), half),)
    x, y, z = half
    walls = [((0, 0, WALL / 2 - z), (x, y, WALL / 2))]
    for sign in (-1, 1):
        walls.append(((sign * (x - WALL / 2), 0, 0), (WALL / 2, y, z)))
        walls.append(((0, sign * (y - WALL / 2), 0), (x, WALL / 2, z)))
    return tuple(Solid("box", np.eye(3), np.array(c, dtype=float), np.array(h, dtype=float)) for c, h in walls)


@dataclass(frozen=True)
class Inside:
    """A container's free space: `size` (3,) its edge lengths (diameter where `round`), `floor` above its underside.

    All in metres.
    """

    size: Array
    floor: float
    round: bool

    def spots(self, margin: float) -> Array:
        """Places (9, 2) in the container's frame to put something: its middle first, then `margin` from the walls."""
        half = self.size[:2] / 2 * (np.sqrt(0.5) if self.round else 1.0)
        x, y = np.maximum(half - margin, 0.0)
        return np.array([(a, b) for a in (0.0, -x, x) for b in (0.0, -y, y)])

    def holds(self, point: Array) -> bool:
        """Whether a point (3,) of the container's frame is between its walls."""
        half = self.size[:2] / 2
        return bool(np.hypot(*point[:2]) <= half[0]) if self.round else bool((np.abs(point[:2]) <= half).all())


def inside_of(container: SceneObject) -> Inside:
    """The free space of a container: from the catalogue where it is known, else guessed from its box."""
    known = _known(container.name)
    if known is not None and known.container and np.allclose(known.size, container.size, atol=1e-6):
        return Inside(np.array(known.inner), known.floor, known.round)
    return Inside(np.asarray(container.size) - [2 * WALL, 2 * WALL, WALL], WALL, False)


def solids_of(item: SceneObject) -> list[Solid]:
    """A scene object's parts where it is now."""
    rotation, position = quaternion_matrix(item.pose[3:]), np.asarray(item.pose[:3])
    return [part.posed(rotation, position) for part in parts_of(item)]


@cache
def _known(name: str) -> Item | None:
    catalogue = load_catalogue()
    return next((item for item in catalogue.objects + catalogue.containers if item.name == kind_of(name)), None)


def _solid(part: Part) -> Solid:
    w, x, y, z = part.quaternion
    a, b, c = part.size
    kind, half = {
        "sphere": ("ellipsoid", (a, a, a)),
        "cylinder": ("cylinder", (a, a, b)),
        "capsule": ("capsule", (a, a, a + b)),
    }.get(part.shape, (part.shape, (a, b, c)))
    return Solid(kind, quaternion_matrix(np.array([x, y, z, w])), np.array(part.position), np.array(half))


class Solids:
    """Many solids at once."""

    def __init__(self, solids: Iterable[Solid]) -> None:
        solids = list(solids)
        self._groups: list[tuple[str, Array, Array, Array, Array]] = []
        for kind in sorted({solid.kind for solid in solids}):
            group = [solid for solid in solids if solid.kind == kind]
            half = np.stack([solid.half for solid in group])
            self._groups.append(
                (
                    kind,
                    np.stack([solid.rotation for solid in group]),
                    np.stack([solid.position for solid in group]),
                    half,
                    np.linalg.norm(half, axis=1),
                )
            )

    def distance(self, points: Array, within: float = np.inf) -> Array:
        """Signed distance (...) from points (..., 3) to the nearest surface; +inf without solids.

        Args:
            points: (..., 3), m.
            within: what is further away than this (m) is of no interest and may be said to be +inf: much less work.
        """
        flat = points.reshape(-1, 3)
        nearest = np.full(len(flat), np.inf)
        squares = np.einsum("ni,ni->n", flat, flat)
        for kind, rotation, position, half, bound in self._groups:
            apart = squares - 2.0 * (position @ flat.T) + np.einsum("mi,mi->m", position, position)[:, None]
            solid, point = np.nonzero(apart < (within + bound[:, None]) ** 2)
            if not len(solid):
                continue
            local = np.abs(np.einsum("kji,kj->ki", rotation[solid], flat[point] - position[solid]))
            np.minimum.at(nearest, point, _distance(kind, local, half[solid]))
        return nearest.reshape(points.shape[:-1])


def _distance(kind: str, local: Array, half: Array) -> Array:
    if kind == "ellipsoid":
        # First-order distance: exact for spheres, within millimetres for the mild ellipsoids of a table.
        scaled = np.linalg.norm(local / half, axis=-1)
        gradient = np.maximum(np.linalg.norm(local / half**2, axis=-1), 1e-9)
        return np.asarray(np.where(scaled > 1e-6, scaled * (scaled - 1.0) / gradient, -half.min(axis=-1)))
    if kind == "capsule":
        radius = half[..., 0]
        along = np.maximum(local[..., 2] - (half[..., 2] - radius), 0.0)
        return np.asarray(np.sqrt(local[..., 0] ** 2 + local[..., 1] ** 2 + along**2) - radius)
    if kind == "cylinder":
        excess = np.stack(
            [np.hypot(local[..., 0], local[..., 1]) - half[..., 0], local[..., 2] - half[..., 2]], axis=-1
        )
    else:
        excess = local - half
    outside = np.linalg.norm(np.maximum(excess, 0.0), axis=-1)
    return np.asarray(outside + np.minimum(excess.max(axis=-1), 0.0))


@dataclass(frozen=True)
class Spheres:
    """Spheres that ride on a frame of an arm: `offset` (n, 3), `radius` (n,), `finger` (n,) in {-1, 0, 1}.

    `finger` is the direction along the hand's y in which a sphere moves as the gripper opens.
    """

    offset: Array
    radius: Array
    finger: Array


def carried(item: SceneObject, offset: Array, rotation: Array) -> Spheres:
    """Spheres that cover an object held with its frame at `offset` (3,), turned by `rotation`, in the tcp frame."""
    covers = [cover(part.posed(rotation, offset)) for part in parts_of(item)]
    return Spheres(
        np.concatenate([centres for centres, _ in covers]),
        np.concatenate([np.full(len(centres), radius) for centres, radius in covers]),
        np.zeros(sum(len(centres) for centres, _ in covers)),
    )


def cover_box(half: Array) -> tuple[Array, float]:
    """Centres (n, 3) and radius of spheres that cover a box, about its centre."""
    half = np.asarray(half, dtype=np.float64)
    radius = float(half.min())
    counts = np.ceil(2 * (half - radius) / (1.4 * radius)).astype(int) + 1
    axes = [
        np.linspace(-(h - radius), h - radius, n) if n > 1 else np.zeros(1) for h, n in zip(half, counts, strict=True)
    ]
    return np.array(list(itertools.product(*axes))), radius


def _rpy(text: str) -> Array:
    roll, pitch, yaw = (np.float64(v) for v in text.split())
    return np.asarray(rotation_z(yaw) @ rotation_y(pitch) @ rotation_x(roll))


def _numbers(text: str) -> Array:
    return np.array(text.split(), dtype=np.float64)


def _collisions(link: ET.Element) -> list[Solid]:
    solids = []
    for element in link.findall("collision"):
        origin, geometry = element.find("origin"), element.find("geometry")
        attributes = origin.attrib if origin is not None else {}
        rotation, position = _rpy(attributes.get("rpy", "0 0 0")), _numbers(attributes.get("xyz", "0 0 0"))
        shape = geometry[0] if geometry is not None else None
        if shape is None or shape.tag not in ("box", "cylinder", "sphere"):
            raise ValueError(f"a collision of {link.attrib['name']} is not a box, cylinder or sphere")
        if shape.tag == "box":
            solids.append(Solid("box", rotation, position, _numbers(shape.attrib["size"]) / 2))
        elif shape.tag == "cylinder":
            radius, length = float(shape.attrib["radius"]), float(shape.attrib["length"])
            solids.append(Solid("cylinder", rotation, position, np.array([radius, radius, length / 2])))
        else:
            solids.append(Solid("ellipsoid", rotation, position, np.full(3, float(shape.attrib["radius"]))))
    return solids


def cover(solid: Solid) -> tuple[Array, float]:
    """Centres (n, 3), in the frame the solid is posed in, and radius of spheres that cover it."""
    if solid.kind in ("cylinder", "capsule"):
        radius, half = solid.half[0], solid.half[2]
        if half <= 0.6 * radius:  # a disc: a plate of smaller spheres
            centres, radius = cover_box(np.array([0.75 * radius, 0.75 * radius, half]))
        else:
            reach = max(half - radius, 0.0)
            centres = np.zeros((int(np.ceil(2 * reach / (0.6 * radius))) + 1, 3))
            centres[:, 2] = np.linspace(-reach, reach, len(centres)) if len(centres) > 1 else 0.0
    elif solid.kind == "ellipsoid":
        radius, centres = float(solid.half.max()), np.zeros((1, 3))
    else:
        centres, radius = cover_box(solid.half)
    return centres @ solid.rotation.T + solid.position, float(radius)


class BodyModel:
    """The robot's own shapes: spheres on each arm, solids of the trunk.

    Attributes:
        arms: side to frame ("upper", "fore", "hand") to its spheres.
        trunk: (solid, whether it rides on the lift) in base_footprint with the lift at 0.
    """

    def __init__(self, robot: RobotModel) -> None:
        """Read collision shapes from the URDF.

        Raises:
            ValueError: a collision shape is not a primitive, or a link hangs on a joint this model does not know.
        """
        root = ET.fromstring(robot.urdf)
        self._joints = {joint.find("child").attrib["link"]: joint for joint in root.findall("joint")}  # type: ignore[union-attr]
        self.arms: dict[str, dict[str, Spheres]] = {}
        self.trunk: list[tuple[Solid, bool]] = []
        collected: dict[str, dict[str, list[tuple[Array, float, int]]]] = {}
        for link in root.findall("link"):
            name = link.attrib["name"]
            side = next((side for side in ("left", "right") if name.startswith(side)), None)
            for solid in _collisions(link):
                if side is None:
                    self._add_trunk(name, solid)
                    continue
                frame, offset, finger = self._frame(side, name)
                if frame is not None:
                    centres, radius = cover(solid)
                    entry = collected.setdefault(side, {}).setdefault(frame, [])
                    entry.extend((centre + offset, radius, finger) for centre in centres)
        for side, frames in collected.items():
            self.arms[side] = {
                frame: Spheres(
                    np.array([entry[0] for entry in entries]),
                    np.array([entry[1] for entry in entries]),
                    np.array([entry[2] for entry in entries], dtype=np.float64),
                )
                for frame, entries in frames.items()
            }

    def _add_trunk(self, link: str, solid: Solid) -> None:
        rotation, position, lifted = solid.rotation, solid.position, False
        while link in self._joints:
            joint = self._joints[link]
            origin = joint.find("origin")
            attributes = origin.attrib if origin is not None else {}
            turn = _rpy(attributes.get("rpy", "0 0 0"))
            rotation, position = turn @ rotation, turn @ position + _numbers(attributes.get("xyz", "0 0 0"))
            lifted = lifted or joint.attrib["name"] == "lift_joint"
            link = joint.find("parent").attrib["link"]  # type: ignore[union-attr]
        self.trunk.append((Solid(solid.kind, rotation, position, solid.half), lifted))

    def _frame(self, side: str, link: str) -> tuple[str | None, Array, int]:
        """The arm frame that carries a link, the link's offset in it (posture 0) and its finger direction."""
        offset, finger = np.zeros(3), 0
        while True:
            joint = self._joints[link]
            name = joint.attrib["name"].removeprefix(f"{side}_").removesuffix("_joint")
            origin = joint.find("origin")
            xyz = _numbers(origin.attrib.get("xyz", "0 0 0")) if origin is not None else np.zeros(3)
            if name in ("wrist_roll", "wrist_pitch"):
                return "hand", offset, finger
            if name == "wrist_yaw":
                return "fore", offset + xyz, finger
            if name == "elbow":
                return "fore", offset, finger
            if name == "shoulder_yaw":
                return "upper", offset + xyz, finger
            if name in ("shoulder_roll", "shoulder_pitch"):
                return None, offset, finger  # never leaves the trunk
            if joint.attrib["type"] == "prismatic":
                finger = int(np.sign(_numbers(joint.find("axis").attrib["xyz"])[1]))  # type: ignore[union-attr]
            offset = offset + xyz
            link = joint.find("parent").attrib["link"]  # type: ignore[union-attr]

    def trunk_solids(self, lift: float) -> Solids:
        """The trunk in base_footprint with the lift at a position (m)."""
        rise = np.array([0.0, 0.0, lift])
        return Solids(
            Solid(solid.kind, solid.rotation, solid.position + rise * lifted, solid.half)
            for solid, lifted in self.trunk
        )

    def spheres(self, arm: Arm, q: Array, opening: Array, lift: float) -> dict[str, tuple[Array, Array]]:
        """Sphere centres (..., n, 3) in base_footprint and radii (n,) per frame, of postures (..., 7).

        Args:
            arm: the arm's kinematics.
            q: (..., 7) joint angles (rad).
            opening: (...) gripper joint (m).
            lift: the lift's position (m).
        """
        frames = arm.forward(q, lift)
        placed = {}
        for name, spheres in self.arms[arm.side].items():
            rotation, position = frames[name]
            offset = np.broadcast_to(spheres.offset, (*q.shape[:-1], *spheres.offset.shape)).copy()
            offset[..., 1] += spheres.finger * np.asarray(opening)[..., None]
            placed[name] = (offset @ np.swapaxes(rotation, -1, -2) + position[..., None, :], spheres.radius)
        return placed
