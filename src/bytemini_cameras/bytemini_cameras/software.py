"""Cameras without hardware: pyrealsense2.software_device behind the node's own way of finding cameras."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pyrealsense2 as rs

from bytemini_cameras.device import Find

WIDTH, HEIGHT, RATE = 640, 480, 30


class SoftwareCamera:
    """A RealSense of software with a colour and a stereo sensor, fed from a thread of its own.

    `frozen` and it sends the same picture for ever, under new stamps. `present` and it is found.

    Args:
        serial: its serial number.
        width: of its pictures. `small` frames are half as wide and high, of a profile that the node did not ask for.
        height: of its pictures.
        rate: Hz.
        units: metres of a step in depth.
        drift: s/s that its clock gains on the host's.
        epoch: s at which its clock starts.
    """

    def __init__(
        self,
        serial: str,
        width: int = WIDTH,
        height: int = HEIGHT,
        rate: int = RATE,
        units: float = 0.001,
        drift: float = 0.0,
        epoch: float = 100.0,
    ) -> None:
        self.serial, self.rate, self.units, self._drift, self._epoch = serial, rate, units, drift, epoch
        self.present, self.frozen = True, False
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.name, "Software RealSense")
        self.device.register_info(rs.camera_info.serial_number, serial)
        self._depth_sensor = self.device.add_sensor("Stereo Module")
        self._colour_sensor = self.device.add_sensor("RGB Camera")
        self._depth_sensor.add_read_only_option(rs.option.depth_units, units)
        self._uids = itertools.count()
        self._profiles = {}
        for small, (w, h) in ((False, (width, height)), (True, (width // 2, height // 2))):
            depth = self._depth_sensor.add_video_stream(
                self._stream(rs.stream.depth, rs.format.z16, 2, w, h), not small
            )
            colour = self._colour_sensor.add_video_stream(
                self._stream(rs.stream.color, rs.format.rgb8, 3, w, h), not small
            )
            here = rs.extrinsics()
            here.rotation, here.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
            depth.register_extrinsics_to(colour, here)
            self._profiles[small] = (depth, colour)
        self._sizes = {False: (width, height), True: (width // 2, height // 2)}
        self._number = self._shown = 0
        self._began = time.monotonic()
        self._thread: threading.Thread | None = None
        self._feeding = threading.Event()

    def _stream(
        self, kind: rs.stream, format_: rs.format, pixel_bytes: int, width: int, height: int
    ) -> rs.video_stream:
        lens = rs.intrinsics()
        lens.width, lens.height, lens.ppx, lens.ppy = width, height, width / 2 - 1.5, height / 2 + 2.5
        lens.fx, lens.fy, lens.model = 600.0, 601.0, rs.distortion.brown_conrady
        lens.coeffs = [0.1, -0.2, 0.0, 0.0, 0.05]
        stream = rs.video_stream()
        stream.type, stream.index, stream.uid, stream.fmt = kind, 0, next(self._uids), format_
        stream.width, stream.height, stream.fps, stream.bpp = width, height, self.rate, pixel_bytes
        stream.intrinsics = lens
        return stream

    def device_time(self) -> float:
        """Milliseconds of the camera's clock."""
        return 1e3 * (self._epoch + (time.monotonic() - self._began) * (1 + self._drift))

    def emit(
        self,
        value: int | None = None,
        *,
        small: bool = False,
        stamp: float | None = None,
        number: int | None = None,
        colour: bool = True,
        depth: bool = True,
    ) -> None:
        """Send one pair of frames: colour is `value`, depth 1000 + value millimetres."""
        number = self._number if number is None else number
        self._number = number + 1
        stamp = self.device_time() if stamp is None else stamp
        if not self.frozen:
            self._shown = number % 200
        value = self._shown if value is None else value
        width, height = self._sizes[small]
        far = np.full((height, width), round((1.0 + value * 0.001) / self.units), np.uint16)
        plain = np.full((height, width, 3), value, np.uint8)
        for wanted, sensor, profile, pixel_bytes, pixels in (
            (depth, self._depth_sensor, self._profiles[small][0], 2, far),
            (colour, self._colour_sensor, self._profiles[small][1], 3, plain),
        ):
            if wanted:
                frame = rs.software_video_frame()
                frame.pixels, frame.bpp, frame.stride = pixels, pixel_bytes, width * pixel_bytes
                frame.timestamp, frame.domain = stamp, rs.timestamp_domain.hardware_clock
                frame.frame_number, frame.profile = number, profile.as_video_stream_profile()
                if pixel_bytes == 2:
                    frame.depth_units = self.units
                sensor.on_video_frame(frame)

    def feed(self) -> None:
        """Send frames at the camera's rate until `starve`."""
        self._feeding.set()

        def run() -> None:
            due = time.monotonic()
            while self._feeding.is_set():
                self.emit()
                due += 1 / self.rate
                time.sleep(max(0.0, due - time.monotonic()))

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def starve(self) -> None:
        """Send no more."""
        self._feeding.clear()
        if self._thread is not None:
            self._thread.join()

    def unplug(self) -> None:
        """Starve, and be found no more."""
        self.starve()
        self.present = False

    def plug(self) -> None:
        """Be found again; the clock and the counter of the camera start again."""
        self._number, self._began, self.present = 0, time.monotonic(), True
        self.feed()


def finder(*cameras: SoftwareCamera) -> Find:
    """The node's `find` over these cameras."""
    return lambda serial: next((c.device for c in cameras if c.serial == serial and c.present), None)
