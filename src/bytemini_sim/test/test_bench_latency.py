"""The study of latency: one seed, two methods, what is finished is not run again."""

import json
from dataclasses import asdict

import pytest
from bytemini_core.errors import UserError
from bytemini_sim.bench_latency import Case, Run, cases, load, plot, rows, study
from bytemini_sim.bench_recorded import compare
from rich.console import Console


def test_cases_are_whole_seeds_and_noisy_ones_beside_them():
    listed = list(cases(["ours", "raw"], 2, 1, (0, 200)))
    assert listed[:2] == [Case("ours", 0, 0.0, 0), Case("raw", 0, 0.0, 0)]
    assert len(listed) == len(set(listed)) == 2 * 2 * 3
    assert {case.noise for case in listed if case.seed == 1} == {0.0}


def test_one_seed_two_methods(tmp_path):
    file, console = tmp_path / "runs.jsonl", Console(quiet=True)
    wanted = list(cases(["ours", "linear"], 1, 0, (200,)))
    runs = study(wanted, file, console)
    assert [run.case for run in runs] == wanted
    ours, linear = runs
    assert ours.success
    assert not ours.refused
    assert (ours.violations, ours.collisions) == (0, 0)
    assert ours.rms_jerk < linear.rms_jerk
    lines = rows(runs)
    assert [(line["method"], line["episodes"]) for line in lines] == [("ours", 1), ("linear", 1)]
    plot(tmp_path / "latency.png", lines)
    assert (tmp_path / "latency.png").stat().st_size < 150_000


def test_what_is_finished_is_not_run_again_and_a_line_cut_off_is_dropped(tmp_path):
    file = tmp_path / "runs.jsonl"
    done = Run(Case("ours", 200, 0.0, 0), True, 1.0, 1.0, 0, 0, 123.0, False, "")
    whole = json.dumps(asdict(done)) + "\n"
    file.write_text(whole + whole[:20])
    assert load(file) == [done]
    assert study([done.case], file, Console(quiet=True)) == [done]
    assert file.read_text() == whole


def test_recorded_chunks_are_the_same_for_all():
    lines = {line["method"]: line for line in compare(["ours", "linear", "raw"], 1, 0.0)}
    assert lines["meant"]["error_mrad"] == 0.0
    assert lines["ours"]["rms_jerk"] < 0.1 * lines["linear"]["rms_jerk"] < lines["raw"]["rms_jerk"]
    assert abs(lines["ours"]["lag_ms"]) < 5.0
    assert lines["ours"]["error_mrad"] < 10.0


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(UserError, match="not a run of this study"):
        load(tmp_path / "x.jsonl")
