"""A whole teleoperation in one thread: headset, session, the real whole-body controller, an ideal body."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bytemini_core.types import Mode
from bytemini_description.robot import load_robot
from teleop_vr.poses import distance, from_vector, multiply
from teleop_vr.protocol import LOWER, STICK, UPPER
from teleop_vr.rig import OPERATOR, Rig

from teleop_vr import inputs


@pytest.fixture
def rig() -> Rig:
    rig = Rig(load_robot("v1"))
    rig.run(0.3)
    return rig


def engaged(rig: Rig) -> dict[str, bool]:
    return {side: hand["engaged"] for side, hand in rig.view()["hands"].items()}


def said(rig: Rig, kind: str) -> list[dict]:
    return [message for message in rig.messages if message["type"] == kind]


def test_nothing_moves_before_a_grip_is_squeezed(rig: Rig):
    home = rig.body.position.copy()
    rig.headset.left.pose[:3] += 0.3
    rig.headset.left.trigger = 1.0
    rig.run(0.5)
    assert rig.references == 0
    assert rig.mode is Mode.HOLD
    assert np.array_equal(rig.body.position, home)
    assert rig.view()["session"] == "ready"


def test_a_squeezed_hand_follows_and_the_other_stays(rig: Rig):
    rig.engage("left")
    assert engaged(rig) == {"left": True, "right": False}
    assert rig.mode is Mode.TELEOP
    before = {side: rig.hand(side) for side in ("left", "right")}
    start = rig.headset.left.pose.copy()

    def move(t: float) -> None:
        rig.headset.left.pose[:3] = start[:3] + np.array((0.05, 0.03, 0.08)) * min(t, 1.0)
        rig.headset.left.pose[3:] = multiply(from_vector(np.array((0.0, 0.0, 0.3)) * min(t, 1.0)), start[3:])

    rig.run(1.6, move)
    after = {side: rig.hand(side) for side in ("left", "right")}
    assert np.allclose(after["left"][:3] - before["left"][:3], (0.05, 0.03, 0.08), atol=0.004)
    assert distance(after["left"], before["left"])[1] == pytest.approx(0.3, abs=0.02)
    assert np.allclose(distance(after["right"], before["right"]), 0.0, atol=0.003)


def test_engaging_moves_no_joint_wherever_the_controller_is(rig: Rig):
    rng = np.random.default_rng(3)
    for _ in range(5):
        rig.headset.left.pose[:3] = rng.uniform(-1, 1, 3)
        rig.headset.left.pose[3:] = from_vector(rng.normal(size=3))
        rig.run(0.6)
        before = rig.body.position.copy()
        rig.engage("left")
        assert engaged(rig)["left"]
        assert np.rad2deg(np.abs(rig.body.position - before)[:10]).max() < 0.5
        rig.engage()


def test_letting_go_holds_at_once_and_the_arm_stays(rig: Rig):
    rig.engage("left")
    start = rig.headset.left.pose.copy()
    rig.run(0.5, lambda t: np.copyto(rig.headset.left.pose[:1], start[:1] + 0.1 * t))
    rig.headset.left.squeeze = 0.0
    rig.run(0.4)
    before = rig.hand("left")
    rig.headset.left.pose[0] += 0.2
    rig.run(0.5)
    assert np.allclose(distance(rig.hand("left"), before), 0.0, atol=1e-3)
    assert rig.mode is Mode.TELEOP


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (lambda rig: setattr(rig.headset.left, "tracked", False), "not tracked"),
        (lambda rig: setattr(rig.headset.left, "stick", (0.5, 0.0)), "sticks"),
        (lambda rig: setattr(rig.headset, "visible", False), "menu"),
        (lambda rig: setattr(rig, "hearing", False), "robot is not heard"),
        (lambda rig: rig.order("pause"), "paused"),
        (lambda rig: rig.order("estop"), "emergency stop"),
    ],
)
def test_engaging_is_withheld_with_the_reason(rig: Rig, disturb, reason):
    disturb(rig)
    rig.run(0.3)
    rig.headset.left.squeeze = 1.0
    rig.run(0.2)
    assert not engaged(rig)["left"]
    assert reason in rig.view()["hands"]["left"]["withheld"]
    assert any(m["cause"] == "refused" for m in said(rig, "haptic"))


def test_joints_beyond_their_limits_withhold_engaging(rig: Rig):
    elbow = rig.model.joint_names.index("left_elbow_joint")
    rig.body.position = rig.body.position.copy()
    rig.body.position[elbow] = rig.model.upper[elbow] + 0.1
    rig.feed(inputs.Measured(rig.body.state()))
    assert "left_elbow_joint" in rig.session.body.unfit(rig.body.state(), None)
    shifted = rig.model.home.copy()
    shifted[elbow] += 0.3
    rig.body.position = rig.model.home.copy()
    assert "blocked" in rig.session.body.unfit(rig.body.state(), shifted)
    assert rig.session.body.unfit(rig.body.state(), rig.model.home) == ""


def test_a_grip_withheld_needs_a_fresh_squeeze(rig: Rig):
    rig.headset.left.tracked = False
    rig.run(0.3)
    rig.headset.left.squeeze = 1.0
    rig.run(0.1)
    rig.headset.left.tracked = True
    rig.run(1.0)
    assert not engaged(rig)["left"]
    rig.engage("left")
    assert engaged(rig)["left"]


BREAKS = {
    "reset of the space": lambda rig: setattr(rig.headset, "epoch", rig.headset.epoch + 1),
    "menu": lambda rig: setattr(rig.headset, "visible", False),
    "silence": lambda rig: setattr(rig, "sending", False),
    "hand lost": lambda rig: setattr(rig.headset.left, "tracked", False),
    "bare hands": lambda rig: setattr(rig.headset.left, "bare", True),
    "jump": lambda rig: np.copyto(rig.headset.left.pose[:3], rig.headset.left.pose[:3] + 0.6),
    "socket": lambda rig: rig.feed(inputs.Closed(OPERATOR)),
    "robot silent": lambda rig: setattr(rig, "hearing", False),
    "release": lambda rig: rig.say({"type": "release"}),
    "pause": lambda rig: rig.order("pause"),
    "estop": lambda rig: rig.order("estop"),
    "fault": lambda rig: rig.controller.request_mode(Mode.HOLD),
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_breaks_the_clutch_opens_it_and_the_robot_stays(rig: Rig, what: str):
    rig.engage("left")
    assert engaged(rig)["left"]
    start = rig.headset.left.pose.copy()
    rig.run(0.4, lambda t: np.copyto(rig.headset.left.pose[:1], start[:1] + 0.2 * t))
    BREAKS[what](rig)
    rig.run(0.8)
    assert not engaged(rig)["left"]
    stopped = rig.body.position.copy()
    rig.headset.left.pose[0] += 0.02
    rig.run(0.5)
    assert np.abs(rig.body.position - stopped)[:10].max() < 2e-3, "the robot moved by itself"
    # The grip is still held, and what broke off is well again: that alone engages nothing.
    rig.sending = rig.hearing = rig.headset.visible = rig.headset.left.tracked = True
    rig.headset.left.bare = False
    rig.run(0.5)
    assert not engaged(rig)["left"]


def test_silence_slows_to_a_stop_before_it_disengages(rig: Rig):
    rig.engage("left")
    start = rig.headset.left.pose.copy()
    rig.run(0.6, lambda t: np.copyto(rig.headset.left.pose[:1], start[:1] + 0.2 * t))
    rig.sending = False
    rig.run(0.25)
    assert engaged(rig)["left"]
    before = rig.hand("left")
    rig.run(0.2)
    assert np.allclose(distance(rig.hand("left"), before), 0.0, atol=2e-3)
    assert rig.view()["session"] == "lost"
    rig.run(0.2)
    assert not engaged(rig)["left"]
    assert rig.mode is Mode.HOLD


def test_a_short_gap_goes_on(rig: Rig):
    rig.engage("left")
    rig.sending = False
    rig.run(0.15)
    rig.headset.time += 0.15
    rig.sending = True
    rig.headset.left.pose[0] += 0.03
    rig.run(0.5)
    assert engaged(rig)["left"]


def test_sticks_drive_the_base_and_hands_ride_along(rig: Rig):
    rig.engage("left", "right")
    before = rig.hand("left")
    rig.headset.left.stick = (1.0, 0.0)
    rig.run(1.0)
    rig.headset.left.stick = (0.0, 0.0)
    rig.run(0.8)
    moved = rig.body.base[0]
    assert 0.3 < moved < 0.6
    assert np.allclose(rig.hand("left")[:3] - before[:3], (moved, 0.0, 0.0), atol=0.01)
    assert rig.body.base[1:] == pytest.approx(np.zeros(2), abs=0.01)


def test_letting_go_leaves_the_base_where_it_is(rig: Rig):
    """A hand out of reach holds the base away from where it is sent; without the hand the base must not set out."""
    assert rig.order("lock_base")["ok"]
    rig.engage("left")
    start = rig.headset.left.pose.copy()
    rig.run(3.0, lambda t: np.copyto(rig.headset.left.pose[:1], start[:1] + 0.2 * min(t, 2.0)))
    rig.body.base = rig.body.base + np.array((0.05, 0.0, 0.0))  # pushed
    rig.run(0.02)
    rig.headset.left.squeeze = 0.0
    rig.run(0.3)
    before = rig.body.base.copy()
    rig.run(1.0)
    assert np.allclose(rig.body.base, before, atol=1e-3)


def test_sticks_drive_without_a_grip_and_turn_and_lift(rig: Rig):
    rig.headset.right.stick = (1.0, 0.5)
    rig.run(1.0)
    assert rig.body.base[2] > 0.2
    lift = rig.model.joint_names.index("lift_joint")
    assert rig.body.position[lift] > rig.model.home[lift] + 0.04
    rig.headset.right.stick = (0.0, 0.0)
    rig.run(0.5)
    still = rig.body.base.copy()
    rig.run(0.5)
    assert np.allclose(rig.body.base, still, atol=1e-3)


def test_silence_stops_the_base(rig: Rig):
    rig.headset.left.stick = (1.0, 0.0)
    rig.run(1.0)
    rig.sending = False
    rig.run(0.7)
    still = rig.body.base.copy()
    rig.run(0.5)
    assert np.allclose(rig.body.base, still, atol=1e-3)
    assert rig.mode is Mode.HOLD


@pytest.mark.parametrize("locked", [False, True])
def test_the_base_joins_in_when_a_hand_leaves_the_arms_workspace_unless_locked(rig: Rig, locked: bool):
    if locked:
        assert rig.order("lock_base")["ok"]
    rig.engage("left")
    before, start = rig.hand("left"), rig.headset.left.pose.copy()
    rig.run(4.0, lambda t: np.copyto(rig.headset.left.pose[:1], start[:1] + 0.15 * min(t, 3.0)))
    rig.run(2.0)
    moved = rig.hand("left")[0] - before[0]
    if locked:
        assert abs(rig.body.base[0]) < 0.02
        assert "reach" in rig.view()["hands"]["left"]["limited"]
    else:
        assert rig.body.base[0] > 0.1
        assert moved == pytest.approx(0.45, abs=0.03)


def test_the_lift_joins_in_upwards(rig: Rig):
    lift = rig.model.joint_names.index("lift_joint")
    rig.engage("left")
    start = rig.headset.left.pose.copy()
    rig.run(6.0, lambda t: np.copyto(rig.headset.left.pose[2:3], start[2:3] + 0.15 * min(t, 5.0)))
    assert rig.body.position[lift] > rig.model.home[lift] + 0.03


def test_the_trigger_closes_the_gripper_only_while_engaged(rig: Rig):
    gripper = rig.model.joint_names.index("left_gripper_joint")
    rig.headset.left.trigger = 1.0
    rig.run(0.5)
    assert rig.body.position[gripper] == pytest.approx(0.0425)
    rig.headset.left.trigger = 0.0
    rig.engage("left")
    rig.headset.left.trigger = 1.0
    rig.run(1.0)
    assert rig.body.position[gripper] == pytest.approx(0.0, abs=1e-4)
    rig.headset.left.squeeze = 0.0
    rig.run(0.1)
    rig.headset.left.trigger = 0.0
    rig.run(0.3)
    rig.engage("left")
    assert rig.body.position[gripper] == pytest.approx(0.0, abs=1e-4), "engaging again dropped what was held"
    assert rig.view()["hands"]["left"]["gripper_waiting"]


def test_the_head_follows_the_headset_within_its_speed(rig: Rig):
    yaw = rig.model.joint_names.index("head_yaw_joint")
    rig.headset.head[3:] = from_vector(np.array((0.0, 0.0, 0.0)))
    rig.engage("left")
    rig.headset.head[3:] = from_vector(np.array((0.0, 0.0, 0.6)))
    rig.run(0.1)
    assert rig.body.position[yaw] < 0.3
    rig.run(1.0)
    assert rig.body.position[yaw] == pytest.approx(0.6, abs=0.02)


def test_the_robots_forward_is_where_the_headset_looked(rig: Rig):
    rig.headset.head[3:] = from_vector(np.array((0.0, 0.0, np.pi / 2)))  # facing the operator's left
    rig.order("recenter")
    rig.run(0.1)
    rig.engage("left")
    before, start = rig.hand("left"), rig.headset.left.pose.copy()
    rig.run(1.0, lambda t: np.copyto(rig.headset.left.pose[1:2], start[1:2] + 0.08 * t))
    rig.run(0.5)
    assert np.allclose(rig.hand("left")[:3] - before[:3], (0.08, 0.0, 0.0), atol=0.004)


@pytest.mark.parametrize("jump", [False, True])
def test_looking_aside_while_inputs_change_leaves_forward_where_it_was(rig: Rig, jump: bool):
    def look(angle: float) -> None:
        rig.headset.head[3:] = from_vector(np.array((0.0, 0.0, angle)))

    if not jump:
        rig.run(0.5, lambda t: look(np.pi * t))
    look(np.pi / 2)
    rig.headset.epoch += 1  # with a jump of the head, the space is another
    rig.run(0.1)
    rig.engage("left")
    before, start = rig.hand("left"), rig.headset.left.pose.copy()
    axis = slice(1, 2) if jump else slice(0, 1)
    rig.run(1.0, lambda t: np.copyto(rig.headset.left.pose[axis], start[axis] + 0.08 * t))
    rig.run(0.5)
    assert np.allclose(rig.hand("left")[:3] - before[:3], (0.08, 0.0, 0.0), atol=0.004)


@pytest.mark.parametrize("forget", ["recenter", "reset of the space"])
def test_no_hand_is_led_before_forward_is_known(rig: Rig, forget: str):
    rig.headset.tracked = False
    if forget == "recenter":
        rig.order("recenter")
    else:
        BREAKS[forget](rig)
    rig.headset.head[3:] = from_vector(np.array((0.0, 0.0, np.pi / 2)))
    rig.engage("left")
    assert not engaged(rig)["left"]
    assert "headset is not tracked" in rig.view()["hands"]["left"]["withheld"]
    rig.headset.tracked = True
    rig.engage("left")
    assert engaged(rig)["left"]
    assert any("forward" in m["text"] for m in said(rig, "event"))
    before, start = rig.hand("left"), rig.headset.left.pose.copy()
    rig.run(1.0, lambda t: np.copyto(rig.headset.left.pose[1:2], start[1:2] + 0.08 * t))
    rig.run(0.5)
    assert np.allclose(rig.hand("left")[:3] - before[:3], (0.08, 0.0, 0.0), atol=0.004)


def test_emergency_stop_is_latched_until_an_explicit_reset(rig: Rig):
    rig.engage("left")
    rig.headset.left.buttons = rig.headset.right.buttons = 1 << STICK
    rig.run(0.1)
    rig.headset.left.buttons = rig.headset.right.buttons = 0
    rig.run(0.5)
    assert rig.mode is Mode.ESTOP
    assert rig.estops[0] is True
    assert rig.view()["session"] == "estop"
    rig.engage("left")
    assert not engaged(rig)["left"]
    assert not rig.order("reset")["ok"]
    assert rig.order("reset", confirmed=True)["ok"]
    rig.run(0.2)
    assert rig.mode is Mode.HOLD
    assert rig.estops[-1] is False
    rig.engage("left")
    assert engaged(rig)["left"]


def test_an_observer_may_stop_but_not_steer(rig: Rig):
    rig.feed(inputs.Opened(2))
    rig.say({"type": "hello", "protocol": 1, "client": "desk", "want": "operator"}, 2)
    assert "rig holds the robot" in said(rig, "welcome")[-1]["reason"]
    frames = rig.session.frames
    rig.feed(inputs.Binary(2, rig.headset.frame(0.01)))
    assert rig.session.frames == frames
    assert rig.session.rejected["observer"] == 1
    assert not rig.order("lock_base", 2)["ok"]
    assert rig.order("estop", 2)["ok"]
    rig.run(0.1)
    assert rig.mode is Mode.ESTOP


def test_a_second_operator_starts_from_scratch(rig: Rig):
    rig.engage("left")
    rig.feed(inputs.Opened(2))
    rig.say({"type": "hello", "protocol": 1, "client": "second", "want": "observer"}, 2)
    rig.say({"type": "release"})
    rig.say({"type": "claim"}, 2)
    assert rig.view()["operator"] == "second"
    assert rig.view()["session"] == "idle"
    rig.run(0.2)
    assert rig.mode is Mode.HOLD


def test_a_page_of_another_protocol_is_turned_away(rig: Rig):
    rig.feed(inputs.Opened(2))
    out = rig.say({"type": "hello", "protocol": 2, "client": "new", "want": "observer"}, 2)
    assert out.closes[0][:2] == (2, 4002)


def test_starting_saving_and_discarding_take_the_right_presses(rig: Rig):
    def press(side: str, button: int) -> None:
        rig.headset.hand(side).buttons = 1 << button
        rig.run(0.05)
        rig.headset.hand(side).buttons = 0
        rig.run(0.05)

    press("right", LOWER)
    assert "no recorder" in said(rig, "event")[-1]["text"]
    rig.feed(inputs.Recorder("IDLE", 1))
    press("right", LOWER)
    assert rig.recorded == [("start", False, False)]
    rig.feed(inputs.Recorder("RECORDING", 1))
    press("right", LOWER)
    assert rig.view()["prompt"]["kind"] == "save"
    press("left", LOWER)  # X does not confirm a save
    assert rig.view()["prompt"] is None
    press("right", LOWER)
    press("right", LOWER)
    assert rig.recorded[1:] == [("save", True, True)]
    rig.feed(inputs.Recorder("SAVED", 1))
    assert any(m["cause"] == "save" for m in said(rig, "haptic"))
    rig.feed(inputs.Recorder("RECORDING", 2))
    press("left", LOWER)
    assert rig.view()["prompt"]["kind"] == "discard"
    press("left", LOWER)
    assert rig.recorded[2:] == [("discard", True, False)]
    press("left", LOWER)
    rig.run(6.0)
    assert rig.view()["prompt"] is None  # nobody answered
    assert len(rig.recorded) == 3


def test_an_emergency_stop_aborts_the_episode(rig: Rig):
    rig.feed(inputs.Recorder("RECORDING", 1))
    rig.order("estop")
    assert rig.recorded == [("abort", True, False)]


def test_the_desk_may_save_and_judge(rig: Rig):
    rig.feed(inputs.Opened(2))
    rig.feed(inputs.Recorder("RECORDING", 1))
    assert rig.order("save", 2)["ok"]
    assert rig.order("confirm", 2, success=False)["ok"]
    assert rig.recorded == [("save", True, False)]


def test_holding_y_pauses_and_resumes(rig: Rig):
    rig.engage("left")
    for paused in (True, False):
        rig.headset.left.buttons = 1 << UPPER
        rig.run(1.0)
        rig.headset.left.buttons = 0
        rig.run(0.2)
        assert rig.session.paused is paused
    assert not engaged(rig)["left"]
    rig.engage("left")
    assert engaged(rig)["left"]


def test_contact_is_felt(rig: Rig):
    rig.engage("left")
    for _ in range(20):
        rig.feed(inputs.Force("left", 10.0))
    rig.feed(inputs.Force("left", 25.0))
    assert any(m["cause"] == "contact" and m["hand"] == "left" for m in said(rig, "haptic"))


def test_nobody_drives_blind(rig: Rig):
    rig.feed(inputs.Pictures({"head": 3.0}))
    rig.headset.left.stick = (1.0, 0.0)
    rig.run(0.5)
    assert np.allclose(rig.body.base, 0.0, atol=1e-6)
    assert any(w["code"] == "camera_stale" for w in rig.view()["warnings"])


def test_both_grips_toggle_when_asked_so():
    rig = Rig(load_robot("v1"), toggle=True)
    rig.run(0.3)
    rig.engage("left")
    assert engaged(rig) == {"left": False, "right": False}
    rig.engage("left", "right")
    assert engaged(rig) == {"left": True, "right": True}
    rig.headset.left.squeeze = rig.headset.right.squeeze = 0.0
    rig.run(0.2)
    assert engaged(rig) == {"left": True, "right": True}
    rig.headset.right.squeeze = 1.0
    rig.run(0.2)
    assert engaged(rig) == {"left": False, "right": False}


def test_extrapolated_poses_move_nothing(rig: Rig):
    rig.engage("left")
    rig.headset.left.tracked = False
    before = rig.hand("left")
    rig.headset.left.pose[0] += 0.05
    rig.run(0.3)
    assert np.allclose(distance(rig.hand("left"), before), 0.0, atol=2e-3)
    assert engaged(rig)["left"]  # not yet: back within half a second it goes on
    rig.headset.left.pose[0] -= 0.04
    rig.headset.left.tracked = True
    rig.run(0.5)
    assert engaged(rig)["left"]
    assert rig.hand("left")[0] - before[0] == pytest.approx(0.01, abs=0.003)


def test_the_view_is_json_and_complete(rig: Rig):
    rig.engage("left", "right")
    view = json.loads(json.dumps(rig.view(), allow_nan=False))
    assert view["session"] == "engaged"
    assert view["echo"]["sequence"] == rig.headset.sequence
    assert np.allclose(view["hands"]["left"]["ghost"][:3], (-0.2, 1.1, -0.4), atol=1e-3)
    assert view["latency"]["frame_hz"] == pytest.approx(90, rel=0.2)
