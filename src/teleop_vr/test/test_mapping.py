"""Buttons and sticks; and that the README prints the table that the program looks up."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from teleop_vr.mapping import DEAD_ZONE, HOLD, TABLE, Action, Buttons, Sticks, deflection
from teleop_vr.operators import CLAIM, Operators
from teleop_vr.protocol import LOWER, STICK, UPPER, HeadsetFrame, parse_frame
from teleop_vr.simulated import SimulatedHeadset

SECOND = 10**9


def press(buttons: Buttons, headset: SimulatedHeadset, left: int = 0, right: int = 0, now: int = 0):
    headset.left.buttons, headset.right.buttons = left, right
    return buttons.update(now, taken(headset))


def taken(headset: SimulatedHeadset) -> HeadsetFrame:
    return parse_frame(headset.frame(0.01))


def test_a_button_acts_once_at_its_press():
    buttons, headset = Buttons(), SimulatedHeadset()
    press(buttons, headset)
    for left, right, action in (
        (0, 1 << LOWER, Action.TAKE),
        (1 << LOWER, 0, Action.DISCARD),
        (0, 1 << UPPER, Action.REANCHOR),
    ):
        assert press(buttons, headset, left, right) == (action,)
        assert press(buttons, headset, left, right) == ()
        assert press(buttons, headset) == ()


def test_what_is_down_at_the_first_frame_does_nothing():
    buttons, headset = Buttons(), SimulatedHeadset()
    assert press(buttons, headset, 1 << LOWER, 1 << LOWER) == ()
    assert press(buttons, headset, 1 << LOWER, 1 << LOWER) == ()


def test_pause_takes_a_hold():
    buttons, headset = Buttons(), SimulatedHeadset()
    press(buttons, headset)
    assert press(buttons, headset, 1 << UPPER, now=0) == ()
    assert press(buttons, headset, 1 << UPPER, now=round(HOLD * SECOND) - 1) == ()
    assert press(buttons, headset, 1 << UPPER, now=round(HOLD * SECOND)) == (Action.PAUSE,)
    assert press(buttons, headset, 1 << UPPER, now=5 * SECOND) == ()


def test_a_left_click_alone_recentres_when_let_go():
    buttons, headset = Buttons(), SimulatedHeadset()
    press(buttons, headset)
    assert press(buttons, headset, 1 << STICK) == ()
    assert press(buttons, headset) == (Action.RECENTER,)


def test_both_clicks_stop_and_do_not_recentre():
    buttons, headset = Buttons(), SimulatedHeadset()
    press(buttons, headset)
    press(buttons, headset, 1 << STICK)
    assert press(buttons, headset, 1 << STICK, 1 << STICK) == (Action.ESTOP,)
    assert press(buttons, headset, 1 << STICK, 1 << STICK) == ()
    assert press(buttons, headset) == ()


def test_grip_trigger_and_lower_button_of_one_hand_stop():
    for side in ("left", "right"):
        buttons, headset = Buttons(), SimulatedHeadset()
        press(buttons, headset)
        hand = headset.hand(side)
        hand.squeeze = hand.trigger = 1.0
        hand.buttons = 1 << LOWER
        assert buttons.update(0, taken(headset)) == (Action.ESTOP,)


def test_a_stop_held_at_the_first_frame_stops():
    buttons, headset = Buttons(), SimulatedHeadset()
    assert press(buttons, headset, 1 << STICK, 1 << STICK) == (Action.ESTOP,)


@given(st.floats(-1.0, 1.0))
def test_deflection_is_odd_bounded_and_dead_in_the_middle(value):
    assert deflection(-value) == -deflection(value)
    assert abs(deflection(value)) <= 1.0
    assert (deflection(value) == 0.0) == (abs(value) <= DEAD_ZONE)


def test_sticks_point_where_rep_103_says():
    sticks, headset = Sticks(), SimulatedHeadset()
    sticks.update(taken(headset))
    headset.left.stick, headset.right.stick = (1.0, 0.0), (0.0, 1.0)
    sticks.update(taken(headset))
    assert sticks.axes == (1.0, 0.0, 1.0, 0.0)
    headset.left.stick, headset.right.stick = (0.0, -1.0), (-1.0, 0.0)
    sticks.update(taken(headset))
    assert sticks.axes == (0.0, -1.0, 0.0, -1.0)


def test_for_the_left_handed_sticks_and_buttons_change_places_and_the_stops_stay():
    sticks, buttons, headset = Sticks(left_handed=True), Buttons(left_handed=True), SimulatedHeadset()
    sticks.update(taken(headset))
    headset.right.stick = (1.0, 0.0)
    sticks.update(taken(headset))
    assert sticks.axes == (1.0, 0.0, 0.0, 0.0)
    press(buttons, headset)
    assert press(buttons, headset, 1 << LOWER, 0) == (Action.TAKE,)
    assert press(buttons, headset, 1 << STICK, 1 << STICK) == (Action.ESTOP,)
    headset.right.squeeze = headset.right.trigger = 1.0
    press(buttons, headset)
    assert press(buttons, headset, 0, 1 << LOWER) == (Action.ESTOP,)


def test_a_stick_held_at_connection_drives_nothing_until_it_was_neutral():
    sticks, headset = Sticks(), SimulatedHeadset()
    headset.left.stick = (1.0, 0.0)
    for _ in range(3):
        sticks.update(taken(headset))
        assert not sticks.driving
        assert not sticks.neutral
    headset.left.stick = (0.0, 0.0)
    sticks.update(taken(headset))
    assert sticks.neutral
    headset.left.stick = (1.0, 0.0)
    sticks.update(taken(headset))
    assert sticks.driving
    sticks.forget()
    sticks.update(taken(headset))
    assert not sticks.driving


def test_one_holds_the_robot():
    operators = Operators()
    assert operators.claim(0, 1, "first") == ""
    assert "first holds the robot" in operators.claim(0, 2, "second")
    assert operators.claim(0, 1, "first") == ""
    assert not operators.release(2)
    assert operators.release(1)
    assert operators.claim(1, 2, "second") == ""


def test_silence_frees_the_robot():
    operators = Operators()
    operators.claim(0, 1, "first")
    operators.heard(SECOND, 1)
    operators.heard(4 * SECOND, 2)  # somebody else's voice does not count
    assert operators.claim(SECOND + round(CLAIM * SECOND), 2, "second") != ""
    assert operators.claim(SECOND + round(CLAIM * SECOND) + 1, 2, "second") == ""


def test_the_readme_prints_this_table():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for row in TABLE:
        assert f"| {row.control} | {row.does} | {row.when} |" in text
