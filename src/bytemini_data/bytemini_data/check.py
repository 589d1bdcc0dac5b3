"""Check a dataset anew, and mend it without losing anything that can be read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_description.robot import VERSIONS, RobotModel, load_robot
from numpy.typing import NDArray

from bytemini_data.copy import Source, carry_along, copy_episode, videos_of
from bytemini_data.episode import usual_length
from bytemini_data.features import IMAGE, STATE, VALID
from bytemini_data.lerobot.episodes import EpisodeRow, read_episode_rows
from bytemini_data.lerobot.reader import Dataset, episode_columns, read_data
from bytemini_data.lerobot.schema import DatasetError, read_info
from bytemini_data.lerobot.tasks import read_tasks
from bytemini_data.lerobot.video import Decoder
from bytemini_data.lerobot.writer import JOURNAL, STAGING, DatasetWriter
from bytemini_data.quality import Quality, judge, measure


@dataclass(frozen=True)
class Checked:
    """One episode, checked: its row and its quality."""

    row: EpisodeRow
    quality: Quality


def robot_of(robot_type: str) -> RobotModel:
    """The robot that a dataset was recorded with.

    Raises:
        DatasetError: it is none of ours.
    """
    version = robot_type.removeprefix("bytemini_")
    if version not in VERSIONS:
        raise DatasetError(f"meta/info.json: robot_type is {robot_type!r}, expected bytemini_v1 or bytemini_v2")
    return load_robot(version)


def check(root: Path, stepped: Callable[[], None] = lambda: None) -> list[Checked]:
    """Read every file of a dataset and measure every episode again.

    Args:
        root: the dataset's folder.
        stepped: called after every episode.

    Raises:
        DatasetError: a file is missing, corrupt or not what it should be.
    """
    dataset = Dataset(root)
    robot = robot_of(dataset.schema.robot_type)
    if STATE not in dataset.schema.features or VALID not in dataset.schema.features:
        raise DatasetError(f"{root}/meta/info.json: features lack {STATE} or {VALID}: not a ByteMini dataset")
    decoder = Decoder()
    checked = []
    for place, row in enumerate(dataset.rows):
        span = dataset.span(place)
        columns = {name: dataset.column(name)[span.start : span.stop] for name in dataset.schema.columns}

        def pictures(camera: str, frames: Sequence[int], row: EpisodeRow = row) -> NDArray[np.uint8]:
            first = round(row.video_start[f"{IMAGE}{camera}"] * dataset.fps)
            return decoder.read(dataset.video(row, f"{IMAGE}{camera}"), [first + frame for frame in frames])

        for camera in dataset.cameras:
            if len(dataset.video(row, camera)) < row.length:
                path = root / row.videos[camera]
                held = len(dataset.video(row, camera))
                raise DatasetError(f"{path} holds {held} frames, expected {row.length} for episode {row.index}")
        usual = usual_length(dataset.rows, row.task, dataset.fps)
        measures = measure(columns, dataset.fps, row.task, robot, pictures, usual)
        checked.append(Checked(row, judge(measures)))
        stepped()
    return checked


@dataclass(frozen=True)
class Damage:
    """What is wrong with a dataset, piece by piece. `torn`: episodes that had not been saved when a process died."""

    good: tuple[EpisodeRow, ...] = ()
    lost: tuple[str, ...] = ()
    torn: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    totals: str = ""

    @property
    def any(self) -> bool:
        """Whether anything is to be mended."""
        return bool(self.lost or self.torn or self.unfinished or self.totals)

    def lines(self) -> list[str]:
        """What would be done about it."""
        return [
            *(f"leave out an episode: {reason}" for reason in self.lost),
            *(f"finish saving an episode: {name}" for name in self.unfinished),
            *(f"remove what was never saved: {name}" for name in self.torn),
            *([f"write totals anew: {self.totals}"] if self.totals else []),
        ]


def examine(root: Path) -> tuple[Source, Damage]:
    """Find everything that is wrong with a dataset, episode by episode.

    Raises:
        DatasetError: meta/info.json or meta/tasks.parquet cannot be read: nothing can be mended without them.
    """
    info = read_info(root)
    tasks = tuple(read_tasks(root)) if info.episodes else ()
    rows: dict[int, EpisodeRow] = {}
    lost: list[str] = []
    for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        try:
            found = read_episode_rows(root, info.schema, info.data_path, info.video_path, [path])
        except DatasetError as error:
            lost.append(str(error))
            continue
        for row in found:
            if row.index in rows:
                lost.append(f"{path}: episode_index {row.index} appears twice, also in {rows[row.index].path}")
            else:
                rows[row.index] = row
    source = Source(root, info, tasks, tuple(rows[index] for index in sorted(rows)))
    good = []
    for row in source.rows:
        try:
            episode_columns(root, info.schema, row, read_data(root, info.schema, row.data), len(tasks))
            videos_of(source, row)
        except DatasetError as error:
            lost.append(str(error))
        else:
            good.append(row)
    staging = root / STAGING
    waiting = sorted(path for path in staging.iterdir()) if staging.is_dir() else []
    torn = tuple(f"{STAGING}/{path.name}" for path in waiting if not (path / JOURNAL).is_file())
    unfinished = tuple(f"{STAGING}/{path.name}" for path in waiting if (path / JOURNAL).is_file())
    totals = ""
    counted = (len(source.rows), sum(row.length for row in source.rows))
    if counted != (info.episodes, info.frames) and not lost and not unfinished:
        totals = f"{counted[0]} episodes, {counted[1]} frames, not {info.episodes} and {info.frames}"
    return source, Damage(tuple(good), tuple(lost), torn, unfinished, totals)


def repair(root: Path, source: Source, damage: Damage) -> Path | None:
    """Mend a dataset; where the original with its damaged episodes is now, or None when nothing was left out.

    What can be read is written anew beside the original, checked, and put in its place; the original is kept.

    Raises:
        DatasetError: no episode is left.
    """
    if not damage.lost:
        DatasetWriter(root).close()  # opening it finishes, removes and counts
        return None
    if not damage.good:
        raise DatasetError(f"{root}: no episode can be read, nothing is left to mend")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    new, old = root.with_name(f"{root.name}.mended-{stamp}"), root.with_name(f"{root.name}.damaged-{stamp}")
    with DatasetWriter(new, source.info.schema) as writer:
        carry_along(root, new)
        for row in damage.good:
            copy_episode(source, row, writer)
    Dataset(new)
    for folder in ("native", "aborted"):
        if (root / folder).is_dir():
            (root / folder).rename(new / folder)
    root.rename(old)
    new.rename(root)
    return old


def summary(checked: Sequence[Checked]) -> dict[str, Any]:
    """Counts of verdicts and the reasons, for machines."""
    verdicts = [item.quality.verdict for item in checked]
    return {
        "episodes": len(checked),
        "frames": sum(item.row.length for item in checked),
        **{verdict: verdicts.count(verdict) for verdict in ("pass", "warn", "fail")},
        "worst": [
            {"episode": item.row.index, "verdict": item.quality.verdict, "reasons": list(item.quality.reasons)}
            for item in sorted(checked, key=lambda item: item.quality.score)[:20]
            if item.quality.reasons
        ],
    }


def configuration(row: EpisodeRow) -> dict[str, Any]:
    """The plan's configuration of an episode; {} if it has none."""
    text = row.fields.get("configuration")
    found: dict[str, Any] = json.loads(text) if text else {}
    return found
