"""The command line of a rollout, and the in-process transport end to end."""

import json
import subprocess
import sys

import pytest
from bytemini_core.errors import UserError
from bytemini_sim.episode import RolloutOptions
from bytemini_sim.inproc import InprocRunner
from bytemini_sim.results.report import load_report

from bytemini_sim import rollout

SUMMARY = {"episodes", "success_rate", "success_ci95", "instruction_following_rate", "realtime_factor"}


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--episodes", "0"], "--episodes is 0, expected at least 1"),
        (["--seed", "-1"], "--seed is -1"),
        (["--latency", "9"], "--latency is 9.0 s"),
        (["--task", "fly"], "pick_place"),
        (["--setting", "moon"], "basic"),
        (["--instruction", "put the unicorn into the basket"], "unicorn"),
    ],
)
def test_bad_input_is_one_line_that_says_how_to_mend(argv, reason, tmp_path):
    with pytest.raises(UserError, match=reason) as caught:
        rollout.main([*argv, "--transport", "inproc", "--out", str(tmp_path / "out")])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_policy_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(UserError, match="policy is 'nobody'"):
        rollout.main(["--policy", "nobody", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_an_unknown_robot_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        rollout.main(["--robot", "nobody"])
    assert caught.value.code == 2
    assert "nobody" in capsys.readouterr().err


def test_an_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / "report.json").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        rollout.main(["--transport", "inproc", "--out", str(tmp_path)])
    assert (tmp_path / "report.json").read_text() == "mine"


@pytest.mark.e2e
def test_in_process_rollout_leaves_report_plot_and_film(tmp_path):
    out = tmp_path / "out"
    assert rollout.main(["--transport", "inproc", "--episodes", "1", "--seed", "3", "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert set(report) == {"task", "policy", "robot", "transport", "seed", "episodes", "summary"}
    assert set(report["summary"]) == SUMMARY
    episode = report["episodes"][0]
    assert episode["instruction"] == "put the apple into the basket"
    assert episode["success"]
    assert episode["limit_violations"] == episode["collisions"] == 0
    for suffix in (".mp4", ".png", ".npz"):
        assert (out / "episode-000").with_suffix(suffix).stat().st_size > 10_000
    assert load_report(out).successes == 1


@pytest.mark.e2e
def test_a_seed_gives_the_same_trajectory_to_the_bit():
    options = RolloutOptions(cameras=False, outside=False)
    digests = set()
    for _ in range(2):
        runner = InprocRunner(options)
        episode = runner.run(11)
        digests.add((episode.digest, episode.trajectory.digest()))
        runner.close()
    assert len(digests) == 1
    # ... also after another episode in the same process.
    runner = InprocRunner(options)
    runner.run(12)
    again = runner.run(11)
    assert (again.digest, again.trajectory.digest()) in digests


@pytest.mark.e2e
@pytest.mark.parametrize("robot", ["v1", "v2"])
def test_the_expert_succeeds_within_limits(robot):
    runner = InprocRunner(RolloutOptions(robot=robot, cameras=False, outside=False))
    results = [runner.run(seed).result for seed in range(500, 506)]
    assert sum(result.limit_violations + result.collisions for result in results) == 0
    assert sum(result.success for result in results) >= 5, [result.failure for result in results]


@pytest.mark.e2e
def test_what_cannot_be_done_is_refused_and_nothing_moves():
    runner = InprocRunner(RolloutOptions(setting="invalid", cameras=False, outside=False))
    for seed in range(3):
        result = runner.run(seed).result
        assert result.success, result.failure
        assert result.task_status.name == "INVALID"
        assert result.sim_seconds >= 10.0


@pytest.mark.e2e
def test_without_opengl_one_line_says_how_to_mend(tmp_path):
    code = "import sys; from bytemini_core.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "rollout", "--transport", "inproc", "--out", str(tmp_path / "out")]
    environment = {**__import__("os").environ, "MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "libegl1" in done.stderr or "MUJOCO_GL" in done.stderr
