"""ROS node of the policy: observations in, action chunks out, tasks by the RunTask action.

A task begins when the whole-body controller has given the robot to the policy, and ends with one of RunTask's codes;
the controller then holds. Inference runs in `gr3_policy_node.worker`, off the executor.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from bytemini_core.diagnostics import Health, Level, Meter, Reporter
from bytemini_core.join import NEW_CLOCK, StampJoin
from bytemini_core.lifecycle import ManagedNode
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import (
    LATCHED_QOS,
    chunk_message,
    command_qos,
    image_array,
    image_qos,
    robot_state,
    scene_state,
    sensor_qos,
    stamp_of,
    stamp_of_bytes,
    to_time,
)
from bytemini_core.types import NANOSECONDS, OBSERVATION_PERIOD, Mode, Observation, Policy
from bytemini_core.watchdog import Beat
from bytemini_description.robot import VERSIONS, load_robot
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState

from bytemini_msgs.action import RunTask
from bytemini_msgs.msg import ActionChunk as ActionChunkMsg
from bytemini_msgs.msg import ChunkReport as ChunkReportMsg
from bytemini_msgs.msg import SceneState as SceneStateMsg
from bytemini_msgs.msg import TaskStatus as TaskStatusMsg
from bytemini_msgs.msg import WbcStatus as WbcStatusMsg
from bytemini_msgs.srv import SetMode
from gr3_policy_node.alignment import NewestJoin
from gr3_policy_node.backends import PROVIDERS, described, load_policy
from gr3_policy_node.delay import DelayTracker
from gr3_policy_node.protocol import takes_prefix
from gr3_policy_node.session import AGREEMENT, Verdict
from gr3_policy_node.warmup import warm_up
from gr3_policy_node.worker import PolicyWorker, Step, Task, row_status

OBSERVATION_SILENCE = 1.0
"""Seconds without a complete observation after which a running task has failed (real time only)."""

START_PATIENCE = 2.0
"""Seconds that a task may wait for its first complete observation (real time only)."""

SETTLE_SECONDS = 0.5
"""How long the motion may come to rest by itself after a task's end, before the controller holds."""

MODE_PATIENCE = 1.0
"""Seconds after which the controller is asked again for a mode; for as long another mode may be its last word."""

CONTROLLER_PATIENCE = 5.0
"""Seconds that the controller may take to be found, while the two sides are starting."""


@dataclass(frozen=True)
class _ModeRequest:
    """A mode that is wanted since `wanted` and was asked for at `asked` (s, monotonic), and what to do then."""

    mode: Mode
    then: Callable[[str], None]
    wanted: float
    asked: float


class PolicyNode(ManagedNode):
    """Serves one policy. A lifecycle node: configure loads the policy, activate warms it up and listens."""

    def __init__(self) -> None:
        super().__init__("gr3_policy")
        version = parameter(self, "robot", "v1", "version of the robot", choices=VERSIONS)
        self._robot = load_robot(version)
        self._choice = parameter(
            self, "policy", "expert", "which policy: a name, a checkpoint folder, ws://host:port or replay:FILE"
        )
        self._provider = parameter(self, "provider", "auto", "what computes a checkpoint", choices=PROVIDERS)
        self._seed = parameter(self, "seed", 0, "seed of what is random in the policy", bounds=(0, 2**31 - 1))
        self._lockstep = parameter(self, "lockstep", False, "answer every observation, in order")
        self._time_limit = parameter(self, "time_limit", 60.0, "s a task may take by default", bounds=(0.1, 3600.0))
        self._agreement = parameter(
            self, "agreement", AGREEMENT, "consecutive chunks that must agree on the end", bounds=(1, 50)
        )
        self._max_age = parameter(
            self, "max_age", 0.5, "s, older pictures are refused (real time only)", bounds=(0.01, 60.0)
        )
        self._max_skew = parameter(
            self, "max_skew", 0.1, "s between stamps of one observation (real time only)", bounds=(0.0, 10.0)
        )
        self._policy: Policy | None = None
        self._worker: PolicyWorker | None = None
        self._beat: Beat | None = None
        self._refusal = ""
        self._steps: deque[Step] = deque()
        self._goals: dict[Task, ServerGoalHandle] = {}
        self._latest: Step | None = None
        self._owned = self._stopped = False
        self._stamp = self._measured = 0
        self._release_at: int | None = None
        self._request: _ModeRequest | None = None
        self._heard: dict[str, float | None] = {}
        self._awaiting: tuple[Task, float] | None = None
        self._began = math.inf
        self._lost = ""
        self._told = self._told_before = -1
        self._used = time.monotonic()
        self._refused = ""
        self._delay = DelayTracker()
        self._delay_lock = threading.Lock()
        self._listening: list[Any] = []

        self._chunks = self.create_publisher(ActionChunkMsg, "policy/action_chunk", command_qos(self._lockstep))
        self._statuses = self.create_publisher(TaskStatusMsg, "policy/task_status", 10)
        self._guard = self.create_guard_condition(self._on_steps)
        self._set_mode = self.create_client(SetMode, "wbc/set_mode")
        self.create_subscription(WbcStatusMsg, "wbc/mode", self._on_mode, LATCHED_QOS)
        if not self._lockstep:
            self.create_subscription(ChunkReportMsg, "trajectory/chunk_report", self._on_report, 10)
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
        self._inferences = Meter()
        self._reporter = Reporter(self, self._health)
        if self.autostart:
            try:
                self.activate()
            except ValueError:
                raise ValueError(self._refusal) from None

    def destroy_node(self) -> None:
        """Stop the inference thread first."""
        if self._worker is not None:
            self._worker.stop()
        self._fall_silent()
        super().destroy_node()

    # Lifecycle

    def on_configure(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Load the policy."""
        return self._attempt(self._configure)

    def on_activate(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Warm the policy up, then listen."""
        return self._attempt(self._activate)

    def on_deactivate(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """End the task, give the robot back, stop listening."""
        self._deactivate()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the policy."""
        self._unload()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """As deactivate and cleanup."""
        self._deactivate()
        self._unload()
        return TransitionCallbackReturn.SUCCESS

    def _attempt(self, step: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            step()
        except Exception as error:
            # Checkpoints, servers and recordings fail in ways of their own: the state stays, the reason is told.
            if not isinstance(error, ValueError | OSError):
                self.get_logger().error(traceback.format_exc())
            self._refusal = f"policy {self._choice}: {error}"
            self.get_logger().error(self._refusal)
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        self._policy = load_policy(self._choice, self._robot, self._seed, self._provider)
        self._metadata = self._policy.metadata

    def _activate(self) -> None:
        assert self._policy is not None
        seconds = warm_up(self._policy, self._robot)
        self._heard = dict.fromkeys(self._inputs())
        self._join = self._new_join()
        self._worker = PolicyWorker(
            self._policy, time.perf_counter, self._on_step, answer_all=self._lockstep, committed=self._committed
        )
        qos = sensor_qos(self._lockstep)
        # The state comes twenty times for each observation: it is read only when the rest of its stamp is there.
        for name, kind, topic in (("joints", JointState, "joint_states"), ("odometry", Odometry, "odom")):
            self._listen(kind, topic, partial(self._on_state, name), qos, raw=True)
        for camera in self._metadata.cameras:
            topic = f"camera/{camera}/color/image_raw"
            self._listen(Image, topic, partial(self._on_image, camera), image_qos(self._lockstep))
        if self._metadata.privileged:
            self._listen(SceneStateMsg, "sim/scene_state", self._on_scene, qos)
        if not self._lockstep:
            self._beat = Beat(self, "policy")
        warm = f", first inference {seconds:.2f} s" if seconds else ""
        self.get_logger().info(f"policy {described(self._policy)} is ready{warm}")

    def _listen(self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any, raw: bool = False) -> None:
        self._listening.append(self.create_subscription(kind, topic, callback, qos, raw=raw))

    def _deactivate(self) -> None:
        for task in list(self._goals):
            self._finish(task, Verdict("PREEMPTED", "the policy server was deactivated"))
        if self._release_at is not None:
            self._release()
        while self._listening:
            self.destroy_subscription(self._listening.pop())
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        self._fall_silent()
        self._steps.clear()

    def _fall_silent(self) -> None:
        if self._beat is not None:
            self._beat.stop()
            self._beat = None

    def _unload(self) -> None:
        close = getattr(self._policy, "close", None)
        if close is not None:
            close()
        self._policy = None

    def _inputs(self) -> tuple[str, ...]:
        return ("joints", "odometry", *self._frames())

    def _frames(self) -> tuple[str, ...]:
        """What comes once per observation."""
        return (*self._metadata.cameras, *(("scene",) if self._metadata.privileged else ()))

    def _new_join(self) -> StampJoin | NewestJoin:
        if self._lockstep:
            return StampJoin(self._inputs())
        states = ("joints", "odometry")
        return NewestJoin(
            self._frames() or states[:1], states if self._frames() else states[1:], self._max_age, self._max_skew
        )

    # Observations

    def _on_state(self, name: str, cdr: bytes) -> None:
        stamp = stamp_of_bytes(cdr)
        if stamp <= self._measured - NEW_CLOCK and not self._lockstep:
            # The driver was started anew: what came by its former clock is of no use any more.
            self._measured = self._stamp = stamp
            self._join = self._new_join()
        # The newest state is the finest clock there is: a simulator's own ticks once per observation.
        self._measured = max(self._measured, stamp)
        if self._frames() or self._is_due(name, stamp):
            self._add(name, stamp, cdr)
        else:
            self._heard[name] = time.monotonic()

    def _is_due(self, name: str, stamp: int) -> bool:
        """Whether a policy that neither looks nor reads the scene is asked at this state: once per period."""
        period = round(OBSERVATION_PERIOD * NANOSECONDS)
        if self._lockstep:
            return stamp % period == 0
        return name != "joints" or stamp - self._stamp >= period

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
        if isinstance(self._join, StampJoin):
            inputs = self._join.add(name, stamp, value)
        else:
            aligned = self._join.add(name, stamp, value, self.get_clock().now().nanoseconds)
            if isinstance(aligned, str):
                self._refused = aligned
                self._refuse(f"observation: {aligned}")
                return
            inputs = None if aligned is None else dict(aligned.values)
            stamp = stamp if aligned is None else aligned.stamp
        if inputs is None or self._worker is None:
            return
        self._stamp = stamp
        self._used = time.monotonic()
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
            with self._delay_lock:
                self._delay.sent(step.chunk, step.base)
            if step.task is None:
                continue
            self._latest = step
            self._inferences.add(step.chunk.inference_time)
            status = self._status_message(step)
            self._statuses.publish(status)
            goal = self._goals.get(step.task)
            if goal is None:
                continue
            goal.publish_feedback(RunTask.Feedback(task_status=status, elapsed=step.elapsed, chunks=step.chunks))
            if step.verdict is not None:
                self._finish(step.task, step.verdict)

    def _on_report(self, report: ChunkReportMsg) -> None:
        if report.accepted:
            with self._delay_lock:
                self._delay.spliced(stamp_of(report), report.sequence, report.delay_actions, self._measured)

    def _committed(self, observation: Observation) -> NDArray[np.float32] | None:
        """What will be executed before the chunk of an observation comes, for a policy that continues it.

        In lock step reports have no place in the order of things: there the policy starts from what it sees.
        """
        if self._lockstep or not takes_prefix(self._metadata):
            return None
        with self._delay_lock:
            return self._delay.prefix(observation.stamp, observation.state.base_pose, self._metadata.horizon - 1)

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
        if self._worker is None:
            self._refuse("a task: the policy server is not active, activate it first")
            return GoalResponse.REJECT
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
        self._awaiting, self._began = None, math.inf  # the last task's beginning is not this one's
        if self._missing():
            # Nodes that have just started may still be finding each other: a moment's grace.
            self._awaiting = task, time.monotonic() + START_PATIENCE
            return
        self._take_over(task)

    def _take_over(self, task: Task) -> None:
        self._began, self._lost = math.inf, ""  # of what the controller says, only what comes from now on counts
        self._told_before = self._told
        self._request_mode(Mode.POLICY, lambda refused: self._begin(task, refused))

    def _await_inputs(self) -> None:
        """A task that came before its inputs starts with them, or ends when its patience does."""
        if self._awaiting is None:
            return
        task, patience = self._awaiting
        missing = self._missing()
        if missing and task in self._goals and time.monotonic() < patience:
            return
        self._awaiting = None
        if task not in self._goals:
            return
        if missing:
            self._finish(task, Verdict("FAULTED", missing))
        else:
            self._take_over(task)

    def _missing(self) -> str:
        """What an observation lacks, in real time; "" when nothing does."""
        if self._lockstep:
            return ""
        now = time.monotonic()
        silent = [name for name, heard in self._heard.items() if heard is None or now - heard > OBSERVATION_SILENCE]
        if silent:
            return f"no {', '.join(silent)} for {OBSERVATION_SILENCE:g} s: is it publishing?"
        if now - self._used > OBSERVATION_SILENCE:
            reason = self._refused or "what comes never belongs together"
            return f"no observation for {OBSERVATION_SILENCE:g} s: {reason}"
        return ""

    def _begin(self, task: Task, refused: str) -> None:
        """The controller has answered: start, unless it refused or the task is over already."""
        if task not in self._goals:
            return
        if refused:
            self._finish(task, Verdict("FAULTED", refused))
            return
        if self._worker is None:
            self._finish(task, Verdict("FAULTED", "the policy server is not active"))
            return
        with self._delay_lock:
            self._delay.reset()
        self._worker.start(task)
        self._began = time.monotonic()
        # The operator's first feedback says that the task is under way.
        status = TaskStatusMsg(instruction=task.instruction, phase="started", progress=float("nan"))
        self._goals[task].publish_feedback(RunTask.Feedback(task_status=status))

    def _request_mode(self, mode: Mode, then: Callable[[str], None], wanted: float | None = None) -> None:
        """Ask the controller for a mode; `then` gets the reason when it refuses, else an empty string."""
        self._owned = False
        now = time.monotonic()
        wanted = now if wanted is None else wanted
        request = self._request = _ModeRequest(mode, then, wanted, now)
        if not self._set_mode.service_is_ready():
            if now - wanted > CONTROLLER_PATIENCE:
                self._request = None
                then("the whole-body controller does not answer: is wbc_controller running?")
            return

        def answered(future: Future) -> None:
            if self._request is request:
                self._request = None
                answer = future.result()
                then("" if answer.success else f"the controller refuses {mode.value}: {answer.message}")

        self._set_mode.call_async(SetMode.Request(mode=mode.value)).add_done_callback(answered)

    def _release(self) -> None:
        """Give the robot back, unless it was stopped."""
        self._release_at = None
        if self._stopped:
            return
        self._request_mode(Mode.HOLD, lambda refused: self._refuse(refused) if refused else None)

    def _finish(self, task: Task, verdict: Verdict) -> None:
        if self._worker is not None:
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
        self._stopped = message.mode == WbcStatusMsg.ESTOP
        self._told = stamp_of(message)
        if message.mode == WbcStatusMsg.POLICY:
            self._owned, self._lost = True, ""
            return
        if not self._owned and self._told <= max(self._told_before, 0):
            return  # said before it was asked: a controller that has not had a tick since says nothing about this task
        self._lost = f"the controller went to {message.mode}: {message.reason or 'another owner took over'}"
        if self._owned:
            self._owned = False
            for task in list(self._goals):
                self._finish(task, Verdict("FAULTED", self._lost))

    def _health(self) -> dict[str, Health]:
        rate, mean, largest = self._inferences.take()
        active = self._worker is not None
        with self._delay_lock:
            delay = self._delay.delay
        values = {
            "policy": self._choice if self._policy is None else described(self._policy),
            "task": next((task.instruction for task in self._goals), ""),
            "chunk_rate": rate,
            "inference_ms": 1000.0 * mean,
            "largest_inference_ms": 1000.0 * largest,
            "delay_actions": delay,
        }
        missing = self._missing() if active else f"not active: {self._refusal or 'waiting to be activated'}"
        return {"": Health(Level.WARN if missing else Level.OK, missing, values)}

    def _watch(self) -> None:
        request = self._request
        if request is not None and time.monotonic() - request.asked > MODE_PATIENCE:
            # An answer can be lost while the two sides are still finding each other; asking twice changes nothing.
            self._request_mode(request.mode, request.then, request.wanted)
        if self._release_at is not None and self._missing():
            self._release()  # nothing comes any more by whose stamps the motion's end could be waited for
        self._await_inputs()
        for task, goal in list(self._goals.items()):
            if goal.is_cancel_requested:
                self._finish(task, Verdict("PREEMPTED", "cancelled"))
                continue
            if self._owned and (missing := self._missing()):
                self._finish(task, Verdict("FAULTED", missing))
            elif self._lost and time.monotonic() - self._began > MODE_PATIENCE:
                # Only the newest mode is kept: when the controller gave the robot and took it back at once, the first
                # of the two is never heard.
                self._finish(task, Verdict("FAULTED", self._lost))


def main() -> int:
    """Console entry."""
    return run_node(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
