"""`./bytemini eval`: a task suite, many episodes, one honest report."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bytemini_core.errors import UserError
from bytemini_description.robot import VERSIONS

from bytemini_sim.episode import RolloutOptions
from bytemini_sim.evaluation.records import EvalReport, Record, load_eval, summary, write_json
from bytemini_sim.evaluation.stamp import COMPARABLE, RESUMABLE, Stamp
from bytemini_sim.evaluation.statistics import Comparison, PairedTest, compare
from bytemini_sim.tasks import TASKS, evaluation_settings

if TYPE_CHECKING:
    from rich.console import Console

    from bytemini_sim.evaluation.page import Film
    from bytemini_sim.evaluation.pool import Job

ALL = "all"
_SAVE_SECONDS = 3.0
FILMS = 3
"""Films in a report, per policy: the worst of the failures, then the best of the successes."""


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line of an evaluation."""
    defaults = RolloutOptions()
    parser = argparse.ArgumentParser(prog="bytemini eval", description=main.__doc__)
    parser.add_argument("--suite", default=defaults.task, help=f"one of {', '.join(TASKS)} (default: %(default)s)")
    parser.add_argument(
        "--policy",
        action="append",
        help="name, checkpoint folder or ws://host:port; twice or more to compare them on the same seeds "
        f"(default: {defaults.policy})",
    )
    parser.add_argument("--setting", action="append", help=f"repeatable; {ALL!r}: every one (default: the first)")
    parser.add_argument("--episodes", type=int, default=20, help="per setting (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=None, help="folder for the report (default: runs/<time>-eval-SUITE)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with what --out holds already")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--robot", default=defaults.robot, choices=VERSIONS, help="default: %(default)s")
    parser.add_argument("--latency", type=float, default=defaults.latency, help="s to a chunk (default: %(default)s)")
    parser.add_argument(
        "--cameras", action="store_true", help="draw the three cameras even for a policy that does not look"
    )
    parser.add_argument("--compare", type=Path, default=None, help="a report on the same seeds to compare with")
    parser.add_argument(
        "--until-decided", action="store_true", help="two policies: stop when one is shown to be better"
    )
    parser.add_argument("--no-video", action="store_true", help="no films in the report")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Plan:
    """What a command line asks for, checked. `options`: one per policy; `folders`: where each policy's report goes."""

    suite: str
    settings: tuple[str, ...]
    seeds: range
    options: tuple[RolloutOptions, ...]
    folders: tuple[Path, ...]
    out: Path
    jobs: int

    @property
    def keys(self) -> list[tuple[str, int]]:
        """(setting, seed) of every episode, in order."""
        return [(setting, seed) for setting in self.settings for seed in self.seeds]


def plan_of(arguments: argparse.Namespace) -> Plan:
    """Check everything that can be refused before anything is run or written.

    Raises:
        UserError: what is wrong, what was expected, what to do.
    """
    if arguments.suite not in TASKS:
        raise UserError(f"--suite is {arguments.suite!r}, expected one of {', '.join(TASKS)}")
    known = evaluation_settings(arguments.suite)
    chosen = tuple(dict.fromkeys(arguments.setting or known[:1]))
    if ALL in chosen:
        chosen = known
    if strange := [setting for setting in chosen if setting not in known]:
        raise UserError(f"{arguments.suite} has no setting {strange[0]!r}, expected {ALL} or one of {', '.join(known)}")
    if arguments.episodes < 1:
        raise UserError(f"--episodes is {arguments.episodes}, expected at least 1")
    if not 0 <= arguments.seed < 2**31 - arguments.episodes:
        raise UserError(f"--seed is {arguments.seed}, expected 0 to 2147483647")
    cores = len(os.sched_getaffinity(0))
    if not 1 <= arguments.jobs <= cores:
        raise UserError(f"--jobs is {arguments.jobs}, expected 1 to {cores}, the cores of this machine")
    if not 0.0 <= arguments.latency <= 2.0:
        raise UserError(f"--latency is {arguments.latency} s, expected 0 to 2")
    policies = arguments.policy or [RolloutOptions.policy]
    if len(set(policies)) < len(policies):
        raise UserError(f"--policy {', '.join(policies)}: expected different policies")
    if arguments.until_decided and (len(policies) != 2 or len(chosen) != 1):
        raise UserError("--until-decided compares: expected two --policy and one --setting")
    out = arguments.out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-eval-{arguments.suite}"
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give another --out")
    if out.is_dir() and any(out.iterdir()) and not arguments.resume:
        raise UserError(f"{out} exists and is not empty: give another --out, remove it, or add --resume to go on")
    if arguments.resume and arguments.out is None:
        raise UserError("--resume needs --out: the folder to go on with")
    options = tuple(
        RolloutOptions(
            task=arguments.suite,
            setting=chosen[0],
            policy=policy,
            robot=arguments.robot,
            latency=arguments.latency,
            cameras=_fits(policy, arguments.robot) or arguments.cameras,
            outside=False,
        )
        for policy in policies
    )
    folders = tuple(out / _folder(policy) for policy in policies) if len(policies) > 1 else (out,)
    seeds = range(arguments.seed, arguments.seed + arguments.episodes)
    return Plan(arguments.suite, chosen, seeds, options, folders, out, arguments.jobs)


def _folder(policy: str) -> str:
    return re.sub(r"[^\w.-]+", "_", Path(policy).name if "://" not in policy else policy)


def _fits(policy: str, version: str) -> bool:
    """Refuse a policy that cannot drive the robot; whether it needs pictures."""
    from bytemini_description.robot import load_robot
    from gr3_policy_node.backends import load_policy

    robot = load_robot(version)
    try:
        metadata = load_policy(policy, robot).metadata
    except (ValueError, OSError) as error:
        raise UserError(f"--policy {policy}: {error}") from error
    if odd := sorted(set(metadata.columns) ^ set(robot.policy_columns)):
        raise UserError(
            f"policy {policy!r} does not fit {version}: its actions differ in {', '.join(odd[:3])}; "
            f"expected the {len(robot.policy_columns)} actions of the robot (gr3_policy_node README)"
        )
    return bool(metadata.cameras)


def main(argv: list[str]) -> int:
    """Run a task suite for one policy or several, in parallel; report.json and report.html go to one folder."""
    arguments = parse(argv)
    plan = plan_of(arguments)
    from rich.console import Console

    from bytemini_sim.evaluation.stamp import make_stamp

    console = Console()
    stamps = [make_stamp(options.cameras) for options in plan.options]
    other = _other(arguments.compare, plan, stamps[0]) if arguments.compare else None
    reports = [_begin(plan, i, stamp, arguments.resume) for i, stamp in enumerate(stamps)]
    plan.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    interrupted = False
    try:
        _run(plan, reports, console, begun, arguments.until_decided)
    except KeyboardInterrupt:
        interrupted = True
    for folder, report in zip(plan.folders, reports, strict=True):
        report.records.sort(key=lambda record: plan.keys.index(record.key))
        report.save(folder / "report.json")
    if interrupted:
        done = sum(len(report.records) for report in reports)
        console.print(f"interrupted after {done} episodes; the same command with --resume --out {plan.out} goes on")
        return 130
    _conclude(plan, reports, other, console, films=not arguments.no_video)
    return 0


def _begin(plan: Plan, index: int, stamp: Stamp, resume: bool) -> EvalReport:
    """An empty report, or what the folder holds of this very evaluation."""
    options, folder = plan.options[index], plan.folders[index]
    folder_report = EvalReport(
        plan.suite,
        options.policy,
        options.robot,
        plan.seeds[0],
        options.latency,
        options.cameras,
        stamp,
        jobs=plan.jobs,
    )
    if not resume or not (folder / "report.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        return folder_report
    try:
        before = load_eval(folder)
    except ValueError as error:
        raise UserError(str(error)) from error
    for name in ("suite", "policy", "robot", "latency", "cameras"):
        if getattr(before, name) != getattr(folder_report, name):
            raise UserError(
                f"{folder} holds an evaluation with {name} {getattr(before, name)}, not "
                f"{getattr(folder_report, name)}: give another --out"
            )
    if difference := before.stamp.differences(stamp, RESUMABLE):
        raise UserError(f"{folder} was begun by another version ({difference}): give another --out and begin anew")
    wanted = set(plan.keys)
    folder_report.records = [record for record in before.records if record.key in wanted]
    folder_report.wall_seconds = before.wall_seconds
    return folder_report


def _other(path: Path, plan: Plan, stamp: Stamp) -> EvalReport:
    """The report to compare with."""
    try:
        report = load_eval(path)
    except ValueError as error:
        raise UserError(str(error)) from error
    if report.suite != plan.suite or report.robot != plan.options[0].robot:
        raise UserError(f"{path} is of {report.suite} on {report.robot}: expected the same suite and robot")
    # One that looks and one that does not may be compared; two that look must have seen the same.
    names = COMPARABLE if "none" not in (report.stamp.renderer, stamp.renderer) else COMPARABLE[:2]
    if difference := report.stamp.differences(stamp, names):
        raise UserError(f"{path} was made by another version ({difference}): run that evaluation again with this one")
    if not {record.key for record in report.records} & set(plan.keys):
        raise UserError(
            f"{path} has none of these settings and seeds: expected some of the same, see --setting and --seed"
        )
    return report


def _run(plan: Plan, reports: list[EvalReport], console: Console, begun: float, until_decided: bool) -> None:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from bytemini_sim.evaluation.pool import Job, run_all

    done = [{record.key for record in report.records} for report in reports]
    jobs: list[Job] = []
    index: dict[Job, int] = {}
    for setting, seed in plan.keys:  # seed by seed, so that pairs are complete early
        for i, options in enumerate(plan.options):
            if (setting, seed) not in done[i]:
                job = Job(replace(options, setting=setting), seed)
                jobs.append(job)
                index[job] = i
    if not jobs:
        return
    earlier = [report.wall_seconds for report in reports]
    saved = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as progress:
        bar = progress.add_task(plan.suite, total=len(jobs), rate="")
        for job, record in run_all(jobs, plan.jobs):
            report = reports[index[job]]
            report.records.append(record)
            for each, before in zip(reports, earlier, strict=True):
                each.wall_seconds = before + time.monotonic() - begun
            good = sum(r.result.success for each in reports for r in each.records)
            progress.update(bar, advance=1, rate=f"{good}/{sum(len(each.records) for each in reports)} succeeded")
            if time.monotonic() - saved > _SAVE_SECONDS:
                for folder, each in zip(plan.folders, reports, strict=True):
                    each.save(folder / "report.json")
                saved = time.monotonic()
            if until_decided and _decided(plan, reports):
                console.print("decided: the policies differ at the 5 % level, whenever one stops")
                return


def _decided(plan: Plan, reports: Sequence[EvalReport]) -> bool:
    """Whether the pairs that are complete, in the order of seeds without a gap, tell the two policies apart."""
    first, second = ({record.key: record.result.success for record in report.records} for report in reports)
    test = PairedTest()
    for key in plan.keys:
        if key not in first or key not in second:
            return False
        test.update(first[key], second[key])
        if test.decided:
            return True
    return False


def pairs(first: EvalReport, second: EvalReport, setting: str) -> Comparison | None:
    """Two reports on the seeds of a setting that both ran; None where there are none."""
    theirs = {record.key: record for record in second.of(setting)}
    mine = sorted((record for record in first.of(setting) if record.key in theirs), key=lambda record: record.key)
    if not mine:
        return None

    def worth(records: list[Record]) -> list[tuple[bool, float]]:
        return [(record.result.success, record.result.progress) for record in records]

    return compare(worth(mine), worth([theirs[record.key] for record in mine]))


def _conclude(plan: Plan, reports: list[EvalReport], other: EvalReport | None, console: Console, films: bool) -> None:
    from bytemini_sim.evaluation.page import page

    comparisons: list[tuple[str, str, str, Comparison]] = []
    rivals = [*reports[1:], *([other] if other else [])]
    for rival in rivals:
        name = rival.policy if rival is not other else f"{rival.policy} ({rival.stamp.code}, before)"
        for setting in reports[0].settings():
            found = pairs(reports[0], rival, setting)
            if found is not None:
                comparisons.append((setting, reports[0].policy, name, found))
    shown: dict[str, list[Film]] = {}
    if films:
        shown = {
            report.policy: _films(options, report, console)
            for options, report in zip(plan.options, reports, strict=True)
        }
    (plan.out / "report.html").write_text(page(reports, comparisons, shown), encoding="utf-8")
    if comparisons:
        write_json(
            plan.out / "comparison.json",
            [{"setting": s, "first": a, "second": b, **vars(c)} for s, a, b, c in comparisons],
        )
    for report in reports:
        print_summary(report, console)
    for setting, first, second, found in comparisons:
        console.print(
            f"{setting}: {first} against {second} on {found.pairs} seeds: only the first {found.only_first}, only the "
            f"second {found.only_second}, McNemar p = {found.p_value:.3g}, sequential p = {found.sequential_p:.3g}; "
            f"progress {found.difference[0]:+.3f} ({found.difference[1]:+.3f} to {found.difference[2]:+.3f})",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"report in {plan.out / 'report.html'}", highlight=False, soft_wrap=True)


def print_summary(report: EvalReport, console: Console) -> None:
    """One row per setting."""
    from rich.table import Table

    title = f"{report.suite} with {report.policy} on {report.robot}"
    table = Table("setting", "success", "95 %", "follows", "progress", "goals", "failures", title=title)
    for setting in report.settings():
        s = summary(report.of(setting))
        low, high = s["success_ci95"]
        table.add_row(
            setting,
            f"{s['successes']}/{s['episodes']}",
            f"{100 * low:.0f} to {100 * high:.0f}",
            f"{s['instruction_following']}/{s['episodes']}",
            f"{s['progress']['mean']:.3f}",
            f"{s['goals_done']}/{s['goals']}",
            ", ".join(f"{count} {label}" for label, count in s["failures"].items()) or "none",
        )
    console.print(table)
    violations = sum(record.result.limit_violations for record in report.records)
    minutes = report.wall_seconds / 60
    console.print(
        f"{violations} limit violations, {sum(r.result.collisions for r in report.records)} collisions, "
        f"{len(report.records) / minutes if minutes else 0:.0f} episodes a minute with {report.jobs} processes",
        highlight=False,
    )


def chosen_for_film(records: Sequence[Record], most: int = FILMS) -> list[Record]:
    """The worst failures first, then the quickest success; crashes have nothing to show."""
    failed = sorted((r for r in records if not r.result.success and not r.trace), key=lambda r: r.result.progress)
    good = sorted((r for r in records if r.result.success), key=lambda r: r.result.sim_seconds)
    best = good[:1]
    return [*failed[: most - len(best)], *best]


def _films(options: RolloutOptions, report: EvalReport, console: Console) -> list[Film]:
    """Run the chosen episodes again, with a camera: the same to the bit."""
    import tempfile

    from bytemini_sim.evaluation.page import Film
    from bytemini_sim.inproc import InprocRunner
    from bytemini_sim.results.video import write_video

    films: list[Film] = []
    with console.status("films of the worst and the best"), tempfile.TemporaryDirectory() as folder:
        for i, record in enumerate(chosen_for_film(report.records)):
            setting, seed = record.key
            runner = InprocRunner(replace(options, setting=setting, cameras=True, outside=True), video=True)
            try:
                episode = runner.run(seed)
            finally:
                runner.close()
            path = Path(folder) / f"{i}.mp4"
            write_video(path, episode)
            same = episode.digest == record.digest
            films.append(Film(record, path.read_bytes(), same))
    return films
