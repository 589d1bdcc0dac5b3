from __future__ import annotations

import numpy as np
import pytest
from bytemini_core.types import BaseReference, HandReference, Mode
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel, load_robot
from hypothesis import given, settings
from hypothesis import strategies as st
from wbc_controller.benchmarks.path import Path, Target
from wbc_controller.config import WbcConfig
from wbc_controller.hands import exponential, logarithm, rotation_of
from wbc_controller.weights import LOOSE, Weights


def quaternion_of(rotation: np.ndarray) -> np.ndarray:
    vector = logarithm(rotation)
    angle = np.linalg.norm(vector)
    axis = vector / angle if angle > 0 else vector
    return np.array((*np.sin(angle / 2) * axis, np.cos(angle / 2)))


def hand(frame: str, target: Target) -> HandReference:
    return HandReference(frame, np.concatenate((target.position, quaternion_of(target.rotation))), target.twist)


def present(bench, frame: str) -> Target:
    pose = Kinematics(bench.robot).forward(frame, bench.position, bench.base)
    return Target(pose[:3, :3], pose[:3, 3], np.zeros(6))


def shifted(target: Target, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Target:
    return Target(target.rotation, target.position + np.array((x, y, z)), target.twist)


def distance(bench, frame: str, target: Target) -> float:
    return float(np.linalg.norm(present(bench, frame).position - target.position))


@given(st.lists(st.floats(-1.8, 1.8), min_size=3, max_size=3))
@settings(max_examples=200, deadline=None)
def test_logarithm_inverts_the_exponential(vector: list[float]) -> None:
    rotation = exponential(np.array(vector))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(exponential(logarithm(rotation)), rotation, atol=1e-9)
    np.testing.assert_allclose(rotation_of(quaternion_of(rotation)), rotation, atol=1e-9)


def test_both_hands_follow_a_path_that_needs_base_and_lift(bench) -> None:
    path = Path(bench.robot, crossing=False, step=False)
    bench.controller.request_mode(Mode.TELEOP)
    begin = bench.t
    worst = 0.0
    for k in range(1000):
        targets = {f"{side}_tcp": path.at(i, bench.t - begin) for i, side in enumerate(("left", "right"))}
        hands = tuple(hand(frame, target) for frame, target in targets.items())
        command = bench.step(bench.reference(source=Mode.TELEOP, hands=hands))
        if k > 200:
            worst = max(worst, *(distance(bench, frame, target) for frame, target in targets.items()))
    assert worst < 5e-5
    assert not bench.violations
    assert bench.base[0] > 0.1
    assert command.status.sacrificed == ()


def test_one_hand_leaves_the_other_arm_where_it_is(bench) -> None:
    bench.controller.request_mode(Mode.TELEOP)
    goal = shifted(present(bench, "left_tcp"), x=0.08, z=0.05)
    for _ in range(600):
        bench.step(bench.reference(source=Mode.TELEOP, hands=(hand("left_tcp", goal),)))
    assert distance(bench, "left_tcp", goal) < 1e-3
    right = bench.robot.indices(bench.robot.arm_joints("right"))
    np.testing.assert_allclose(bench.position[right], bench.robot.home[right], atol=1e-6)
    gripper = bench.robot.indices(("left_gripper_joint",))
    np.testing.assert_allclose(bench.position[gripper], bench.robot.home[gripper], atol=1e-9)
    assert not bench.violations


def test_hand_target_far_off_is_reached_gently(bench) -> None:
    bench.controller.request_mode(Mode.TELEOP)
    goal = shifted(present(bench, "right_tcp"), x=0.1, y=-0.1, z=0.15)
    first = bench.step(bench.reference(source=Mode.TELEOP, hands=(hand("right_tcp", goal),)))
    assert np.abs(first.joint.velocity).max() < 0.02
    for _ in range(800):
        bench.step(bench.reference(source=Mode.TELEOP, hands=(hand("right_tcp", goal),)))
    assert distance(bench, "right_tcp", goal) < 1e-3


def test_strict_hands_are_not_moved_by_what_comes_after_them(make_bench) -> None:
    """Heavy wishes of base and posture bend a weighted hand's course; with no leeway they get what it leaves free."""
    heavy = {"base": 3.0, "joint": 3.0, "posture": 0.5, "free_lift": 1.0}
    worst = {}
    for name, leeway in (("weights", LOOSE), ("strict", 0.0)):
        bench = make_bench(load_robot("v1"), WbcConfig(weights=Weights(**heavy, leeway=leeway)))
        bench.controller.request_mode(Mode.TELEOP)
        begin, worst[name] = present(bench, "left_tcp"), 0.0
        for k in range(600):
            way, rate = 0.05 * (1.0 - np.cos(2.0 * bench.t)), 0.1 * np.sin(2.0 * bench.t)
            twist = np.array((rate, 0.0, 0.5 * rate, 0.0, 0.0, 0.0))
            goal = Target(begin.rotation, begin.position + way * np.array((1.0, 0.0, 0.5)), twist)
            base = BaseReference(np.array((-0.1, 0.05, 0.3)), np.zeros(3))
            bench.step(bench.reference(source=Mode.TELEOP, hands=(hand("left_tcp", goal),), base=base))
            if k > 100:
                worst[name] = max(worst[name], distance(bench, "left_tcp", goal))
        assert not bench.violations
    assert worst["strict"] < 1e-4
    assert worst["weights"] > 5.0 * worst["strict"]
    assert bench.base[0] < -0.05, "the base has what the hand leaves free"


def test_new_weights_come_gradually(bench) -> None:
    bench.controller.request_mode(Mode.TELEOP)
    goal = shifted(present(bench, "left_tcp"), x=0.05)
    for k in range(800):
        if k == 300:
            bench.controller.weigh(Weights(posture=1.0, free_base=0.02, leeway=0.0))
        bench.step(bench.reference(source=Mode.TELEOP, hands=(hand("left_tcp", goal),)))
    assert not bench.violations
    assert distance(bench, "left_tcp", goal) < 1e-4
    half = Weights(leeway=0.0).toward(Weights(posture=0.05), 0.5)
    assert half.posture == pytest.approx(0.04)
    assert 0.0 < half.leeway < LOOSE
    assert Weights().toward(Weights(base=2.0), 1.0) == Weights(base=2.0)


@pytest.mark.parametrize("axis", [(0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)])
def test_hand_turned_beyond_its_wrists_range_comes_to_rest(make_bench, axis: tuple[float, float, float]) -> None:
    """The other joints must not count on a wrist that cannot turn on: with a base that lags they would never rest."""
    bench = make_bench(load_robot("v1"), lag=0.06)
    bench.controller.request_mode(Mode.TELEOP)
    begin = present(bench, "right_tcp")
    base = BaseReference(np.zeros(3), np.zeros(3))
    fastest = 0.0
    for k in range(1200):
        goal = Target(exponential(min(1.1, 0.004 * k) * np.array(axis)) @ begin.rotation, begin.position, np.zeros(6))
        command = bench.step(bench.reference(source=Mode.TELEOP, hands=(hand("right_tcp", goal),), base=base))
        if k > 900:
            fastest = max(fastest, float(np.abs(command.joint.velocity).max()))
    assert "right wrist range" in command.status.active
    assert "right_tcp" in command.status.sacrificed
    assert fastest < 0.01
    assert not bench.violations


def test_named_joints_and_base_go_with_a_hand(bench) -> None:
    bench.controller.request_mode(Mode.TELEOP)
    goal = present(bench, "left_tcp")
    base = BaseReference(None, np.array((0.05, 0.0, 0.0)))
    names = ("left_gripper_joint", "head_yaw_joint")
    for _ in range(400):
        reference = bench.reference(names, (0.01, 0.4), source=Mode.TELEOP, hands=(hand("left_tcp", goal),), base=base)
        command = bench.step(reference)
    at = dict(zip(command.joint.names, command.joint.position, strict=True))
    assert at["left_gripper_joint"] == pytest.approx(0.01, abs=1e-9)
    assert at["head_yaw_joint"] == pytest.approx(0.4, abs=0.01)
    assert bench.base[0] == pytest.approx(0.1, abs=0.02)
    assert distance(bench, "left_tcp", goal) < 2e-3


def test_hands_driven_into_one_another_keep_their_distance(bench) -> None:
    bench.controller.request_mode(Mode.TELEOP)
    meeting = 0.5 * (present(bench, "left_tcp").position + present(bench, "right_tcp").position)
    goals = {frame: present(bench, frame) for frame in ("left_tcp", "right_tcp")}
    nearest, seen = 1.0, set()
    for k in range(800):
        share = min(1.0, k / 300)
        hands = []
        for frame, goal in goals.items():
            position = goal.position + share * (meeting - goal.position)
            hands.append(hand(frame, Target(goal.rotation, position, np.zeros(6))))
        command = bench.step(bench.reference(source=Mode.TELEOP, hands=tuple(hands)))
        nearest = min(nearest, float(bench.controller._solver.solve().distance.min()))
        seen |= set(command.status.active)
    assert nearest > bench.controller.config.self_distance - 2e-3
    assert any(name.startswith("distance left_hand_link") for name in seen)
    assert set(command.status.sacrificed) == {"left_tcp", "right_tcp"}
    assert not bench.violations


def test_hand_stays_off_the_environment(bench) -> None:
    goal = present(bench, "left_tcp")
    top = goal.position[2] - 0.2
    slab = np.array([1.0, 0, 0, 0, 1, 0, 0, 0, 1, goal.position[0], 0.0, top - 0.5, 1.0, 1.0, 0.5, 0.03])
    bench.controller.set_environment(slab[None])
    bench.controller.request_mode(Mode.TELEOP)
    for k in range(600):
        lower = shifted(goal, z=-0.25 * min(1.0, k / 400))
        command = bench.step(bench.reference(source=Mode.TELEOP, hands=(hand("left_tcp", lower),)))
    assert any("environment 0" in name for name in command.status.active)
    assert bench.controller._solver.solve().distance.min() == pytest.approx(0.03, abs=2e-3)
    assert not bench.violations


def test_hand_jumps_are_refused(bench) -> None:
    bench.controller.request_mode(Mode.TELEOP)
    goal = present(bench, "left_tcp")
    bench.step(bench.reference(source=Mode.TELEOP, hands=(hand("left_tcp", goal),)))
    command = bench.step(bench.reference(source=Mode.TELEOP, hands=(hand("left_tcp", shifted(goal, x=0.4)),)))
    assert command.status.mode is Mode.HOLD
    assert "left_tcp jumps" in command.status.reason


@pytest.mark.parametrize("seed", range(3))
def test_wild_hand_targets_never_break_a_limit(make_bench, seed: int) -> None:
    """Out of reach, upside down, jumping, 100 times too fast: limits hold, and tracking recovers."""
    robot: RobotModel = load_robot("v1" if seed % 2 else "v2")
    rng = np.random.default_rng(seed)
    bench = make_bench(robot, WbcConfig(hand_jump=1e3, max_jump=1e3))
    bench.controller.request_mode(Mode.TELEOP)
    home = {frame: present(bench, frame) for frame in ("left_tcp", "right_tcp")}
    for k in range(1500):
        if k % 60 == 0:
            hands = tuple(
                HandReference(
                    frame,
                    np.concatenate((goal.position + rng.normal(size=3) * 0.6, q / np.linalg.norm(q))),
                    rng.normal(size=6) * rng.choice((0.0, 1.0, 100.0)),
                )
                for frame, goal in home.items()
                for q in [rng.normal(size=4)]
            )
        command = bench.step(bench.reference(source=Mode.TELEOP, hands=hands))
        assert command.status.mode is Mode.TELEOP, command.status.reason
    assert not bench.violations
    for _ in range(1500):  # a chain of joints can be led into a corner that only joint targets lead out of
        bench.step(bench.reference(robot.joint_names, robot.home, source=Mode.TELEOP))
    targets = {frame: shifted(present(bench, frame), x=0.1, z=0.1) for frame in home}
    for _ in range(600):
        command = bench.step(bench.reference(source=Mode.TELEOP, hands=tuple(hand(f, g) for f, g in targets.items())))
    assert max(distance(bench, frame, target) for frame, target in targets.items()) < 1e-3
    assert command.status.sacrificed == ()
    assert not bench.violations


def test_relative_weight_holds_the_hands_to_one_another(make_bench) -> None:
    robot = load_robot("v1")
    bench = make_bench(robot, WbcConfig(weights=Weights(position=0.3, rotation=0.1, relative=3.0)))
    bench.controller.request_mode(Mode.TELEOP)
    goals = {frame: present(bench, frame) for frame in ("left_tcp", "right_tcp")}
    apart = goals["right_tcp"].position - goals["left_tcp"].position
    for k in range(600):
        move = 0.1 * np.sin(0.01 * k)
        hands = tuple(hand(frame, shifted(goal, x=move, z=move)) for frame, goal in goals.items())
        bench.step(bench.reference(source=Mode.TELEOP, hands=hands))
        now = present(bench, "right_tcp").position - present(bench, "left_tcp").position
        assert np.linalg.norm(now - apart) < 1e-3


@pytest.mark.parametrize(("name", "value"), [("position", -1.0), ("rotation", float("nan")), ("posture", 0.0)])
def test_weights_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Weights(**{name: value})
