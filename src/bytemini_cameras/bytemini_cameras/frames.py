"""Frames of a camera as serialised messages: the pixels are copied once, from the camera's memory into the message.

A message object would cost two copies more (into its array, and into the C structure that is then serialised). What
changes from frame to frame is the stamp and the pixels; everything in front of the pixels is serialised once by ROS
itself and patched.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bytemini_core.ros import to_time
from bytemini_core.types import NANOSECONDS
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

ENCODINGS = {"rgb8": 3, "16UC1": 2}
"""Bytes per pixel of the encodings that the cameras publish."""

_STAMP = struct.Struct("<iI")
_COUNT = struct.Struct("<I")
_AT = 4  # the encapsulation is in front of the stamp


@dataclass(frozen=True)
class Calibration:
    """A pinhole camera: `matrix` is fx, fy, cx, cy in pixels, `distortion` the coefficients of `model`."""

    width: int
    height: int
    matrix: tuple[float, float, float, float]
    distortion: tuple[float, ...] = (0.0,) * 5
    model: str = "plumb_bob"


class Template:
    """A serialised message whose stamp, and where it ends in bytes these too, are filled in for each frame."""

    def __init__(self, message: Image | CompressedImage | CameraInfo) -> None:
        """Take everything but stamp and data from `message`."""
        self._bytes = bytearray(serialize_message(message))
        # Fields are aligned to their size: an empty sequence of bytes at the end is its length, 0, and nothing else.
        self._head = len(self._bytes) - _COUNT.size

    def stamped(self, stamp: int) -> bytes:
        """The whole message with this stamp (nanoseconds)."""
        self._set(stamp)
        return bytes(self._bytes)

    def filled(self, stamp: int, data: memoryview | bytes) -> bytes:
        """The message with this stamp (nanoseconds) and this data, which must be contiguous."""
        self._set(stamp)
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        return b"".join((memoryview(self._bytes)[: self._head], _COUNT.pack(size), data))

    def _set(self, stamp: int) -> None:
        _STAMP.pack_into(self._bytes, _AT, *divmod(stamp, NANOSECONDS))


def image_template(width: int, height: int, encoding: str, frame: str) -> Template:
    """For sensor_msgs/Image.

    Raises:
        KeyError: an encoding that the cameras do not publish.
    """
    message = Image(width=width, height=height, encoding=encoding, step=width * ENCODINGS[encoding])
    message.header.frame_id = frame
    return Template(message)


def compressed_template(frame: str) -> Template:
    """For sensor_msgs/CompressedImage with JPEG, as image_transport names it."""
    message = CompressedImage(format="rgb8; jpeg compressed rgb8")
    message.header.frame_id = frame
    return Template(message)


def info_message(calibration: Calibration, frame: str, stamp: int = 0) -> CameraInfo:
    """The calibration as sensor_msgs/CameraInfo, of an image that is not rectified."""
    fx, fy, cx, cy = calibration.matrix
    info = CameraInfo(
        width=calibration.width,
        height=calibration.height,
        distortion_model=calibration.model,
        d=list(calibration.distortion),
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )
    info.header.frame_id = frame
    info.header.stamp = to_time(stamp)
    return info
