"""The benchmark runs, and the numbers that the package stands for hold on a path of their own."""

from __future__ import annotations

import json

import pytest
from trajectory_optimizer.benchmarks.measure import run
from trajectory_optimizer.benchmarks.methods import Ours
from trajectory_optimizer.benchmarks.trajectory import IRREGULAR, main
from trajectory_optimizer.benchmarks.world import Setting, synthetic_robot


@pytest.fixture(scope="module")
def synthetic():
    return synthetic_robot()


@pytest.mark.parametrize(
    ("setting", "jerk", "lag", "error"),
    [
        (Setting(), 1.3, 0.005, 0.015),
        (Setting(latency=(0.3, 0.3)), 1.3, 0.005, 0.016),
        (IRREGULAR, 1.6, 0.008, 0.025),
        (Setting(bias=0.0, noise=0.0), 1.05, 0.001, 0.002),
        (Setting(noise=0.02), 1.3, 0.005, 0.02),
    ],
)
def test_smooth_on_time_and_accurate(synthetic, setting, jerk, lag, error):
    outcome = run(lambda s: Ours(synthetic, s), setting, range(400, 402), 12.0)
    assert outcome.jerk_ratio < jerk
    assert abs(outcome.lag) < lag
    assert outcome.error < error
    assert (outcome.seam < (1e-12, 1e-12, 1e-11)).all()


def test_c3_continues_the_jerk_too(synthetic):
    ours = Ours(synthetic, Setting(), continuity=3)
    run(lambda _: ours, Setting(), range(1), 8.0)
    plan = ours.optimizer._plan
    stamp = plan.after.splice
    assert plan.after.at(stamp)[3] == pytest.approx(plan.before.at(stamp)[3], abs=1e-9)


def test_the_command_writes_its_numbers(tmp_path):
    assert main(["--seeds", "1", "--duration", "8", "--json", str(tmp_path / "t.json")]) == 0
    numbers = json.loads((tmp_path / "t.json").read_text())
    assert {"jerk_ratio", "lag_ms", "error_mrad", "seam", "irregular_jerk_ratio", "update_us", "sample_us"} <= set(
        numbers
    )
    assert {"ours", "linear", "ensembling", "ruckig"} <= set(numbers["jerk_ratio"])


def test_bad_options_say_so(capsys):
    with pytest.raises(SystemExit):
        main(["--duration", "1"])
    assert "expected at least" in capsys.readouterr().err
