"""Write datasets so that a process may die at any instant.

An episode is built in a folder of its own below `.staging`, videos as they come. `DatasetWriter.commit` completes it
there, writes a journal of the moves to come, and that one file is the moment from which the episode is saved: whoever
opens the dataset next finishes the moves. Without a journal the folder is a torn episode, which is removed and
reported.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bytemini_data.lerobot.episodes import EpisodeRow, read_episode_rows
from bytemini_data.lerobot.files import move, replace_json, sync, write_parquet
from bytemini_data.lerobot.schema import (
    COLUMNS,
    DATA_PATH,
    DTYPES,
    EPISODES_PATH,
    INFO,
    STATS,
    TASKS,
    VIDEO_PATH,
    DatasetError,
    Schema,
    place,
    read_info,
)
from bytemini_data.lerobot.stats import PictureStats, Stats, array_stats, as_lists, combine
from bytemini_data.lerobot.tasks import read_tasks, tasks_table
from bytemini_data.lerobot.video import SMALL, VideoWriter

STAGING = ".staging"
JOURNAL = "commit.json"


@dataclass
class StagedEpisode:
    """An episode that is complete but not yet part of a dataset: videos in `folder`, the rest in memory.

    Can be handed from the process that recorded it to the one that owns the dataset.
    """

    folder: Path
    task: str
    length: int
    columns: dict[str, NDArray[Any]]
    picture_stats: dict[str, Stats] = field(default_factory=dict)

    def discard(self) -> None:
        """Throw it away."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _Column:
    """The values of a feature, frame by frame; in blocks, since an array for each takes ten times the memory."""

    BLOCK = 512

    def __init__(self) -> None:
        self._blocks: list[NDArray[Any]] = []
        self._newest: list[Any] = []

    def append(self, value: Any) -> None:
        self._newest.append(sys.intern(value) if isinstance(value, str) else value)
        if len(self._newest) == self.BLOCK:
            self._blocks.append(self._stacked())
            self._newest = []

    def whole(self) -> NDArray[Any]:
        return np.concatenate([*self._blocks, *([self._stacked()] if self._newest else [])])

    def _stacked(self) -> NDArray[Any]:
        if isinstance(self._newest[0], str):
            return np.array(self._newest, dtype=object)
        return np.stack(self._newest)


class EpisodeWriter:
    """Builds one episode, frame by frame. A context manager that discards what `finish` was not called for."""

    def __init__(self, schema: Schema, folder: Path, task: str, preset: str = SMALL) -> None:
        """Begin.

        Args:
            schema: of the dataset.
            folder: an empty folder on the dataset's file system.
            task: the instruction in words.
            preset: of the videos, `video.SMALL` or `video.QUICK`.

        Raises:
            ValueError: the instruction is empty.
        """
        if not task.strip():
            raise ValueError("the episode has no instruction: say what is done in it")
        self.folder, self.task, self._schema = folder, task, schema
        folder.mkdir(parents=True, exist_ok=True)
        self._rows = {name: _Column() for name in schema.features if name not in schema.cameras}
        self._videos = {
            name: VideoWriter(folder / f"{name}.mp4", schema.fps, schema.features[name].shape[:2], preset)  # type: ignore[arg-type]
            for name in schema.cameras
        }
        self._stats = {name: PictureStats() for name in schema.cameras}
        self.frames = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._videos:
            self.discard()

    def add(self, frame: Mapping[str, Any]) -> None:
        """Append one frame: a value for every feature of the schema, pictures as RGB (H, W, 3) uint8.

        Raises:
            ValueError: a feature is missing or unknown, or has another shape or type, or is not finite.
        """
        if frame.keys() != self._schema.features.keys():
            wrong = sorted(frame.keys() ^ self._schema.features.keys())
            raise ValueError(f"frame and schema differ in {', '.join(wrong)}")
        rows = {name: self._check(name, frame[name]) for name in self._rows}
        for name, video in self._videos.items():
            video.write(frame[name])
            self._stats[name].add(frame[name])
        for name, value in rows.items():
            self._rows[name].append(value)
        self.frames += 1

    def _check(self, name: str, value: Any) -> Any:
        feature = self._schema.features[name]
        if feature.dtype == "string":
            if not isinstance(value, str):
                raise ValueError(f"{name} is a {type(value).__name__}, expected a string")
            return value
        array = np.asarray(value, dtype=DTYPES[feature.dtype][0]).reshape(-1)
        if array.shape != (int(np.prod(feature.shape)),):
            raise ValueError(f"{name} has shape {np.shape(value)}, expected {feature.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} holds a number that is not finite at index {int(np.argmin(np.isfinite(array)))}")
        return array

    def finish(self) -> StagedEpisode:
        """Complete the videos and hand the episode over.

        Raises:
            ValueError: it has no frame.
        """
        if not self.frames:
            self.discard()
            raise ValueError("the episode has no frame")
        self._close()
        for path in self.folder.iterdir():
            sync(path)
        columns = {name: rows.whole() for name, rows in self._rows.items()}
        stats = {name: each.result() for name, each in self._stats.items()}
        return StagedEpisode(self.folder, self.task, self.frames, columns, stats)

    def discard(self) -> None:
        """Throw it away."""
        self._close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _close(self) -> None:
        for video in self._videos.values():
            video.close()
        self._videos = {}


@dataclass(frozen=True)
class Recovery:
    """What a dataset was found in when it was opened again."""

    finished: tuple[int, ...] = ()
    removed: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = []
        if self.finished:
            parts.append(f"finished saving episode {', '.join(map(str, self.finished))}")
        if self.removed:
            parts.append(
                f"removed {len(self.removed)} torn episode{'s' * (len(self.removed) > 1)} that had not been saved"
            )
        return "; ".join(parts)


class DatasetWriter:
    """The one process that adds episodes to a dataset; others may build episodes for it.

    Attributes:
        root: the dataset's folder.
        schema: what it holds.
        recovery: what was found and mended on opening.
    """

    def __init__(self, root: str | Path, schema: Schema | None = None) -> None:
        """Create a dataset, or open one that exists to add to it.

        Args:
            root: its folder.
            schema: what it holds; None to open what exists.

        Raises:
            DatasetError: it exists with another schema, is malformed, is written by another process, or does not exist
                and no schema was given.
        """
        self.root = Path(root)
        exists = (self.root / INFO).exists()
        if not exists and schema is None:
            raise DatasetError(f"{self.root} is no dataset: expected {self.root / INFO}")
        if (
            not exists
            and self.root.is_dir()
            and any(p for p in self.root.iterdir() if p.name not in (STAGING, ".lock"))
        ):
            raise DatasetError(f"{self.root} holds something that is no dataset: give another folder, or remove it")
        self.root.mkdir(parents=True, exist_ok=True)
        self._lock = (self.root / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise DatasetError(
                f"{self.root} is being written by another process: stop it, or give another folder"
            ) from None
        try:
            self._open(schema, exists)
        except BaseException:
            self._lock.close()
            raise

    def _open(self, schema: Schema | None, exists: bool) -> None:
        if exists:
            found = read_info(self.root).schema
            if schema is not None and (difference := _difference(schema, found)):
                raise DatasetError(f"{self.root / INFO}: {difference}: record into another folder")
            self.schema = found
        else:
            assert schema is not None
            self.schema = schema
        self.recovery = self._recover()
        self._rows = read_episode_rows(self.root, self.schema)
        for index, row in enumerate(self._rows):
            if row.index != index:
                raise DatasetError(f"{row.path}: episode_index is {row.index}, expected {index}")
        self.tasks = read_tasks(self.root) if self._rows else []
        self._stats = _combined([row.stats for row in self._rows])
        self._write_totals()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def episodes(self) -> int:
        """Episodes saved."""
        return len(self._rows)

    @property
    def frames(self) -> int:
        """Frames saved."""
        return self._rows[-1].stop if self._rows else 0

    @property
    def rows(self) -> tuple[EpisodeRow, ...]:
        """What is known of every episode saved."""
        return tuple(self._rows)

    def close(self) -> None:
        """Let others write."""
        self._lock.close()

    def staging(self) -> Path:
        """A new folder for an episode to be built in, in this process or another."""
        return self.root / STAGING / uuid.uuid4().hex

    def begin(self, task: str, preset: str = SMALL) -> EpisodeWriter:
        """Start building an episode in this process."""
        return EpisodeWriter(self.schema, self.staging(), task, preset)

    def commit(self, staged: StagedEpisode, fields: Mapping[str, Any] | None = None) -> int:
        """Make an episode part of the dataset; when this returns, it is there to stay.

        Args:
            staged: what was built below this dataset's `.staging`.
            fields: a value for each of the schema's `episode_fields`.

        Returns:
            The index of the episode.

        Raises:
            ValueError: fields are missing or unknown.
        """
        fields = dict(fields or {})
        if fields.keys() != self.schema.episode_fields.keys():
            wrong = sorted(fields.keys() ^ self.schema.episode_fields.keys())
            raise ValueError(f"the episode's fields and the schema differ in {', '.join(wrong)}")
        index, start = self.episodes, self.frames
        where = place(index)
        moves = {"data.parquet": DATA_PATH.format(**where), "episode.parquet": EPISODES_PATH.format(**where)}
        for name in self.schema.cameras:
            moves[f"{name}.mp4"] = VIDEO_PATH.format(video_key=name, **where)
        tasks = [*self.tasks, staged.task] if staged.task not in self.tasks else self.tasks
        if tasks is not self.tasks:
            write_parquet(staged.folder / "tasks.parquet", tasks_table(tasks))
            moves["tasks.parquet"] = TASKS
        columns = dict(staged.columns)
        count = np.arange(staged.length)
        columns["timestamp"] = (count / self.schema.fps).astype(np.float32)
        columns["frame_index"] = count
        columns["episode_index"] = np.full(staged.length, index)
        columns["index"] = start + count
        columns["task_index"] = np.full(staged.length, tasks.index(staged.task))
        table = pa.table({name: _arrow(columns[name], feature.arrow) for name, feature in self.schema.columns.items()})
        write_parquet(staged.folder / "data.parquet", table)
        stats = {name: array_stats(value) for name, value in columns.items() if value.dtype != object}
        stats.update(staged.picture_stats)
        row = self._row(index, start, staged, stats, fields)
        write_parquet(staged.folder / "episode.parquet", row)
        sync(staged.folder)
        replace_json(staged.folder / JOURNAL, {"episode": index, "moves": moves})
        # From here on the episode is saved: `_recover` would go on where this process may stop.
        _finish_moves(self.root, staged.folder, moves)
        self.tasks = tasks
        self._rows.append(
            EpisodeRow(
                index, (staged.task,), start, start + staged.length, self.root / moves["episode.parquet"], fields, stats
            )
        )
        self._stats = _combined([*([self._stats] if self._stats else []), stats])
        self._write_totals()
        shutil.rmtree(staged.folder, ignore_errors=True)
        return index

    def _row(
        self, index: int, start: int, staged: StagedEpisode, stats: Mapping[str, Stats], fields: Mapping[str, Any]
    ) -> pa.Table:
        """The episode's row in the table of episodes."""
        where = place(index)
        row: dict[str, pa.Array] = {
            "episode_index": pa.array([index], pa.int64()),
            "tasks": pa.array([[staged.task]], pa.list_(pa.string())),
            "length": pa.array([staged.length], pa.int64()),
            "data/chunk_index": pa.array([where["chunk_index"]], pa.int64()),
            "data/file_index": pa.array([where["file_index"]], pa.int64()),
            "dataset_from_index": pa.array([start], pa.int64()),
            "dataset_to_index": pa.array([start + staged.length], pa.int64()),
        }
        for name in self.schema.cameras:
            for key, value in where.items():
                row[f"videos/{name}/{key}"] = pa.array([value], pa.int64())
            row[f"videos/{name}/from_timestamp"] = pa.array([0.0], pa.float64())
            row[f"videos/{name}/to_timestamp"] = pa.array([staged.length / self.schema.fps], pa.float64())
        for name, dtype in self.schema.episode_fields.items():
            row[name] = pa.array([fields[name]], pa.type_for_alias(COLUMNS[dtype]))
        for name, found in stats.items():
            for kind, value in as_lists(found).items():
                row[f"stats/{name}/{kind}"] = pa.array([value])
        for key, value in where.items():
            row[f"meta/episodes/{key}"] = pa.array([value], pa.int64())
        return pa.table(row)

    def _recover(self) -> Recovery:
        """Finish what was being saved, remove what was not, below `.staging`."""
        finished, removed = [], []
        folder = self.root / STAGING
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            journal = path / JOURNAL
            if journal.is_file():
                content = json.loads(journal.read_text(encoding="utf-8"))
                _finish_moves(self.root, path, content["moves"])
                finished.append(int(content["episode"]))
            else:
                removed.append(path.name)
            shutil.rmtree(path, ignore_errors=True)
        return Recovery(tuple(finished), tuple(removed))

    def _write_totals(self) -> None:
        (self.root / "meta").mkdir(exist_ok=True)
        replace_json(self.root / STATS, {name: as_lists(stats) for name, stats in self._stats.items()})
        replace_json(self.root / INFO, self.schema.info(self.episodes, self.frames, len(self.tasks)))


def _finish_moves(root: Path, folder: Path, moves: Mapping[str, str]) -> None:
    for name, target in moves.items():
        if (folder / name).is_file():
            move(folder / name, root / target)
        elif not (root / target).is_file():
            raise DatasetError(f"{root / target} is missing, and so is {folder / name} that should become it")


def _combined(parts: Sequence[Mapping[str, Stats]]) -> dict[str, Stats]:
    names = list(parts[0]) if parts else []
    return {name: combine([part[name] for part in parts]) for name in names if all(name in part for part in parts)}


def _arrow(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(values.reshape(-1), kind)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind.value_type), kind.list_size)


def _difference(wanted: Schema, found: Schema) -> str:
    """How two schemas differ, in words; "" if they do not."""
    if wanted.fps != found.fps:
        return f"fps is {found.fps}, not {wanted.fps}"
    for what, new, old in (
        ("features", wanted.features, found.features),
        ("episode_fields", wanted.episode_fields, found.episode_fields),
    ):
        if wrong := sorted(set(new) ^ set(old)):
            return f"{what} differ in {', '.join(wrong)}"
    for name, feature in wanted.features.items():
        other = found.features[name]
        if (feature.dtype, feature.shape) != (other.dtype, other.shape):
            return f"feature {name} is {other.dtype} {list(other.shape)}, not {feature.dtype} {list(feature.shape)}"
    return ""


def free_bytes(path: Path) -> int:
    """Bytes left on the file system that `path` is or will be on."""
    while not path.exists():
        path = path.absolute().parent
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize
