"""ROS node of the recorder: what the stack publishes goes in, commands come from headset, page or scripts."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bytemini_core.diagnostics import Health, Level, Meter, Reporter
from bytemini_core.errors import UserError
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import LATCHED_QOS, stamp_of_bytes, to_time
from bytemini_description.robot import VERSIONS, load_robot
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from bytemini_data.card import SceneCard, with_scene
from bytemini_data.features import Layout
from bytemini_data.plan import Plan, load_plan
from bytemini_data.recorder.recorder import Recorder, Settings, status_of
from bytemini_data.recorder.session import Limits, State
from bytemini_data.recorder.topics import IMAGE_TOPICS, RECORDER, cameras_of, topics_of
from bytemini_msgs.msg import EpisodeStatus
from bytemini_msgs.srv import EpisodeCommand, ResetWorld, SetMode

LOOK = 0.05
"""Seconds between two looks at countdown, disk and silence."""

TELL = 0.5
"""Seconds between two statuses when nothing changes."""

DEPTH = 400
"""Messages that the middleware keeps for a recorder that is busy: best effort, so that no sender waits for it."""

PICTURES = 30
"""Pictures of a camera that the middleware keeps: a second, and each is a megabyte."""

PATIENCE = 5.0
"""Seconds that the simulator has to set a scene up."""

START = 30.0
"""Seconds that simulator and controller have to start."""


class RecorderNode(Node):
    """A recorder with topics and a service."""

    def __init__(self) -> None:
        """Start, with parameters.

        Raises:
            ValueError: a parameter is out of range, or plan or dataset are no good.
        """
        super().__init__("recorder")
        out = parameter(self, "dataset", "", "folder of the dataset")
        plan_file = parameter(self, "plan", "", "file of the plan")
        version = parameter(self, "robot", "v1", "version of the robot", choices=VERSIONS)
        fps = parameter(self, "fps", 30, "frames per second of the dataset", bounds=(1, 100))
        width = parameter(self, "image_width", 640, "pixels of the dataset's pictures", bounds=(32, 1920))
        height = parameter(self, "image_height", 480, "pixels of the dataset's pictures", bounds=(32, 1200))
        human = parameter(self, "human", False, "record a person's hands and head")
        operator = parameter(self, "operator", "", "who records")
        countdown = parameter(self, "countdown", 3.0, "s before recording starts", bounds=(0.0, 60.0))
        longest = parameter(self, "longest", 900.0, "s of an episode at most", bounds=(1.0, 36000.0))
        loss = parameter(self, "loss", 1.0, "s without head camera or state that end an episode", bounds=(0.1, 60.0))
        reserve = parameter(self, "reserve_gib", 2.0, "GiB that stay free on the disk", bounds=(0.01, 1000.0))
        keep_failed = parameter(self, "keep_failed", False, "keep episodes that fail the quality check, so marked")
        set_up = parameter(self, "set_up_scene", True, "have the simulator set scenes up, where one runs")
        if not out or not plan_file:
            raise ValueError("parameters dataset and plan are needed: the dataset's folder and the plan's file")
        try:
            plan: Plan = load_plan(plan_file)
            self._world = self.create_client(ResetWorld, "sim/reset")
            self._mode = self.create_client(SetMode, "wbc/set_mode")
            settings = Settings(
                human,
                self.get_namespace(),
                Limits(countdown, longest, round(reserve * 1024**3), loss),
                keep_failed=keep_failed,
            )
            layout = Layout(load_robot(version), (height, width), fps)
            self.recorder = Recorder(Path(out), layout, plan, settings, self._set_up if set_up else None)
        except UserError as error:
            raise ValueError(str(error)) from error
        self.recorder.session.operator = operator
        qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
        pictures = QoSProfile(depth=PICTURES, reliability=ReliabilityPolicy.BEST_EFFORT)
        for topic, kind in topics_of(human).items():
            self._listen(topic, kind, qos)
        for camera in cameras_of(human):
            self._listen(IMAGE_TOPICS[camera], Image, pictures)
        self._status = self.create_publisher(EpisodeStatus, RECORDER, LATCHED_QOS)
        self.create_service(EpisodeCommand, "recorder/command", self._on_command)
        self.create_timer(LOOK, self._on_look)
        self._received = Meter()
        self._reporter = Reporter(self, self._report)
        self._told: tuple[Any, ...] = ()
        self._told_at = 0.0
        self.get_logger().info(f"recording into {out}: {self.recorder.writer.episodes} episodes are there")
        for note in self.recorder.notes:
            self.get_logger().warning(note)

    def destroy_node(self) -> None:
        """Abort what runs, finish saving what is being saved."""
        if hasattr(self, "recorder"):
            self.recorder.close()
        super().destroy_node()

    def _listen(self, topic: str, kind: type, qos: QoSProfile) -> None:
        self.create_subscription(kind, topic, lambda cdr, t=topic: self._on_message(t, cdr), qos, raw=True)

    def _on_message(self, topic: str, cdr: bytes) -> None:
        now = self.get_clock().now().nanoseconds
        self._received.add()
        self.recorder.receive(topic, cdr, stamp_of_bytes(cdr), now, time.monotonic())

    def _on_command(
        self, request: EpisodeCommand.Request, response: EpisodeCommand.Response
    ) -> EpisodeCommand.Response:
        answer = self.recorder.command(
            request.command, time.monotonic(), request.operator_name, request.confirmed, request.success
        )
        response.ok, response.message = answer.ok, answer.message
        self.get_logger().info(f"{request.command}: {answer.message}")
        self._tell()
        return response

    def _on_look(self) -> None:
        answer = self.recorder.tick(time.monotonic())
        if answer is not None:
            self.get_logger().info(answer.message)
        state = (self.recorder.session.state, self.recorder.episode, self.recorder.card)
        if state != self._told or time.monotonic() - self._told_at >= TELL:
            self._tell()

    def _tell(self) -> None:
        message = self._message()
        self._status.publish(message)
        session = self.recorder.session
        if session.state is State.RECORDING and self._told[:1] != (State.RECORDING,):
            self.recorder.record(bytes(serialize_message(message)), self.get_clock().now().nanoseconds)
        self._told = (session.state, self.recorder.episode, self.recorder.card)
        self._told_at = time.monotonic()

    def _message(self) -> EpisodeStatus:
        status = status_of(self.recorder)
        message = EpisodeStatus(
            state=status["state"],
            episode=status["episode"],
            saved=status["saved"],
            countdown=status["countdown"],
            duration=status["duration"],
            task=status["task"],
            scene_card=json.dumps(status["card"]),
            quality=status["quality"],
            warnings=status["warnings"],
            dataset=status["dataset"],
        )
        message.header.stamp = to_time(self.get_clock().now().nanoseconds)
        return message

    def _report(self) -> dict[str, Health]:
        status = status_of(self.recorder)
        warnings = "; ".join(status["warnings"])
        told = ("state", "episode", "saved", "duration", "task", "quality", "dataset")
        values = {name: status[name] for name in told}
        values["message_rate"] = self._received.take()[0]
        return {"": Health(Level.WARN if warnings else Level.OK, warnings, values)}

    def _set_up(self, card: SceneCard) -> SceneCard:
        """Have the simulator, where one runs, set the scene up; the card of what then stands there.

        Called from the recorder's thread: waits for answers that the node's own thread takes.
        """
        if card.setup is None or not self._simulated():
            return card
        # The robot is put elsewhere at once: its controller starts anew from there, as after an emergency stop. But
        # one that somebody has pressed stays.
        for mode, reset in (("HOLD", False), ("ESTOP", False), ("HOLD", True)):
            if self._mode.service_is_ready():
                granted = _await(self._mode.call_async(SetMode.Request(mode=mode, reset=reset)))
                if granted is not None and not granted.success:
                    self.get_logger().error(f"the scene is not set up: {granted.message}")
                    return card
        setup = card.setup
        request = ResetWorld.Request(
            task=setup["task"], setting=setup["setting"], seed=setup["seed"], instruction=setup["instruction"]
        )
        answer = _await(self._world.call_async(request))
        if answer is None or not answer.success:
            reason = answer.message if answer else "it does not answer"
            self.get_logger().error(f"the simulator does not set the scene up: {reason}")
            return card
        from bytemini_sim.tasks import make_task

        scene = make_task(setup["task"], setup["setting"]).sample(setup["seed"], setup["instruction"])
        return with_scene(card, scene)

    def _simulated(self) -> bool:
        """Whether a simulator sets scenes up; one that makes this node's time is waited for while it starts."""
        if not self.get_parameter("use_sim_time").value:
            return bool(self._world.service_is_ready())
        return bool(self._world.wait_for_service(START) and self._mode.wait_for_service(START))


def _await(future: Any) -> Any:
    """The result of a service's future from another thread than the node's; None when it does not come in time."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    return future.result() if done.wait(PATIENCE) else None


def main() -> int:
    """Console entry."""
    return run_node(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
