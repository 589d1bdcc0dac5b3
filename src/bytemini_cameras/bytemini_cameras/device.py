"""One RealSense camera through pyrealsense2: the same calls for a real one and for `pyrealsense2.software_device`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyrealsense2 as rs
from bytemini_core.types import NANOSECONDS

from bytemini_cameras.frames import Calibration

Find = Callable[[str], "rs.device | None"]
"""Gives the connected camera with a serial number, or None."""

MILLIMETRE = 0.001
_QUEUE = 8
_MILLISECOND = NANOSECONDS // 1000

_DISTORTIONS = {
    rs.distortion.kannala_brandt4: "equidistant",
    rs.distortion.ftheta: "equidistant",
}


class DeviceError(RuntimeError):
    """A camera is not there, does not offer what is asked, or went away; the message says which and what to do."""


@dataclass(frozen=True)
class StreamSettings:
    """Size and rate of both streams of a camera, and whether depth is wanted."""

    width: int
    height: int
    rate: int
    depth: bool


@dataclass(frozen=True)
class Frame:
    """A frame as the camera delivers it. `stamp` is in nanoseconds: of the camera's own clock, or of the host's."""

    depth: bool
    stamp: int
    host_clock: bool
    number: int
    shape: tuple[int, int, int]
    handle: rs.video_frame

    def pixels(self) -> memoryview:
        """The camera's own memory, valid as long as the frame is."""
        return memoryview(self.handle.get_data())


def connected(context: rs.context) -> dict[str, rs.device]:
    """The cameras that are plugged in, by serial number."""
    found = {}
    for device in context.query_devices():
        if device.supports(rs.camera_info.serial_number):
            found[device.get_info(rs.camera_info.serial_number)] = device
    return found


def finder() -> Find:
    """Looks among the cameras that are plugged in to this machine."""
    context = rs.context()

    def find(serial: str) -> rs.device | None:
        return connected(context).get(serial)

    return find


class Camera:
    """A camera that is open and delivers frames; a context manager that closes it."""

    def __init__(self, device: rs.device, settings: StreamSettings) -> None:
        """Open the streams and start.

        Raises:
            DeviceError: the camera does not offer them, or refuses.
        """
        self._queue = rs.frame_queue(_QUEUE, True)
        self._running: list[rs.sensor] = []
        self._depth_units = MILLIMETRE
        wanted = [(rs.stream.color, rs.format.rgb8), *([(rs.stream.depth, rs.format.z16)] if settings.depth else [])]
        chosen: dict[int, list[Any]] = {}
        sensors = device.query_sensors()
        for stream, format_ in wanted:
            index, profile = _choose(sensors, stream, format_, settings)
            chosen.setdefault(index, []).append(profile)
            if stream == rs.stream.color:
                self.calibration = _calibration(profile.get_intrinsics())
        try:
            for index, profiles in chosen.items():
                sensor = sensors[index]
                _prepare(sensor)
                sensor.open(profiles)
                self._running.append(sensor)
                sensor.start(self._queue)
        except RuntimeError as error:
            self.close()
            raise DeviceError(f"the camera refuses to start: {error}") from error
        self._align = rs.align(rs.stream.color)
        self._pair: list[rs.frame] = []
        self._composed = rs.frame_queue(1)
        self._compose = rs.processing_block(
            lambda _, source: source.frame_ready(source.allocate_composite_frame(self._pair))
        )
        self._compose.start(self._composed)

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, timeout: float) -> Frame | None:
        """The next frame of either stream, or None when none came within `timeout` seconds.

        Raises:
            DeviceError: the camera went away.
        """
        try:
            came, frame = self._queue.try_wait_for_frame(round(timeout * 1000))
            if not came:
                return None
            frame = frame.as_video_frame()
            stream = frame.profile.stream_type()
            return Frame(
                depth=stream == rs.stream.depth,
                stamp=round(frame.get_timestamp() * _MILLISECOND),
                host_clock=frame.get_frame_timestamp_domain() != rs.timestamp_domain.hardware_clock,
                number=frame.get_frame_number(),
                shape=(frame.get_width(), frame.get_height(), frame.get_height() * frame.get_stride_in_bytes()),
                handle=frame,
            )
        except RuntimeError as error:
            raise DeviceError(f"the camera went away: {error}") from error

    def align(self, depth: Frame, colour: Frame) -> memoryview:
        """The depth frame seen from the colour camera: uint16 millimetres, 0 where nothing is known.

        Raises:
            DeviceError: librealsense could not align them.
        """
        try:
            self._pair[:] = [depth.handle, colour.handle]
            self._compose.invoke(depth.handle)
            came, frames = self._composed.try_wait_for_frame(1000)
            if not came:
                raise DeviceError("depth and colour could not be joined")
            aligned = self._align.process(frames.as_frameset()).get_depth_frame()
            units = aligned.get_units()
        except RuntimeError as error:
            raise DeviceError(f"depth could not be aligned: {error}") from error
        finally:
            self._pair.clear()
        data = aligned.get_data()
        if abs(units - MILLIMETRE) < 1e-6 * MILLIMETRE + 1e-9:
            return memoryview(data)
        scaled = np.asanyarray(data) * np.float32(units / MILLIMETRE)
        return memoryview(np.clip(np.rint(scaled), 0, 65535).astype(np.uint16))

    def close(self) -> None:
        """Stop and close; a camera that is gone already is closed too."""
        for sensor in self._running:
            for action in (sensor.stop, sensor.close):
                try:
                    action()
                except RuntimeError:  # unplugged: there is nothing left to stop
                    continue
        self._running.clear()


def _prepare(sensor: rs.sensor) -> None:
    """Own stamps instead of librealsense's estimate, and depth in millimetres, where the camera can."""
    for option, value in ((rs.option.global_time_enabled, 0.0), (rs.option.depth_units, MILLIMETRE)):
        if sensor.supports(option) and not sensor.is_option_read_only(option):
            sensor.set_option(option, value)


def _choose(sensors: list[rs.sensor], stream: Any, format_: Any, settings: StreamSettings) -> tuple[int, Any]:
    """Index of the sensor and the profile that has the wanted stream."""
    offered = set()
    for index, sensor in enumerate(sensors):
        for profile in sensor.get_stream_profiles():
            if profile.stream_type() != stream or not profile.is_video_stream_profile():
                continue
            video = profile.as_video_stream_profile()
            if profile.format() == format_:
                if (video.width(), video.height(), profile.fps()) == (settings.width, settings.height, settings.rate):
                    return index, video
                offered.add((video.width(), video.height(), profile.fps()))
    listed = ", ".join(f"{w}x{h} at {rate} Hz" for w, h, rate in sorted(offered)) or "none of that kind"
    raise DeviceError(
        f"no {stream.name} stream of {settings.width}x{settings.height} at {settings.rate} Hz; "
        f"the camera offers {listed}"
    )


def _calibration(intrinsics: Any) -> Calibration:
    model = _DISTORTIONS.get(intrinsics.model, "plumb_bob")
    distortion = tuple(float(value) for value in intrinsics.coeffs)
    return Calibration(
        width=intrinsics.width,
        height=intrinsics.height,
        matrix=(intrinsics.fx, intrinsics.fy, intrinsics.ppx, intrinsics.ppy),
        distortion=distortion[:4] if model == "equidistant" else distortion,
        model=model,
    )
