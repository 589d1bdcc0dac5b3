"""Native recordings to datasets: the same frames that were made while recording.

A recording is a rosbag2 folder (MCAP), of the recorder or of `./bytemini rollout`. Frames are made of its messages in
the order in which they were written, by the very code that the recorder uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bytemini_core.errors import UserError
from bytemini_core.ros import stamp_of_bytes
from rclpy.serialization import deserialize_message

from bytemini_data.episode import Story, assess, commit
from bytemini_data.features import Layout
from bytemini_data.lerobot.video import QUICK
from bytemini_data.lerobot.writer import DatasetWriter
from bytemini_data.quality import Quality
from bytemini_data.recorder.take import Frames
from bytemini_data.recorder.topics import (
    HANDS,
    KEPT_IMAGES,
    RECORDER,
    STATUS,
    keep,
    picture_of,
    stream_of,
    topics_of,
)
from bytemini_msgs.msg import EpisodeStatus, TaskStatus

_RECORDED = (*topics_of(False), *topics_of(True), *KEPT_IMAGES, *KEPT_IMAGES.values(), RECORDER)


@dataclass(frozen=True)
class Recording:
    """What a recording says of itself: its folder, the instruction, the scene card, whether it is of a person."""

    folder: Path
    task: str
    card: dict[str, Any]
    human: bool


def messages(folder: Path) -> Iterator[tuple[str, bytes, int]]:
    """(topic without namespace and slash, CDR, log time) of a recording, in the order in which they were written.

    Raises:
        UserError: it is no recording, or cannot be read.
    """
    from mcap.exceptions import McapError
    from mcap.reader import NonSeekingReader

    files = sorted(folder.glob("*.mcap")) if folder.is_dir() else []
    if not files:
        raise UserError(f"{folder} is no recording: expected a folder with metadata.yaml and an .mcap file")
    for path in files:
        with path.open("rb") as stream:
            found: Any = NonSeekingReader(stream).iter_messages(log_time_order=False)
            try:
                for _, channel, message in found:
                    topic = next((t for t in _RECORDED if channel.topic.endswith(f"/{t}")), "")
                    if topic:
                        yield topic, message.data, message.log_time
            except (McapError, EOFError, ValueError) as error:
                raise UserError(f"{path} is cut short or corrupt: {error}: mend it with 'ros2 bag reindex'") from None


def describe(folder: Path, task: str = "") -> Recording:
    """Read what a recording says of itself.

    Args:
        folder: of the recording.
        task: the instruction, where the recording does not know it.

    Raises:
        UserError: it is no recording, or nobody knows the instruction.
    """
    human = False
    card: dict[str, Any] = {}
    for topic, cdr, _ in messages(folder):
        if topic == HANDS:
            human = True
        elif topic == RECORDER and not card:
            status = deserialize_message(cdr, EpisodeStatus)
            task = task or status.task
            card = json.loads(status.scene_card or "{}")
        elif topic == STATUS and not task:
            task = deserialize_message(cdr, TaskStatus).instruction
    if not task:
        raise UserError(f"{folder} does not say what was done in it: give the instruction with --task")
    return Recording(folder, task, card, human)


def convert(recording: Recording, layout: Layout, writer: DatasetWriter, success: bool = True) -> tuple[int, Quality]:
    """Add a recording to a dataset as an episode; its index and its quality.

    Raises:
        UserError: it holds no frame, or something that is not what it should be.
    """
    from mcap.exceptions import McapError

    with writer.begin(recording.task, QUICK) as building:
        frames = Frames(layout, building, recording.human)
        try:
            for topic, cdr, _ in messages(recording.folder):
                kept, content = keep(topic, bytes(cdr))
                if stream_of(kept) is not None:
                    frames.add(kept, content, stamp_of_bytes(content))
            staged = frames.finish()
        except (ValueError, McapError) as error:
            raise UserError(f"{recording.folder}: {error}") from error
    quality = assess(staged, layout.fps, layout.robot)
    card = {**recording.card, "diagram": ""} if recording.card else None
    story = Story(success, card=card, source=str(recording.folder), drops=frames.counts.drops)
    return commit(writer, staged, quality, story), quality


def picture_size(folder: Path) -> tuple[int, int]:
    """(height, width) of the pictures that a recording keeps, cut to even numbers.

    Raises:
        UserError: it keeps none.
    """
    for topic, cdr, _ in messages(folder):
        if topic in KEPT_IMAGES or topic in KEPT_IMAGES.values():
            height, width, _ = picture_of(keep(topic, cdr)[1]).shape
            return height - height % 2, width - width % 2
    raise UserError(f"{folder} holds no picture of the robot's cameras")
