"""`wait_ready KIND NAME`: ends when a part of the stack is ready for those that need it, or says that it never was.

Bring-up goes by what the parts say of themselves, not by sleeping: `ros2 launch` and `./bytemini up` both start the
next process when this one has ended well.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KINDS = {
    "topic": "somebody publishes it",
    "service": "somebody serves it",
    "active": "the lifecycle node of that name is active",
    "hold": "the controller publishes on that topic that it holds",
}
PATIENCE = 60.0
"""Seconds that a part of the stack may take by default."""


@dataclass(frozen=True)
class Ready:
    """What shows that a process is ready: one of `KINDS` and the name it is about, relative to the namespace."""

    kind: str
    name: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"readiness is of kind {self.kind!r}, expected {', '.join(KINDS)}")

    def __str__(self) -> str:
        return f"{self.name}: {KINDS[self.kind]}"


def main() -> int:
    """Console entry: 0 when it is ready, 1 with one line when it is not within `--seconds`."""
    parser = argparse.ArgumentParser(prog="wait_ready", description=__doc__)
    parser.add_argument("kind", choices=KINDS, help="; ".join(f"{kind}: {text}" for kind, text in KINDS.items()))
    parser.add_argument("name", help="of the topic, service or node")
    parser.add_argument("--seconds", type=float, default=PATIENCE, help="how long to wait (default: %(default)s)")
    import rclpy
    from rclpy.utilities import remove_ros_args

    arguments = parser.parse_args(remove_ros_args(sys.argv)[1:])
    rclpy.init(args=sys.argv)
    node = rclpy.create_node("wait_ready", start_parameter_services=False)
    try:
        is_ready = _check(node, Ready(arguments.kind, arguments.name))
        deadline = time.monotonic() + arguments.seconds
        while time.monotonic() < deadline:
            rclpy.spin_once(node, timeout_sec=0.05)
            if is_ready():
                return 0
        print(f"waited {arguments.seconds:g} s in vain for {arguments.name}: {KINDS[arguments.kind]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _check(node, ready: Ready) -> Callable[[], bool]:  # type: ignore[no-untyped-def]
    """A function that tells whether it is so by now."""
    if ready.kind == "topic":
        return lambda: node.count_publishers(ready.name) > 0
    if ready.kind == "service":
        return lambda: node.count_services(ready.name) > 0
    if ready.kind == "hold":
        return _holds(node, ready.name)
    return _is_active(node, ready.name)


def _holds(node, topic: str) -> Callable[[], bool]:  # type: ignore[no-untyped-def]
    from bytemini_core.ros import LATCHED_QOS
    from bytemini_core.types import Mode

    from bytemini_msgs.msg import WbcStatus

    heard: list[str] = []
    node.create_subscription(WbcStatus, topic, lambda message: heard.append(message.mode), LATCHED_QOS)
    # Latched emergency stops survive a restart: the controller is there, and moves even less.
    return lambda: bool(heard) and heard[-1] in (Mode.HOLD, Mode.ESTOP)


def _is_active(node, name: str) -> Callable[[], bool]:  # type: ignore[no-untyped-def]
    from lifecycle_msgs.msg import State
    from lifecycle_msgs.srv import GetState

    client = node.create_client(GetState, f"{name}/get_state")
    pending: list[Any] = []

    def check() -> bool:
        if not client.service_is_ready():
            return False
        if pending and pending[0].done():
            state = pending.pop().result().current_state.id
            if state == State.PRIMARY_STATE_ACTIVE:
                return True
        if not pending:
            pending.append(client.call_async(GetState.Request()))
        return False

    return check


if __name__ == "__main__":
    sys.exit(main())
