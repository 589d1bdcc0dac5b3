"""What goes out as a message comes back as the same plain value, to the bit."""

import numpy as np
import pytest
from bytemini_core.types import (
    ActionChunk,
    BaseReference,
    HandReference,
    JointCommand,
    Mode,
    RobotState,
    SceneObject,
    SceneState,
    WholeBodyReference,
)

pytest.importorskip("bytemini_msgs.msg", reason="the workspace is not built: ./bytemini setup")
from rclpy.serialization import deserialize_message, serialize_message

from bytemini_core import ros

RNG = np.random.default_rng(0)
NAMES = tuple(f"joint_{i}" for i in range(5))
STAMP = 3_000_000_007


def over_the_wire(message):
    return deserialize_message(serialize_message(message), type(message))


def assert_same(one, other):
    assert type(one) is type(other)
    for name in one.__slots__:
        first, second = getattr(one, name), getattr(other, name)
        if isinstance(first, np.ndarray):
            np.testing.assert_array_equal(first, second, err_msg=name)
            assert first.dtype == second.dtype
        elif hasattr(first, "__slots__"):
            assert_same(first, second)
        elif isinstance(first, tuple) and first and hasattr(first[0], "__slots__"):
            assert len(first) == len(second)
            for a, b in zip(first, second, strict=True):
                assert_same(a, b)
        else:
            assert first == second, name


def test_state():
    state = RobotState(STAMP, NAMES, *RNG.normal(size=(3, 5)), np.array([0.3, -0.2, 2.5]), RNG.normal(size=3))
    joints, odometry = map(over_the_wire, (ros.joint_state_message(state), ros.odometry_message(state)))
    back = ros.robot_state(joints, odometry)
    np.testing.assert_allclose(back.base_pose, state.base_pose, atol=1e-15)  # the yaw goes through a quaternion
    np.testing.assert_array_equal(back.position, state.position)
    np.testing.assert_array_equal(back.base_twist, state.base_twist)
    assert (back.stamp, back.names) == (state.stamp, state.names)


def test_command():
    command = JointCommand(STAMP, NAMES, *RNG.normal(size=(5, 5)), RNG.normal(size=3))
    joints, base = map(over_the_wire, (ros.joint_command_message(command), ros.base_twist_message(command)))
    assert_same(ros.joint_command(joints, base), command)


def test_chunk():
    chunk = ActionChunk(
        STAMP,
        7,
        NAMES,
        0.1,
        RNG.normal(size=(4, 5)).astype(np.float32),
        np.array([0, 0, 1, -1], dtype=np.int8),
        RNG.uniform(size=4).astype(np.float32),
        "put the apple into the basket",
        "expert",
        0.02,
    )
    assert_same(ros.action_chunk(over_the_wire(ros.chunk_message(chunk))), chunk)


def test_chunk_with_a_wrong_block_is_refused():
    message = ros.chunk_message(
        ActionChunk(0, 0, ("a",), 0.1, np.zeros((2, 1)), np.zeros(2, dtype=np.int8), np.zeros(2))
    )
    message.rows = 3
    with pytest.raises(ValueError, match="expected 3 rows x 1 names"):
        ros.action_chunk(message)


def test_reference():
    hand = HandReference("left_tcp", np.array([0.1, 0.2, 0.3, 0, 0, 0, 1]), *RNG.normal(size=(3, 6)))
    base = BaseReference(RNG.normal(size=3), RNG.normal(size=3))
    reference = WholeBodyReference(STAMP, Mode.TELEOP, NAMES, *RNG.normal(size=(3, 5)), base, (hand,))
    assert_same(ros.whole_body_reference(over_the_wire(ros.reference_message(reference))), reference)
    twist_only = WholeBodyReference(STAMP, Mode.TELEOP, base=BaseReference(None, np.ones(3)))
    assert_same(ros.whole_body_reference(over_the_wire(ros.reference_message(twist_only))), twist_only)


def test_reference_of_an_unknown_source_is_refused():
    message = ros.reference_message(WholeBodyReference(0, Mode.POLICY))
    message.source = "NOBODY"
    with pytest.raises(ValueError, match="NOBODY"):
        ros.whole_body_reference(message)


def test_scene():
    item = SceneObject("apple", "fruit", "red", "sphere", np.array([1, 2, 3, 0, 0, 0, 1.0]), np.ones(3), False)
    scene = SceneState(STAMP, (item,), 0.72)
    assert_same(ros.scene_state(over_the_wire(ros.scene_message(scene))), scene)


def test_image():
    image = RNG.integers(0, 256, size=(6, 8, 3), dtype=np.uint8)
    message = over_the_wire(ros.image_message(image, STAMP, "head_camera_optical_frame"))
    np.testing.assert_array_equal(ros.image_array(message), image)
    message.width = 9
    with pytest.raises(ValueError, match="6 x 9 x 3"):
        ros.image_array(message)
    message.encoding = "bgr8"
    with pytest.raises(ValueError, match="rgb8"):
        ros.image_array(message)
