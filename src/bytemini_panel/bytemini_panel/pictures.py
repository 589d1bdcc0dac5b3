"""Pictures of the cameras for page and recorder: the newest of each, as JPEG, made in a thread of its own."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable

from bytemini_core.ros import image_array
from PIL import Image as Picture
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

WIDEST = 640
"""Pixels; wider pictures are made smaller ."""

QUALITY = 70


class PictureMaker:
    """Takes serialised images as they come and hands on the newest of each camera at a bounded rate."""

    def __init__(self, cameras: tuple[str, ...], rate: float, show: Callable[[str, Image, bytes], None]) -> None:
        """Begin.

        Args:
            cameras: their names.
            rate: pictures per second and camera, at most.
            show: takes a camera's name, its image and that as JPEG; called in the maker's thread.
        """
        self._period, self._show = 1.0 / rate, show
        self._newest: dict[str, bytes] = {}
        self._due = dict.fromkeys(cameras, 0.0)
        self._condition = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)
        self._thread.start()

    def add(self, camera: str, cdr: bytes) -> None:
        """Take a serialised sensor_msgs/Image."""
        with self._condition:
            if time.monotonic() >= self._due[camera]:
                self._newest[camera] = cdr
                self._condition.notify()

    def stop(self) -> None:
        """End the thread."""
        with self._condition:
            self._ended = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._ended or self._newest)
                if self._ended:
                    return
                camera, cdr = self._newest.popitem()
                # On a grid of its own: a camera that is a little slower than the bound loses no picture to it.
                now = time.monotonic()
                self._due[camera] = max(self._due[camera] + self._period, now - self._period)
            image = deserialize_message(cdr, Image)
            try:
                self._show(camera, image, jpeg(image))
            except ValueError:  # an encoding that is not a colour picture: nobody takes it for one
                continue


def jpeg(image: Image, quality: int = QUALITY) -> bytes:
    """A colour picture as JPEG, at most `WIDEST` pixels wide.

    Raises:
        ValueError: it is not rgb8, or its size does not fit its data.
    """
    picture = Picture.fromarray(image_array(image))
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()
