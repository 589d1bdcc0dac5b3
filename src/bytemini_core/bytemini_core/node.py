"""What every node of the stack does alike: start, take parameters, spin, and stop without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from bytemini_core.executor import StreamExecutor


def parameter(
    node: Node,
    name: str,
    default: Any,
    description: str,
    choices: tuple[str, ...] = (),
    bounds: tuple[float, float] | None = None,
) -> Any:
    """Declare a read-only parameter of the default's type and read it.

    Args:
        node: whose parameter.
        name: its name.
        default: its default, which also fixes the type.
        description: what it is, with the unit.
        choices: the words allowed, for a string.
        bounds: least and greatest value allowed, for a number.

    Raises:
        ValueError: the value given is not of that type, not among the choices or out of bounds.
    """
    descriptor = ParameterDescriptor(description=description, read_only=True)
    if bounds is not None and isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(bounds[0]), to_value=int(bounds[1]))]
    elif bounds is not None:
        descriptor.floating_point_range = [FloatingPointRange(from_value=bounds[0], to_value=bounds[1])]
    try:
        value = node.declare_parameter(name, default, descriptor).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        expected = f"a {type(default).__name__}" + (f" from {bounds[0]} to {bounds[1]}" if bounds else "")
        raise ValueError(f"parameter {name} of {node.get_name()}: expected {expected} ({error})") from error
    if choices and value not in choices:
        raise ValueError(f"parameter {name} of {node.get_name()} is {value!r}, expected {' or '.join(choices)}")
    return value


def run_node(factory: Callable[[], Any], spin: Callable[[Any, StreamExecutor], None] | None = None) -> int:
    """Start a node and serve it until Ctrl-C, SIGTERM or the end of the context; the process's exit status.

    A node that refuses to start (`ValueError`, `RuntimeError`) says why in one line.

    Args:
        factory: makes the node.
        spin: serves the node with the executor, for nodes that have a loop of their own; None for the executor's.
    """
    rclpy.init()
    node = None
    try:
        try:
            node = factory()
        except (ValueError, RuntimeError) as error:
            print(f"{Path(sys.argv[0]).name}: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        executor = StreamExecutor()
        executor.add_node(node)
        if spin is None:
            executor.spin()
        else:
            spin(node, executor)
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
