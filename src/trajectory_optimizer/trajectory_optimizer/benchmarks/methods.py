"""The methods under test, behind one small interface."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
import ruckig
from bytemini_core.types import NANOSECONDS, ActionChunk, RobotState
from numpy.typing import NDArray

from trajectory_optimizer.benchmarks.world import (
    ACCELERATION,
    COLUMNS,
    JERK,
    TICK,
    VELOCITY,
    Arrival,
    Setting,
    SyntheticRobot,
)
from trajectory_optimizer.config import TrajectoryConfig
from trajectory_optimizer.optimizer import TrajectoryOptimizer
from trajectory_optimizer.report import ChunkReport

Array = NDArray[np.float64]

SHORT = 1e-4
"""s over which slopes of straight lines are taken."""


class Method(Protocol):
    """Chunks in, positions out."""

    def start(self, position: Array) -> None:
        """Rest at `position` (COLUMNS,) at time 0."""

    def take(self, arrival: Arrival, time: float) -> None:
        """Take a chunk that has arrived at `time` s."""

    def step(self, time: float) -> Array:
        """(COLUMNS,) the position at `time` s; called once per tick."""


class Ours:
    """This package, everything on."""

    def __init__(self, robot: SyntheticRobot, setting: Setting, **changes: float) -> None:
        config = replace(TrajectoryConfig(limit_fraction=1.0), **changes)  # type: ignore[arg-type]
        self.optimizer = TrajectoryOptimizer(robot, config)
        self._robot, self._setting = robot, setting
        self._sequence = 0
        self._status = np.zeros(setting.rows, dtype=np.int8)
        self._sure = np.ones(setting.rows, dtype=np.float32)
        self._still = np.zeros(len(robot.joint_names))
        self._reports: list[ChunkReport] = []
        self._next: ActionChunk | None = None

    def start(self, position: Array) -> None:
        """Hold there."""
        self._position = position
        self.optimizer.reset(self._state(0.0))

    def _state(self, time: float) -> RobotState:
        return RobotState(round(time * NANOSECONDS), self._robot.joint_names, self._position, self._still, self._still)

    def prepare(self, arrival: Arrival) -> None:
        """Make the message: what the policy's side does."""
        self._next = ActionChunk(
            round(arrival.stamp * NANOSECONDS),
            self._sequence,
            self._robot.joint_names,
            self._setting.dt,
            arrival.values.astype(np.float32),
            self._status,
            self._sure,
        )
        self._sequence += 1

    def take(self, arrival: Arrival, time: float) -> None:
        """Take the prepared message."""
        del arrival
        assert self._next is not None
        self._reports.append(self.optimizer.add_chunk(self._next, round(time * NANOSECONDS)))

    @property
    def seam(self) -> Array:
        """(3,) the largest step of position, velocity and acceleration at a splice."""
        jumps = [(r.splice_position_jump, r.splice_velocity_jump, r.splice_acceleration_jump) for r in self._reports]
        return np.asarray(np.max(jumps, axis=0))

    def observe(self, time: float) -> None:
        """The robot's state of this tick."""
        self.optimizer.observe(self._state(time))

    def step(self, time: float) -> Array:
        """Position of the reference."""
        return self.optimizer.sample(round(time * NANOSECONDS)).position


class Raw:
    """Switch to the newest chunk, hold each row until the next is due."""

    linear = False

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._chunks: list[Arrival] = []

    def start(self, position: Array) -> None:
        """A chunk that stays there."""
        self._chunks = [Arrival(0.0, -self._setting.dt, np.repeat(position[None, :], self._setting.rows, axis=0))]

    def take(self, arrival: Arrival, time: float) -> None:
        """Forget the last chunk."""
        del time
        self._chunks = [arrival]

    def value(self, chunk: Arrival, time: float) -> Array:
        """A chunk's position at `time`, linear between rows or held; its ends held."""
        x = min(max((time - chunk.stamp) / self._setting.dt - 1.0, 0.0), self._setting.rows - 1.0)
        i = int(x)
        if not self.linear:
            return np.asarray(chunk.values[i])
        j = min(i + 1, self._setting.rows - 1)
        return np.asarray(chunk.values[i] + (x - i) * (chunk.values[j] - chunk.values[i]))

    def step(self, time: float) -> Array:
        """Position of the newest chunk."""
        return self.value(self._chunks[-1], time)

    def rates(self, time: float) -> tuple[Array, Array]:
        """(COLUMNS,) velocity and acceleration just after `time`, of what `step` gave for it."""
        velocity = (Raw.step(self, time + SHORT) - Raw.step(self, time)) / SHORT if self.linear else 0.0
        return velocity + np.zeros(COLUMNS), np.zeros(COLUMNS)


class Linear(Raw):
    """Switch to the newest chunk, straight lines between rows (LeRobot's ActionInterpolator)."""

    linear = True


class Ensembling(Linear):
    """ACT's temporal ensembling: mean of all live chunks, weights exp(-0.01 i), i = 0 the oldest."""

    def take(self, arrival: Arrival, time: float) -> None:
        """Keep every chunk that is not over."""
        length = self._setting.rows * self._setting.dt
        self._chunks = [c for c in self._chunks if c.stamp >= 0 and c.stamp + length > time] + [arrival]

    def step(self, time: float) -> Array:
        """Weighted mean of the live chunks."""
        length = self._setting.rows * self._setting.dt
        live = [c for c in self._chunks if c.stamp + length > time] or self._chunks[-1:]
        weights = np.exp(-0.01 * np.arange(len(live)))
        values = np.array([self.value(c, time) for c in live])
        return np.asarray(weights @ values / weights.sum())

    def rates(self, time: float) -> tuple[Array, Array]:
        """Of the mean."""
        return (self.step(time + SHORT) - self.step(time)) / SHORT, np.zeros(COLUMNS)


class Ruckig(Linear):
    """Ruckig, online: at every tick time-optimal to the chunk's position now, at rest there.

    `limits`: (3, COLUMNS) velocity, acceleration and jerk; None for the synthetic robot's.
    """

    def __init__(self, setting: Setting, limits: Array | None = None) -> None:
        super().__init__(setting)
        if limits is None:
            limits = np.repeat([[VELOCITY], [ACCELERATION], [JERK]], COLUMNS, axis=1)
        self._otg = ruckig.Ruckig(COLUMNS, TICK)
        self._input, self._output = ruckig.InputParameter(COLUMNS), ruckig.OutputParameter(COLUMNS)
        self._input.max_velocity, self._input.max_acceleration, self._input.max_jerk = limits.tolist()
        self._input.synchronization = ruckig.Synchronization.No

    def start(self, position: Array) -> None:
        """Rest there."""
        super().start(position)
        self._input.current_position = position.tolist()
        self._input.current_velocity = self._input.current_acceleration = [0.0] * COLUMNS

    def step(self, time: float) -> Array:
        """One cycle towards the newest chunk's position."""
        self._input.target_position = super().step(time).tolist()
        self._otg.update(self._input, self._output)
        self._output.pass_to_input(self._input)
        return np.array(self._output.new_position)

    def rates(self, time: float) -> tuple[Array, Array]:
        """Of the last cycle."""
        del time
        return np.array(self._input.current_velocity), np.array(self._input.current_acceleration)
