"""`./bytemini bench latency`: success against the policy's latency, for every way to make motion of its chunks.

Expert and noisy-expert episodes in process; only what turns chunks into references differs. Every finished episode is
kept in a file of lines, so that an interrupted study goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.errors import UserError
from bytemini_core.types import Mode
from bytemini_description.robot import load_robot
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from trajectory_optimizer.benchmarks.peers import OPTIMIZERS

from bytemini_sim import bench_recorded
from bytemini_sim.episode import RolloutOptions
from bytemini_sim.expert import PickPlaceExpert
from bytemini_sim.inproc import InprocRunner
from bytemini_sim.results.report import wilson_interval
from bytemini_sim.world import PhysicsError

LATENCIES = (0, 100, 200, 300, 400)
"""Milliseconds from an observation to the arrival of its chunk."""
COLORS = {
    "ours": "#c03030",
    "ruckig": "#4080c0",
    "ensembling": "#e0a030",
    "linear": "#808080",
    "raw": "#202020",
    "raw, on arrival": "#8040a0",
}


@dataclass(frozen=True)
class Case:
    """One episode: `method` of `OPTIMIZERS`, `latency` in ms, `noise` of the expert, `seed` of scene and noise."""

    method: str
    latency: int
    noise: float
    seed: int


@dataclass(frozen=True)
class Run:
    """What came of it.

    `jerk`: largest of any arm joint's command (rad/s^3), `rms_jerk`: root of the mean square over all joints. Both are
    measured behind the whole-body controller, which holds velocity and acceleration limits for every method.
    `refused`: the controller's last gate refused a reference and took the robot away. `error`: how it ended otherwise.
    """

    case: Case
    success: bool
    jerk: float
    rms_jerk: float
    violations: int
    collisions: int
    seconds: float
    refused: bool
    error: str


def run_case(case: Case) -> Run:
    """One episode, from its case alone."""
    robot = load_robot("v1")
    options = RolloutOptions(latency=case.latency / 1000.0, cameras=False, outside=False)
    expert = PickPlaceExpert(robot, noise_scale=case.noise, seed=case.seed)
    runner = InprocRunner(options, policy=expert, make_optimizer=OPTIMIZERS[case.method])
    try:
        episode = runner.run(case.seed)
    except PhysicsError as error:
        return Run(case, False, 0.0, 0.0, 0, 0, 0.0, False, f"physics: {error}")
    finally:
        runner.close()
    result, trajectory = episode.result, episode.trajectory
    return Run(
        case,
        result.success,
        result.max_joint_jerk,
        float(np.sqrt(np.mean(trajectory.jerk()[3:] ** 2))),
        result.limit_violations,
        result.collisions,
        result.sim_seconds,
        bool((trajectory.mode != list(Mode).index(Mode.POLICY)).any()),
        result.failure or "",
    )


def cases(methods: Sequence[str], seeds: int, noisy: int, latencies: Sequence[int] = LATENCIES) -> Iterator[Case]:
    """All cases, whole seeds one after the other: what is done when interrupted is balanced."""
    for seed in range(max(seeds, noisy)):
        for noise in (0.0, 1.0)[: 1 + (seed < noisy)]:
            if noise == 0.0 and seed >= seeds:
                continue
            for latency in latencies:
                yield from (Case(method, latency, noise, seed) for method in methods)


def load(file: Path) -> list[Run]:
    """The runs that are kept in a file of lines; a last line that was cut off is left out.

    Raises:
        UserError: the file is not one of this study's.
    """
    if not file.exists():
        return []
    runs = []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            break
        try:
            data = json.loads(line)
            runs.append(Run(**(data | {"case": Case(**data["case"])})))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{file}:{number} is not a run of this study ({error}); name another file") from None
    return runs


def study(wanted: Sequence[Case], file: Path, console: Console) -> list[Run]:
    """Run what the file does not have yet; all wanted runs in order."""
    done = {run.case: run for run in load(file)}
    missing = [case for case in wanted if case not in done]
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and not (text := file.read_text(encoding="utf-8")).endswith("\n") and text:
        file.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress, file.open("a", encoding="utf-8") as stream:
        bar = progress.add_task("episodes", total=len(wanted), completed=len(wanted) - len(missing))
        for case in missing:
            progress.update(bar, description=f"{case.method}, {case.latency} ms, seed {case.seed}")
            run = done[case] = run_case(case)
            stream.write(json.dumps(asdict(run)) + "\n")
            stream.flush()
            progress.advance(bar)
    return [done[case] for case in wanted]


def rows(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """One row per expert, method and latency."""
    groups: dict[tuple[float, str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.case.noise, run.case.method, run.case.latency), []).append(run)
    order = list(OPTIMIZERS)
    return [
        {
            "expert": "noisy" if noise else "clean",
            "method": method,
            "latency_ms": latency,
            "episodes": len(group),
            "successes": (successes := sum(run.success for run in group)),
            "ci95": wilson_interval(successes, len(group)),
            "max_jerk_median": statistics.median(run.jerk for run in group),
            "rms_jerk_median": statistics.median(run.rms_jerk for run in group),
            "limit_violations": sum(run.violations for run in group),
            "collisions": sum(run.collisions for run in group),
            "refused": sum(run.refused for run in group),
            "seconds_median": statistics.median(run.seconds for run in group),
        }
        for (noise, method, latency), group in sorted(
            groups.items(), key=lambda item: (item[0][0], order.index(item[0][1]), item[0][2])
        )
    ]


def table(lines: Sequence[dict[str, Any]], expert: str) -> Table:
    """The rows of one expert for the terminal."""
    made = Table(title=f"pick and place against latency, {expert} expert", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for heading in ("method", "ms", "done", "95 %", "jerk", "RMS", "limits", "hits", "stops", "s"):
        made.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    before = ""
    for line in lines:
        if line["expert"] != expert:
            continue
        if before not in ("", line["method"]):
            made.add_section()
        made.add_row(
            line["method"] if line["method"] != before else "",
            str(line["latency_ms"]),
            f"{line['successes']}/{line['episodes']}",
            "{:.0f}-{:.0f}".format(*(100 * bound for bound in line["ci95"])),
            f"{line['max_jerk_median']:.0f}",
            f"{line['rms_jerk_median']:.1f}",
            str(line["limit_violations"]),
            str(line["collisions"]),
            str(line["refused"]),
            f"{line['seconds_median']:.1f}",
        )
        before = line["method"]
    made.caption = (
        "95 %: Wilson interval in %; jerk, RMS: largest and RMS jerk of the joint commands behind the whole-body "
        "controller, rad/s^3, medians; limits, hits: violations and collisions of all episodes; stops: episodes in "
        "which the controller refused a reference and held; s: median length"
    )
    return made


def plot(file: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Success and RMS jerk against latency, per method; one column of pictures per expert."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    experts = list(dict.fromkeys(line["expert"] for line in lines))
    figure, axes = plt.subplots(
        2, len(experts), figsize=(1.0 + 4.5 * len(experts), 6.5), sharex=True, sharey="row", squeeze=False
    )
    for column, expert in enumerate(experts):
        top, bottom = axes[:, column]
        methods = list(dict.fromkeys(line["method"] for line in lines if line["expert"] == expert))
        for i, method in enumerate(methods):
            mine = [line for line in lines if line["expert"] == expert and line["method"] == method]
            rate = np.array([line["successes"] / line["episodes"] for line in mine])
            span = np.abs(np.array([line["ci95"] for line in mine]).T - rate)
            latency = np.array([line["latency_ms"] for line in mine], dtype=np.float64)
            shifted = latency + 5.0 * (i - (len(methods) - 1) / 2)  # intervals side by side
            look: dict[str, Any] = {"color": COLORS[method], "marker": "o", "ms": 4, "lw": 2 if method == "ours" else 1}
            look["zorder"] = 3 if method == "ours" else 2
            top.errorbar(shifted, 100 * rate, yerr=100 * span, capsize=2, elinewidth=0.7, label=method, **look)
            bottom.plot(latency, [line["rms_jerk_median"] for line in mine], **look)
        counts = sorted({line["episodes"] for line in lines if line["expert"] == expert})
        count = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        top.set_title(f"{expert} expert, {count} episodes a point", fontsize=10)
        top.set_ylim(-5, 105)
        bottom.set_yscale("log")
        bottom.set_xlabel("latency, ms")
        for axis in (top, bottom):
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("success, % (95 % intervals)")
    axes[1, 0].set_ylabel("RMS jerk of the commands, rad/s³")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(file, dpi=80)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Success against the policy's latency: chunk splicing beside its peers, in the simulator."""
    parser = argparse.ArgumentParser(prog="bytemini bench latency", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="episodes with the clean expert (default: %(default)s)")
    parser.add_argument("--noisy", type=int, default=10, help="episodes with the noisy expert (default: %(default)s)")
    parser.add_argument(
        "--methods", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS), metavar="METHOD", help="default: all"
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/latency.jsonl"),
        metavar="FILE",
        help="finished episodes; those already there are not run again (default: %(default)s)",
    )
    parser.add_argument("--finished", action="store_true", help="run nothing, show all that the file has")
    parser.add_argument(
        "--recorded",
        type=int,
        default=3,
        metavar="N",
        help="episodes whose chunks are recorded and given to each method again (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table's numbers here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a PNG of success against latency here")
    options = parser.parse_args(argv)
    counts = (options.seeds, options.noisy, options.recorded)
    if min(counts) < 0 or sum(counts) == 0:
        parser.error("--seeds, --noisy and --recorded: expected no less than 0, and at least one episode")
    console = Console()
    if options.finished:
        runs = load(options.runs)
    else:
        runs = study(list(cases(options.methods, options.seeds, options.noisy)), options.runs, console)
    lines = rows(runs)
    for expert in dict.fromkeys(line["expert"] for line in lines):
        console.print(table(lines, expert))
    recorded: list[dict[str, Any]] = []
    if options.recorded:
        with console.status("recorded chunks"):
            for noise in (0.0, 1.0):
                recorded += bench_recorded.compare(options.methods, options.recorded, noise)
        console.print(bench_recorded.table(recorded))
    if options.json:
        text = json.dumps({"rows": lines, "recorded": recorded}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.plot and lines:
        plot(options.plot, lines)
        console.print(f"wrote {options.plot}")
    return 0
