"""Move episodes from one dataset into another: for merging, and for leaving damaged ones behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from bytemini_data.lerobot.episodes import EpisodeRow, read_episode_rows
from bytemini_data.lerobot.files import sync
from bytemini_data.lerobot.reader import episode_columns, read_data
from bytemini_data.lerobot.schema import INDEX_FEATURES, INFO, DatasetError, Info, read_info
from bytemini_data.lerobot.stats import PictureStats
from bytemini_data.lerobot.tasks import read_tasks
from bytemini_data.lerobot.video import Decoder, VideoIndex, VideoWriter, index_video
from bytemini_data.lerobot.writer import DatasetWriter, StagedEpisode

EXTRA = ("meta/modality.json",)
"""Files of a dataset that go along as they are."""

BATCH = 64


@dataclass(frozen=True)
class Source:
    """A dataset whose episodes are copied: what it says of itself, its tasks and its rows."""

    root: Path
    info: Info
    tasks: tuple[str, ...]
    rows: tuple[EpisodeRow, ...]


def open_source(root: Path) -> Source:
    """Read what a dataset says of itself.

    Raises:
        DatasetError: it is malformed.
    """
    info = read_info(root)
    tasks = tuple(read_tasks(root)) if info.episodes else ()
    rows = read_episode_rows(root, info.schema, info.data_path, info.video_path)
    return Source(root, info, tasks, tuple(rows))


def videos_of(source: Source, row: EpisodeRow) -> dict[str, VideoIndex]:
    """The videos of an episode, checked to hold its frames.

    Raises:
        DatasetError: one is missing, cut short or too short.
    """
    found = {}
    for camera, name in row.videos.items():
        index = index_video(source.root / name)
        wanted = round(row.video_start[camera] * source.info.schema.fps) + row.length
        if len(index) < wanted:
            raise DatasetError(f"{index.path} holds {len(index)} frames, expected {wanted} for episode {row.index}")
        found[camera] = index
    return found


def copy_episode(source: Source, row: EpisodeRow, target: DatasetWriter) -> int:
    """Add an episode of one dataset to another; its index there.

    Raises:
        DatasetError: it is damaged.
    """
    schema = source.info.schema
    columns = episode_columns(source.root, schema, row, _table(source, row), len(source.tasks))
    tasks = {source.tasks[task] for task in columns["task_index"]}
    if len(tasks) != 1:
        raise DatasetError(f"{source.root / row.data}: episode {row.index} has {len(tasks)} tasks, expected one")
    videos = videos_of(source, row)
    folder = target.staging()
    folder.mkdir(parents=True)
    stats = {}
    for camera, index in videos.items():
        path = folder / f"{camera}.mp4"
        if len(index) == row.length and row.video_start[camera] == 0.0 and camera in row.stats:
            shutil.copyfile(index.path, path)
            stats[camera] = dict(row.stats[camera])
        else:
            stats[camera] = _cut(index, round(row.video_start[camera] * schema.fps), row.length, schema.fps, path)
        sync(path)
    own = {name: values for name, values in columns.items() if name not in INDEX_FEATURES}
    staged = StagedEpisode(folder, tasks.pop(), row.length, own, stats)
    return target.commit(staged, {name: row.fields.get(name) for name in target.schema.episode_fields})


def _table(source: Source, row: EpisodeRow) -> pa.Table:
    return read_data(source.root, source.info.schema, row.data)


def _cut(index: VideoIndex, start: int, length: int, fps: int, path: Path):  # type: ignore[no-untyped-def]
    """Write a part of a shared video to a file of its own; its statistics."""
    decoder, stats = Decoder(), PictureStats()
    with VideoWriter(path, fps, index.shape) as video:
        for first in range(start, start + length, BATCH):
            for picture in decoder.read(index, range(first, min(first + BATCH, start + length))):
                video.write(picture)
                stats.add(picture)
    return stats.result()


def merge(roots: Sequence[Path], out: Path, stepped: Callable[[], None]) -> int:
    """Copy every episode of several datasets into a new one; how many.

    Args:
        roots: the datasets, which must hold the same features at the same rate.
        out: a new folder.
        stepped: called after every episode.

    Raises:
        DatasetError: one is malformed or of another kind, or `out` exists.
    """
    if out.exists():
        raise DatasetError(f"{out} exists already: give a new folder for the merged dataset")
    sources = [open_source(root) for root in roots]
    first = sources[0].info.schema
    for source in sources[1:]:
        schema = source.info.schema
        for what in ("fps", "robot_type", "features", "episode_fields"):
            mine, other = getattr(first, what), getattr(schema, what)
            if mine != other:
                detail = ""
                if isinstance(mine, dict):
                    names = sorted(name for name in {*mine, *other} if mine.get(name) != other.get(name))
                    detail = f" in {', '.join(names)}"
                raise DatasetError(f"{source.root / INFO}: {what} differs from {sources[0].root / INFO}{detail}")
    with DatasetWriter(out, first) as writer:
        carry_along(sources[0].root, out)
        for source in sources:
            for row in source.rows:
                # Native recordings stay where they are: say so from outside.
                kept = replace(row, fields={**row.fields, **_source(source, row)})
                copy_episode(source, kept, writer)
                stepped()
        return writer.episodes


def carry_along(root: Path, out: Path) -> None:
    """Copy the files that go along as they are."""
    for name in EXTRA:
        if (root / name).is_file():
            shutil.copyfile(root / name, out / name)


def _source(source: Source, row: EpisodeRow) -> dict[str, str]:
    text = row.fields.get("source")
    return {"source": f"{source.root.name}/{text}"} if text else {}
