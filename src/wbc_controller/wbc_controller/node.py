"""ROS node of the whole-body controller: the last gate, and the only publisher of joint commands.

It answers every robot state with one command. In lock step it first waits for the reference of the same stamp; in real
time it takes the newest. Everything that decides is in `wbc_controller.controller`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import asdict, replace
from functools import partial

import numpy as np
from bytemini_core.diagnostics import Health, Level, Meter, Reporter
from bytemini_core.join import StampJoin
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import (
    LATCHED_QOS,
    SENSOR_QOS,
    StateSubscription,
    base_twist_message,
    command_qos,
    joint_command_message,
    power_state,
    wbc_status_message,
    whole_body_reference,
)
from bytemini_core.types import NANOSECONDS, SIDES, Array, Mode, RobotState, WbcStatus, WholeBodyReference
from bytemini_core.watchdog import PATIENCE, SILENCE, TOPIC, Senders
from bytemini_description.robot import VERSIONS, load_robot
from geometry_msgs.msg import TwistStamped, WrenchStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Bool, Header

from bytemini_msgs.msg import JointCommand as JointCommandMsg
from bytemini_msgs.msg import PowerState as PowerStateMsg
from bytemini_msgs.msg import StopCircuit
from bytemini_msgs.msg import WbcStatus as WbcStatusMsg
from bytemini_msgs.msg import WholeBodyReference as WholeBodyReferenceMsg
from bytemini_msgs.srv import SetMode
from wbc_controller.circuits import StopCircuits
from wbc_controller.compliance import Compliance
from wbc_controller.config import WbcConfig
from wbc_controller.controller import UnseenError, WholeBodyController
from wbc_controller.horizon import Preview
from wbc_controller.latch import Latch, latch_file
from wbc_controller.modes import OWNERS
from wbc_controller.pace import PowerLimits
from wbc_controller.weights import Weights
from wbc_controller.zones import keep_out

_WRENCHES = ("none", "observer", "sensor")
_M = (-10.0, 10.0)
_BOX = "x, y, z, yaw, length, width, height (m, rad, odom)"
_WRENCH_AGE = 50_000_000  # ns between a wrench and the state it is used with

LOST = 2.0
"""Seconds of the machine's clock without a robot state after which the owner has lost the robot, whatever the stamps
say: simulated time stands still with the simulator."""


class WbcNode(Node):
    """State and references in, joint commands and base twist out."""

    def __init__(self) -> None:
        super().__init__("wbc_controller")
        version = parameter(self, "robot", "v1", "version of the robot", choices=VERSIONS)
        self._lockstep = parameter(self, "lockstep", False, "wait for the reference of each state's stamp")
        yielding = parameter(self, "compliance", "none", "where the wrenches on the hands come from", choices=_WRENCHES)
        preview = parameter(self, "preview", False, "plan 0.3 s ahead")
        config = WbcConfig(
            compliance=_admittance(self, yielding),
            preview=Preview() if preview else None,
            grip_force=parameter(
                self, "grip_force", 0.0, "N that a finger presses with at most, 0: any", (), (0.0, 500.0)
            )
            or None,
            hand_speed=_most(self, "hand_speed", "m/s that a hand moves with at most", 5.0),
            hand_force=_most(self, "hand_force", "N that a hand pushes with before the robot holds", 500.0),
            power=_power_limits(self),
            weights=_weights(self),
        )
        floor = parameter(self, "floor", -1.0, "height of a floor to keep away from (m, odom), -1 for none", bounds=_M)
        boxes = parameter(self, "keep_out", [0.0] * 7, f"{_BOX} of boxes to avoid; zeros: none")
        distance = parameter(self, "keep_out_distance", 0.02, "m to floor and boxes", bounds=(0.0, 0.5))
        zones = keep_out(boxes, None if floor == -1.0 else floor, distance)
        circuits = parameter(self, "stop_circuits", [""], "circuits that have to be heard before it moves; '': none")
        self._senders = Senders()
        self._circuits = StopCircuits(filter(None, circuits), self._senders.gone)
        self._controller = WholeBodyController(load_robot(version), config, self._senders.gone)
        self._controller.set_environment(zones)
        self._loads = _loads(self)
        self._controller.carry(**self._loads)
        self._wrenches: dict[str, tuple[int, Array]] = {}
        self._join = StampJoin(("state", "reference"))
        self._reference: WholeBodyReference | None = None
        self._status = WbcStatus(stamp=0, mode=Mode.HOLD, reason="no robot state yet")
        self._refused = 0
        self._ticks = Meter()
        self._heard = time.monotonic()

        qos = command_qos(self._lockstep)
        self._commands = self.create_publisher(JointCommandMsg, "joint_command", qos)
        self._base = self.create_publisher(TwistStamped, "cmd_vel", qos)
        self._statuses = self.create_publisher(WbcStatusMsg, "wbc/status", 10)
        self._modes = self.create_publisher(WbcStatusMsg, "wbc/mode", LATCHED_QOS)
        self._latch: Latch | None = None
        if parameter(self, "keep_estop", False, "an emergency stop stays latched over a restart: for real robots"):
            self._latch = Latch(latch_file(os.environ.get("ROS_DOMAIN_ID", ""), self.get_namespace()))
        if self._latch is not None and self._latch.closed:
            reason = "emergency stop was latched before this start: reset it"
            self._controller.request_mode(Mode.ESTOP, why=reason)
            self._status = WbcStatus(stamp=0, mode=Mode.ESTOP, reason=reason)
            self.get_logger().warning(reason)
        self._modes.publish(wbc_status_message(self._status))
        self._weights = config.weights
        self.add_on_set_parameters_callback(self._on_parameters)
        self._reporter = Reporter(self, self._report)
        if not self._lockstep:
            # Before the states: a sign that waits beside a state counts before the tick.
            self.create_subscription(Header, TOPIC, self._on_alive, SENSOR_QOS)
            self.create_subscription(PowerStateMsg, "power", self._on_power, SENSOR_QOS)
            self.create_subscription(StopCircuit, "stop_circuit", self._on_circuit, SENSOR_QOS)
        self._subscription = StateSubscription(self, self._lockstep, self._on_state, self._refuse)
        self.create_subscription(WholeBodyReferenceMsg, "wbc/reference", self._on_reference, qos)
        if yielding == "sensor":
            for side in SIDES:
                self.create_subscription(WrenchStamped, f"wrench/{side}", partial(self._on_wrench, side), qos)
        self.create_subscription(Bool, "estop", self._on_estop, LATCHED_QOS)
        self.create_service(SetMode, "wbc/set_mode", self._on_set_mode)
        # Silence is watched by the machine's own clock, in a thread: the executor looks at timers too rarely.
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="silence", daemon=True)
        if not self._lockstep:
            self._watcher.start()

    def destroy_node(self) -> None:
        """End the watch first."""
        self._over.set()
        if self._watcher.is_alive():
            self._watcher.join()
        super().destroy_node()

    def _refuse(self, reason: str) -> None:
        self._refused += 1
        self.get_logger().warning(f"refused: {reason}", throttle_duration_sec=1.0)

    def _on_alive(self, message: Header) -> None:
        self._controller.alive(self._senders.part(message.frame_id), self.get_clock().now().nanoseconds / NANOSECONDS)

    def _on_power(self, message: PowerStateMsg) -> None:
        try:
            power = power_state(message)
        except ValueError as error:
            self._refuse(str(error))
            return
        self._controller.hear_power(self.get_clock().now().nanoseconds / NANOSECONDS, power)

    def _on_circuit(self, message: StopCircuit) -> None:
        name = self._senders.part(message.header.frame_id)
        try:
            self._circuits.hear(name, time.monotonic(), message.closed, message.reason)
        except ValueError as error:
            self._refuse(str(error))
        self._stop_by_circuit()

    def _stop_by_circuit(self) -> None:
        """ESTOP where a circuit is open or has fallen silent."""
        if self._controller.mode is not Mode.ESTOP and (why := self._circuits.stops(time.monotonic())):
            self._controller.request_mode(Mode.ESTOP, why=why)

    def _on_state(self, state: RobotState) -> None:
        now = time.monotonic()
        silence, self._heard = now - self._heard, now
        if silence > LOST and not self._lockstep:
            self._controller.interrupt(f"no robot state for {silence:.1f} s")
        if self._lockstep:
            self._answer(self._join.add("state", state.stamp, state))
        else:
            self._tick(self.get_clock().now().nanoseconds, state, self._reference)

    def _on_reference(self, message: WholeBodyReferenceMsg) -> None:
        try:
            reference = whole_body_reference(message)
        except ValueError as error:
            self._refuse(str(error))
            return
        if self._lockstep:
            self._answer(self._join.add("reference", reference.stamp, reference))
        else:
            self._reference = reference

    def _answer(self, both: dict[str, object] | None) -> None:
        if both is not None:
            state = both["state"]
            assert isinstance(state, RobotState)
            self._tick(state.stamp, state, both["reference"])  # type: ignore[arg-type]

    def _tick(self, now: int, state: RobotState, reference: WholeBodyReference | None) -> None:
        started = time.perf_counter()
        self._stop_by_circuit()
        fresh = {side: w for side, (stamp, w) in self._wrenches.items() if abs(now - stamp) < _WRENCH_AGE}
        try:
            command = self._controller.update(now / NANOSECONDS, state, reference, wrenches=fresh or None)
        except UnseenError as error:
            self._status = WbcStatus(state.stamp, self._controller.mode, str(error))
            self._statuses.publish(wbc_status_message(self._status))
            return
        self._commands.publish(joint_command_message(command.joint))
        self._base.publish(base_twist_message(command.joint))
        before, self._status = self._status, command.status
        if (before.mode, before.reason) != (command.status.mode, command.status.reason):
            self.get_logger().info(f"{command.status.mode.value}: {command.status.reason or 'ready'}")
        message = wbc_status_message(command.status)
        message.solve_time = time.perf_counter() - started
        self._ticks.add(message.solve_time)
        message.refused += self._refused
        self._statuses.publish(message)
        if before.mode is not command.status.mode:
            self._modes.publish(message)
            self._remember(command.status)

    def _remember(self, status: WbcStatus) -> None:
        """Keep an emergency stop, or its release, beyond the end of this process."""
        if self._latch is None:
            return
        try:
            if status.mode is Mode.ESTOP:
                self._latch.close(status.reason)
            else:
                self._latch.open()
        except OSError as error:
            self.get_logger().error(f"the emergency stop will not survive a restart: {error}")

    def _on_wrench(self, side: str, message: WrenchStamped) -> None:
        force, torque = message.wrench.force, message.wrench.torque
        stamp = message.header.stamp.sec * NANOSECONDS + message.header.stamp.nanosec
        self._wrenches[side] = stamp, np.array((force.x, force.y, force.z, torque.x, torque.y, torque.z))

    def _on_estop(self, message: Bool) -> None:
        if message.data:
            self._controller.request_mode(Mode.ESTOP)

    def _on_set_mode(self, request: SetMode.Request, response: SetMode.Response) -> SetMode.Response:
        try:
            mode = Mode(request.mode)
        except ValueError:
            response.message = f"mode is {request.mode!r}, expected {', '.join(Mode)}"
            return response
        if mode is not Mode.ESTOP and (reason := self._circuits.prevents(time.monotonic())):
            response.message = reason
            return response
        response.success, response.message = self._controller.request_mode(mode, request.reset)
        return response

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        """Take new weights and loads, all of them or none; the controller comes to the weights gradually."""
        given = {p.name.removeprefix("weights."): p.value for p in parameters if p.name.startswith("weights.")}
        loads = {p.name.removeprefix("load."): p.value for p in parameters if p.name.startswith("load.")}
        try:
            weights = replace(self._weights, **given)
            if loads:
                self._controller.carry(**{**self._loads, **loads})
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._loads.update(loads)
        if given:
            self._weights = weights
            self._controller.weigh(weights)
        return SetParametersResult(successful=True)

    def may_end(self) -> bool:
        """Whether the robot holds and rests, or is out of sight: until then the controller stays. It holds from now."""
        self._controller.interrupt("the controller is being ended")
        self._circuits.end()
        unseen = time.monotonic() - self._heard > PATIENCE  # a driver that only waits for a processor comes back
        return self._lockstep or unseen or (self._controller.at_rest and self._status.mode in (Mode.HOLD, Mode.ESTOP))

    def _watch(self) -> None:
        """Say that the robot is out of sight, for as long as it is: nobody drives it then."""
        told = 0.0
        while not self._over.wait(0.01) and self.context.ok():
            now = time.monotonic()
            if now - self._heard > SILENCE and now - told > SILENCE:
                told = now
                reason = f"no robot state for {SILENCE} s: is the driver or the simulator running?"
                mode = Mode.ESTOP if self._controller.mode is Mode.ESTOP else Mode.HOLD
                self._statuses.publish(wbc_status_message(WbcStatus(self._status.stamp, mode, reason)))

    def _report(self) -> dict[str, Health]:
        rate, mean, longest = self._ticks.take()
        values = {
            "mode": self._status.mode.value,
            "tick_rate": rate,
            "tick_ms": 1e3 * mean,
            "longest_tick_ms": 1e3 * longest,
            "active": ", ".join(self._status.active),
            "sacrificed": ", ".join(self._status.sacrificed),
            "refused": self._refused + self._status.refused,
            "solver_failed": self._controller.failed,
            "late": self._controller.late,
            "speed_percent": 100.0 * self._controller.share,
            "stop_circuits": self._circuits.states(),
        }
        level = Level.WARN if self._status.reason else Level.OK
        return {"": Health(level, self._status.reason, values)}


def _most(node: Node, name: str, about: str, largest: float) -> dict[Mode, float]:
    """A limit for each owner, 0 for none."""
    given = {
        mode: parameter(
            node, f"{name}.{mode.value.lower()}", 0.0, f"{about} in {mode.value}, 0: any", (), (0.0, largest)
        )
        for mode in OWNERS
    }
    return {mode: most for mode, most in given.items() if most > 0.0}


def _weights(node: Node) -> Weights:
    """The tasks' weights, which may be changed while the node runs."""
    default, bounds = asdict(Weights()), (0.0, 100.0)
    about = "how much a task counts (wbc_controller/weights.py)"
    return Weights(**{n: parameter(node, f"weights.{n}", v, about, (), bounds, live=True) for n, v in default.items()})


def _admittance(node: Node, source: str) -> Compliance | None:
    """How the hands yield, where they do: `source` is where the wrenches on them come from."""
    about = {
        "stiffness": "of a hand that yields (N/m three times, Nm/rad three times); 0: no spring",
        "damping": "of a hand that yields (N s/m, Nm s/rad)",
        "inertia": "of a hand that yields (kg, kg m^2)",
        "force_limit": "that a yielding hand's spring pushes with at most (N, Nm)",
        "deadband": "wrench on a hand that moves nothing (N, Nm)",
    }
    default = Compliance()
    given = {n: tuple(parameter(node, f"admittance.{n}", list(getattr(default, n)), a)) for n, a in about.items()}
    gain = parameter(node, "admittance.observer", default.observer, "gain of the observer (1/s)", (), (1.0, 500.0))
    return None if source == "none" else Compliance(**given, observer=gain, sensor=source == "sensor")


def _loads(node: Node) -> dict[str, float]:
    """What the hands carry, which may be changed while the node runs."""
    about = "kg that the {} hand carries: held up, and no force from outside"
    return {
        side: parameter(node, f"load.{side}", 0.0, about.format(side), (), (0.0, 20.0), live=True) for side in SIDES
    }


def _power_limits(node: Node) -> PowerLimits:
    about = {
        "hot": ("degrees C of the hottest actuator from which on the robot slows down", (0.0, 200.0)),
        "too_hot": ("degrees C of the hottest actuator at which the robot rests", (0.0, 200.0)),
        "low": ("percent of charge below which the robot slows down", (0.0, 100.0)),
        "empty": ("percent of charge at which the robot rests", (0.0, 100.0)),
        "high_power": ("W from which on the robot slows down", (0.0, 20000.0)),
        "most_power": ("W at which the robot rests", (0.0, 20000.0)),
        "high_current": ("A from which on the robot slows down", (0.0, 1000.0)),
        "most_current": ("A at which the robot rests", (0.0, 1000.0)),
        "slowest": ("share of the speed limits just before it rests", (0.01, 1.0)),
        "silence": ("s without a word of the power, once heard, until the robot rests", (0.2, 60.0)),
    }
    default = PowerLimits()
    given = {
        name: parameter(node, f"power.{name}", getattr(default, name), words, (), bounds)
        for name, (words, bounds) in about.items()
    }
    return PowerLimits(**given)


def main() -> int:
    """Console entry."""
    status: int = run_node(WbcNode, wind_down=WbcNode.may_end)
    return status


if __name__ == "__main__":
    sys.exit(main())
