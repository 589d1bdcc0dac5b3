"""`./bytemini bench wbc-node`: the controller's node over DDS, alone and for minutes beside the simulator.

1. Alone: this process publishes a robot's state and a reference of two hands, and waits for the command that answers
   both (lock step). What is measured is everything between: two conversions, two transports, the tick.
2. Beside the simulator in real time, both on two cores: a teleoperator's references at 100 Hz, and the time between
   commands as they arrive here. A command is due every 5 ms; a gap above 10 ms missed its deadline by more than 5 ms.
   A command answers a state: the same is told of the states, and how long after its state a command arrives.

`--priority` gives controller, simulator (the robot's driver) and this process a real-time priority, as on a robot.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.errors import UserError
from bytemini_core.realtime import hurry
from bytemini_core.types import NANOSECONDS, SIDES, Array, HandReference, Mode, RobotState, WholeBodyReference
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel, load_robot

from wbc_controller.benchmarks.peers import DT
from wbc_controller.config import WbcConfig
from wbc_controller.controller import WholeBodyController
from wbc_controller.hands import logarithm

LATE = 2.0 * DT
RATE = 100.0  # of the teleoperator's references, Hz
_WARM = 200  # first ticks, left out of the times
_GRANT = 50  # tick at which the robot is asked for: the node knows its state by then


class Figures:
    """References of a person whose hands draw circles of 10 cm, from rest where they are at home."""

    def __init__(self, robot: RobotModel) -> None:
        kinematics = Kinematics(robot)
        self._poses = {}
        for side in SIDES:
            pose = kinematics.forward(f"{side}_tcp", robot.home)
            vector = logarithm(pose[:3, :3])
            angle = max(float(np.linalg.norm(vector)), 1e-9)
            turn = (*np.sin(angle / 2.0) * vector / angle, np.cos(angle / 2.0))
            self._poses[side] = np.concatenate((pose[:3, 3], turn))

    def at(self, stamp: int, t: float) -> WholeBodyReference:
        """The reference for `stamp` (ns), `t` seconds after the start."""
        grown, w = min(t / 2.0, 1.0), 2.0
        offset = 0.05 * grown * np.array((1.0 - np.cos(w * t), 0.0, np.sin(w * t)))
        twist = 0.05 * grown * w * np.array((np.sin(w * t), 0.0, np.cos(w * t), 0.0, 0.0, 0.0))
        hands = []
        for side, home in self._poses.items():
            pose = home.copy()
            pose[:3] += offset
            hands.append(HandReference(f"{side}_tcp", pose, twist))
        none = np.zeros(0)
        return WholeBodyReference(stamp, Mode.TELEOP, (), none, none, none, hands=tuple(hands))


class Listener:
    """This process's side of DDS: what it publishes by topic, the commands that it hears, and a person's request."""

    def __init__(self, lockstep: bool, check: Callable[[], None]) -> None:
        import rclpy
        from bytemini_core.executor import StreamExecutor
        from bytemini_core.ros import command_qos, sensor_qos, stamp_of
        from nav_msgs.msg import Odometry
        from sensor_msgs.msg import JointState

        from bytemini_msgs.msg import JointCommand
        from bytemini_msgs.msg import WholeBodyReference as Message
        from bytemini_msgs.srv import SetMode

        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("bench_wbc", context=self._context, start_parameter_services=False)
        self._executor = StreamExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._check = check
        qos = command_qos(lockstep)
        self.references = self.node.create_publisher(Message, "wbc/reference", qos)
        self.arrivals: list[float] = []
        self.answered: list[int] = []
        self.states: dict[int, float] = {}  # arrival by stamp
        self.command: Any = None
        self._stamp_of = stamp_of
        self.node.create_subscription(JointCommand, "joint_command", self._hear, qos)
        if lockstep:
            self.joints = self.node.create_publisher(JointState, "joint_states", sensor_qos(True))
            self.odometry = self.node.create_publisher(Odometry, "odom", sensor_qos(True))
        else:
            self.node.create_subscription(JointState, "joint_states", self._see, sensor_qos(False))
        self._modes = self.node.create_client(SetMode, "wbc/set_mode")
        self._request = SetMode.Request

    def _hear(self, command: Any) -> None:
        self.arrivals.append(time.perf_counter())
        self.answered.append(self._stamp_of(command))
        self.command = command

    def _see(self, state: Any) -> None:
        self.states[self._stamp_of(state)] = time.perf_counter()

    def forget(self) -> None:
        """Count what comes from now on."""
        self.arrivals.clear()
        self.answered.clear()
        self.states.clear()

    def spin(self, until: Callable[[], bool], within: float, what: str) -> None:
        """Listen until something is the case.

        Raises:
            UserError: it was not within so many seconds.
        """
        end = time.monotonic() + within
        while not until():
            self._executor.spin_once(timeout_sec=0.1)
            self._check()
            if time.monotonic() > end:
                raise UserError(f"waited {within:g} s in vain: {what}")

    def listen(self, seconds: float) -> None:
        """Hear what comes within so many seconds."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def lead(self) -> None:
        """Ask for the robot as a person does."""
        self.spin(self._modes.service_is_ready, 30.0, "wbc/set_mode is served")
        answer = self._modes.call_async(self._request(mode=Mode.TELEOP.value))
        self.spin(answer.done, 30.0, "wbc/set_mode answers")
        if not answer.result().success:
            raise UserError(f"the robot was not granted: {answer.result().message}")

    def close(self) -> None:
        """Leave."""
        self.node.destroy_node()
        self._context.try_shutdown()


@contextmanager
def _running(names: tuple[str, ...], lockstep: bool, robot: str, priority: int) -> Iterator[Listener]:
    """The named processes of the stack in a domain of their own, with this priority, and somebody who listens."""
    from bytemini_core.domain import private_domain

    from bytemini_bringup.processes import Processes
    from bytemini_bringup.stack import options, stack

    processes = [
        replace(p, parameters={**p.parameters, "priority": priority})
        for p in stack(options(robot=robot, lockstep=lockstep, cameras=False))
        if p.name in names
    ]
    with (
        tempfile.TemporaryDirectory(prefix="bytemini-wbc-") as logs,
        private_domain(),
        Processes(processes, Path(logs), environment=dict(os.environ)) as started,
    ):
        listener = Listener(lockstep, started.check)
        try:
            yield listener
        finally:
            listener.close()


def alone(robot: RobotModel, ticks: int, priority: int = 0) -> dict[str, Any]:
    """Time (ms) from a reference's publication to its command's arrival here, in lock step."""
    from bytemini_core.ros import joint_state_message, odometry_message, reference_message

    figures, zero, taken = Figures(robot), np.zeros(len(robot.joint_names)), []
    position = robot.home.copy()
    with _running(("wbc_controller",), True, robot.version, priority) as listener:
        heard = listener.node.count_subscribers
        listener.spin(
            lambda: all(heard(t) for t in ("joint_states", "odom", "wbc/reference")), 60.0, "the node listens"
        )
        for tick in range(ticks):
            if tick == _GRANT:
                listener.lead()
            stamp = (tick + 1) * round(DT * NANOSECONDS)
            state = RobotState(stamp, robot.joint_names, position, zero, zero, np.zeros(3))
            reference = reference_message(figures.at(stamp, max(0.0, (tick - _GRANT) * DT)))
            listener.joints.publish(joint_state_message(state))
            listener.odometry.publish(odometry_message(state))
            listener.forget()
            begun = time.perf_counter()
            listener.references.publish(reference)
            listener.spin(lambda: bool(listener.arrivals), 10.0, "a command for each state and reference")
            taken.append(listener.arrivals[0] - begun)
            answer = dict(zip(listener.command.names, listener.command.position, strict=True))
            position = np.array([answer[name] for name in robot.joint_names])
    p50, p99 = 1e3 * np.percentile(taken[_WARM:], (50, 99))
    return {"reference_to_command_ms": {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}}


def beside(robot: RobotModel, minutes: float, priority: int = 0) -> dict[str, Any]:
    """Commands beside the simulator in real time, both on two cores; this process is on others, if there are any."""
    from bytemini_core.ros import reference_message
    from tqdm import tqdm

    every = os.sched_getaffinity(0)
    two = set(sorted(every)[-2:])
    os.sched_setaffinity(0, two)
    try:
        with _running(("bytemini_sim", "wbc_controller"), False, robot.version, priority) as listener:
            os.sched_setaffinity(0, every - two or every)
            listener.spin(lambda: len(listener.arrivals) > 200, 120.0, "the simulator runs and is answered")
            listener.lead()
            figures, clock = Figures(robot), listener.node.get_clock()
            listener.forget()
            began = time.perf_counter()
            for step in tqdm(range(round(60.0 * minutes * RATE)), unit="reference", disable=None):
                listener.references.publish(reference_message(figures.at(clock.now().nanoseconds, step / RATE)))
                listener.listen(max(0.0, began + (step + 1) / RATE - time.perf_counter()))
            arrivals, states = np.array(listener.arrivals), np.array(sorted(listener.states.values()))
            answers = [
                arrival - listener.states[stamp]
                for stamp, arrival in zip(listener.answered, listener.arrivals, strict=True)
                if stamp in listener.states
            ]
    finally:
        os.sched_setaffinity(0, every)
    p50, p99 = 1e3 * np.percentile(answers, (50, 99))
    return {
        "minutes": minutes,
        "cores": len(two),
        "commands": _rhythm(arrivals),
        "states": _rhythm(states),
        "state_to_command_ms": {"p50": round(float(p50), 2), "p99": round(float(p99), 2)},
    }


def _rhythm(arrivals: Array) -> dict[str, Any]:
    """How evenly something came: of its arrival times (s)."""
    gaps = np.diff(arrivals)
    return {
        "rate_hz": round(float(len(gaps) / (arrivals[-1] - arrivals[0])), 2),
        "gap_ms": {name: round(1e3 * float(np.percentile(gaps, q)), 2) for name, q in (("p50", 50), ("p99", 99))},
        "longest_gap_ms": round(1e3 * float(gaps.max()), 2),
        "missed_by_5_ms": int((gaps > LATE).sum()),
    }


def library(robot: RobotModel, ticks: int) -> dict[str, Any]:
    """How idle a loop at 1 kHz around the library would be: the share of a millisecond that `update` leaves."""
    controller = WholeBodyController(robot, WbcConfig(period=0.001))
    figures, zero, spent = Figures(robot), np.zeros(len(robot.joint_names)), []
    position, base = robot.home.copy(), np.zeros(3)
    for tick in range(ticks):
        t = tick * 0.001
        state = RobotState(round(t * NANOSECONDS), robot.joint_names, position, zero, zero, base)
        if tick == _GRANT:
            controller.request_mode(Mode.TELEOP)
        reference = figures.at(state.stamp, max(0.0, t - _GRANT * 0.001))
        begun = time.perf_counter()
        command = controller.update(t, state, reference)
        spent.append(time.perf_counter() - begun)
        position = command.joint.position.copy()
    p50, p99 = 1e6 * np.percentile(spent[_WARM:], (50, 99))
    return {"update_us": {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}, "idle": 1.0 - float(p50) * 1e-3}


def main(argv: list[str]) -> int:
    """The controller's node: reference in to command out, and minutes beside the simulator on two cores."""
    parser = argparse.ArgumentParser(prog="bytemini bench wbc-node", description=main.__doc__)
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    parser.add_argument("--robot", choices=("v1", "v2"), default="v1", help="default: %(default)s")
    parser.add_argument("--ticks", type=int, default=5000, help="of the node alone (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, help="beside the simulator (default: %(default)s)")
    parser.add_argument("--priority", type=int, default=0, help="real-time priority, 1 to 99 (default: none)")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.priority <= 99:
        raise UserError(f"--priority is {arguments.priority}, expected 0 to 99")
    if arguments.ticks < 2 * _WARM or not 0.0 < arguments.minutes < 600.0:
        raise UserError(f"expected at least {2 * _WARM} --ticks, and --minutes above 0")
    robot = load_robot(arguments.robot)
    if arguments.priority and (reason := hurry(arguments.priority)):
        raise UserError(reason)
    figures = {
        "priority": arguments.priority,
        "library_1khz": library(robot, arguments.ticks),
        "alone": alone(robot, arguments.ticks, arguments.priority),
        "beside_simulator": beside(robot, arguments.minutes, arguments.priority),
    }
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0
