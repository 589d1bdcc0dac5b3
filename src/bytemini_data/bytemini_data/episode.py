"""From a finished episode to one in the dataset: its quality, the fields of its row, the commit."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bytemini_core.types import CAMERAS
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray

from bytemini_data.features import EMBODIMENT, IMAGE, Layout, as_json, conclude
from bytemini_data.lerobot.episodes import EpisodeRow
from bytemini_data.lerobot.files import replace_json
from bytemini_data.lerobot.video import Decoder, index_video
from bytemini_data.lerobot.writer import DatasetWriter, StagedEpisode
from bytemini_data.quality import Quality, judge, measure

MODALITY = "meta/modality.json"

FEWEST = 5
"""Episodes of a task from which on there is a usual length."""


@dataclass(frozen=True)
class Story:
    """What is told of an episode beside its frames. `drops`: camera to frames that were missing."""

    success: bool
    operator: str = ""
    configuration: Mapping[str, Any] | None = None
    card: Mapping[str, Any] | None = None
    source: str = ""
    drops: Mapping[str, int] = field(default_factory=dict)


def open_writer(root: Any, layout: Layout) -> DatasetWriter:
    """Create or open a ByteMini dataset for writing.

    Raises:
        DatasetError: see `DatasetWriter`.
    """
    writer = DatasetWriter(root, layout.schema)
    path = writer.root / MODALITY
    if not path.is_file():
        replace_json(path, layout.modality())
    return writer


def assess(staged: StagedEpisode, fps: int, robot: RobotModel, usual_length: float | None = None) -> Quality:
    """The quality of an episode that is not yet part of a dataset."""
    decoder = Decoder()

    def pictures(camera: str, frames: Sequence[int]) -> NDArray[np.uint8]:
        return decoder.read(index_video(staged.folder / f"{IMAGE}{camera}.mp4"), frames)

    return judge(measure(staged.columns, fps, staged.task, robot, pictures, usual_length))


def usual_length(rows: Sequence[EpisodeRow], task: str, fps: int) -> float | None:
    """Seconds of the middle episode of a task, or of all where the task has few; None where there are few at all."""
    for lengths in ([row.length for row in rows if task in row.tasks], [row.length for row in rows]):
        if len(lengths) >= FEWEST:
            return statistics.median(lengths) / fps
    return None


def commit(writer: DatasetWriter, staged: StagedEpisode, quality: Quality, story: Story) -> int:
    """Add an episode with its story to a dataset; its index. When this returns it is on disk to stay."""
    conclude(staged.columns, story.success, quality.score)
    fields = {
        "success": bool(story.success),
        "embodiment": str(staged.columns[EMBODIMENT][0]),
        "operator": story.operator,
        "verdict": quality.verdict,
        "quality": as_json(quality.as_dict()),
        "configuration": as_json(story.configuration) if story.configuration else "",
        "card": as_json(story.card) if story.card else "",
        "source": story.source,
        "drops": as_json({camera: int(story.drops.get(camera, 0)) for camera in CAMERAS}),
    }
    return writer.commit(staged, fields)


def configurations(writer: DatasetWriter) -> Iterator[dict[str, Any]]:
    """The configuration of every episode of a dataset; {} where an episode was not planned."""
    for row in writer.rows:
        text = row.fields.get("configuration")
        yield json.loads(text) if text else {}
