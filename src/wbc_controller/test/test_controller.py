from __future__ import annotations

import numpy as np
import pytest
from bytemini_core.types import BaseReference, HandReference, Mode, RobotState
from bytemini_description.robot import RobotModel
from wbc_controller.config import WbcConfig
from wbc_controller.controller import UnseenError, WholeBodyController


def hand(frame: str) -> HandReference:
    return HandReference(frame, np.array((0.5, 0.2, 1.0, 0, 0, 0, 1.0)))


def arm_wave(bench, t: float) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """A joint trajectory well within the limits: position, velocity, acceleration at t."""
    robot = bench.robot
    names = (*robot.arm_joints("left"), *robot.arm_joints("right"))
    swing = np.tile((0.4, 0.3, 0.5, 0.5, 0.6, 0.3, 0.3), 2)
    home = robot.home[robot.indices(names)]
    w = 1.5
    return names, home + swing * np.sin(w * t), swing * w * np.cos(w * t), -swing * w * w * np.sin(w * t)


def test_starts_in_hold_where_the_robot_is(bench) -> None:
    command = bench.step()
    assert command.status.mode is Mode.HOLD
    np.testing.assert_allclose(command.joint.position, bench.robot.home, atol=1e-6)
    assert not command.joint.base_twist.any()
    assert np.abs(command.joint.effort).max() > 1.0  # gravity is carried
    np.testing.assert_array_equal(command.joint.stiffness, bench.robot.stiffness)


@pytest.mark.parametrize(
    ("late", "first", "reason"),
    [(0.5, 0, "stale"), (-166.0, 0, "in the future"), (0.0, 1, "lacks")],  # the second: no simulated time heard yet
)
def test_commands_nothing_before_it_has_seen_where_the_robot_is(bench, late, first, reason) -> None:
    robot, zero = bench.robot, np.zeros(19)
    controller = WholeBodyController(robot)
    names, position = robot.joint_names, robot.home + 0.1
    for k in range(3):
        stamp = round((10.0 + k * 0.005 - late) * 1e9)
        state = RobotState(stamp, names[first:], position[first:], zero[first:], zero[first:])
        with pytest.raises(UnseenError, match=reason):
            controller.update(10.0 + k * 0.005, state)
    position = robot.clamp_wrist(np.clip(position, robot.lower, robot.upper))
    seen = controller.update(10.1, RobotState(round(10.1e9), names, position, zero, zero))
    np.testing.assert_allclose(seen.joint.position, position, atol=1e-9)
    assert not seen.joint.velocity.any()


def test_a_reset_of_the_emergency_stop_before_it_rests_goes_on_braking(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    for _ in range(200):
        names, q, v, a = arm_wave(bench, bench.t)
        bench.step(bench.reference(names, q, v, a))
    assert bench.controller.request_mode(Mode.ESTOP)[0]
    bench.step()
    assert bench.controller.request_mode(Mode.HOLD, reset=True)[0]
    for _ in range(200):
        bench.step()
    assert bench.controller.at_rest
    assert not bench.violations


def test_follows_a_trajectory_within_the_limits_without_lag(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    worst = 0.0
    for k in range(800):
        names, q, v, a = arm_wave(bench, bench.t)
        command = bench.step(bench.reference(names, q, v, a))
        if k > 200:
            worst = max(worst, float(np.abs(command.joint.position[bench.robot.indices(names)] - q).max()))
    assert worst < 1e-9
    assert not bench.violations


def test_takes_over_without_a_jump_and_gently(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    names, q, _, _ = arm_wave(bench, 1.0)
    for _ in range(600):
        bench.step(bench.reference(names, q))
    np.testing.assert_allclose(bench.commanded[bench.robot.indices(names)], q, atol=1e-9)
    assert not bench.violations
    assert bench.jerk < 10.5  # robot.yaml: jerk limits are ten times the acceleration's


def test_joints_not_named_keep_their_target(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    elbow = "left_elbow_joint"
    for _ in range(400):
        bench.step(bench.reference((elbow,), (1.2,)))
    for _ in range(200):
        command = bench.step(bench.reference(("right_elbow_joint",), (1.75,)))
    at = dict(zip(command.joint.names, command.joint.position, strict=True))
    assert at[elbow] == pytest.approx(1.2, abs=1e-9)
    assert at["head_pitch_joint"] == pytest.approx(bench.robot.home[2], abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_wild_references_never_break_a_limit(robot: RobotModel, make_bench, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bench = make_bench(robot, WbcConfig(max_jump=1e3, max_base_jump=1e3))
    bench.controller.request_mode(Mode.TELEOP)
    span = robot.upper - robot.lower
    for k in range(1500):
        if k % rng.integers(1, 120) == 0:
            q = rng.uniform(robot.lower - 0.04 * span, robot.upper + 0.04 * span)
            v = rng.normal(size=19) * rng.choice((0.0, 1.0, 100.0))
            base = BaseReference(rng.normal(size=3) if rng.random() < 0.5 else None, 3 * rng.normal(size=3))
        command = bench.step(bench.reference(robot.joint_names, q, v, source=Mode.TELEOP, base=base))
        assert command.status.mode is Mode.TELEOP, command.status.reason
    assert not bench.violations
    for _ in range(2500):  # and it recovers: back on an ordinary target (the lift is slow)
        command = bench.step(bench.reference(robot.joint_names, robot.home, source=Mode.TELEOP))
    np.testing.assert_allclose(command.joint.position, robot.home, atol=1e-9)


@pytest.mark.parametrize("mode", [Mode.HOLD, Mode.ESTOP])
def test_brakes_within_the_limits_at_every_moment(bench, mode: Mode) -> None:
    for moment in range(60, 300, 37):
        bench.controller.request_mode(Mode.HOLD)
        bench.controller.request_mode(Mode.POLICY)
        for _ in range(moment):
            names, q, v, a = arm_wave(bench, 2.0 * bench.t)
            bench.step(bench.reference(names, q, 2 * v, 4 * a, base=BaseReference(None, np.array((0.3, 0.1, 0.5)))))
        bench.controller.request_mode(mode)
        for _ in range(200):
            command = bench.step()
        assert not command.joint.velocity.any()
        assert not command.joint.base_twist.any()
        rest = command.joint.position
        np.testing.assert_array_equal(bench.step().joint.position, rest)
    assert not bench.violations


def test_estop_is_latched_and_reset_only_to_hold(bench) -> None:
    assert bench.controller.request_mode(Mode.ESTOP) == (True, "")
    for asked, reset in ((Mode.TELEOP, False), (Mode.POLICY, True), (Mode.HOLD, False)):
        granted, reason = bench.controller.request_mode(asked, reset)
        assert not granted
        assert "HOLD" in reason
    assert bench.step().status.mode is Mode.ESTOP
    assert bench.controller.request_mode(Mode.HOLD, reset=True) == (True, "")
    assert bench.controller.request_mode(Mode.POLICY) == (True, "")


def test_estop_reset_starts_from_where_the_robot_is_then(bench) -> None:
    bench.controller.request_mode(Mode.ESTOP)
    bench.step()
    bench.position = bench.robot.home - 0.1 * (bench.robot.home > 0.2)  # sagged without power
    sagged = bench.position.copy()
    bench.controller.request_mode(Mode.HOLD, reset=True)
    np.testing.assert_allclose(bench.step().joint.position, sagged, atol=1e-6)


def test_a_person_takes_over_but_a_policy_does_not(bench) -> None:
    assert bench.controller.request_mode(Mode.POLICY)[0]
    assert bench.controller.request_mode(Mode.TELEOP)[0]
    granted, reason = bench.controller.request_mode(Mode.POLICY)
    assert not granted
    assert "TELEOP owns" in reason


def test_only_the_owner_moves_the_robot(bench) -> None:
    bench.controller.request_mode(Mode.TELEOP)
    for _ in range(50):
        command = bench.step(bench.drive(0.3))
    assert not command.joint.base_twist.any()
    assert command.status.reason == "waiting for the first reference"


def test_old_reference_takes_the_robot_from_its_owner(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    reference = bench.drive(0.3)
    modes = [bench.step(reference).status.mode for _ in range(30)]
    assert modes[16] is Mode.POLICY
    assert modes[22] is Mode.HOLD
    command = bench.step(reference)
    assert "reference is stale" in command.status.reason
    assert command.status.refused == 1
    for _ in range(100):
        command = bench.step(reference)
    assert not command.joint.base_twist.any()
    assert not bench.violations


def test_reference_from_before_the_grant_is_not_executed(bench) -> None:
    early = bench.drive(0.3)
    bench.step()
    bench.step()
    bench.controller.request_mode(Mode.POLICY)
    command = bench.step(early)
    assert command.status.mode is Mode.POLICY
    assert not command.joint.base_twist.any()


def test_old_state_takes_the_robot_from_its_owner(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    bench.step(bench.drive(0.3))
    command = bench.step(bench.drive(0.3), age=0.06)
    assert command.status.mode is Mode.HOLD
    assert "state is stale" in command.status.reason


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda b: b.reference(("left_elbow",), (1.0,)), "left_elbow, which is not a joint"),
        (lambda b: b.reference(("left_elbow_joint",), (3.0,)), "outside its limits"),
        (lambda b: b.reference(late=200_000_000), "in the future"),
        (lambda b: b.reference(hands=(hand("left_hand"),)), "hand frame left_hand, expected left_tcp or right_tcp"),
        (lambda b: b.reference(hands=(hand("left_tcp"), hand("left_tcp"))), "two targets for left_tcp"),
    ],
)
def test_bad_reference_is_refused_with_its_reason(bench, make, says: str) -> None:
    bench.controller.request_mode(Mode.POLICY)
    command = bench.step(make(bench))
    assert command.status.mode is Mode.HOLD
    assert says in command.status.reason
    assert command.status.refused == 1


def test_jumps_from_one_reference_to_the_next_are_refused(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    bench.step(bench.reference(("left_elbow_joint",), (1.7,)))
    command = bench.step(bench.reference(("left_elbow_joint",), (0.2,)))
    assert command.status.mode is Mode.HOLD
    assert "jumps by" in command.status.reason
    bench.controller.request_mode(Mode.POLICY)
    bench.step(bench.reference(base=BaseReference(np.zeros(3), np.zeros(3))))
    command = bench.step(bench.reference(base=BaseReference(np.array((0.0, 2.0, 0.0)), np.zeros(3))))
    assert "base reference jumps" in command.status.reason


def test_state_that_lacks_joints_is_refused(bench) -> None:
    full = bench.state()
    half = RobotState(full.stamp, full.names[:5], full.position[:5], full.velocity[:5], full.effort[:5])
    status = bench.controller.update(bench.t, half).status
    assert "state lacks" in status.reason


def test_state_in_another_order_is_understood(robot: RobotModel, bench) -> None:
    fresh = type(bench.controller)(robot)
    full = bench.state()
    turned = RobotState(0, full.names[::-1], full.position[::-1], full.velocity, full.effort)
    np.testing.assert_allclose(fresh.update(0.0, turned).joint.position, robot.home, atol=1e-6)


def test_clock_going_back_is_a_fault(bench) -> None:
    for _ in range(10):
        bench.step()
    bench.controller.request_mode(Mode.POLICY)
    bench.step(bench.drive(0.1))
    bench.tick -= 8
    command = bench.step(bench.drive(0.1))
    assert command.status.mode is Mode.HOLD
    assert "clock went back" in command.status.reason


def test_called_too_soon_answers_the_same_command(bench) -> None:
    command = bench.step()
    assert bench.controller.update(bench.t - 0.004, bench.state()) is command


def test_base_follows_pose_and_twist(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    begin = bench.t
    for _ in range(800):
        t = bench.t - begin
        # a circle at 0.2 m/s, facing along it; the start is a step in speed and 0.05 m beside
        yaw = 0.5 * t
        pose = np.array((0.4 * np.sin(yaw), 0.05 + 0.4 * (1 - np.cos(yaw)), yaw))
        bench.step(bench.reference(base=BaseReference(pose, np.array((0.2, 0.0, 0.5)))))
    np.testing.assert_allclose(bench.base, pose, atol=4e-3)
    assert not bench.violations


def test_policy_drives_the_base_no_faster_than_it_may(bench) -> None:
    bench.controller.request_mode(Mode.TELEOP)
    for _ in range(300):
        command = bench.step(bench.reference(base=BaseReference(None, np.array((5.0, 0, 0))), source=Mode.TELEOP))
    assert command.joint.base_twist[0] == pytest.approx(bench.robot.base_velocity[0])
    assert "base/x limit" in command.status.active
    bench.controller.request_mode(Mode.HOLD)
    bench.controller.request_mode(Mode.POLICY)
    for _ in range(300):
        command = bench.step(bench.drive(5.0))
    assert command.joint.base_twist[0] == pytest.approx(bench.robot.base_policy_velocity[0])
    assert not bench.violations


def test_wrist_disc_is_named_when_it_binds(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    names = ("left_wrist_pitch_joint", "left_wrist_roll_joint")
    seen = set()
    for k in range(200):
        q = np.array((0.68, 0.68)) * min(1.0, 0.012 * k)
        seen |= set(bench.step(bench.reference(names, q, np.full(2, 5.0))).status.active)
    assert "left wrist range" in seen
    assert not bench.violations


@pytest.mark.parametrize(("name", "value"), [("period", 0.0), ("base_gain", float("nan")), ("approach", 1.5)])
def test_config_that_makes_no_sense_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        WbcConfig(**{name: value})


def moving(bench):
    """The policy swings the arms."""
    bench.controller.request_mode(Mode.POLICY)
    for _ in range(100):
        names, position, velocity, acceleration = arm_wave(bench, bench.t)
        command = bench.step(bench.reference(names, position, velocity, acceleration))
    assert command.status.mode is Mode.POLICY
    return command


def test_after_silence_it_goes_on_from_where_the_robot_is(bench) -> None:
    """The drives have held meanwhile: following the reference on would snap."""
    moving(bench)
    bench.tick += 100  # half a second without a state
    held = bench.position.copy()
    command = bench.controller.update(bench.t, bench.state(), bench.reference())
    assert command.status.mode is Mode.HOLD
    assert "no robot state for 0.5" in command.status.reason
    np.testing.assert_allclose(command.joint.position, held, atol=1e-9)
    np.testing.assert_array_equal(command.joint.velocity, 0.0)


@pytest.mark.parametrize(
    ("joint", "leap", "says"), [(6, 0.5, "left_elbow_joint is measured 0."), (None, 1.0, "odometry leaps by 1.0")]
)
def test_a_sensor_that_leaps_stops_the_robot_within_its_limits(bench, joint, leap, says) -> None:
    before = moving(bench).joint
    if joint is None:
        bench.base[0] += leap
    else:
        bench.position[joint] -= leap
    command = bench.controller.update(bench.t, bench.state(), bench.reference())
    assert command.status.mode is Mode.HOLD
    assert says in command.status.reason
    change = np.abs(command.joint.velocity - before.velocity) / bench.controller.config.period
    assert (change <= bench.robot.acceleration * (1 + 1e-6)).all()


def test_a_joint_that_does_not_follow_stops_the_robot(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    stuck = bench.position[6]
    for _ in range(400):
        names, position, *_ = arm_wave(bench, bench.t)
        target = np.array(position)
        target[list(names).index("left_elbow_joint")] = stuck - min(0.5 * bench.t, 0.6)
        command = bench.controller.update(bench.t, bench.state(), bench.reference(names, target))
        bench.position = command.joint.position.copy()
        bench.position[6] = stuck
        bench.tick += 1
        if command.status.mode is Mode.HOLD:
            break
    assert "left_elbow_joint does not follow" in command.status.reason


def test_an_owner_whose_policy_or_cameras_fall_silent_loses_the_robot(bench) -> None:
    bench.controller.alive("cameras", bench.t)
    bench.controller.alive("policy", bench.t)
    assert bench.controller.request_mode(Mode.POLICY) == (True, "")
    for part in ("policy", "cameras"):
        for _ in range(40):
            names, q, v, a = arm_wave(bench, bench.t)
            for name in ("policy", "cameras"):
                bench.controller.alive(name, bench.t)
            assert bench.step(bench.reference(names, q, v, a)).status.mode is Mode.POLICY
        modes = []
        for _ in range(200):
            for name in {"policy", "cameras"} - {part}:
                bench.controller.alive(name, bench.t)
            names, q, v, a = arm_wave(bench, bench.t)
            command = bench.step(bench.reference(names, q, v, a))
            modes.append(command.status.mode)
        assert modes.index(Mode.HOLD) * 0.005 < 0.1
        assert f"no sign of life from {part}" in command.status.reason
        assert not command.joint.velocity.any()
        granted, reason = bench.controller.request_mode(Mode.POLICY)
        assert not granted
        assert part in reason
        bench.controller.alive(part, bench.t)
        assert bench.controller.request_mode(Mode.POLICY)[0]
    assert not bench.violations


def test_a_driver_that_starts_anew_finds_the_robot_held_where_it_is(bench) -> None:
    bench.controller.request_mode(Mode.POLICY)
    for _ in range(200):
        names, q, v, a = arm_wave(bench, bench.t)
        bench.step(bench.reference(names, q, v, a))
    bench.tick, bench.position, bench.commanded = 0, bench.robot.home.copy(), None
    command = bench.step()
    assert command.status.mode is Mode.HOLD
    np.testing.assert_allclose(command.joint.position, bench.robot.home, atol=1e-6)
    for _ in range(100):
        command = bench.step()
    assert command.status.mode is Mode.HOLD
    assert bench.controller.request_mode(Mode.POLICY)[0]
    assert bench.step(bench.reference()).status.mode is Mode.POLICY
