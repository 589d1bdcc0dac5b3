"""Pictures on their way to the headsets: the newest wins, nothing queues, and every picture's latency comes back.

A client answers each picture once it is drawn. At most `IN_FLIGHT` pictures of a camera are unanswered: a slow link
gets fewer pictures, each as fresh as it can be. The quality follows how long the answers take.
"""

from __future__ import annotations

import io
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from bytemini_core.web import Client
from numpy.typing import NDArray
from PIL import Image

from teleop_vr.protocol import picture

IN_FLIGHT = 2
UNANSWERED = 1.0
"""Seconds after which an unanswered picture counts as lost."""

QUALITIES = (35, 50, 65, 80)
"""JPEG qualities, from the slowest link to the fastest."""

SLOW, FAST = 0.12, 0.05
"""s from sending to the answer above which the quality falls, and below which it rises."""


def encode(image: NDArray[np.uint8], quality: int) -> bytes:
    """A picture (H, W, 3) RGB as JPEG."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality)
    return out.getvalue()


@dataclass(slots=True)
class _Shot:
    """A picture and when it was taken (s, steady)."""

    sequence: int
    image: NDArray[np.uint8]
    captured: float
    encoded: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Stream:
    """One camera to one client."""

    sent: int = 0
    flying: deque[tuple[int, float, float]] = field(default_factory=deque)  # sequence, sent, captured


@dataclass(slots=True)
class _Viewer:
    client: Client
    streams: dict[int, _Stream] = field(default_factory=dict)
    quality: int = len(QUALITIES) - 1
    answer: float | None = None  # s from sending to the answer, smoothed
    changed: float = 0.0
    latency: dict[int, float] = field(default_factory=dict)


class Video:
    """Sends the newest pictures of every camera to every viewer. `offer`, `watch`, `leave`, `shown` from any thread."""

    def __init__(self, cameras: tuple[str, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self.cameras = cameras
        self._clock = clock
        self._newest: dict[int, _Shot] = {}
        self._counts = dict.fromkeys(range(len(cameras)), 0)
        self._viewers: dict[int, _Viewer] = {}
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="video", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sending."""
        self._ended = True
        self._work.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def watch(self, client: Client) -> None:
        """Send pictures to a client from now on."""
        with self._lock:
            self._viewers[client.number] = _Viewer(client)
        self._work.set()

    def leave(self, client: Client) -> None:
        """Send it nothing more."""
        with self._lock:
            self._viewers.pop(client.number, None)

    def offer(self, camera: int, image: NDArray[np.uint8], captured: float) -> None:
        """Take a picture (H, W, 3) RGB, taken at `captured` (s, steady)."""
        with self._lock:
            self._counts[camera] += 1
            self._newest[camera] = _Shot(self._counts[camera], image, captured)
        self._work.set()

    def shown(self, client: Client, camera: int, sequence: int, round_trip: float | None) -> None:
        """A client has drawn, or dropped, a picture; `round_trip` (s) of its link, where known."""
        now = self._clock()
        with self._lock:
            viewer = self._viewers.get(client.number)
            stream = viewer.streams.get(camera) if viewer is not None else None
            if viewer is None or stream is None:
                return
            for flying in list(stream.flying):
                if flying[0] > sequence:
                    break
                stream.flying.popleft()
                if flying[0] == sequence:
                    self._judge(viewer, now, now - flying[1])
                    # The answer's own way back is no part of what the operator sees.
                    glass = now - flying[2] - 0.5 * (round_trip or 0.0)
                    before = viewer.latency.get(camera, glass)
                    viewer.latency[camera] = before + 0.2 * (glass - before)
        self._work.set()

    @staticmethod
    def _judge(viewer: _Viewer, now: float, answer: float) -> None:
        viewer.answer = answer if viewer.answer is None else viewer.answer + 0.2 * (answer - viewer.answer)
        if now - viewer.changed < 1.0:
            return
        step = -1 if viewer.answer > SLOW else 1 if viewer.answer < FAST else 0
        quality = min(max(viewer.quality + step, 0), len(QUALITIES) - 1)
        if quality != viewer.quality:
            viewer.quality, viewer.changed = quality, now

    def latency(self, client: int) -> dict[str, float]:
        """Glass to glass, ms, of each camera as a client shows it."""
        with self._lock:
            viewer = self._viewers.get(client)
            known = dict(viewer.latency) if viewer is not None else {}
        return {self.cameras[camera]: round(1000 * value, 1) for camera, value in known.items()}

    def ages(self) -> dict[str, float]:
        """Age (s) of the newest picture of every camera that was ever seen."""
        now = self._clock()
        with self._lock:
            return {self.cameras[camera]: now - shot.captured for camera, shot in self._newest.items()}

    def _run(self) -> None:
        while not self._ended:
            self._work.wait(timeout=0.25)
            self._work.clear()
            for viewer, camera, shot in self._due():
                quality = QUALITIES[viewer.quality]
                jpeg = shot.encoded.get(quality)
                if jpeg is None:
                    jpeg = shot.encoded[quality] = encode(shot.image, quality)
                height, width = shot.image.shape[:2]
                message = picture(camera, shot.sequence, width, height, shot.captured, jpeg)
                viewer.client.offer(f"picture {camera}", message)

    def _due(self) -> list[tuple[_Viewer, int, _Shot]]:
        """What can be sent now, and is counted as sent."""
        now, due = self._clock(), []
        with self._lock:
            for viewer in self._viewers.values():
                for camera, shot in self._newest.items():
                    stream = viewer.streams.setdefault(camera, _Stream())
                    while stream.flying and now - stream.flying[0][1] > UNANSWERED:
                        stream.flying.popleft()
                    if shot.sequence > stream.sent and len(stream.flying) < IN_FLIGHT:
                        stream.sent = shot.sequence
                        stream.flying.append((shot.sequence, now, shot.captured))
                        due.append((viewer, camera, shot))
        return due
