"""What a node says of its own health on /diagnostics, once a second, in one form for every node of the stack.

A node counts with `Meter`s while it works and hands `Reporter` a function that turns the counts into a `Health`.
Conventions that the panel and `ros2 run rqt_robot_monitor` rely on: rates are in Hz and end in `_rate`, durations in
milliseconds and end in `_ms`, temperatures in degrees Celsius and end in `_c`, shares in percent and end in `_percent`;
counts since the start have no suffix. The message says what is wrong and what to do, and is empty when nothing is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.node import Node

PERIOD = 1.0
"""Seconds between two reports of a node."""


class Level(IntEnum):
    """How bad it is; the values of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Health:
    """One report. `message` is "" when nothing is wrong; `values` are shown in their order."""

    level: Level = Level.OK
    message: str = ""
    values: Mapping[str, object] = field(default_factory=dict)


class Meter:
    """Counts events and how long each took, between two reports."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start counting by `clock` (s)."""
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._since = self._clock()
        self._count, self._sum, self._largest = 0, 0.0, 0.0

    def add(self, seconds: float = 0.0) -> None:
        """Count one event that took so long."""
        self._count += 1
        self._sum += seconds
        self._largest = max(self._largest, seconds)

    def take(self) -> tuple[float, float, float]:
        """Rate (Hz), mean and largest duration (s; NaN where there was no event) since the last call."""
        passed = self._clock() - self._since
        rate = self._count / passed if passed > 0 else 0.0
        mean, largest = (self._sum / self._count, self._largest) if self._count else (math.nan, math.nan)
        self._begin()
        return rate, mean, largest


def text(value: object) -> str:
    """A value as /diagnostics carries it: numbers with four significant digits, nothing for "not known" (NaN)."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)


class Reporter:
    """Publishes a node's health, by the machine's own clock: simulated time stands still when the simulator does."""

    def __init__(self, node: Node, report: Callable[[], Mapping[str, Health]]) -> None:
        """Report from now on.

        Args:
            node: whose health.
            report: called once a second; what to say, by the name of the part ("" for the node itself).
        """
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.clock import Clock, ClockType

        self._node, self._report = node, report
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        node.create_timer(PERIOD, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """Report now."""
        from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

        own = self._node.get_fully_qualified_name().strip("/")
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        for part, health in self._report().items():
            message.status.append(
                DiagnosticStatus(
                    level=bytes([health.level]),
                    name=f"{own}: {part}" if part else own,
                    message=health.message,
                    hardware_id="bytemini",
                    values=[KeyValue(key=key, value=text(value)) for key, value in health.values.items()],
                )
            )
        self._publisher.publish(message)
