"""`./bytemini panel`: the operator's page for the stack that is running."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Serve the operator's page: cameras, pose, health, tasks, emergency stop."""
    parser = argparse.ArgumentParser(
        prog="bytemini panel",
        description=main.__doc__,
        epilog="It joins what runs in this ROS domain: start that with ./bytemini up, or ros2 launch.",
    )
    parser.add_argument("--port", type=int, default=8444, help="TCP port (default: 8444)")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen at (default: all)")
    parser.add_argument("--robot", choices=("v1", "v2"), default="v1", help="version of the robot (default: v1)")
    parser.add_argument("--namespace", default="", help="namespace of the robot's nodes")
    parser.add_argument("--sim-time", action="store_true", help="the stack runs in simulated time")
    options = parser.parse_args(argv)
    if not 0 <= options.port <= 65535:
        parser.error(f"--port is {options.port}, expected 0 (any free one) to 65535")

    import segno
    from bytemini_core.node import run_node

    from bytemini_panel.node import PanelNode

    given = {"port": options.port, "host": f"'{options.host}'", "robot": options.robot}
    arguments = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    arguments += ["-p", f"use_sim_time:={str(options.sim_time).lower()}"]
    if options.namespace:
        arguments += ["-r", f"__ns:=/{options.namespace.strip('/')}"]

    def announced() -> PanelNode:
        node = PanelNode()
        url = node.server.url()
        segno.make(url, micro=False).terminal(compact=True)
        print(f"{url}\nOpen it in a browser, or scan it with a phone; the certificate is our own: approve it once.")
        return node

    sys.argv = ["bytemini panel", "--ros-args", *arguments]
    return run_node(announced)
