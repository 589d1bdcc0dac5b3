"""What a dataset holds: features, their types, the files they are in; and the door at which files are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from bytemini_core.errors import UserError

VERSION = "v3.0"
CHUNK = 1000
"""Files per folder."""

INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"

DTYPES: dict[str, tuple[Any, pa.DataType]] = {
    "float32": (np.float32, pa.float32()),
    "float64": (np.float64, pa.float64()),
    "int64": (np.int64, pa.int64()),
    "bool": (np.bool_, pa.bool_()),
    "string": (np.object_, pa.string()),
}
"""dtype of a feature: numpy's and arrow's type of it."""

COLUMNS: dict[str, str] = {"string": "string", "bool": "bool", "int64": "int64", "float64": "double"}
"""dtype of a field of episodes: arrow's name of it."""


class DatasetError(UserError):
    """A dataset is not what it should be: the message names the file, the field, what was expected."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of every frame: `dtype` of `DTYPES` or "video", `shape`, and a name for each number of a vector."""

    dtype: str
    shape: tuple[int, ...] = (1,)
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.dtype != "video" and self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}, expected video or {', '.join(DTYPES)}")
        if not self.shape or any(n < 1 for n in self.shape):
            raise ValueError(f"shape is {self.shape}, expected positive sizes")
        if self.dtype == "video" and (len(self.shape) != 3 or self.shape[2] != 3):
            raise ValueError(f"shape of a video is {self.shape}, expected (height, width, 3)")
        if self.dtype != "video" and self.names is not None and (len(self.names),) != self.shape:
            raise ValueError(f"{len(self.names)} names for shape {self.shape}")

    @property
    def arrow(self) -> pa.DataType:
        """The column's type: a number for shape (1,), else a list of fixed size."""
        kind = DTYPES[self.dtype][1]
        return kind if self.shape == (1,) else pa.list_(kind, int(np.prod(self.shape)))


INDEX_FEATURES: dict[str, Feature] = {
    "timestamp": Feature("float32"),
    "frame_index": Feature("int64"),
    "episode_index": Feature("int64"),
    "index": Feature("int64"),
    "task_index": Feature("int64"),
}
"""What every dataset has, after its own features; the writer fills them in."""


@dataclass(frozen=True)
class Schema:
    """What a dataset holds.

    Attributes:
        fps: frames per second, whole.
        features: by name, without `INDEX_FEATURES`.
        robot_type: for the record.
        episode_fields: columns of the table of episodes beyond the format's own, name to a key of `COLUMNS`.
    """

    fps: int
    features: Mapping[str, Feature]
    robot_type: str = ""
    episode_fields: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 1000:
            raise ValueError(f"fps is {self.fps}, expected 1 to 1000")
        for name in self.features:
            if "/" in name or name in INDEX_FEATURES or not name:
                raise ValueError(f"feature {name!r}: expected a name without '/' that the format does not use itself")
        for name, dtype in self.episode_fields.items():
            if dtype not in COLUMNS:
                raise ValueError(f"episode field {name} is {dtype!r}, expected one of {', '.join(COLUMNS)}")

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the features that are videos."""
        return tuple(name for name, feature in self.features.items() if feature.dtype == "video")

    @property
    def columns(self) -> dict[str, Feature]:
        """Features that are columns of the data files, the format's own last."""
        own = {name: feature for name, feature in self.features.items() if feature.dtype != "video"}
        return {**own, **INDEX_FEATURES}

    def info(self, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
        """The content of meta/info.json for these totals."""
        return {
            "codebase_version": VERSION,
            "robot_type": self.robot_type,
            "total_episodes": episodes,
            "total_frames": frames,
            "total_tasks": tasks,
            "chunks_size": CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self.fps,
            "splits": {"train": f"0:{episodes}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self.cameras else None,
            "features": {name: self._describe(f) for name, f in {**self.features, **INDEX_FEATURES}.items()},
            "episode_fields": dict(self.episode_fields),
        }

    def _describe(self, feature: Feature) -> dict[str, Any]:
        names = list(feature.names) if feature.names else None
        entry: dict[str, Any] = {"dtype": feature.dtype, "shape": list(feature.shape), "names": names}
        if feature.dtype == "video":
            height, width, _ = feature.shape
            entry["names"] = ["height", "width", "channels"]
            entry["info"] = {
                "video.height": height,
                "video.width": width,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": self.fps,
                "video.channels": 3,
                "has_audio": False,
            }
        return entry


@dataclass(frozen=True)
class Info:
    """meta/info.json, checked."""

    schema: Schema
    episodes: int
    frames: int
    tasks: int
    data_path: str = DATA_PATH
    video_path: str = VIDEO_PATH


def place(index: int) -> dict[str, int]:
    """Folder and file of an episode that has files of its own."""
    return {"chunk_index": index // CHUNK, "file_index": index % CHUNK}


def read_info(root: Path) -> Info:
    """Read and check meta/info.json.

    Raises:
        DatasetError: it is missing or malformed, or of another version.
    """
    path = root / INFO
    if not path.is_file():
        raise DatasetError(f"{root} is no dataset: expected {path}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(raw, dict):
        raise DatasetError(f"{path} holds a {type(raw).__name__}, expected an object")
    version = raw.get("codebase_version")
    if version != VERSION:
        raise DatasetError(
            f"{path}: codebase_version is {version!r}, expected {VERSION!r}: convert it with lerobot first"
        )
    try:
        features = {
            name: Feature(entry["dtype"], tuple(entry["shape"]), _names(entry))
            for name, entry in raw["features"].items()
            if name not in INDEX_FEATURES
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: features: {error}") from None
    if missing := [name for name in INDEX_FEATURES if name not in raw["features"]]:
        raise DatasetError(f"{path}: features lack {', '.join(missing)}")
    try:
        schema = Schema(int(raw["fps"]), features, str(raw.get("robot_type") or ""), raw.get("episode_fields", {}))
        episodes, frames, tasks = (int(raw[name]) for name in ("total_episodes", "total_frames", "total_tasks"))
    except KeyError as error:
        raise DatasetError(f"{path}: {error} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: {error}") from None
    if min(episodes, frames, tasks) < 0:
        raise DatasetError(f"{path}: totals are {episodes}, {frames}, {tasks}, expected none below 0")
    data_path, video_path = raw.get("data_path") or DATA_PATH, raw.get("video_path") or VIDEO_PATH
    return Info(schema, episodes, frames, tasks, str(data_path), str(video_path))


def _names(entry: Mapping[str, Any]) -> tuple[str, ...] | None:
    # A vector's names may be a list, or grouped as lerobot's converters do: {"motors": [...]}; anything else names
    # nothing.
    names = entry.get("names")
    if isinstance(names, Mapping) and len(names) == 1:
        names = next(iter(names.values()))
    if not isinstance(names, list) or entry["dtype"] == "video" or [len(names)] != list(entry["shape"]):
        return None
    return tuple(map(str, names))
