"""The table of episodes: one row each, in one file or in many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bytemini_data.lerobot.files import read_parquet
from bytemini_data.lerobot.schema import DATA_PATH, VIDEO_PATH, DatasetError, Schema
from bytemini_data.lerobot.stats import NAMES, Stats


@dataclass(frozen=True)
class EpisodeRow:
    """What is known of one episode.

    `start`, `stop`: its frames in the dataset, half open. `path`: the file its row is in. `fields`: the values of the
    schema's `episode_fields` and whatever else the table holds. `data`, `videos`: its files relative to the dataset's
    folder, videos by feature; `video_start`: seconds at which it begins in a video shared with others.
    """

    index: int
    tasks: tuple[str, ...]
    start: int
    stop: int
    path: Path
    fields: Mapping[str, Any] = field(default_factory=dict)
    stats: Mapping[str, Stats] = field(default_factory=dict)
    data: str = ""
    videos: Mapping[str, str] = field(default_factory=dict)
    video_start: Mapping[str, float] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.stop - self.start

    @property
    def task(self) -> str:
        """The instruction; the first where there are several."""
        return self.tasks[0] if self.tasks else ""


_REQUIRED = (
    "episode_index",
    "tasks",
    "length",
    "data/chunk_index",
    "data/file_index",
    "dataset_from_index",
    "dataset_to_index",
)


def read_episode_rows(
    root: Path,
    schema: Schema,
    data_path: str = DATA_PATH,
    video_path: str = VIDEO_PATH,
    files: Sequence[Path] | None = None,
) -> list[EpisodeRow]:
    """Every row of the table, by index; of `files` alone where these are given.

    Raises:
        DatasetError: a file is corrupt, a column is missing, an index appears twice, or lengths do not fit.
    """
    rows: dict[int, EpisodeRow] = {}
    for path in files or sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        table = read_parquet(path)
        names = set(table.column_names)
        videos = [f"videos/{key}/{part}" for key in schema.cameras for part in ("chunk_index", "file_index")]
        if missing := [name for name in (*_REQUIRED, *videos, *schema.episode_fields) if name not in names]:
            raise DatasetError(f"{path}: column {missing[0]} is missing")
        for raw in table.to_pylist():
            row = _row(raw, path, schema, data_path, video_path)
            if row.index in rows:
                raise DatasetError(
                    f"{path}: episode_index {row.index} appears twice, also in {rows[row.index].path}: "
                    "take one of them away"
                )
            if row.length != raw["length"] or row.length < 1:
                raise DatasetError(
                    f"{path}: length of episode {row.index} is {raw['length']}, but dataset_from_index and "
                    f"dataset_to_index are {row.start} and {row.stop}"
                )
            rows[row.index] = row
    return [rows[index] for index in sorted(rows)]


def _row(raw: dict[str, Any], path: Path, schema: Schema, data_path: str, video_path: str) -> EpisodeRow:
    if absent := [name for name in _REQUIRED if raw[name] is None]:
        raise DatasetError(f"{path}: column {absent[0]} is empty")
    stats: dict[str, Stats] = {}
    fields = {}
    for name, value in raw.items():
        if name.startswith("stats/"):
            feature, _, kind = name.removeprefix("stats/").rpartition("/")
            if kind in NAMES and value is not None:
                stats.setdefault(feature, {})[kind] = np.array(value, dtype=np.float64)
        elif "/" not in name and name not in _REQUIRED:
            fields[name] = value

    def where(prefix: str) -> dict[str, int]:
        return {part: raw[f"{prefix}/{part}"] for part in ("chunk_index", "file_index")}

    return EpisodeRow(
        index=raw["episode_index"],
        tasks=tuple(raw["tasks"]),
        start=raw["dataset_from_index"],
        stop=raw["dataset_to_index"],
        path=path,
        fields=fields,
        stats={name: found for name, found in stats.items() if len(found) == len(NAMES)},
        data=data_path.format(**where("data")),
        videos={key: video_path.format(video_key=key, **where(f"videos/{key}")) for key in schema.cameras},
        video_start={key: raw.get(f"videos/{key}/from_timestamp") or 0.0 for key in schema.cameras},
    )
