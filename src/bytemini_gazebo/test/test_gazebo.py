"""Gazebo itself, where it is installed (the image `dev`): one episode over the whole stack, with its report."""

import json
import shutil
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("gz") is None, reason="Gazebo (gz sim) is not installed: runs in docker's image dev"
    ),
]


def test_an_episode_in_gazebo_has_the_report_of_one_in_mujoco(tmp_path):
    reports = {}
    for simulator in ("mujoco", "gazebo"):
        out = tmp_path / simulator
        command = [
            sys.executable,
            "-m",
            "bytemini_core.cli",
            "rollout",
            "--episodes",
            "1",
            "--seed",
            "3",
            "--out",
            str(out),
        ]
        done = subprocess.run([*command, "--sim", simulator], capture_output=True, text=True, timeout=600)
        assert (out / "report.json").is_file(), done.stdout + done.stderr
        reports[simulator] = json.loads((out / "report.json").read_text())
    (ours,), (theirs,) = (reports[name]["episodes"] for name in ("mujoco", "gazebo"))
    assert ours.keys() == theirs.keys()
    assert theirs["seed"] == ours["seed"]
    assert theirs["instruction"] == ours["instruction"]
    assert theirs["limit_violations"] == 0
    assert theirs["success"], theirs["failure"]
