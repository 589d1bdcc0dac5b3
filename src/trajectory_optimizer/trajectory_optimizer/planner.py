"""From live chunks to the next segment of motion: fuse, smooth, slow down where limits ask, bound what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajectory_optimizer.chunk_fusion import ChunkPath, fuse
from trajectory_optimizer.config import TrajectoryConfig
from trajectory_optimizer.limits import Limits
from trajectory_optimizer.min_jerk import Bounds, Grid, MinJerk, Phase
from trajectory_optimizer.path_time import PathTime
from trajectory_optimizer.plan import Segment
from trajectory_optimizer.pursuit import rejoin_profile, rejoin_time

Array = NDArray[np.float64]

RETIMINGS = 3
"""Times that a path is slowed before the bounds are left to the QP."""
START = 0.1
"""s of path whose mean speed is its speed at the splice."""
TRANSIENT = 4
"""Control points after the splice that say how the path is joined, not how fast it is."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A segment and how it came about.

    `bounded`: columns that needed the QP. `kept`: columns for which the solver's answer was cut short so as to stay
    within limits (1 - fraction of the way, the largest). `rate`: the least speed along the path. `deviation`: (D,)
    largest distance from the targets once rejoined. `jerk`: (r, D) its control points.
    """

    segment: Segment
    bounded: int
    kept: float
    rate: float
    deviation: Array
    jerk: Array


@dataclass(frozen=True, slots=True)
class Join:
    """How a plan gets onto its path.

    `offset`: (D,) from the path, closed over `duration` s; None where the smoother does it by itself. `rate`: speed
    along the path at first, as a fraction of what is asked, growing to 1 over `ramp` s.
    """

    offset: Array | None = None
    duration: float = 0.0
    rate: float = 1.0
    ramp: float = 0.0


class Planner:
    """Plans the columns of one layout on one time grid."""

    def __init__(self, limits: Limits, smooth: int, config: TrajectoryConfig) -> None:
        """Make the grids; phases are factored when first needed.

        Args:
            limits: of all D columns; the first `smooth` are fused and smoothed, the rest are crisp.
            smooth: number of smooth columns.
            config: parameters.
        """
        self.limits, self.smooth, self.config = limits, smooth, config
        shape = (config.interval, config.intervals, config.samples)
        self.grid = Grid(*shape, config.bandwidth, config.rejoin, config.continuity)
        self._smooth = MinJerk(self.grid)
        self._crisp = MinJerk(Grid(*shape, config.crisp_bandwidth, 0.0, config.continuity))
        self.bounds = Bounds(self.grid, limits)
        # The last intervals only decay to rest: the path has to end before them.
        self.reach = self.grid.horizon - 4.0 * config.interval

    def warm(self) -> None:
        """Factor every phase now, so that no update has to."""
        for tick in range(self.config.interval_ns // self.config.quantum_ns):
            self._smooth.phase(tick, self.config.quantum)
            self._crisp.phase(tick, self.config.quantum)

    def rest(self, origin: int, position: Array) -> Segment:
        """A segment that stays at `position` (D,) from `origin` ns on, the start of a time grid."""
        control = np.repeat(self.limits.clamp(position)[None, :], self.grid.size, axis=0)
        return Segment(origin, self.config.interval_ns, 0, control, origin, 0.0, PathTime(0.0, 0.0))

    def solve(
        self, old: Segment, splice: int, paths: Sequence[ChunkPath], stop: float, braking: float, promptly: bool = False
    ) -> Solution:
        """Plan from the state of `old` at `splice` along `paths`.

        Args:
            old: the segment in force at the splice.
            splice: ns, on the quantum of the grid.
            paths: live chunks, the newest first; none to go on to where `old` would.
            stop: policy time consumed at which the path ends.
            braking: s of policy time over which the motion fades before that.
            promptly: follow the targets at once rather than smoothly: a brake.
        """
        width = old.width
        first, ticks = divmod(splice - old.origin, width)
        tick = ticks // self.config.quantum_ns
        crisp_phase = self._crisp.phase(tick, self.config.quantum)
        smooth_phase = crisp_phase if promptly else self._smooth.phase(tick, self.config.quantum)
        before = old.from_interval(first)
        state = old.at(splice)
        consumed = old.consumed(splice)
        since = smooth_phase.since
        end = max(min(stop - consumed, self.reach - ticks * 1e-9 - braking), 0.0)
        law = PathTime(end, braking)
        join = self._join(paths, consumed, state, promptly)
        rate = np.ones(self.config.intervals)
        if join.ramp > 0.0:
            middle = (np.arange(self.config.intervals) + 0.5) * self.config.interval
            rate = np.maximum(np.minimum(join.rate + (1.0 - join.rate) * middle / join.ramp, 1.0), self.config.slowest)
            law = self._law(end, braking, rate)
        attempt = 0
        while True:
            target = self._targets(paths, consumed + law(since), since, state, join)
            control = self._unbounded(smooth_phase, crisp_phase, target, before)
            values = self.grid.rows @ control
            bad = self.bounds.violated(values)
            if promptly or attempt == RETIMINGS or not bad[: self.smooth].any():
                break
            slower = self._slow_down(values)
            if slower.min() > 0.999:
                break
            rate = np.maximum(rate * slower, self.config.slowest)
            law = self._law(end, braking, rate)
            attempt += 1
        bounded, kept = 0, 0.0
        if bad.any():
            control, bounded, kept = self._bounded(smooth_phase, crisp_phase, target, before, control, bad)
        later = since >= self.config.rejoin
        deviation = np.abs((self.grid.collocation @ control - target)[later]).max(axis=0)
        jerk = self.grid.rows[self.grid.order == 3] @ control
        segment = Segment(old.origin, width, first, control, splice, consumed, law)
        return Solution(segment, bounded, kept, float(rate.min()), deviation, jerk)

    def _law(self, end: float, braking: float, rate: Array) -> PathTime:
        """The law with the given speeds along the path, one per interval."""
        nodes = np.concatenate(([0.0], np.cumsum(rate))) * self.config.interval
        return PathTime(end, braking, self.config.interval, nodes)

    def _join(self, paths: Sequence[ChunkPath], consumed: float, state: Array, promptly: bool) -> Join:
        """How to get onto the path from the present state, where that is more than smoothing does by itself."""
        if not paths:
            return Join()
        config, limits, n = self.config, self.limits, self.smooth
        # Two points of the path just after the splice give where it is and how fast it goes.
        u = consumed + np.array([0.0, START])
        here, there = fuse(paths, u, limits.agreement, limits.crisp, config.decay, config.taper)
        offset = state[0] - here
        offset[n:] = 0.0
        if promptly:
            return Join(offset=offset, duration=np.inf)
        duration = rejoin_time(offset, 0.7 * limits.velocity, 0.7 * limits.acceleration, 0.7 * limits.jerk)
        speed, present = ((there - here) / START)[:n], state[1, :n]
        unit = 1.0 / limits.velocity[:n]
        along = float((speed * unit) @ (speed * unit))
        rate = float((speed * unit) @ (present * unit)) / along if along > 0.0 else 1.0
        ramp = float((np.abs(speed - present) / (0.6 * limits.acceleration[:n])).max(initial=0.0))
        far, slow = duration > config.rejoin, ramp > 0.5 * config.rejoin and rate < 0.8
        return Join(
            offset=offset if far else None,
            duration=duration if far else 0.0,
            rate=min(max(rate, 0.0), 1.0) if slow else 1.0,
            ramp=ramp if slow else 0.0,
        )

    def _targets(self, paths: Sequence[ChunkPath], consumed: Array, since: Array, state: Array, join: Join) -> Array:
        """(m, D) where the plan should be at the sample times."""
        config, limits = self.config, self.limits
        if not paths:
            return np.repeat(state[:1], len(since), axis=0)
        target = fuse(paths, consumed, limits.agreement, limits.crisp, config.decay, config.taper)
        if join.offset is not None:
            target += np.outer(rejoin_profile(since, join.duration), join.offset)
        target = limits.clamp(target)
        for column in range(self.smooth, limits.size):
            target[:, column] = _slew(
                target[:, column], float(state[0, column]), 0.9 * float(limits.velocity[column]), since
            )
        return target

    def _unbounded(self, smooth: Phase, crisp: Phase, target: Array, before: Array) -> Array:
        """(n, D) control points that minimise the cost and splice, bounds aside."""
        stacked = np.concatenate((target, before))
        control = np.empty_like(before)
        n = self.smooth
        control[:, :n] = before[:, :n] + smooth.gain @ stacked[:, :n]
        if n < self.limits.size:
            control[:, n:] = before[:, n:] + crisp.gain @ stacked[:, n:]
        return control

    def _slow_down(self, values: Array) -> Array:
        """(N,) factors <= 1 on the speed along the path that bring smooth columns within their bounds.

        Velocity goes with the speed, acceleration with its square, jerk with its cube. Control point i of the
        derivatives acts around interval i - 1; neighbours slow down with it, to brake in time.
        """
        n, order = self.smooth, self.grid.order
        ratio = np.zeros(self.config.intervals)
        for d in (1, 2, 3):
            excess = (np.abs(values[order == d, :n]) / self.bounds.upper[order == d, :n]).max(axis=1) ** (1.0 / d)
            excess[:TRANSIENT] = 0.0
            reached = excess[: self.config.intervals]
            ratio[: len(reached)] = np.maximum(ratio[: len(reached)], reached)
        for disc, rows in self.bounds.discs:
            if disc.order > 0:
                size = np.hypot(values[rows, disc.a], values[rows, disc.b]) / disc.radius
                size[:TRANSIENT] = 0.0
                reached = (size ** (1.0 / disc.order))[: self.config.intervals]
                ratio[: len(reached)] = np.maximum(ratio[: len(reached)], reached)
        wide = np.pad(ratio, 3, mode="edge")
        spread = np.lib.stride_tricks.sliding_window_view(wide, 7).max(axis=1)
        factor: Array = 1.0 / np.maximum(1.02 * spread, 1.0)
        return factor

    def _bounded(
        self, smooth: Phase, crisp: Phase, target: Array, before: Array, control: Array, bad: NDArray[np.bool_]
    ) -> tuple[Array, int, float]:
        """Solve the QP of each column in `bad`, then make sure of every bound."""
        stacked = np.concatenate((target, before))
        old = self.grid.rows @ before
        solved = 0
        done: set[int] = set()
        for column in np.flatnonzero(bad):
            if int(column) in done:
                continue
            phase = smooth if column < self.smooth else crisp
            columns = [int(column)] + ([self.bounds.partner[int(column)]] if int(column) in self.bounds.partner else [])
            done.update(columns)
            x = self.bounds.solve(phase, int(column), phase.target @ stacked, old)
            solved += len(columns)
            if x is not None:
                control[:, columns] = before[:, columns] + phase.step @ x
        values = self.grid.rows @ control
        still = self.bounds.violated(values)
        if not still.any():
            return control, solved, 0.0
        fraction = self.bounds.guard(old, values, still)
        return before + fraction * (control - before), solved, float(1.0 - fraction.min())


def _slew(target: Array, start: float, speed: float, since: Array) -> Array:
    """(m,) `target` followed causally at no more than `speed`: a step starts when it is due, not before.

    A least-squares fit under a velocity bound would start half of the way early.
    """
    step = np.diff(target)
    step_time = float(since[1] - since[0])
    if np.abs(step).max(initial=0.0) <= speed * step_time and abs(float(target[0]) - start) <= speed * step_time:
        return target
    followed = np.empty_like(target)
    here, room = start, speed * step_time
    for i, goal in enumerate(target.tolist()):
        if since[i] > 0.0:
            here = min(max(goal, here - room), here + room)
        followed[i] = here
    return followed
