"""ROS node of a stop button on a serial port: says on `stop_circuit` whether its loop is closed.

It reads the loop every 5 ms (`button`) and publishes fifty times a second, and at once when something changes. The
thread that reads is the thread that publishes: where it hangs, nothing more is heard of the circuit, and the controller
stops the robot.
"""

from __future__ import annotations

import sys
import threading
import time

from bytemini_core.diagnostics import Health, Level, Reporter
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import SENSOR_QOS
from bytemini_core.watchdog import BEAT, signature
from rclpy.node import Node

from bytemini_msgs.msg import StopCircuit
from wbc_controller.button import LINES, Button

LOOK = 0.005
"""Seconds between two looks at the loop."""


class ButtonNode(Node):  # type: ignore[misc]
    """The button in, the state of its circuit out.

    Raises:
        ValueError: a parameter is wrong.
    """

    def __init__(self) -> None:
        super().__init__("estop_button")
        port = parameter(self, "port", "", "serial port of the button, /dev/serial/by-id/... or a URL of pyserial's")
        lines = parameter(self, "lines", "rts-cts", "lines that the loop is between", choices=tuple(LINES))
        circuit = parameter(self, "circuit", "button", "name of the circuit")
        if not port:
            raise ValueError("parameter port of estop_button is empty, expected the button's serial port")
        if not circuit or " " in circuit:
            raise ValueError(f"parameter circuit of estop_button is {circuit!r}, expected a word")
        try:
            self._button = Button(port, lines)
        except ValueError as error:
            raise ValueError(f"parameter port of estop_button is {port!r}: {error}") from error
        self._message = StopCircuit(reason="it was not read yet")
        self._message.header.frame_id = signature(circuit)
        self._publisher = self.create_publisher(StopCircuit, "stop_circuit", SENSOR_QOS)
        self._opened = 0
        self._reporter = Reporter(self, self._report)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="button", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sent = float("-inf")
        while not self._over.wait(LOOK) and self.context.ok():
            now = time.monotonic()
            why = self._button.look(now)
            if why == self._message.reason and now - sent < BEAT:
                continue
            if why != self._message.reason:
                self._opened += self._message.closed
                log = self.get_logger()
                log.warning(f"the circuit is open: {why}") if why else log.info("the circuit is closed")
            sent = now
            self._message.closed, self._message.reason = not why, why
            self._message.header.stamp = self.get_clock().now().to_msg()
            self._publisher.publish(self._message)
        self._button.close()

    def destroy_node(self) -> None:
        """Stop reading first."""
        self._over.set()
        self._thread.join()
        super().destroy_node()

    def _report(self) -> dict[str, Health]:
        why = self._message.reason
        return {"": Health(Level.ERROR if why else Level.OK, why, {"closed": not why, "opened": self._opened})}


def main() -> int:
    """Console entry."""
    # It may end at once; asked for so that the context outlives the thread that publishes.
    status: int = run_node(ButtonNode, wind_down=lambda _: True)
    return status


if __name__ == "__main__":
    sys.exit(main())
