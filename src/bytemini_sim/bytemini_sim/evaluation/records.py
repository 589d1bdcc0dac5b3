"""What an evaluation keeps: every episode as plain data, and the report that they add up to.

`report.json` is a rollout's report (`bytemini_sim.results.report`) with more keys: readers of the one read the other.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bytemini_core.types import TaskStatus

from bytemini_sim.evaluation.stamp import Stamp
from bytemini_sim.evaluation.statistics import bootstrap_mean, posterior_above
from bytemini_sim.results.report import EpisodeResult, RolloutReport, wilson_interval

if TYPE_CHECKING:
    from bytemini_sim.episode import Episode

CRASHED = "crashed"


@dataclass(frozen=True)
class Record:
    """One episode: the rollout's result and what only the simulator knows.

    Attributes:
        result: as a rollout reports it.
        group: what the report tells apart within a setting (`SceneSpec.group`).
        valid: whether the instruction could be followed.
        milestones: name to whether reached, in order.
        goals: per thing asked for its target, destination and success.
        label: the kind of failure in a word or two, "" on success.
        ended: the policy's own end: TERMINATED, INVALID, TIMED_OUT; "" after a crash.
        word_at, success_at: simulated seconds of that word and of success (None: never).
        inference_ms: mean time per chunk.
        max_measured_jerk: rad/s^3.
        digest: of the trajectory.
        trace: the traceback of a crash.
    """

    result: EpisodeResult
    group: str = ""
    valid: bool = True
    milestones: dict[str, bool] = field(default_factory=dict)
    goals: tuple[dict[str, Any], ...] = ()
    label: str = ""
    ended: str = ""
    word_at: float | None = None
    success_at: float | None = None
    inference_ms: float = 0.0
    max_measured_jerk: float = 0.0
    digest: str = ""
    trace: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A row of `report.json`: the result's keys, and the others."""
        extra = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "result"}
        return self.result.to_dict() | extra | {"goals": list(self.goals)}

    @classmethod
    def from_dict(cls, data: Any, owner: str = "episode") -> Record:
        """Read a row.

        Raises:
            ValueError: it is not one of this version.
        """
        result = EpisodeResult.from_dict(data, owner)
        names = [item.name for item in fields(cls) if item.name != "result"]
        if missing := [name for name in names if name not in data]:
            raise ValueError(f"{owner} lacks {', '.join(missing)}: made by another version; run the evaluation again")
        return cls(result, **{name: data[name] for name in names} | {"goals": tuple(data["goals"])})

    @property
    def key(self) -> tuple[str, int]:
        """Setting and seed: what makes two policies' episodes a pair."""
        return self.result.setting, self.result.seed


def record_of(episode: Episode) -> Record:
    """What to keep of an episode that ran in process."""
    score, result = episode.score, episode.result
    assert score is not None
    return Record(
        result=result,
        group=episode.group,
        valid=episode.valid,
        milestones=score.milestones if episode.valid else {},
        goals=tuple(
            {"target": goal.target, "destination": goal.destination, "success": goal.success} for goal in score.goals
        ),
        label="" if result.success else failure_label(result.failure or "", episode.ended),
        ended=episode.ended,
        word_at=episode.word_at,
        success_at=episode.success_at,
        inference_ms=round(episode.inference_ms, 3),
        max_measured_jerk=score.max_measured_jerk,
        digest=episode.digest,
    )


_LABELS = (
    ("although the instruction was invalid", "manipulated something"),
    ("first; ", "wrong object"),
    ("fell off", "fell off the table"),
    ("not released and at rest", "not let go"),
    ("dropped", "dropped"),
    ("did not end inside", "missed the container"),
    ("did not bring it over", "not brought"),
    ("but did not lift", "not lifted"),
    ("but did not grasp", "not grasped"),
    ("did not approach", "not approached"),
)


def failure_label(failure: str, ended: str) -> str:
    """The kind of a failure: what the policy said where that is the reason, else how far it came."""
    if ended == "INVALID" and "although" not in failure:
        return "refused"
    kind = next((label for words, label in _LABELS if words in failure), "other")
    return f"{kind}, thought done" if ended == "TERMINATED" else kind


def crash(setting: str, seed: int, instruction: str, message: str, trace: str, seconds: float) -> Record:
    """The record of an episode that did not come to its end."""
    return Record(
        result=EpisodeResult(
            seed=seed,
            instruction=instruction,
            setting=setting,
            instruction_following=False,
            success=False,
            progress=0.0,
            task_status=TaskStatus.ONGOING,
            sim_seconds=0.0,
            wall_seconds=seconds,
            max_joint_jerk=0.0,
            limit_violations=0,
            collisions=0,
            failure=f"{CRASHED}: {message}",
        ),
        valid=not setting.startswith("invalid"),
        label=CRASHED,
        trace=trace,
    )


@dataclass
class EvalReport:
    """All episodes of one policy in one suite, and what they add up to.

    `seed` is that of the first episode, `latency` the simulated seconds from observation to chunk.
    """

    suite: str
    policy: str
    robot: str
    seed: int
    latency: float
    cameras: bool
    stamp: Stamp
    records: list[Record] = field(default_factory=list)
    jobs: int = 1
    wall_seconds: float = 0.0

    def settings(self) -> list[str]:
        """Settings in the order of first appearance."""
        return list(dict.fromkeys(record.result.setting for record in self.records))

    def of(self, setting: str) -> list[Record]:
        """The episodes of one setting."""
        return [record for record in self.records if record.result.setting == setting]

    def to_dict(self) -> dict[str, Any]:
        """The whole of `report.json`."""
        rollout = RolloutReport(
            self.suite, self.policy, self.robot, "inproc", self.seed, [record.result for record in self.records]
        )
        return rollout.to_dict() | {
            "suite": self.suite,
            "latency": self.latency,
            "cameras": self.cameras,
            "stamp": self.stamp.to_dict(),
            "jobs": self.jobs,
            "wall_seconds": round(self.wall_seconds, 3),
            "episodes": [record.to_dict() for record in self.records],
            "settings": {setting: summary(self.of(setting)) for setting in self.settings()},
        }

    def save(self, path: Path) -> None:
        """Replace `path` with this report in one step."""
        write_json(path, self.to_dict())


def write_json(path: Path, data: Any) -> None:
    """Write in one step: a reader, or a kill at any moment, finds the old file or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_eval(path: Path) -> EvalReport:
    """Read the `report.json` of an evaluation, or the one in its folder.

    Raises:
        ValueError: it is not one of this version; one line says what is wrong and what to do.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or "episodes" not in data:
            raise ValueError("it holds no episodes")
        stamp = Stamp.from_dict(data.get("stamp"))
        records = [Record.from_dict(row, f"episodes[{i}]") for i, row in enumerate(data["episodes"])]
        return EvalReport(
            data["suite"], data["policy"], data["robot"], data["seed"], data["latency"], data["cameras"], stamp,
            records, data["jobs"], data["wall_seconds"],
        )  # fmt: skip
    except OSError as error:
        raise ValueError(f"there is no report {file}: {error.strerror}") from None
    except KeyError as error:
        raise ValueError(f"{file}: lacks {error}: made by another version; run the evaluation again") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


TARGET = 0.9
"""The rate that the posterior is asked about unless a gate says otherwise."""


def summary(records: Iterable[Record], target: float = TARGET) -> dict[str, Any]:
    """What episodes of one setting add up to."""
    rows = list(records)
    n = len(rows)
    done = sum(record.result.success for record in rows)
    followed = sum(record.result.instruction_following for record in rows)
    goals = [goal["success"] for record in rows for goal in record.goals]
    mean, low, high = bootstrap_mean([record.result.progress for record in rows])
    valid = [record for record in rows if record.valid]
    invalid = [record for record in rows if not record.valid]
    late = [r.word_at - r.success_at for r in valid if r.ended == "TERMINATED" and r.word_at and r.success_at]
    return {
        "episodes": n,
        "successes": done,
        "success_ci95": list(wilson_interval(done, n)),
        "posterior_above": {"target": target, "probability": posterior_above(done, n, target)},
        "instruction_following": followed,
        "instruction_following_ci95": list(wilson_interval(followed, n)),
        "goals": len(goals),
        "goals_done": sum(goals),
        "progress": {"mean": mean, "ci95": [low, high]},
        "milestones": {
            name: sum(record.milestones.get(name, False) for record in valid)
            for name in next((r.milestones for r in valid if r.milestones), {})
        },
        "failures": dict(Counter(record.label for record in rows if record.label).most_common()),
        "status": {
            "true_refusals": sum(record.ended == "INVALID" for record in invalid),
            "missed_refusals": sum(record.ended != "INVALID" for record in invalid),
            "false_refusals": sum(record.ended == "INVALID" for record in valid),
            "done_and_said_so": sum(r.ended == "TERMINATED" and r.result.success for r in valid),
            "said_done_too_early": sum(r.ended == "TERMINATED" and not r.result.success for r in valid),
            "done_but_never_said_so": sum(r.ended == "TIMED_OUT" and r.result.success for r in valid),
            "mean_seconds_from_done_to_word": sum(late) / len(late) if late else None,
        },
        "limit_violations": sum(record.result.limit_violations for record in rows),
        "collisions": sum(record.result.collisions for record in rows),
        "max_joint_jerk": max((record.result.max_joint_jerk for record in rows), default=0.0),
        "inference_ms": sum(record.inference_ms for record in rows) / n if n else 0.0,
    }
