"""Cartesian targets of the hands, as the tick wants them: where, how fast, how much they count."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from bytemini_core.types import Array, HandReference

from .blend import Blend

# Limits that the fading of a take-over's offset keeps: (x, y, z, rotation vector) in m, rad and s.
_VELOCITY = np.array((0.5, 0.5, 0.5, 1.5, 1.5, 1.5))
_ACCELERATION = np.array((2.0, 2.0, 2.0, 8.0, 8.0, 8.0))
_JERK = 10.0 * _ACCELERATION
_UNIT = np.eye(3)
_TREND = 0.03  # s over which the target's acceleration is averaged
_LASTING = 0.1  # s for which it is believed to act


def length(vector: Array) -> float:
    """Euclidean norm: of a few numbers, in a fifth of the time of numpy's."""
    return math.sqrt(vector.dot(vector))


def rotation_of(quaternion: Array) -> Array:
    """Rotation matrix of (x, y, z, w), normalised."""
    x, y, z, w = (quaternion / length(quaternion)).tolist()
    return np.array(
        (
            (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
            (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
            (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
        )
    )


def exponential(vector: Array) -> Array:
    """Rotation matrix of a rotation vector (Rodrigues)."""
    angle = max(length(vector), 1e-9)
    x, y, z = (vector / angle).tolist()
    k = np.array(((0.0, -z, y), (z, 0.0, -x), (-y, x, 0.0)))
    rotation: Array = _UNIT + math.sin(angle) * k + (1.0 - math.cos(angle)) * (k @ k)
    return rotation


def exponentials(vectors: Array) -> Array:
    """Rotation matrices (k, 3, 3) of rotation vectors (k, 3)."""
    angle = np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)
    k = np.zeros((len(vectors), 3, 3))
    x, y, z = (vectors / angle[:, None]).T
    k[:, 0, 1], k[:, 0, 2], k[:, 1, 2] = -z, y, -x
    k[:, 1, 0], k[:, 2, 0], k[:, 2, 1] = z, -y, x
    sine, versine = np.sin(angle)[:, None, None], (1.0 - np.cos(angle))[:, None, None]
    rotations: Array = np.eye(3) + sine * k + versine * (k @ k)
    return rotations


def logarithm(rotation: Array) -> Array:
    """Rotation vector of a rotation matrix, its length at most pi."""
    # the quaternion's largest component first: exact up to and at half a turn
    square = np.array((np.trace(rotation), *np.diag(rotation)))
    i = int(np.argmax(square))
    r = rotation
    if i == 0:
        q = np.array((r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], 1.0 + square[0]))
    else:
        a, b, c = i - 1, i % 3, (i + 1) % 3
        q = np.empty(4)
        q[a], q[b], q[c] = 1.0 + r[a, a] - r[b, b] - r[c, c], r[a, b] + r[b, a], r[a, c] + r[c, a]
        q[3] = r[c, b] - r[b, c]
    q /= np.linalg.norm(q)
    if q[3] < 0.0:
        q = -q
    sine = float(np.linalg.norm(q[:3]))
    vector: Array = q[:3] * (2.0 * np.arctan2(sine, q[3]) / sine if sine > 1e-12 else 2.0)
    return vector


class HandTarget:
    """One hand's target: extrapolated from its stamp, the offset of a take-over fading."""

    def __init__(self, t: float, present: Array, reference: HandReference, late: float, shortest: float) -> None:
        """Take over at time t (s) from the hand's present pose (4, 4); no fading is shorter than `shortest` (s)."""
        position, rotation, _ = self._moved(reference, late)
        offset = np.concatenate((present[:3, 3] - position, logarithm(present[:3, :3] @ rotation.T)))
        self._blend = Blend(t, offset, -reference.twist, _VELOCITY, _ACCELERATION, _JERK, shortest)
        self._trend = np.zeros(6)  # the target's acceleration
        self._learnt, self._twist = t, reference.twist

    @staticmethod
    def _moved(reference: HandReference, late: float) -> tuple[Array, Array, Array]:
        twist = reference.twist
        rotation = rotation_of(reference.pose[3:])
        if late != 0.0:
            rotation = exponential(twist[3:] * late) @ rotation
        return reference.pose[:3] + twist[:3] * late, rotation, twist

    def at(self, t: float, reference: HandReference, late: float) -> tuple[Array, Array, Array]:
        """Rotation (3, 3), position (3,) and twist (6,) in odom at time t, the reference being `late` seconds old."""
        if (passed := t - late - self._learnt) > 1e-6:
            change = np.clip((reference.twist - self._twist) / passed, -_ACCELERATION, _ACCELERATION)
            self._trend += (change - self._trend) * (passed / (passed + _TREND))
            self._learnt, self._twist = t - late, reference.twist
        position, rotation, twist = self._moved(reference, late)
        if (fade := self._blend.at(t)) is not None:
            offset, rate, _ = fade
            return exponential(offset[3:]) @ rotation, position + offset[:3], twist + rate
        return rotation, position, twist

    def ahead(self, times: Array, references: Sequence[HandReference], late: Array) -> tuple[Array, Array]:
        """Rotations (k, 3, 3) and positions (k, 3) at k times (s), each from its reference, `late` (k,) seconds old.

        What is extrapolated follows the twist, and for a while the acceleration that the twists so far showed.
        """
        acts = np.clip(late, 0.0, _LASTING)
        moved = np.array([reference.twist for reference in references]) * late[:, None]
        moved += self._trend * (acts * (late - 0.5 * acts))[:, None]
        positions = np.array([reference.pose[:3] for reference in references]) + moved[:, :3]
        rotations = np.array([rotation_of(reference.pose[3:]) for reference in references])
        rotations = exponentials(moved[:, 3:]) @ rotations
        for k, t in enumerate(times):
            if (fade := self._blend.at(float(t))) is None:
                break
            positions[k] += fade[0][:3]
            rotations[k] = exponential(fade[0][3:]) @ rotations[k]
        return rotations, positions
