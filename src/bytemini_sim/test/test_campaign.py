"""The campaign in short: two settings, one episode each."""

import importlib.util
import json
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[1] / "benchmarks" / "campaign.py"


@pytest.fixture
def campaign(monkeypatch):
    spec = importlib.util.spec_from_file_location("campaign", CAMPAIGN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "evaluation_settings", lambda _: ["basic", "invalid"])
    return module


def test_a_campaign_makes_its_tables_and_keeps_its_counts(campaign, tmp_path, monkeypatch, capsys):
    kept = tmp_path / "baseline.json"
    kept.write_text('{"another": {}}')
    words = ["campaign", "--suite", "pick_place", "--out", str(tmp_path / "runs"), "--json", str(kept)]
    monkeypatch.setattr("sys.argv", [*words, "--episodes", "1", "--seed", "20000", "--jobs", "1", "--no-video"])
    assert campaign.main() == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| pick_place")]
    assert [row.split(" | ")[:3] for row in rows] == [["| pick_place", s, "1/1"] for s in ("basic", "invalid")]
    counts = json.loads(kept.read_text())
    assert set(counts) == {"another", "expert"}
    assert counts["expert"]["pick_place/invalid"] == {
        "episodes": 1, "seed": 20000, "successes": 1, "instruction_following": 1, "refused": 1, "refused_at_once": 1,
    }  # fmt: skip

    monkeypatch.setattr("sys.argv", [*words[:-2], "--table", "--policy", "somebody"])
    assert campaign.main() == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| basic")]
    assert rows == ["| basic | 1/1 | 21 to 100 % | 1/1 | 21 to 100 % | 1.00 | 0 | 0 | 0 |"]
