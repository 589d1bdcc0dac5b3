"""Episodes over the wire: the real nodes in lock step over DDS, and everything that crossed it.

This process starts the stack that `bytemini_bringup.stack` describes, sets up each episode through the simulator's
services, gives the task through the RunTask action, and listens.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import rclpy
from bytemini_core.domain import DOMAINS, claimed
from bytemini_core.executor import StreamExecutor
from bytemini_core.join import StampJoin
from bytemini_core.ros import image_array, joint_command, robot_state, scene_state, sensor_qos, stamp_of_bytes
from bytemini_core.types import CAMERAS, NANOSECONDS, Mode, TaskStatus, WbcStatus
from bytemini_description.robot import load_robot
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.action import ActionClient
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import SetBool

from bytemini_bringup.processes import Processes
from bytemini_bringup.stack import options as stack_options
from bytemini_bringup.stack import stack
from bytemini_msgs.action import RunTask
from bytemini_msgs.msg import ActionChunk, ChunkReport, JointCommand, SceneState, WholeBodyReference
from bytemini_msgs.msg import TaskStatus as TaskStatusMsg
from bytemini_msgs.msg import WbcStatus as WbcStatusMsg
from bytemini_msgs.srv import ResetWorld, ScoreEpisode, SetMode
from bytemini_sim.episode import SETTLE_SECONDS, Episode, Frame, RolloutOptions, failure_of
from bytemini_sim.model import OUTSIDE_CAMERA
from bytemini_sim.results.report import EpisodeResult
from bytemini_sim.results.trajectory import TrajectoryLog
from bytemini_sim.scoring import REFUSAL_SECONDS
from bytemini_sim.tasks import make_task

READY_SECONDS = 60.0
"""How long the stack may take to come up."""

STALL_SECONDS = 20.0
"""Seconds of the machine's own clock without progress after which an episode has failed."""

ANSWER_SECONDS = 3.0
"""Seconds after which a service is asked again."""

QUIET_SECONDS = 0.2
"""Seconds without a message after which none is under way any more."""

DISCOVERY_SECONDS = 5.0
"""How long to look whether somebody else is in the domain that the user names."""

GLANCE_SECONDS = 1.0
"""The same for a domain that is claimed: a last look, before the next is tried."""

TOPICS: dict[str, type] = {
    "joint_states": JointState,
    "odom": Odometry,
    "joint_command": JointCommand,
    "cmd_vel": TwistStamped,
    "wbc/status": WbcStatusMsg,
    "wbc/reference": WholeBodyReference,
    "policy/action_chunk": ActionChunk,
    "policy/task_status": TaskStatusMsg,
    "trajectory/chunk_report": ChunkReport,
    "sim/scene_state": SceneState,
}
"""What is recorded of every episode, beside the pictures."""


class StackError(RuntimeError):
    """The stack did not come up, or did not go on."""


class WireRunner:
    """Runs episodes through the nodes. A context manager: the stack comes up on entering and goes down on leaving."""

    def __init__(self, options: RolloutOptions, logs: Path, record: bool = True, gazebo: int | None = None):
        """Prepare.

        Args:
            options: what to roll out.
            logs: folder for the nodes' logs.
            record: listen to the topics; without it an episode has a result but no trajectory, frames or bag.
            gazebo: seed of the one scene for which Gazebo is started, in real time; None for MuJoCo in lock step.

        Raises:
            ValueError: unknown task, setting, policy or robot.
        """
        self.options = options
        self._task = make_task(options.task, options.setting)
        self._robot = load_robot(options.robot)
        names = ("task", "setting", "policy", "robot", "latency", "cameras", "image_size", "wrist_lag")
        chosen = {name: value for name, value in asdict(options).items() if name in names}
        if gazebo is None:
            self._values = stack_options(**chosen, outside=options.outside and record, lockstep=True)
        else:
            scene = {"seed": gazebo, "instruction": options.instruction or ""}
            self._values = stack_options(**chosen, **scene, sim="gazebo")
        self._logs = logs
        self._record = record
        self._bag: list[tuple[str, bytes, int]] = []
        self._exit = contextlib.ExitStack()
        self._feedback: RunTask.Feedback | None = None
        self._stamp = 0
        self.domain = -1

    def __enter__(self) -> WireRunner:
        """Bring the stack up and wait until it can take a task."""
        processes = stack(self._values)
        if self._values["lockstep"]:
            # They do without the frames' tree: nobody looks at it, and it would cost a process of its own. Gazebo
            # takes the robot from it.
            processes = tuple(p for p in processes if p.name != "robot_state_publisher")
        with contextlib.ExitStack() as exits:
            self._join_domain(exits, {p.name for p in processes})
            environment = {"ROS_DOMAIN_ID": str(self.domain)}
            self._processes = exits.enter_context(Processes(processes, self._logs, environment=environment))
            self._connect()
            self._exit = exits.pop_all()
        return self

    def _join_domain(self, exits: contextlib.ExitStack, names: set[str]) -> None:
        """Find a domain without a stack, and make a node in it."""
        stated = os.environ.get("ROS_DOMAIN_ID")
        for domain in (int(stated),) if stated else DOMAINS:
            with contextlib.ExitStack() as trial:
                if not stated and not trial.enter_context(claimed(domain)):
                    continue
                context = rclpy.Context()
                rclpy.init(context=context, domain_id=domain)
                trial.callback(context.try_shutdown)
                node = rclpy.create_node("rollout", context=context, start_parameter_services=False)
                trial.callback(node.destroy_node)
                deadline = time.monotonic() + (DISCOVERY_SECONDS if stated else GLANCE_SECONDS)
                while not (company := names & set(node.get_node_names())) and time.monotonic() < deadline:
                    time.sleep(0.05)
                if not company:
                    self.domain, self._node = domain, node
                    self._executor = StreamExecutor(context=context)
                    self._executor.add_node(node)
                    exits.push(trial.pop_all())
                    return
                if stated:
                    raise StackError(
                        f"ROS domain {domain} already has {', '.join(sorted(company))}: stop that stack, or set "
                        "ROS_DOMAIN_ID to another number (unset, a free one is taken)"
                    )
        raise StackError(
            f"ROS domains {DOMAINS[0]} to {DOMAINS[-1]} are all in use: stop a stack, or set ROS_DOMAIN_ID"
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Bring the stack down."""
        self._exit.close()

    def _connect(self) -> None:
        node = self._node
        self._reset = node.create_client(ResetWorld, "sim/reset")
        self._score = node.create_client(ScoreEpisode, "sim/score")
        self._run_sim = node.create_client(SetBool, "sim/run")
        self._set_mode = node.create_client(SetMode, "wbc/set_mode")
        self._run_task = ActionClient(node, RunTask, "run_task")
        deep = QoSProfile(depth=2000, reliability=sensor_qos(True).reliability)
        if self._record:
            for topic, kind in TOPICS.items():
                node.create_subscription(kind, topic, lambda cdr, t=topic: self._keep(t, cdr), deep, raw=True)
            for camera in self._cameras():
                topic = f"camera/{camera}/color/image_raw"
                node.create_subscription(Image, topic, lambda cdr, t=topic: self._keep(t, cdr), deep, raw=True)
        else:
            # The clock, once per observation, is enough to see that time goes on.
            node.create_subscription(Clock, "/clock", lambda cdr: self._hear(cdr), deep, raw=True)
        deadline = time.monotonic() + READY_SECONDS
        waiting: dict[str, Callable[[], bool]] = {
            client.srv_name: client.service_is_ready
            for client in (self._reset, self._score, self._run_sim, self._set_mode)
        }
        waiting["run_task"] = self._run_task.server_is_ready
        while waiting:
            self._processes.check()
            self._executor.spin_once(timeout_sec=0.05)
            waiting = {name: ready for name, ready in waiting.items() if not ready()}
            if time.monotonic() > deadline:
                raise StackError(
                    f"{', '.join(waiting)} did not come up within {READY_SECONDS:g} s: see the logs in {self._logs}"
                )

    def _cameras(self) -> tuple[str, ...]:
        outside = (OUTSIDE_CAMERA,) if self._values["outside"] else ()
        return (*(CAMERAS if self.options.cameras else ()), *outside)

    def _hear(self, cdr: bytes) -> int:
        stamp = stamp_of_bytes(cdr)
        self._stamp = max(self._stamp, stamp)
        return stamp

    def _keep(self, topic: str, cdr: bytes) -> None:
        self._bag.append((topic, cdr, self._hear(cdr)))

    def _wait(self, future: Any, what: str, on_tick: Callable[[float], None] | None = None) -> Any:
        """The result of a future, as long as simulated time goes on."""
        heard, deadline = self._stamp, time.monotonic() + STALL_SECONDS
        begun, told = 0, -1
        while not future.done():
            self._executor.spin_once(timeout_sec=0.2)
            if self._stamp != heard:
                heard, deadline = self._stamp, time.monotonic() + STALL_SECONDS
                begun = begun or heard
                if on_tick is not None and (tenth := (heard - begun) * 10 // NANOSECONDS) != told:
                    told = tenth
                    on_tick((heard - begun) / NANOSECONDS)
            elif time.monotonic() > deadline:
                self._processes.check()
                raise StackError(f"{what}: nothing happened for {STALL_SECONDS:g} s, see the logs in {self._logs}")
            else:
                self._processes.check()
        return future.result()

    def _call(self, client: Any, request: Any) -> Any:
        """Ask a service; again when no answer comes, which is lost while two sides are still finding each other."""
        deadline = time.monotonic() + STALL_SECONDS
        while True:
            future = client.call_async(request)
            patience = time.monotonic() + ANSWER_SECONDS
            while not future.done() and time.monotonic() < patience:
                self._executor.spin_once(timeout_sec=0.2)
            if future.done():
                return future.result()
            client.remove_pending_request(future)
            self._processes.check()
            if time.monotonic() > deadline:
                raise StackError(f"{client.srv_name} does not answer: see the logs in {self._logs}")

    def run(self, seed: int, on_tick: Callable[[float], None] | None = None) -> Episode:
        """One episode.

        Args:
            seed: of the scene.
            on_tick: called now and then with the simulated seconds so far.

        Raises:
            StackError: a process died or nothing goes on.
            ValueError: the instruction names what the catalogue has not.
        """
        o = self.options
        self._call(self._run_sim, SetBool.Request(data=False))
        # The simulator puts the robot elsewhere at once: the controller starts anew from what it then measures, as
        # after an emergency stop.
        for mode in (Mode.ESTOP, Mode.HOLD):
            self._call(self._set_mode, SetMode.Request(mode=mode.value, reset=True))
        request = ResetWorld.Request(task=o.task, setting=o.setting, seed=seed, instruction=o.instruction or "")
        answer = self._call(self._reset, request)
        if not answer.success:
            raise ValueError(answer.message)
        scene = self._task.sample(seed, o.instruction)
        self._bag.clear()
        self._feedback = None
        if not self._values["lockstep"]:
            self._await_motion()
        goal = RunTask.Goal(instruction=answer.instruction, time_limit=scene.time_limit)
        handle = self._wait(self._run_task.send_goal_async(goal, feedback_callback=self._on_feedback), "run_task")
        if not handle.accepted:
            raise StackError(f"the policy refuses the task: {answer.instruction!r}")
        self._await_feedback()
        started = time.perf_counter()
        self._call(self._run_sim, SetBool.Request(data=True))
        result = self._wait(handle.get_result_async(), "run_task", on_tick).result
        score = self._settle(scene.valid)
        wall = time.perf_counter() - started
        self._drain()
        status = {RunTask.Result.TERMINATED: TaskStatus.TERMINATED, RunTask.Result.INVALID: TaskStatus.INVALID}
        words = "" if result.status == RunTask.Result.TERMINATED else result.message
        bag = list(self._bag)
        trajectory, frames = self._replay(bag)
        return Episode(
            result=EpisodeResult(
                seed=seed,
                instruction=answer.instruction,
                setting=o.setting,
                instruction_following=score.instruction_following,
                success=score.success,
                progress=score.progress,
                task_status=status.get(result.status, TaskStatus.ONGOING),
                sim_seconds=score.sim_seconds,
                wall_seconds=wall,
                max_joint_jerk=score.max_joint_jerk,
                limit_violations=score.limit_violations,
                collisions=score.collisions,
                failure=failure_of(score.success, score.failure, words),
            ),
            trajectory=trajectory.trajectory(),
            digest=score.trajectory_hash,
            final_poses={item.name: item.pose for item in scene_state(score.scene).objects},
            frames=frames,
            bag=bag,
            verdict=result.message,
            inference_ms=1000.0 * result.mean_inference_time,
        )

    def _await_motion(self) -> None:
        """Until the simulator, which keeps its own time, has come so far that it tells where everything is."""
        deadline = time.monotonic() + READY_SECONDS
        while self._call(self._score, ScoreEpisode.Request()).sim_seconds < 0.2:
            self._processes.check()
            self._executor.spin_once(timeout_sec=0.1)
            if time.monotonic() > deadline:
                raise StackError(f"the simulator's time does not go on: see the logs in {self._logs}")

    def _on_feedback(self, message: Any) -> None:
        self._feedback = message.feedback

    def _await_feedback(self) -> None:
        deadline = time.monotonic() + STALL_SECONDS
        while self._feedback is None:
            self._processes.check()
            self._executor.spin_once(timeout_sec=0.1)
            if time.monotonic() > deadline:
                raise StackError(f"the policy accepted the task but did not begin it: see the logs in {self._logs}")

    def _settle(self, valid: bool) -> Any:
        """Let things come to rest, pause, and ask what it was worth."""
        end = SETTLE_SECONDS if valid else REFUSAL_SECONDS
        score = self._call(self._score, ScoreEpisode.Request())
        first = score.sim_seconds if valid else 0.0
        while score.sim_seconds < first + end:
            self._executor.spin_once(timeout_sec=0.05)
            score = self._call(self._score, ScoreEpisode.Request())
        self._call(self._run_sim, SetBool.Request(data=False))
        return self._call(self._score, ScoreEpisode.Request())

    def _drain(self) -> None:
        """Take what is still under way to us."""
        end = time.monotonic() + STALL_SECONDS
        taken = -1
        while taken != len(self._bag) and time.monotonic() < end:
            taken = len(self._bag)
            quiet = time.monotonic() + QUIET_SECONDS
            while time.monotonic() < quiet:
                self._executor.spin_once(timeout_sec=QUIET_SECONDS / 4)

    def _replay(self, bag: list[tuple[str, bytes, int]]) -> tuple[TrajectoryLog, list[Frame]]:
        """The motion and the pictures that the recorded messages tell."""
        log = TrajectoryLog(self._robot.joint_names)
        frames: list[Frame] = []
        ticks = StampJoin(("joint_states", "odom", "joint_command", "cmd_vel", "wbc/status"))
        pictures = StampJoin(self._cameras()) if self._cameras() else None
        status, confidence, phase, mode = TaskStatus.ONGOING, 0.0, "", Mode.HOLD
        for topic, cdr, stamp in sorted(bag, key=lambda entry: entry[2]):
            if topic == "policy/task_status":
                word = deserialize_message(cdr, TaskStatusMsg)
                status, confidence, phase = TaskStatus(word.status), word.confidence, word.phase
            elif topic.startswith("camera/"):
                image = image_array(deserialize_message(cdr, Image))
                views = pictures.add(topic.split("/")[1], stamp, image) if pictures else None
                if views is not None:
                    frames.append(Frame(stamp, views, status, confidence, phase, mode.value))
            elif topic in ("joint_states", "odom", "joint_command", "cmd_vel", "wbc/status"):
                tick = ticks.add(topic, stamp, deserialize_message(cdr, TOPICS[topic]))
                if tick is not None:
                    mode = Mode(tick["wbc/status"].mode)
                    log.append(
                        robot_state(tick["joint_states"], tick["odom"]),
                        joint_command(tick["joint_command"], tick["cmd_vel"]),
                        WbcStatus(stamp, mode, active=tuple(tick["wbc/status"].active)),
                        status,
                        confidence,
                        phase,
                    )
        return log, frames
