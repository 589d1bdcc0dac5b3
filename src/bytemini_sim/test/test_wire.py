"""The real nodes over DDS in lock step: the same motion as in process, and an end without mess."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bytemini_msgs.msg", reason="the workspace is not built: ./bytemini setup")
from bytemini_sim.episode import RolloutOptions
from bytemini_sim.inproc import InprocRunner
from bytemini_sim.wire import WireRunner

pytestmark = pytest.mark.e2e

BYTEMINI = [sys.executable, "-c", "import sys; from bytemini_core.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    options = RolloutOptions(cameras=True, outside=False)
    with WireRunner(options, tmp_path_factory.mktemp("logs")) as running:
        yield running


def since_start(episode):
    """(T,) ticks since the first."""
    stamp = episode.trajectory.stamp
    return np.rint((stamp - stamp[0]) / np.median(np.diff(stamp))).astype(int)


def test_same_outcome_and_poses_as_in_process_twice(runner):
    inproc = InprocRunner(RolloutOptions(cameras=False, outside=False))
    first, another, again = runner.run(5), runner.run(6), runner.run(5)
    direct = inproc.run(5)
    for episode in (first, again, direct):
        assert episode.result.success, episode.result.failure
        assert episode.result.limit_violations == episode.result.collisions == 0
    assert another.result.success, another.result.failure
    # The last second is the controller's, which takes the robot back at a moment of the machine's own clock.
    ticks = min(len(e.trajectory) for e in (first, again, direct)) - 200
    # Not to the bit: the yaw crosses the wire as a quaternion and stamps are others, so that the last digits round
    # otherwise, which contact amplifies.
    for episode in (again, direct):
        # Who listens on a machine without time to spare may miss a tick of what the robot did all the same.
        both, one, other = np.intersect1d(since_start(episode), since_start(first), return_indices=True)
        heard = both < ticks
        assert heard.sum() > 0.99 * ticks
        np.testing.assert_allclose(
            episode.trajectory.position[one[heard]], first.trajectory.position[other[heard]], atol=1e-3, rtol=0
        )
    for name, pose in first.final_poses.items():
        for episode in (again, direct):
            assert np.abs(episode.final_poses[name][:3] - pose[:3]).max() < 1e-3, name


def test_everything_that_crossed_the_wire_is_kept(runner):
    episode = runner.run(7)
    topics = {topic for topic, _, _ in episode.bag}
    assert {"joint_states", "odom", "joint_command", "cmd_vel", "wbc/reference", "policy/action_chunk"} <= topics
    assert {f"camera/{camera}/color/image_raw" for camera in ("head", "left_wrist", "right_wrist")} <= topics
    assert len(episode.trajectory) == pytest.approx(episode.result.sim_seconds * 200, abs=5)


def test_an_unknown_thing_is_refused_and_the_next_episode_runs(runner):
    runner.options, before = (
        RolloutOptions(instruction="put the unicorn into the basket", outside=False),
        runner.options,
    )
    with pytest.raises(ValueError, match="unicorn"):
        runner.run(0)
    runner.options = before
    assert runner.run(8).result.task_status.name == "TERMINATED"


def test_a_busy_domain_is_refused_in_one_line(runner, tmp_path):
    environment = {**os.environ, "ROS_DOMAIN_ID": str(runner.domain)}
    command = [*BYTEMINI, "rollout", "--no-video", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 2
    assert f"ROS domain {runner.domain} already has" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_leaves_a_valid_report_and_no_process(tmp_path):
    out = tmp_path / "out"
    command = [*BYTEMINI, "rollout", "--episodes", "50", "--no-video", "--no-cameras", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.5)
        path = out / "report.json"
        if path.is_file() and json.loads(path.read_text())["episodes"]:
            break
    assert process.poll() is None, process.communicate()[0]
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout
    assert len(children.split()) >= 4, "the nodes should be running"
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    report = json.loads((out / "report.json").read_text())
    assert 1 <= report["summary"]["episodes"] < 50
    left = [child for child in children.split() if Path("/proc", child).exists()]
    assert not left
