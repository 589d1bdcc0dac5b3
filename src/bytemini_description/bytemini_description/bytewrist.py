"""Transmission of ByteWrist, the parallel wrist with three coaxial motors: for the hardware side.

Equation numbers are those of the ByteWrist report (`reports/bytewrist.txt`, section 3). Its frame {1} has z along the
forearm towards the hand and x through the first driving linkage at home; the platform's attitude is
R = Rz(yaw) Ry(pitch) Rx(roll) (equation 5). Everywhere here `angles` is (yaw, pitch, roll) = (alpha, beta, gamma) in
that order, the order of the rows of the report's Jacobian, and `motors` is (theta1, theta2, theta3); radians.

The URDF writes the wrist as three revolute joints whose axes meet in one point, with z of the hand away from the
fingers. With the report's x along +x of `wrist_yaw_link` (which way the linkage is mounted is not stated: a choice),
its angles are the URDF's joint values on the left, and those with yaw and roll negated on the right: `from_joints`.
A positive pitch then bends the hand towards its camera. Figure 4 of the report plots pitch with the other sign.

Only directions matter to the transmission: all hinge axes pass through the centre of the platform. Linkage i turns
with motor i and carries a hinge along p_i = (R1 cos theta_i, R1 sin theta_i, -h); the platform carries, at right angles
to it because the end linkage is a 90 degree arc, a hinge along u_i = R (-sin t_i, cos t_i, 0), t the motor angles at
home. So each linkage closes where u_i . p_i = 0, which holds for both directions of the transmission.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Table 1, metres. Rl, l1 and l2 shape the end linkage (equation 1) and do not enter the kinematics.
R1: Final = 27.35e-3
R2: Final = 30.0e-3
H: Final = 27.35e-3
RL: Final = 25.0e-3
L1: Final = 5.0e-3
L2: Final = 13.68e-3

THETA0: Final = math.atan(R1 / H)
"""Angle between a linkage's hinge and the motor axis (equation 1); 45 degrees with Table 1."""

HOME_MOTORS: Final = (0.0, 4.0 * math.pi / 3.0, 2.0 * math.pi / 3.0)
"""Motor angles when yaw, pitch and roll are 0 (section 3)."""

TILT_EXISTENCE: Final = math.pi / 2.0 - THETA0
"""The tilt (0.785) at which the linkages stop closing in the worst direction, which explains the stated range
pitch^2 + roll^2 < 0.7^2 (section 4, `wrist_tilt_limit` in config/robot.yaml): it keeps 5 degrees from it.
"""

_COT: Final = H / R1
_HOME = np.array(HOME_MOTORS)
# Columns are the platform's hinges at home, (-sin t_i, cos t_i, 0): equations 7, 8 and 11 without R2.
_HINGES = np.stack([-np.sin(_HOME), np.cos(_HOME), np.zeros(3)])


class WristOutOfRangeError(ValueError):
    """No posture of the linkages belongs to the request; the message says how far out it is."""


def project_to_disc(tilt: ArrayLike, limit: float) -> Array:
    """Bring (pitch, roll) radially into the wrist's range pitch^2 + roll^2 <= limit^2.

    Args:
        tilt: (..., 2) pitch and roll, rad.
        limit: radius of the disc, rad.

    Returns:
        (..., 2), the same where it already lies within.
    """
    tilt = np.asarray(tilt, dtype=np.float64)
    norm = np.hypot(tilt[..., 0], tilt[..., 1])[..., None]
    projected: Array = tilt * (limit / np.maximum(norm, limit))
    return projected


def clamp(angles: ArrayLike, limit: float) -> Array:
    """A copy of (..., 3) yaw, pitch, roll with the tilt brought radially into the disc; yaw stays."""
    clamped = np.array(angles, dtype=np.float64)
    clamped[..., 1:] = project_to_disc(clamped[..., 1:], limit)
    return clamped


def from_joints(side: str, joints: ArrayLike) -> Array:
    """The report's (..., 3) yaw, pitch, roll of the URDF's wrist yaw, pitch and roll joint values on `side`.

    Raises:
        ValueError: side is neither "left" nor "right".
    """
    signs = {"left": (1.0, 1.0, 1.0), "right": (-1.0, 1.0, -1.0)}
    if side not in signs:
        raise ValueError(f"side is {side!r}, expected left or right")
    angles: Array = np.asarray(joints, dtype=np.float64) * signs[side]
    return angles


def to_joints(side: str, angles: ArrayLike) -> Array:
    """The inverse of `from_joints`, which is its own inverse. Raises as it does."""
    return from_joints(side, angles)


def rotation(angles: ArrayLike) -> Array:
    """Attitude R (..., 3, 3) of the platform for (..., 3) yaw, pitch, roll (equation 5)."""
    angles = np.asarray(angles, dtype=np.float64)
    (ca, cb, cg), (sa, sb, sg) = np.moveaxis(np.cos(angles), -1, 0), np.moveaxis(np.sin(angles), -1, 0)
    rows = [
        [ca * cb, ca * sb * sg - sa * cg, ca * sb * cg + sa * sg],
        [sa * cb, sa * sb * sg + ca * cg, sa * sb * cg - ca * sg],
        [-sb, cb * sg, cb * cg],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def inverse(angles: ArrayLike) -> Array:
    """Motor angles for a platform attitude, in closed form.

    The report solves equation 2 numerically; closing u_i . p_i = 0 for theta_i gives
    theta_i = atan2(u_y, u_x) - acos(u_z cot(theta0) / hypot(u_x, u_y)), with the branch that is home at home.

    Args:
        angles: (..., 3) yaw, pitch, roll. Yaw may be any number of turns: it turns all three motors alike.

    Returns:
        (..., 3) motor angles, continuous in `angles` within the range.

    Raises:
        WristOutOfRangeError: the linkages do not close (never within the stated range).
    """
    angles = np.asarray(angles, dtype=np.float64)
    yaw = angles[..., :1]
    tilt = np.concatenate([np.zeros_like(yaw), angles[..., 1:]], axis=-1)
    hinges = rotation(tilt) @ _HINGES
    ux, uy, uz = hinges[..., 0, :], hinges[..., 1, :], hinges[..., 2, :]
    ratio = uz * _COT / np.hypot(ux, uy)
    if not (np.abs(ratio) <= 1.0).all():  # also refuses NaN
        worst = np.hypot(angles[..., 1], angles[..., 2]).max()
        raise WristOutOfRangeError(
            f"no motor angles give a tilt of {worst:.3f} rad in this direction, expected less than "
            f"{TILT_EXISTENCE:.3f}: clamp pitch and roll to the wrist's range first"
        )
    motors = np.arctan2(uy, ux) - np.arccos(ratio)
    # Of the equal angles 2 pi apart, the one nearest to home: tilt alone never turns a motor by half a turn.
    wrapped: Array = _HOME + np.mod(motors - _HOME + math.pi, 2.0 * math.pi) - math.pi + yaw
    return wrapped


def forward(motors: ArrayLike, guess: ArrayLike | None = None, tolerance: float = 1e-12, iterations: int = 20) -> Array:
    """Platform attitude for motor angles, by Newton's method on the closure of the linkages (equations 4 and 10).

    Args:
        motors: (3,) motor angles.
        guess: (3,) yaw, pitch, roll to start from (the last ones); None to start without tilt.
        tolerance: on the closure u_i . p_i of unit vectors.
        iterations: at most.

    Returns:
        (3,) yaw, pitch, roll, with yaw as many turns as the motors make.

    Raises:
        WristOutOfRangeError: no attitude within the linkages' existence belongs to these motor angles.
    """
    motors = np.asarray(motors, dtype=np.float64)
    # Turning all motors alike is pure yaw (the linkages are coaxial), so the mean is a start that needs no unwrapping.
    angles = np.array([np.mean(motors - _HOME), 0.0, 0.0]) if guess is None else np.array(guess, dtype=np.float64)
    for _ in range(iterations):
        closure, by_angles, _ = _closure(angles, motors)
        if np.abs(closure).max() < tolerance:
            # The linkages can be assembled in other ways; only the one that is home at home exists.
            if np.hypot(angles[1], angles[2]) < math.pi / 2 and _closes(angles, motors):
                return angles
            break
        try:
            step = np.linalg.solve(by_angles, closure)
        except np.linalg.LinAlgError:
            break
        # A long step near the edge could land in another assembly.
        angles -= step * min(1.0, 0.5 / float(np.abs(step).max()))
    raise WristOutOfRangeError(
        f"no attitude of the platform belongs to the motor angles {np.round(motors, 3).tolist()}: apart from a common "
        "turn, each keeps within about 1.1 rad of home"
    )


def jacobian(angles: ArrayLike) -> Array:
    """J (3, 3) = d(yaw, pitch, roll) / d(theta1, theta2, theta3) at `angles` (equation 12), exact.

    The report differentiates its forward kinematics numerically (equation 13); differentiating the closure
    u_i . p_i = 0 instead needs no step size.

    Raises:
        WristOutOfRangeError: as `inverse`.
    """
    angles = np.asarray(angles, dtype=np.float64)
    _, by_angles, by_motors = _closure(angles, inverse(angles))
    return np.asarray(-np.linalg.solve(by_angles, np.diag(by_motors)), dtype=np.float64)


def motor_efforts(angles: ArrayLike, efforts: ArrayLike) -> Array:
    """Motor torques (3,) that exert the torques `efforts` (3,) about yaw, pitch and roll (virtual work: J^T)."""
    mapped: Array = jacobian(angles).T @ np.asarray(efforts, dtype=np.float64)
    return mapped


def joint_efforts(angles: ArrayLike, motor_torques: ArrayLike) -> Array:
    """Torques (3,) about yaw, pitch and roll that motor torques (3,) exert: the inverse of `motor_efforts`."""
    torques = np.asarray(motor_torques, dtype=np.float64)
    return np.asarray(np.linalg.solve(jacobian(angles).T, torques), dtype=np.float64)


def _closure(angles: Array, motors: Array) -> tuple[Array, Array, Array]:
    """u_i . p_i of unit vectors (3,), its derivatives by yaw, pitch, roll (3, 3) and by each motor's own angle (3,)."""
    sine, cosine = math.sin(THETA0), math.cos(THETA0)
    c, s = np.cos(motors), np.sin(motors)
    axes = np.stack([sine * c, sine * s, np.full(3, -cosine)])
    axes_rate = np.stack([-sine * s, sine * c, np.zeros(3)])
    hinges = rotation(angles) @ _HINGES
    # Columns: the axes about which yaw, pitch and roll turn the platform.
    ca, sa, cb, sb = math.cos(angles[0]), math.sin(angles[0]), math.cos(angles[1]), math.sin(angles[1])
    turn = np.array([[0.0, -sa, ca * cb], [0.0, ca, sa * cb], [1.0, 0.0, -sb]])
    # d(u_i)/d(angle_j) . p_i = (turn_j x u_i) . p_i = turn_j . (u_i x p_i)
    (ux, uy, uz), (px, py, pz) = hinges, axes
    by_angles = np.stack([uy * pz - uz * py, uz * px - ux * pz, ux * py - uy * px], axis=1) @ turn
    return np.einsum("ki,ki->i", hinges, axes), by_angles, np.einsum("ki,ki->i", hinges, axes_rate)


def _closes(angles: Array, motors: Array) -> bool:
    try:
        return bool(np.abs(inverse(angles) - motors).max() < 1e-4)
    except WristOutOfRangeError:
        return False
