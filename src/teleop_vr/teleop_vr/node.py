"""ROS node of the teleoperation: between the headset's page and the whole-body controller.

It publishes `wbc/reference` as TELEOP, asks for modes through `wbc/set_mode`, latches `estop`, and passes the
operator's decisions to the recorder. Everything that decides is in `teleop_vr.session`; sockets and pictures are in
`teleop_vr.service`. References go out from the thread that took the headset's frame: no queue lies between.
"""

from __future__ import annotations

import dataclasses
import logging
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import (
    COMMAND_QOS,
    LATCHED_QOS,
    SENSOR_QOS,
    StateSubscription,
    image_array,
    reference_message,
    stamp_of,
)
from bytemini_core.types import CAMERAS, NANOSECONDS, SIDES, Mode, RobotState, WholeBodyReference
from bytemini_core.web import WebError, certificate, pairing_token
from bytemini_description.robot import VERSIONS, load_robot
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import WrenchStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Bool

from bytemini_msgs.msg import EpisodeStatus
from bytemini_msgs.msg import JointCommand as JointCommandMsg
from bytemini_msgs.msg import WbcStatus as WbcStatusMsg
from bytemini_msgs.msg import WholeBodyReference as WholeBodyReferenceMsg
from bytemini_msgs.srv import EpisodeCommand, SetMode
from teleop_vr import inputs
from teleop_vr.address import show
from teleop_vr.limiter import HandLimits
from teleop_vr.person_topics import PersonTopics
from teleop_vr.retarget import RetargetConfig
from teleop_vr.service import Service

SAMPLE = 0.04
"""Seconds between two looks at commands and status: they come at 200 Hz, and are read for people and for beginnings."""

_STAMP = struct.Struct("<iI")
"""A message's header begins with it, after the four bytes that name the encoding (CDR, little endian)."""

RECORDER_SILENCE = 3.0
"""Seconds without the recorder's status after which none is running."""


class TeleopNode(Node):
    """The service, with a robot that is reached over ROS."""

    def __init__(self) -> None:
        super().__init__("teleop_vr")
        # Both are the graph's business, not the session's; only real time makes sense here.
        version = parameter(self, "robot", "v1", "version of the robot", choices=VERSIONS)
        port = parameter(self, "port", 8443, "TCP port of page and sockets; 0 for any", bounds=(0, 65535))
        host = parameter(self, "host", "0.0.0.0", "address to listen at")
        token = parameter(self, "token", "", "pairing token; empty for the one kept in ~/.config/bytemini/web")
        toggle = parameter(self, "toggle", False, "both grips together engage, either lets go; else each is held")
        human = parameter(self, "human", False, "no robot: publish the operator's head, hands and camera")
        journal = parameter(self, "journal", "", "file (.jsonl.gz) that every input is written to, for replay")
        config = _config(self)
        self._states = 0
        self._newest = 0
        self._looked = dict.fromkeys(("command", "status"), 0.0)
        self._recorder_heard: float | None = None

        self._references = self.create_publisher(WholeBodyReferenceMsg, "wbc/reference", COMMAND_QOS)
        self._estop = self.create_publisher(Bool, "estop", LATCHED_QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._set_mode = self.create_client(SetMode, "wbc/set_mode")
        self._command = self.create_client(EpisodeCommand, "recorder/command")
        try:
            self.service = Service(
                load_robot(version),
                self,
                config,
                port=port,
                token=token or pairing_token(),
                tls=certificate(),
                toggle=toggle,
                host=host,
                journal=Path(journal) if journal else None,
                person=PersonTopics(self) if human else None,
            )
            self.service.start()
        except OSError as error:
            raise ValueError(f"parameter journal: cannot write {journal}: {error.strerror}") from error
        except WebError as error:
            raise RuntimeError(str(error)) from error
        logging.getLogger("bytemini").addHandler(_ToRos(self))
        show(self.service.server.url(), self.service.server.port)

        self.create_subscription(EpisodeStatus, "recorder/status", self._on_recorder, LATCHED_QOS)
        if not human:
            self._listen_to_robot()
        # Silence is watched by the machine's own clock: simulated time stands still when the simulator does.
        self.create_timer(1.0, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _listen_to_robot(self) -> None:
        self._subscription = StateSubscription(self, False, self._on_state, self._refuse)
        self.create_subscription(JointCommandMsg, "joint_command", self._on_command, COMMAND_QOS, raw=True)
        self.create_subscription(WbcStatusMsg, "wbc/status", self._on_status, 10, raw=True)
        self.create_subscription(WbcStatusMsg, "wbc/mode", self._on_mode, LATCHED_QOS)
        for side in SIDES:
            self.create_subscription(
                WrenchStamped, f"wrench/{side}", lambda m, s=side: self._on_wrench(s, m), SENSOR_QOS
            )
        for camera in CAMERAS:
            topic = f"camera/{camera}/color/image_raw"
            self.create_subscription(Image, topic, lambda m, c=camera: self._on_image(c, m), SENSOR_QOS)

    def destroy_node(self) -> None:
        """Ask the robot to hold, and close the sockets, before the node goes."""
        self.service.stop()
        super().destroy_node()

    # What the session decides (called in its threads)

    def lead(self, reference: WholeBodyReference) -> None:
        """Publish a reference."""
        self.service.reaction.led(time.monotonic(), self._newest)
        self._references.publish(reference_message(reference))

    def ask_mode(self, mode: Mode, reset: bool = False) -> None:
        """Ask the controller for a mode; the answer comes back as an input."""
        if not self._set_mode.service_is_ready():
            self.get_logger().error("wbc/set_mode does not answer: is wbc_controller running?", throttle_duration_sec=2)
            return
        future = self._set_mode.call_async(SetMode.Request(mode=mode.value, reset=reset))
        future.add_done_callback(lambda f: self._answered(f"mode {mode.value}", f, "success"))

    def stop(self, stopped: bool) -> None:
        """Latch or release the emergency stop."""
        self._estop.publish(Bool(data=stopped))

    def record(self, command: str, confirmed: bool, success: bool) -> None:
        """Command the recorder."""
        if not self._command.service_is_ready():
            self.get_logger().error("recorder/command does not answer: is the recorder running?")
            return
        request = EpisodeCommand.Request(
            command=command, operator_name=self.service.operator, confirmed=confirmed, success=success
        )
        self._command.call_async(request).add_done_callback(lambda f: self._answered(command, f, "ok"))

    def _answered(self, what: str, future: Any, flag: str) -> None:
        response = future.result()
        self.service.hear(inputs.Answered(what, bool(getattr(response, flag)), response.message))

    # What the robot says (called by the executor)

    def _refuse(self, reason: str) -> None:
        self.get_logger().warning(f"refused: {reason}", throttle_duration_sec=1.0)

    def _on_state(self, state: RobotState) -> None:
        self._states += 1
        self._newest = state.stamp
        self.service.hear(inputs.Measured(state))

    def _due(self, what: str) -> bool:
        now = time.monotonic()
        if now - self._looked[what] < SAMPLE:
            return False
        self._looked[what] = now
        return True

    def _on_command(self, cdr: bytes) -> None:
        seconds, nanoseconds = _STAMP.unpack_from(cdr, 4)
        self.service.reaction.commanded(time.monotonic(), seconds * NANOSECONDS + nanoseconds)
        if self._due("command"):
            message = deserialize_message(cdr, JointCommandMsg)
            position = np.array(message.position)
            if len(position) == len(message.names) and np.isfinite(position).all():
                self.service.hear(inputs.Commanded(tuple(message.names), position))

    def _on_status(self, cdr: bytes) -> None:
        if self._due("status"):
            self._on_mode(deserialize_message(cdr, WbcStatusMsg))

    def _on_mode(self, message: WbcStatusMsg) -> None:
        try:
            mode = Mode(message.mode)
        except ValueError:
            self._refuse(f"wbc/status has mode {message.mode!r}")
            return
        self.service.hear(inputs.Controller(mode, message.reason, tuple(message.active), tuple(message.sacrificed)))

    def _on_recorder(self, m: EpisodeStatus) -> None:
        self._recorder_heard = time.monotonic()
        self.service.hear(
            inputs.Recorder(
                state=m.state,
                index=m.episode,
                saved=m.saved,
                countdown=m.countdown,
                duration=m.duration,
                task=m.task,
                scene_card=m.scene_card,
                quality=m.quality,
                warnings=tuple(m.warnings),
                dataset=m.dataset,
            )
        )

    def _on_wrench(self, side: str, message: WrenchStamped) -> None:
        f = message.wrench.force
        newton = float(np.sqrt(f.x * f.x + f.y * f.y + f.z * f.z))
        if np.isfinite(newton):
            self.service.hear(inputs.Force(side, newton))

    def _on_image(self, camera: str, message: Image) -> None:
        try:
            image = image_array(message)
        except ValueError as error:
            self._refuse(f"picture of {camera}: {error}")
            return
        # How old the picture is, by the robot's own clock alone: it is stamped as the states are.
        age = min(max((self._newest - stamp_of(message)) / NANOSECONDS, 0.0), 10.0)
        self.service.see(camera, image, time.monotonic() - age)

    def _watch(self) -> None:
        heard = self._recorder_heard
        if heard is not None and time.monotonic() - heard > RECORDER_SILENCE:
            self._recorder_heard = None
            self.service.hear(inputs.Recorder())
        self._diagnose()

    def _diagnose(self) -> None:
        states, self._states = self._states, 0
        view = self.service.view(0)
        warnings = "; ".join(w["text"] for w in view["warnings"])
        entry = DiagnosticStatus(name="teleop_vr", hardware_id="bytemini", message=warnings)
        entry.level = DiagnosticStatus.WARN if warnings else DiagnosticStatus.OK
        values = {
            "session": view["session"],
            "operator": view["operator"],
            "states_per_second": states,
            "frames": view["counters"]["frames"],
            "rejected": sum(view["counters"]["rejected"].values()),
            **{key: value for key, value in view["latency"].items() if isinstance(value, int | float)},
        }
        for stage, figures in self.service.stages.summary().items():
            values |= {f"{stage}_{name}_ms": value for name, value in figures.items()}
        entry.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        message = DiagnosticArray(status=[entry])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _config(node: Node) -> RetargetConfig:
    """The retargeting's parameters, each a parameter of the node with its own name."""
    default = RetargetConfig()
    scale = parameter(node, "scale", default.scale, "robot's hand travel per operator's", bounds=(0.1, 3.0))
    speeds = {
        name: parameter(node, name, value, "at full stick, m/s or rad/s", bounds=(0.01, 2.0))
        for name, value in zip(("base_x", "base_y", "base_yaw"), default.base_speed, strict=True)
    }
    numbers = {
        name: parameter(node, name, getattr(default, name), text, bounds=bounds)
        for name, text, bounds in (
            ("lift_speed", "m/s at full stick", (0.01, 0.12)),
            ("head_speed", "rad/s", (0.1, 3.0)),
            ("reach", "m from shoulder to hand from which base and lift join in", (0.3, 0.68)),
            ("farthest", "m from shoulder to hand beyond which no hand is led", (0.4, 0.75)),
            ("base_gain", "1/s, 0 leaves the base out", (0.0, 10.0)),
            ("lift_gain", "1/s, 0 leaves the lift out", (0.0, 10.0)),
            ("join_speed", "m/s with which base and lift join in at most", (0.01, 0.8)),
        )
    }
    hand = HandLimits()
    limits = {
        name: parameter(node, f"hand_{name}", getattr(hand, name), text, bounds=(0.01, 200.0))
        for name, text in (
            ("speed", "m/s"),
            ("turn_speed", "rad/s"),
            ("acceleration", "m/s^2"),
            ("turn_acceleration", "rad/s^2"),
        )
    }
    return RetargetConfig(
        scale=scale,
        locked=parameter(node, "lock_base", False, "the base does not join in until the operator unlocks it"),
        left_handed=parameter(node, "left_handed", False, "sticks and buttons of the controllers change places"),
        base_speed=(speeds["base_x"], speeds["base_y"], speeds["base_yaw"]),
        limits=dataclasses.replace(hand, **limits),
        **numbers,
    )


class _ToRos(logging.Handler):
    """What the service logs, in the node's log."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


def main() -> int:
    """Console entry."""
    return run_node(TeleopNode)


if __name__ == "__main__":
    sys.exit(main())
