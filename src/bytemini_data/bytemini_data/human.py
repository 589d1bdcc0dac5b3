"""Import what a headset recorded of a person: head video and hand poses (GR-3 report, section 3.3).

A take is a folder with `head.mp4` and `hands.jsonl`, one line per sample:

    {"t": 0.033, "head": [x, y, z, qx, qy, qz, qw], "left": [...] or null, "right": [...] or null}

`t` is in seconds since the first picture, poses are in the headset's floor frame with REP-103 axes (x forward, y
left, z up), the head's that of the camera (z forward, x right). A first line {"task": "..."} may give the
instruction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.errors import UserError
from bytemini_core.types import NANOSECONDS, SIDES, Array
from numpy.typing import NDArray

from bytemini_data.episode import Story, assess, commit
from bytemini_data.features import Layout, Moment
from bytemini_data.lerobot.video import Decoder, VideoIndex, index_video
from bytemini_data.lerobot.writer import DatasetWriter
from bytemini_data.quality import Quality
from bytemini_data.recorder.match import Matcher

HEAD = "head"
BODY = "body"

Sample = dict[str, Array | None]


@dataclass(frozen=True)
class Take:
    """A recorded take: the video's index, and (time in ns, poses of head, left and right) in order."""

    folder: Path
    task: str
    video: VideoIndex
    samples: tuple[tuple[int, Sample], ...]


def read_take(folder: Path, task: str = "") -> Take:
    """Read and check a take; pictures are decoded later.

    Args:
        folder: with head.mp4 and hands.jsonl.
        task: the instruction, where the take does not say it.

    Raises:
        UserError: a file is missing or malformed, named with its line; or nobody knows the instruction.
    """
    video = index_video(folder / "head.mp4")
    path = folder / "hands.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    samples: list[tuple[int, Sample]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            if number == 1 and "task" in raw:
                task = task or str(raw["task"])
                continue
            time = float(raw["t"])
            poses = {name: _pose(raw, name) for name in (HEAD, *SIDES)}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}, line {number}: {type(error).__name__} {error}, expected t, head, left, right"
            ) from None
        stamp = round(time * NANOSECONDS)
        if samples and stamp <= samples[-1][0]:
            raise UserError(f"{path}, line {number}: t is {time}, expected more than in the line before")
        samples.append((stamp, poses))
    if not samples:
        raise UserError(f"{path} holds no sample")
    if not task.strip():
        raise UserError(f"{path} does not say what was done: give the instruction with --task")
    return Take(folder, task, video, tuple(samples))


def import_take(take: Take, layout: Layout, writer: DatasetWriter) -> tuple[int, Quality]:
    """Add a take to a dataset as an episode of a person; its index and its quality.

    Raises:
        DatasetError: the video cannot be decoded.
        UserError: there is no frame.
    """
    matcher = Matcher(layout.fps, (HEAD,), (BODY,), (BODY,))
    decoder = Decoder(layout.image_size)
    with writer.begin(take.task) as building:

        def write(slots: Any) -> None:
            for slot in slots:
                building.add(layout.frame(_moment(slot.picks, slot.stamp, decoder, take.video)))

        events: list[tuple[int, str, Any]] = [(stamp, BODY, poses) for stamp, poses in take.samples]
        events += [
            (round(t * NANOSECONDS), HEAD, i) for i, t in enumerate((take.video.time - take.video.time[0]).tolist())
        ]
        for stamp, stream, value in sorted(events, key=lambda event: event[:2]):
            write(matcher.add(stream, stamp, value))
        write(matcher.flush())
        staged = building.finish()
    quality = assess(staged, layout.fps, layout.robot)
    story = Story(True, source=str(take.folder), drops=matcher.counts.drops)
    return commit(writer, staged, quality, story), quality


def _moment(picks: dict[str, tuple[int, Any]], time: int, decoder: Decoder, video: VideoIndex) -> Moment:
    images: dict[str, NDArray[np.uint8]] = {}
    offsets = {}
    if HEAD in picks:
        stamp, frame = picks[HEAD]
        images[HEAD] = decoder.read(video, [frame])[0]
        offsets[HEAD] = (stamp - time) / NANOSECONDS
    poses: Sample = picks[BODY][1] if BODY in picks else {}
    hands = {side: pose for side in SIDES if (pose := poses.get(side)) is not None}
    return Moment(images, hands=hands, head=poses.get(HEAD), offsets=offsets, mode="")


def _pose(raw: dict[str, Any], name: str) -> Array | None:
    value = raw[name]
    if value is None:
        return None
    pose = np.asarray(value, dtype=np.float64)
    if pose.shape != (7,) or not np.isfinite(pose).all():
        raise ValueError(f"{name} is {value}, expected 7 numbers")
    norm = float(np.linalg.norm(pose[3:]))
    if abs(norm - 1.0) > 0.01:
        raise ValueError(f"{name} has a quaternion of norm {norm:.3f}, expected 1")
    pose[3:] /= norm
    return pose
