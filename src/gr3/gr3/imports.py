"""Other people's data as shards: LeRobotDataset v3.0 (robots and humans), and chats about pictures as JSON lines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.types import CAMERAS, SIDES, Array, RobotState
from bytemini_data.features import (
    ACTION,
    EFFORT,
    EMBODIMENT,
    HANDS,
    HEAD,
    HEAD_FRAME,
    IMAGE,
    STATE,
    TASK_STATUS,
    VELOCITY,
    policy_chunk,
)
from bytemini_data.lerobot import Dataset
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import VERSIONS, RobotModel, load_robot
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gr3.demos import Recipe
from gr3.layout import DT, HORIZON, ActionLayout, ChunkCodec, pose_vector
from gr3.shards import THINGS, Shard, shard_folder
from gr3.views import SOURCE_SIZE, TINY_VIEWS, VIEWS, View

EPISODES = 16
"""Imported episodes in a shard."""
PICTURES = 512
"""Imported pictures in a shard."""


def is_lerobot(root: Path) -> bool:
    """Whether a folder is a LeRobotDataset (v3.0), as `./bytemini record` writes it."""
    return (root / "meta" / "info.json").is_file()


def shards_of(root: Path, folder: Path, views: str) -> Path:
    """Shards made of a dataset, in `folder`; those that were made of it before are taken as they are.

    Args:
        root: the dataset.
        folder: for the shards; there is none of this name, or one that this function made.
        views: the size of model that the pictures are for (`gr3.views.VIEWS`).

    Raises:
        ValueError: see `import_lerobot`; or the folder holds shards of something else.
    """
    from bytemini_data.lerobot.schema import read_info

    info = read_info(root)
    recipe = asdict(Recipe(robot=info.schema.robot_type.removeprefix("bytemini_"), views=views))
    wanted = json.dumps({**recipe, "lerobot": str(root.resolve()), "frames": info.frames})
    written = folder / "recipe.json"
    if written.is_file():
        if written.read_text(encoding="utf-8") != wanted:
            raise ValueError(f"{folder} was made of another dataset than {root}, or of less: give another --out")
        return folder
    if recipe["robot"] not in VERSIONS:
        raise ValueError(f"{root} was recorded with {info.schema.robot_type!r}, expected a robot of this stack")
    if info.episodes < 2:
        raise ValueError(f"{root} has {info.episodes} episodes, expected 2 and more: the last are for validation")
    # One shard is held out: a tenth of a small set, sixteen episodes of a large one.
    together = max(1, min(EPISODES, info.episodes // 10))
    unfinished = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)  # what a kill left
    import_lerobot(root, unfinished, load_robot(recipe["robot"]), views=VIEWS[views], together=together)
    (unfinished / written.name).write_text(wanted, encoding="utf-8")
    unfinished.rename(folder)
    return folder


def import_lerobot(
    root: Path,
    out: Path,
    robot: RobotModel,
    stride: int = 2,
    views: Mapping[str, View] = TINY_VIEWS,
    together: int = EPISODES,
) -> int:
    """Turn a dataset of ByteMini features into shards of demonstrations; how many frames they have.

    A person's episodes (GR-3 report, section 3.3) have blank wrist views and supervise the hands only; their hands are
    seen from where the robot's head is at home.

    Args:
        root: the dataset.
        out: folder of shards; shards are added behind those that are there.
        robot: whose joints the dataset must have.
        stride: every so many frames become a sample.
        views: what the model shall see of each camera.
        together: episodes in a shard.

    Raises:
        ValueError: other cameras, other joints, no velocities or efforts, or a frame rate that does not divide the
            chunk's.
    """
    cameras = tuple(f"{IMAGE}{camera}" for camera in CAMERAS)
    dataset = Dataset(root, image_size=SOURCE_SIZE)
    there = [name for name in dataset.schema.features if name.startswith(IMAGE)]
    if set(there) != set(cameras):
        raise ValueError(f"{root} has cameras {', '.join(there) or 'none'}, expected {', '.join(cameras)}")
    wanted = (*robot.joint_names, "odom/x", "odom/y", "odom/yaw")
    if tuple(dataset.names(STATE)) != wanted:
        missing = sorted(set(wanted) - set(dataset.names(STATE)))
        raise ValueError(
            f"{root}: {STATE} has other numbers than robot {robot.version} "
            f"({'lacks ' + ', '.join(missing) if missing else 'another order'})"
        )
    unknown = [name for name in (VELOCITY, EFFORT) if name not in dataset.schema.features]
    if unknown:
        raise ValueError(
            f"{root} lacks {', '.join(unknown)}: the model's state has velocities and the grippers' efforts"
        )
    every = dataset.fps * DT
    if abs(every - round(every)) > 1e-9 or every < 1:
        raise ValueError(f"{root} has {dataset.fps} frames per second, expected a multiple of {1 / DT:.0f}")
    first = 1 + max((int(p.name) for p in (out / "demos").glob("[0-9]*")), default=-1)
    codec, total = ChunkCodec(robot), 0
    seen_from = Kinematics(robot).forward(HEAD_FRAME, robot.home)
    for start in range(0, len(dataset.rows), together):
        shard = Shard(dict(views), [], [])
        for number, episode in enumerate(dataset.rows[start : start + together]):
            human = str(dataset.column(EMBODIMENT)[episode.start]) == "human"
            span = dataset.span(episode.index)
            for frame in range(span.start, span.stop, stride):
                steps = np.minimum(frame + round(every) * np.arange(1, HORIZON + 1), span.stop - 1)
                values = (_human if human else _robot)(dataset, codec, seen_from, frame, steps)
                shard.frames.append({**_views(dataset[frame], views), **values, **_unlabelled(number)})
            instruction = episode.tasks[0]
            shard.episodes.append(
                {
                    "seed": episode.index,
                    "instruction": instruction,
                    "valid": True,
                    "kind": "human" if human else "robot",
                    "target": "",
                    "destination": "",
                    "look": str(root),
                    "phrases": [],
                    "things": [],
                    "success": True,
                }
            )
        shard.write(shard_folder(out, "demos", first + start // together), "demos")
        total += len(shard.frames)
    return total


def _views(sample: Mapping[str, Any], views: Mapping[str, View]) -> dict[str, NDArray[np.uint8]]:
    return {name: view.of(sample[f"{IMAGE}{name}"]) for name, view in views.items()}


def _unlabelled(number: int) -> dict[str, Any]:
    """Where things are is not known."""
    return {
        "phase": np.int8(0),
        "episode": np.int32(number),
        "places": np.full((THINGS, 3), np.nan, dtype=np.float32),
        "points": np.full((len(CAMERAS), THINGS, 2), np.nan, dtype=np.float32),
    }


def _robot(
    dataset: Dataset, codec: ChunkCodec, _: Array, frame: int, steps: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    numbers, rates, effort = (dataset.column(name)[frame].astype(np.float64) for name in (STATE, VELOCITY, EFFORT))
    n = len(codec.robot.joint_names)
    state = RobotState(0, codec.layout.joints, numbers[:n], rates[:n], effort, numbers[n:], rates[n:])
    # `action` is where to be one frame later: the row that is due at a frame is the action of the one before.
    actions = dataset.column(ACTION)[np.maximum(steps - 1, frame)]
    values = policy_chunk(numbers, actions, dataset.names(ACTION), codec.robot.policy_columns)
    status = int(dataset.column(TASK_STATUS)[frame])
    return {"state": codec.state(state), "actions": codec.encode(state, values, [status] * len(values))}


def _human(
    dataset: Dataset, codec: ChunkCodec, seen_from: Array, frame: int, steps: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    layout, column = codec.layout, dataset.column(HANDS)
    head = _pose(dataset.column(HEAD)[frame])
    now = [_pose(column[frame][7 * i : 7 * i + 7]) for i in range(len(SIDES))]
    rows = np.zeros((len(steps), len(layout.columns)), dtype=np.float32)
    relative = [[np.linalg.inv(now[i]) @ _pose(column[s][7 * i : 7 * i + 7]) for i in range(len(SIDES))] for s in steps]
    rows[:, layout.hands] = pose_vector(np.array(relative)).reshape(len(steps), -1)
    hands = np.stack([seen_from @ np.linalg.inv(head) @ hand for hand in now])
    joints, n = codec.robot.home, len(codec.robot.home)
    still = RobotState(0, layout.joints, joints, np.zeros(n), np.zeros(n))
    state = codec.state(still)
    state[layout.state_hands] = pose_vector(hands).reshape(-1)
    return {"state": state, "actions": rows}


def _pose(vector: NDArray[Any]) -> Array:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(vector[3:7]).as_matrix()
    pose[:3, 3] = vector[:3]
    return pose


def import_chats(file: Path, out: Path, views: Mapping[str, View] = TINY_VIEWS) -> int:
    """Turn chats about pictures into shards of still scenes; how many pictures they have.

    Each line is `{"messages": [{"role": "user", "content": [{"type": "image", "image": PATH}, {"type": "text", "text":
    QUESTION}]}, {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}, ...]}`, the format that
    `transformers` takes for Qwen2.5-VL; paths are relative to the file. The picture becomes the head's view, the
    wrists' are blank.

    Raises:
        ValueError: a line is not of this form, or its picture is missing; names the line.
    """
    first = 1 + max((int(p.name) for p in (out / "stills").glob("[0-9]*")), default=-1)
    shard, total = Shard(dict(views), [], []), 0
    layout = ActionLayout.of(load_robot("v1"))

    def flush() -> None:
        nonlocal shard, first
        if shard.frames:
            shard.write(shard_folder(out, "stills", first), "stills")
            shard, first = Shard(dict(views), [], []), first + 1

    for picture, talks in read_chats(file, views["head"]):
        images = {name: np.zeros((*view.size, 3), dtype=np.uint8) for name, view in views.items()}
        images["head"] = picture
        shard.frames.append(
            {
                **images,
                "state": np.zeros(len(layout.state_names), np.float32),
                **_unlabelled(len(shard.episodes)),
                "actions": np.zeros((HORIZON, len(layout.columns)), np.float32),
            }
        )
        shard.episodes.append(
            {
                "seed": total,
                "instruction": talks[0][0],
                "valid": True,
                "target": "",
                "destination": "",
                "look": str(file),
                "phrases": [],
                "things": [],
                "talks": talks,
            }
        )
        total += 1
        if len(shard.frames) == PICTURES:
            flush()
    flush()
    return total


def read_chats(
    file: Path, view: View = TINY_VIEWS["head"]
) -> Iterator[tuple[NDArray[np.uint8], list[tuple[str, str]]]]:
    """Pictures of a view's size and (question, answer) pairs, line by line; see `import_chats`."""
    from PIL import Image

    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{file}, line {number}"
            try:
                messages = json.loads(line)["messages"]
                paths = [p["image"] for m in messages for p in m["content"] if p["type"] == "image"]
                words = [
                    (m["role"], " ".join(p["text"] for p in m["content"] if p["type"] == "text").strip())
                    for m in messages
                ]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{where} is no chat ({type(error).__name__}: {error}); see gr3.imports") from None
            roles = [role for role, _ in words]
            if len(paths) != 1 or not roles or roles != ["user", "assistant"] * (len(roles) // 2):
                raise ValueError(
                    f"{where} has {len(paths)} pictures and roles {', '.join(roles)}; expected one picture "
                    "and user and assistant in turn"
                )
            path = file.parent / paths[0]
            if not path.is_file():
                raise ValueError(f"{where} speaks of {path}, which does not exist")
            with Image.open(path) as opened:
                height, width = view.size
                picture = np.asarray(opened.convert("RGB").resize((width, height), Image.Resampling.BOX))
            yield picture, [(words[i][1], words[i + 1][1]) for i in range(0, len(words), 2)]
