"""The study of latency: one seed, two methods, what is finished is not run again."""

import json

import pytest
from bytemini_core.errors import UserError
from bytemini_sim.bench_latency import Case, cases, load, plot, rows, study
from rich.console import Console


def test_cases_are_whole_seeds_and_noisy_ones_beside_them():
    listed = list(cases(["ours", "raw"], 2, 1, (0, 200)))
    assert listed[:2] == [Case("ours", 0, 0.0, 0), Case("raw", 0, 0.0, 0)]
    assert len(listed) == len(set(listed)) == 2 * 2 * 3
    assert {case.noise for case in listed if case.seed == 1} == {0.0}


def test_one_seed_two_methods_and_resumption(tmp_path):
    file, console = tmp_path / "runs.jsonl", Console(quiet=True)
    wanted = list(cases(["ours", "linear"], 1, 0, (200,)))
    runs = study(wanted, file, console)
    assert [run.case for run in runs] == wanted
    ours, linear = runs
    assert ours.success
    assert not ours.refused
    assert (ours.violations, ours.collisions) == (0, 0)
    assert ours.rms_jerk < linear.rms_jerk
    # A line cut off by an interruption is run again; what is whole is not.
    kept = file.read_text()
    first, second = kept.splitlines(keepends=True)
    changed = json.loads(first) | {"seconds": 123.0}
    file.write_text(json.dumps(changed) + "\n" + second[:20])
    again = study(wanted, file, console)
    assert again[0].seconds == 123.0
    assert again[1] == linear
    assert [run.case for run in load(file)] == wanted
    lines = rows(again)
    assert [(line["method"], line["episodes"]) for line in lines] == [("ours", 1), ("linear", 1)]
    plot(tmp_path / "latency.png", lines)
    assert (tmp_path / "latency.png").stat().st_size < 150_000


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(UserError, match="not a run of this study"):
        load(tmp_path / "x.jsonl")
