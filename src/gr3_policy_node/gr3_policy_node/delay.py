"""How many actions the robot executes while the policy thinks, and which those will be.

Delay is counted in actions consumed, as the trajectory optimizer reports it for every chunk it splices in: a robot that
stood still, or was slowed down at a limit, consumed fewer than latency / dt. Inferences that warm a policy up make no
chunk and so have no say. The actions that will be executed before the next chunk can arrive are handed to a policy that
takes a prefix (training-time real-time chunking); where the last chunk ends before that, its last action is repeated,
never zeros.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from bytemini_core.types import BASE_COLUMNS, NANOSECONDS, SIDES, ActionChunk, Array
from numpy.typing import NDArray

WINDOW = 10
"""Chunks whose delay counts; the largest of them is expected again."""

KEPT = 8
"""Chunks that are kept until the optimizer has reported on them."""


@dataclass(frozen=True, slots=True)
class _Sent:
    chunk: ActionChunk
    base: Array


@dataclass(frozen=True, slots=True)
class _Executing:
    """`consumed`: actions of the chunk that were past at `spliced` (ns)."""

    sent: _Sent
    spliced: int
    consumed: float


class DelayTracker:
    """Follows the chunks of one task from being sent to being executed."""

    def __init__(self) -> None:
        self._sent: deque[_Sent] = deque(maxlen=KEPT)
        self._delays: deque[float] = deque(maxlen=WINDOW)
        self._executing: _Executing | None = None

    def reset(self) -> None:
        """A new task: nothing of the last one is executed any more. How long the policy takes stays known."""
        self._sent.clear()
        self._executing = None

    def sent(self, chunk: ActionChunk, base: Array) -> None:
        """A chunk was sent out; `base`: (x, y, yaw) in odom at its stamp."""
        self._sent.append(_Sent(chunk, base))

    def spliced(self, stamp: int, sequence: int, consumed: float, now: int) -> None:
        """The optimizer executes a chunk.

        Args:
            stamp: of the chunk.
            sequence: of the chunk.
            consumed: actions of it that were past by then.
            now: nanoseconds.
        """
        for sent in self._sent:
            if (sent.chunk.stamp, sent.chunk.sequence) == (stamp, sequence) and sent.chunk.horizon:
                self._executing = _Executing(sent, now, max(consumed, 0.0))
                self._delays.append(max(consumed, 0.0))

    @property
    def delay(self) -> int:
        """Actions that will be consumed before the next chunk is executed; 0 while nothing was measured."""
        return math.ceil(max(self._delays, default=0.0) - 1e-6)

    def prefix(self, stamp: int, base: Array, most: int) -> NDArray[np.float32] | None:
        """The actions that will have been executed when the chunk of an observation arrives.

        Args:
            stamp: of the observation, nanoseconds.
            base: (x, y, yaw) in odom at that stamp.
            most: rows that the policy takes.

        Returns:
            (m, columns) in the columns of the last chunk, relative to `base` where they are relative; None when nothing
            is being executed.
        """
        running, rows = self._executing, min(self.delay, most)
        if running is None or rows < 1:
            return None
        chunk = running.sent.chunk
        consumed = max(running.consumed + (stamp - running.spliced) / (chunk.dt * NANOSECONDS), 0.0)
        # Row i is due when i + 1 actions are consumed, so that row 0 of the next chunk is row `consumed` of this one.
        place = np.minimum(consumed + np.arange(rows), chunk.horizon - 1)
        before = place.astype(np.intp)
        part = (place - before)[:, None]
        values = chunk.values.astype(np.float64)
        after = np.minimum(before + 1, chunk.horizon - 1)
        at = (1.0 - part) * values[before] + part * values[after]
        return reanchor(at, chunk.names, running.sent.base, base).astype(np.float32)


def reanchor(values: Array, names: tuple[str, ...], old: Array, new: Array) -> Array:
    """Actions relative to one base pose, relative to another.

    Args:
        values: (m, columns); joints stay as they are.
        names: of the columns: `base/*` displace the base, `{side}_hand/*` are positions and rotation columns in its
            frame.
        old: (x, y, yaw) in odom that `values` are relative to.
        new: (x, y, yaw) in odom that they shall be relative to.

    Returns:
        (m, columns), a copy.
    """
    out = values.copy()
    column = {name: i for i, name in enumerate(names)}
    turn = float(old[2] - new[2])
    c, s = math.cos(turn), math.sin(turn)
    away = np.asarray(old[:2]) - np.asarray(new[:2])
    cn, sn = math.cos(new[2]), math.sin(new[2])
    shift = (cn * away[0] + sn * away[1], -sn * away[0] + cn * away[1])

    def rotate(x: str, y: str, moved: bool) -> None:
        if x in column and y in column:
            i, j = column[x], column[y]
            out[:, i] = c * values[:, i] - s * values[:, j] + moved * shift[0]
            out[:, j] = s * values[:, i] + c * values[:, j] + moved * shift[1]

    rotate(BASE_COLUMNS[0], BASE_COLUMNS[1], True)
    if BASE_COLUMNS[2] in column:
        yaw = values[:, column[BASE_COLUMNS[2]]] + turn
        out[:, column[BASE_COLUMNS[2]]] = np.arctan2(np.sin(yaw), np.cos(yaw))
    for side in SIDES:
        rotate(f"{side}_hand/x", f"{side}_hand/y", True)
        rotate(f"{side}_hand/r11", f"{side}_hand/r21", False)
        rotate(f"{side}_hand/r12", f"{side}_hand/r22", False)
    return out
