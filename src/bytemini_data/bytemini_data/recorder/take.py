"""One episode while it is recorded: the native recording and the frames that are made of it, side by side."""

from __future__ import annotations

import queue
import shutil
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bytemini_core.bag import BagWriter, TopicQos

from bytemini_data.features import Layout
from bytemini_data.lerobot.writer import EpisodeWriter, StagedEpisode
from bytemini_data.recorder.match import Counts, Matcher, Slot
from bytemini_data.recorder.topics import (
    COMMAND,
    JOINTS,
    KEPT_IMAGES,
    ODOMETRY,
    RECORDER,
    Converter,
    cameras_of,
    keep,
    kept_type,
    stream_of,
    streams_of,
    topics_of,
    type_name,
)

NATIVE = "native"
"""Folder of a dataset with the native recordings of its episodes; `source` of an episode names its own."""

ABORTED = "aborted"
"""Folder of a dataset with recordings that belong to no episode: aborted, or torn by a kill."""


WAITING = 500
"""Kept messages that may wait until frames are made of them."""


class Frames:
    """Makes an episode out of kept messages, in the order in which they came."""

    def __init__(self, layout: Layout, writer: EpisodeWriter, human: bool = False) -> None:
        prompt = () if human else (JOINTS, ODOMETRY, COMMAND)
        self._matcher = Matcher(layout.fps, cameras_of(human), streams_of(human), prompt)
        self._converter = Converter(layout, human)
        self._writer = writer
        self.newest = 0
        """Stamp of the last frame written, ns."""

    @property
    def counts(self) -> Counts:
        """What came and what was missing so far."""
        return self._matcher.counts

    @property
    def written(self) -> int:
        """Frames written so far."""
        return self._writer.frames

    def add(self, topic: str, cdr: bytes, stamp: int) -> None:
        """Take one kept message in.

        Raises:
            ValueError: a message holds what it should not.
        """
        stream = stream_of(topic)
        if stream is not None:
            self._write(self._matcher.add(stream, stamp, cdr))

    def finish(self) -> StagedEpisode:
        """Write what still waits and complete the episode.

        Raises:
            ValueError: there is no frame.
        """
        self._write(self._matcher.flush())
        return self._writer.finish()

    def discard(self) -> None:
        """Throw the frames away."""
        self._writer.discard()

    def _write(self, slots: Iterable[Slot]) -> None:
        for slot in slots:
            self._writer.add(self._converter.frame(slot))
            self.newest = slot.stamp


class Take:
    """A running episode: every message goes into the native recording, and frames are made of it.

    Thread contract: one thread calls the methods; frames are made in another, which waits in no one's way: pictures are
    decoded and encoded outside of Python's lock.

    Attributes:
        folder: of the native recording.
        rejected: reasons for which messages were left out, with how often.
        cancelled: it will be thrown away; what still comes need not be worked on.
    """

    def __init__(self, root: Path, layout: Layout, writer: EpisodeWriter, human: bool, namespace: str = "") -> None:
        """Begin below `root`, the dataset's folder."""
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self.folder = root / NATIVE / name
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._root = root
        # Pictures are compressed already; the rest is small.
        self._bag = BagWriter(self.folder, "lz4")
        self._frames = Frames(layout, writer, human)
        self._prefix = f"{namespace.rstrip('/')}/"
        for topic in (*topics_of(human), *(KEPT_IMAGES[raw] for raw in _images(human)), RECORDER):
            qos = (
                TopicQos("best_effort", depth=5) if topic.startswith("camera") or topic in (JOINTS, ODOMETRY) else None
            )
            self._bag.register(f"{self._prefix}{topic}", type_name(kept_type(topic)), qos=qos)
        self.rejected: dict[str, int] = {}
        self.cancelled = False
        self._kept: queue.Queue[tuple[str, bytes, int] | None] = queue.Queue(WAITING)
        self._broken: Exception | None = None
        self._thread = threading.Thread(target=self._make_frames, name="frames", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> Counts:
        """What came and what was missing so far."""
        return self._frames.counts

    @property
    def frames(self) -> Frames:
        """The frames."""
        return self._frames

    @property
    def source(self) -> str:
        """What the episode says of where it came from."""
        return str(self.folder.relative_to(self._root))

    def add(self, topic: str, cdr: bytes, stamp: int, received: int) -> None:
        """Take a message in as it was on the wire. One that cannot be used is counted, and the take goes on."""
        if self.cancelled:
            return
        try:
            kept, content = keep(topic, cdr)
            self._bag.write(f"{self._prefix}{kept}", content, received, stamp)
        except ValueError as error:
            self._reject(topic, error)
            return
        if stream_of(kept) is not None:
            self._kept.put((kept, content, stamp))

    def _reject(self, topic: str, error: ValueError) -> None:
        text = f"{topic}: {error}"
        self.rejected[text] = self.rejected.get(text, 0) + 1

    def _make_frames(self) -> None:
        while (item := self._kept.get()) is not None:
            if self._broken is not None or self.cancelled:
                continue
            topic, content, stamp = item
            try:
                self._frames.add(topic, content, stamp)
            except ValueError as error:
                self._reject(topic, error)
            except (OSError, RuntimeError) as error:  # a full disk: told when the episode is to be completed
                self._broken = error

    def _join(self) -> None:
        self._kept.put(None)
        self._thread.join()

    def catch_up(self) -> None:
        """Wait until every message taken in has been worked on."""
        while not self._kept.empty() and self._thread.is_alive():
            time.sleep(0.002)

    def note(self, cdr: bytes, stamp: int) -> None:
        """Put a status of the recorder into the native recording: what the task is, how the scene stands."""
        self._bag.write(f"{self._prefix}{RECORDER}", cdr, stamp)

    def finish(self) -> StagedEpisode:
        """Complete both.

        Raises:
            ValueError: there is no frame.
            OSError: the frames could not be written.
        """
        self._join()
        self._bag.close()
        if self._broken is not None:
            raise self._broken
        return self._frames.finish()

    def discard(self) -> None:
        """Throw both away."""
        self._join()
        self._frames.discard()
        self._bag.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def abort(self) -> Path:
        """Throw the frames away and put the native recording aside; where it is now."""
        self.cancelled = True
        if self._thread.is_alive():
            self._join()
        self._frames.discard()
        self._bag.close()
        return set_aside(self._root, self.folder)


def _images(human: bool) -> list[str]:
    return list(KEPT_IMAGES)[: len(cameras_of(human))]


def set_aside(root: Path, folder: Path) -> Path:
    """Move a native recording to where it belongs to no episode."""
    target = root / ABORTED / folder.name
    target.parent.mkdir(exist_ok=True)
    return folder.rename(target)


def recover(root: Path, sources: Iterable[str]) -> list[Path]:
    """Put native recordings aside that belong to no saved episode: a kill has cut them short. Where they are now.

    A recording without `metadata.yaml` is written again, as far as it can be read.
    """
    known = set(sources)
    folder = root / NATIVE
    lost = (
        [path for path in sorted(folder.iterdir()) if f"{NATIVE}/{path.name}" not in known] if folder.is_dir() else []
    )
    return [set_aside(root, path if (path / "metadata.yaml").is_file() else mend(path)) for path in lost]


def mend(folder: Path) -> Path:
    """Write a torn recording again, up to where it is torn; its folder."""
    from mcap.exceptions import McapError
    from mcap.reader import NonSeekingReader

    new = folder.with_name(f"{folder.name}.mended")
    shutil.rmtree(new, ignore_errors=True)
    with BagWriter(new, "lz4") as bag:
        for path in folder.glob("*.mcap"):
            with path.open("rb") as stream:
                messages: Any = NonSeekingReader(stream).iter_messages(log_time_order=False)
                try:
                    for schema, channel, message in messages:
                        bag.register(channel.topic, schema.name, schema.data.decode())
                        bag.write(channel.topic, message.data, message.log_time, message.publish_time)
                except (McapError, EOFError, OSError, ValueError, RuntimeError):
                    pass  # here it is torn
    shutil.rmtree(folder)
    return new.rename(folder)
