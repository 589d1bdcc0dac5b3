"""`report.json` of a rollout: what happened in each episode and what it adds up to.

The file is rewritten as a whole, atomically, after every episode: whoever interrupts a rollout finds a valid report of
what was done. Its keys are stable; readers ignore keys that they do not know.
"""

from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bytemini_core.types import TaskStatus

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

TRANSPORTS = ("ros", "inproc")
MOST_ROWS = 40
"""Rows of the printed table; beyond that only the episodes that failed are listed."""

_Z95 = 1.959963984540054


def wilson_interval(successes: int, trials: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a rate: honest where the normal approximation is not (few trials, rates near 0 or 1).

    Args:
        successes: how many of the trials succeeded.
        trials: how many there were; none leaves everything open: (0, 1).
        z: quantile of the standard normal; the default gives 95 %.

    Returns:
        Lower and upper bound in [0, 1]; they contain successes / trials.

    Raises:
        ValueError: not 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials: expected 0 <= successes <= trials")
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    spread = z * z / trials
    centre = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (rate * (1 - rate) + spread / 4)) / (1 + spread)
    # Rounding must not push a bound past the rate itself: 0 of n has the lower bound 0 exactly.
    return max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half))


def _checked(owner: str, name: str, kind: str, value: object) -> Any:
    """`value` as a plain Python value of `kind` (numpy scalars welcome), or ValueError."""
    if kind == "TaskStatus":
        try:
            return value if isinstance(value, TaskStatus) else TaskStatus[str(value)]
        except KeyError:
            names = ", ".join(status.name for status in TaskStatus)
            raise ValueError(f"{owner}.{name} is {value!r}, expected one of {names}") from None
    truth = isinstance(value, bool) or type(value).__name__ == "bool"  # numpy's bool is not a subclass of bool
    if kind == "bool" and truth:
        return bool(value)
    if kind == "int" and isinstance(value, numbers.Integral) and not truth:
        return int(value)
    if kind == "float" and isinstance(value, numbers.Real) and not truth and math.isfinite(value):
        return float(value)
    if kind in ("str", "str | None") and isinstance(value, str):
        return value
    if kind == "str | None" and value is None:
        return None
    raise ValueError(f"{owner}.{name} is {value!r}, expected {'a finite number' if kind == 'float' else kind}")


def _keys(owner: str, data: object, expected: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{owner} is {type(data).__name__}, expected an object with {', '.join(expected)}")
    if missing := [key for key in expected if key not in data]:
        raise ValueError(f"{owner} lacks {', '.join(missing)}: made by another version? Run the rollout again")
    return data


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """One episode.

    Attributes:
        seed: of its scene; `./bytemini rollout --seed` with it repeats the episode.
        instruction: what the robot was told.
        setting: of the task ("basic", "invalid" ...).
        instruction_following: the robot approached what was named (GR-3 report, section 5.1).
        success: the task was done, computed from physics.
        progress: part of the task that was done, in [0, 1].
        task_status: the policy's own last word.
        sim_seconds, wall_seconds: duration on the simulated and on the wall clock.
        max_joint_jerk: largest jerk of any commanded joint, rad/s^3 (m/s^3 for lift and grippers).
        limit_violations: control ticks at which some joint or the base was beyond a limit.
        collisions: contacts that the task does not want.
        failure: why it did not succeed; None when it did. A failure that nobody explains is refused.
    """

    seed: int
    instruction: str
    setting: str
    instruction_following: bool
    success: bool
    progress: float
    task_status: TaskStatus
    sim_seconds: float
    wall_seconds: float
    max_joint_jerk: float
    limit_violations: int
    collisions: int
    failure: str | None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = _checked("EpisodeResult", item.name, str(item.type), getattr(self, item.name))
            if isinstance(value, float | int) and item.name not in ("seed", "task_status") and value < 0:
                raise ValueError(f"EpisodeResult.{item.name} is {value}, expected no less than 0")
            object.__setattr__(self, item.name, value)
        if self.progress > 1:
            raise ValueError(f"EpisodeResult.progress is {self.progress}, expected a number in [0, 1]")
        if not self.success and not self.failure:
            raise ValueError("EpisodeResult.failure is empty for an episode without success: say why it failed")

    def to_dict(self) -> dict[str, Any]:
        """The episode as `report.json` holds it."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        return data | {"task_status": self.task_status.name}

    @classmethod
    def from_dict(cls, data: object, owner: str = "episode") -> EpisodeResult:
        """Read an episode of `report.json`; ValueError names what is wrong."""
        names = tuple(item.name for item in fields(cls))
        mapping = _keys(owner, data, names)
        try:
            return cls(**{name: mapping[name] for name in names})
        except ValueError as error:
            raise ValueError(str(error).replace("EpisodeResult", owner, 1)) from None


@dataclass(slots=True)
class RolloutReport:
    """A rollout: what was asked for and what came of it. `seed` is that of the first episode."""

    task: str
    policy: str
    robot: str
    transport: str
    seed: int
    episodes: list[EpisodeResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name != "episodes":
                setattr(self, item.name, _checked("report", item.name, str(item.type), getattr(self, item.name)))
        if self.transport not in TRANSPORTS:
            raise ValueError(f"report.transport is {self.transport!r}, expected {' or '.join(TRANSPORTS)}")

    @property
    def successes(self) -> int:
        """Episodes that succeeded."""
        return sum(episode.success for episode in self.episodes)

    @property
    def followed(self) -> int:
        """Episodes that followed their instruction."""
        return sum(episode.instruction_following for episode in self.episodes)

    def summary(self) -> dict[str, Any]:
        """What the episodes add up to; rates and factor are None while there is nothing to divide by."""
        count = len(self.episodes)
        wall = sum(episode.wall_seconds for episode in self.episodes)
        return {
            "episodes": count,
            "success_rate": self.successes / count if count else None,
            "success_ci95": list(wilson_interval(self.successes, count)),
            "instruction_following_rate": self.followed / count if count else None,
            "realtime_factor": sum(episode.sim_seconds for episode in self.episodes) / wall if wall > 0 else None,
        }

    def to_dict(self) -> dict[str, Any]:
        """The whole of `report.json`."""
        return {
            "task": self.task,
            "policy": self.policy,
            "robot": self.robot,
            "transport": self.transport,
            "seed": self.seed,
            "episodes": [episode.to_dict() for episode in self.episodes],
            "summary": self.summary(),
        }

    def save(self, path: str | Path) -> None:
        """Replace `path` with this report in one step: a reader, or a kill at any moment, finds the old or the new."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with temporary.open("w", encoding="utf-8") as stream:
                json.dump(self.to_dict(), stream, indent=2, allow_nan=False, ensure_ascii=False)
                stream.write("\n")
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def load_report(path: str | Path) -> RolloutReport:
    """Read a `report.json`, or the one in a run's folder, and check all of it.

    Raises:
        ValueError: not such a report; the message names the file, the field and what was expected.
        OSError: it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "report.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    try:
        data = _keys("report", data, ("task", "policy", "robot", "transport", "seed", "episodes", "summary"))
        if not isinstance(data["episodes"], list):
            raise ValueError(f"report.episodes is {type(data['episodes']).__name__}, expected a list")
        report = RolloutReport(
            data["task"],
            data["policy"],
            data["robot"],
            data["transport"],
            data["seed"],
            [EpisodeResult.from_dict(item, f"episodes[{index}]") for index, item in enumerate(data["episodes"])],
        )
        truth = report.summary()
        stored = _keys("summary", data["summary"], tuple(truth))
        for name in ("episodes", "success_rate"):
            if stored[name] != truth[name]:
                raise ValueError(f"summary.{name} is {stored[name]!r}, but the episodes give {truth[name]!r}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return report


def summary_line(report: RolloutReport) -> str:
    """The report in two short lines for the terminal: how often it worked, and how it moved."""
    count = len(report.episodes)
    if not count:
        return "no episode was finished"
    low, high = wilson_interval(report.successes, count)
    factor = report.summary()["realtime_factor"]
    return (
        f"success {report.successes}/{count} = {report.successes / count:.0%} (95 % interval {low:.0%} to {high:.0%}), "
        f"instruction following {report.followed}/{count} = {report.followed / count:.0%}\n"
        f"largest joint jerk {max(episode.max_joint_jerk for episode in report.episodes):.0f}, "
        f"limit violations {sum(episode.limit_violations for episode in report.episodes)}, "
        f"collisions {sum(episode.collisions for episode in report.episodes)}"
        + (f", {factor:.1f}x real time" if factor is not None else "")
    )


def _outcome(episode: EpisodeResult) -> Text:
    from rich.text import Text

    text = Text("success", "green") if episode.success else Text(f"failed: {episode.failure}", "bold red")
    for count, name in ((episode.limit_violations, "limit violation"), (episode.collisions, "collision")):
        if count:
            text.append(f", {count} {name}{'s' if count > 1 else ''}", "red")
    return text


def episode_table(report: RolloutReport) -> Table:
    """The episodes as a `rich` table that fits 80 columns; of more than `MOST_ROWS` only those that failed."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = report.episodes
    caption = None
    if len(shown) > MOST_ROWS:
        failed = [episode for episode in shown if not episode.success]
        shown = failed[:MOST_ROWS]
        caption = f"{len(shown)} of {len(failed)} failed episodes" if failed else "no episode failed"
        caption += f"; all {len(report.episodes)} are in report.json"
    settings = len({episode.setting for episode in report.episodes}) > 1
    title = f"{report.task} with {report.policy} on {report.robot} ({report.transport})"
    table = Table(title=Text(title), caption=caption, box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("seed", justify="right")
    table.add_column("instruction", ratio=1)
    if settings:
        table.add_column("setting")
    table.add_column("follows", no_wrap=True)
    table.add_column("outcome", ratio=1)
    table.add_column("done", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for episode in shown:
        table.add_row(
            str(episode.seed),
            Text(episode.instruction),
            *([Text(episode.setting)] if settings else []),
            Text("yes", "green") if episode.instruction_following else Text("no", "bold red"),
            _outcome(episode),
            f"{episode.progress:.0%}",
            episode.task_status.name.lower(),
            f"{episode.sim_seconds:.1f} s",
        )
    return table


def print_report(report: RolloutReport, console: Console | None = None) -> None:
    """Print the table and the summary."""
    from rich.console import Console

    console = console or Console()
    if report.episodes:
        console.print(episode_table(report))
    console.print(summary_line(report), highlight=False, soft_wrap=True)
