"""Forward kinematics and geometric Jacobians as CasADi expressions, straight from the tree of a URDF.

Variables: q = (base x, y, yaw in odom, then the actuated joints in a given order); their rates are the base twist
(vx, vy, wz in base axes) and the joint rates. Columns of a Jacobian (Siciliano, "Robotics", 3.1): a x (p - o) and a for
a revolute joint with axis a through o, a and 0 for a prismatic one. adam-robotics is not used: its prismatic Jacobian
raises (0.5.0), and the chain built here has a third of the operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import casadi as ca
import numpy as np

from .tree import REVOLUTE, Joint, Tree

BASE = 3


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a link is: rotation (3, 3) and translation (3,) in odom, both `casadi.SX`."""

    rotation: ca.SX
    translation: ca.SX

    def point(self, local: np.ndarray | ca.SX | ca.DM) -> ca.SX:
        """A point of the link in odom."""
        return self.translation + ca.mtimes(self.rotation, ca.SX(local))


class Graph:
    """Expressions of one robot over `q`, a (3 + n,) symbol.

    Joints that are neither in `joints` nor mimic one of them stand at zero.
    """

    def __init__(self, tree: Tree, joints: Sequence[str]) -> None:
        """Raises ValueError: a joint that the URDF does not have or that does not move."""
        self.tree = tree
        self.joints = tuple(joints)
        for name in self.joints:
            if name not in tree.joints:
                raise ValueError(f"the URDF has no joint {name}")
            if tree.joints[name].kind not in (*REVOLUTE, "prismatic"):
                raise ValueError(f"joint {name} is {tree.joints[name].kind}, expected revolute or prismatic")
        self.q = ca.SX.sym("q", BASE + len(self.joints))
        self._column = {name: BASE + i for i, name in enumerate(self.joints)}
        yaw = self.q[2]
        cos, sin = ca.cos(yaw), ca.sin(yaw)
        base = ca.SX(3, 3)  # structural zeros stay zeros
        base[0, 0], base[0, 1], base[1, 0], base[1, 1], base[2, 2] = cos, -sin, sin, cos, 1.0
        self.base = Placement(base, ca.vertcat(self.q[0], self.q[1], 0))
        self._placements = {tree.root: self.base}
        self._axes: dict[str, tuple[ca.SX, ca.SX]] = {}

    def column(self, joint: Joint) -> int | None:
        """Which variable moves `joint`; None for one that stands."""
        return self._column.get(joint.mimic or joint.name)

    def placement(self, link: str) -> Placement:
        """Pose of a link in odom."""
        if link not in self._placements:
            self.tree.chain(link)  # says which link is unknown
            joint = self.tree.above[link]
            parent = self.placement(joint.parent)
            rotation = ca.mtimes(parent.rotation, ca.sparsify(ca.SX(joint.rotation)))
            translation = parent.point(joint.translation)
            column = self.column(joint)
            if joint.kind != "fixed" and column is not None:
                value = joint.multiplier * self.q[column] + joint.offset
                axis = ca.mtimes(rotation, ca.sparsify(ca.SX(joint.axis)))
                self._axes[joint.name] = (axis, translation)
                if joint.kind in REVOLUTE:
                    rotation = ca.mtimes(rotation, rotation_about(joint.axis, value))
                else:
                    translation = translation + axis * value
            self._placements[link] = Placement(ca.densify(rotation), ca.densify(translation))
        return self._placements[link]

    def columns(self, link: str) -> list[int]:
        """Variables of the joints between the base and `link`."""
        found = (self.column(joint) for joint in self.tree.chain(link) if joint.kind != "fixed")
        return [column for column in found if column is not None]

    def screw(self, joint: Joint) -> tuple[ca.SX, ca.SX]:
        """Axis of a moving joint and a point on it, in odom."""
        self.placement(joint.child)
        return self._axes[joint.name]

    def jacobian(self, link: str, point: ca.SX, columns: Sequence[int] | None = None) -> tuple[ca.SX, ca.SX]:
        """Linear and angular Jacobian (3, 3 + n) of a point (odom) fixed to `link`, in odom axes.

        `columns` keeps only those; the others are zero.
        """
        n = self.q.numel()
        linear, angular = ca.SX(3, n), ca.SX(3, n)
        wanted = set(range(n)) if columns is None else set(columns)
        if 0 in wanted:
            linear[:, 0] = self.base.rotation[:, 0]
        if 1 in wanted:
            linear[:, 1] = self.base.rotation[:, 1]
        if 2 in wanted:
            arm = point - self.base.translation
            linear[0, 2], linear[1, 2] = -arm[1], arm[0]
            angular[2, 2] = 1.0
        self.placement(link)
        for joint in self.tree.chain(link):
            column = self.column(joint)
            if joint.name not in self._axes or column is None or column not in wanted:
                continue
            axis, origin = self._axes[joint.name]
            axis = axis * joint.multiplier
            if joint.kind in REVOLUTE:
                linear[:, column] += ca.cross(axis, point - origin)
                angular[:, column] += axis
            else:
                linear[:, column] += axis
        return linear, angular


def rotation_about(axis: np.ndarray, angle: ca.SX) -> ca.SX:
    """Rodrigues' formula R = I + sin K + (1 - cos) K^2 for a constant unit axis, with structural zeros."""
    k = np.array(((0.0, -axis[2], axis[1]), (axis[2], 0.0, -axis[0]), (-axis[1], axis[0], 0.0)))
    kk = k @ k
    kk[np.abs(kk) < 1e-15] = 0.0
    sin, cos = ca.sin(angle), ca.cos(angle)
    outer = np.eye(3) + kk  # a a', so that the entry of a main axis is exactly 1 - 1 cos + cos
    outer[np.abs(outer) < 1e-15] = 0.0
    return ca.sparsify(ca.SX(outer)) - cos * ca.sparsify(ca.SX(kk)) + sin * ca.sparsify(ca.SX(k))
