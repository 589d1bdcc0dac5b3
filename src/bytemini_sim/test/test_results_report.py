import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bytemini_core.types import TaskStatus
from bytemini_sim.results import report as module
from bytemini_sim.results.report import (
    EpisodeResult,
    RolloutReport,
    load_report,
    print_report,
    summary_line,
    wilson_interval,
)
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

GOOD: dict[str, Any] = {
    "seed": 3,
    "instruction": "put the apple into the basket",
    "setting": "basic",
    "instruction_following": True,
    "success": True,
    "progress": 1.0,
    "task_status": TaskStatus.TERMINATED,
    "sim_seconds": 12.5,
    "wall_seconds": 5.0,
    "max_joint_jerk": 143.2,
    "limit_violations": 0,
    "collisions": 0,
    "failure": None,
}
BAD = GOOD | {"seed": 4, "success": False, "progress": 0.5, "failure": "dropped the apple", "collisions": 2}


def rollout(*episodes: dict[str, Any]) -> RolloutReport:
    return RolloutReport("pick_place", "expert", "v1", "inproc", 3, [EpisodeResult(**item) for item in episodes])


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(10, 10, 0.72, 1.0), (15, 20, 0.53, 0.89), (95, 100, 0.888, 0.978), (200, 200, 0.981, 1.0), (0, 50, 0.0, 0.071)],
)
def test_wilson_agrees_with_published_intervals(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=0.005)


@given(st.integers(0, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_rate_and_mirrors(pair: tuple[int, int]) -> None:
    k, n = pair
    low, high = wilson_interval(k, n)
    assert 0.0 <= low <= high <= 1.0
    if n:
        assert low <= k / n <= high
        assert wilson_interval(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    else:
        assert (low, high) == (0.0, 1.0)


def test_wilson_refuses_impossible_counts() -> None:
    for pair in ((3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="expected 0 <= successes <= trials"):
            wilson_interval(*pair)


def test_report_has_exactly_the_stable_keys(tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.json"
    rollout(GOOD, BAD).save(path)
    data = json.loads(path.read_text())
    assert list(data) == ["task", "policy", "robot", "transport", "seed", "episodes", "summary"]
    assert list(data["episodes"][0]) == list(GOOD)
    assert data["episodes"][0]["task_status"] == "TERMINATED"
    assert data["episodes"][0]["failure"] is None
    low, high = data["summary"].pop("success_ci95")
    assert (low, high) == pytest.approx((0.0945, 0.9055), abs=1e-3)
    assert data["summary"] == {
        "episodes": 2,
        "success_rate": 0.5,
        "instruction_following_rate": 1.0,
        "realtime_factor": 2.5,
    }
    assert list(path.parent.iterdir()) == [path], "no temporary file is left"
    assert load_report(path) == rollout(GOOD, BAD)
    assert load_report(path.parent) == rollout(GOOD, BAD)


def test_a_report_of_nothing_is_valid(tmp_path: Path) -> None:
    rollout().save(tmp_path / "report.json")
    summary = json.loads((tmp_path / "report.json").read_text())["summary"]
    assert summary["success_rate"] is None
    assert summary["success_ci95"] == [0.0, 1.0]
    assert load_report(tmp_path).episodes == []
    assert summary_line(rollout()) == "no episode was finished"


def test_numpy_scalars_become_plain_values(tmp_path: Path) -> None:
    numpy = GOOD | {
        "success": np.bool_(True),
        "seed": np.int64(3),
        "progress": np.float32(1.0),
        "collisions": np.int32(0),
    }
    rollout(numpy).save(tmp_path / "report.json")
    assert load_report(tmp_path) == rollout(GOOD)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"success": 1}, "success is 1, expected bool"),
        ({"collisions": True}, "collisions is True, expected int"),
        ({"progress": 1.5}, r"progress is 1.5, expected a number in \[0, 1\]"),
        ({"max_joint_jerk": float("nan")}, "max_joint_jerk is nan, expected a finite number"),
        ({"sim_seconds": -1.0}, "sim_seconds is -1.0, expected no less than 0"),
        ({"task_status": "DONE"}, "task_status is 'DONE', expected one of INVALID, ONGOING, TERMINATED"),
        ({"success": False}, "say why it failed"),
        ({"failure": 3}, "failure is 3, expected str | None"),
    ],
)
def test_bad_episodes_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EpisodeResult(**(GOOD | change))


def test_unknown_transport_is_refused() -> None:
    with pytest.raises(ValueError, match="transport is 'tcp', expected ros or inproc"):
        RolloutReport("pick_place", "expert", "v1", "tcp", 0)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda d: d.pop("policy"), "report lacks policy: made by another version"),
        (lambda d: d["episodes"][1].pop("seed"), r"episodes\[1\] lacks seed"),
        (lambda d: d["episodes"][0].update(progress="all"), r"episodes\[0\].progress is 'all'"),
        (lambda d: d["episodes"].pop(), "summary.episodes is 2, but the episodes give 1"),
        (lambda d: d.update(episodes={}), "episodes is dict, expected a list"),
        (lambda d: d.update(summary=None), "summary is NoneType, expected an object"),
        (lambda d: d.update(seed="3"), "report.seed is '3', expected int"),
    ],
)
def test_edited_reports_are_refused_with_file_and_field(tmp_path: Path, edit: Any, words: str) -> None:
    path = tmp_path / "report.json"
    data = rollout(GOOD, BAD).to_dict()
    edit(data)
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=words) as error:
        load_report(path)
    assert str(path) in str(error.value)


def test_unknown_keys_are_passed_over(tmp_path: Path) -> None:
    data = rollout(GOOD).to_dict() | {"renderer": "llvmpipe"}
    (tmp_path / "report.json").write_text(json.dumps(data))
    assert load_report(tmp_path) == rollout(GOOD)


def test_torn_or_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for content, words in ((b"{", "is not JSON"), (b"\xff\xfe\x00", "is not JSON"), (b"[]", "report is list")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            load_report(path)
    with pytest.raises(FileNotFoundError):
        load_report(tmp_path / "absent.json")


def test_a_failed_write_keeps_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    rollout(GOOD).save(path)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rollout(GOOD, BAD).save(path)
    assert load_report(path) == rollout(GOOD)
    assert list(tmp_path.iterdir()) == [path]


def test_the_table_fits_a_terminal_and_says_what_went_wrong() -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    print_report(rollout(GOOD, BAD, BAD | {"setting": "[unseen]"}), console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for words in ("seed", "put the", "basket", "success", "failed", "dropped", "100%", "[unseen]"):
        assert words in text
    assert "success 1/3 = 33% (95 % interval 6% to 79%), instruction following 3/3 = 100%" in text
    assert "collisions 4" in text


def test_a_long_rollout_lists_only_failures() -> None:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    print_report(rollout(*[GOOD] * 60, BAD), console)
    text = console.export_text()
    assert "1 of 1 failed episodes; all 61 are in report.json" in text
    assert len(text.splitlines()) < 15


def test_the_package_loads_neither_matplotlib_nor_av() -> None:
    code = (
        "import sys, bytemini_sim.results.report, bytemini_sim.results.plots, bytemini_sim.results.video\n"
        "print([name for name in ('matplotlib', 'av', 'PIL', 'rich', 'mujoco', 'rclpy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
