"""Hand speed, hand force, keep-out zones, battery and heat: each slows or holds the robot, and never breaks a limit."""

from __future__ import annotations

import numpy as np
import pytest
from bytemini_core.types import Mode, PowerState, RobotState
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import load_robot
from hypothesis import given, settings
from hypothesis import strategies as st
from wbc_controller.config import WbcConfig
from wbc_controller.pace import Pace, PowerLimits
from wbc_controller.zones import keep_out

HANDS = ("left_tcp", "right_tcp")


def wave(robot, rng):
    """Joint targets that swing through much of every range, faster than the joints can."""
    centre, span = 0.5 * (robot.lower + robot.upper), robot.upper - robot.lower
    phase, rate = rng.uniform(0.0, 6.0, len(span)), rng.uniform(0.3, 2.0, len(span))
    names = robot.joint_names
    return lambda t: robot.clamp_wrist(centre + 0.35 * span * np.sin(rate * t + phase)), names


def swing(bench, seconds, rng, source=Mode.POLICY):
    """Let the bench follow it; yields every command."""
    target, names = wave(bench.robot, rng)
    for _ in range(round(seconds * 200)):
        q = target(bench.t)
        yield bench.step(bench.reference(names, q, (target(bench.t + 1e-3) - q) / 1e-3, source=source))


@pytest.mark.parametrize("mode", [Mode.POLICY, Mode.TELEOP])
def test_no_hand_is_faster_than_its_owner_may_be(make_bench, mode) -> None:
    robot = load_robot("v1")
    most = {Mode.POLICY: 0.3, Mode.TELEOP: 0.5}[mode]
    for seed in range(3):
        bench = make_bench(robot, WbcConfig(hand_speed={mode: most}, max_jump=1e3))
        kinematics, rng = Kinematics(robot), np.random.default_rng(seed)
        bench.controller.request_mode(mode)
        fastest, said = 0.0, False
        for command in swing(bench, 4.0, rng, mode):
            assert command.status.mode is mode, command.status.reason
            velocity = np.concatenate((command.joint.base_twist, command.joint.velocity))
            for frame in HANDS:
                jacobian = kinematics.jacobian(frame, command.joint.position, bench.base)[:3]
                fastest = max(fastest, float(np.linalg.norm(jacobian @ velocity)))
            said |= "hand speed" in command.status.active
        assert said
        assert 0.5 * most < fastest <= most
        assert not bench.violations


def test_a_hand_that_pushes_too_hard_gives_way(make_bench) -> None:
    robot = load_robot("v1")
    bench = make_bench(robot, WbcConfig(hand_force={Mode.POLICY: 40.0}))
    bench.controller.request_mode(Mode.POLICY)
    kinematics = Kinematics(robot)
    elbow = robot.joint_names.index("left_elbow_joint")
    pushed = 0.0

    def step(reference=None):
        """The drives' efforts are those of rest, and of a push of so many N against the left hand, down."""
        effort = kinematics.gravity(bench.position)
        effort -= pushed * kinematics.jacobian("left_tcp", bench.position)[2, 3:] * -1.0
        stamp = round(bench.t * 1e9)
        zero = np.zeros(19)
        command = bench.controller.update(
            bench.t, RobotState(stamp, robot.joint_names, bench.position, zero, effort, bench.base), reference
        )
        bench._watch(command)
        moved = command.joint.position.copy()
        if pushed:
            moved[elbow] = min(moved[elbow], bench.position[elbow])  # it gives way no further than the push lets it
        bench.position = moved
        bench.tick += 1
        return command

    hold = robot.joint_names, robot.home
    for _ in range(60):
        assert step(bench.reference(*hold)).status.mode is Mode.POLICY
    pushed = 30.0
    for _ in range(100):
        assert step(bench.reference(*hold)).status.mode is Mode.POLICY
    pushed = 60.0
    commands = [step(bench.reference(*hold)) for _ in range(100)]
    assert commands[-1].status.mode is Mode.HOLD
    assert "the left hand pushes with" in commands[-1].status.reason
    assert "at most 40 N is allowed in POLICY" in commands[-1].status.reason
    assert not bench.violations


def test_after_a_push_the_command_goes_to_where_the_robot_is(make_bench) -> None:
    robot = load_robot("v1")
    bench = make_bench(robot, WbcConfig(hand_force={Mode.POLICY: 40.0}))
    bench.controller.request_mode(Mode.POLICY)
    kept = bench.position.copy()
    elbow = robot.joint_names.index("right_elbow_joint")
    kept[elbow] -= 0.1  # the drives are pushed aside by so much
    effort = Kinematics(robot).gravity(kept)
    effort[elbow] += 25.0
    command = bench.step(bench.reference(robot.joint_names, robot.home))
    for _ in range(200):
        state = RobotState(round(bench.t * 1e9), robot.joint_names, kept, np.zeros(19), effort, bench.base)
        command = bench.controller.update(bench.t, state, bench.reference(robot.joint_names, robot.home))
        bench._watch(command)
        bench.tick += 1
    assert command.status.mode is Mode.HOLD
    assert "the right hand pushes with" in command.status.reason
    np.testing.assert_allclose(command.joint.position, kept, atol=1e-3)
    assert not command.joint.velocity.any()
    assert not bench.violations


def test_hands_and_forearms_stay_out_of_zones(make_bench) -> None:
    robot = load_robot("v1")
    kinematics = Kinematics(robot)
    bench = make_bench(robot, WbcConfig(max_jump=1e3))
    wall = keep_out((0.0, 0.0, 0.0, 0.0, 0.2, 0.2, 0.2, 1.2, 0.0, 1.0, 0.0, 1.0, 4.0, 4.0), 0.3, 0.02)
    assert wall.shape == (3, 16)
    assert keep_out((0.0,) * 7, None, 0.02).shape == (0, 16)
    bench.controller.set_environment(wall)
    bench.controller.request_mode(Mode.POLICY)
    nearest, lowest, near = np.inf, np.inf, False
    for command in swing(bench, 8.0, np.random.default_rng(2)):
        for frame in HANDS:
            x, _, z = kinematics.forward(frame, command.joint.position, bench.base)[:3, 3]
            nearest, lowest = min(nearest, 0.7 - x), min(lowest, z - 0.3)
        near |= any("environment" in name for name in command.status.active)
    assert near
    assert nearest > 0.0
    assert lowest > 0.0
    assert not bench.violations


@pytest.mark.parametrize(
    ("boxes", "reason"),
    [((1.0,) * 6, "6 numbers"), ((0, 0, 0, 0, 1, 1, 0.0), "expected a size"), ((np.nan,) * 7, "expected finite")],
)
def test_zones_without_sense_are_refused(boxes, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        keep_out(boxes, None, 0.02)


def power(charge=100.0, watts=300.0, amperes=6.0, heat=30.0):
    return PowerState(0, charge, watts, amperes, ("left_elbow_joint",), np.array([heat]))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (power(charge=9.0), "the battery is at 9 %"),
        (power(heat=90.0), "left_elbow_joint has a temperature of 90 °C"),
        (power(watts=3000.0), "the robot draws 3000 W"),
        (power(amperes=60.0), "the robot draws 60 A"),
    ],
)
def test_an_exhausted_robot_rests_until_it_has_recovered(bench, bad, reason) -> None:
    bench.controller.hear_power(bench.t, power())
    bench.controller.request_mode(Mode.POLICY)
    commands = []
    for command in swing(bench, 3.0, np.random.default_rng(1)):
        if len(commands) % 20 == 0:
            bench.controller.hear_power(bench.t, power() if len(commands) < 200 else bad)
        commands.append(command)
    assert commands[199].status.mode is Mode.POLICY
    assert commands[-1].status.mode is Mode.HOLD
    assert commands[-1].status.reason == reason
    assert not commands[-1].joint.velocity.any()
    assert bench.controller.request_mode(Mode.POLICY) == (False, reason)
    bench.controller.hear_power(bench.t, power())
    assert bench.controller.request_mode(Mode.POLICY)[0]
    assert not bench.violations


def test_a_tired_robot_is_slower_and_says_why(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    robot = bench.robot
    fastest = np.zeros(19)
    for k, command in enumerate(swing(bench, 6.0, np.random.default_rng(1))):
        bench.controller.hear_power(bench.t, power(charge=15.0))
        assert command.status.mode is Mode.POLICY
        if k > 400:
            assert command.status.reason == "at 62 % of its speed: the battery is at 15 %"
            fastest = np.maximum(fastest, np.abs(command.joint.velocity) / robot.velocity)
    assert fastest.max() == pytest.approx(0.625, abs=1e-6)
    assert not bench.violations


def test_a_driver_that_says_no_more_of_its_power_is_missed(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    bench.controller.hear_power(bench.t, power())
    modes = [command.status for command in swing(bench, 2.5, np.random.default_rng(1))]
    assert modes[390].mode is Mode.POLICY
    assert modes[-1].mode is Mode.HOLD
    assert modes[-1].reason == "no word of battery and temperatures for 2 s"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 5000.0), st.floats(-20.0, 150.0)), min_size=1))
def test_the_share_moves_gently_and_is_never_above_what_is_left(words) -> None:
    limits = PowerLimits()
    pace, t, before = Pace(limits), 0.0, 1.0
    for charge, watts, heat in words:
        pace.hear(t, power(charge, watts, heat=heat))
        for _ in range(40):
            t += 0.005
            share = pace.at(t)
            assert limits.slowest <= share <= 1.0
            assert abs(share - before) <= 0.005 + 1e-12
            before = share
        if heat > limits.too_hot or charge < limits.empty or watts > limits.most_power:
            assert pace.prevents


def test_limits_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hot is 90.0, expected less than too_hot, 85.0"):
        PowerLimits(hot=90.0)
    with pytest.raises(ValueError, match="hand_speed in POLICY is -1"):
        WbcConfig(hand_speed={Mode.POLICY: -1.0})
