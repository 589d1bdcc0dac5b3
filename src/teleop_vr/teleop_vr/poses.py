"""Rigid motions as (7,) arrays x y z qx qy qz qw, and the one place where the headset's axes become the robot's.

WebXR's `local-floor` space has x to the right, y up and -z forward; REP-103 has x forward, y to the left and z up. So
x = -z', y = -x', z = y', for positions and for the axes of rotations alike.
"""

from __future__ import annotations

import math

import numpy as np
from bytemini_core.types import Array

IDENTITY: Array = np.array((0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0))
IDENTITY.setflags(write=False)


def from_webxr(pose: Array) -> Array:
    """A pose (7,) in WebXR axes as one in REP-103 axes; its own axes turn likewise, so that identity stays identity."""
    x, y, z, qx, qy, qz, qw = pose
    return np.array((-z, -x, y, -qz, -qx, qy, qw))


def to_webxr(pose: Array) -> Array:
    """The inverse of `from_webxr`."""
    x, y, z, qx, qy, qz, qw = pose
    return np.array((-y, z, -x, -qy, qz, -qx, qw))


def multiply(a: Array, b: Array) -> Array:
    """The rotation b followed by a, both quaternions (x, y, z, w)."""
    ax, ay, az, aw = a.tolist()  # arithmetic on numpy's scalars takes three times as long
    bx, by, bz, bw = b.tolist()
    return np.array(
        (
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        )
    )


def conjugate(q: Array) -> Array:
    """The inverse of a unit quaternion."""
    return np.array((-q[0], -q[1], -q[2], q[3]))


def rotate(q: Array, v: Array) -> Array:
    """The vector (3,) turned by the unit quaternion."""
    x, y, z, w = q.tolist()
    vx, vy, vz = v.tolist()
    tx, ty, tz = 2.0 * (y * vz - z * vy), 2.0 * (z * vx - x * vz), 2.0 * (x * vy - y * vx)
    return np.array(
        (
            vx + w * tx + y * tz - z * ty,
            vy + w * ty + z * tx - x * tz,
            vz + w * tz + x * ty - y * tx,
        )
    )


def unit(q: Array) -> Array:
    """The quaternion at length 1.

    Raises:
        ValueError: it is zero.
    """
    size = math.sqrt(float(q @ q))
    if size < 1e-9:
        raise ValueError("a quaternion is zero, expected one of length 1")
    scaled: Array = q / size
    return scaled


def from_vector(vector: Array) -> Array:
    """Quaternion of a rotation vector (3,)."""
    angle = math.sqrt(float(vector @ vector))
    if angle < 1e-12:
        return np.array((0.5 * vector[0], 0.5 * vector[1], 0.5 * vector[2], 1.0))
    scale = math.sin(0.5 * angle) / angle
    return np.array((scale * vector[0], scale * vector[1], scale * vector[2], math.cos(0.5 * angle)))


def to_vector(q: Array) -> Array:
    """Rotation vector (3,) of a unit quaternion, its length at most pi."""
    sign = 1.0 if q[3] >= 0.0 else -1.0
    sine = math.sqrt(float(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]))
    scale = sign * (2.0 if sine < 1e-12 else 2.0 * math.atan2(sine, sign * float(q[3])) / sine)
    return np.array((scale * q[0], scale * q[1], scale * q[2]))


def about_z(angle: float) -> Array:
    """Quaternion of a turn about z, radians."""
    return np.array((0.0, 0.0, math.sin(0.5 * angle), math.cos(0.5 * angle)))


def heading(q: Array) -> float:
    """Direction (rad about z) in which the x axis turned by q points, seen from above."""
    x, y, _ = rotate(q, np.array((1.0, 0.0, 0.0)))
    return math.atan2(y, x)


def elevation(q: Array) -> float:
    """Angle (rad) by which the x axis turned by q points below the horizon."""
    x, y, z = rotate(q, np.array((1.0, 0.0, 0.0)))
    return math.atan2(-z, math.hypot(x, y))


def compose(a: Array, b: Array) -> Array:
    """The pose b, given in the frame a, in the frame that a is given in."""
    return np.concatenate((a[:3] + rotate(a[3:], b[:3]), multiply(a[3:], b[3:])))


def inverse(a: Array) -> Array:
    """The pose of the outer frame in the frame a."""
    back = conjugate(a[3:])
    return np.concatenate((-rotate(back, a[:3]), back))


def from_matrix(matrix: Array) -> Array:
    """The pose (7,) of a homogeneous matrix (4, 4)."""
    r = matrix[:3, :3]
    # The largest of the four squares first (Shepperd, 1978): no division by what may vanish.
    squares = (r[0, 0], r[1, 1], r[2, 2], r[0, 0] + r[1, 1] + r[2, 2])
    i = int(np.argmax(squares))
    q = np.empty(4)
    if i == 3:
        q[:] = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], 1.0 + squares[3]
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        q[i] = 1.0 - squares[3] + 2.0 * r[i, i]
        q[j], q[k], q[3] = r[j, i] + r[i, j], r[k, i] + r[i, k], r[k, j] - r[j, k]
    return np.concatenate((matrix[:3, 3], unit(q)))


def distance(a: Array, b: Array) -> tuple[float, float]:
    """How far two poses are apart: m and rad."""
    step = a[:3] - b[:3]
    turn = to_vector(multiply(a[3:], conjugate(b[3:])))
    return math.sqrt(float(step @ step)), math.sqrt(float(turn @ turn))
