"""Lifecycle node of the robot's RealSense cameras, on the very topics that the simulator publishes.

`configure` reads the parameters, `activate` starts one thread for each mount that has a serial number, `deactivate`
closes the cameras. A camera that is missing, unplugged or silent is looked for again and again while the others go on.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from bytemini_core.diagnostics import Health, Level, Meter, Reporter
from bytemini_core.lifecycle import ManagedNode
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import SENSOR_QOS
from bytemini_core.types import CAMERAS
from bytemini_core.watchdog import Beat
from PIL import Image as Picture
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from bytemini_cameras.device import Find, StreamSettings, finder
from bytemini_cameras.frames import Calibration, Template, compressed_template, image_template, info_message
from bytemini_cameras.link import LinkState
from bytemini_cameras.monitor import SLOW, StreamReport
from bytemini_cameras.mount import Mount, Sinks

FRESH = 0.3
"""Seconds after the last good picture of a camera, or three periods, from which on it counts as lost ..."""

LOST = 1.5
"""... and seconds for which the node then gives no sign of life: the robot is taken from its owner. Whoever takes it
again, without that camera, knows."""


@dataclass(frozen=True)
class CameraSettings:
    """What `configure` read: serial number by mount (those that have one), streams, and JPEG quality (0: no JPEG)."""

    serials: Mapping[str, str]
    streams: StreamSettings
    quality: int


class MountPublisher:
    """The topics of one mount; its methods are called in the mount's thread."""

    def __init__(self, node: CameraNode, mount: str, settings: CameraSettings) -> None:
        self._node, self._name = node, mount
        self._frame = f"{mount}_camera_optical_frame"
        streams, topic = settings.streams, f"camera/{mount}"
        self._size, self._quality = (streams.width, streams.height), settings.quality
        self._publishers: list[Publisher] = []
        self._colour_image = image_template(streams.width, streams.height, "rgb8", self._frame)
        self._depth_image = image_template(streams.width, streams.height, "16UC1", self._frame)
        self._jpeg = compressed_template(self._frame)
        self._info: Template | None = None
        self._colours = self._publisher(Image, f"{topic}/color/image_raw")
        self._infos = self._publisher(CameraInfo, f"{topic}/color/camera_info")
        self._depths = self._publisher(Image, f"{topic}/aligned_depth_to_color/image_raw") if streams.depth else None
        self._jpegs = (
            self._publisher(CompressedImage, f"{topic}/color/image_raw/compressed") if settings.quality else None
        )
        self.colour_cost, self.depth_cost = Meter(), Meter()

    def _publisher(self, kind: type, topic: str) -> Publisher:
        # No lifecycle publisher: the threads decide what is published, and run only while the node is active.
        publisher = self._node.create_publisher(kind, topic, SENSOR_QOS)
        self._publishers.append(publisher)
        return publisher

    def destroy(self) -> None:
        """Take the topics away."""
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)

    def sinks(self) -> Sinks:
        """What the mount's frames go to."""
        return Sinks(self._opened, self._colour, self._depth, self._problem)

    def _opened(self, calibration: Calibration) -> None:
        self._info = Template(info_message(calibration, self._frame))

    def _colour(self, stamp: int, pixels: memoryview) -> None:
        started = time.perf_counter()
        if self._info is not None:
            self._infos.publish(self._info.stamped(stamp))
        self._colours.publish(self._colour_image.filled(stamp, pixels))
        self.colour_cost.add(time.perf_counter() - started)
        if self._jpegs is not None and self._jpegs.get_subscription_count():
            self._jpegs.publish(self._jpeg.filled(stamp, jpeg(pixels, self._size, self._quality)))

    def _depth(self, stamp: int, pixels: memoryview) -> None:
        started = time.perf_counter()
        assert self._depths is not None
        self._depths.publish(self._depth_image.filled(stamp, pixels))
        self.depth_cost.add(time.perf_counter() - started)

    def _problem(self, reason: str) -> None:
        if reason:
            self._node.get_logger().warning(f"{self._name} camera: {reason}", throttle_duration_sec=1.0)
        else:
            self._node.get_logger().info(f"{self._name} camera: pictures are coming")


class CameraNode(ManagedNode):
    """Three cameras at most, by serial number."""

    def __init__(self, find: Find | None = None) -> None:
        """Declare parameters; nothing is opened yet.

        Args:
            find: looks for a camera by serial number; None for those plugged in to this machine.

        Raises:
            ValueError: a parameter is wrong.
        """
        super().__init__("cameras")
        self._find = find
        serials = {name: str(self._serial(name)) for name in CAMERAS}
        width = parameter(self, "width", 640, "width of the pictures, pixels", bounds=(16, 1920))
        height = parameter(self, "height", 480, "height of the pictures, pixels", bounds=(16, 1080))
        rate = parameter(self, "rate", 30, "pictures per second", bounds=(1, 90))
        depth = parameter(self, "depth", True, "also publish depth, aligned to colour")
        compressed = parameter(self, "compressed", False, "also publish colour as JPEG, for slow links")
        quality = parameter(self, "jpeg_quality", 85, "quality of the JPEGs", bounds=(1, 100))
        self.settings = CameraSettings(
            {name: serial for name, serial in serials.items() if serial},
            StreamSettings(width, height, rate, depth),
            quality if compressed else 0,
        )
        given = list(self.settings.serials.values())
        if len(set(given)) != len(given):
            raise ValueError(f"two mounts have the same camera: {self.settings.serials}")
        self._mounts: dict[str, Mount] = {}
        self._beat: Beat | None = None
        self.publishers_of: dict[str, MountPublisher] = {}
        """The topics by mount, while the node is configured."""
        self._lock = threading.Lock()
        self._reporter = Reporter(self, self._report)

    def _serial(self, mount: str) -> str:
        name = f"{mount}_serial"
        about = f"serial number of the {mount} camera as text (quoted in YAML), '' for no such camera"
        try:
            return str(parameter(self, name, "", about))
        except ValueError as error:
            # An unquoted serial number is an integer to YAML.
            raise ValueError(f"{error}; in YAML a serial number needs quotes: {name}: '...'") from error

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Make the topics; refused when no mount has a camera."""
        if not self.settings.serials:
            self.get_logger().error("no camera is named: set head_serial, left_wrist_serial or right_wrist_serial")
            return TransitionCallbackReturn.FAILURE
        if self._find is None:
            self._find = finder()
        for mount in self.settings.serials:
            self.publishers_of[mount] = MountPublisher(self, mount, self.settings)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to look for the cameras; those that are there stream at once."""
        assert self._find is not None
        with self._lock:
            for name, serial in self.settings.serials.items():
                mount = Mount(serial, self.settings.streams, self._find, self._now, self.publishers_of[name].sinks())
                self._mounts[name] = mount
                mount.start()
        self._beat = Beat(self, "cameras", self._well)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the cameras."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the topics away."""
        self._discard()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the cameras and take the topics away."""
        self._discard()
        return super().on_shutdown(state)

    def destroy_node(self) -> None:
        """Close the cameras first."""
        self._stop()
        super().destroy_node()

    def _discard(self) -> None:
        self._stop()
        for topics in self.publishers_of.values():
            topics.destroy()
        self.publishers_of.clear()

    def _stop(self) -> None:
        if self._beat is not None:
            self._beat.stop()
            self._beat = None
        with self._lock:
            for mount in self._mounts.values():
                mount.stop()
            self._mounts.clear()

    def _well(self) -> bool:
        """Whether no camera was lost just now."""
        now, fresh = time.monotonic(), max(FRESH, 3.0 / self.settings.streams.rate)
        with self._lock:
            return not any(fresh < mount.silence(now) < fresh + LOST for mount in self._mounts.values())

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    # Diagnostics

    def _report(self) -> dict[str, Health]:
        with self._lock:
            mounts = dict(self._mounts)
        if not mounts:
            return {"": Health(Level.STALE, "not active: activate the lifecycle node to open the cameras")}
        return {name: self._health(name, mount) for name, mount in mounts.items()}

    def _health(self, name: str, mount: Mount) -> Health:
        colour, depth = mount.reports()
        topics, rate = self.publishers_of[name], self.settings.streams.rate
        level, message = judge(mount.link.state, mount.link.reason, colour, depth, rate)
        values: dict[str, object] = {
            "serial": mount.serial,
            "state": mount.link.state.value,
            "color_rate": colour.rate,
            "latency_ms": 1e3 * colour.latency,
            "gap_ms": 1e3 * colour.gap,
            "publish_ms": 1e3 * topics.colour_cost.take()[1],
            "frames": colour.frames,
            "dropped": colour.dropped,
            "repeated": colour.repeated,
            "wrong_size": colour.misshapen,
            "frozen": colour.frozen,
            "connections": mount.link.connections,
            "drift_ppm": 1e6 * mount.drift,
        }
        if depth is not None:
            values |= {
                "depth_rate": depth.rate,
                "depth_publish_ms": 1e3 * topics.depth_cost.take()[1],
                "depth_dropped": depth.dropped,
                "depth_wrong_size": depth.misshapen,
            }
        return Health(level, message, values)


def judge(
    state: LinkState, reason: str, colour: StreamReport, depth: StreamReport | None, rate: int
) -> tuple[Level, str]:
    """How a camera is, in a level and a sentence ("" when it is well).

    Args:
        state: of its connection.
        reason: why it is not streaming.
        colour: account of its colour stream.
        depth: account of its depth stream, None where none is wanted.
        rate: Hz that were asked for.
    """
    if state is not LinkState.STREAMING:
        return Level.ERROR, reason
    for kind, report in (("colour", colour), ("depth", depth)):
        if report is not None and report.rate < SLOW * rate:
            advice = "check that the camera is on USB 3 and has light"
            return Level.WARN, f"{kind} comes at {report.rate:.1f} Hz instead of {rate}: {advice}"
    return Level.OK, ""


def jpeg(pixels: memoryview, size: tuple[int, int], quality: int) -> bytes:
    """RGB pixels as JPEG. `size` is (width, height)."""
    stream = io.BytesIO()
    picture = Picture.frombuffer("RGB", size, pixels, "raw", "RGB", 0, 1)  # type: ignore[arg-type]
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def start(find: Find | None = None) -> CameraNode:
    """Make the node, and where `autostart` says so configure and activate it.

    Args:
        find: looks for a camera by serial number; None for those plugged in to this machine.

    Raises:
        ValueError: a parameter is wrong, or it could not be activated.
    """
    node = CameraNode(find)
    if node.autostart:
        node.activate()
    return node


def closes(_: CameraNode) -> bool:
    """The node may end at once; it is asked so that the context outlives the threads that publish."""
    return True


def main() -> int:
    """Console entry."""
    return run_node(start, wind_down=closes)


if __name__ == "__main__":
    sys.exit(main())
