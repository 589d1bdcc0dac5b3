"""`./bytemini bench faults`: the fault campaign, every fault of `bytemini_sim.faults`, each with a few seeds."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bytemini_core.errors import UserError
from rich import box
from rich.console import Console
from rich.progress import Progress, track
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


def main(argv: Sequence[str]) -> int:
    """Run the campaign, print a line per fault, and fail where one went wrong."""
    parser = argparse.ArgumentParser(prog="bytemini bench faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs per fault (default: %(default)s)")
    parser.add_argument("--only", default="", help="faults with this in their name")
    parser.add_argument("--part", choices=PARTS, default="all", help="; ".join(f"{k}: {v}" for k, v in PARTS.items()))
    parser.add_argument("--jobs", type=int, default=2, help="processes of the core part (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=None, help="write the runs here")
    parser.add_argument("--table", type=Path, default=None, help="write the table here, as Markdown")
    arguments = parser.parse_args(argv)
    from bytemini_sim.faults.live import LIVE_FAULTS

    core = [fault for fault in FAULTS if arguments.only in fault.name and arguments.part != "live"]
    live = [fault for fault in LIVE_FAULTS if arguments.only in fault.name and arguments.part != "core"]
    if not core and not live:
        names = ", ".join([*(fault.name for fault in FAULTS), *(fault.name for fault in LIVE_FAULTS)])
        raise UserError(f"no fault has {arguments.only!r} in its name; there are {names}")
    if arguments.seeds < 1 or not 1 <= arguments.jobs <= (os.cpu_count() or 1):
        raise UserError(f"expected at least 1 seed and 1 to {os.cpu_count()} jobs")
    tasks = [(fault.name, seed) for fault in core for seed in range(arguments.seeds)]
    console = Console()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(arguments.jobs) as pool:
        reports = list(track(pool.map(one, tasks), "faults", total=len(tasks), console=console, transient=True))
    if live:
        reports += _live(live, arguments.seeds, console)
    struck: list[Fault | LiveFault] = [*core, *live]
    rows = _rows(struck, reports)
    _print(rows, len(reports), console)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures(reports), indent=1) + "\n", encoding="utf-8")
    if arguments.table is not None:
        arguments.table.write_text(_markdown(rows), encoding="utf-8")
    return int(any(row[-1] for row in rows))


def _live(faults: Sequence[LiveFault], seeds: int, console: Console) -> list[FaultReport]:
    """One stack for each seed, one fault after the other in it."""
    from bytemini_sim.faults.live import LiveStack

    reports = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("processes", total=seeds * len(faults))
        for seed in range(seeds):
            logs = Path(tempfile.mkdtemp(prefix="bytemini-faults-"))
            with LiveStack(seed, logs) as stack:
                for fault in faults:
                    reports.append(stack.strike(fault))
                    progress.advance(bar)
    return reports


TITLES = ("fault", "meaning", "holds ms", "rests ms", "speed", "violations", "moves again", "")


def _rows(faults: Sequence[Fault | LiveFault], reports: Sequence[FaultReport]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for fault in faults:
        mine = [report for report in reports if report.name == fault.name]
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
