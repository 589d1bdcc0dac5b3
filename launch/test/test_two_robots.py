"""Two robots side by side, a simulator and a controller each in a namespace of their own; processes of one die."""

import os
import signal
import time

import pytest

pytest.importorskip("bytemini_msgs.msg", reason="the workspace is not built: ./bytemini setup")
import numpy as np
import rclpy
from bytemini_core.domain import private_domain
from bytemini_core.executor import StreamExecutor
from bytemini_core.ros import COMMAND_QOS, LATCHED_QOS, SENSOR_QOS, reference_message, stamp_of
from bytemini_core.types import BaseReference, Mode, WholeBodyReference
from bytemini_core.watchdog import HOLDING
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from bytemini_bringup.processes import Processes
from bytemini_bringup.stack import options, stack
from bytemini_msgs.msg import WbcStatus as WbcStatusMsg
from bytemini_msgs.msg import WholeBodyReference as WholeBodyReferenceMsg
from bytemini_msgs.srv import SetMode

PATIENCE = 60.0
TURN = BaseReference(None, np.array([0.0, 0.0, 0.2]))


class Robot:
    """What is seen of one robot; while `drive`, somebody sends it a reference for every state."""

    def __init__(self, node, namespace):
        self.namespace, self.drive, self.mode, self.reason, self.holding = namespace, False, "", "", None
        self.clocks = self.states = 0
        self._references = node.create_publisher(WholeBodyReferenceMsg, f"/{namespace}/wbc/reference", COMMAND_QOS)
        self.estop = node.create_publisher(Bool, f"/{namespace}/estop", LATCHED_QOS)
        self.set_mode = node.create_client(SetMode, f"/{namespace}/wbc/set_mode")
        node.create_subscription(WbcStatusMsg, f"/{namespace}/wbc/status", self._on_status, 10)
        node.create_subscription(JointState, f"/{namespace}/joint_states", self._on_state, SENSOR_QOS)
        node.create_subscription(Clock, f"/{namespace}/clock", self._on_clock, 10)
        node.create_subscription(Bool, f"/{namespace}/{HOLDING}", self._on_holding, LATCHED_QOS)

    def _on_status(self, message):
        self.mode, self.reason = message.mode, message.reason

    def _on_clock(self, _):
        self.clocks += 1

    def _on_holding(self, message):
        self.holding = message.data

    def _on_state(self, message):
        self.states += 1
        if self.drive:
            self._references.publish(
                reference_message(WholeBodyReference(stamp_of(message) + 5_000_000, Mode.POLICY, base=TURN))
            )


class Rig:
    def __init__(self, context, domain):
        self.node = rclpy.create_node("watcher", context=context, start_parameter_services=False)
        self.executor = StreamExecutor(context=context)
        self.executor.add_node(self.node)
        self.robots = {name: Robot(self.node, name) for name in ("one", "two")}

    def until(self, condition, what):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}: {[vars(r) for r in self.robots.values()]}"
            self.executor.spin_once(timeout_sec=0.02)

    def request(self, robot, mode):
        self.until(robot.set_mode.service_is_ready, "the controller's service")
        while True:  # an answer can be lost while two sides find each other
            future = robot.set_mode.call_async(SetMode.Request(mode=mode.value, reset=True))
            end = time.monotonic() + 3.0
            while not future.done() and time.monotonic() < end:
                self.executor.spin_once(timeout_sec=0.02)
            if future.done():
                return future.result().success

    def drive(self, robot):
        """Have it driven; asked again where a busy machine made the references late."""
        robot.drive = True
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if robot.mode == Mode.POLICY and not robot.reason:
                return
            if robot.mode == Mode.HOLD:
                self.request(robot, Mode.POLICY)
            self.executor.spin_once(timeout_sec=0.02)
        raise AssertionError(f"{robot.namespace} is not driven: {robot.mode}, {robot.reason}")


@pytest.mark.e2e
def test_two_robots_do_not_hear_each_other_and_one_survives_the_death_of_its_parts(tmp_path):
    parts = [p for p in stack(options(cameras=False)) if p.name in ("bytemini_sim", "wbc_controller")]
    with private_domain() as domain:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain)
        rig = Rig(context, domain)
        one, two = rig.robots.values()
        try:
            with (
                Processes(parts, tmp_path / "one", "one") as first,
                Processes(parts, tmp_path / "two", "two") as second,
            ):
                rig.until(lambda: all(r.states and r.clocks and r.mode for r in (one, two)), "both robots")
                topics = {name for name, _ in rig.node.get_topic_names_and_types()}
                assert not topics & {"/joint_states", "/clock", "/tf", "/joint_command", "/wbc/reference", "/estop"}

                rig.drive(one)
                rig.drive(two)
                one.estop.publish(Bool(data=True))
                rig.until(lambda: one.mode == Mode.ESTOP, "the first robot's emergency stop")
                rig.drive(two)  # it was not stopped: at most it has to be asked again
                one.estop.publish(Bool(data=False))  # the button comes out, which alone releases nothing
                rig.until(lambda: one.mode == Mode.ESTOP, "the latch")
                assert rig.request(one, Mode.HOLD)
                rig.drive(one)

                os.kill(first.pid("wbc_controller"), signal.SIGKILL)
                rig.until(lambda: one.holding, "the driver to hold by itself")
                first.restart("wbc_controller")
                rig.until(lambda: not one.holding, "the controller's commands")
                rig.drive(one)

                os.kill(first.pid("bytemini_sim"), signal.SIGSTOP)
                rig.until(lambda: "no robot state" in one.reason, "the controller to say that it holds")
                assert one.mode == Mode.HOLD
                os.kill(first.pid("bytemini_sim"), signal.SIGCONT)
                rig.until(lambda: "no robot state" not in one.reason, "states again")
                rig.drive(one)

                one.drive = False
                rig.until(lambda: one.mode == Mode.HOLD, "the robot to hold without references")
                assert "reference is stale" in one.reason
                rig.drive(two)
                second.check()
                assert two.holding is False
        finally:
            rig.node.destroy_node()
            context.try_shutdown()
