"""The MCAP of an episode: what crossed the wire, as a rosbag2 folder that `ros2 bag` plays and Foxglove opens."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from bytemini_core.bag import BagWriter
from bytemini_core.ros import image_array
from PIL import Image as Picture
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image

JPEG_QUALITY = 85


def write_bag(directory: Path, entries: Iterable[tuple[str, bytes, int]], types: Mapping[str, type]) -> None:
    """Write recorded messages, oldest first; pictures become JPEG, which is a tenth of their size.

    Args:
        directory: to create.
        entries: topic (without its leading slash), CDR, stamp in nanoseconds.
        types: message class of every topic that is not a picture's.
    """
    with BagWriter(directory) as bag:
        known: set[str] = set()
        for topic, cdr, stamp in sorted(entries, key=lambda entry: entry[2]):
            kind = types.get(topic, CompressedImage)
            name = f"/{topic}" if topic in types else f"/{topic}/compressed"
            if name not in known:
                known.add(name)
                bag.register(name, f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}")
            bag.write(name, cdr if topic in types else _jpeg(cdr), stamp)


def _jpeg(cdr: bytes) -> bytes:
    """A serialised sensor_msgs/Image as a serialised sensor_msgs/CompressedImage."""
    raw = deserialize_message(cdr, Image)
    stream = io.BytesIO()
    Picture.fromarray(image_array(raw)).save(stream, "JPEG", quality=JPEG_QUALITY)
    message = CompressedImage(header=raw.header, format="rgb8; jpeg compressed rgb8", data=stream.getvalue())
    return bytes(serialize_message(message))
