"""`./bytemini bench eval`: how many episodes of pick_place a minute this machine evaluates."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from bytemini_core.errors import UserError
from rich.console import Console
from rich.progress import track

from bytemini_sim.episode import RolloutOptions
from bytemini_sim.evaluation.pool import Job, run_all


def main(argv: list[str]) -> int:
    """Throughput of evaluations: pick_place with the expert, without cameras and with three of 224 px at 10 Hz."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="bytemini bench eval", description=main.__doc__)
    parser.add_argument("--episodes", type=int, default=40, help="per way of running (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=cores, help="processes (default: all cores, %(default)s)")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    if arguments.episodes < 1:
        raise UserError(f"--episodes is {arguments.episodes}, expected at least 1")
    if not 1 <= arguments.jobs <= cores:
        raise UserError(f"--jobs is {arguments.jobs}, expected 1 to {cores}, the cores of this machine")
    console = Console()
    figures: dict[str, float] = {}
    for key, cameras, name in (
        ("episodes_per_minute", False, "without cameras"),
        ("episodes_per_minute_with_cameras", True, "with three 224 px cameras"),
    ):
        options = RolloutOptions(cameras=cameras, outside=False)
        jobs = [Job(options, seed) for seed in range(arguments.episodes)]
        begun = time.perf_counter()
        done = list(track(run_all(jobs, arguments.jobs), name, len(jobs), console=console, transient=True))
        seconds = time.perf_counter() - begun
        if crashed := [record.result.failure for _, record in done if record.trace]:
            raise UserError(f"{len(crashed)} episodes crashed: {crashed[0]}")
        figures[key] = round(60 * len(jobs) / seconds, 2)
        two_hundred = 200 / figures[key]
        console.print(
            f"{name}: {figures[key]:.1f} episodes a minute with {arguments.jobs} processes, starting them included "
            f"({two_hundred:.1f} min for 200)",
            highlight=False,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures | {"jobs": arguments.jobs}, indent=2) + "\n", encoding="utf-8")
    return 0
