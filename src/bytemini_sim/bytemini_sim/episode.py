"""What a rollout is made of, whichever way its episodes run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from bytemini_core.types import TaskStatus
from numpy.typing import NDArray

from bytemini_sim.results.report import EpisodeResult
from bytemini_sim.results.trajectory import Trajectory

if TYPE_CHECKING:
    from bytemini_sim.scoring import EpisodeScore

SETTLE_SECONDS = 1.0
"""How long things may come to rest after the policy's last word, before the score is taken."""

OUTSIDE_SIZE = (480, 640)
"""Height and width of the outside view, which is for people."""


@dataclass(frozen=True)
class RolloutOptions:
    """What to roll out. `setting` of the task; `instruction` overrides the sampled one; `latency` in seconds."""

    task: str = "pick_place"
    setting: str = "basic"
    policy: str = "expert"
    robot: str = "v1"
    instruction: str | None = None
    latency: float = 0.05
    cameras: bool = True
    image_size: int = 224
    wrist_lag: bool = False
    outside: bool = True


@dataclass(frozen=True)
class Frame:
    """What a video shows of one instant. `views`: camera name to RGB (H, W, 3)."""

    stamp: int
    views: Mapping[str, NDArray[np.uint8]]
    task_status: TaskStatus = TaskStatus.ONGOING
    confidence: float = 0.0
    phase: str = ""
    mode: str = ""


@dataclass
class Episode:
    """One episode as it was run: the result, the motion, the pictures.

    `digest`: of the simulated trajectory. `final_poses`: object name to pose (x, y, z, qx, qy, qz, qw) in odom. `bag`:
    (topic, CDR, stamp) of everything that crossed the wire, where there was one. `verdict`: the policy server's words.
    `inference_ms`: mean time per chunk. `score`: everything the simulator measured, where it ran in this process.
    `ended`: the task session's last word (name of a RunTask result). `word_at`, `success_at`: simulated seconds of that
    word, and from which the task was done and stayed so; None where that never was. `group`, `valid`: as in the
    scene.
    """

    result: EpisodeResult
    trajectory: Trajectory
    digest: str
    frames: list[Frame] = field(default_factory=list)
    bag: list[tuple[str, bytes, int]] = field(default_factory=list)
    verdict: str = ""
    inference_ms: float = 0.0
    final_poses: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    score: EpisodeScore | None = None
    ended: str = ""
    word_at: float | None = None
    success_at: float | None = None
    group: str = ""
    valid: bool = True


def failure_of(success: bool, score_failure: str, verdict: str) -> str | None:
    """Why an episode failed, in words; None when it did not. The policy's own end says what physics cannot."""
    if success:
        return None
    return "; ".join(part for part in (score_failure, verdict) if part) or "not done"


def default_folder(task: str, time_text: str) -> Path:
    """Where a rollout's results go unless the user says otherwise."""
    return Path("runs") / f"{time_text}-{task}"
