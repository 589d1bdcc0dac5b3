"""ROS node behind the operator's page: what the nodes publish goes to the page, what the operator asks to the nodes.

The server has a thread of its own; requests cross to the node's thread by a queue. The emergency stop does not wait for
it: it is published where it arrives.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from bytemini_core.diagnostics import Health, Level, Reporter
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import LATCHED_QOS, SENSOR_QOS, stamp_of, stamp_of_bytes
from bytemini_core.types import CAMERAS, NANOSECONDS, SIDES
from bytemini_core.web import Client, Route, Server, Site, certificate, pairing_token
from bytemini_description.robot import VERSIONS, load_robot
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import WrenchStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Log
from rclpy.action import ActionClient
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from bytemini_msgs.action import RunTask
from bytemini_msgs.msg import ActionChunk, ChunkReport, JointCommand, WbcStatus
from bytemini_msgs.srv import SetMode
from bytemini_panel.dashboard import Dashboard, Task
from bytemini_panel.figure import figure
from bytemini_panel.jerk import JerkMeter
from bytemini_panel.pictures import PictureMaker
from bytemini_panel.requests import Cancel, EStop, Hold, Request, Reset, Run, Save, read

PORT = 8444
POSE_PERIOD = 1 / 15
STATE_EVERY = 3
"""Poses to one state of everything else."""

PATIENCE = 2.0
"""Seconds that a service or the policy has to answer."""

OLDEST_PICTURE = 10_000.0
"""Milliseconds."""

SERIES = (
    "jerk_percent",
    "force_left_n",
    "force_right_n",
    "inference_ms",
    "tick_ms",
    "camera_ms",
    "delay_actions",
)

RESULTS = {
    RunTask.Result.INVALID: "INVALID",
    RunTask.Result.TERMINATED: "TERMINATED",
    RunTask.Result.TIMED_OUT: "TIMED OUT",
    RunTask.Result.PREEMPTED: "PREEMPTED",
    RunTask.Result.FAULTED: "FAULTED",
}
STATUSES = {-1: "INVALID", 0: "ONGOING", 1: "TERMINATED"}

_PICTURE = struct.Struct("<BxxxId")
"""Number of the camera, counter, stamp in seconds; the JPEG follows."""

Answer = Callable[[bool, str], None]


@dataclass
class Pending:
    """A call that was made and its answer, awaited until `deadline` (s, monotonic)."""

    name: str
    answer: Answer
    deadline: float


def pages() -> Path:
    """The folder of the page's files."""
    try:
        installed = Path(get_package_share_directory("bytemini_panel")) / "web"
        if installed.is_dir():
            return installed
    except PackageNotFoundError:
        pass
    return Path(__file__).resolve().parents[1] / "web"


class PanelNode(Node):
    """Serves the page."""

    def __init__(self) -> None:
        """Start to listen.

        Raises:
            WebError: the port is taken.
            ValueError: a parameter is wrong.
        """
        super().__init__("panel")
        port = parameter(self, "port", PORT, "TCP port of the page", bounds=(0, 65535))
        host = parameter(self, "host", "0.0.0.0", "address to listen at; 127.0.0.1 for this machine alone")
        version = parameter(self, "robot", "v1", "version of the robot", choices=VERSIONS)
        rate = parameter(self, "picture_rate", 10.0, "pictures per second and camera, at most", bounds=(0.5, 30.0))
        robot = load_robot(version)
        self._dashboard = Dashboard(SERIES, self.get_namespace())
        self._jerk = JerkMeter(robot.joint_names, robot.jerk)
        self._watchers: set[Client] = set()
        self._requests: deque[tuple[Request, Answer]] = deque()
        self._guard = self.create_guard_condition(self._on_requests)
        self._pending: list[Pending] = []
        self._newest: dict[str, Any] = {}
        self._commands: deque[bytes] = deque(maxlen=100)
        self._figure: dict[str, Any] | None = None
        self._goal: Any = None
        self._goals = 0
        self._poses = 0
        self._watching = False
        self._shown = 0

        self._estop = self.create_publisher(Bool, "estop", LATCHED_QOS)
        self._set_mode = self.create_client(SetMode, "wbc/set_mode")
        self._save = self.create_client(Trigger, "flight_recorder/save")
        self._tasks = ActionClient(self, RunTask, "run_task")
        self._subscribe()
        self._pictures = PictureMaker(CAMERAS, rate, self._on_picture)
        self._cameras: list[Any] = []
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(POSE_PERIOD, self._on_tick, clock=steady)
        self._reporter = Reporter(self, self._report)
        site = Site(
            "panel",
            pages=pages(),
            routes=(
                Route("GET", "/api/health", self._serve_health, public=True),
                Route("POST", "/api/estop", self._serve_estop),
                Route("GET", "/api/state", self._serve_state),
            ),
            sockets={"/ws": self},
        )
        self.server = Server(site, port, pairing_token(), certificate(), host)
        self.server.start()
        self.get_logger().info(f"the operator's page is at {self.server.url()}")

    def destroy_node(self) -> None:
        """Close the page first."""
        self.server.stop()
        self._pictures.stop()
        super().destroy_node()

    # What the nodes say

    def _subscribe(self) -> None:
        for name, kind, topic in (
            ("joints", JointState, "joint_states"),
            ("odometry", Odometry, "odom"),
            ("status", WbcStatus, "wbc/status"),
        ):
            self.create_subscription(
                kind, topic, lambda cdr, n=name, t=topic: self._keep(n, t, cdr), SENSOR_QOS, raw=True
            )
        self.create_subscription(JointCommand, "joint_command", self._on_command, SENSOR_QOS, raw=True)
        self.create_subscription(WbcStatus, "wbc/mode", self._on_mode, LATCHED_QOS)
        self.create_subscription(ActionChunk, "policy/action_chunk", self._on_chunk, SENSOR_QOS)
        self.create_subscription(ChunkReport, "trajectory/chunk_report", self._on_report, SENSOR_QOS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self.create_subscription(Log, "/rosout", self._on_log, 50)
        self.create_subscription(String, "robot_description", self._on_description, LATCHED_QOS)
        for side in SIDES:
            self.create_subscription(
                WrenchStamped, f"wrench/{side}", lambda m, s=side: self._on_wrench(s, m), SENSOR_QOS
            )

    def _keep(self, name: str, topic: str, cdr: bytes) -> None:
        self._newest[name] = cdr
        self._dashboard.heard_topic(time.monotonic(), topic)

    def _on_command(self, cdr: bytes) -> None:
        self._commands.append(cdr)
        self._dashboard.heard_topic(time.monotonic(), "joint_command")

    def _on_mode(self, message: WbcStatus) -> None:
        self._dashboard.heard_mode(time.monotonic(), time.time(), message.mode, message.reason)

    def _on_chunk(self, message: ActionChunk) -> None:
        now = time.monotonic()
        self._dashboard.heard_topic(now, "policy/action_chunk")
        self._dashboard.sample(now, "inference_ms", 1e3 * message.inference_time)

    def _on_report(self, message: ChunkReport) -> None:
        if message.accepted:
            self._dashboard.sample(time.monotonic(), "delay_actions", message.delay_actions)

    def _on_wrench(self, side: str, message: WrenchStamped) -> None:
        force = message.wrench.force
        size = float(np.linalg.norm([force.x, force.y, force.z]))
        self._dashboard.sample(time.monotonic(), f"force_{side}_n", size)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        now, wall = time.monotonic(), time.time()
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            self._dashboard.heard_node(now, wall, status.name, status.level[0], status.message, values)

    def _on_log(self, message: Log) -> None:
        self._dashboard.heard_log(time.time(), message.level, message.name, message.msg)

    def _on_description(self, message: String) -> None:
        try:
            self._figure = figure(message.data)
        except ValueError as error:
            self.get_logger().warning(f"refused: {error}")
            return
        self._broadcast({"type": "figure", "figure": self._figure})

    def _on_image(self, camera: str, cdr: bytes) -> None:
        now = time.monotonic()
        self._dashboard.heard_topic(now, f"camera/{camera}")
        age = (self.get_clock().now().nanoseconds - stamp_of_bytes(cdr)) / 1e6
        if 0 <= age < OLDEST_PICTURE:  # else the picture's clock is not this node's: simulated time
            self._dashboard.sample(now, "camera_ms", age)
        self._pictures.add(camera, cdr)

    def _on_picture(self, camera: str, image: Image, jpeg: bytes) -> None:
        """In the picture maker's thread."""
        self._shown += 1
        message = _PICTURE.pack(CAMERAS.index(camera), self._shown, stamp_of(image) / NANOSECONDS) + jpeg
        for client in list(self._watchers):
            client.offer(camera, message)

    # What goes to the page

    def _on_tick(self) -> None:
        now = time.monotonic()
        self._watch_cameras()
        self._judge_commands(now)
        self._watch_pending(now)
        self._dashboard.watch(now, time.time())
        if "status" in self._newest:
            status = deserialize_message(self._newest.pop("status"), WbcStatus)
            self._dashboard.sample(now, "tick_ms", 1e3 * status.solve_time)
            self._dashboard.heard_mode(now, time.time(), status.mode, status.reason)
        self._send_pose()
        self._poses += 1
        if self._poses % STATE_EVERY == 0 and self._watchers:
            self._offer("state", self._state(now))

    def _state(self, now: float) -> dict[str, Any]:
        return {"type": "state", "wall": time.time(), **self._dashboard.snapshot(now)}

    def _send_pose(self) -> None:
        if not self._watchers or "joints" not in self._newest or "odometry" not in self._newest:
            return
        joints = deserialize_message(self._newest.pop("joints"), JointState)
        odometry = deserialize_message(self._newest["odometry"], Odometry)
        position, orientation = odometry.pose.pose.position, odometry.pose.pose.orientation
        self._offer(
            "pose",
            {
                "type": "pose",
                "stamp": stamp_of(joints) / NANOSECONDS,
                "joints": dict(zip(joints.name, (round(q, 4) for q in joints.position), strict=False)),
                "base": [position.x, position.y, 2 * float(np.arctan2(orientation.z, orientation.w))],
            },
        )

    def _judge_commands(self, now: float) -> None:
        while self._commands:
            command = deserialize_message(self._commands.popleft(), JointCommand)
            share = self._jerk.add(stamp_of(command), tuple(command.names), np.array(command.velocity))
            self._dashboard.sample(now, "jerk_percent", 100 * share)

    def _watch_cameras(self) -> None:
        """Listen to the cameras only while somebody looks: pictures are most of what crosses the wire."""
        if bool(self._watchers) == self._watching:
            return
        self._watching = not self._watching
        for subscription in self._cameras:
            self.destroy_subscription(subscription)
        self._cameras.clear()
        if self._watching:
            for camera in CAMERAS:
                topic = f"camera/{camera}/color/image_raw"
                self._cameras.append(
                    self.create_subscription(
                        Image, topic, lambda cdr, c=camera: self._on_image(c, cdr), SENSOR_QOS, raw=True
                    )
                )

    def _offer(self, key: str, message: dict[str, Any]) -> None:
        text = json.dumps(message)
        for client in list(self._watchers):
            client.offer(key, text)

    def _broadcast(self, message: dict[str, Any]) -> None:
        for client in list(self._watchers):
            client.send(message)

    # The server's thread

    def opened(self, client: Client) -> None:
        """A page was opened."""
        self._watchers.add(client)
        client.send(
            {
                "type": "welcome",
                "cameras": list(CAMERAS),
                "figure": self._figure,
                "history": self._dashboard.history(),
                "namespace": self.get_namespace(),
            }
        )

    def received(self, client: Client, message: str | bytes) -> None:
        """The page asks for something."""
        number = 0

        def answer(success: bool, text: str) -> None:
            client.send({"type": "answer", "id": number, "ok": success, "text": text})

        try:
            request, number = read(message)
        except ValueError as error:
            answer(False, str(error))
            return
        self.request(request, answer)

    def closed(self, client: Client) -> None:
        """The page is gone."""
        self._watchers.discard(client)

    def request(self, request: Request, answer: Answer) -> None:
        """Take a request; may be called from any thread. `answer` is called in the node's."""
        if isinstance(request, EStop):
            self._estop.publish(Bool(data=True))
        self._requests.append((request, answer))
        self._guard.trigger()

    async def _serve_health(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True, "service": "panel"})

    async def _serve_estop(self, _: web.Request) -> web.StreamResponse:
        """The way that works also while the page's socket is being opened anew."""
        self.request(EStop(), lambda *_: None)
        return web.json_response({"ok": True})

    async def _serve_state(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(self._state(time.monotonic()))

    # What the operator asks

    def _on_requests(self) -> None:
        while self._requests:
            request, answer = self._requests.popleft()
            self.get_logger().info(f"operator: {request}")
            if isinstance(request, EStop):
                self._ask_mode("ESTOP", answer)
            elif isinstance(request, Reset):
                # The topic is latched: what was said on it must not stop the controller again when it starts anew.
                self._estop.publish(Bool(data=False))
                self._ask_mode("HOLD", answer, reset=True)
            elif isinstance(request, Hold):
                self._ask_mode("HOLD", answer)
            elif isinstance(request, Run):
                self._run(request, answer)
            elif isinstance(request, Cancel):
                self._cancel(answer)
            elif isinstance(request, Save):
                self._ask_recorder(answer)

    def _await(
        self,
        name: str,
        answer: Answer,
        future: Future,
        then: Callable[[Any], None],
        late: Callable[[Any], None] = lambda _: None,
    ) -> None:
        """Go on with `then` when `future` is done; else answer that `name` does not, and take what comes `late`."""
        pending = Pending(name, answer, time.monotonic() + PATIENCE)
        self._pending.append(pending)

        def done(result: Future) -> None:
            if pending in self._pending:
                self._pending.remove(pending)
                then(result.result())
            else:
                late(result.result())

        future.add_done_callback(done)

    def _watch_pending(self, now: float) -> None:
        for pending in [pending for pending in self._pending if now > pending.deadline]:
            self._pending.remove(pending)
            pending.answer(False, f"{pending.name} does not answer")

    def _ask_mode(self, mode: str, answer: Answer, reset: bool = False) -> None:
        if not self._set_mode.service_is_ready():
            answer(False, "the whole-body controller does not answer: is it running?")
            return
        future = self._set_mode.call_async(SetMode.Request(mode=mode, reset=reset))
        self._await(
            "the whole-body controller",
            answer,
            future,
            lambda r: answer(r.success, r.message or f"the robot is in {mode}"),
        )

    def _ask_recorder(self, answer: Answer) -> None:
        if not self._save.service_is_ready():
            answer(False, "the flight recorder is not running")
            return
        future = self._save.call_async(Trigger.Request())
        self._await("the flight recorder", answer, future, lambda r: answer(r.success, r.message))

    def _run(self, request: Run, answer: Answer) -> None:
        if self._dashboard.mode == "ESTOP":
            answer(False, "the emergency stop is latched: reset it first")
            return
        if not self._tasks.server_is_ready():
            answer(False, "no policy offers tasks: is the policy's node running?")
            return
        self._goals += 1
        number = self._goals
        task = Task(instruction=request.instruction, status="asked", time_limit=request.time_limit)

        def told(success: bool, text: str) -> None:
            if not success:
                task.status, task.message = "REFUSED", text
            answer(success, text)

        def too_late(goal: Any) -> None:
            if goal.accepted:  # the operator was told that nobody answers: nothing may move now
                goal.cancel_goal_async()

        def accepted(goal: Any) -> None:
            if number != self._goals:
                return
            if not goal.accepted:
                told(False, "the policy refuses this task; its log says why")
                return
            self._goal, task.running, task.status = goal, True, "ONGOING"
            goal.get_result_async().add_done_callback(lambda future: self._ended(number, task, future.result().result))
            told(True, f"under way: {request.instruction}")

        self._dashboard.task = task
        goal = RunTask.Goal(instruction=request.instruction, time_limit=request.time_limit)
        future = self._tasks.send_goal_async(goal, lambda message: self._on_feedback(number, task, message.feedback))
        self._await("the policy", told, future, accepted, too_late)

    def _on_feedback(self, number: int, task: Task, feedback: RunTask.Feedback) -> None:
        if number != self._goals:
            return
        status = feedback.task_status
        task.status = STATUSES.get(status.status, str(status.status))
        task.phase, task.elapsed, task.chunks = status.phase, feedback.elapsed, feedback.chunks
        task.confidence = round(status.confidence, 3)
        task.progress = None if np.isnan(status.progress) else float(status.progress)

    def _ended(self, number: int, task: Task, result: RunTask.Result) -> None:
        task.running, task.status, task.message = False, RESULTS.get(result.status, str(result.status)), result.message
        task.elapsed, task.chunks = result.elapsed or task.elapsed, result.chunks or task.chunks
        if number == self._goals:
            self._goal = None
        if result.status in (RunTask.Result.FAULTED, RunTask.Result.TIMED_OUT):
            self._dashboard.fault(time.time(), "task", Level.ERROR, f"{task.instruction}: {result.message}")

    def _cancel(self, answer: Answer) -> None:
        if self._goal is None:
            answer(False, "no task is under way")
            return
        self._await("the policy", answer, self._goal.cancel_goal_async(), lambda _: answer(True, "cancelled"))

    def _report(self) -> dict[str, Health]:
        return {"": Health(values={"pages": len(self._watchers), "url": self.server.url().partition("#")[0]})}


def main() -> int:
    """Console entry."""
    return run_node(PanelNode)


if __name__ == "__main__":
    sys.exit(main())
