"""How long a part of the stack may be silent before somebody holds, and the signs of life by which that is told.

What comes at 200 Hz anyway (states, references, commands) needs no sign: its age tells. A policy is asked ten times a
second and thinks for as long as it likes, a camera may be slow: they beat beside their work (`Beat`), and who depends
on them watches (`Watch`). A chain of two, a dead sender and a dead receiver of its silence, is never waited for: each
stage watches the one before it by itself.

One number stands for all of it (`SILENCE`), chosen so that the robot holds within 100 ms of the last word of a process
that is killed or stopped: the silence itself, the age of the last word, a control tick and a turn of the executor.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.node import Node

SILENCE = 0.08
"""Seconds without a word after which a part is gone: the driver holds without commands, the controller without
references or signs of life."""

PATIENCE = 0.5
"""Seconds that a part may miss its signs of life while its process is seen to be there, but gets no processor."""

BEAT = 0.02
"""Seconds between two signs of life."""

TOPIC = "alive"
"""Where they are published (std_msgs/Header: when, and `signature`), relative to the robot's namespace."""

HOLDING = "driver/holding"
"""Where a driver says whether it holds by itself for want of a command (std_msgs/Bool, latched)."""


def _always(_: str) -> bool:
    return True


class Watch:
    """Who was heard when. A part that never spoke is not missed: not every policy has a sign of life.

    Args:
        gone: whether a part that is overdue (`SILENCE`) is gone indeed; if not, it has until `PATIENCE`.
    """

    def __init__(self, gone: Callable[[str], bool] = _always) -> None:
        self._gone = gone
        self._heard: dict[str, float] = {}

    def heard(self, part: str, t: float) -> None:
        """A part gave a sign of life at t (s)."""
        self._heard[part] = t

    def silent(self, t: float, parts: Iterable[str]) -> str:
        """Which of the parts has fallen silent at t (s); "" for none."""
        for part in parts:
            overdue = t - self._heard.get(part, t)
            if overdue > PATIENCE or (overdue > SILENCE and self._gone(part)):
                return part
        return ""

    def forget(self) -> None:
        """Miss nobody until it has spoken again: the clock started anew."""
        self._heard.clear()


def signature(part: str) -> str:
    """What a sign of life says: which part, on which machine, in which process."""
    return f"{part} {platform.node()} {os.getpid()}"


class Senders:
    """In which processes those live that give signs of life: whether one that is overdue is gone, or only waits."""

    def __init__(self) -> None:
        self._processes: dict[str, int] = {}

    def part(self, signature: str) -> str:
        """The part that a sign of life is of; its process is remembered where it is on this machine."""
        part, _, place = signature.partition(" ")
        machine, _, process = place.rpartition(" ")
        if machine == platform.node() and process.isdecimal():
            self._processes[part] = int(process)
        return part

    def gone(self, part: str) -> bool:
        """Whether nothing shows that the part's process lives: it ended, is stopped, or runs where we cannot look."""
        process = self._processes.get(part)
        if process is None:
            return True
        try:
            state = (
                Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            )
        except OSError:
            return True
        return not state or state[0] not in "RSD"  # running, sleeping, waiting for a device


class Beat:
    """Publishes signs of life from a thread of its own, so that no long callback silences them, until `stop`."""

    def __init__(self, node: Node, part: str, well: Callable[[], bool] = lambda: True) -> None:
        """Begin at once.

        Args:
            node: that lives.
            part: its name for those who watch.
            well: asked in the thread before each sign; there is none while it is not.
        """
        from std_msgs.msg import Header

        from bytemini_core.ros import SENSOR_QOS

        self._node, self._well, self._message = node, well, Header(frame_id=signature(part))
        self._publisher = node.create_publisher(Header, TOPIC, SENSOR_QOS)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(BEAT):
            if not self._node.context.ok():
                return
            if not self._well():
                continue
            self._message.stamp = self._node.get_clock().now().to_msg()
            self._publisher.publish(self._message)

    def stop(self) -> None:
        """Fall silent."""
        self._over.set()
        self._thread.join()
        self._node.destroy_publisher(self._publisher)
