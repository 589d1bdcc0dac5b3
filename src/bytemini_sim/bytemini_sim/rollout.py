"""`./bytemini rollout`: give the robot a task some number of times, and keep what happened."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bytemini_core.errors import UserError
from bytemini_description.robot import VERSIONS
from gr3_policy_node.backends import policies, policy_choice
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bytemini_sim.episode import Episode, RolloutOptions, default_folder
from bytemini_sim.results.report import TRANSPORTS, RolloutReport, print_report
from bytemini_sim.tasks import TASKS


class Runner(Protocol):
    """What runs episodes, over whichever transport."""

    def run(self, seed: int, on_tick: Callable[[float], None] | None = None) -> Episode:
        """One episode."""


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line of a rollout."""
    defaults = RolloutOptions()
    parser = argparse.ArgumentParser(prog="bytemini rollout", description=main.__doc__)
    parser.add_argument("--task", default=defaults.task, help=f"one of {', '.join(TASKS)} (default: %(default)s)")
    parser.add_argument("--setting", default=defaults.setting, help="setting of the task (default: %(default)s)")
    parser.add_argument(
        "--policy",
        default=defaults.policy,
        help=f"{', '.join(policies())}, a checkpoint folder, ws://host:port or replay:FILE (default: %(default)s)",
    )
    parser.add_argument("--robot", default=defaults.robot, choices=VERSIONS, help="default: %(default)s")
    parser.add_argument(
        "--episodes", type=int, default=3, help="how many, from consecutive seeds (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the first episode (default: %(default)s)")
    parser.add_argument(
        "--instruction",
        default=None,
        help="what to do, like 'put the apple into the basket' (default: that, with the default task and setting; "
        "drawn from the seed with --instruction '')",
    )
    parser.add_argument("--out", type=Path, default=None, help="folder for the results (default: runs/<time>-<task>)")
    parser.add_argument(
        "--transport",
        default="ros",
        choices=TRANSPORTS,
        help="ros: real nodes over DDS in lock step; inproc: the same cores called directly (default: %(default)s)",
    )
    parser.add_argument(
        "--sim",
        default="mujoco",
        choices=("mujoco", "gazebo"),
        help="which simulator, over ROS; gazebo has to be installed and runs in real time (default: %(default)s)",
    )
    parser.add_argument(
        "--latency", type=float, default=defaults.latency, help="s from observation to chunk (default: %(default)s)"
    )
    parser.add_argument("--wrist-lag", action="store_true", help="simulate the wrist's reported 60 ms lag")
    parser.add_argument("--no-cameras", action="store_true", help="draw nothing: no camera topics, no video")
    parser.add_argument("--no-video", action="store_true", help="no video, plot and bag: results only")
    return parser.parse_args(argv)


DEFAULT_INSTRUCTION = "put the apple into the basket"


def rollout_options(arguments: argparse.Namespace) -> RolloutOptions:
    """What the command line asks for.

    Raises:
        UserError: a number out of range.
    """
    if arguments.episodes < 1:
        raise UserError(f"--episodes is {arguments.episodes}, expected at least 1")
    if not 0 <= arguments.seed < 2**31 - arguments.episodes:
        raise UserError(f"--seed is {arguments.seed}, expected 0 to 2147483647")
    if not 0.0 <= arguments.latency <= 2.0:
        raise UserError(f"--latency is {arguments.latency} s, expected 0 to 2")
    instruction = arguments.instruction
    if instruction is None and (arguments.task, arguments.setting) == (RolloutOptions.task, RolloutOptions.setting):
        instruction = DEFAULT_INSTRUCTION
    return RolloutOptions(
        task=arguments.task,
        setting=arguments.setting,
        policy=arguments.policy,
        robot=arguments.robot,
        instruction=instruction or None,
        latency=arguments.latency,
        cameras=not arguments.no_cameras,
        wrist_lag=arguments.wrist_lag,
        outside=not (arguments.no_video or arguments.no_cameras),
    )


class _Interrupt:
    """Ctrl-C that is not lost where a library swallows the exception it raises (rclpy's callbacks may)."""

    def __init__(self) -> None:
        self._asked = False

    def __enter__(self) -> _Interrupt:
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _on_signal(self, *_: object) -> None:
        self._asked = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was one."""
        if self._asked:
            raise KeyboardInterrupt


def main(argv: list[str]) -> int:
    """Give the robot a task in simulation; report, videos, plots and bags go to one folder."""
    arguments = parse(argv)
    options = rollout_options(arguments)
    console = Console()
    out = arguments.out or default_folder(options.task, time.strftime("%Y%m%d-%H%M%S"))
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise UserError(f"{out} already exists and is not empty: give another --out, or remove it")
    if arguments.sim == "gazebo" and arguments.transport != "ros":
        raise UserError("--sim gazebo goes over ROS: leave out --transport")
    report = RolloutReport(options.task, options.policy, options.robot, arguments.transport, arguments.seed)
    keep = not arguments.no_video
    try:
        _check(options)
        out.mkdir(parents=True, exist_ok=True)
        _roll_out(arguments, options, report, out, keep, console)
    except KeyboardInterrupt:
        console.print(f"interrupted after {len(report.episodes)} of {arguments.episodes} episodes")
        _conclude(report, out, console)
        return 130
    except (ValueError, RuntimeError) as error:
        if report.episodes:
            _conclude(report, out, console)
        raise UserError(str(error)) from error
    _conclude(report, out, console)
    return 0


def _check(options: RolloutOptions) -> None:
    """Refuse bad words and a malformed description before anything is started or written."""
    from bytemini_description.robot import load_robot

    from bytemini_sim.tasks import make_task

    load_robot(options.robot)
    policy_choice(options.policy)
    make_task(options.task, options.setting).sample(0, options.instruction)


def _roll_out(
    arguments: argparse.Namespace,
    options: RolloutOptions,
    report: RolloutReport,
    out: Path,
    keep: bool,
    console: Console,
) -> None:
    report.save(out / "report.json")
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[clock]}"), TimeElapsedColumn())
    with _Interrupt() as interrupt, Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("starting the stack", total=None, clock="")
        with _runner(arguments, options, out, keep) as runner:
            for index in range(arguments.episodes):
                interrupt.check()
                seed = arguments.seed + index
                progress.update(
                    bar, description=f"episode {index + 1} of {arguments.episodes}", total=arguments.episodes
                )

                def show(seconds: float, bar: object = bar) -> None:
                    interrupt.check()
                    progress.update(bar, clock=f"{seconds:5.1f} s simulated")  # type: ignore[arg-type]

                episode = runner.run(seed, show)
                report.episodes.append(episode.result)
                report.save(out / "report.json")
                if keep:
                    progress.update(bar, clock="writing video, plot and bag")
                    _keep(episode, options, out / f"episode-{index:03d}")
                progress.update(bar, completed=index + 1)


class _Inproc:
    """An in-process runner as a context manager."""

    def __init__(self, options: RolloutOptions, video: bool):
        from bytemini_sim.inproc import InprocRunner

        self._runner = InprocRunner(options, video=video and options.outside)

    def __enter__(self) -> Runner:
        return self._runner

    def __exit__(self, *_: object) -> None:
        self._runner.close()


class _Gazebo:
    """A stack with Gazebo per episode: its world is made at its start."""

    def __init__(self, options: RolloutOptions, logs: Path, record: bool):
        self._options, self._logs, self._record = options, logs, record

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, seed: int, on_tick: Callable[[float], None] | None = None) -> Episode:
        """One episode."""
        from bytemini_sim.wire import WireRunner

        with WireRunner(self._options, self._logs / f"seed-{seed}", self._record, gazebo=seed) as runner:
            return runner.run(seed, on_tick)


def _runner(arguments: argparse.Namespace, options: RolloutOptions, out: Path, keep: bool):  # type: ignore[no-untyped-def]
    if arguments.transport == "inproc":
        return _Inproc(options, keep)
    if arguments.sim == "gazebo":
        return _Gazebo(options, out / "logs", keep)
    from bytemini_sim.wire import WireRunner

    return WireRunner(options, out / "logs", record=keep)


def _keep(episode: Episode, options: RolloutOptions, stem: Path) -> None:
    """Write an episode's plot, trajectory, video and bag next to the report."""
    from bytemini_description.robot import load_robot

    from bytemini_sim.results.plots import plot_episode

    episode.trajectory.save(stem.with_suffix(".npz"))
    result = episode.result
    subtitle = f"{options.task} with {options.policy} on {options.robot}, seed {result.seed}"
    plot_episode(
        episode.trajectory,
        load_robot(options.robot),
        stem.with_suffix(".png"),
        result.instruction,
        f"{subtitle}: {result.failure}" if result.failure else subtitle,
        result.success,
    )
    if episode.frames:
        from bytemini_sim.results.video import write_video

        write_video(stem.with_suffix(".mp4"), episode)
    if episode.bag:
        from bytemini_sim.results.bag import write_bag
        from bytemini_sim.wire import TOPICS

        write_bag(stem.with_name(stem.name + "-bag"), episode.bag, TOPICS)


def _conclude(report: RolloutReport, out: Path, console: Console) -> None:
    report.save(out / "report.json")
    print_report(report, console)
    console.print(f"results in {out}", highlight=False, soft_wrap=True)
