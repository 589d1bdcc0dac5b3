"""`./bytemini gate`: may this commit be merged? Determinism, the expert in every suite, the bundled policy.

Seeds are fixed per commit: the merge base with the main branch names them, so that a repeated run gives the same
answer and cannot be retried until it passes by luck.
"""

from __future__ import annotations

import argparse
import hashlib
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
POLICY_GATE = Sprt(bad=0.70, good=0.90, pass_bad=0.05, fail_good=0.01, cap=80)
"""For a floor of 80 %: a policy that succeeds 92 % of the time passes with 99.5 % probability, one of 90 % with 97.7 %,
of 80 % with 39.8 %, of 70 % with 4.5 % (`Sprt.characteristics`, exact); after 21, 26, 46, 30 episodes in the mean."""


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
    """The bundled policy, by a truncated sequential test; nothing to check while there is none."""
    from gr3_policy_node.backends import policies

    if policy not in policies():
        gate.add(f"policy {policy}", True, "is not bundled yet: not checked")
        return
    jobs = [Job(_options("pick_place", "basic", policy, cameras=True), seed + i) for i in range(POLICY_GATE.cap)]
    verdict, successes = decide(POLICY_GATE, jobs, processes, say)
    trials = successes[1]
    low, high = wilson_interval(successes[0], trials)
    words = f"{verdict}: {successes[0]}/{trials} ({100 * low:.0f} to {100 * high:.0f} %), stopped as soon as decided"
    gate.add(f"policy {policy}", verdict == PASS, words, successes=successes[0], trials=trials)


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
