"""`./bytemini bench rollout`: how much faster than real time episodes run, and where the time goes."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from bytemini_core.errors import UserError
from rich.console import Console
from rich.table import Table

from bytemini_sim.episode import RolloutOptions
from bytemini_sim.inproc import InprocRunner


def main(argv: list[str]) -> int:
    """Speed of rollouts against real time: over ROS, in process with cameras, in process without."""
    parser = argparse.ArgumentParser(prog="bytemini bench rollout", description=main.__doc__)
    parser.add_argument("--episodes", type=int, default=5, help="per way of running (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    parser.add_argument("--no-ros", action="store_true", help="leave out the run over ROS")
    arguments = parser.parse_args(argv)
    if arguments.episodes < 1:
        raise UserError(f"--episodes is {arguments.episodes}, expected at least 1")
    console = Console()
    seeds = range(arguments.episodes)
    bare = RolloutOptions(cameras=False, outside=False)
    seen = replace(bare, cameras=True)
    figures: dict[str, float | None] = {"ros_realtime_factor": None}
    table = Table("way", "median", "slowest", title=f"times real time, {arguments.episodes} episodes each")
    if not arguments.no_ros:
        with console.status("over ROS, lock step, three cameras"):
            factors = _over_ros(seen, seeds)
        figures["ros_realtime_factor"] = _row(table, "over ROS, lock step, three 224 px cameras at 10 Hz", factors)
    for key, options, name in (
        ("inproc_camera_realtime_factor", seen, "in process, three 224 px cameras at 10 Hz"),
        ("inproc_realtime_factor", bare, "in process, no cameras"),
    ):
        with console.status(name):
            figures[key] = _row(table, name, _in_process(options, seeds))
    console.print(table)
    with console.status("where the time goes"):
        console.print(_shares(seen))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def _row(table: Table, name: str, factors: list[float]) -> float:
    middle = statistics.median(factors)
    table.add_row(name, f"{middle:.2f}", f"{min(factors):.2f}")
    return middle


def _in_process(options: RolloutOptions, seeds: range) -> list[float]:
    runner = InprocRunner(options)
    runner.run(seeds[0])  # the first run also loads and compiles
    results = [runner.run(seed).result for seed in seeds]
    runner.close()
    return [result.sim_seconds / result.wall_seconds for result in results]


def _over_ros(options: RolloutOptions, seeds: range) -> list[float]:
    from bytemini_sim.wire import WireRunner

    with tempfile.TemporaryDirectory() as folder, WireRunner(options, Path(folder), record=False) as runner:
        runner.run(seeds[0])
        results = [runner.run(seed).result for seed in seeds]
    return [result.sim_seconds / result.wall_seconds for result in results]


@contextmanager
def _timed(owner: type, method: str, spent: dict[str, float], name: str) -> Iterator[None]:
    """Add up the time spent in a method."""
    original: Callable[..., Any] = getattr(owner, method)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - begun

    with mock.patch.object(owner, method, wrapper):
        yield


def _shares(options: RolloutOptions) -> Table:
    """Where one in-process episode with cameras spends its time."""
    from contextlib import ExitStack

    from trajectory_optimizer.optimizer import TrajectoryOptimizer
    from wbc_controller.controller import WholeBodyController

    from bytemini_sim.expert import PickPlaceExpert
    from bytemini_sim.scoring import Scorer
    from bytemini_sim.world import World

    runner = InprocRunner(options)
    runner.run(0)
    spent: dict[str, float] = {}
    with ExitStack() as timers:
        for owner, method, name in (
            (World, "step", "physics"),
            (World, "images", "cameras"),
            (World, "state", "state"),
            (Scorer, "update", "scoring"),
            (PickPlaceExpert, "infer", "expert"),
            (TrajectoryOptimizer, "observe", "trajectory optimizer"),
            (TrajectoryOptimizer, "add_chunk", "trajectory optimizer"),
            (TrajectoryOptimizer, "sample", "trajectory optimizer"),
            (WholeBodyController, "update", "whole-body controller"),
        ):
            timers.enter_context(_timed(owner, method, spent, name))
        result = runner.run(0).result
    runner.close()
    table = Table("part", "ms per simulated s", "share", title="where the time goes (in process, cameras)")
    spent["the rest"] = result.wall_seconds - sum(spent.values())
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        per_second = f"{1000 * seconds / result.sim_seconds:.1f}"
        table.add_row(name, per_second, f"{seconds / result.wall_seconds:.0%}")
    return table
