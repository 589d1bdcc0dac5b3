"""Columns, relative coding, and what each kind of sample supervises."""

from dataclasses import replace

import numpy as np
import pytest
from bytemini_core.types import RobotState, TaskStatus
from gr3.layout import HORIZON, ActionLayout, ChunkCodec, pose_matrix, pose_vector
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation


def state_of(robot, rng=None, base=(0.3, -0.2, 0.4)):
    position = robot.home.copy() if rng is None else rng.uniform(robot.lower, robot.upper)
    n = len(position)
    return RobotState(0, tuple(robot.joint_names), position, np.zeros(n), np.zeros(n), np.array(base), np.zeros(3))


def chunk(robot, rng, k=HORIZON):
    """Random targets within all limits."""
    values = np.zeros((k, 19))
    for i, name in enumerate(robot.policy_columns[:16]):
        j = robot.joint_names.index(name)
        values[:, i] = rng.uniform(robot.lower[j], robot.upper[j], k)
    for start in (5, 12):
        values[:, start : start + 2] *= 0.4
    values[:, 16:] = rng.uniform(-0.2, 0.2, (k, 3))
    return values


def waiting(robot, rows):
    """A chunk that stands still for `rows` rows and then lifts the left elbow."""
    values = np.zeros((HORIZON, 19), dtype=np.float32)
    for i, name in enumerate(robot.policy_columns[:16]):
        values[:, i] = robot.home[robot.joint_names.index(name)]
    values[rows:, 3] += 0.1 * np.arange(1, HORIZON - rows + 1)
    return values


@given(st.integers(0, HORIZON), st.integers(1, HORIZON))
@settings(max_examples=60, deadline=None)
def test_who_stands_still_does_not_wait_longer_than_it_is_asked(robot, rows, executed):
    state, values = state_of(robot), waiting(robot, rows)
    found = ChunkCodec(robot).without_wait(state, values, executed)
    assert found.shape == values.shape
    np.testing.assert_array_equal(found[-1], values[-1])
    if rows < executed or rows == HORIZON:
        np.testing.assert_array_equal(found, values)
    else:
        np.testing.assert_array_equal(found[0], values[0])
        np.testing.assert_array_equal(found[1 : HORIZON - rows + 1], values[rows:])


def test_who_moves_or_grips_is_not_hurried(robot):
    codec, state, values = ChunkCodec(robot), state_of(robot), waiting(robot, 10)
    moving = replace(state, velocity=np.full(len(state.names), 0.1))
    np.testing.assert_array_equal(codec.without_wait(moving, values, 4), values)
    driving = replace(state, base_twist=np.array([0.1, 0.0, 0.0]))
    np.testing.assert_array_equal(codec.without_wait(driving, values, 4), values)
    closing = values.copy()
    closing[:, robot.policy_columns.index("left_gripper_joint")] -= 0.005
    np.testing.assert_array_equal(codec.without_wait(state, closing, 4), closing)


def test_a_layout_is_known_by_its_names(layout):
    assert ActionLayout.named(list(layout.columns), list(layout.state_names)) == layout
    for wrong in (layout.state_names[1:], layout.state_names[::-1], (*layout.state_names, "more")):
        with pytest.raises(ValueError, match="other names"):
            ActionLayout.named(layout.columns, wrong)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_encode_then_decode_gives_the_chunk_back(robot, seed):
    rng = np.random.default_rng(seed)
    codec = ChunkCodec(robot)
    state, values = state_of(robot, rng), chunk(robot, rng)
    rows = codec.encode(state, values, TaskStatus.TERMINATED)
    back, status, confidence = codec.decode(state, rows)
    np.testing.assert_allclose(back, values, atol=2e-6)
    assert (status == 1).all()
    np.testing.assert_allclose(confidence, 1.0)


def test_hand_columns_are_poses_relative_to_the_present_hand(robot, layout):
    """Staying where it is: no translation and no rotation. Driving the base on: the hand goes along."""
    codec = ChunkCodec(robot)
    state = state_of(robot)
    still = np.zeros((2, 19))
    still[:, :16] = [state.position[robot.joint_names.index(name)] for name in robot.policy_columns[:16]]
    moved = still.copy()
    moved[:, 16] = 0.1
    identity = [0, 0, 0, 1, 0, 0, 0, 1, 0] * 2
    np.testing.assert_allclose(codec.encode(state, still, 0)[:, layout.hands], [identity] * 2, atol=1e-6)
    hands = codec.encode(state, moved, 0)[0, layout.hands].reshape(2, 9)
    for hand, pose in zip(hands, codec.hands(state.position), strict=True):
        np.testing.assert_allclose(hand[:3], pose[:3, :3].T @ [0.1, 0, 0], atol=1e-6)


def test_where_the_base_stands_in_odom_does_not_matter(robot):
    codec = ChunkCodec(robot)
    here, there = state_of(robot, base=(0, 0, 0)), state_of(robot, base=(5.0, -3.0, 2.0))
    values = chunk(robot, np.random.default_rng(1))
    np.testing.assert_array_equal(codec.encode(here, values, 0), codec.encode(there, values, 0))
    np.testing.assert_array_equal(codec.state(here), codec.state(there))


def test_decoded_rows_keep_to_the_limits(robot):
    codec = ChunkCodec(robot)
    rows = np.full((4, 38), 9.0)
    values, status, _ = codec.decode(state_of(robot), rows)
    assert (status == 1).all()
    for i, name in enumerate(robot.policy_columns[:16]):
        assert (values[:, i] <= robot.upper[robot.joint_names.index(name)] + 1e-6).all()
    for start in (5, 12):
        assert (np.hypot(values[:, start], values[:, start + 1]) <= robot.wrist_tilt_limit + 1e-6).all()


@pytest.mark.parametrize(
    ("mean", "status", "confidence"), [(-1.0, -1, 1.0), (-0.6, -1, 0.2), (0.5, 0, 0.0), (0.2, 0, 0.6), (1.7, 1, 1.0)]
)
def test_status_and_its_confidence(robot, mean, status, confidence):
    rows = np.zeros((HORIZON, 38))
    rows[:, -1] = mean
    _, found, sure = ChunkCodec(robot).decode(state_of(robot), rows)
    assert (found == status).all()
    np.testing.assert_allclose(sure, confidence, atol=1e-6)


def test_what_each_kind_supervises(layout):
    names = np.array(layout.columns)
    assert len(names) == 38
    assert layout.supervised("robot").all()
    assert names[layout.supervised("invalid")].tolist() == ["task_status"]
    assert all("_hand/" in name for name in names[layout.supervised("human")])
    assert layout.supervised("human").sum() == 18
    assert not layout.supervised("none").any()
    with pytest.raises(ValueError, match="expected robot"):
        layout.supervised("cat")


@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
@settings(max_examples=50, deadline=None)
def test_pose_vectors_are_poses(numbers):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(numbers[:3]).as_matrix()
    pose[:3, 3] = numbers[3:]
    np.testing.assert_allclose(pose_matrix(pose_vector(pose)), pose, atol=1e-9)


def test_a_pose_vector_without_rotation_is_refused():
    with pytest.raises(ValueError, match="no rotation"):
        pose_matrix(np.zeros(9))
    with pytest.raises(ValueError, match="expected"):
        pose_matrix(np.zeros(8))


def test_a_state_without_the_joints_is_refused(robot):
    n = 3
    state = RobotState(0, ("a", "b", "c"), np.zeros(n), np.zeros(n), np.zeros(n))
    with pytest.raises(ValueError, match="lacks lift_joint"):
        ChunkCodec(robot).state(state)


def test_joints_are_found_by_name(robot):
    codec = ChunkCodec(robot)
    state = state_of(robot, np.random.default_rng(2))
    order = np.random.default_rng(3).permutation(len(state.names))
    names = tuple(state.names[i] for i in order)
    rng = np.random.default_rng(4)
    state = replace(state, velocity=rng.normal(size=19), effort=rng.normal(size=19), base_twist=rng.normal(size=3))
    shuffled = replace(
        state,
        names=names,
        position=state.position[order],
        velocity=state.velocity[order],
        effort=state.effort[order],
    )
    np.testing.assert_array_equal(codec.state(state), codec.state(shuffled))


def test_every_number_of_the_state_is_what_its_name_says(robot):
    codec = ChunkCodec(robot)
    rng = np.random.default_rng(5)
    state = replace(
        state_of(robot, rng), velocity=rng.normal(size=19), effort=rng.normal(size=19), base_twist=rng.normal(size=3)
    )
    found = dict(zip(codec.layout.state_names, codec.state(state), strict=True))
    for i, name in enumerate(state.names):
        assert found[name] == np.float32(state.position[i])
        assert found[f"{name}/velocity"] == np.float32(state.velocity[i])
        if name.endswith("gripper_joint"):
            assert found[f"{name}/effort"] == np.float32(state.effort[i])
    assert [found[f"base/{axis}"] for axis in ("vx", "vy", "wz")] == state.base_twist.astype(np.float32).tolist()
    np.testing.assert_allclose(
        codec.state(state)[codec.layout.state_hands], pose_vector(codec.hands(state.position)).ravel(), rtol=1e-6
    )
