"""`./bytemini bench cameras`: what it costs to publish the pictures of three cameras."""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path
from typing import Any

from bytemini_core.domain import private_domain


def main(argv: list[str]) -> int:
    """Measure the publishing of three streams of colour and aligned depth, with cameras of software."""
    parser = argparse.ArgumentParser(prog="bytemini bench cameras", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to stream (default: 10)")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--rate", type=int, default=30)
    parser.add_argument("--listen", action=argparse.BooleanOptionalAction, default=True, help="have a subscriber")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args(argv)
    with private_domain():
        report = measure(options)
    for name in ("color", "depth"):
        cost = report[name]
        print(
            f"{name:>6}: {cost['median_ms']:.3f} ms a frame (p95 {cost['p95_ms']:.3f}), "
            f"{cost['processor_ms']:.3f} ms of it processor time, {cost['rate']:.1f} Hz on each of 3 cameras; "
            f"through a message object {cost['message_object_ms']:.3f} and {cost['message_object_processor_ms']:.3f} ms"
        )
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Publish synthetic frames through the mounts' publishers at the cameras' rate, and time each call."""
    import array

    import numpy as np
    import rclpy
    from bytemini_core.executor import StreamExecutor
    from bytemini_core.ros import SENSOR_QOS
    from bytemini_core.types import CAMERAS
    from sensor_msgs.msg import Image
    from tqdm import tqdm

    from bytemini_cameras.frames import Calibration
    from bytemini_cameras.node import CameraNode, MountPublisher

    serials = [word for name in CAMERAS for word in ("-p", f"{name}_serial:='{name}'")]
    sizes = {name: getattr(options, name) for name in ("width", "height", "rate")}
    rclpy.init(args=["--ros-args", *serials, *(w for n, v in sizes.items() for w in ("-p", f"{n}:={v}"))])
    node = CameraNode(lambda _: None)
    topics = [MountPublisher(node, name, node.settings) for name in CAMERAS]
    counts: dict[str, int] = {}
    listener = rclpy.create_node("listener", use_global_arguments=False)
    ended = threading.Event()
    executor = StreamExecutor()
    executor.add_node(listener)
    if options.listen:
        for name in CAMERAS:
            for topic in ("color/image_raw", "aligned_depth_to_color/image_raw"):
                path = f"camera/{name}/{topic}"
                listener.create_subscription(
                    Image, path, lambda _, p=path: counts.__setitem__(p, counts.get(p, 0) + 1), SENSOR_QOS, raw=True
                )

    def spin() -> None:
        while not ended.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    random = np.random.default_rng(0)
    colour = random.integers(0, 255, (options.height, options.width, 3), np.uint8)
    depth = random.integers(0, 5000, (options.height, options.width), np.uint16)
    calibration = Calibration(options.width, options.height, (600.0, 600.0, options.width / 2, options.height / 2))
    costs: dict[str, list[float]] = {"color": [], "depth": [], "color_object": [], "depth_object": []}
    processor: dict[str, list[float]] = {name: [] for name in costs}
    plain = node.create_publisher(Image, "plain", SENSOR_QOS)
    if options.listen:
        listener.create_subscription(Image, "plain", lambda _: None, SENSOR_QOS, raw=True)
    for one in topics:
        one.sinks().opened(calibration)
    time.sleep(1.0)  # publishers and subscribers find each other

    def timed(name: str, call: Any, *arguments: Any) -> None:
        started, busy = time.perf_counter(), time.thread_time()
        call(*arguments)
        costs[name].append(1e3 * (time.perf_counter() - started))
        processor[name].append(1e3 * (time.thread_time() - busy))

    def message_object(pixels: Any, encoding: str) -> None:
        message = Image(height=options.height, width=options.width, encoding=encoding, step=pixels.strides[0])
        message.data = array.array("B", pixels.tobytes())
        plain.publish(message)

    due = began = time.monotonic()
    frames = round(options.seconds * options.rate)
    for index in tqdm(range(frames), unit="frame", leave=False, disable=None):
        for one in topics:
            timed("color", one.sinks().colour, time.time_ns(), colour.data)
            timed("depth", one.sinks().depth, time.time_ns(), depth.data)
        if index % 3 == 0:
            timed("color_object", message_object, colour, "rgb8")
            timed("depth_object", message_object, depth, "16UC1")
        due += 1 / options.rate
        time.sleep(max(0.0, due - time.monotonic()))
    rate = frames / (time.monotonic() - began)
    time.sleep(0.2)
    ended.set()
    thread.join()
    node.destroy_node()
    listener.destroy_node()
    rclpy.try_shutdown()

    def summary(name: str) -> dict[str, float]:
        return {
            "median_ms": float(np.median(costs[name])),
            "p95_ms": float(np.percentile(costs[name], 95)),
            "processor_ms": float(np.median(processor[name])),
            "message_object_ms": float(np.median(costs[f"{name}_object"])),
            "message_object_processor_ms": float(np.median(processor[f"{name}_object"])),
            "rate": rate,
        }

    return {
        "width": options.width,
        "height": options.height,
        "frames": frames * len(topics),
        "received": counts,
        "color": summary("color"),
        "depth": summary("depth"),
    }
