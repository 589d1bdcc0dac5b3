"""Clutch, limiter and watchdog: the properties that keep a robot from jumping."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from teleop_vr.clutch import PENDING, Anchor, Gripper, Squeeze
from teleop_vr.limiter import Follower, HandLimits, JumpGate
from teleop_vr.poses import compose, distance, from_vector
from teleop_vr.watchdog import LOST_AFTER, SLOW_AFTER, Link, Watchdog

seeds = st.integers(0, 2**32 - 1)


def random_pose(rng: np.random.Generator, reach: float = 1.0) -> np.ndarray:
    return np.concatenate((rng.uniform(-reach, reach, 3), Rotation.random(rng=rng).as_quat()))


@given(seeds, st.floats(-3.1, 3.1), st.floats(0.2, 2.0))
def test_engaging_moves_nothing(seed, heading, scale):
    rng = np.random.default_rng(seed)
    anchor = Anchor(random_pose(rng), random_pose(rng), heading, scale)
    assert np.allclose(distance(anchor.target(anchor.grip), anchor.hand), 0.0, atol=1e-7)


@given(seeds, st.floats(-3.1, 3.1), st.floats(0.2, 2.0))
def test_the_hand_moves_as_the_operator_does_seen_along_the_heading(seed, heading, scale):
    rng = np.random.default_rng(seed)
    anchor = Anchor(random_pose(rng), random_pose(rng), heading, scale)
    grip = random_pose(rng)
    target = anchor.target(grip)
    back = Rotation.from_euler("z", -heading)
    assert np.allclose(target[:3] - anchor.hand[:3], scale * back.apply(grip[:3] - anchor.grip[:3]))
    turned = Rotation.from_quat(grip[3:]) * Rotation.from_quat(anchor.grip[3:]).inv()
    seen = Rotation.from_quat(target[3:]) * Rotation.from_quat(anchor.hand[3:]).inv()
    assert np.allclose(seen.as_rotvec(), back.apply(turned.as_rotvec()), atol=1e-6) or turned.magnitude() > 3.14
    assert np.allclose(distance(anchor.ghost(target), grip), 0.0, atol=1e-6)


def test_each_engagement_takes_a_fresh_squeeze():
    squeeze = Squeeze()
    squeeze.update(0, 1.0)
    assert not squeeze.wants(0)  # held since before we looked
    squeeze.update(1, 0.0)
    squeeze.update(2, 0.6)
    assert not squeeze.wants(2)
    squeeze.update(3, 0.9)
    assert squeeze.wants(3)
    assert squeeze.wants(3 + round(PENDING * 1e9))
    assert not squeeze.wants(4 + round(PENDING * 1e9))
    squeeze.spend()
    squeeze.update(5, 1.0)
    assert not squeeze.wants(5)
    squeeze.update(6, 0.5)
    assert squeeze.held  # between the two thresholds nothing changes
    squeeze.update(7, 0.3)
    assert not squeeze.held


def test_taking_over_a_grasp_with_the_trigger_let_go_drops_nothing():
    gripper = Gripper(0.8)
    for trigger in (0.0, 0.1, 0.5, 0.7):
        assert gripper.reach(trigger, 0.1) == 0.8
    gripper.reach(0.9, 0.1)
    assert not gripper.waiting
    closures = [gripper.reach(0.2, 0.1) for _ in range(10)]
    assert np.all(np.abs(np.diff([0.8, *closures])) <= 0.2 + 1e-9)
    assert closures[-1] == pytest.approx(0.2)


@given(seeds, st.sampled_from((1 / 72, 1 / 90, 1 / 60)))
def test_motion_within_the_limits_is_followed_exactly(seed, dt):
    rng = np.random.default_rng(seed)
    limits = HandLimits()
    start = random_pose(rng)
    follower = Follower(limits, start)
    amplitude, rate = rng.uniform(-0.1, 0.1, 6), rng.uniform(0.5, 4.0, 6)
    for i in range(1, 200):
        # from rest: the acceleration of A (1 - cos(wt)) is A w^2 at most, well inside
        shift = amplitude * (1.0 - np.cos(rate * i * dt))
        target = np.concatenate((start[:3] + shift[:3], compose(np.r_[0, 0, 0, from_vector(shift[3:])], start)[3:]))
        assert follower.step(target, dt) == ()
        assert np.allclose(distance(follower.pose, target), 0.0, atol=1e-6)


@given(seeds)
def test_whatever_comes_speed_and_acceleration_stay_within_the_limits(seed):
    rng = np.random.default_rng(seed)
    limits = HandLimits()
    follower = Follower(limits, random_pose(rng))
    for _ in range(200):
        before, twist = follower.pose.copy(), follower.twist.copy()
        dt = rng.uniform(0.004, 0.05)
        if rng.random() < 0.1:
            follower.stop(dt)
        else:
            follower.step(random_pose(rng, 2.0), dt)
        step, turn = distance(follower.pose, before)
        assert step <= limits.speed * dt * (1 + 1e-9)
        assert turn <= limits.turn_speed * dt * (1 + 1e-6)
        change = follower.twist - twist
        assert np.linalg.norm(change[:3]) <= limits.acceleration * dt * (1 + 1e-9)
        assert np.linalg.norm(change[3:]) <= limits.turn_acceleration * dt * (1 + 1e-9)
        assert abs(np.linalg.norm(follower.pose[3:]) - 1.0) < 1e-9


@given(seeds)
def test_a_still_target_is_reached_and_kept(seed):
    rng = np.random.default_rng(seed)
    start = random_pose(rng)
    follower, target = Follower(HandLimits(), start), start.copy()
    target[:3] += rng.uniform(-0.3, 0.3, 3)
    for _ in range(200):
        follower.step(target, 1 / 90)
    assert np.allclose(distance(follower.pose, target), 0.0, atol=1e-6)
    assert np.allclose(follower.twist, 0.0, atol=1e-6)


def test_braking_comes_to_rest():
    follower = Follower(HandLimits(), np.array((0, 0, 0, 0, 0, 0, 1.0)))
    target = follower.pose.copy()
    for i in range(60):
        target[0] = 0.8 * i / 90 * min(1.0, i / 30)
        follower.step(target, 1 / 90)
    assert follower.twist[0] > 0.5
    for _ in range(20):
        follower.stop(0.01)
    assert not follower.twist.any()


def test_a_jump_is_rejected_and_then_given_up():
    gate = JumpGate(HandLimits())
    pose = np.array((0.5, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    assert gate.check(0.0, pose) == "pass"
    away = pose.copy()
    away[0] += 0.7
    verdicts = [gate.check(i / 90, away) for i in range(1, 20)]
    assert verdicts[0] == "reject"
    assert "pass" not in verdicts
    assert verdicts[-1] == "lost"


def test_coming_back_after_a_jump_goes_on():
    gate = JumpGate(HandLimits())
    pose = np.array((0.5, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    away = pose + np.array((0.7, 0, 0, 0, 0, 0, 0))
    assert [gate.check(t, p) for t, p in ((0.0, pose), (0.011, away), (0.022, pose))] == ["pass", "reject", "pass"]


@given(seeds)
def test_a_quick_hand_passes(seed):
    rng = np.random.default_rng(seed)
    gate, direction = JumpGate(HandLimits()), rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    for i in range(90):
        pose = np.concatenate((3.0 * i / 90 * direction, from_vector(10.0 * i / 90 * direction)))
        assert gate.check(i / 90, pose) == "pass"


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_silence_slows_then_lets_go(gaps):
    watchdog, now = Watchdog(), 10**9
    assert watchdog.link(now) is Link.LOST
    for gap in gaps:
        watchdog.feed(now)
        now += round(gap * 1e9)
        expected = Link.LOST if gap >= LOST_AFTER else Link.SLOW if gap >= SLOW_AFTER else Link.FRESH
        assert watchdog.link(now) is expected


def test_an_old_message_does_not_make_the_link_fresh():
    watchdog = Watchdog()
    watchdog.feed(10**9, age=0.3)
    assert watchdog.link(10**9) is Link.SLOW
    watchdog.feed(10**9 + 1, age=0.6)
    assert watchdog.link(10**9 + 1) is Link.SLOW  # what was heard before stays heard
