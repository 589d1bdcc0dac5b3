"""A URDF as a tree of frames: what the symbolic kinematics are built from. Any robot's, not only ByteMini's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

import numpy as np
from bytemini_core.types import Array

REVOLUTE = ("revolute", "continuous")


@dataclass(frozen=True, slots=True)
class Shape:
    """A collision primitive in its link's frame. `size`: full edges of a box, (radius, length) or (radius,)."""

    kind: Literal["box", "cylinder", "sphere"]
    size: tuple[float, ...]
    rotation: Array
    translation: Array


@dataclass(frozen=True, slots=True)
class Link:
    """A rigid body: mass (kg), centre of mass (m, in its frame) and collision primitives."""

    name: str
    mass: float
    centre: Array
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Joint:
    """How `child` sits on `parent`: rotation (3, 3) and translation (3,) at zero, axis (3,) in the child's frame.

    `damping`, `friction`: viscous and dry (N s/m, N or Nm s, Nm). `limit`: lowest and highest position and largest
    speed, None where the URDF has none.
    """

    name: str
    kind: str
    parent: str
    child: str
    rotation: Array
    translation: Array
    axis: Array
    mimic: str | None = None
    multiplier: float = 1.0
    offset: float = 0.0
    damping: float = 0.0
    friction: float = 0.0
    limit: tuple[float, float, float] | None = None


def rotation_rpy(roll: float, pitch: float, yaw: float) -> Array:
    """Rotation matrix of URDF's roll, pitch, yaw (fixed axes x, y, z); quarter turns come out exact."""
    (cr, cp, cy), (sr, sp, sy) = np.cos((roll, pitch, yaw)), np.sin((roll, pitch, yaw))
    matrix = np.array(
        (
            (cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr),
            (sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr),
            (-sp, cp * sr, cp * cr),
        )
    )
    exact: Array = np.where(np.abs(matrix - np.round(matrix)) < 1e-15, np.round(matrix), matrix)
    return exact


def _numbers(text: str | None, default: tuple[float, ...]) -> Array:
    return np.array([float(word) for word in text.split()]) if text else np.array(default)


def _origin(node: ElementTree.Element) -> tuple[Array, Array]:
    origin = node.find("origin")
    if origin is None:
        return np.eye(3), np.zeros(3)
    rpy = _numbers(origin.get("rpy"), (0.0, 0.0, 0.0))
    return rotation_rpy(*rpy), _numbers(origin.get("xyz"), (0.0, 0.0, 0.0))


def _shape(node: ElementTree.Element) -> Shape | None:
    rotation, translation = _origin(node)
    geometry = node.find("geometry")
    for primitive in geometry if geometry is not None else ():
        if primitive.tag == "box":
            return Shape("box", tuple(_numbers(primitive.get("size"), ())), rotation, translation)
        if primitive.tag == "cylinder":
            size = (float(primitive.attrib["radius"]), float(primitive.attrib["length"]))
            return Shape("cylinder", size, rotation, translation)
        if primitive.tag == "sphere":
            return Shape("sphere", (float(primitive.attrib["radius"]),), rotation, translation)
    return None  # a mesh: collision rows need primitives


class Tree:
    """Links and joints of a URDF by name, and the joint above each link.

    Raises:
        ValueError: an inertia that no body can have, or links that are not one tree, with the name.
    """

    def __init__(self, urdf: str) -> None:
        root = ElementTree.fromstring(urdf)
        self.links = {link.name: link for link in map(_link, root.findall("link"))}
        self.joints = {joint.name: joint for joint in map(_joint, root.findall("joint"))}
        self.above = {joint.child: joint for joint in self.joints.values()}
        roots = [name for name in self.links if name not in self.above]
        if len(roots) != 1:
            raise ValueError(f"the URDF has {len(roots)} root links ({', '.join(roots)}), expected one tree")
        self.root = roots[0]

    def chain(self, link: str) -> list[Joint]:
        """Joints from the root to `link`.

        Raises:
            ValueError: the URDF has no such link.
        """
        if link not in self.links:
            raise ValueError(f"the URDF has no frame {link}, expected one of {', '.join(sorted(self.links))}")
        joints: list[Joint] = []
        while link != self.root:
            joints.append(self.above[link])
            link = joints[-1].parent
        return joints[::-1]


def limits_of(tree: Tree, joints: Sequence[str]) -> tuple[Array, Array, Array]:
    """Lowest and highest positions and largest speeds (n,) of joints, as the URDF says.

    Raises:
        ValueError: a joint that the URDF does not have, or whose limits it does not, by name.
    """
    found = []
    for name in joints:
        if name not in tree.joints:
            raise ValueError(f"the URDF has no joint {name}")
        limit = tree.joints[name].limit
        if limit is None or not (limit[0] < limit[1] and 0.0 < limit[2] < math.inf):
            raise ValueError(
                f"joint {name} has limits {limit} (lower, upper, velocity), expected a range and a speed: a joint "
                "without them cannot be kept within them"
            )
        found.append(limit)
    lower, upper, velocity = np.array(found).T
    return lower, upper, velocity


def _link(node: ElementTree.Element) -> Link:
    name = node.get("name", "")
    shapes = tuple(shape for shape in map(_shape, node.findall("collision")) if shape)
    inertial = node.find("inertial")
    if inertial is None:
        return Link(name, 0.0, np.zeros(3), shapes)
    mass_node, inertia = inertial.find("mass"), inertial.find("inertia")
    mass = float(mass_node.attrib["value"]) if mass_node is not None else 0.0
    if inertia is not None:
        xx, xy, xz, yy, yz, zz = (float(inertia.get(key, 0.0)) for key in ("ixx", "ixy", "ixz", "iyy", "iyz", "izz"))
        least = float(np.linalg.eigvalsh(np.array(((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))))[0])
        if not (np.isfinite(least) and least >= -1e-12 and mass >= 0.0):
            raise ValueError(
                f"link {name} has mass {mass} and an inertia whose least eigenvalue is {least:.3g}, "
                "expected none below 0"
            )
    return Link(name, mass, _origin(inertial)[1], shapes)


def _limit(node: ElementTree.Element) -> tuple[float, float, float] | None:
    limit = node.find("limit")
    if limit is None:
        return None
    endless = math.inf if node.get("type") == "continuous" else 0.0  # URDF: a range that is not written is 0
    lower, upper = float(limit.get("lower", -endless)), float(limit.get("upper", endless))
    return lower, upper, float(limit.get("velocity", 0.0))


def _joint(node: ElementTree.Element) -> Joint:
    rotation, translation = _origin(node)
    axis_node, mimic, dynamics = node.find("axis"), node.find("mimic"), node.find("dynamics")
    axis = _numbers(axis_node.get("xyz") if axis_node is not None else None, (1.0, 0.0, 0.0))
    parent, child = node.find("parent"), node.find("child")
    if parent is None or child is None:
        raise ValueError(f"joint {node.get('name')} lacks its parent or child")
    return Joint(
        name=node.get("name", ""),
        kind=node.get("type", ""),
        parent=parent.attrib["link"],
        child=child.attrib["link"],
        rotation=rotation,
        translation=translation,
        axis=axis / np.linalg.norm(axis),
        mimic=mimic.get("joint") if mimic is not None else None,
        multiplier=float(mimic.get("multiplier", 1.0)) if mimic is not None else 1.0,
        offset=float(mimic.get("offset", 0.0)) if mimic is not None else 0.0,
        damping=float(dynamics.get("damping", 0.0)) if dynamics is not None else 0.0,
        friction=float(dynamics.get("friction", 0.0)) if dynamics is not None else 0.0,
        limit=_limit(node),
    )
