"""What a person shows, on the topics that the recorder takes: `human/hands` and the head camera's pictures."""

from __future__ import annotations

import io
import time

import numpy as np
from bytemini_core.ros import SENSOR_QOS, image_message, to_time
from bytemini_core.types import Array
from geometry_msgs.msg import Pose, PoseArray
from PIL import Image as Picture
from rclpy.node import Node
from sensor_msgs.msg import Image

from teleop_vr.person import HeadsetPicture, poses_of
from teleop_vr.protocol import HeadsetFrame, Refused

SPACE, CAMERA = "headset_floor", "head_camera_optical_frame"


class PersonTopics:
    """A `Person` that publishes. Thread-safe: frames and pictures come in threads of their own."""

    def __init__(self, node: Node) -> None:
        self._clock = node.get_clock()
        self._hands = node.create_publisher(PoseArray, "human/hands", SENSOR_QOS)
        self._pictures = node.create_publisher(Image, "camera/head/color/image_raw", SENSOR_QOS)

    def moved(self, frame: HeadsetFrame, stamp: int) -> None:
        """Publish head camera, left and right hand; a quaternion of 0 for what is not seen."""
        message = PoseArray(poses=[_pose(pose) for pose in poses_of(frame)])
        message.header.frame_id, message.header.stamp = SPACE, to_time(self._ros(stamp))
        self._hands.publish(message)

    def saw(self, picture: HeadsetPicture, stamp: int) -> None:
        """Publish a picture.

        Raises:
            Refused: it is no JPEG of the size that was said.
        """
        try:
            with Picture.open(io.BytesIO(picture.jpeg), formats=("JPEG",)) as opened:
                if opened.size != (picture.width, picture.height):
                    raise Refused("range", f"a picture is {opened.size}, said {picture.width, picture.height}")
                pixels = np.asarray(opened.convert("RGB"))
        except (OSError, Picture.DecompressionBombError) as error:
            raise Refused("picture", f"a picture is no JPEG: {error}") from None
        self._pictures.publish(image_message(pixels, self._ros(stamp), CAMERA))

    def _ros(self, stamp: int) -> int:
        return int(self._clock.now().nanoseconds) - (time.monotonic_ns() - stamp)


def _pose(pose: Array | None) -> Pose:
    message = Pose()
    x, y, z, qx, qy, qz, qw = (0.0,) * 7 if pose is None else pose.tolist()
    message.position.x, message.position.y, message.position.z = x, y, z
    turn = message.orientation
    turn.x, turn.y, turn.z, turn.w = qx, qy, qz, qw
    return message
