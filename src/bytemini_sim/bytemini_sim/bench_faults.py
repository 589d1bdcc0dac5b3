"""`./bytemini bench faults`: the fault campaign, every fault of `bytemini_sim.faults`, each with a few seeds."""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bytemini_core.errors import UserError
from rich import box
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from bytemini_sim.faults.catalogue import FAULTS
from bytemini_sim.faults.injector import Fault
from bytemini_sim.faults.run import FaultReport, FaultRun

if TYPE_CHECKING:
    from bytemini_sim.faults.live import LiveFault

PARTS = {
    "all": "both",
    "core": "the cores of the nodes, deterministic, as fast as the machine allows",
    "live": "the real processes over DDS, in real time",
}

WANTED = 100.0
"""ms within which the robot is to hold after the death of a process."""

TRIES = 3
"""So often a stack is brought up for a run."""


def one(task: tuple[str, int]) -> FaultReport:
    """A fault, by name, with a seed; in a process of its own."""
    name, seed = task
    return FaultRun(seed).run(next(fault for fault in FAULTS if fault.name == name))


def judge(fault: Fault | LiveFault, report: FaultReport) -> str:
    """What is wrong with how a fault went, "" if nothing is."""
    if report.limit_violations:
        return f"{report.limit_violations} limit violations"
    if report.max_acceleration_ratio > 1.0 + 1e-6:
        return f"commanded acceleration {report.max_acceleration_ratio:.2f} times its limit"
    if not fault.tolerated and report.time_to_hold_ms is None:
        return "did not hold"
    if isinstance(fault, Fault) and (report.time_to_hold_ms or 0.0) > fault.within_ms:
        return f"held only after {report.time_to_hold_ms:.0f} ms"
    if "circuit" in report.reason and "button" not in fault.name:
        return "stopped by a button that nobody pressed"
    if not report.recovered:
        return "did not move again"
    return ""


def figures(reports: Sequence[FaultReport]) -> dict[str, Any]:
    """What `--json` writes: every run, and the longest times until somebody held, and until the robot stood still."""
    held = [report.time_to_hold_ms for report in reports if report.time_to_hold_ms is not None]
    rested = [report.time_to_rest_ms for report in reports if report.time_to_rest_ms is not None]
    return {
        "faults": [asdict(report) for report in reports],
        "worst_ms": max(held, default=None),
        "worst_rest_ms": max(rested, default=None),
    }


class Runs:
    """The runs of a campaign, in a file that is whole after each of them, so that it can go on after any end.

    Args:
        path: of the JSON file, with the table as Markdown beside it; None for no files.
        faults: all that the campaign is about.
        resume: take over what the file holds.

    Raises:
        UserError: what the file holds is no campaign.
    """

    def __init__(self, path: Path | None, faults: Sequence[Fault | LiveFault], resume: bool) -> None:
        self._path, self._faults = path, faults
        self.reports: list[FaultReport] = []
        if path is not None and path.exists() and resume:
            try:
                self.reports = [FaultReport(**run) for run in json.loads(path.read_text(encoding="utf-8"))["faults"]]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path} holds no campaign to go on with: {error}") from error

    def lacks(self, fault: Fault | LiveFault, seed: int) -> bool:
        """Whether a run is still to be made."""
        return not any((report.name, report.seed) == (fault.name, seed) for report in self.reports)

    def add(self, report: FaultReport) -> None:
        """Keep a run."""
        self.reports.append(report)
        order = {fault.name: index for index, fault in enumerate(self._faults)}
        self.reports.sort(key=lambda run: (order.get(run.name, len(order)), run.seed))
        if self._path is not None:
            _write(self._path, json.dumps(figures(self.reports), indent=1) + "\n")
            _write(self._path.with_suffix(".md"), _markdown(self.rows()))

    def rows(self) -> list[tuple[str, ...]]:
        """The table: a line for every fault that has run."""
        return _rows(self._faults, self.reports)


def _write(path: Path, text: str) -> None:
    """All of it or nothing."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def main(argv: Sequence[str]) -> int:
    """Run the campaign, print a line per fault, and fail where one went wrong."""
    parser = argparse.ArgumentParser(prog="bytemini bench faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs per fault (default: %(default)s)")
    parser.add_argument("--only", default="", help="faults with this in their name")
    parser.add_argument("--part", choices=PARTS, default="all", help="; ".join(f"{k}: {v}" for k, v in PARTS.items()))
    parser.add_argument("--jobs", type=int, default=2, help="processes of the core part (default: %(default)s)")
    parser.add_argument(
        "--json", type=Path, default=None, help="write the runs here, after each of them, and a table (.md) beside it"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the runs that the file of --json holds")
    arguments = parser.parse_args(argv)
    from bytemini_sim.faults.live import LIVE_FAULTS

    core = [fault for fault in FAULTS if arguments.only in fault.name and arguments.part != "live"]
    live = [fault for fault in LIVE_FAULTS if arguments.only in fault.name and arguments.part != "core"]
    if not core and not live:
        names = ", ".join([*(fault.name for fault in FAULTS), *(fault.name for fault in LIVE_FAULTS)])
        raise UserError(f"no fault has {arguments.only!r} in its name; there are {names}")
    if arguments.seeds < 1 or not 1 <= arguments.jobs <= (os.cpu_count() or 1):
        raise UserError(f"expected at least 1 seed and 1 to {os.cpu_count()} jobs")
    if arguments.resume and arguments.json is None:
        raise UserError("--resume goes on with the file of --json, and there is none")
    console = Console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the stack is brought down then, too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    runs = Runs(arguments.json, [*FAULTS, *LIVE_FAULTS], arguments.resume)
    seeds = range(arguments.seeds)
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console, transient=True) as progress:
        try:
            _core(core, seeds, arguments.jobs, runs, progress)
            _live(live, seeds, runs, progress)
        except KeyboardInterrupt:
            again = "; --resume goes on" if arguments.json else ""
            console.print(f"stopped after {len(runs.reports)} of {len(seeds) * len([*core, *live])} runs{again}")
            return 130
    rows = runs.rows()
    _print(rows, len(runs.reports), console)
    console.print(_deaths(LIVE_FAULTS, runs.reports))
    return int(any(row[-1] for row in rows))


def _core(faults: Sequence[Fault], seeds: range, jobs: int, runs: Runs, progress: Progress) -> None:
    """Every fault with every seed that is still to be run, in processes of their own."""
    tasks = [(fault.name, seed) for fault in faults for seed in seeds if runs.lacks(fault, seed)]
    bar = progress.add_task("cores", total=len(tasks))
    pool = ProcessPoolExecutor(jobs)
    try:
        for done in as_completed([pool.submit(one, task) for task in tasks]):
            runs.add(done.result())
            progress.advance(bar)
    finally:
        pool.shutdown(cancel_futures=True)


def _live(faults: Sequence[LiveFault], seeds: range, runs: Runs, progress: Progress) -> None:
    """One stack for each seed, one fault after the other in it; a new one where a fault left it without recovery."""
    from bytemini_sim.faults.live import LiveStack

    tasks = [(seed, fault) for seed in seeds for fault in faults if runs.lacks(fault, seed)]
    bar = progress.add_task("processes", total=len(tasks))
    tries = 0
    while tasks:
        seed, logs = tasks[0][0], Path(tempfile.mkdtemp(prefix="bytemini-faults-"))
        try:
            with LiveStack(seed, logs) as stack:
                whole = True
                while whole and tasks and tasks[0][0] == seed:
                    report = stack.strike(tasks[0][1])
                    whole = report.recovered
                    runs.add(report)
                    tasks.pop(0)
                    progress.advance(bar)
                    tries = 0
        except TimeoutError as error:
            # Nothing was measured: on a crowded machine not even a whole stack may come up in time.
            tries += 1
            progress.console.print(f"{tasks[0][1].name}, seed {seed}: {error}")
            if tries == TRIES:
                raise UserError(
                    f"{tasks[0][1].name} with seed {seed} could not be run {TRIES} times: {error}"
                ) from error
        else:
            if not whole:
                progress.console.print(f"{report.name}, seed {seed}: did not move again, see the logs in {logs}")


def _deaths(faults: Sequence[LiveFault], reports: Sequence[FaultReport]) -> str:
    """How soon the robot held after a process was killed or stopped, in a sentence; "" where none was."""
    names = {fault.name for fault in faults if fault.death}
    runs = [report for report in reports if report.name in names]
    if not runs:
        return ""
    words = []
    for clock, times in (
        ("the robot's time", [report.time_to_hold_ms for report in runs]),
        ("the wall's clock", [report.wall_ms for report in runs]),
    ):
        held = [time for time in times if time is not None]
        within = sum(time <= WANTED for time in held)
        words.append(
            f"by {clock} {within} of {len(runs)} within {WANTED:.0f} ms (median {statistics.median(held):.0f}, "
            f"largest {max(held):.0f})"
            if held
            else f"by {clock} none"
        )
    return "a process killed or stopped, until the robot held: " + "; ".join(words)


TITLES = ("fault", "meaning", "holds ms", "rests ms", "speed", "violations", "moves again", "")


def _rows(faults: Sequence[Fault | LiveFault], reports: Sequence[FaultReport]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for fault in faults:
        mine = [report for report in reports if report.name == fault.name]
        if not mine:
            continue
        rows.append(
            (
                fault.name,
                fault.means,
                _worst([r.time_to_hold_ms for r in mine]),
                _worst([r.time_to_rest_ms for r in mine]),
                f"{max(r.max_speed_ratio for r in mine):.2f}",
                str(sum(r.limit_violations for r in mine)),
                f"{sum(r.recovered for r in mine)}/{len(mine)}",
                "; ".join(sorted({judge(fault, report) for report in mine} - {""})),
            )
        )
    return rows


def _markdown(rows: Sequence[tuple[str, ...]]) -> str:
    titles = [title or "what went wrong" for title in TITLES]
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _print(rows: Sequence[tuple[str, ...]], runs: int, console: Console) -> None:
    table = Table(box=box.SIMPLE, title=f"{len(rows)} faults, {runs} runs")
    for title in TITLES:
        table.add_column(title, justify="left" if title in ("fault", "meaning", "") else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(
        "holds: until the controller or the driver holds; rests: until everything stands still (worst of the seeds; "
        "-: went on through it); speed: largest of a joint over its limit"
    )
    console.print(f"{sum(not row[-1] for row in rows)} of {len(rows)} as they should be")


def _worst(values: Sequence[float | None]) -> str:
    held = [value for value in values if value is not None]
    return f"{max(held):.0f}" if held else "-"
