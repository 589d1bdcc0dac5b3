"""`./bytemini eval`: what it refuses and keeps, that a crash costs one episode, that a report explains itself."""

import dataclasses
import json
import multiprocessing
import os
import re
import signal

import pytest
from bytemini_core.errors import UserError
from bytemini_core.types import TaskStatus
from bytemini_sim.episode import RolloutOptions
from bytemini_sim.evaluation.command import chosen_for_film, main, pairs, parse, plan_of
from bytemini_sim.evaluation.gate import decide
from bytemini_sim.evaluation.page import Film, page
from bytemini_sim.evaluation.pool import Episodes, Job, run_all
from bytemini_sim.evaluation.records import CRASHED, EvalReport, Record, failure_label, load_eval, summary
from bytemini_sim.evaluation.stamp import COMPARABLE, Stamp
from bytemini_sim.evaluation.statistics import PASS, Sprt
from bytemini_sim.results.report import EpisodeResult, load_report

STAMP = Stamp(1, "4.0.0", "none", "abc", "3.11", "2.0", "x86_64")


def record(seed, success=True, progress=None, setting="basic", **more):
    result = EpisodeResult(
        seed=seed, instruction="put the <apple> into the basket", setting=setting, instruction_following=True,
        success=success, progress=(1.0 if success else 0.4) if progress is None else progress,
        task_status=TaskStatus.TERMINATED, sim_seconds=9.0 + seed, wall_seconds=1.0, max_joint_jerk=60.0,
        limit_violations=0, collisions=0, failure=None if success else "dropped the apple outside the basket",
    )  # fmt: skip
    fields = {
        "group": f"batch {seed % 3}", "milestones": {"approached": True, "grasped": success}, "ended": "TERMINATED",
        "word_at": 9.0, "success_at": 8.0 if success else None, "label": "" if success else "dropped",
        "goals": ({"target": "apple", "destination": "basket", "success": success},),
    }  # fmt: skip
    return Record(result, **fields | more)


def report(records, policy="expert"):
    return EvalReport("pick_place", policy, "v1", 0, 0.05, False, STAMP, records, wall_seconds=30.0)


def refused(*words):
    with pytest.raises(UserError) as error:
        plan_of(parse(list(words)))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_bad_input_is_refused_with_one_line_that_says_what_to_do(tmp_path):
    (tmp_path / "something").write_text("")
    assert "expected one of" in refused("--suite", "chess")
    assert "expected all or one of basic" in refused("--setting", "dark")
    assert "expected all or one of basic" in refused("--setting", "train"), "training scenes are not for evaluation"
    assert "expected expert" in refused("--policy", "nobody") or "expected" in refused("--policy", "nobody")
    assert "at least 1" in refused("--episodes", "0")
    assert "the cores of this machine" in refused("--jobs", str(len(os.sched_getaffinity(0)) + 1))
    assert "--resume to go on" in refused("--out", str(tmp_path))
    assert "is a file" in refused("--out", str(tmp_path / "something"))
    assert "different policies" in refused("--policy", "expert", "--policy", "expert")
    assert "two --policy" in refused("--until-decided")
    assert "--resume needs --out" in refused("--resume")


def test_a_policy_whose_actions_do_not_fit_is_refused(monkeypatch):
    class Odd:
        metadata = dataclasses.make_dataclass("M", ["columns", "cameras"])(("tail",), ())

    monkeypatch.setattr("gr3_policy_node.backends.load_policy", lambda *_: Odd())
    assert "does not fit v1" in refused("--policy", "odd")


def test_a_crash_becomes_a_record_with_its_trace_and_the_rest_goes_on():
    options = RolloutOptions(setting="invalid", cameras=False, outside=False)
    here = Episodes()
    lost = here.run(Job(dataclasses.replace(options, policy="nobody"), 3))
    assert not lost.result.success
    assert lost.result.failure.startswith("crashed: ValueError")
    assert "Traceback" in lost.trace
    assert lost.label == CRASHED
    assert here.run(Job(options, 0)).result.success


def test_processes_give_what_one_process_gives():
    options = RolloutOptions(setting="invalid", cameras=False, outside=False)
    jobs = [Job(options, 0), Job(dataclasses.replace(options, policy="nobody"), 1), Job(options, 2)]
    found = {job.seed: record for job, record in run_all(jobs, 2)}
    assert sorted(found) == [0, 1, 2]
    assert found[1].label == CRASHED
    here = Episodes()
    for seed in (0, 2):
        assert found[seed].digest == here.run(Job(options, seed)).digest


def test_a_process_that_native_code_ends_says_where_it_was():
    options = RolloutOptions(cameras=False, outside=False)
    records = run_all([Job(options, 0), Job(dataclasses.replace(options, policy="nobody"), 1)], 2)
    assert next(records)[0].seed == 1, "what fails at once is over first"
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGSEGV)
    job, lost = next(records)
    assert job.seed == 0
    assert lost.label == CRASHED
    assert f"exit code {-signal.SIGSEGV}" in lost.result.failure
    assert "Segmentation fault" in lost.trace
    assert "pool.py" in lost.trace


def test_an_evaluation_is_kept_resumed_and_compared(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["--setting", "invalid", "--no-video", "--out", str(out)]
    assert main([*words, "--episodes", "1"]) == 0
    first = load_eval(out)
    assert [r.result.seed for r in first.records] == [0]
    assert load_report(out).successes == 1, "a rollout's reader understands it"
    assert main([*words, "--episodes", "2", "--resume", "--compare", str(out)]) == 0
    again = load_eval(out)
    assert [r.result.seed for r in again.records] == [0, 1]
    assert again.records[0] == first.records[0], "what was done is not done again"
    assert "McNemar" in capsys.readouterr().out
    data = json.loads((out / "report.json").read_text())
    data["stamp"]["mujoco"] = "3.9.0"
    (out / "report.json").write_text(json.dumps(data))
    for extra in (["--resume"], ["--compare", str(out), "--out", str(tmp_path / "other")]):
        with pytest.raises(UserError, match=r"another version \(mujoco 3\.9\.0"):
            main([*words, "--episodes", "2", *extra])
    del data["stamp"]
    (out / "report.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="made by another version; run the evaluation again"):
        load_eval(out)


def test_a_report_survives_its_file(tmp_path):
    before = report([record(0), record(1, success=False, trace="x")])
    before.save(tmp_path / "report.json")
    assert load_eval(tmp_path) == before
    with pytest.raises(ValueError, match="there is no report"):
        load_eval(tmp_path / "nothing")


def test_a_summary_counts_what_happened():
    rows = [record(0), record(1, success=False), record(2, ended="INVALID", success=False, label="refused"),
            record(3, setting="invalid", valid=False, ended="INVALID", goals=(), milestones={})]  # fmt: skip
    s = summary(rows)
    assert (s["successes"], s["episodes"], s["goals"], s["goals_done"]) == (2, 4, 3, 1)
    assert s["milestones"] == {"approached": 3, "grasped": 1}
    assert s["failures"] == {"dropped": 1, "refused": 1}
    assert (s["status"]["true_refusals"], s["status"]["false_refusals"]) == (1, 1)
    assert s["status"]["said_done_too_early"] == 1
    assert s["status"]["mean_seconds_from_done_to_word"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("failure", "ended", "label"),
    [
        ("approached the pear first; dropped the apple outside the bowl", "TIMED_OUT", "wrong object"),
        ("did not approach the apple", "INVALID", "refused"),
        ("dropped the apple outside the bowl", "TERMINATED", "dropped, thought done"),
        ("manipulated apple although the instruction was invalid", "INVALID", "manipulated something"),
        ("whatever", "TIMED_OUT", "other"),
    ],
)
def test_failures_have_kinds(failure, ended, label):
    assert failure_label(failure, ended) == label


def test_pairs_are_episodes_of_the_same_seed():
    found = pairs(
        report([record(0), record(1), record(2)]), report([record(1, success=False), record(2), record(9)]), "basic"
    )
    assert (found.pairs, found.only_first, found.only_second) == (2, 1, 0)
    assert pairs(report([record(0)]), report([record(5)]), "basic") is None


def test_films_show_the_worst_and_the_best():
    rows = [record(4), record(0), *(record(i, success=False, progress=p) for i, p in ((1, 0.6), (2, 0.0), (3, 0.2)))]
    rows.append(record(7, success=False, progress=0.0, trace="crash"))
    assert [r.result.seed for r in chosen_for_film(rows)] == [2, 3, 0]


def test_the_page_is_self_contained_and_escapes_what_it_shows():
    text = page(
        [report([record(0), record(1, success=False, trace="<b>")])], [], {"expert": [Film(record(0), b"mp4", True)]}
    )
    assert "http://" not in text
    assert "https://" not in text
    assert "&lt;apple&gt;" in text
    assert "<apple>" not in text
    assert "width=device-width" in text
    assert "data:video/mp4;base64," in text
    assert re.search(r"1/2</div>success", text)


def test_versions_that_matter_keep_reports_apart():
    other = dataclasses.replace(STAMP, renderer="egl", code="def")
    assert STAMP.differences(other, COMPARABLE) == "renderer none and egl"
    assert not STAMP.differences(dataclasses.replace(STAMP, code="def"), COMPARABLE)


def test_the_gate_judges_in_the_order_of_jobs(monkeypatch):
    jobs = [Job(RolloutOptions(), seed) for seed in range(60)]
    monkeypatch.setattr(
        "bytemini_sim.evaluation.gate.run_all", lambda jobs, _: ((job, record(job.seed)) for job in reversed(jobs))
    )
    verdict, (successes, trials) = decide(Sprt(cap=60), jobs, 1, lambda _: None)
    assert verdict == PASS
    assert successes == trials < 30
