"""Messages of a stack that is not there: for tests of the recorder and for killing it at random moments."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from bytemini_core.ros import (
    base_twist_message,
    image_message,
    joint_command_message,
    joint_state_message,
    odometry_message,
    wbc_status_message,
)
from bytemini_core.types import CAMERAS, NANOSECONDS, Array, JointCommand, Mode, RobotState, WbcStatus
from bytemini_description.robot import RobotModel
from rclpy.serialization import serialize_message

from bytemini_data.camera_player import mark, scene
from bytemini_data.recorder.topics import COMMAND, IMAGE_TOPICS, JOINTS, MODE, ODOMETRY, TWIST

TICK = 5_000_000
"""Nanoseconds of a control tick."""


def swing(robot: RobotModel, seconds: float) -> Array:
    """(19,) a posture that moves smoothly."""
    arms = np.array(["shoulder" in name or "elbow" in name for name in robot.joint_names])
    return np.asarray(robot.home + 0.1 * np.sin(2 * np.pi * seconds / 4.0) * arms)


def messages(
    robot: RobotModel, seconds: float, start: int, rate: int = 30, size: tuple[int, int] = (48, 64)
) -> Iterator[tuple[str, bytes, int]]:
    """(topic, CDR, stamp in ns) in order of their stamps: cameras at `rate`, state and commands at 200 Hz.

    Args:
        robot: whose joints.
        seconds: how long.
        start: stamp of the first, ns.
        rate: pictures per second.
        size: (height, width) of pictures, which are marked with their number.
    """
    shown = 0
    pictures = [[scene(*size, frame, camera) for frame in range(8)] for camera in range(len(CAMERAS))]
    zero = np.zeros(len(robot.joint_names))
    for tick in range(round(seconds * NANOSECONDS / TICK)):
        stamp = start + tick * TICK
        now, after = swing(robot, tick * 0.005), swing(robot, tick * 0.005 + 0.005)
        velocity = (after - now) / 0.005
        base, twist = np.array([tick * 0.0005, 0.0, 0.0]), np.array([0.1, 0.0, 0.0])
        state = RobotState(stamp, robot.joint_names, now, velocity, zero, base, twist)
        command = JointCommand(stamp, robot.joint_names, after, velocity, zero, zero, zero, twist)
        for topic, message in (
            (ODOMETRY, odometry_message(state)),
            (JOINTS, joint_state_message(state)),
            (COMMAND, joint_command_message(command)),
            (TWIST, base_twist_message(command)),
            (MODE, wbc_status_message(WbcStatus(stamp, Mode.TELEOP))),
        ):
            yield topic, bytes(serialize_message(message)), stamp
        while shown * NANOSECONDS / rate <= (tick + 1) * TICK - 1 and shown / rate < seconds:
            for i, camera in enumerate(CAMERAS):
                picture = pictures[i][shown % 8].copy()
                mark(picture, shown)
                taken = start + round(shown * NANOSECONDS / rate)
                message = image_message(picture, taken, f"{camera}_camera_optical_frame")
                yield IMAGE_TOPICS[camera], bytes(serialize_message(message)), taken
            shown += 1
