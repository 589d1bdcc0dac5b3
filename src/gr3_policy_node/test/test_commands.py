"""`./bytemini serve` and `./bytemini bench policy`, as a user meets them."""

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from bytemini_core.errors import UserError
from bytemini_core.types import NANOSECONDS, Mode, Observation, RobotState
from gr3_policy_node.backends import load_policy

from gr3_policy_node import bench, serve

trajectory = pytest.importorskip("bytemini_sim.results.trajectory", reason="the simulator, which records, is missing")


@pytest.fixture
def recording(robot, tmp_path):
    ticks = 100
    zero = np.zeros(ticks, dtype=np.int32)
    command = np.tile(robot.home, (ticks, 1))
    episode = trajectory.Trajectory(
        robot.joint_names, (np.arange(ticks) * 5_000_000).astype(np.int64), command, command * 0, command,
        np.zeros((ticks, 3)), np.zeros((ticks, 3)), np.full(ticks, list(Mode).index(Mode.POLICY), dtype=np.int8), zero,
        zero.astype(np.int8), zero.astype(np.float32), zero,
    )  # fmt: skip
    episode.save(tmp_path / "episode-000.npz")
    return f"replay:{tmp_path / 'episode-000.npz'}"


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["nobody"], "policy is 'nobody'"),
        (["nobody", "--port", "70000"], "--port is 70000, expected 0 to 65535"),
        (["nobody", "--deadline", "nan"], "--deadline is nan"),
        (["nobody", "--batch", "0"], "--batch is 0"),
        (["nobody", "--message-mib", "0"], "--message-mib is 0"),
        (["expert"], "reads the simulator's truth, which no client can send"),
        (["ws://127.0.0.1:9"], "no policy server"),
    ],
)
def test_bad_input_is_one_line(argv, reason):
    with pytest.raises(UserError, match=reason):
        serve.main(argv)


def test_a_taken_port_is_one_line(recording):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}: .*in use"):
            serve.main([recording, "--port", str(port)])


def test_it_serves_until_interrupted(recording, robot):
    code = "import sys; from gr3_policy_node.serve import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, recording, "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "BYTEMINI_POLICY_TOKEN": ""},
        # A shell that starts the tests in its background has them ignore Ctrl-C, which a process inherits.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert "episode-000.npz, 16 x 0.1 s at ws://127.0.0.1:" in line
        policy = load_policy(line.split(" at ")[1].split(" ")[0], robot)
        zeros = np.zeros(19)
        for seconds in (5.0, 5.4):
            state = RobotState(round(seconds * NANOSECONDS), robot.joint_names, robot.home, zeros, zeros)
            chunk = policy.infer(Observation(state.stamp, "again", state))
        assert chunk.task_status[-1] == 1, "the recording of half a second is over by then"
        policy.close()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 0, rest
        assert rest.strip() == "stopped"
    finally:
        process.kill()


def test_the_benchmark_measures_what_there_is_and_says_what_not(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "bundled", lambda: None)
    out = tmp_path / "policy.json"
    assert bench.main(["--count", "10", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert set(result) >= {"onnx_ms", "websocket_overhead_ms", "batched_speedup", "checkpoint_mib", "reason"}
    assert result["websocket_overhead_ms"] > 0
    assert result["onnx_ms"] is None
    assert "no checkpoint gr3-tiny" in result["reason"]


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    pytest.importorskip("gr3.deploy", reason="the package gr3 is not there")
    with pytest.raises(UserError, match=r"policy\.json"):
        bench.main(["--count", "10", "--checkpoint", str(tmp_path)])
