"""Columns go by name: permuted, Cartesian, grippers."""

from __future__ import annotations

import numpy as np
import pytest
from bytemini_description.kinematics import Kinematics
from trajectory_optimizer.layout import HAND_POSITION, HAND_ROTATION
from trajectory_optimizer.optimizer import TrajectoryOptimizer

from trajectory_optimizer import rotation

MS = 1_000_000
TICK = 5 * MS
HAND = tuple(f"left_hand/{part}" for part in (*HAND_POSITION, *HAND_ROTATION))


@pytest.fixture
def optimizer(robot, state):
    made = TrajectoryOptimizer(robot)
    made.reset(state())
    return made


def test_the_order_of_columns_means_nothing(robot, state, make_chunk, home):
    rng = np.random.default_rng(0)
    rows = home + np.cumsum(rng.normal(0.0, 0.01, (16, 19)), axis=0)
    rows[:, 14:16] = home[14:16]
    ends = []
    for order in (np.arange(19), rng.permutation(19)):
        optimizer = TrajectoryOptimizer(robot)
        optimizer.reset(state())
        names = tuple(robot.policy_columns[i] for i in order)
        assert optimizer.add_chunk(make_chunk(rows[:, order], names=names), 0).accepted
        sample = optimizer.sample(600 * MS)
        ends.append((dict(zip(sample.names, sample.position, strict=True)), sample.base.pose))
    assert ends[0][0] == pytest.approx(ends[1][0], abs=1e-12)
    assert ends[0][1] == pytest.approx(ends[1][1], abs=1e-12)


@pytest.mark.parametrize("close_at", [0.35, 0.8])
def test_a_gripper_closes_when_told_and_not_before(optimizer, state, robot, make_chunk, home, close_at):
    rows = np.repeat(home[None, :], 16, axis=0)
    first = round(close_at / 0.1)
    rows[first:, 14] = 0.0  # the row before is due at first * 0.1 s: from then on it closes
    assert optimizer.add_chunk(make_chunk(rows), 0).accepted
    column = optimizer.sample(0).names.index("left_gripper_joint")
    opening = {}
    for n in range(400):
        now = n * TICK
        optimizer.observe(state(now))
        opening[now] = optimizer.sample(now).position[column]
    wide = opening[0]
    speed = robot.velocity[robot.joint_names.index("left_gripper_joint")]
    due = first * 100 * MS
    assert opening[due - 50 * MS] > 0.97 * wide, "still open just before"
    # The fastest possible takes wide / speed and the time to gather speed.
    assert opening[due + round(1e9 * (wide / speed + 0.25)) // TICK * TICK] < 0.05 * wide


def hand_chunk(make_chunk, pose, drift, turn, rows=16):
    """The left hand from `pose` (4, 4) by `drift` (3,) and `turn` (3,) rad, body frame, over the chunk."""
    values = []
    for i in range(1, rows + 1):
        matrix = pose[:3, :3] @ rotation.exp(turn * i / rows)
        values.append(np.concatenate((pose[:3, 3] + drift * i / rows, matrix[:, 0], matrix[:, 1])))
    return make_chunk(np.array(values), names=HAND)


def test_a_hand_moves_and_turns_in_odom(robot, state, make_chunk):
    base = (0.4, -0.2, 0.9)
    optimizer = TrajectoryOptimizer(robot)
    optimizer.reset(state(0, base))
    kinematics = Kinematics(robot)
    local = kinematics.forward("left_tcp", robot.home)
    turn = np.array([0.3, -0.4, 0.5])
    report = optimizer.add_chunk(hand_chunk(make_chunk, local, np.array([0.1, 0.0, 0.05]), turn), 0)
    assert report.accepted, report.reason
    previous = None
    for n in range(1, 700):
        now = n * TICK
        optimizer.observe(state(now, base))
        (hand,) = optimizer.sample(now).hands
        if previous is not None:
            assert hand.pose[:3] - previous.pose[:3] == pytest.approx(
                0.5 * (hand.twist[:3] + previous.twist[:3]) * 0.005, abs=1e-7
            )
            assert np.linalg.norm(hand.twist[3:]) <= optimizer.config.hand_angular_velocity
        previous = hand
    world = kinematics.forward("left_tcp", robot.home, base)
    lift = world @ np.linalg.inv(local)  # the base frame in odom
    goal = lift[:3, :3] @ (local[:3, :3] @ rotation.exp(turn))
    assert previous.frame == "left_tcp"
    assert previous.pose[:3] == pytest.approx(lift[:3, :3] @ (local[:3, 3] + [0.1, 0, 0.05]) + lift[:3, 3], abs=2e-3)
    found = rotation.quaternion(goal[None])[0]
    assert abs(found @ previous.pose[3:]) == pytest.approx(1.0, abs=1e-5)
    assert previous.twist == pytest.approx(0.0, abs=1e-3)


def test_twist_is_the_rate_of_the_pose(robot, make_chunk, optimizer):
    local = Kinematics(robot).forward("left_tcp", robot.home)
    optimizer.add_chunk(hand_chunk(make_chunk, local, np.zeros(3), np.array([1.0, 0.5, -0.5])), 0)
    before, here, after = (optimizer.sample(700 * MS + d * TICK).hands[0] for d in (-1, 0, 1))

    def matrix(q):
        x, y, z, w = q
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )

    spin = rotation.log((matrix(after.pose[3:]) @ matrix(before.pose[3:]).T)[None])[0] / 0.01
    assert np.linalg.norm(spin) > 0.3
    assert here.twist[3:] == pytest.approx(spin, abs=1e-3)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (HAND[:8], "left_hand without left_hand/r32"),
        (("base/x", "base/y"), "the base without base/yaw"),
        (("left_hand/q",), "unknown columns left_hand/q"),
    ],
)
def test_incomplete_groups_are_refused(optimizer, make_chunk, names, why):
    report = optimizer.add_chunk(make_chunk(np.zeros((3, len(names))), names=names), 0)
    assert not report.accepted
    assert why in report.reason


def test_columns_change_only_at_rest(optimizer, make_chunk, home, state):
    rows = home + np.linspace(0.0, 0.3, 17)[1:, None] * (np.arange(19) < 7)
    assert optimizer.add_chunk(make_chunk(rows), 0).accepted
    for n in range(1, 41):
        optimizer.observe(state(n * TICK))
    report = optimizer.add_chunk(
        make_chunk(rows[:, :7], 190 * MS, 1, names=optimizer.robot.policy_columns[:7]), 200 * MS
    )
    assert not report.accepted
    assert "in motion" in report.reason
