"""ROS node of the policy: observations in, action chunks out, tasks by the RunTask action.

A task begins when the whole-body controller has given the robot to the policy, and ends with one of RunTask's codes;
the controller then holds. Inference runs in `gr3_policy_node.worker`, off the executor.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bytemini_core.join import StampJoin
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import (
    LATCHED_QOS,
    chunk_message,
    command_qos,
    image_array,
    robot_state,
    scene_state,
    sensor_qos,
    stamp_of,
    stamp_of_bytes,
    to_time,
)
from bytemini_core.types import NANOSECONDS, Mode, Observation
from bytemini_description.robot import VERSIONS, load_robot
from nav_msgs.msg import Odometry
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState

from bytemini_msgs.action import RunTask
from bytemini_msgs.msg import ActionChunk as ActionChunkMsg
from bytemini_msgs.msg import SceneState as SceneStateMsg
from bytemini_msgs.msg import TaskStatus as TaskStatusMsg
from bytemini_msgs.msg import WbcStatus as WbcStatusMsg
from bytemini_msgs.srv import SetMode
from gr3_policy_node.backends import load_policy, policies
from gr3_policy_node.session import AGREEMENT, Verdict
from gr3_policy_node.worker import PolicyWorker, Step, Task, row_status

OBSERVATION_SILENCE = 1.0
"""Seconds without a complete observation after which a running task has failed (real time only)."""

SETTLE_SECONDS = 0.5
"""How long the motion may come to rest by itself after a task's end, before the controller holds."""

MODE_PATIENCE = 1.0
"""Seconds after which the controller is asked again for a mode."""


@dataclass(frozen=True)
class _ModeRequest:
    """A mode that was asked for at `asked` (s, monotonic), and what to do with the answer."""

    mode: Mode
    then: Callable[[str], None]
    asked: float


class PolicyNode(Node):
    """Serves one policy."""

    def __init__(self) -> None:
        super().__init__("gr3_policy")
        version = parameter(self, "robot", "v1", "version of the robot", choices=VERSIONS)
        name = parameter(self, "policy", "expert", "which policy", choices=policies())
        seed = parameter(self, "seed", 0, "seed of what is random in the policy", bounds=(0, 2**31 - 1))
        self._lockstep = parameter(self, "lockstep", False, "answer every observation, in order")
        self._time_limit = parameter(self, "time_limit", 60.0, "s a task may take by default", bounds=(0.1, 3600.0))
        self._agreement = parameter(
            self, "agreement", AGREEMENT, "consecutive chunks that must agree on the end", bounds=(1, 50)
        )
        policy = load_policy(name, load_robot(version), seed)
        self._metadata = policy.metadata
        self._steps: deque[Step] = deque()
        self._goals: dict[Task, ServerGoalHandle] = {}
        self._latest: Step | None = None
        self._owned = False
        self._stamp = 0
        self._release_at: int | None = None
        self._request: _ModeRequest | None = None
        self._heard = dict.fromkeys(self._inputs(), time.monotonic())
        self._join = StampJoin(self._inputs())

        self._chunks = self.create_publisher(ActionChunkMsg, "policy/action_chunk", command_qos(self._lockstep))
        self._statuses = self.create_publisher(TaskStatusMsg, "policy/task_status", 10)
        self._guard = self.create_guard_condition(self._on_steps)
        self._worker = PolicyWorker(policy, time.perf_counter, self._on_step, answer_all=self._lockstep)
        self._set_mode = self.create_client(SetMode, "wbc/set_mode")
        self.create_subscription(WbcStatusMsg, "wbc/mode", self._on_mode, LATCHED_QOS)
        qos = sensor_qos(self._lockstep)
        # The state comes twenty times for each observation: it is read only when the rest of its stamp is there.
        for name, kind, topic in (("joints", JointState, "joint_states"), ("odometry", Odometry, "odom")):
            self.create_subscription(
                kind, topic, lambda cdr, n=name: self._add(n, stamp_of_bytes(cdr), cdr), qos, raw=True
            )
        for camera in self._metadata.cameras:
            topic = f"camera/{camera}/color/image_raw"
            self.create_subscription(Image, topic, lambda m, c=camera: self._on_image(c, m), qos)
        if self._metadata.privileged:
            self.create_subscription(SceneStateMsg, "sim/scene_state", self._on_scene, qos)
        self._server = ActionServer(
            self,
            RunTask,
            "run_task",
            execute_callback=lambda _: RunTask.Result(),
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )
        self.create_timer(0.2, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))
        privileged = ", reads the simulator's truth (simulation only)" if self._metadata.privileged else ""
        self.get_logger().info(f"policy {self._metadata.name} is ready{privileged}")

    def destroy_node(self) -> None:
        """Stop the inference thread first."""
        self._worker.stop()
        super().destroy_node()

    def _inputs(self) -> tuple[str, ...]:
        return ("joints", "odometry", *self._metadata.cameras, *(("scene",) if self._metadata.privileged else ()))

    # Observations

    def _on_scene(self, message: SceneStateMsg) -> None:
        self._add("scene", stamp_of(message), scene_state(message))

    def _on_image(self, camera: str, message: Image) -> None:
        try:
            image = image_array(message)
        except ValueError as error:
            self._refuse(f"{camera} camera: {error}")
            return
        self._add(camera, stamp_of(message), image)

    def _add(self, name: str, stamp: int, value: Any) -> None:
        self._heard[name] = time.monotonic()
        inputs = self._join.add(name, stamp, value)
        if inputs is None:
            return
        self._stamp = stamp
        if self._release_at is not None and stamp >= self._release_at:
            self._release()
        images = {camera: inputs[camera] for camera in self._metadata.cameras}
        try:
            joints = deserialize_message(inputs["joints"], JointState)
            state = robot_state(joints, deserialize_message(inputs["odometry"], Odometry))
        except ValueError as error:
            self._refuse(str(error))
            return
        self._worker.submit(Observation(stamp, "", state, images, inputs.get("scene")))

    def _refuse(self, reason: str) -> None:
        self.get_logger().warning(f"refused: {reason}", throttle_duration_sec=1.0)

    # Chunks

    def _on_step(self, step: Step) -> None:
        self._steps.append(step)
        self._guard.trigger()

    def _on_steps(self) -> None:
        while self._steps:
            step = self._steps.popleft()
            self._chunks.publish(chunk_message(step.chunk))
            if step.task is None:
                continue
            self._latest = step
            status = self._status_message(step)
            self._statuses.publish(status)
            goal = self._goals.get(step.task)
            if goal is None:
                continue
            goal.publish_feedback(RunTask.Feedback(task_status=status, elapsed=step.elapsed, chunks=step.chunks))
            if step.verdict is not None:
                self._finish(step.task, step.verdict)

    def _status_message(self, step: Step) -> TaskStatusMsg:
        status, confidence = row_status(step.chunk)
        message = TaskStatusMsg(
            instruction=step.chunk.instruction,
            status=int(status),
            confidence=confidence,
            phase=step.phase,
            progress=float("nan"),
        )
        message.header.stamp = to_time(step.chunk.stamp)
        return message

    # Tasks

    def _on_goal(self, goal: RunTask.Goal) -> GoalResponse:
        if not goal.instruction.strip():
            self._refuse("the instruction is empty: say what to do, like 'put the apple into the basket'")
            return GoalResponse.REJECT
        if not 0.0 <= goal.time_limit <= 3600.0:
            self._refuse(f"time limit {goal.time_limit} s, expected 0 (the default) to 3600 s")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_accepted(self, goal: ServerGoalHandle) -> None:
        for other in list(self._goals):
            self._finish(other, Verdict("PREEMPTED", "another task took over"))
        task = Task(goal.request.instruction, goal.request.time_limit or self._time_limit, self._agreement)
        self._goals[task] = goal
        # A coroutine that awaits the end of the task would keep rclpy's executor spinning all the while: the goal is
        # kept here instead, and executed, which only tells its result, when the task has ended.
        self._release_at = None
        self._request_mode(Mode.POLICY, lambda refused: self._begin(task, refused))

    def _begin(self, task: Task, refused: str) -> None:
        """The controller has answered: start, unless it refused or the task is over already."""
        if task not in self._goals:
            return
        if refused:
            self._finish(task, Verdict("FAULTED", refused))
            return
        self._heard = dict.fromkeys(self._heard, time.monotonic())
        self._worker.start(task)
        # The operator's first feedback says that the task is under way.
        status = TaskStatusMsg(instruction=task.instruction, phase="started", progress=float("nan"))
        self._goals[task].publish_feedback(RunTask.Feedback(task_status=status))

    def _request_mode(self, mode: Mode, then: Callable[[str], None]) -> None:
        """Ask the controller for a mode; `then` gets the reason when it refuses, else an empty string."""
        self._owned = False
        if not self._set_mode.service_is_ready():
            self._request = None
            then("the whole-body controller does not answer: is wbc_controller running?")
            return
        request = self._request = _ModeRequest(mode, then, time.monotonic())

        def answered(future: Future) -> None:
            if self._request is request:
                self._request = None
                answer = future.result()
                then("" if answer.success else f"the controller refuses {mode.value}: {answer.message}")

        self._set_mode.call_async(SetMode.Request(mode=mode.value)).add_done_callback(answered)

    def _release(self) -> None:
        """Give the robot back."""
        self._release_at = None
        self._request_mode(Mode.HOLD, lambda refused: self._refuse(refused) if refused else None)

    def _finish(self, task: Task, verdict: Verdict) -> None:
        self._worker.end(task)
        goal = self._goals.pop(task)
        result = RunTask.Result(status=getattr(RunTask.Result, verdict.status), message=verdict.message)
        step = self._latest
        if step is not None and step.task is task:
            result.elapsed, result.chunks = step.elapsed, step.chunks
            result.mean_inference_time = step.mean_inference_time
        self.get_logger().info(f"{verdict.status}: {task.instruction} ({verdict.message})")
        if not self._goals:
            settled = SETTLE_SECONDS if verdict.status in ("TERMINATED", "INVALID") else 0.0
            self._release_at = self._stamp + round(settled * NANOSECONDS)
            if not settled:
                self._release()

        def tell(handle: ServerGoalHandle) -> RunTask.Result:
            if handle.is_cancel_requested:
                handle.canceled()
            elif verdict.status in ("TERMINATED", "INVALID"):
                handle.succeed()
            else:
                handle.abort()
            return result

        goal.execute(tell)

    def _on_mode(self, message: WbcStatusMsg) -> None:
        if message.mode == WbcStatusMsg.POLICY:
            self._owned = True
        elif self._owned:
            self._owned = False
            for task in list(self._goals):
                reason = message.reason or "another owner took over"
                self._finish(task, Verdict("FAULTED", f"the controller went to {message.mode}: {reason}"))

    def _watch(self) -> None:
        request = self._request
        if request is not None and time.monotonic() - request.asked > MODE_PATIENCE:
            # An answer can be lost while the two sides are still finding each other; asking twice changes nothing.
            self._request_mode(request.mode, request.then)
        for task, goal in list(self._goals.items()):
            if goal.is_cancel_requested:
                self._finish(task, Verdict("PREEMPTED", "cancelled"))
                continue
            silent = [n for n, heard in self._heard.items() if time.monotonic() - heard > OBSERVATION_SILENCE]
            if silent and not self._lockstep and self._owned:
                reason = f"no {', '.join(silent)} for {OBSERVATION_SILENCE:g} s: is it publishing?"
                self._finish(task, Verdict("FAULTED", reason))


def main() -> int:
    """Console entry."""
    return run_node(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
