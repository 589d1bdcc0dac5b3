"""Whole episodes and the real model, in process and over the websocket: the wire changes nothing."""

import numpy as np
import pytest
from gr3_policy_node.backends import load_policy
from gr3_policy_node.server import served

from gr3_policy_node import bench

pytestmark = pytest.mark.e2e


def test_a_recorded_episode_succeeds_again_and_over_the_wire_to_the_bit(robot, tmp_path):
    episode = pytest.importorskip("bytemini_sim.episode", reason="the simulator is missing")
    from bytemini_sim.inproc import InprocRunner

    def run(policy):
        return InprocRunner(episode.RolloutOptions(cameras=False, outside=False, policy=policy)).run(5)

    expert = run("expert")
    assert expert.result.success, expert.result.failure
    path = tmp_path / "episode-000.npz"
    expert.trajectory.save(path)
    replayed = run(f"replay:{path}")
    assert replayed.result.success, replayed.result.failure
    with served(lambda: load_policy(f"replay:{path}", robot), robot) as (_, url):
        remote = run(url)
    assert remote.result.success, remote.result.failure
    assert remote.digest == replayed.digest


def test_the_bundled_checkpoint_says_the_same_over_the_wire(robot):
    folder = bench.bundled()
    if folder is None:
        pytest.skip(f"the checkpoint {bench.BUNDLED} is not in this tree yet")
    policy = bench.make(folder, robot, 2)
    with served(lambda: bench.make(folder, robot, 2), robot) as (_, url):
        remote = load_policy(f"{url}", robot)
        noise = np.zeros(policy.metadata.extra["noise_shape"], dtype=np.float32)
        for observation in bench.observations(robot, policy.metadata, 3):
            here = policy.infer(observation, None, noise)
            there = remote.infer(observation, None, noise)
            np.testing.assert_array_equal(there.values, here.values)
            np.testing.assert_array_equal(there.task_status, here.task_status)
            again = remote.infer(observation, here.values[:4], noise)
            np.testing.assert_array_equal(again.values, policy.infer(observation, here.values[:4], noise).values)
        remote.close()
