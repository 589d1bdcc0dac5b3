"""The whole-body target: cabin, leash, lift, parameters."""

from __future__ import annotations

import numpy as np
import pytest
from bytemini_core.types import SIDES, RobotState
from bytemini_description.robot import load_robot
from hypothesis import given, settings
from hypothesis import strategies as st
from teleop_vr.retarget import Body, HandGoal, RetargetConfig

ROBOT = load_robot("v1")
DT = 0.011


def state(base=(0.0, 0.0, 0.0), position=None) -> RobotState:
    zero = np.zeros(len(ROBOT.joint_names))
    return RobotState(0, ROBOT.joint_names, ROBOT.home if position is None else position, zero, zero, np.array(base))


def begun(base=(0.0, 0.0, 0.0), **config) -> Body:
    body = Body(ROBOT, RetargetConfig(**config))
    body.see(state(base))
    body.start(state(base), None)
    return body


def goals(body: Body, base=(0.0, 0.0, 0.0), shift=(0.0, 0.0, 0.0)) -> dict[str, HandGoal]:
    made = {}
    for side in SIDES:
        pose = body.in_cabin(body.measured(side, state(base)))
        pose[:3] += shift
        made[side] = HandGoal(pose, np.zeros(6))
    return made


@given(st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(-3, 3)))
def test_at_rest_the_hands_are_sent_to_where_they_are(base):
    body = begun(base)
    reference, hands = body.step(DT, (0.0, 0.0, 0.0, 0.0), goals(body, base), False)
    for side, hand in zip(SIDES, hands, strict=True):
        assert np.allclose(hand.pose[:3], body.measured(side, state(base))[:3], atol=1e-9)
        assert np.allclose(hand.twist, 0.0)
    assert np.allclose(reference.pose, base)
    assert np.allclose(reference.twist, 0.0)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(*[st.floats(-1, 1)] * 4), min_size=1, max_size=20), st.floats(-3, 3))
def test_hands_ride_with_base_and_lift_and_their_twist_is_their_motion(moves, yaw):
    base = (0.3, -0.2, yaw)
    body = begun(base)
    held = goals(body, base)
    before = None
    for axes in moves:
        for _ in range(5):
            body.see(state((*body.cabin[:2], yaw)))  # the base is where it is sent to
            reference, hands = body.step(DT, axes, held, True)
            limit = ROBOT.base_velocity + 1e-9
            assert (np.abs(reference.twist) <= limit).all()
            if before is not None:
                for hand, last in zip(hands, before, strict=True):
                    assert np.allclose((hand.pose[:3] - last.pose[:3]) / DT, hand.twist[:3], atol=0.02)
            before = hands


@pytest.mark.parametrize("locked", [False, True])
def test_the_leash_draws_the_base_towards_a_hand_out_of_reach(locked):
    body = begun()
    far = goals(body, shift=(0.5, 0.0, 0.0))
    for _ in range(30):
        reference, hands = body.step(DT, (0.0, 0.0, 0.0, 0.0), far, locked)
    assert body.joining  # the lift does, for the hands are below the shoulders
    assert (reference.twist[0] > 0.05) is not locked
    assert abs(reference.twist[1]) < 0.05
    assert body.beyond == SIDES
    limit = RetargetConfig().reach if locked else RetargetConfig().farthest
    for side, hand in zip(SIDES, hands, strict=True):
        shoulder = np.array((0.12, 0.205 if side == "left" else -0.205, 0.95 + ROBOT.home[0]))
        assert np.linalg.norm(hand.pose[:3] - shoulder) == pytest.approx(limit, abs=1e-6)


def test_gains_of_zero_leave_base_and_lift_out():
    body = begun(base_gain=0.0, lift_gain=0.0)
    for _ in range(30):
        reference, _ = body.step(DT, (0.0, 0.0, 0.0, 0.0), goals(body, shift=(0.5, 0.0, 0.5)), False)
    assert np.allclose(reference.twist, 0.0)
    assert body.lift == ROBOT.home[0]


def test_a_blocked_base_is_not_sent_ever_farther():
    body = begun()
    for _ in range(500):
        reference, _ = body.step(DT, (1.0, 0.0, 0.0, 0.0), {}, False)
    assert 0.15 < reference.pose[0] < 0.25
    body.step(DT, (-1.0, 0.0, 0.0, 0.0), {}, False)


def test_the_lift_stays_within_its_range():
    body = begun()
    for way in (1.0, -1.0):
        for _ in range(2000):
            body.step(DT, (0.0, 0.0, 0.0, way), {}, False)
            assert ROBOT.lower[0] <= body.lift <= ROBOT.upper[0]
        assert body.lift == pytest.approx(ROBOT.upper[0] if way > 0 else ROBOT.lower[0], abs=0.01)


def test_what_is_commanded_is_kept_so_that_a_grasp_keeps_its_force():
    body = Body(ROBOT, RetargetConfig())
    measured, commanded = ROBOT.home.copy(), ROBOT.home.copy()
    gripper = ROBOT.joint_names.index("left_gripper_joint")
    measured[gripper], commanded[gripper] = 0.02, 0.0
    body.see(state(position=measured))
    body.start(state(position=measured), commanded)
    assert body.closure("left") == 1.0
    assert body.closure("right") == 0.0


@pytest.mark.parametrize(
    "wrong", [{"scale": 0.0}, {"reach": np.nan}, {"base_speed": (0.1, -0.1, 0.1)}, {"farthest": 0.5}]
)
def test_parameters_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="teleop config"):
        RetargetConfig(**wrong)
