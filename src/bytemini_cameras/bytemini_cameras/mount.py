"""One mount: the loop that finds its camera, keeps it open, and hands every good frame on with the host's time.

Runs in a thread of its own, because librealsense blocks; what it does with time and faults is in `link`, `clock`,
`monitor` and `pairing`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from bytemini_core.types import NANOSECONDS

from bytemini_cameras.clock import ClockMap
from bytemini_cameras.device import Camera, DeviceError, Find, Frame, StreamSettings
from bytemini_cameras.frames import ENCODINGS, Calibration
from bytemini_cameras.link import Link, LinkState
from bytemini_cameras.monitor import StreamMonitor, StreamReport
from bytemini_cameras.pairing import Pairing

LOOK = 0.1
"""Longest time in seconds for which the thread does not look whether it is to end."""


@dataclass(frozen=True)
class Sinks:
    """Where a mount's frames go; called in its thread.

    `opened` with the calibration of a camera that was just opened, `colour` with stamp (nanoseconds, host) and pixels,
    `depth` with the stamp of the colour frame that the depth belongs to and the aligned pixels, `problem` with a
    sentence for the log.
    """

    opened: Callable[[Calibration], None]
    colour: Callable[[int, memoryview], None]
    depth: Callable[[int, memoryview], None]
    problem: Callable[[str], None]


class Mount:
    """Keeps the camera of one mount streaming until it is stopped."""

    def __init__(
        self, serial: str, settings: StreamSettings, find: Find, host_time: Callable[[], int], sinks: Sinks
    ) -> None:
        """Prepare; `start` begins.

        Args:
            serial: of the camera on this mount.
            settings: what it should deliver.
            find: looks for a camera by its serial number.
            host_time: nanoseconds of the clock that stamps are wanted in.
            sinks: where frames go.
        """
        self.serial = serial
        self.link = Link()
        self._clock = ClockMap()
        self._settings, self._find, self._host_time, self._sinks = settings, find, host_time, sinks
        self._monitors = {
            depth: StreamMonitor(settings.width, settings.height, ENCODINGS["16UC1" if depth else "rgb8"])
            for depth in ((False, True) if settings.depth else (False,))
        }
        self._pairing: Pairing[tuple[int, Frame], Frame] = Pairing(NANOSECONDS // settings.rate // 2)
        self._good: float | None = None
        self._trouble = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera {serial}", daemon=True)

    def start(self) -> None:
        """Begin to look for the camera."""
        self._thread.start()

    def stop(self) -> None:
        """Close the camera and end the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def drift(self) -> float:
        """Seconds that the host's clock gains on the camera's, per second."""
        return self._clock.drift

    def silence(self, now: float) -> float:
        """Seconds since the last good picture at `now` (s, monotonic); 0 before the first."""
        return 0.0 if self._good is None else now - self._good

    def reports(self) -> tuple[StreamReport, StreamReport | None]:
        """The accounts of colour and, where wanted, depth."""
        now = time.monotonic()
        depth = self._monitors.get(True)
        return self._monitors[False].report(now), depth.report(now) if depth else None

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self.link.due(time.monotonic()):
                self._stop.wait(min(self.link.wait(time.monotonic()), LOOK))
                continue
            try:
                self._stream()
            except DeviceError as error:
                repeated = str(error) == self.link.reason
                self.link.lost(time.monotonic(), str(error))
                if not repeated:
                    self._sinks.problem(str(error))

    def _stream(self) -> None:
        """Open the camera and read it until it is lost or the thread is to end.

        Raises:
            DeviceError: there is no such camera, or it was lost.
        """
        device = self._find(self.serial)
        if device is None:
            raise DeviceError(f"no camera with serial number {self.serial} is connected: check its cable and power")
        with Camera(device, self._settings) as camera:
            self._clock.reset()
            self._pairing.clear()
            for monitor in self._monitors.values():
                monitor.begin()
            self._sinks.opened(camera.calibration)
            self.link.opened(time.monotonic())
            while not self._stop.is_set():
                frame = camera.read(LOOK)
                now = time.monotonic()
                if frame is not None:
                    self._take(camera, frame, now)
                if self.link.stalled(now):
                    why = f" ({self._trouble})" if self._trouble else ""
                    raise DeviceError(
                        f"camera {self.serial} has sent no good frame for a second{why}: it is opened anew"
                    )

    def _take(self, camera: Camera, frame: Frame, now: float) -> None:
        arrival = self._host_time()
        monitor = self._monitors[frame.depth]
        pixels = frame.pixels()
        refused = monitor.refuse(frame.number, frame.stamp, frame.shape)
        if not refused and not frame.depth:  # depth of what is too near or far is 0 all over
            refused = monitor.still(now, pixels)
        if refused or not frame.depth:
            self._trouble = refused
        if refused:
            self._sinks.problem(refused)
            return
        if not frame.depth:
            if self.link.state is LinkState.OPENED:
                self._sinks.problem("")
            self.link.frame(now)
            self._good = now
            stamp = min(frame.stamp, arrival) if frame.host_clock else self._clock.map(frame.stamp, arrival)
            monitor.arrived(now, (arrival - stamp) / NANOSECONDS)
            self._sinks.colour(stamp, pixels)
            pair = self._pairing.colour(frame.stamp, (stamp, frame)) if True in self._monitors else None
        else:
            monitor.arrived(now, float("nan"))
            pair = self._pairing.depth(frame.stamp, frame)
        if pair is not None:
            (stamp, colour), depth = pair
            self._sinks.depth(stamp, camera.align(depth, colour))
