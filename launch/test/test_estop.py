"""The stop button end to end: an adapter of software, the button's node and the controller, over DDS."""

import os
import signal
import time
from dataclasses import replace

import pytest

pytest.importorskip("bytemini_msgs.msg", reason="the workspace is not built: ./bytemini setup")
import rclpy
from bytemini_core.domain import private_domain
from bytemini_core.executor import StreamExecutor
from bytemini_core.types import Mode
from bytemini_sim.faults.adapter import Adapter

from bytemini_bringup.processes import Processes
from bytemini_bringup.stack import options, stack
from bytemini_msgs.msg import WbcStatus
from bytemini_msgs.srv import SetMode

PATIENCE = 60.0


class Operator:
    """Sees what the controller says, and asks it."""

    def __init__(self, context):
        self.mode = self.reason = self.answer = ""
        self.node = rclpy.create_node("operator", context=context, start_parameter_services=False)
        self._executor = StreamExecutor(context=context)
        self._executor.add_node(self.node)
        self._set_mode = self.node.create_client(SetMode, "wbc/set_mode")
        self.node.create_subscription(WbcStatus, "wbc/status", self._on_status, 10)

    def _on_status(self, message):
        self.mode, self.reason = message.mode, message.reason

    def spin(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)

    def until(self, condition, what):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}: {self.mode}, {self.reason}, {self.answer}"
            self._executor.spin_once(timeout_sec=0.02)

    def asks(self, mode, reset=False):
        """Whether it is granted; `answer` says why not."""
        while True:  # an answer can be lost while two sides find each other
            self.until(self._set_mode.service_is_ready, "the controller's service")
            future = self._set_mode.call_async(SetMode.Request(mode=mode.value, reset=reset))
            end = time.monotonic() + 3.0
            while not future.done() and time.monotonic() < end:
                self._executor.spin_once(timeout_sec=0.02)
            if future.done():
                self.answer = future.result().message
                return future.result().success
            self._set_mode.remove_pending_request(future)

    def takes_it(self):
        """Asked for again where something that was still starting took it away."""
        end = time.monotonic() + PATIENCE
        while self.mode != Mode.POLICY:
            assert time.monotonic() < end, f"waited in vain for the robot: {self.mode}, {self.reason}, {self.answer}"
            self.asks(Mode.POLICY)
            self.spin(0.3)


@pytest.mark.e2e
def test_pressed_latched_and_released_only_by_a_reset_with_the_loop_closed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with private_domain() as domain, Adapter() as adapter:
        parts = {p.name: p for p in stack(options(cameras=False, estop_port=adapter.url))}
        robot = parts["wbc_controller"]
        assert robot.parameters["stop_circuits"] == ["button"]
        real = replace(robot, parameters={**robot.parameters, "keep_estop": True})
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain)
        operator = Operator(context)
        try:
            with Processes([parts["bytemini_sim"], parts["estop_button"], real], tmp_path / "logs") as processes:
                operator.takes_it()
                adapter.press()
                operator.until(lambda: operator.mode == Mode.ESTOP, "the stop")
                assert operator.reason.startswith("emergency stop: circuit button is open: the button is pressed")
                assert not operator.asks(Mode.HOLD, reset=True)
                assert "the button is pressed" in operator.answer
                adapter.release()
                operator.spin(0.5)
                assert operator.mode == Mode.ESTOP  # latched
                assert not operator.asks(Mode.HOLD)
                operator.until(lambda: operator.asks(Mode.HOLD, reset=True), "the reset")
                operator.takes_it()

                adapter.freeze()  # what it said last would be believed for ever, were it not tested
                operator.until(lambda: operator.mode == Mode.ESTOP, "the stop by an adapter that hangs")
                adapter.thaw()
                operator.until(lambda: operator.asks(Mode.HOLD, reset=True), "the reset")
                operator.takes_it()

                os.kill(processes.pid("estop_button"), signal.SIGKILL)
                operator.until(lambda: operator.mode == Mode.ESTOP, "the stop by silence")
                assert "no word of stop circuit button" in operator.reason
                assert not operator.asks(Mode.HOLD, reset=True)
                processes.restart("wbc_controller")
                operator.until(lambda: operator.reason.startswith("emergency stop was latched"), "the latch")
                assert not operator.asks(Mode.HOLD, reset=True)
                assert "no word yet of stop circuit button" in operator.answer
                processes.restart("estop_button")
                operator.until(lambda: operator.asks(Mode.HOLD, reset=True), "the last reset")
                operator.until(lambda: operator.mode == Mode.HOLD, "HOLD")
            assert not list((tmp_path / "state").rglob("estop*"))  # a stack that is ended was not stopped
        finally:
            operator.node.destroy_node()
            context.try_shutdown()
