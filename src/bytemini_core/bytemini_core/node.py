"""What every node of the stack does alike: start, take parameters, spin, and stop without a traceback."""

from __future__ import annotations

import difflib
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from bytemini_core.executor import StreamExecutor
from bytemini_core.realtime import hurry, settle


def parameter(
    node: Node,
    name: str,
    default: Any,
    description: str,
    choices: tuple[str, ...] = (),
    bounds: tuple[float, float] | None = None,
    live: bool = False,
) -> Any:
    """Declare a parameter of the default's type and read it.

    Args:
        node: whose parameter.
        name: its name.
        default: its default, which also fixes the type; a list must not be empty, or it has none.
        description: what it is, with the unit.
        choices: the words allowed, for a string.
        bounds: least and greatest value allowed, for a number.
        live: it may be changed while the node runs; without it, it is read-only.

    Raises:
        ValueError: the value given is not of that type, not among the choices or out of bounds.
    """
    descriptor = ParameterDescriptor(description=description, read_only=not live)
    if bounds is not None and isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(bounds[0]), to_value=int(bounds[1]))]
    elif bounds is not None:
        descriptor.floating_point_range = [FloatingPointRange(from_value=bounds[0], to_value=bounds[1])]
    try:
        value = node.declare_parameter(name, default, descriptor).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        wanted = "list of numbers" if isinstance(default, list) else type(default).__name__
        expected = f"a {wanted}" + (f" from {bounds[0]} to {bounds[1]}" if bounds else "")
        raise ValueError(f"parameter {name} of {node.get_name()}: expected {expected} ({error})") from error
    if choices and value not in choices:
        raise ValueError(f"parameter {name} of {node.get_name()} is {value!r}, expected {' or '.join(choices)}")
    return value


WIND_DOWN = 1.5
"""Seconds that a node may go on after it was asked to end, to leave the robot at rest."""


class _Ending:
    """Ctrl-C or SIGTERM, noted instead of obeyed at once; the second one is obeyed."""

    def __init__(self, ready: Callable[[Any], bool]) -> None:
        self._ready, self._asked = ready, 0.0
        self.node: Any = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        if self.node is None or self._asked:
            raise KeyboardInterrupt
        self._asked = time.monotonic()

    def over(self) -> bool:
        """Whether it was asked for, and the node is ready or has had its time."""
        return self._asked > 0.0 and (self._ready(self.node) or time.monotonic() - self._asked > WIND_DOWN)


def run_node(
    factory: Callable[[], Any],
    spin: Callable[[Any, StreamExecutor, Callable[[], bool]], None] | None = None,
    wind_down: Callable[[Any], bool] | None = None,
) -> int:
    """Start a node and serve it until Ctrl-C, SIGTERM or the end of the context; the process's exit status.

    A node that refuses to start (`ValueError`, `RuntimeError`) says why in one line, and so does one that is given a
    parameter which it does not have. Every node has the parameter `priority` (see `realtime.hurry`).

    Args:
        factory: makes the node.
        spin: serves the node with the executor until the function it is handed says that it is over, for nodes that
            have a loop of their own; None for the executor's.
        wind_down: for nodes that drive the robot: after Ctrl-C it is asked between callbacks whether the node may end,
            for `WIND_DOWN` at most; its first call begins whatever has to be done. None: it may end at once.
    """
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO if wind_down else SignalHandlerOptions.ALL)
    ending = _Ending(wind_down) if wind_down else None
    over: Callable[[], bool] = ending.over if ending else bool
    node = None
    try:
        try:
            node = factory()
            about = "real-time priority (SCHED_FIFO, 1 to 99) of the whole process where permitted; 0: none"
            priority = parameter(node, "priority", 0, about, bounds=(0, 99))
            _refuse_unknown_parameters(node)
        except (ValueError, RuntimeError) as error:
            print(f"{Path(sys.argv[0]).name}: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        executor = StreamExecutor()
        executor.add_node(node)
        if priority and (reason := hurry(priority)):
            node.get_logger().warning(reason)
        settle()
        if ending is not None:
            ending.node = node
        if spin is not None:
            spin(node, executor, over)
        elif ending is None:
            executor.spin()
        else:
            while rclpy.ok() and not over():
                executor.spin_once(timeout_sec=0.02)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RuntimeError:
        # A signal that arrives inside one of rclpy's C++ calls comes out of it as a RuntimeError.
        if rclpy.ok():
            raise
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _refuse_unknown_parameters(node: Node) -> None:
    """A misspelt parameter would silently be the default's.

    Raises:
        ValueError: the node was given one that it has not declared.
    """
    known = set(node._parameters)
    for name in node._parameter_overrides:
        if name not in known and not name.startswith("qos_overrides."):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]}?" if near else f", expected one of {', '.join(sorted(known))}"
            raise ValueError(f"{node.get_name()} has no parameter {name}{hint}")
