"""A recorded episode, played again."""

import dataclasses

import numpy as np
import pytest
from bytemini_core.types import NANOSECONDS, Mode, Observation, RobotState, TaskStatus
from gr3_policy_node.backends import load_policy
from gr3_policy_node.replay import Recording, ReplayPolicy

trajectory = pytest.importorskip("bytemini_sim.results.trajectory", reason="the simulator, which records, is missing")

T = 400


@pytest.fixture
def recording(robot):
    stamp = (7 * NANOSECONDS + np.arange(T) * 5_000_000).astype(np.int64)
    ramp = np.linspace(0.0, 1.0, T)[:, None]
    command = robot.home + 0.3 * ramp
    base = np.column_stack([1.0 + 0.5 * ramp[:, 0], np.full(T, 2.0), np.full(T, 3.0)])
    return stamp, command, base


@pytest.fixture
def policy(robot, recording):
    return ReplayPolicy(robot, Recording("test", robot.joint_names, *recording))


def observe(robot, seconds, position=None, base=(0.0, 0.0, 0.0)):
    zeros = np.zeros(19)
    stamp = round(seconds * NANOSECONDS)
    position = robot.home if position is None else position
    return Observation(stamp, "again", RobotState(stamp, robot.joint_names, position, zeros, zeros, np.array(base)))


def test_joints_go_where_they_were_commanded_when_they_were(policy, robot, recording):
    policy.reset()
    chunk = policy.infer(observe(robot, 50.0))
    assert chunk.names == robot.policy_columns
    column = chunk.names.index("right_elbow_joint")
    joint = robot.joint_names.index("right_elbow_joint")
    for i in (0, 7, 15):
        tick = round((i + 1) * 0.1 / 0.005)
        assert chunk.values[i, column] == pytest.approx(recording[1][min(tick, T - 1), joint], abs=1e-6)
    later = policy.infer(observe(robot, 50.5))
    np.testing.assert_allclose(later.values[:10, column], chunk.values[5:15, column], atol=1e-6)


def test_the_base_drives_the_recorded_way_from_where_it_stands(policy, robot):
    """Recorded: 0.5 m along odom's x while facing 3 rad; here the base faces 1 rad elsewhere."""
    policy.reset()
    begin = (4.0, -1.0, 1.0)
    first = policy.infer(observe(robot, 10.0, base=begin))
    columns = [first.names.index(name) for name in ("base/x", "base/y", "base/yaw")]
    way = 0.5 * 1.0 / (0.005 * (T - 1)) * np.array([np.cos(3.0), -np.sin(3.0)])
    np.testing.assert_allclose(first.values[9, columns], [*way, 0.0], atol=1e-5)
    heading = np.array([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])
    there = (*(np.array(begin[:2]) + heading @ way), 1.0)
    second = policy.infer(observe(robot, 11.0, base=there))
    np.testing.assert_allclose(second.values[4, columns[:2]], first.values[14, columns[:2]] - way, atol=1e-5)


def test_it_says_when_it_is_over_and_reset_begins_anew(policy, robot):
    policy.reset()
    assert policy.infer(observe(robot, 0.0)).task_status[0] == TaskStatus.ONGOING
    end = policy.infer(observe(robot, 2.1))
    assert (end.task_status == TaskStatus.TERMINATED).all()
    assert end.values[0, 0] == end.values[-1, 0]
    policy.reset()
    assert policy.infer(observe(robot, 3.0)).task_status[0] == TaskStatus.ONGOING


def test_a_robot_that_stands_elsewhere_is_not_thrown_there(policy, robot):
    policy.reset()
    position = robot.home.copy()
    position[robot.joint_names.index("left_elbow_joint")] += 0.5
    with pytest.raises(ValueError, match=r"left_elbow_joint is 0.50 rad from where the recording begins"):
        policy.infer(observe(robot, 0.0, position))


def test_other_robots_and_empty_recordings_are_refused(robot, recording):
    names = tuple(name.replace("elbow", "knee") for name in robot.joint_names)
    with pytest.raises(ValueError, match="has no left_elbow_joint, right_elbow_joint"):
        ReplayPolicy(robot, Recording("test", names, *recording))
    with pytest.raises(ValueError, match="expected 2 or more"):
        ReplayPolicy(robot, Recording("test", robot.joint_names, *(array[:1] for array in recording)))


def test_the_file_of_a_rollout(robot, recording, tmp_path):
    stamp, command, base = recording
    mode = np.full(T, list(Mode).index(Mode.POLICY), dtype=np.int8)
    mode[:40] = list(Mode).index(Mode.HOLD)
    zero = np.zeros(T, dtype=np.int32)
    episode = trajectory.Trajectory(
        robot.joint_names, stamp, command, command * 0, command, base, base * 0, mode, zero,
        zero.astype(np.int8), zero.astype(np.float32), zero,
    )  # fmt: skip
    path = tmp_path / "episode-000.npz"
    episode.save(path)
    policy = load_policy(f"replay:{path}", robot)
    assert policy.metadata.name == "episode-000.npz"
    chunk = policy.infer(observe(robot, 0.0, command[40]))
    joint = robot.joint_names.index("right_elbow_joint")
    assert chunk.values[0, chunk.names.index("right_elbow_joint")] == pytest.approx(command[60, joint], abs=1e-6)
    dataclasses.replace(episode, mode=mode * 0).save(path)
    with pytest.raises(ValueError, match="has 0 instants in which the policy drove"):
        load_policy(f"replay:{path}", robot)
    with pytest.raises(ValueError, match="holds one episode, 3 was asked for"):
        load_policy(f"replay:{path}#3", robot)
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"episode-000\.npz"):
        load_policy(f"replay:{path}", robot)
