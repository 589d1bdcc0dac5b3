"""`./bytemini bench estop`: how long an emergency stop takes, from whoever presses it to the robot's standstill.

The stack runs in real time with the panel; the robot is at a task. The clock starts when the press is sent, and stops
at the first status of the controller that says ESTOP (from that tick on the commands brake at the full acceleration
limit), and at the first command that moves nothing. At the end the stack is brought down from the middle of a task, as
Ctrl-C does it: how long that takes, and whether the controller's last words were HOLD and rest.
"""

from __future__ import annotations

import argparse
import json
import ssl
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bytemini_core.errors import UserError
from bytemini_core.types import Mode
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

if TYPE_CHECKING:
    from bytemini_sim.faults.live import LiveStack

PORT = 8479
WAYS = ("topic", "service", "panel", "button")


def main(argv: Sequence[str]) -> int:
    """Press it often, in every way, and print how long it took."""
    parser = argparse.ArgumentParser(prog="bytemini bench estop", description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="presses in each way (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=None, help="write the times here")
    arguments = parser.parse_args(argv)
    if arguments.count < 1:
        raise UserError("expected at least 1 press")
    times, ended = measure(arguments.count)
    table = Table(box=box.SIMPLE, title=f"{arguments.count} presses each, median and largest, ms")
    for title in ("pressed by", "until ESTOP", "until nothing is commanded to move"):
        table.add_column(title, justify="right")
    for way, runs in times.items():
        seen = np.array(runs)
        table.add_row(way, *(f"{np.median(column):.0f}, {column.max():.0f}" for column in seen.T))
    console = Console()
    console.print(table)
    console.print(
        f"Ctrl-C: everything was down after {ended['seconds']:.1f} s, the controller's last word {ended['mode']}, "
        f"its last command {'rest' if ended['at_rest'] else 'motion'}"
    )
    if arguments.json is not None:
        names = ("estop_ms", "zero_ms")
        report: dict[str, Any] = {
            way: [dict(zip(names, run, strict=True)) for run in runs] for way, runs in times.items()
        }
        report["ctrl_c"] = ended
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(count: int) -> tuple[dict[str, list[tuple[float, float]]], dict[str, Any]]:
    """(ms until ESTOP, ms until zero) of every press, by the way it was pressed; how the stack ended."""
    from bytemini_sim.faults.live import LiveStack

    logs = Path(tempfile.mkdtemp(prefix="bytemini-estop-"))
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with LiveStack(0, logs, panel=True, panel_port=PORT) as stack:
        presses = _presses(stack)
        stack.begin()
        for index in track(range(count * len(WAYS)), "presses", transient=True):
            way = WAYS[index % len(WAYS)]
            stack.until(lambda: stack.moves(Mode.POLICY), "the robot to move")
            stack.mark()
            began = time.monotonic()
            presses[way]()
            stack.until(lambda: stack.mode == Mode.ESTOP, "ESTOP")
            stack.until(lambda since=began: bool(_zero(stack, since)), "standstill")  # type: ignore[misc]
            stopped = next(at for at, _, mode, _ in stack.heard.modes if at >= began and mode == Mode.ESTOP)
            times[way].append((1e3 * (stopped - began), 1e3 * (_zero(stack, began)[0] - began)))
            stack.button.release()
            stack.begin()
        ended = _end(stack)
    return times, ended


def _end(stack: LiveStack) -> dict[str, Any]:
    """Bring the stack down as Ctrl-C does, in a thread, and listen."""
    began = time.monotonic()
    ending = threading.Thread(target=stack.processes.stop)
    ending.start()
    stack.until(lambda: not ending.is_alive(), "the end")
    seconds = time.monotonic() - began
    last = stack.heard.commands[-1][2]
    return {"seconds": seconds, "mode": stack.heard.modes[-1][2], "at_rest": not last.any()}


def _zero(stack: LiveStack, began: float) -> list[float]:
    """When commands arrived that move nothing."""
    return [at for at, _, velocity in stack.heard.commands if at >= began and not velocity.any()]


def _presses(stack: LiveStack) -> dict[str, Callable[[], Any]]:
    from bytemini_core.ros import LATCHED_QOS
    from bytemini_core.web import certificate, pairing_token
    from std_msgs.msg import Bool

    from bytemini_msgs.srv import SetMode

    publisher = stack.node.create_publisher(Bool, "estop", LATCHED_QOS)
    stack.until(lambda: publisher.get_subscription_count() > 0, "who listens to estop")
    client = stack.node.create_client(SetMode, "wbc/set_mode")
    stack.until(client.service_is_ready, "wbc/set_mode")
    trust = ssl.create_default_context(cafile=str(certificate().chain))
    headers = {"Authorization": f"Bearer {pairing_token()}"}
    page = urllib.request.Request(f"https://localhost:{PORT}/api/estop", method="POST", headers=headers)

    def press_page() -> None:
        with urllib.request.urlopen(page, context=trust, timeout=10.0) as answer:
            answer.read()

    return {
        "topic": lambda: publisher.publish(Bool(data=True)),
        "service": lambda: client.call_async(SetMode.Request(mode=Mode.ESTOP.value)),
        "panel": press_page,
        "button": stack.button.press,
    }
