"""A person without a robot: pictures of the headset's camera, its clock in ours, poses for the recorder."""

import numpy as np
import pytest
from bytemini_core.types import NANOSECONDS
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from teleop_vr.person import CAMERA, CAMERA_MAGIC, LARGEST, PageClock, parse_picture, poses_of
from teleop_vr.protocol import Refused, parse_frame
from teleop_vr.simulated import SimulatedHeadset


def message(magic=CAMERA_MAGIC, time=1.5, width=640, height=480, zero=0, jpeg=b"x" * 10):
    return CAMERA.pack(magic, 7, time, width, height, zero) + jpeg


def test_a_picture_is_taken_as_it_came():
    picture = parse_picture(message())
    assert (picture.sequence, picture.time, picture.width, picture.height) == (7, 1.5, 640, 480)
    assert picture.jpeg == b"x" * 10


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "length"),
        (message(jpeg=b""), "length"),
        (message(jpeg=b"x" * LARGEST), "length"),
        (message(magic=1), "magic"),
        (message(zero=1), "magic"),
        (message(time=float("nan")), "finite"),
        (message(time=-1.0), "finite"),
        (message(width=8), "range"),
        (message(height=5000), "range"),
    ],
)
def test_what_is_no_picture_is_refused(data, code):
    with pytest.raises(Refused) as refused:
        parse_picture(data)
    assert refused.value.code == code


@given(st.binary(max_size=200))
def test_rubbish_is_only_refused(data):
    with pytest.raises(Refused):
        parse_picture(data)


@given(
    offset=st.floats(0.0, 1e5),
    delays=st.lists(st.floats(0.0, 0.3), min_size=5, max_size=60),
    drift=st.floats(-2e-5, 2e-5),
)
def test_what_was_at_one_time_gets_nearly_one_stamp_whatever_its_delay(offset, delays, drift):
    clock = PageClock()
    clock.stamp(round((10.0 + offset) * NANOSECONDS), 10.0)  # one that came at once
    for i, delay in enumerate(delays):
        happened = 10.0 + 0.03 * (i + 1)
        page = 10.0 + (happened - 10.0) * (1.0 + drift)
        stamp = clock.stamp(round((happened + delay + offset) * NANOSECONDS), page)
        assert abs(stamp / NANOSECONDS - (happened + offset)) < 1e-3


def test_a_page_loaded_anew_begins_its_clock_anew():
    clock = PageClock()
    clock.stamp(100 * NANOSECONDS, 50.0)
    assert clock.stamp(101 * NANOSECONDS, 0.5) == 101 * NANOSECONDS


def test_the_heads_pose_is_its_cameras_and_unseen_hands_are_none():
    headset = SimulatedHeadset()
    headset.right.tracked = False
    turned = Rotation.from_euler("z", 0.4)
    headset.head[3:] = turned.as_quat()
    head, left, right = poses_of(parse_frame(headset.frame(0.01)))
    assert right is None
    np.testing.assert_allclose(left, headset.left.pose, atol=1e-6)
    np.testing.assert_allclose(head[:3], (0.0, 0.0, 1.6), atol=1e-6)
    axes = Rotation.from_quat(head[3:]).as_matrix()
    np.testing.assert_allclose(axes[:, 2], turned.apply((1.0, 0.0, 0.0)), atol=1e-6)  # the camera looks along z
    np.testing.assert_allclose(axes[:, 0], turned.apply((0.0, -1.0, 0.0)), atol=1e-6)  # and x is to its right
