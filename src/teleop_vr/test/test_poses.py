"""Rigid motions, against scipy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from teleop_vr.poses import (
    IDENTITY,
    compose,
    distance,
    elevation,
    from_matrix,
    from_vector,
    from_webxr,
    heading,
    inverse,
    multiply,
    rotate,
    to_vector,
    to_webxr,
)

numbers = st.floats(-3.0, 3.0, allow_nan=False)
vectors = st.tuples(numbers, numbers, numbers).map(np.array)
quaternions = st.integers(0, 2**32 - 1).map(lambda seed: Rotation.random(rng=np.random.default_rng(seed)).as_quat())
poses = st.tuples(vectors, quaternions).map(np.concatenate)


def matrix(pose: np.ndarray) -> np.ndarray:
    made = np.eye(4)
    made[:3, :3] = Rotation.from_quat(pose[3:]).as_matrix()
    made[:3, 3] = pose[:3]
    return made


@given(quaternions, quaternions, vectors)
def test_rotations_are_those_of_scipy(a, b, v):
    A, B = Rotation.from_quat(a), Rotation.from_quat(b)
    assert np.allclose(matrix(np.concatenate((v, multiply(a, b))))[:3, :3], (A * B).as_matrix())
    assert np.allclose(rotate(a, v), A.apply(v))
    assert np.allclose(np.linalg.norm(to_vector(a)), A.magnitude())


@given(vectors)
def test_vector_and_back(v):
    size = np.linalg.norm(v)
    v = v * min(1.0, 3.1 / size) if size > 0 else v
    assert np.allclose(to_vector(from_vector(v)), v, atol=1e-9)
    assert np.allclose(Rotation.from_quat(from_vector(v)).as_matrix(), Rotation.from_rotvec(v).as_matrix())


@given(poses, poses)
def test_composition_is_that_of_matrices(a, b):
    assert np.allclose(matrix(compose(a, b)), matrix(a) @ matrix(b))
    assert np.allclose(matrix(compose(a, inverse(a))), np.eye(4), atol=1e-9)
    assert np.allclose(distance(from_matrix(matrix(a)), a), 0.0, atol=1e-6)


@given(poses)
def test_there_and_back_between_the_headsets_axes_and_ours(pose):
    assert np.allclose(to_webxr(from_webxr(pose)), pose)


@given(poses)
def test_axes_are_those_of_rep_103(pose):
    # the columns say where WebXR's right, up and backwards are in x forward, y left, z up
    M = np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0]], dtype=float)
    ours = from_webxr(pose)
    assert np.allclose(ours[:3], M @ pose[:3])
    assert np.allclose(Rotation.from_quat(ours[3:]).as_matrix(), M @ Rotation.from_quat(pose[3:]).as_matrix() @ M.T)


def test_looking_about():
    left = np.array((0.0, 0.0, 0.0, 0.0, np.sin(0.2), 0.0, np.cos(0.2)))  # WebXR: about y, counter-clockwise from above
    down = np.array((0.0, 0.0, 0.0, -np.sin(0.1), 0.0, 0.0, np.cos(0.1)))  # WebXR: about x, nose down
    assert np.isclose(heading(from_webxr(left)[3:]), 0.4)
    assert np.isclose(elevation(from_webxr(down)[3:]), 0.2)
    assert heading(IDENTITY[3:]) == elevation(IDENTITY[3:]) == 0.0
