"""Flight recorder: keeps the last minute of everything in memory and writes it down when something goes wrong.

It also keeps the run's folder: parameters and versions of the nodes, and their log. What counts as a fault is what the
page shows as one (`dashboard`). Service `flight_recorder/save` writes the last minute on request.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bytemini_core.bag import BagWriter, TopicQos
from bytemini_core.diagnostics import Health, Level, Reporter
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import LATCHED_QOS
from bytemini_core.types import CAMERAS, SIDES
from bytemini_core.watchdog import HOLDING
from bytemini_core.watchdog import TOPIC as ALIVE
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped, WrenchStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Log
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Bool, Header
from std_srvs.srv import Trigger

from bytemini_msgs.msg import (
    ActionChunk,
    ChunkReport,
    JointCommand,
    PowerState,
    StopCircuit,
    TaskStatus,
    WbcStatus,
    WholeBodyReference,
)
from bytemini_panel.dashboard import Dashboard, Fault
from bytemini_panel.pictures import PictureMaker
from bytemini_panel.ring import Record, Ring
from bytemini_panel.run_folder import RunFolder, this_run

TAIL = 2.0
"""Seconds that are still recorded after a fault."""

PICTURE_RATE = 5.0
"""Pictures per second and camera that are kept, as JPEG: raw ones would be gigabytes."""

LOG = "/rosout"
"""What the nodes say."""

LATCHED: dict[str, type] = {"wbc/mode": WbcStatus, "estop": Bool, HOLDING: Bool}

TOPICS: dict[str, type] = {
    "joint_states": JointState,
    "odom": Odometry,
    "joint_command": JointCommand,
    "cmd_vel": TwistStamped,
    "wbc/reference": WholeBodyReference,
    "wbc/status": WbcStatus,
    "policy/action_chunk": ActionChunk,
    "policy/task_status": TaskStatus,
    "trajectory/chunk_report": ChunkReport,
    **{f"wrench/{side}": WrenchStamped for side in SIDES},
    "power": PowerState,
    "stop_circuit": StopCircuit,
    ALIVE: Header,
    **LATCHED,
    "/diagnostics": DiagnosticArray,
    LOG: Log,
}
"""What is recorded beside the pictures."""

_RECORDED_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
_LOG_QOS = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""As the nodes offer it: no line is lost, and those of the seconds before the recorder was up are heard too."""

_LEVELS = {10: "debug", 20: "info", 30: "warn", 40: "error", 50: "fatal"}


class FlightRecorder(Node):  # type: ignore[misc]
    """Remembers, and writes down on faults."""

    def __init__(self) -> None:
        """Make the run's folder and start to listen.

        Raises:
            ValueError: a parameter is wrong, or the folder cannot be written.
        """
        super().__init__("flight_recorder")
        out = parameter(self, "out", "runs", "folder that the run's folder is made in")
        seconds = parameter(self, "seconds", 60.0, "s that are remembered", bounds=(1.0, 600.0))
        megabytes = parameter(self, "megabytes", 512, "MB that may be remembered", bounds=(16, 16384))
        self._most = parameter(self, "recordings", 20, "faults of one run that are written", bounds=(1, 1000))
        self._folder = RunFolder(Path(out).expanduser().absolute(), this_run())
        self._ring = Ring(seconds, megabytes * 2**20)
        self._lock = threading.Lock()
        self._dashboard = Dashboard((), self.get_namespace(), on_fault=self._on_fault)
        self._reasons: list[Fault] = []
        self._due = 0.0
        self._written = 0
        self._writer: threading.Thread | None = None
        self._problem = ""
        self._known: set[str] = set()
        self._types: dict[str, tuple[type, TopicQos]] = {}
        for topic, kind in TOPICS.items():
            self._listen(topic, kind)
        self._pictures = PictureMaker(CAMERAS, PICTURE_RATE, self._on_picture)
        for camera in CAMERAS:
            topic = f"camera/{camera}/color/image_raw"
            self._types[f"{self.resolve_topic_name(topic)}/compressed"] = (CompressedImage, TopicQos("best_effort"))
            self.create_subscription(
                Image, topic, lambda cdr, c=camera: self._pictures.add(c, cdr), _RECORDED_QOS, raw=True
            )
        self.create_service(Trigger, "flight_recorder/save", self._on_save)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.5, self._watch, clock=steady)
        self.create_timer(2.0, self._look_for_nodes, clock=steady)
        self._reporter = Reporter(self, self._report)
        self._folder.describe([])
        self.get_logger().info(f"run {self._folder.run} is kept in {self._folder.path}")

    def destroy_node(self) -> None:
        """Write what is still due, and end the threads."""
        self._pictures.stop()
        if self._reasons and self._writer is None:
            self._write()
        if self._writer is not None:
            self._writer.join()
        self._folder.close()
        super().destroy_node()

    # What is remembered

    def _listen(self, topic: str, kind: type) -> None:
        latched = topic in LATCHED
        name = self.resolve_topic_name(topic)
        qos = TopicQos("reliable", "transient_local", 1) if latched else TopicQos("reliable", depth=10)
        self._types[name] = (kind, qos)
        judge = {"wbc/mode": self._on_mode, "/diagnostics": self._on_diagnostics, LOG: self._on_log}.get(topic)

        def hear(cdr: bytes) -> None:
            self._remember(name, cdr)
            if judge is not None:
                judge(deserialize_message(cdr, kind))

        heard = LATCHED_QOS if latched else _LOG_QOS if topic == LOG else _RECORDED_QOS
        self.create_subscription(kind, topic, hear, heard, raw=True)

    def _remember(self, topic: str, cdr: bytes) -> None:
        with self._lock:
            self._ring.add(Record(topic, bytes(cdr), time.monotonic(), time.time_ns()))

    def _on_picture(self, camera: str, image: Image, jpeg: bytes) -> None:
        message = CompressedImage(header=image.header, format="rgb8; jpeg compressed rgb8", data=jpeg)
        topic = f"{self.resolve_topic_name(f'camera/{camera}/color/image_raw')}/compressed"
        self._remember(topic, serialize_message(message))

    # What goes wrong

    def _on_mode(self, message: WbcStatus) -> None:
        self._dashboard.heard_mode(time.monotonic(), time.time(), message.mode, message.reason)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        now, wall = time.monotonic(), time.time()
        for status in message.status:
            self._dashboard.heard_node(now, wall, status.name, status.level[0], status.message, {})

    def _on_log(self, message: Log) -> None:
        stamp = message.stamp.sec + message.stamp.nanosec * 1e-9
        self._folder.log(stamp, _LEVELS.get(message.level, str(message.level)), message.name, message.msg)
        if message.name != self.get_logger().name:  # what this node complains of is no reason to record again
            self._dashboard.heard_log(time.time(), message.level, message.name, message.msg)

    def _on_fault(self, fault: Fault) -> None:
        if not self._reasons:
            self._due = time.monotonic() + TAIL
        self._reasons.append(fault)

    def _on_save(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._dashboard.fault(time.time(), "operator", Level.OK, "asked for")
        response.success = not self._full()
        response.message = (
            f"the last minute is being written below {self._folder.path / 'faults'}"
            if response.success
            else f"{self._most} recordings of this run are written already: none is added"
        )
        return response

    def _full(self) -> bool:
        return bool(self._written >= self._most)

    def _watch(self) -> None:
        now = time.monotonic()
        self._dashboard.watch(now, time.time())
        if self._writer is not None and not self._writer.is_alive():
            self._writer = None
        if self._reasons and now >= self._due and self._writer is None:
            self._write()

    def _write(self) -> None:
        reasons, self._reasons = self._reasons, []
        if self._full():
            self._problem = f"{self._most} recordings of this run are written: later faults are only logged"
            return
        with self._lock:
            records = self._ring.records()
        try:
            folder = self._folder.fault(reasons[0].text)
        except OSError as error:
            self._problem = str(error)
            self.get_logger().error(str(error), throttle_duration_sec=60)
            return
        self._written += 1
        self._writer = threading.Thread(target=self._save, args=(folder, records, reasons), name="recording")
        self._writer.start()

    def _save(self, folder: Path, records: list[Record], reasons: list[Fault]) -> None:
        """Write one recording; in a thread of its own."""
        try:
            with BagWriter(folder) as bag:
                for topic in sorted({record.topic for record in records}):
                    kind, qos = self._types[topic]
                    bag.register(topic, _type_name(kind), qos=qos)
                for record in records:
                    bag.write(record.topic, record.data, record.stamp)
            story = {
                "run": self._folder.run,
                "reasons": [{"source": r.source, "text": r.text, "fix": r.fix, "wall": r.wall} for r in reasons],
                "messages": len(records),
            }
            (folder / "fault.json").write_text(json.dumps(story, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            self._problem = f"a recording could not be written: {error}"
            self.get_logger().error(self._problem)
            return
        self._problem = ""
        self.get_logger().info(f"recorded '{reasons[0].text}' in {folder}")

    # The run's folder

    def _look_for_nodes(self) -> None:
        names = {f"{space.rstrip('/')}/{name}" for name, space in self.get_node_names_and_namespaces()}
        names = {name for name in names if not name.rpartition("/")[2].startswith("_")}
        if new := names - self._known:
            self._known |= new
            self._folder.describe(sorted(self._known))
            for name in new:
                self._ask_parameters(name)

    def _ask_parameters(self, name: str) -> None:
        client = AsyncParameterClient(self, name)
        if not client.services_are_ready():
            self._known.discard(name)  # ask again: its services are not found yet
            return

        def listed(future: Future) -> None:
            asked = list(future.result().result.names)
            client.get_parameters(asked).add_done_callback(lambda answer: got(asked, answer))

        def got(asked: list[str], future: Future) -> None:
            values: dict[str, Any] = {
                key: _plain(parameter_value_to_python(value))
                for key, value in zip(asked, future.result().values, strict=True)
            }
            self._folder.parameters(name, values)

        client.list_parameters([], 10).add_done_callback(listed)

    def _report(self) -> dict[str, Health]:
        values = {
            "run": self._folder.run,
            "remembered_mb": self._ring.size / 2**20,
            "recordings": self._written,
        }
        return {"": Health(Level.WARN if self._problem else Level.OK, self._problem, values)}


def _type_name(kind: type) -> str:
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"


def _plain(value: Any) -> Any:
    """A parameter's value as YAML has it."""
    return value.tolist() if hasattr(value, "tolist") else list(value) if isinstance(value, tuple) else value


def main() -> int:
    """Console entry."""
    return run_node(FlightRecorder)


if __name__ == "__main__":
    sys.exit(main())
