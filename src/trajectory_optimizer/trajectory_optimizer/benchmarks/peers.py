"""The peers behind the interface of `TrajectoryOptimizer`: the same chunks in, the same references out.

So a rollout can put any of them between policy and whole-body controller, everything else being equal. They get what
this package has worked out for itself: columns by name, base displacements composed with the odometry at the chunk's
stamp, rows timed from that stamp (what is past when a chunk arrives is skipped). Ruckig has this package's own limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from bytemini_core.types import NANOSECONDS, ActionChunk, BaseReference, Mode, RobotState, WholeBodyReference
from bytemini_description.robot import RobotModel

from trajectory_optimizer.benchmarks.methods import Array, Ensembling, Linear, Raw, Ruckig
from trajectory_optimizer.benchmarks.world import Arrival, Setting
from trajectory_optimizer.config import TrajectoryConfig
from trajectory_optimizer.history import History, Moment
from trajectory_optimizer.interface import ChunkOptimizer
from trajectory_optimizer.layout import make_layout
from trajectory_optimizer.optimizer import TrajectoryOptimizer
from trajectory_optimizer.report import ChunkReport

HISTORY = 3 * NANOSECONDS


class Peer:
    """A method of the benchmark as an optimiser of the robot's policy columns.

    It has no brake: a chunk without rows is ignored, the last one plays out.
    """

    def __init__(self, robot: RobotModel, method: type[Raw], *, compensate: bool = True) -> None:
        """Prepare.

        Args:
            robot: names and limits.
            method: one of `methods`.
            compensate: time rows from the chunk's stamp; False begins each chunk at its first row when it arrives.
        """
        self._robot = robot
        self._method = method
        self._compensate = compensate
        self._layout = make_layout(robot, robot.policy_columns, TrajectoryConfig())
        self._history = History(HISTORY)
        self._running: Raw | None = None
        self._start = np.zeros(len(self._layout.source))
        self._yaw = 0.0

    def reset(self, state: RobotState) -> None:
        """Hold where `state` is, forget every chunk."""
        self._history.clear()
        self._running = None
        self._yaw = float(state.base_pose[2])
        self.observe(state)
        joints = dict(zip(state.names, state.position, strict=True))
        self._start = np.array([*state.base_pose, *(joints[name] for name in self._layout.joints)])

    def observe(self, state: RobotState) -> None:
        """Record odometry."""
        self._yaw += math.remainder(float(state.base_pose[2]) - self._yaw, 2.0 * math.pi)
        base = np.array([*state.base_pose[:2], self._yaw])
        self._history.add(Moment(state.stamp, base, self._start, 0.0))

    def add_chunk(self, chunk: ActionChunk, now: int) -> ChunkReport:
        """Switch to the chunk, or average it in."""
        if chunk.names != self._layout.names:
            return ChunkReport(chunk.stamp, chunk.sequence, False, "columns are not the robot's policy columns")
        if chunk.horizon == 0:
            return ChunkReport(chunk.stamp, chunk.sequence, False, "no rows: this method has no brake")
        rows = self._layout.targets(chunk.values, self._history.at(chunk.stamp).base, self._start, {})
        stamp = chunk.stamp / NANOSECONDS if self._compensate else now / NANOSECONDS - chunk.dt
        if self._running is None:
            self._running = self._make(Setting(rows=chunk.horizon, dt=chunk.dt))
        self._running.take(Arrival(now / NANOSECONDS, stamp, rows), now / NANOSECONDS)
        return ChunkReport(chunk.stamp, chunk.sequence, True)

    def _make(self, setting: Setting) -> Raw:
        limits = self._layout.limits
        given = (np.stack((limits.velocity, limits.acceleration, limits.jerk)),) if self._method is Ruckig else ()
        made = self._method(setting, *given)
        made.start(self._start)
        return made

    def sample(self, now: int) -> WholeBodyReference:
        """The method's position for `now` with its own velocity and acceleration; call once per tick, in order."""
        position, velocity, acceleration = self._motion(now / NANOSECONDS)
        first, yaw = self._layout.first, float(position[2])
        cos, sin = math.cos(yaw), math.sin(yaw)
        vx, vy, wz = velocity[:3].tolist()
        return WholeBodyReference(
            stamp=now,
            source=Mode.POLICY,
            names=self._layout.joints,
            position=position[first:],
            velocity=velocity[first:],
            acceleration=acceleration[first:],
            base=BaseReference(position[:3], np.array([cos * vx + sin * vy, cos * vy - sin * vx, wz])),
        )

    def _motion(self, time: float) -> tuple[Array, Array, Array]:
        if self._running is None:
            return self._start, np.zeros_like(self._start), np.zeros_like(self._start)
        position = self._running.step(time)
        return position, *self._running.rates(time)


OPTIMIZERS: Mapping[str, Callable[[RobotModel], ChunkOptimizer]] = {
    "ours": TrajectoryOptimizer,
    "ruckig": lambda robot: Peer(robot, Ruckig),
    "ensembling": lambda robot: Peer(robot, Ensembling),
    "linear": lambda robot: Peer(robot, Linear),
    "raw": lambda robot: Peer(robot, Raw),
    "raw, on arrival": lambda robot: Peer(robot, Raw, compensate=False),
}
"""Every method by its name in tables; the last is what a client does that knows nothing of stamps."""
