from __future__ import annotations

import json
from pathlib import Path

import pytest
from bytemini_core.errors import UserError
from bytemini_description.robot import load_robot
from wbc_controller.benchmarks.fuzz import run_fuzz
from wbc_controller.benchmarks.wbc import main


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_fuzz_finds_nothing(version: str) -> None:
    result = run_fuzz(load_robot(version), 4000, seed=7)
    assert result["failures"] == 0
    assert result["position_violations"] == 0
    assert max(result["max_velocity_ratio"], result["max_acceleration_ratio"]) <= 1.0 + 1e-7
    assert result["nearest_mm"] > 0.0


def test_benchmark_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wbc_controller.benchmarks.wbc.DURATION", 1.6)
    monkeypatch.setattr("wbc_controller.benchmarks.wbc.SMOOTH", slice(200, 300))
    assert main(["--fuzz", "200", "--json", str(tmp_path / "wbc.json")]) == 0
    figures = json.loads((tmp_path / "wbc.json").read_text())
    assert {"single_step_us", "no_compiler_us", "peers", "tracking_mm", "fuzz"} <= figures.keys()
    assert figures["tracking_mm"]["free"] < 0.05
    assert figures["acceleration_ratio"]["ours"] <= 1.0 + 1e-7


def test_benchmark_refuses_no_ticks() -> None:
    with pytest.raises(UserError, match="--fuzz is 0"):
        main(["--fuzz", "0"])
