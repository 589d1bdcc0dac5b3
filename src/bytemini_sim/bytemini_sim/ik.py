"""Closed-form kinematics of ByteMini's arms for many postures at once, no iteration and no physics engine.

The arms are S-R-S (GR-3 report, section 4; ROBOT.md): shoulder and ByteWrist axes each meet in one point, so a hand
pose and one number, the *swivel* of the elbow about the line from shoulder to wrist, give the seven joints exactly.
Planning then needs no damped least squares and no seeds: all swivels of all candidate grasps are solved in one numpy
call, and a path with a continuous pose and swivel is continuous in the joints.

Lengths, axes and limits are read from the URDF. The right arm is solved as the mirror image of the left: equal joint
values give mirrored poses (ROBOT.md, kinematic tree).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import numpy as np
from bytemini_core.types import Array
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from bytemini_description.robot import RobotModel

ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_yaw", "wrist_pitch", "wrist_roll")

_MIRROR = np.diag([1.0, -1.0, 1.0])


def rotation_x(angle: ArrayLike) -> Array:
    """Rotations about x, (..., 3, 3), of angles (...) in radians."""
    return _rotation(angle, 1, 2)


def rotation_y(angle: ArrayLike) -> Array:
    """Rotations about y, (..., 3, 3), of angles (...) in radians."""
    return _rotation(angle, 2, 0)


def rotation_z(angle: ArrayLike) -> Array:
    """Rotations about z, (..., 3, 3), of angles (...) in radians."""
    return _rotation(angle, 0, 1)


def _rotation(angle: ArrayLike, i: int, j: int) -> Array:
    angle = np.asarray(angle, dtype=np.float64)
    R = np.zeros((*angle.shape, 3, 3))
    k = 3 - i - j
    R[..., k, k] = 1.0
    R[..., i, i] = R[..., j, j] = np.cos(angle)
    R[..., j, i] = np.sin(angle)
    R[..., i, j] = -R[..., j, i]
    return R


def quaternion_matrix(quaternion: Array) -> Array:
    """The rotation matrix (3, 3) of a quaternion (x, y, z, w)."""
    x, y, z, w = np.asarray(quaternion, dtype=np.float64) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def rotation_vector(R: Array) -> Array:
    """The rotation vector (3,) of a rotation matrix (3, 3), angle in [0, pi)."""
    angle = np.arccos(np.clip((np.trace(R) - 1.0) / 2.0, -1.0, 1.0))
    axis = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    return np.asarray(0.5 * axis / max(np.sinc(angle / np.pi), 1e-9))


def from_rotation_vector(vector: Array) -> Array:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3)."""
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(np.asarray(vector), -1, 0)
    zero = np.zeros_like(x)
    K = np.stack([np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2)
    half = np.sinc(angle / (2 * np.pi))
    return np.asarray(np.eye(3) + np.sinc(angle / np.pi) * K + 0.5 * half**2 * (K @ K))


def _numbers(text: str) -> Array:
    return np.array(text.split(), dtype=np.float64)


class _Chain:
    """Origins and axes of a URDF, and nothing else of it."""

    def __init__(self, urdf: str) -> None:
        self.joints = {joint.attrib["name"]: joint for joint in ET.fromstring(urdf).findall("joint")}
        self._parent_joint = {joint.find("child").attrib["link"]: name for name, joint in self.joints.items()}  # type: ignore[union-attr]

    def origin(self, joint: str) -> Array:
        """The joint's origin in its parent link (3,), metres; refuses a rotated one."""
        element = self.joints[joint].find("origin")
        if element is None:
            return np.zeros(3)
        if np.abs(_numbers(element.attrib.get("rpy", "0 0 0"))).max() > 1e-9:
            raise ValueError(f"{joint} has a rotated origin; the closed-form arm expects rpy 0 (ROBOT.md)")
        return _numbers(element.attrib.get("xyz", "0 0 0"))

    def axis(self, joint: str) -> Array:
        return _numbers(self.joints[joint].find("axis").attrib["xyz"])  # type: ignore[union-attr]

    def above(self, joint: str) -> str | None:
        """The joint that carries the parent link of `joint`, None at the root."""
        return self._parent_joint.get(self.joints[joint].find("parent").attrib["link"])  # type: ignore[union-attr]


class Arm:
    """One arm in the frame of base_footprint.

    Attributes:
        side: "left" or "right".
        lower, upper: (7,) joint limits (rad).
        shoulder: (3,) where the shoulder axes meet with the lift at 0 (m).
        upper_length, fore_length, hand_length: shoulder to elbow, elbow to wrist, wrist to tcp (m).
    """

    def __init__(self, robot: RobotModel, side: str, margin: float = 0.0, tilt_margin: float = 0.0) -> None:
        """Read the arm from the robot's URDF.

        Args:
            robot: the robot model.
            side: "left" or "right".
            margin: kept from every joint limit (rad).
            tilt_margin: kept from the wrist's disc (rad).

        Raises:
            ValueError: the URDF's arm is not the S-R-S arm this solution is for.
        """
        self.side = side
        chain = _Chain(robot.urdf)
        names = [f"{side}_{name}_joint" for name in ARM]
        indices = robot.indices(names)
        self.lower = robot.lower[indices] + margin
        self.upper = robot.upper[indices] - margin
        self.tilt = robot.wrist_tilt_limit - tilt_margin
        s = 1.0 if side == "left" else -1.0
        axes = ((0, -1, 0), (s, 0, 0), (0, 0, -s), (0, -1, 0), (0, 0, -s), (0, -1, 0), (s, 0, 0))
        for name, axis in zip(names, axes, strict=True):
            if np.abs(chain.axis(name) - axis).max() > 1e-9:
                raise ValueError(
                    f"{name} turns about {chain.axis(name)}, the closed-form arm expects {axis} (ROBOT.md)"
                )
        pitch, roll, yaw, elbow, wrist, wrist_pitch, wrist_roll = (chain.origin(name) for name in names)
        off_axis = [pitch[0], roll[0], roll[2], yaw[0], yaw[1], elbow[0], elbow[1], wrist[0], wrist[1]]
        if np.abs([*off_axis, *wrist_pitch, *wrist_roll]).max() > 1e-9:
            raise ValueError(f"the {side} arm's shoulder or wrist axes do not meet; the closed-form arm expects S-R-S")
        self.upper_length = float(-yaw[2] - elbow[2])
        self.fore_length = float(-wrist[2])
        self.hand_length = float(-self._tcp(chain)[2])
        shoulder = pitch + roll
        joint = chain.above(names[0])
        while joint is not None:
            shoulder = shoulder + chain.origin(joint)
            joint = chain.above(joint)
        self.shoulder: Array = shoulder

    def _tcp(self, chain: _Chain) -> Array:
        for name, joint in chain.joints.items():
            if joint.find("child").attrib["link"] == f"{self.side}_tcp":  # type: ignore[union-attr]
                return chain.origin(name)
        raise ValueError(f"the URDF has no {self.side}_tcp link")

    def forward(self, q: Array, lift: float = 0.0) -> dict[str, tuple[Array, Array]]:
        """Frames of postures.

        Args:
            q: (..., 7) joint angles (rad).
            lift: the lift's position (m).

        Returns:
            "upper" (at the shoulder), "fore" (at the elbow), "hand" (at the wrist), "tcp": rotations (..., 3, 3) and
            positions (..., 3) in base_footprint.
        """
        upper = rotation_y(-q[..., 0]) @ rotation_x(q[..., 1]) @ rotation_z(-q[..., 2])
        fore = upper @ rotation_y(-q[..., 3])
        hand = fore @ rotation_z(-q[..., 4]) @ rotation_y(-q[..., 5]) @ rotation_x(q[..., 6])
        if self.side == "right":
            upper, fore, hand = (_MIRROR @ R @ _MIRROR for R in (upper, fore, hand))
        shoulder = np.broadcast_to(self.shoulder + np.array([0.0, 0.0, lift]), (*q.shape[:-1], 3))
        elbow = shoulder - self.upper_length * upper[..., 2]
        wrist = elbow - self.fore_length * fore[..., 2]
        tcp = wrist - self.hand_length * hand[..., 2]
        return {"upper": (upper, shoulder), "fore": (fore, elbow), "hand": (hand, wrist), "tcp": (hand, tcp)}

    def inverse(
        self, rotation: Array, position: Array, swivel: Array, lift: float = 0.0
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Joint angles that put the tcp at poses, one answer per swivel.

        Args:
            rotation: (..., 3, 3) of the tcp in base_footprint.
            position: (..., 3) of the tcp in base_footprint (m).
            swivel: (...) elbow swivel (rad), broadcast against the poses; 0 has the elbow straight below the line from
                shoulder to wrist, positive lifts it outwards.
            lift: the lift's position (m).

        Returns:
            q (..., 7) and whether it is within reach, limits and the wrist's disc (...). Where it is not, q is finite
            but means nothing.
        """
        wrist = position + self.hand_length * rotation[..., 2] - (self.shoulder + np.array([0.0, 0.0, lift]))
        if self.side == "right":
            rotation = _MIRROR @ rotation @ _MIRROR
            wrist = wrist * [1.0, -1.0, 1.0]
        a, b = self.upper_length, self.fore_length
        distance = np.maximum(np.linalg.norm(wrist, axis=-1), 1e-9)
        cosine = (distance**2 - a * a - b * b) / (2 * a * b)
        elbow = np.arccos(np.clip(cosine, -1.0, 1.0))
        u = wrist / distance[..., None]
        # The elbow's axis: horizontal at swivel 0. Straight down is the one direction where that is undefined.
        flat = np.stack([-u[..., 1], u[..., 0], np.zeros_like(u[..., 0])], axis=-1)
        flat = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-9)
        c, s = np.cos(swivel)[..., None], np.sin(swivel)[..., None]
        normal = c * flat + s * np.cross(u, flat)
        u = np.broadcast_to(u, normal.shape)
        # The same triad in the upper arm's own frame.
        x, z = b * np.sin(elbow), -a - b * np.cos(elbow)
        length = np.maximum(np.hypot(x, z), 1e-9)
        x, z = x / length, z / length
        third = np.cross(u, normal)
        # R [v, y, v x y] = [u, n, u x n] with v = (x, 0, z): columns of R are combinations of the outer triad.
        x_, z_ = x[..., None], z[..., None]
        R0 = x_ * u - z_ * third
        R2 = z_ * u + x_ * third
        upper = np.stack([R0, normal, R2], axis=-1)
        q = np.empty((*normal.shape[:-1], 7))
        q[..., 0] = -np.arctan2(upper[..., 0, 2], upper[..., 2, 2])
        q[..., 1] = np.arcsin(np.clip(-upper[..., 1, 2], -1.0, 1.0))
        q[..., 2] = -np.arctan2(upper[..., 1, 0], upper[..., 1, 1])
        q[..., 3] = elbow
        fore = upper @ rotation_y(-q[..., 3])
        hand = np.swapaxes(fore, -1, -2) @ rotation
        q[..., 4] = -np.arctan2(hand[..., 1, 0], hand[..., 0, 0])
        q[..., 5] = np.arcsin(np.clip(hand[..., 2, 0], -1.0, 1.0))
        q[..., 6] = np.arctan2(hand[..., 2, 1], hand[..., 2, 2])
        valid = np.broadcast_to(np.abs(cosine) <= 1.0, q.shape[:-1]) & self.within(q)
        return q, valid

    def within(self, q: Array) -> NDArray[np.bool_]:
        """Whether postures (..., 7) respect the joint limits and the wrist's disc, each less its margin."""
        inside = ((q >= self.lower) & (q <= self.upper)).all(axis=-1)
        return np.asarray(inside & (np.hypot(q[..., 5], q[..., 6]) < self.tilt))

    def swivel(self, q: Array) -> Array:
        """The swivel (...) of postures (..., 7), as `inverse` takes it."""
        frames = self.forward(q)
        normal, wrist = frames["upper"][0][..., 1], frames["hand"][1] - frames["upper"][1]
        if self.side == "right":
            # Mirrored like `inverse` does: the axis is a pseudo-vector only through R, whose mirror image is M R M.
            normal, wrist = -(normal * [1.0, -1.0, 1.0]), wrist * [1.0, -1.0, 1.0]
        u = wrist / np.linalg.norm(wrist, axis=-1, keepdims=True)
        flat = np.stack([-u[..., 1], u[..., 0], np.zeros_like(u[..., 0])], axis=-1)
        flat = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-9)
        return np.asarray(np.arctan2((normal * np.cross(u, flat)).sum(-1), (normal * flat).sum(-1)))
