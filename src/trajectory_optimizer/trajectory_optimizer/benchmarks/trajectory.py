"""`./bytemini bench trajectory`: this package and its peers on the same chunks, one table, one JSON, one plot."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from trajectory_optimizer.benchmarks.measure import SETTLING, Outcome, run
from trajectory_optimizer.benchmarks.methods import Ensembling, Linear, Method, Ours, Raw, Ruckig
from trajectory_optimizer.benchmarks.plot import plot_seam
from trajectory_optimizer.benchmarks.world import Setting, synthetic_robot

IRREGULAR = Setting(period=(0.3, 1.0), latency=(0.05, 0.4), stamp_error=0.015)
SETTINGS = {
    "latency 0.2 s": Setting(latency=(0.2, 0.2)),
    "latency 0.3 s": Setting(latency=(0.3, 0.3)),
    "latency 0.05 to 0.4 s": Setting(latency=(0.05, 0.4)),
    "chunk bias 50 mrad": Setting(bias=0.05),
    "row noise 20 mrad": Setting(noise=0.02),
    "no noise": Setting(bias=0.0, noise=0.0),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Smoothness, lag and cost of chunk splicing, beside raw switching, interpolation, ensembling and ruckig."""
    parser = argparse.ArgumentParser(prog="bytemini bench trajectory", description=main.__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a PNG of the motion over a seam here")
    parser.add_argument("--seeds", type=_positive, default=3, help="paths to average over (default 3)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds of motion per path (default 30)")
    options = parser.parse_args(argv)
    if options.duration < 4.0 * SETTLING:
        parser.error(f"--duration is {options.duration}, expected at least {4.0 * SETTLING:.0f} s")
    robot = synthetic_robot()
    methods: dict[str, Callable[[Setting], Method]] = {
        "raw": Raw,
        "linear": Linear,
        "ensembling": Ensembling,
        "ruckig": Ruckig,
        "ours": lambda setting: Ours(robot, setting),
        "ours, C3": lambda setting: Ours(robot, setting, continuity=3),
    }
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    console = Console()
    nominal: dict[str, Outcome] = {}
    irregular: dict[str, Outcome] = {}
    robust: dict[str, Outcome] = {}
    with Progress(console=console, transient=True, auto_refresh=False) as progress:  # no thread beside what is timed
        bar = progress.add_task("runs", total=2 * len(methods) + len(SETTINGS))
        for name, make in methods.items():
            nominal[name] = run(make, Setting(), seeds, options.duration)
            progress.advance(bar)
            progress.refresh()
            irregular[name] = run(make, IRREGULAR, seeds, options.duration)
            progress.advance(bar)
            progress.refresh()
        for name, setting in SETTINGS.items():
            robust[name] = run(methods["ours"], setting, seeds, options.duration)
            progress.advance(bar)
            progress.refresh()
    console.print(_table("a chunk every 0.5 s, 0.1 s late", nominal))
    console.print(_table("a chunk every 0.3 to 1 s, 0.05 to 0.4 s late, stamps off by 15 ms", irregular))
    console.print(_table("ours, other conditions", robust))
    if options.json:
        options.json.write_text(json.dumps(summary(nominal, irregular), indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot_seam(options.plot, {name: nominal[name] for name in ("linear", "ensembling", "ruckig", "ours")}, seeds[0])
        console.print(f"wrote {options.plot}")
    return 0


def summary(nominal: dict[str, Outcome], irregular: dict[str, Outcome]) -> dict[str, Any]:
    """What `--json` writes: ratios, ms, mrad, SI, us."""
    ours = nominal["ours"]
    assert ours.seam is not None
    return {
        "jerk_ratio": {name: nominal[name].jerk_ratio for name in ("ours", "linear", "ensembling", "ruckig", "raw")},
        "lag_ms": 1e3 * ours.lag,
        "error_mrad": 1e3 * ours.error,
        "seam": dict(zip(("position", "velocity", "acceleration"), ours.seam.tolist(), strict=True)),
        "irregular_jerk_ratio": irregular["ours"].jerk_ratio,
        "update_us": {"p50": _us(ours.update, 50), "p99": _us(ours.update, 99)},
        "update_cpu_us": {"p50": _us(ours.update_cpu, 50), "p99": _us(ours.update_cpu, 99)},
        "sample_us": _us(ours.sample, 50),
    }


def _us(times: Any, percentile: float) -> float:
    return float(1e6 * np.percentile(times, percentile))


def _table(title: str, outcomes: dict[str, Outcome]) -> Table:
    table = Table(title=title)
    for heading in (
        "method",
        "jerk / clean",
        "lag ms",
        "error mrad",
        "step v",
        "step a",
        "update us",
        "of CPU",
        "sample us",
    ):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for name, o in outcomes.items():
        table.add_row(
            name,
            f"{o.jerk_ratio:.3f}" if o.jerk_ratio < 100 else f"{o.jerk_ratio:.0f}",
            f"{1e3 * o.lag:.2f}",
            f"{1e3 * o.error:.2f}",
            f"{o.velocity_step:.3f}",
            f"{o.acceleration_step:.3f}",
            f"{_us(o.update, 50):.0f} / {_us(o.update, 99):.0f}",
            f"{_us(o.update_cpu, 50):.0f} / {_us(o.update_cpu, 99):.0f}",
            f"{_us(o.sample, 50):.1f} / {_us(o.sample, 99):.1f}",
        )
    table.caption = "step v, a: largest change from one 5 ms sample to the next; times: median / p99"
    return table


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value
