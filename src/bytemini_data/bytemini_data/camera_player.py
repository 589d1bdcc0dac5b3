"""A stand-in for three cameras, for benchmarks and tests: publishes pictures at a fixed rate, each with its number.

Software rendering cannot draw three 640 x 480 pictures thirty times a second beside everything else; what the recorder
has to do with a picture does not depend on where it comes from.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

import numpy as np
from bytemini_core.ros import SENSOR_QOS, image_message, to_time
from bytemini_core.types import CAMERAS, NANOSECONDS
from numpy.typing import NDArray

from bytemini_data.recorder.topics import IMAGE_TOPICS

POLL = 0.002
"""Seconds between two looks at the clock."""

BLOCK = 8
BITS = 20
"""The number of a picture stands in its first rows, one block of `BLOCK` pixels per bit, black or white."""


def mark(picture: NDArray[np.uint8], number: int) -> None:
    """Write a number into a picture, in place."""
    for bit in range(BITS):
        picture[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 if number >> bit & 1 else 0


def read_mark(picture: NDArray[np.uint8]) -> int:
    """The number in a picture that was marked, also after lossy compression."""
    bits = [picture[1 : BLOCK - 1, b * BLOCK + 1 : (b + 1) * BLOCK - 1].mean() > 127 for b in range(BITS)]
    return sum(1 << i for i, bit in enumerate(bits) if bit)


def scene(height: int, width: int, frame: int, camera: int) -> NDArray[np.uint8]:
    """A picture with edges, smooth parts and some noise that moves with the frame."""
    rows, columns = np.mgrid[0:height, 0:width]
    wave = 110 + 60 * np.sin((rows + 3 * frame) / 37) * np.cos((columns - 2 * frame) / 53 + camera)
    boxes = 50.0 * (((rows + 2 * frame) // 60 + (columns + frame) // 80) % 2)
    noise = np.random.default_rng([camera, frame]).normal(0, 3, (height, width))
    grey = wave + boxes + noise
    return np.stack([grey, grey * 0.8 + 20, 240 - grey], -1).clip(0, 255).astype(np.uint8)


def main(argv: list[str] | None = None) -> int:
    """Publish until SIGTERM or Ctrl-C; then tell in JSON how many pictures went out per camera, and which did not."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--out", type=Path, required=True, help="file for the counts")
    parser.add_argument("--sim-time", action="store_true", help="stamp by /clock")
    arguments = parser.parse_args(argv)
    import rclpy
    from bytemini_core.executor import StreamExecutor
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import Image

    rclpy.init()
    use = [Parameter("use_sim_time", value=arguments.sim_time)]
    node = rclpy.create_node("camera_player", parameter_overrides=use)
    executor = StreamExecutor()
    executor.add_node(node)
    publishers = {camera: node.create_publisher(Image, topic, SENSOR_QOS) for camera, topic in IMAGE_TOPICS.items()}
    height, width = arguments.size
    loop = 30
    pictures = {c: [scene(height, width, f, i) for f in range(loop)] for i, c in enumerate(CAMERAS)}
    messages = {c: [image_message(p, 0, f"{c}_camera_optical_frame") for p in each] for c, each in pictures.items()}
    stopped: list[int] = []
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: stopped.append(1))
    sent = number = due = 0
    late: list[int] = []
    period = round(NANOSECONDS / arguments.rate)
    while not stopped and rclpy.ok():
        executor.spin_once(timeout_sec=POLL)
        now = node.get_clock().now().nanoseconds
        if now < max(due, 1):
            continue
        # What cannot be sent in time is left out, number and all, as a camera does; a simulator's clock moves in steps.
        due = due or now
        left_out = (now - due) // period
        late += range(number, number + left_out)
        number += left_out
        taken = due + left_out * period
        due = taken + period
        for camera in CAMERAS:
            message = messages[camera][number % loop]
            marked = np.frombuffer(message.data, dtype=np.uint8).reshape(height, width, 3)
            mark(marked, number % (1 << BITS))
            message.header.stamp = to_time(taken)
            publishers[camera].publish(message)
        sent, number = sent + 1, number + 1
    arguments.out.write_text(json.dumps({"sent": sent, "late": late}), encoding="utf-8")
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
