"""Delay in actions consumed, and the prefix, against the motion that is really executed."""

import numpy as np
import pytest
from bytemini_core.types import BASE_COLUMNS, NANOSECONDS, ActionChunk
from gr3_policy_node.delay import DelayTracker, reanchor
from hypothesis import given
from hypothesis import strategies as st

NAMES = ("joint", *BASE_COLUMNS, *(f"left_hand/{n}" for n in ("x", "y", "z", "r11", "r21", "r31", "r12", "r22", "r32")))
ZERO = np.zeros(3)


def chunk(stamp, values, names=("joint",), sequence=0):
    values = np.asarray(values, dtype=np.float32)
    k = len(values)
    return ActionChunk(stamp, sequence, names, 0.1, values, np.zeros(k, dtype=np.int8), np.ones(k))


def seconds(value):
    return round(value * NANOSECONDS)


def test_nothing_measured_means_no_prefix():
    tracker = DelayTracker()
    assert tracker.delay == 0
    assert tracker.prefix(0, ZERO, 15) is None
    tracker.sent(chunk(0, [[1.0]]), ZERO)
    assert tracker.prefix(0, ZERO, 15) is None, "sent is not executed"


def test_a_robot_that_stood_still_has_consumed_nothing():
    tracker = DelayTracker()
    tracker.sent(chunk(0, np.zeros((8, 1))), ZERO)
    tracker.spliced(0, 0, 0.0, seconds(2.0))
    assert tracker.delay == 0


def test_the_prefix_is_what_the_robot_will_execute():
    """A joint that follows row i at stamp + (i + 1) dt: the prefix must lie on the same line."""
    tracker = DelayTracker()
    tracker.sent(chunk(0, [[i + 1.0] for i in range(16)]), ZERO)  # position = 10 t
    tracker.spliced(0, 0, 1.5, seconds(0.15))
    for observed in (0.2, 0.37):
        prefix = tracker.prefix(seconds(observed), ZERO, 15)
        assert prefix.shape == (2, 1)  # ceil(1.5)
        np.testing.assert_allclose(prefix[:, 0], [10 * (observed + 0.1), 10 * (observed + 0.2)], atol=1e-5)


def test_the_last_action_pads_never_zeros():
    tracker = DelayTracker()
    tracker.sent(chunk(0, [[5.0], [6.0], [7.0]]), ZERO)
    tracker.spliced(0, 0, 4.0, seconds(0.4))
    np.testing.assert_array_equal(tracker.prefix(seconds(0.4), ZERO, 15)[:, 0], [7.0] * 4)
    np.testing.assert_array_equal(tracker.prefix(seconds(0.4), ZERO, 2)[:, 0], [7.0] * 2)


def test_the_largest_of_the_last_delays_is_expected_and_a_new_task_forgets_the_chunk():
    tracker = DelayTracker()
    for i, consumed in enumerate([1.2, 2.6, 0.4]):
        tracker.sent(chunk(i, [[1.0]] * 4, sequence=i), ZERO)
        tracker.spliced(i, i, consumed, i)
    assert tracker.delay == 3
    tracker.reset()
    assert tracker.delay == 3
    assert tracker.prefix(10, ZERO, 4) is None
    for i in range(20):
        tracker.sent(chunk(i, [[1.0]] * 4, sequence=i), ZERO)
        tracker.spliced(i, i, 1.0, i)
    assert tracker.delay == 1


def test_reports_on_chunks_of_others_are_ignored():
    tracker = DelayTracker()
    tracker.sent(chunk(1, [[1.0]]), ZERO)
    tracker.spliced(2, 0, 3.0, 5)
    assert tracker.delay == 0


POSE = st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3)).map(np.array)


def matrix(pose):
    x, y, yaw = pose
    out = np.eye(4)
    out[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    out[:2, 3] = x, y
    return out


@given(POSE, POSE, POSE, POSE)
def test_reanchoring_is_a_change_of_frame(old, new, base, hand):
    """Against homogeneous matrices: the same pose in odom, whichever base pose it is told from."""
    rotation = matrix((0, 0, hand[2]))[:3, :3]
    row = np.concatenate([[0.3], base, hand[:2], [0.9], rotation[:, 0], rotation[:, 1]])
    out = reanchor(row[None], NAMES, old, new)[0]
    assert out[0] == 0.3
    np.testing.assert_allclose(matrix(new) @ matrix(out[1:4]), matrix(old) @ matrix(base), atol=1e-9)
    place = matrix(old) @ [*hand[:2], 0.9, 1.0]
    np.testing.assert_allclose(matrix(new) @ [*out[4:7], 1.0], place, atol=1e-9)
    turned = matrix(old)[:3, :3] @ rotation
    np.testing.assert_allclose(matrix(new)[:3, :3] @ out[7:10], turned[:, 0], atol=1e-9)
    np.testing.assert_allclose(matrix(new)[:3, :3] @ out[10:13], turned[:, 1], atol=1e-9)
    np.testing.assert_allclose(reanchor(out[None], NAMES, new, new)[0][4:], out[4:], atol=1e-12)


def test_a_prefix_is_told_from_where_the_base_stands_now():
    tracker = DelayTracker()
    names = BASE_COLUMNS
    tracker.sent(chunk(0, [[0.1 * (i + 1), 0.0, 0.0] for i in range(8)], names), np.array([1.0, 2.0, np.pi / 2]))
    tracker.spliced(0, 0, 1.0, seconds(0.1))
    prefix = tracker.prefix(seconds(0.1), np.array([1.0, 2.1, np.pi / 2]), 15)
    np.testing.assert_allclose(prefix, [[0.1, 0.0, 0.0]], atol=1e-6)
    assert prefix.dtype == np.float32


def test_a_negative_consumption_is_none():
    tracker = DelayTracker()
    tracker.sent(chunk(0, [[1.0]] * 3), ZERO)
    tracker.spliced(0, 0, -0.5, 0)
    assert tracker.delay == 0


@pytest.mark.parametrize("most", [0, -1])
def test_a_policy_that_takes_no_rows_gets_none(most):
    tracker = DelayTracker()
    tracker.sent(chunk(0, [[1.0]] * 3), ZERO)
    tracker.spliced(0, 0, 2.0, 0)
    assert tracker.prefix(0, ZERO, most) is None
