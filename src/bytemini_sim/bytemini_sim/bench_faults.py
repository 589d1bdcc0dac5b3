"""`./bytemini bench faults`: the fault campaign, every fault of `bytemini_sim.faults.catalogue` with a few seeds."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bytemini_core.errors import UserError
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bytemini_sim.faults.catalogue import FAULTS
from bytemini_sim.faults.injector import Fault
from bytemini_sim.faults.run import FaultReport, FaultRun


def one(task: tuple[str, int]) -> FaultReport:
    """A fault, by name, with a seed; in a process of its own."""
    name, seed = task
    return FaultRun(seed).run(next(fault for fault in FAULTS if fault.name == name))


def judge(fault: Fault, report: FaultReport) -> str:
    """What is wrong with how a fault went, "" if nothing is."""
    if report.limit_violations:
        return f"{report.limit_violations} limit violations"
    if report.max_acceleration_ratio > 1.0 + 1e-6:
        return f"commanded acceleration {report.max_acceleration_ratio:.2f} times its limit"
    if not fault.tolerated and report.time_to_hold_ms is None:
        return "did not hold"
    if not report.recovered:
        return "did not move again"
    return ""


def figures(reports: Sequence[FaultReport]) -> dict[str, Any]:
    """What `--json` writes: every run, and the longest time until the robot held."""
    held = [report.time_to_hold_ms for report in reports if report.time_to_hold_ms is not None]
    return {"faults": [asdict(report) for report in reports], "worst_ms": max(held, default=None)}


def main(argv: Sequence[str]) -> int:
    """Run the campaign, print a line per fault, and fail where one went wrong."""
    parser = argparse.ArgumentParser(prog="bytemini bench faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs per fault (default: %(default)s)")
    parser.add_argument("--only", default="", help="faults with this in their name")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=None, help="write the runs here")
    arguments = parser.parse_args(argv)
    faults = [fault for fault in FAULTS if arguments.only in fault.name]
    if not faults:
        raise UserError(f"no fault has {arguments.only!r} in its name; there are {', '.join(f.name for f in FAULTS)}")
    if arguments.seeds < 1 or not 1 <= arguments.jobs <= (os.cpu_count() or 1):
        raise UserError(f"expected at least 1 seed and 1 to {os.cpu_count()} jobs")
    tasks = [(fault.name, seed) for fault in faults for seed in range(arguments.seeds)]
    console = Console()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(arguments.jobs) as pool:
        reports = list(track(pool.map(one, tasks), "faults", total=len(tasks), console=console, transient=True))
    wrong = _print(faults, reports, console)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures(reports), indent=1) + "\n", encoding="utf-8")
    return int(wrong > 0)


def _print(faults: Sequence[Fault], reports: Sequence[FaultReport], console: Console) -> int:
    table = Table(box=box.SIMPLE, title=f"{len(faults)} faults, {len(reports)} runs")
    for title in ("fault", "meaning", "reacts ms", "rests ms", "speed", "violations", "moves again", ""):
        table.add_column(title, justify="left" if title in ("fault", "meaning", "") else "right")
    wrong = 0
    for fault in faults:
        mine = [report for report in reports if report.name == fault.name]
        troubles = sorted({judge(fault, report) for report in mine} - {""})
        wrong += bool(troubles)
        table.add_row(
            fault.name,
            fault.means,
            _worst([r.reaction_ms for r in mine]),
            _worst([r.time_to_hold_ms for r in mine]),
            f"{max(r.max_speed_ratio for r in mine):.2f}",
            str(sum(r.limit_violations for r in mine)),
            f"{sum(r.recovered for r in mine)}/{len(mine)}",
            "; ".join(troubles),
        )
    console.print(table)
    console.print(
        "reacts: until the controller or the driver holds; rests: until everything stands still (worst of the seeds; "
        "-: went on through it); speed: largest of a joint over its limit"
    )
    console.print(f"{len(faults) - wrong} of {len(faults)} as they should be")
    return wrong


def _worst(values: Sequence[float | None]) -> str:
    held = [value for value in values if value is not None]
    return f"{max(held):.0f}" if held else "-"
