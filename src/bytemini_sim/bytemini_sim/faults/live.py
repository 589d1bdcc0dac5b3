"""Faults of processes, discovery and disks: what only the real nodes over DDS in real time can show.

`LiveStack` brings the stack up once, as `./bytemini up` does, and listens. `strike` gives the robot a task, waits until
it moves, lets the fault happen, measures until somebody holds (the controller says HOLD or ESTOP, or the driver that it
holds by itself), undoes the fault, restarts that one process where it is dead, and looks whether the robot moves again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from bytemini_core.domain import private_domain
from bytemini_core.executor import StreamExecutor
from bytemini_core.ros import (
    COMMAND_QOS,
    LATCHED_QOS,
    SENSOR_QOS,
    joint_state_message,
    reference_message,
    stamp_of,
    to_time,
)
from bytemini_core.types import NANOSECONDS, Array, Mode, RobotState, WholeBodyReference
from bytemini_core.watchdog import HOLDING, SILENCE
from bytemini_description.robot import load_robot
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from bytemini_bringup.processes import Processes
from bytemini_bringup.stack import Process, stack
from bytemini_bringup.stack import options as stack_options
from bytemini_msgs.action import RunTask
from bytemini_msgs.msg import JointCommand as JointCommandMsg
from bytemini_msgs.msg import WbcStatus as WbcStatusMsg
from bytemini_msgs.msg import WholeBodyReference as WholeBodyReferenceMsg
from bytemini_msgs.srv import ResetWorld, ScoreEpisode, SetMode
from bytemini_sim.faults import cameras
from bytemini_sim.faults.adapter import Adapter
from bytemini_sim.faults.headset import Headset
from bytemini_sim.faults.run import AT_REST, FaultReport

WATCH = 2.0
"""Seconds of the machine's clock for which the robot is watched from the beginning of a fault."""

MOVING = {Mode.POLICY: 0.25, Mode.TELEOP: 0.1}
"""rad/s, m/s: with a joint faster than this the robot moves, by its owner."""

PORT = 8478
"""Of the headset's page."""

ANSWER = 40.0
"""Seconds that anything may take to come about, on a machine with other work."""

SHORT = 0.5
"""Seconds that a stall lasts."""

NAMES = {
    "policy": "gr3_policy",
    "optimizer": "trajectory_optimizer",
    "controller": "wbc_controller",
    "driver": "bytemini_sim",
    "cameras": "cameras",
    "teleop": "teleop_vr",
    "button": "estop_button",
}
"""The processes that may die, and what they are called in the stack."""


@dataclass
class Heard:
    """What was heard since a fault began: (s of the machine's clock, s of the robot's, what)."""

    modes: list[tuple[float, float, str, str]] = field(default_factory=list)
    holding: list[tuple[float, float, bool]] = field(default_factory=list)
    speeds: list[tuple[float, float, float, float]] = field(default_factory=list)
    commands: list[tuple[float, float, Array]] = field(default_factory=list)


@dataclass(frozen=True)
class LiveFault:
    """`name`; what it `means`; what begins it, a generator that is resumed to undo it.

    `tolerated`: the robot goes on. `owner`: who drives the robot into it. `death`: a process falls silent.
    """

    name: str
    means: str
    strike: Callable[[LiveStack], Iterator[None]]
    tolerated: bool = False
    owner: Mode = Mode.POLICY
    death: bool = False


class LiveStack:
    """The running stack and an ear in it. A context manager."""

    def __init__(self, seed: int, logs: Path, robot: str = "v1", **chosen: Any) -> None:
        """Prepare.

        Args:
            seed: of the scenes.
            logs: folder for the nodes' logs.
            robot: version of the robot.
            chosen: further options of the stack.
        """
        self.seed, self._logs = seed, logs
        self.robot = load_robot(robot)
        self._chosen = {"robot": robot, "cameras": False, "seed": seed, "teleop": True, "teleop_port": PORT, **chosen}
        self._headset: Headset | None = None
        self.stamp = 0
        self.speed = 0.0
        self.mode = ""
        self._exit = contextlib.ExitStack()
        self.mark()

    def __enter__(self) -> LiveStack:
        """Bring everything up."""
        with contextlib.ExitStack() as exits:
            self.domain = exits.enter_context(private_domain())
            # A token and a certificate, and a latch, of its own.
            around = {"XDG_STATE_HOME": str(self._logs / "state"), "XDG_CONFIG_HOME": str(self._logs / "config")}
            for name, value in around.items():
                exits.enter_context(_surroundings(name, value))
            context = rclpy.Context()
            rclpy.init(context=context, domain_id=self.domain)
            exits.callback(context.try_shutdown)
            self.node = rclpy.create_node("campaign", context=context, start_parameter_services=False)
            exits.callback(self.node.destroy_node)
            self._executor = StreamExecutor(context=context)
            self._executor.add_node(self.node)
            self._listen()
            self.button = exits.enter_context(Adapter())
            values = stack_options(estop_port=self.button.url, **self._chosen)
            parts = [p for p in stack(values) if p.name != "robot_state_publisher"]
            camera = Process("cameras", "bytemini_sim", "fault_cameras", cameras.PARAMETERS)
            self.processes = exits.enter_context(Processes([*parts, camera], self._logs, ordered=True))
            exits.callback(self._take_headset_off)
            for client in (self._reset, self._score, self._set_mode):
                self.until(client.service_is_ready, client.srv_name)
            self.until(self._tasks.server_is_ready, "run_task")
            self._exit = exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Bring everything down."""
        self._exit.close()

    def _listen(self) -> None:
        node = self.node
        self._reset = node.create_client(ResetWorld, "sim/reset")
        self._score = node.create_client(ScoreEpisode, "sim/score")
        self._set_mode = node.create_client(SetMode, "wbc/set_mode")
        self._parameters = node.create_client(SetParameters, "wbc_controller/set_parameters")
        self._tasks = ActionClient(node, RunTask, "run_task")
        node.create_subscription(WbcStatusMsg, "wbc/status", self._on_status, 10)
        node.create_subscription(Bool, HOLDING, self._on_holding, LATCHED_QOS)
        node.create_subscription(JointState, "joint_states", self._on_joints, SENSOR_QOS)
        node.create_subscription(JointCommandMsg, "joint_command", self._on_command, COMMAND_QOS)

    def _on_status(self, message: WbcStatusMsg) -> None:
        self.mode = message.mode
        self.heard.modes.append((time.monotonic(), stamp_of(message) / NANOSECONDS, message.mode, message.reason))

    def _on_holding(self, message: Bool) -> None:
        self.heard.holding.append((time.monotonic(), self.stamp / NANOSECONDS, message.data))

    def _on_joints(self, message: JointState) -> None:
        self.stamp = stamp_of(message)
        rates = np.abs(np.array(message.velocity))
        if len(rates) == len(self.robot.velocity) and np.isfinite(rates).all():
            self.speed = float(rates.max())
            share = float((rates / self.robot.velocity).max())
            self.heard.speeds.append((time.monotonic(), self.stamp / NANOSECONDS, self.speed, share))

    def _on_command(self, message: JointCommandMsg) -> None:
        if self.stamp - stamp_of(message) > SILENCE * NANOSECONDS:
            return  # an answer to a state so old that the driver does not follow it
        self.heard.commands.append((time.monotonic(), stamp_of(message) / NANOSECONDS, np.array(message.velocity)))

    # Waiting

    def spin(self, seconds: float) -> None:
        """Listen for that long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def until(self, condition: Callable[[], bool], what: str, seconds: float = ANSWER) -> None:
        """Listen until it is so.

        Raises:
            TimeoutError: it never was.
        """
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds:g} s in vain for {what}: see the logs in {self._logs}")
            self._executor.spin_once(timeout_sec=0.02)

    def call(self, client: Any, request: Any) -> Any:
        """Ask a service, again where the answer is lost."""
        end = time.monotonic() + ANSWER
        while time.monotonic() < end:
            future = client.call_async(request)
            patience = time.monotonic() + 3.0
            while not future.done() and time.monotonic() < patience:
                self._executor.spin_once(timeout_sec=0.05)
            if future.done():
                return future.result()
            client.remove_pending_request(future)
        raise TimeoutError(f"{client.srv_name} does not answer: see the logs in {self._logs}")

    def request(self, mode: Mode) -> bool:
        """Ask the controller for a mode, as somebody who may reset it."""
        return bool(self.call(self._set_mode, SetMode.Request(mode=mode.value, reset=True)).success)

    # What an operator does

    def begin(self, owner: Mode = Mode.POLICY) -> None:
        """A fresh scene, and a task or a person with a headset; returns when the robot moves."""
        self._take_headset_off()
        self.stop()
        answer = self.call(self._reset, ResetWorld.Request(task="pick_place", setting="basic", seed=self.seed))
        self._instruction = answer.instruction
        self.spin(0.3)
        self.go(owner)

    def stop(self) -> None:
        """Stop whatever goes on, and reset."""
        self.request(Mode.ESTOP)
        self.reset()

    def reset(self) -> None:
        """Reset, as soon as the controller lets one."""
        self.until(lambda: self.request(Mode.HOLD), "a reset")

    def moves(self, owner: Mode) -> bool:
        """Whether it moves, led by that owner."""
        return self.mode == owner and self.speed > MOVING[owner]

    def _take_headset_off(self) -> None:
        if self._headset is not None:
            self._headset.stop()
            self._headset = None

    def go(self, owner: Mode = Mode.POLICY) -> None:
        """The task, given again until the robot moves: what was started anew may still be looking around.

        A stop that latched meanwhile (its button's node got no processor for its half second) is lifted, as an operator
        would: no fault has begun yet.

        Raises:
            TimeoutError: it does not move.
        """
        if owner is Mode.TELEOP:
            if self._headset is None:
                self._headset = Headset(PORT)
                self._headset.start()
            self.until(lambda: self.moves(owner), "the headset to lead the robot")
            return
        end = time.monotonic() + ANSWER
        while time.monotonic() < end:
            if self.mode == Mode.ESTOP:
                self.reset()
            sent = self._tasks.send_goal_async(RunTask.Goal(instruction=self._instruction, time_limit=60.0))
            patience = time.monotonic() + 4.0
            while time.monotonic() < patience:
                self._executor.spin_once(timeout_sec=0.02)
                if self.moves(owner):
                    return
                if sent.done() and not sent.result().accepted:
                    break
            self._tasks.wait_for_server(timeout_sec=0.1)
        raise TimeoutError(f"the robot does not move; the controller says {self.heard.modes[-1:]}")

    def _elapsed(self, heard: Heard, at: float, stamp: float) -> float:
        """Seconds from the fault to a moment, given by both clocks: the robot's, unless the driver is silent.

        Who says it may have seen an older state of the robot than we had at the fault: that is 0.
        """
        last = max((arrived for arrived, *_ in heard.speeds if arrived <= at), default=self._began)
        return at - self._began if at - last > 0.5 * SILENCE else max(0.0, stamp - self._stamp)

    def violations(self) -> int:
        """Limit violations of the simulated robot since its reset."""
        return int(self.call(self._score, ScoreEpisode.Request()).limit_violations)

    # The fault

    def mark(self) -> None:
        """The fault begins now; it may begin later than it is prepared."""
        self.heard, self._began, self._stamp = Heard(), time.monotonic(), self.stamp / NANOSECONDS

    def strike(self, fault: LiveFault) -> FaultReport:
        """Let it happen to the moving robot; see the module.

        Times are the robot's, by which the watchdogs go; the machine's where the driver says none any more.
        """
        self.begin(fault.owner)
        before = self.violations()
        self.until(lambda: self.moves(fault.owner), "the robot to move")
        self.mark()
        doing = fault.strike(self)
        next(doing)
        heard, began, stamp = self.heard, self._began, self._stamp
        self.spin(max(0.0, WATCH - (time.monotonic() - began)))
        hold = _hold(heard, began)
        rest = next(
            (
                1e3 * (robot - stamp)
                for at, robot, _, _ in heard.speeds
                if at > began and all(s < AT_REST for t, _, s, _ in heard.speeds if at <= t <= at + 0.3)
            ),
            None,
        )
        next(doing, None)
        moved = True
        try:
            if fault.tolerated and hold is None:
                self.until(lambda: self.mode == fault.owner, fault.owner, 5.0)
            else:
                self.until(lambda: self.mode in (Mode.HOLD, Mode.ESTOP), "HOLD after the fault")
                self.reset()
                self.until(self._tasks.server_is_ready, "run_task")
                self.go(fault.owner)
        except TimeoutError:
            moved = False
        return FaultReport(
            name=fault.name,
            seed=self.seed,
            time_to_hold_ms=None if hold is None else 1e3 * self._elapsed(heard, *hold[:2]),
            wall_ms=None if hold is None else 1e3 * (hold[0] - began),
            time_to_rest_ms=rest,
            limit_violations=max(0, self.violations() - before),
            max_speed_ratio=max((share for *_, share in heard.speeds), default=0.0),
            max_acceleration_ratio=_acceleration(heard.commands, self.robot.acceleration),
            recovered=moved,
            reason="" if hold is None else hold[2],
        )


@contextlib.contextmanager
def _surroundings(name: str, value: str) -> Iterator[None]:
    """A variable of the environment, for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _hold(heard: Heard, began: float) -> tuple[float, float, str] | None:
    """When (s of the machine's clock, of the robot's) somebody said that it holds, and why."""
    says = [(at, stamp, why) for at, stamp, mode, why in heard.modes if at > began and mode in (Mode.HOLD, Mode.ESTOP)]
    says += [(at, stamp, "the driver has no command") for at, stamp, holding in heard.holding if at > began and holding]
    return min(says, default=None)


def _acceleration(commands: list[tuple[float, float, Array]], limits: Array) -> float:
    """Largest commanded acceleration over its limit, between commands of successive ticks."""
    worst = 0.0
    for (_, t0, v0), (_, t1, v1) in itertools.pairwise(commands):
        if 0.004 < t1 - t0 < 0.006 and v0.shape == v1.shape == limits.shape:
            worst = max(worst, float((np.abs(v1 - v0) / (t1 - t0) / limits).max()))
    return worst


# What can happen


def _killed(part: str) -> Callable[[LiveStack], Iterator[None]]:
    def strike(live: LiveStack) -> Iterator[None]:
        os.kill(live.processes.pid(NAMES[part]), signal.SIGKILL)
        yield
        live.processes.restart(NAMES[part])

    return strike


def _stopped(*parts: str, seconds: float = 0.0) -> Callable[[LiveStack], Iterator[None]]:
    """Processes stopped, and continued by whoever undoes it, or after so many seconds."""

    def strike(live: LiveStack) -> Iterator[None]:
        for part in parts:
            os.kill(live.processes.pid(NAMES[part]), signal.SIGSTOP)
        if seconds:
            live.spin(seconds)
        else:
            yield
        for part in parts:
            os.kill(live.processes.pid(NAMES[part]), signal.SIGCONT)
        if seconds:
            yield

    return strike


def _publishing(
    kind: type,
    topic: str,
    message: Callable[[LiveStack], Any],
    qos: QoSProfile = COMMAND_QOS,
    rate: float = 200.0,
    seconds: float = SHORT,
) -> Callable[[LiveStack], Iterator[None]]:
    """Somebody else publishes on a topic for a while."""

    def strike(live: LiveStack) -> Iterator[None]:
        publisher = live.node.create_publisher(kind, topic, qos)
        live.spin(0.3)  # they find each other; nothing is sent yet
        live.mark()
        end, due = time.monotonic() + seconds, time.monotonic()
        while time.monotonic() < end:
            publisher.publish(message(live))
            due = max(due + 1.0 / rate, time.monotonic() - 0.05)
            live.spin(max(0.0, due - time.monotonic()))
        live.node.destroy_publisher(publisher)
        yield

    return strike


def _home(live: LiveStack) -> WholeBodyReferenceMsg:
    names, home = live.robot.joint_names, live.robot.home
    zero = np.zeros(len(names))
    return reference_message(
        WholeBodyReference(live.stamp + 5_000_000, Mode.POLICY, names, live.robot.clamp_wrist(-home), zero, zero)
    )


def _nonsense(live: LiveStack) -> WholeBodyReferenceMsg:
    message = _home(live)
    message.position = [float("nan")] * len(message.position)
    return message


def _no_number(live: LiveStack) -> JointState:
    n = len(live.robot.joint_names)
    message = joint_state_message(
        RobotState(live.stamp + 2_500_000, live.robot.joint_names, np.zeros(n), np.zeros(n), np.zeros(n))
    )
    message.position = [float("nan")] * n
    return message


def _clock(seconds: float) -> Callable[[LiveStack], Clock]:
    return lambda live: Clock(clock=to_time(max(0, live.stamp + round(seconds * NANOSECONDS))))


def _estop_topic(live: LiveStack) -> Iterator[None]:
    publisher = live.node.create_publisher(Bool, "estop", LATCHED_QOS)
    live.until(lambda: publisher.get_subscription_count() > 0, "who listens to estop")
    live.spin(0.3)  # they find us, too: a button's publisher is there long before it is pressed
    live.mark()
    publisher.publish(Bool(data=True))
    yield
    live.node.destroy_publisher(publisher)


def _pressed(live: LiveStack) -> Iterator[None]:
    live.button.press()
    yield
    live.button.release()


def _adapter_hangs(live: LiveStack) -> Iterator[None]:
    live.button.freeze()
    yield
    live.button.thaw()


def _picture_freezes(live: LiveStack) -> Iterator[None]:
    os.kill(live.processes.pid(NAMES["cameras"]), cameras.FREEZE)
    yield
    os.kill(live.processes.pid(NAMES["cameras"]), cameras.THAW)


def _estop_and_killed(live: LiveStack) -> Iterator[None]:
    """Stopped, then the controller dies: it holds, by itself or by the driver, and only a reset frees it."""
    live.request(Mode.ESTOP)
    os.kill(live.processes.pid(NAMES["controller"]), signal.SIGKILL)
    yield
    live.processes.restart(NAMES["controller"])


def _disk_full(live: LiveStack) -> Iterator[None]:
    """No process of the stack can write to a file any more; its logs, its state."""
    pids = [live.processes.pid(name) for name in NAMES.values()]
    before = resource.prlimit(pids[0], resource.RLIMIT_FSIZE)
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def _set_parameter(live: LiveStack) -> Iterator[None]:
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="v9")
    request = SetParameters.Request(parameters=[Parameter(name="robot", value=value)])
    answer = live.call(live._parameters, request)
    assert not answer.results[0].successful
    yield


def _wrong_parameter(live: LiveStack) -> Iterator[None]:
    """The controller is started again with a parameter that makes no sense: it refuses, and names it."""
    live.processes.restart(NAMES["controller"], compliance="much")
    yield
    log = live.processes.log(NAMES["controller"])
    named = "parameter compliance of wbc_controller is 'much'"
    live.until(lambda: named in log.read_text(errors="replace"), "the controller to name the wrong parameter")
    live.processes.restart(NAMES["controller"])


_BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)

LIVE_FAULTS: tuple[LiveFault, ...] = (
    *(
        LiveFault(
            f"{part} process killed", "kill -9, then that process alone is started again", _killed(part),
            owner=Mode.TELEOP if part == "teleop" else Mode.POLICY, death=True,
        )
        for part in NAMES
    ),
    *(
        LiveFault(
            f"{part} process stopped", "kill -STOP for two seconds, then it goes on", _stopped(part),
            owner=Mode.TELEOP if part == "teleop" else Mode.POLICY, death=True,
        )
        for part in NAMES
    ),
    LiveFault(
        "network stalls 0.5 s, processes",
        "policy, optimizer and controller stand still for 0.5 s",
        _stopped("policy", "optimizer", "controller", seconds=SHORT),
    ),
    LiveFault("references of another QoS", "a best-effort sender: nothing of it may arrive",
              _publishing(WholeBodyReferenceMsg, "wbc/reference", _home, _BEST_EFFORT), tolerated=True),
    LiveFault("two publishers of references", "a second sender wants the robot elsewhere",
              _publishing(WholeBodyReferenceMsg, "wbc/reference", _home)),
    LiveFault("flood of references, NaN", "a thousand a second, for 0.5 s",
              _publishing(WholeBodyReferenceMsg, "wbc/reference", _nonsense, rate=1000.0), tolerated=True),
    LiveFault("two drivers, one NaN", "a second publisher of joint states",
              _publishing(JointState, "joint_states", _no_number, SENSOR_QOS), tolerated=True),
    LiveFault("clock jumps forward 5 s, /clock", "somebody else publishes the time",
              _publishing(Clock, "/clock", _clock(5.0), QoSProfile(depth=10))),
    LiveFault("clock jumps back 5 s, /clock", "somebody else publishes the time",
              _publishing(Clock, "/clock", _clock(-5.0), QoSProfile(depth=10))),
    LiveFault("emergency stop, topic", "the button", _estop_topic),
    LiveFault("emergency stop, button", "the button's loop is opened", _pressed),
    LiveFault("the button's adapter hangs", "its lines read as they last were", _adapter_hangs),
    LiveFault("a camera's picture freezes", "under new stamps, while the policy drives", _picture_freezes),
    LiveFault("a camera's picture freezes, TELEOP", "under new stamps, while a person drives", _picture_freezes,
              owner=Mode.TELEOP),
    LiveFault("emergency stop, then the controller dies", "kill -9 on the stopped controller", _estop_and_killed),
    LiveFault("disk full", "no process can write to a file", _disk_full, tolerated=True),
    LiveFault("parameter changed while it moves", "robot:=v9 by the parameter service", _set_parameter, tolerated=True),
    LiveFault("parameter nonsense at a restart", "the controller refuses to start; then rightly", _wrong_parameter),
)  # fmt: skip
"""The live part of the campaign."""
