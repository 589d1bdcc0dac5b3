"""The trajectory of an episode: logged cheaply at every control tick, then one set of arrays.

`TrajectoryLog.append` costs a few microseconds (it copies rows into blocks that were allocated before), so that it can
stay on in runs of thousands of episodes. `Trajectory` is what comes out: arrays over ticks, the jerk of the commanded
motion, a digest for tests of determinism, and one compressed file.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.types import NANOSECONDS, Array, JointCommand, Mode, RobotState, TaskStatus, WbcStatus
from numpy.typing import NDArray

BLOCK = 2048
MOST_TICKS = 720_000
"""An hour at 200 Hz, about 0.5 GB: far beyond any episode, so that a run-away one cannot eat the machine."""

FORMAT = 1

_MODES = {mode: code for code, mode in enumerate(Mode)}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one instant: a collision, a refused chunk, a grasp that failed."""

    stamp: int
    kind: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What one episode did, over its T control ticks and n joints.

    Attributes:
        names: of the joints.
        stamp: (T,) nanoseconds of the simulated clock, increasing.
        position, velocity: (T, n) measured, rad or m and per second.
        command: (T, n) commanded position, rad or m.
        base_pose: (T, 3) measured x, y, yaw in odom, m and rad.
        base_twist: (T, 3) commanded vx, vy, wz in base_footprint, m/s and rad/s.
        mode: (T,) index into `bytemini_core.types.Mode`.
        active: (T,) index into `constraints`.
        constraints: the sets of active constraints that occurred; the first is the empty one.
        task_status: (T,) the policy's word for what is executing, and `confidence` (T,) its confidence in [0, 1].
        phase: (T,) index into `phases`.
        phases: what the policy or the task said it was doing; the first is "".
        events: in order of time.
    """

    names: tuple[str, ...]
    stamp: NDArray[np.int64]
    position: Array
    velocity: Array
    command: Array
    base_pose: Array
    base_twist: Array
    mode: NDArray[np.int8]
    active: NDArray[np.int32]
    task_status: NDArray[np.int8]
    confidence: NDArray[np.float32]
    phase: NDArray[np.int32]
    constraints: tuple[tuple[str, ...], ...] = ((),)
    phases: tuple[str, ...] = ("",)
    events: tuple[Event, ...] = ()

    def __len__(self) -> int:
        return len(self.stamp)

    @property
    def time(self) -> Array:
        """(T,) seconds since the first tick."""
        start = int(self.stamp[0]) if len(self) else 0
        return np.asarray((self.stamp - start) / NANOSECONDS, dtype=np.float64)

    def jerk(self) -> Array:
        """Jerk of the commanded positions: their third difference over the cube of the tick.

        j[i] = (q[i] - 3 q[i-1] + 3 q[i-2] - q[i-3]) / dt^3, with dt the median tick. The command is taken, not the
        measurement: it is what this stack decides, and differencing it adds no sensor noise.

        Returns:
            (T, n) rad/s^3 or m/s^3; 0 for the first three ticks, and for windows in which a tick was late or lost (the
            difference would be that of the clock, not of the motion).
        """
        jerk = np.zeros_like(self.command)
        if len(self) < 4:
            return jerk
        step = np.diff(self.stamp)
        tick = float(np.median(step))
        third = np.diff(self.command, n=3, axis=0) / (tick / NANOSECONDS) ** 3
        regular = np.abs(step - tick) <= 0.01 * tick
        third[~(regular[:-2] & regular[1:-1] & regular[2:])] = 0.0
        jerk[3:] = third
        return jerk

    def max_jerk(self) -> float:
        """The largest absolute jerk of any joint at any tick: rad/s^3, for lift and grippers m/s^3; 0 if too short."""
        return float(np.abs(self.jerk()).max(initial=0.0))

    def digest(self) -> str:
        """sha256 over every bit of the motion, the modes and the statuses: equal only for identical episodes."""
        total = hashlib.sha256("\0".join(self.names).encode())
        for name in _ARRAYS:
            array = np.ascontiguousarray(getattr(self, name))
            # Little-endian whatever the machine; the dtype is fixed by the log.
            total.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        total.update(repr((self.constraints, self.phases)).encode())
        return total.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write a compressed .npz, replacing `path` in one step; `load` reads it."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        try:
            with temporary.open("wb") as stream:
                np.savez_compressed(
                    stream,
                    format=np.int64(FORMAT),
                    names=_strings(self.names),
                    constraints=_strings(json.dumps(active) for active in self.constraints),
                    phases=_strings(self.phases),
                    event_stamp=np.array([event.stamp for event in self.events], dtype=np.int64),
                    event_kind=_strings(event.kind for event in self.events),
                    event_text=_strings(event.text for event in self.events),
                    **{name: getattr(self, name) for name in _ARRAYS},
                )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Trajectory:
        """Read what `save` wrote.

        Raises:
            ValueError: not such a file; the message names it and what is wrong.
            OSError: it cannot be read.
        """
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as data:
                return cls._from_arrays({name: data[name] for name in data.files})
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not a trajectory of this version (format {FORMAT}): {error}") from None

    @classmethod
    def _from_arrays(cls, data: Mapping[str, NDArray[Any]]) -> Trajectory:
        if int(data["format"]) != FORMAT:
            raise ValueError(f"format {int(data['format'])}")
        names = tuple(data["names"].tolist())
        ticks = len(data["stamp"])
        arrays = {}
        for name, (dtype, width) in _ARRAYS.items():
            shape = (ticks,) if width is None else (ticks, width or len(names))
            array = data[name]
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
            arrays[name] = array
        constraints = tuple(tuple(json.loads(text)) for text in data["constraints"].tolist())
        phases = tuple(data["phases"].tolist())
        for name, size in (("mode", len(_MODES)), ("active", len(constraints)), ("phase", len(phases))):
            if ticks and not 0 <= arrays[name].min() <= arrays[name].max() < size:
                raise ValueError(f"{name} points beyond its {size} names")
        events = zip(*(data[f"event_{name}"].tolist() for name in ("stamp", "kind", "text")), strict=True)
        return cls(names, **arrays, constraints=constraints, phases=phases, events=tuple(Event(*e) for e in events))


_ARRAYS: dict[str, tuple[type[np.generic], int | None]] = {
    "stamp": (np.int64, None),
    "position": (np.float64, 0),
    "velocity": (np.float64, 0),
    "command": (np.float64, 0),
    "base_pose": (np.float64, 3),
    "base_twist": (np.float64, 3),
    "mode": (np.int8, None),
    "active": (np.int32, None),
    "task_status": (np.int8, None),
    "confidence": (np.float32, None),
    "phase": (np.int32, None),
}
"""Arrays of a `Trajectory` over ticks: type, and width of a row (None: scalar, 0: one per joint)."""


def _strings(values: Any) -> NDArray[np.str_]:
    return np.array(list(values), dtype=np.str_)


class TrajectoryLog:
    """Collects one episode.

    Args:
        names: the joints to log; states and commands may hold more, in any order.
        limit: ticks after which `append` refuses (in whole blocks).
    """

    def __init__(self, names: tuple[str, ...], limit: int = MOST_TICKS) -> None:
        self.names = tuple(names)
        self._limit = limit
        self._blocks: list[dict[str, NDArray[Any]]] = []
        self._block: dict[str, NDArray[Any]] = {}
        self._row = 0
        self._columns: dict[tuple[str, ...], NDArray[np.intp] | None] = {}
        self._constraints: dict[tuple[str, ...], int] = {(): 0}
        self._phases: dict[str, int] = {"": 0}
        self._events: list[Event] = []
        self._last = -1
        self._grow()

    def __len__(self) -> int:
        return (len(self._blocks) - 1) * BLOCK + self._row

    def append(
        self,
        state: RobotState,
        command: JointCommand,
        status: WbcStatus | None = None,
        task_status: TaskStatus = TaskStatus.ONGOING,
        confidence: float = 0.0,
        phase: str = "",
    ) -> None:
        """Log one control tick: what was measured, what was commanded in answer, and what the policy says of it.

        Raises:
            ValueError: a joint is missing, the stamp is not later than the last, or the episode is longer than `limit`.
        """
        stamp = state.stamp
        if stamp <= self._last:
            raise ValueError(
                f"tick of stamp {stamp} ns does not come after {self._last} ns: log each tick once, in order"
            )
        row = self._row
        if row == BLOCK:
            self._grow()
            row = 0
        block = self._block
        measured = self._select(state.names)
        commanded = self._select(command.names)
        block["stamp"][row] = stamp
        block["position"][row] = state.position if measured is None else state.position[measured]
        block["velocity"][row] = state.velocity if measured is None else state.velocity[measured]
        block["command"][row] = command.position if commanded is None else command.position[commanded]
        block["base_pose"][row] = state.base_pose
        block["base_twist"][row] = command.base_twist
        block["task_status"][row] = task_status
        block["confidence"][row] = confidence
        if phase:
            block["phase"][row] = self._phases.setdefault(phase, len(self._phases))
        if status is not None:
            block["mode"][row] = _MODES[status.mode]
            if status.active:
                block["active"][row] = self._constraints.setdefault(status.active, len(self._constraints))
        self._row = row + 1
        self._last = stamp

    def event(self, stamp: int, kind: str, text: str = "") -> None:
        """Log something that happened at `stamp` (ns); `kind` is a short word such as "collision"."""
        self._events.append(Event(stamp, kind, text))

    def trajectory(self) -> Trajectory:
        """What was logged so far, as arrays of its own."""
        parts = {name: [block[name] for block in self._blocks] for name in _ARRAYS}
        arrays = {name: np.concatenate(blocks)[: len(self)] for name, blocks in parts.items()}
        return Trajectory(
            self.names,
            **arrays,
            constraints=tuple(self._constraints),
            phases=tuple(self._phases),
            events=tuple(sorted(self._events, key=lambda event: event.stamp)),
        )

    def _grow(self) -> None:
        if len(self._blocks) * BLOCK >= self._limit:
            raise ValueError(f"the episode is longer than {self._limit} ticks: end it, or log with a larger limit")
        self._block = {
            name: np.zeros(BLOCK if width is None else (BLOCK, width or len(self.names)), dtype=dtype)
            for name, (dtype, width) in _ARRAYS.items()
        }
        self._blocks.append(self._block)

    def _select(self, names: tuple[str, ...]) -> NDArray[np.intp] | None:
        """Where the logged joints are in `names`; None when they are the same, in the same order."""
        try:
            return self._columns[names]
        except KeyError:
            pass
        if missing := set(self.names) - set(names):
            raise ValueError(f"the trajectory logs {', '.join(sorted(missing))}, which the message does not name")
        columns = None if names == self.names else np.array([names.index(name) for name in self.names])
        self._columns[names] = columns
        return columns
