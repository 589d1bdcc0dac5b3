"""Read datasets fast and with suspicion: numbers in memory, pictures decoded on demand, files checked at the door."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bytemini_data.lerobot.episodes import EpisodeRow, read_episode_rows
from bytemini_data.lerobot.files import read_parquet
from bytemini_data.lerobot.schema import DTYPES, DatasetError, Feature, Schema, read_info
from bytemini_data.lerobot.stats import Stats, combine
from bytemini_data.lerobot.tasks import read_tasks
from bytemini_data.lerobot.video import Decoder, VideoIndex, index_video

TOLERANCE = 1e-4
"""Seconds by which a time may miss a frame's, as in lerobot."""

MOST_INDICES = 4096
"""Video indices kept in memory: about 10 KB each."""

Sample = dict[str, Any]


class Dataset:
    """Random access to the frames of a dataset; a map-style dataset for any loader, without torch.

    `dataset[i]` is a dict: every feature as numpy (vectors (d,), scalars 0-d, strings str, pictures (H, W, 3) uint8
    RGB), and `task`. With `delta_timestamps` a feature named there gets a leading axis of times, and
    `<feature>_is_pad` (T,) says which of them lie outside the episode, where the nearest frame stands in; so lerobot
    does it.

    May be pickled into worker processes and shared between threads.

    Attributes:
        root: the dataset's folder.
        schema: its features, `fps`.
        rows: its episodes (those chosen).
        tasks: instructions by task_index.
    """

    def __init__(
        self,
        root: str | Path,
        delta_timestamps: Mapping[str, Sequence[float]] | None = None,
        episodes: Sequence[int] | None = None,
        cameras: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
        threads: int = 0,
    ) -> None:
        """Open.

        Args:
            root: the dataset's folder.
            delta_timestamps: feature to seconds relative to the frame, multiples of 1 / fps.
            episodes: indices of those to read; None for all.
            cameras: features to decode; None for all, () for none.
            image_size: (height, width) to scale pictures to; None leaves them.
            threads: that decode the pictures of one batch side by side; 0 for none of their own.

        Raises:
            DatasetError: something in the dataset is wrong; names file and field.
            ValueError: an argument names what the dataset does not have.
        """
        self.root = Path(root)
        info = read_info(self.root)
        self.schema: Schema = info.schema
        self.tasks = read_tasks(self.root) if info.episodes else []
        rows = read_episode_rows(self.root, self.schema, info.data_path, info.video_path)
        if len(rows) < info.episodes:
            raise DatasetError(
                f"{self.root}/meta/episodes holds {len(rows)} episodes, expected {info.episodes} of meta/info.json"
            )
        # One more than info.json says: its save was cut short between the two, and is complete (see writer).
        self._check_rows(rows)
        chosen = range(len(rows)) if episodes is None else episodes
        if wrong := [index for index in chosen if not 0 <= index < len(rows)]:
            raise ValueError(f"episode {wrong[0]} does not exist, expected 0 to {len(rows) - 1}")
        self.rows = tuple(rows[index] for index in chosen)
        self.cameras = self.schema.cameras if cameras is None else tuple(cameras)
        if unknown := [name for name in self.cameras if name not in self.schema.cameras]:
            raise ValueError(f"there is no camera {unknown[0]!r}, expected {', '.join(self.schema.cameras)}")
        self._deltas = self._offsets(delta_timestamps or {})
        self._columns = self._load()
        starts = np.cumsum([0, *(row.length for row in self.rows)])
        self._starts = starts
        self._indices: OrderedDict[str, VideoIndex] = OrderedDict()
        self._decoder = Decoder(image_size)
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def fps(self) -> int:
        """Frames per second."""
        return self.schema.fps

    @property
    def stats(self) -> dict[str, Stats]:
        """Statistics per feature over the episodes chosen, combined from those of each; pictures in [0, 1]."""
        names = set.intersection(*(set(row.stats) for row in self.rows)) if self.rows else set()
        return {name: combine([row.stats[name] for row in self.rows]) for name in sorted(names)}

    def names(self, feature: str) -> tuple[str, ...]:
        """What the numbers of a vector are called; () if they have no names."""
        return self.schema.features[feature].names or ()

    def column(self, feature: str) -> NDArray[Any]:
        """Every frame's value of a feature that is not a picture: (n, d), or (n,) for a scalar. A read-only view."""
        return self._columns[feature]

    def span(self, episode: int) -> range:
        """Frames of this dataset that belong to the episode at this place in `rows`."""
        return range(int(self._starts[episode]), int(self._starts[episode + 1]))

    def episode_of(self, index: int) -> int:
        """Place in `rows` of the episode that a frame belongs to."""
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def __getitem__(self, index: int) -> Sample:
        return self.batch([index], stack=False)

    def batch(self, indices: Sequence[int], stack: bool = True) -> Sample:
        """Several frames at once, stacked along a new first axis; `task` and strings become lists.

        Args:
            indices: frames; negative ones count from the end.
            stack: False for the one frame of `indices` without the axis.

        Raises:
            IndexError: there is no such frame.
            DatasetError: a video is missing or corrupt.
        """
        n = len(self)
        frames = np.asarray(indices, dtype=np.int64)
        if len(frames) == 0 or frames.min() < -n or frames.max() >= n:
            raise IndexError(f"frames are {frames.tolist()}, expected some below {n}")
        frames = np.where(frames < 0, frames + n, frames)
        episodes = np.searchsorted(self._starts, frames, side="right") - 1
        first, last = self._starts[episodes], self._starts[episodes + 1] - 1
        sample: Sample = {}
        for name, column in self._columns.items():
            sample[name] = column[self._rows_of(name, frames, first, last, sample)]
        decoded = {
            name: self._decode(name, self._rows_of(name, frames, first, last, sample), episodes)
            for name in self.cameras
        }
        sample.update((name, self._collect(jobs)) for name, jobs in decoded.items())
        tasks = [self.tasks[task] for task in self._columns["task_index"][frames]]
        if not stack:
            sample = {name: value[0] for name, value in sample.items()}
            sample["task"] = tasks[0]
            return sample
        sample["task"] = tasks
        return sample

    def _rows_of(
        self, name: str, frames: NDArray[np.int64], first: NDArray[Any], last: NDArray[Any], sample: Sample
    ) -> NDArray[np.int64]:
        offsets = self._deltas.get(name)
        if offsets is None:
            return frames
        rows = frames[:, None] + offsets
        kept = np.clip(rows, first[:, None], last[:, None])
        sample[f"{name}_is_pad"] = rows != kept
        return np.asarray(kept)

    def _decode(self, name: str, rows: NDArray[np.int64], episodes: NDArray[Any]) -> list[Any]:
        """Begin decoding the pictures of a camera: per frame of the batch an array, or the future of one."""
        jobs: list[Any] = []
        for wanted, episode in zip(rows, episodes.tolist(), strict=True):
            arguments = (name, episode, np.atleast_1d(wanted) - self._starts[episode], wanted.ndim)
            jobs.append(self._executor().submit(self._pictures, *arguments) if self._threads else arguments)
        return jobs

    def _collect(self, jobs: list[Any]) -> NDArray[np.uint8]:
        return np.stack([job.result() if self._threads else self._pictures(*job) for job in jobs])

    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        return self._pool

    def _pictures(self, name: str, episode: int, frames: NDArray[np.int64], axes: int) -> NDArray[np.uint8]:
        row = self.rows[episode]
        index = self.video(row, name)
        begin = row.video_start[name]
        shown = np.searchsorted(index.time, begin + frames / self.fps - 0.5 / self.fps)
        shown = np.minimum(shown, len(index) - 1)
        error = np.abs(index.time[shown] - begin - frames / self.fps)
        if error.max() > TOLERANCE:
            raise DatasetError(
                f"{index.path}: no frame within {TOLERANCE} s of {frames[error.argmax()] / self.fps:.4f} s of episode "
                f"{row.index}; there are {len(index)} frames"
            )
        pictures = self._decoder.read(index, shown.tolist())
        return pictures if axes else pictures[0]

    def video(self, row: EpisodeRow, camera: str) -> VideoIndex:
        """The index of an episode's video, made at first use.

        Raises:
            DatasetError: the file is missing or corrupt.
        """
        path = row.videos[camera]
        index = self._indices.get(path)
        if index is None:
            index = self._indices[path] = index_video(self.root / path)
            if index.shape != self.schema.features[camera].shape[:2]:
                raise DatasetError(
                    f"{self.root / path} shows {index.shape[1]} x {index.shape[0]} pixels, expected "
                    f"{self.schema.features[camera].shape[1]} x {self.schema.features[camera].shape[0]}"
                )
            while len(self._indices) > MOST_INDICES:
                self._indices.popitem(last=False)
        return index

    def _check_rows(self, rows: Sequence[EpisodeRow]) -> None:
        start = 0
        for index, row in enumerate(rows):
            if row.index != index:
                raise DatasetError(f"{row.path}: episode_index is {row.index}, expected {index}: an episode is missing")
            if row.start != start:
                raise DatasetError(
                    f"{row.path}: dataset_from_index of episode {index} is {row.start}, expected {start}"
                )
            if unknown := [task for task in row.tasks if task not in self.tasks]:
                raise DatasetError(f"{row.path}: tasks of episode {index}: {unknown[0]!r} is not in meta/tasks.parquet")
            start = row.stop

    def _offsets(self, deltas: Mapping[str, Sequence[float]]) -> dict[str, NDArray[np.int64]]:
        offsets = {}
        for name, times in deltas.items():
            if name not in self.schema.features:
                raise ValueError(f"delta_timestamps names {name!r}, expected one of {', '.join(self.schema.features)}")
            exact = np.asarray(times, dtype=np.float64) * self.fps
            if exact.ndim != 1 or not len(exact) or np.abs(exact - exact.round()).max() > TOLERANCE * self.fps:
                raise ValueError(f"delta_timestamps of {name} are {list(times)}, expected multiples of 1/{self.fps} s")
            offsets[name] = exact.round().astype(np.int64)
        return offsets

    def _load(self) -> dict[str, NDArray[Any]]:
        """Every column of the episodes chosen, checked."""
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in self.schema.columns}
        path, table = "", pa.table({})
        for row in self.rows:
            if row.data != path:
                path, table = row.data, read_data(self.root, self.schema, row.data)
            for name, values in episode_columns(self.root, self.schema, row, table, len(self.tasks)).items():
                parts[name].append(values)
        columns = {
            name: np.concatenate(values) if values else np.zeros((0,), DTYPES[self.schema.columns[name].dtype][0])
            for name, values in parts.items()
        }
        for column in columns.values():
            column.setflags(write=False)
        return columns


def read_data(root: Path, schema: Schema, name: str) -> pa.Table:
    """One data file, with just the columns that `schema` declares.

    Raises:
        DatasetError: it is missing or corrupt, or its columns are others.
    """
    path = root / name
    table = read_parquet(path)
    known = schema.columns
    if unknown := [column for column in table.column_names if column not in known]:
        raise DatasetError(f"{path}: column {unknown[0]} is not declared in features of meta/info.json")
    if missing := [column for column in known if column not in table.column_names]:
        raise DatasetError(f"{path}: column {missing[0]} is missing")
    return table


def episode_columns(
    root: Path, schema: Schema, row: EpisodeRow, table: pa.Table, tasks: int
) -> dict[str, NDArray[Any]]:
    """The columns of one episode, (n, ...) each, out of its data file.

    Args:
        root: the dataset's folder.
        schema: what it holds.
        row: which episode.
        table: its data file's content.
        tasks: how many tasks there are.

    Raises:
        DatasetError: rows, types, indices or times are not those of the episode.
    """
    path = root / row.data
    try:
        place = np.flatnonzero(np.asarray(table["episode_index"]) == row.index)
    except pa.ArrowException as error:
        raise DatasetError(f"{path}: column episode_index: {error}") from None
    if len(place) != row.length:
        raise DatasetError(f"{path}: episode_index {row.index} has {len(place)} rows, expected {row.length}")
    chosen = table.slice(int(place[0]), row.length)
    columns = {name: _numpy(chosen[name], feature, path, name) for name, feature in schema.columns.items()}
    count = np.arange(row.length)
    for name, expected, tolerance in (
        ("timestamp", count / schema.fps, TOLERANCE),
        ("frame_index", count, 0),
        ("episode_index", row.index, 0),
        ("index", row.start + count, 0),
    ):
        wrong = ~(np.abs(columns[name] - expected) <= tolerance)
        if wrong.any():
            at = int(wrong.argmax())
            value = np.broadcast_to(expected, row.length)[at]
            raise DatasetError(
                f"{path}: {name} of frame {at} of episode {row.index} is {columns[name][at]}, expected {value}"
            )
    task = columns["task_index"]
    if task.min() < 0 or task.max() >= tasks:
        raise DatasetError(f"{path}: task_index {task.max()} of episode {row.index} is not in meta/tasks.parquet")
    return columns


def _numpy(column: pa.ChunkedArray, feature: Feature, path: Path, name: str) -> NDArray[Any]:
    """A column as (n, *shape), or (n,) for shape (1,)."""
    dtype, kind = DTYPES[feature.dtype]
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    width = int(np.prod(feature.shape))
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        flat = array.flatten()
        if len(flat) != len(array) * width:
            raise DatasetError(
                f"{path}: column {name} has {len(flat)} numbers in {len(array)} rows, expected {width} each"
            )
        array = flat
    elif feature.shape != (1,):
        raise DatasetError(f"{path}: column {name} is {array.type}, expected lists of {width}")
    if array.null_count:
        raise DatasetError(f"{path}: column {name} has {array.null_count} empty values")
    try:
        values = np.asarray(array.to_numpy(zero_copy_only=False) if feature.dtype == "string" else array.cast(kind))
    except pa.ArrowException as error:
        raise DatasetError(f"{path}: column {name} is {array.type}, expected {kind}: {error}") from None
    values = values.astype(dtype)
    return values if feature.shape == (1,) else values.reshape(-1, *feature.shape)
