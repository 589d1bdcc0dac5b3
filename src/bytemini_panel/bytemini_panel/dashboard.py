"""Everything the page shows beside pictures and pose, gathered from what the nodes say; times are handed in.

`now` is in seconds of a clock that never goes back; `wall` (s since 1970) is only for people to read.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bytemini_core.diagnostics import Level

from bytemini_panel.advice import advice

SILENCE = 3.5
"""Seconds without a report after which a node is stale: it reports every second."""

MODE_SILENCE = 1.0
"""Seconds without a status of the controller after which nobody knows who owns the robot: it speaks at 200 Hz."""

FORGOTTEN = 600.0
"""Seconds after which a silent node is no longer shown."""

BUCKET = 0.2
"""Seconds that one point of a plot stands for; it is the largest value in them, so that no peak is missed."""

POINTS = 300
"""Points of a plot: a minute."""

FAULTS = 30
"""Faults that are remembered."""

LOG_ERROR = 40
"""Level of rcl_interfaces/Log from which a line is a fault."""

TOPIC_WINDOW = 2.0
"""Seconds over which the rate of a topic is counted."""


@dataclass
class NodeRow:
    """The last word of one node, or of a part of it."""

    name: str
    level: int
    message: str
    values: dict[str, str]
    heard: float


@dataclass
class Fault:
    """Something that went wrong, and what to do. Repeated ones are counted, not listed again."""

    source: str
    level: int
    text: str
    fix: str
    wall: float
    count: int = 1


def _same(one: str, other: str) -> bool:
    """Whether two sentences tell the same, with other numbers perhaps."""
    return re.sub(r"\d+", "#", one) == re.sub(r"\d+", "#", other)


class Series:
    """The largest value in every `BUCKET` of the last minute."""

    def __init__(self) -> None:
        self._bucket: int | None = None
        self._largest = math.nan
        self.points: deque[float | None] = deque(maxlen=POINTS)

    def add(self, now: float, value: float) -> None:
        """Take a value; one that is not finite is left out."""
        self.advance(now)
        if math.isfinite(value) and not self._largest >= value:
            self._largest = value

    def advance(self, now: float) -> None:
        """End the buckets that are over at `now`; one without a value leaves a gap."""
        bucket = int(now / BUCKET)
        if self._bucket is None:
            self._bucket = bucket
        for _ in range(min(bucket - self._bucket, POINTS)):
            self.points.append(None if math.isnan(self._largest) else round(self._largest, 4))
            self._largest = math.nan
        self._bucket = bucket


@dataclass
class Task:
    """The task under way, or the last one."""

    instruction: str = ""
    running: bool = False
    status: str = ""
    message: str = ""
    phase: str = ""
    progress: float | None = None
    confidence: float | None = None
    elapsed: float = 0.0
    time_limit: float = 0.0
    chunks: int = 0


@dataclass
class Dashboard:
    """What the nodes said, ready to be shown."""

    series_names: tuple[str, ...]
    namespace: str = ""
    """Of the robot that is shown; where it has one, what other robots' nodes say is not for this page."""
    mode: str = ""
    reason: str = ""
    task: Task = field(default_factory=Task)
    faults: deque[Fault] = field(default_factory=lambda: deque(maxlen=FAULTS))
    on_fault: Callable[[Fault], None] = lambda _: None

    def __post_init__(self) -> None:
        self._rows: dict[str, NodeRow] = {}
        self._silent: set[str] = set()
        self._series = {name: Series() for name in self.series_names}
        self._topics: dict[str, deque[float]] = {}
        self._mode_heard: float | None = None

    # What comes in

    def heard_mode(self, now: float, wall: float, mode: str, reason: str) -> None:
        """The controller says who owns the robot, and why."""
        self._mode_heard = now
        owned = self.mode in ("TELEOP", "POLICY")
        if mode == "ESTOP" and self.mode != "ESTOP":
            self.fault(wall, "wbc_controller", Level.ERROR, reason or "emergency stop")
        elif mode == "HOLD" and owned and reason not in ("", "hold was requested"):
            self.fault(wall, "wbc_controller", Level.ERROR, reason)
        self.mode, self.reason = mode, reason

    def heard_node(
        self, now: float, wall: float, name: str, level: int, message: str, values: Mapping[str, str]
    ) -> None:
        """A node reports on itself (one status of a DiagnosticArray)."""
        if self._foreign(name, "/"):
            return
        before = self._rows.get(name)
        self._rows[name] = NodeRow(name, level, message, dict(values), now)
        self._silent.discard(name)
        new = before is None or before.level != level or not _same(before.message, message)
        if level == Level.ERROR and message and new:
            self.fault(wall, name, level, message)

    def heard_log(self, wall: float, level: int, name: str, text: str) -> None:
        """A node wrote a line to its log (`level`: of rcl_interfaces/Log)."""
        if level >= LOG_ERROR and not self._foreign(name, "."):
            self.fault(wall, name, Level.ERROR, text)

    def heard_topic(self, now: float, topic: str) -> None:
        """A message came on a topic."""
        times = self._topics.setdefault(topic, deque())
        times.append(now)
        while times[0] < now - TOPIC_WINDOW:
            times.popleft()

    def sample(self, now: float, series: str, value: float) -> None:
        """A value for a plot."""
        self._series[series].add(now, value)

    def fault(self, wall: float, source: str, level: int, text: str) -> None:
        """Something went wrong."""
        for index, known in enumerate(self.faults):
            if known.source == source and _same(known.text, text):
                known.text = text
                known.count += 1
                known.wall = wall
                del self.faults[index]
                self.faults.appendleft(known)
                self.on_fault(known)
                return
        new = Fault(source, int(level), text, advice(text), wall)
        self.faults.appendleft(new)
        self.on_fault(new)

    def watch(self, now: float, wall: float) -> None:
        """Look for nodes that have fallen silent."""
        for name, row in list(self._rows.items()):
            age = now - row.heard
            if age > FORGOTTEN:
                del self._rows[name]
            elif age > SILENCE and name not in self._silent:
                self._silent.add(name)
                self.fault(wall, name, Level.STALE, f"no word for {SILENCE:g} s")

    def _foreign(self, name: str, separator: str) -> bool:
        """Whether a name, whose parts are joined by `separator`, is of another robot's node."""
        own = self.namespace.strip("/").replace("/", separator)
        return bool(own) and not name.startswith(own + separator)

    # What is shown

    def snapshot(self, now: float) -> dict[str, Any]:
        """The state as the page takes it, without the plots' history."""
        for series in self._series.values():
            series.advance(now)
        return {
            **self._shown_mode(now),
            "task": asdict(self.task),
            "nodes": [self._shown(row, now) for _, row in sorted(self._rows.items())],
            "topics": {topic: self._rate(times, now) for topic, times in sorted(self._topics.items())},
            "faults": [asdict(fault) for fault in self.faults],
            "points": {"bucket": int(now / BUCKET), "last": {n: list(s.points)[-10:] for n, s in self._series.items()}},
        }

    def history(self) -> dict[str, list[float | None]]:
        """All points of all plots."""
        return {name: list(series.points) for name, series in self._series.items()}

    def _shown_mode(self, now: float) -> dict[str, Any]:
        """The mode, or that nobody vouches for it any more."""
        if self._mode_heard is None:
            return {"mode": "", "reason": "no whole-body controller yet"}
        age = now - self._mode_heard
        if age > MODE_SILENCE:
            return {"mode": "", "reason": f"no word from the whole-body controller for {age:.0f} s; was {self.mode}"}
        return {"mode": self.mode, "reason": self.reason}

    @staticmethod
    def _rate(times: deque[float], now: float) -> float:
        return round(sum(time > now - TOPIC_WINDOW for time in times) / TOPIC_WINDOW, 1)

    @staticmethod
    def _shown(row: NodeRow, now: float) -> dict[str, Any]:
        age = now - row.heard
        stale = age > SILENCE
        return {
            "name": row.name,
            "level": int(Level.STALE) if stale else row.level,
            "message": f"no word for {age:.0f} s" if stale else row.message,
            "values": row.values,
        }
