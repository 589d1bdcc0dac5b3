"""Rotations as vectors: the exponential chart of SO(3) about an anchor, R = R_0 exp(phi).

A hand turns along a smooth curve phi(t) in R^3; with the right Jacobian J_r of SO(3) its angular velocity in the body
is w = J_r(phi) phi'. No singular value of J_r exceeds 1, so a bound on |phi'| is a bound on |w|. phi is followed
continuously through pi (`unwrapped`); the chart is sound for |phi| < 2 pi.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SINGULAR = 5.0
"""rad; farther from its anchor a rotation comes too near to 2 pi, where the chart ends."""


def skew(v: Array) -> Array:
    """(3, 3) matrix of the cross product with `v` (3,)."""
    x, y, z = (float(c) for c in v)
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def exp(phi: Array) -> Array:
    """(3, 3) rotation of the rotation vector `phi` (3,) (Rodrigues)."""
    angle = float(np.sqrt(phi @ phi))
    k = skew(phi)
    if angle < 1e-6:
        return np.asarray(np.eye(3) + k + 0.5 * k @ k)
    return np.asarray(np.eye(3) + np.sin(angle) / angle * k + (1.0 - np.cos(angle)) / angle**2 * k @ k)


def log(rotations: Array) -> Array:
    """(k, 3) rotation vectors of rotations (k, 3, 3), of length at most pi."""
    q = quaternion(rotations)
    q = np.where(q[:, 3:] < 0.0, -q, q)
    size = np.linalg.norm(q[:, :3], axis=1, keepdims=True)
    angle = 2.0 * np.arctan2(size, q[:, 3:])
    return np.asarray(q[:, :3] * np.where(size > 1e-9, angle / np.maximum(size, 1e-300), 2.0))


def quaternion(rotations: Array) -> Array:
    """(k, 4) unit quaternions xyzw of rotations (k, 3, 3), by the largest of the four components (Shepperd)."""
    m = rotations
    trace = np.trace(m, axis1=1, axis2=2)
    squares = np.stack([m[:, 0, 0], m[:, 1, 1], m[:, 2, 2], trace], axis=1)
    best = squares.argmax(axis=1)
    out = np.empty((len(m), 4))
    for n, i in enumerate(best.tolist()):
        r = m[n]
        if i == 3:
            v = (r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], 1.0 + trace[n])
        else:
            j, k = (i + 1) % 3, (i + 2) % 3
            w = [0.0, 0.0, 0.0, r[k, j] - r[j, k]]
            w[i], w[j], w[k] = 1.0 + r[i, i] - r[j, j] - r[k, k], r[j, i] + r[i, j], r[k, i] + r[i, k]
            v = (w[0], w[1], w[2], w[3])
        out[n] = v
    return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True))


def right_jacobian(phi: Array) -> Array:
    """(3, 3) J_r with w = J_r(phi) phi' in the body: I - (1 - cos a)/a^2 [phi] + (a - sin a)/a^3 [phi]^2."""
    angle = float(np.sqrt(phi @ phi))
    k = skew(phi)
    if angle < 1e-4:
        return np.asarray(np.eye(3) - 0.5 * k + k @ k / 6.0)
    return np.asarray(np.eye(3) - (1.0 - np.cos(angle)) / angle**2 * k + (angle - np.sin(angle)) / angle**3 * k @ k)


def from_columns(columns: Array) -> Array:
    """(k, 3, 3) rotations from their first two columns (k, 6), made orthonormal (Zhou et al. 2019, eq. 15).

    Raises:
        ValueError: a row's two vectors are too short or too nearly parallel to mean a rotation.
    """
    a, b = columns[:, :3], columns[:, 3:]
    size = np.linalg.norm(a, axis=1, keepdims=True)
    x = a / np.maximum(size, 1e-12)
    b = b - (x * b).sum(axis=1, keepdims=True) * x
    rest = np.linalg.norm(b, axis=1, keepdims=True)
    poor = (size < 0.1) | (rest < 0.1)
    if poor.any():
        raise ValueError(
            f"row {int(poor.argmax())} holds no rotation: its two columns are too short or nearly parallel"
        )
    y = b / rest
    return np.stack((x, y, np.cross(x, y)), axis=2)


def unwrapped(phi: Array, start: Array) -> Array:
    """(k, 3) the same rotations as `phi` (k, 3), each as the vector nearest to the one before it, first to `start`."""
    out = phi.copy()
    before = start
    for i, vector in enumerate(phi):
        angle = float(np.sqrt(vector @ vector))
        if angle > 1e-9:
            axis = vector / angle
            out[i] = vector + 2.0 * np.pi * round((float(before @ axis) - angle) / (2.0 * np.pi)) * axis
        before = out[i]
    return out
