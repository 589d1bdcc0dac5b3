"""`./bytemini gate`: may this commit be merged? Determinism, the expert in every suite, the bundled policy.

Seeds are fixed per commit: the merge base with the main branch names them, so that a repeated run gives the same
answer and cannot be retried until it passes by luck.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bytemini_core.errors import UserError
from rich.console import Console

from bytemini_sim.episode import RolloutOptions
from bytemini_sim.evaluation.pool import Episodes, Job, run_all
from bytemini_sim.evaluation.records import Record, write_json
from bytemini_sim.evaluation.statistics import PASS, Sprt
from bytemini_sim.results.report import wilson_interval

DETERMINISM_SEEDS = 12

EXPERT: dict[tuple[str, str], tuple[int, float]] = {
    ("pick_place", "basic"): (12, 0.90),
    ("pick_place", "unseen_instructions"): (4, 0.75),
    ("pick_place", "unseen_objects"): (4, 0.75),
    ("pick_place", "invalid"): (2, 1.0),
    ("table_bussing", "flat"): (1, 0.80),
    ("table_bussing", "if_basic"): (2, 0.50),
    ("bin_picking", "seen"): (1, 0.70),
    ("bimanual", "hand_over"): (2, 0.50),
    ("bimanual", "carry_tray"): (2, 0.50),
}
"""Episodes per (suite, setting), and the least mean progress that passes: a smoke test on few, not a measurement."""

BUNDLED = "gr3-tiny"
BASELINE = Path(__file__).with_name("baseline.json")
"""What a bundled policy was measured to do when it was last taken in (`benchmarks/campaign.py --policy P --json`)."""
LOSS = 0.25
"""How much worse than measured must not pass: what so few episodes can tell."""
CAP = 60


@dataclass
class Gate:
    """What was found: one line per check."""

    checks: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, passed: bool, words: str, **data: Any) -> None:
        """Note a check."""
        self.checks.append({"check": name, "passed": passed, "words": words, **data})

    @property
    def passed(self) -> bool:
        """Whether all did."""
        return all(check["passed"] for check in self.checks)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line of the gate."""
    parser = argparse.ArgumentParser(prog="bytemini gate", description=main.__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--policy", default=BUNDLED, help="bundled policy, if there is one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="first seed (default: from the merge base with main)")
    parser.add_argument("--json", type=Path, default=None, help="also write the findings to this file")
    return parser.parse_args(argv)


def commit_seed() -> int:
    """The first seed of this change: the same however often it is run, another for another merge base."""
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    base = ""
    for branch in ("origin/main", "main", "HEAD"):
        try:
            base = git("merge-base", "HEAD", branch)
            break
        except (OSError, subprocess.SubprocessError):
            continue
    return 100_000 + int.from_bytes(hashlib.sha256(base.encode()).digest()[:3], "big")


def main(argv: list[str]) -> int:
    """Check determinism, the scripted expert on every suite and the bundled policy; exit code 1 if anything fails."""
    arguments = parse(argv)
    cores = len(os.sched_getaffinity(0))
    if not 1 <= arguments.jobs <= cores:
        raise UserError(f"--jobs is {arguments.jobs}, expected 1 to {cores}, the cores of this machine")
    console = Console()
    seed = commit_seed() if arguments.seed is None else arguments.seed
    gate, begun = Gate(), time.monotonic()
    console.print(f"seeds from {seed}", highlight=False)
    with console.status("expert and determinism") as status:
        records = _expert(gate, seed, arguments.jobs, status.update)
        _determinism(gate, records, seed, status.update)
        _policy(gate, arguments.policy, seed, arguments.jobs, status.update)
    for check in gate.checks:
        console.print(
            f"{'[green]pass' if check['passed'] else '[bold red]FAIL'}[/] {check['check']}: {check['words']}",
            soft_wrap=True,
        )
    seconds = time.monotonic() - begun
    console.print(f"{'passed' if gate.passed else 'not passed'} in {seconds:.0f} s", highlight=False)
    if arguments.json:
        write_json(arguments.json, {"passed": gate.passed, "seconds": seconds, "seed": seed, "checks": gate.checks})
    return 0 if gate.passed else 1


def _options(suite: str, setting: str, policy: str = "expert", cameras: bool = False) -> RolloutOptions:
    return RolloutOptions(task=suite, setting=setting, policy=policy, cameras=cameras, outside=False)


def _expert(gate: Gate, seed: int, processes: int, say: Any) -> dict[Job, Record]:
    """The expert on every suite; the records, by job."""
    wanted = {key: [Job(_options(*key), seed + i) for i in range(n)] for key, (n, _) in EXPERT.items()}
    # The long ones first: nobody waits for them alone at the end.
    jobs = sorted((job for group in wanted.values() for job in group), key=lambda job: job.options.task == "pick_place")
    records: dict[Job, Record] = {}
    for job, record in run_all(jobs, processes):
        records[job] = record
        say(f"expert: {len(records)} of {len(jobs)} episodes")
    for key, group in wanted.items():
        rows = [records[job] for job in group]
        least = EXPERT[key][1]
        progress = sum(record.result.progress for record in rows) / len(rows)
        beyond = sum(record.result.limit_violations for record in rows)
        done = sum(record.result.success for record in rows)
        words = (
            f"{done}/{len(rows)} succeeded, progress {progress:.2f} (at least {least:.2f}), {beyond} limit violations"
        )
        failures = "; ".join(f"seed {r.result.seed}: {r.result.failure}" for r in rows if r.result.failure)
        gate.add(
            f"expert, {key[0]}, {key[1]}",
            progress >= least and beyond == 0,
            words + (f" ({failures})" * bool(failures)),
        )
    return records


def _determinism(gate: Gate, records: dict[Job, Record], seed: int, say: Any) -> None:
    """The same seeds once more, in this process and in another order: the same trajectories to the bit."""
    here, different = Episodes(), []
    for i in reversed(range(DETERMINISM_SEEDS)):
        job = Job(_options("pick_place", "basic"), seed + i)
        say(f"determinism: {DETERMINISM_SEEDS - i} of {DETERMINISM_SEEDS}")
        if here.run(job).digest != records[job].digest or not records[job].digest:
            different.append(job.seed)
    words = f"{DETERMINISM_SEEDS - len(different)} of {DETERMINISM_SEEDS} seeds gave the same trajectory twice"
    gate.add("determinism", not different, words + (f"; not {different}" if different else ""))


def _policy(gate: Gate, policy: str, seed: int, processes: int, say: Any) -> None:
    """The bundled policy, by a truncated sequential test: is it still what it was measured to be?"""
    from gr3_policy_node.backends import policies

    name = f"policy {policy}"
    if policy not in policies():
        gate.add(name, True, "is not bundled yet: not checked")
        return
    measured = json.loads(BASELINE.read_text(encoding="utf-8")).get(policy, {}).get("pick_place/basic")
    if measured is None:
        gate.add(name, False, f"{BASELINE.name} does not say what it does: benchmarks/campaign.py --policy {policy}")
        return
    before = measured["successes"], measured["episodes"]
    try:
        test = regression(*before)
    except ValueError as error:
        gate.add(name, False, str(error))
        return
    jobs = [Job(_options("pick_place", "basic", policy, cameras=True), seed + i) for i in range(test.cap)]
    verdict, (successes, trials) = decide(test, jobs, processes, say)
    low, high = wilson_interval(successes, trials)
    words = (
        f"{verdict}: {successes}/{trials} ({100 * low:.0f} to {100 * high:.0f} %), measured before {before[0]}/"
        f"{before[1]}: {100 * test.good:.0f} % should pass, {100 * test.bad:.0f} % should not"
    )
    gate.add(name, verdict == PASS, words, successes=successes, trials=trials)


def regression(successes: int, episodes: int) -> Sprt:
    """The test of a policy that once succeeded so often: it shall not have become worse by `LOSS`.

    `good` is the lower end of what that measurement leaves open (Wilson, 95 %): a policy that did not change passes
    even where the measurement flattered it. Whether the policy is good enough is another question, which the tables
    answer; a change is not to blame for what was so before it.

    Raises:
        ValueError: a policy so bad that nothing is left to lose.
    """
    good = wilson_interval(successes, episodes)[0]
    if good - LOSS < 0.05:
        raise ValueError(f"{successes}/{episodes} were measured: a policy that bad has nothing to lose")
    return Sprt(bad=good - LOSS, good=good, pass_bad=0.05, fail_good=0.01, cap=CAP)


def decide(gate: Sprt, jobs: Sequence[Job], processes: int, say: Any) -> tuple[str, tuple[int, int]]:
    """Run jobs until the test has its verdict, judged in the order of the jobs and not of their ends.

    Returns:
        The verdict, and successes and trials at that moment.
    """
    order = {job: i for i, job in enumerate(jobs)}
    results: dict[int, bool] = {}
    successes = trials = 0
    for job, record in run_all(jobs, processes):
        results[order[job]] = record.result.success
        while trials in results:
            successes, trials = successes + results[trials], trials + 1
            say(f"policy: {successes} of {trials}")
            verdict = gate.verdict(successes, trials)
            if verdict is not None:
                return verdict, (successes, trials)
    raise RuntimeError("the test did not end at its cap")
