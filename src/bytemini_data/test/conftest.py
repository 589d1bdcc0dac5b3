from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bytemini_data.lerobot import DatasetWriter, Feature, Schema

HEIGHT, WIDTH, FPS = 48, 64, 10
CAMERAS = ("observation.images.head", "observation.images.wrist")


def picture(episode: int, frame: int, camera: int = 0) -> np.ndarray:
    """A smooth picture that tells which it is."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    wave = 128 + 90 * np.sin(rows / 9 + frame / 3) * np.cos(columns / 11 + episode + camera)
    return np.stack([wave, wave * 0.7 + 30, 255 - wave], -1).clip(0, 255).astype(np.uint8)


def small_schema() -> Schema:
    features = {camera: Feature("video", (HEIGHT, WIDTH, 3)) for camera in CAMERAS}
    features |= {
        "observation.state": Feature("float32", (3,), ("a", "b", "base/x")),
        "observation.valid": Feature("bool", (2,)),
        "action": Feature("float32", (3,)),
        "task_status": Feature("int64"),
        "next.done": Feature("bool"),
        "embodiment": Feature("string"),
    }
    return Schema(FPS, features, "test", {"operator": "string", "success": "bool"})


def small_frame(episode: int, frame: int) -> dict:
    return {
        **{camera: picture(episode, frame, i) for i, camera in enumerate(CAMERAS)},
        "observation.state": np.array([frame, episode, 0.5]),
        "observation.valid": [True, frame % 2 == 0],
        "action": np.full(3, frame + 1),
        "task_status": -1,
        "next.done": False,
        "embodiment": "robot",
    }


def add_episode(writer: DatasetWriter, frames: int, task: str = "") -> int:
    episode = writer.episodes
    with writer.begin(task or f"task {episode % 2}") as building:
        for frame in range(frames):
            building.add(small_frame(episode, frame))
        return writer.commit(building.finish(), {"operator": "ann", "success": episode % 2 == 0})


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A dataset of three episodes of 5, 6 and 7 frames."""
    root = tmp_path / "small"
    with DatasetWriter(root, small_schema()) as writer:
        for frames in (5, 6, 7):
            add_episode(writer, frames)
    return root


@pytest.fixture
def make_small() -> Callable[..., int]:
    return add_episode


@pytest.fixture
def schema() -> Schema:
    return small_schema()


@pytest.fixture
def frame_of() -> Callable[[int, int], dict]:
    return small_frame


@pytest.fixture
def picture_of() -> Callable[..., np.ndarray]:
    return picture
