"""From live chunks to the next segment of motion: fuse, smooth, slow down where limits ask, bound what is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajectory_optimizer.chunk_fusion import LiveChunks, fuse
from trajectory_optimizer.config import TrajectoryConfig
from trajectory_optimizer.limits import Limits
from trajectory_optimizer.min_jerk import Bounds, Grid, MinJerk, Phase
from trajectory_optimizer.path_time import PathTime
from trajectory_optimizer.plan import Segment
from trajectory_optimizer.pursuit import rejoin_profile, rejoin_reach, rejoin_time

Array = NDArray[np.float64]

RETIMINGS = 3
"""Times that a path is slowed before the bounds are left to the QP."""
TRANSIENT = 4
"""Control points after the splice that say how the path is joined, not how fast it is."""
SHARE = 0.7
"""Part of the limits that joining a path may use by itself."""
CORNER_SPAN = 4
"""Targets over which a deviation from the path must last to be a corner cut."""
CORNER = 0.5
"""The least speed along the path for the sake of path tolerance alone."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A segment and how it came about.

    `target`: (m, D) where it was meant to go. `bounded`: columns that needed the QP. `kept`: how far the solver's
    answer was cut short to stay within limits (0: not at all, 1: the old plan goes on). `sharp`: columns smoothed less
    because of their path tolerance. `rate`: the least speed along the path.
    """

    segment: Segment
    target: Array
    bounded: int = 0
    kept: float = 0.0
    sharp: int = 0
    rate: float = 1.0


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
        self._sharp = MinJerk(Grid(*shape, config.sharp_bandwidth, config.rejoin, config.continuity))
        self._crisp = MinJerk(Grid(*shape, config.sharp_bandwidth, 0.0, config.continuity))
        self.bounds = Bounds(self.grid, limits)
        # One product gives what is compared with bounds and with targets.
        self._readout = np.ascontiguousarray(np.vstack((self.grid.rows, self.grid.collocation)))
        # The last intervals only decay to rest: the path has to end before them.
        self.reach = self.grid.horizon - 4.0 * config.interval
        # Of grippers only the newest chunk counts: no other is believed.
        count = len(self.grid.times)
        near = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) <= CORNER_SPAN / 2
        self._mean = near / (CORNER_SPAN + 1.0)
        self._doubt = np.where(limits.crisp, 1e100, limits.agreement**-2)
        magnitudes = (SHARE * limits.velocity, SHARE * limits.acceleration, SHARE * limits.jerk)
        self._near = rejoin_reach(max(config.rejoin, 1e-3), *magnitudes)
        self._near[limits.crisp] = np.inf
        # Slower than this a difference in speed is made up while rejoining.
        self._slow = 0.5 * config.rejoin * SHARE * limits.acceleration
        self._slow[limits.crisp] = np.inf
        self._stride = 0.9 * limits.velocity[smooth:] * config.interval / config.samples

    def warm(self) -> None:
        """Factor every phase now, so that no update has to."""
        for tick in range(self.config.interval_ns // self.config.quantum_ns):
            for problem in (self._smooth, self._sharp, self._crisp):
                problem.phase(tick, self.config.quantum)

    def rest(self, origin: int, position: Array) -> Segment:
        """A segment that stays at `position` (D,) from `origin` ns on, the start of a time grid."""
        control = np.repeat(self.limits.clamp(position)[None, :], self.grid.size, axis=0)
        return Segment(origin, self.config.interval_ns, 0, control, origin, 0.0, PathTime(0.0, 0.0))

    def solve(
        self, old: Segment, splice: int, live: LiveChunks, stop: float, braking: float, promptly: bool = False
    ) -> Solution:
        """Plan from the state of `old` at `splice` along the path of `live`.

        Args:
            old: the segment in force at the splice.
            splice: ns, on the quantum of the grid.
            live: the chunks in force.
            stop: policy time consumed at which the path ends.
            braking: s of policy time over which the motion fades before that.
            promptly: follow the targets at once rather than smoothly, as far off as the motion is: a brake.
        """
        config, n = self.config, self.smooth
        first, ticks = divmod(splice - old.origin, old.width)
        tick = ticks // config.quantum_ns
        crisp = self._crisp.phase(tick, config.quantum)
        smooth = crisp if promptly else self._smooth.phase(tick, config.quantum)
        before = old.from_interval(first)
        state = old.at(splice)
        consumed = old.consumed(splice)
        since = smooth.since
        end = max(min(stop - consumed, self.reach - ticks * 1e-9 - braking), 0.0)
        law = PathTime(end, braking)
        target = fuse(live, consumed + law(since), self._doubt, config.decay)
        join = self._join(target, since, state, promptly)
        rate: Array | None = None
        if join.ramp > 0.0:
            middle = (np.arange(config.intervals) + 0.5) * config.interval
            rate = np.maximum(np.minimum(join.rate + (1.0 - join.rate) * middle / join.ramp, 1.0), config.slowest)
            law = self._law(end, braking, rate)
            target = fuse(live, consumed + law(since), self._doubt, config.decay)
        sharp = np.zeros(0, dtype=np.intp)
        rejoined = int(since.searchsorted(config.rejoin))
        for attempt in range(RETIMINGS + 1):
            target = self._adjusted(target, since, state, join)
            stacked = np.concatenate((target, before))
            control = before + self._step(smooth, crisp, stacked, sharp, tick)
            readout = self._readout @ control
            values = readout[: len(self.grid.rows)]
            bad = self.bounds.violated(values)
            if promptly:
                break
            apart, astray = self._astray(readout[len(values) :], target, rejoined)
            if astray.any() and not len(sharp):
                sharp = np.flatnonzero(astray)
                control[:, sharp] = before[:, sharp] + self._sharp.phase(tick, config.quantum).gain @ stacked[:, sharp]
                readout = self._readout @ control
                values = readout[: len(self.grid.rows)]
                bad = self.bounds.violated(values)
                apart, astray = self._astray(readout[len(values) :], target, rejoined)
            if attempt == RETIMINGS or not (bad[:n].any() or astray.any()):
                break
            slower = self._slow_down(values, apart)
            if slower.min() > 0.999:
                break
            rate = np.maximum((1.0 if rate is None else rate) * slower, config.slowest)
            law = self._law(end, braking, rate)
            target = fuse(live, consumed + law(since), self._doubt, config.decay)
        bounded, kept = 0, 0.0
        if bad.any():
            phases = [smooth] * n + [crisp] * (self.limits.size - n)
            for column in sharp:
                phases[column] = self._sharp.phase(tick, config.quantum)
            control, bounded, kept = self._bounded(phases, stacked, before, control, bad)
        segment = Segment(old.origin, old.width, first, control, splice, consumed, law)
        return Solution(segment, target, bounded, kept, len(sharp), 1.0 if rate is None else float(rate.min()))

    def deviation(self, solution: Solution) -> Array:
        """(D,) the largest distance of a plan from its targets once it has rejoined them."""
        tick = (solution.segment.splice - solution.segment.origin) % solution.segment.width // self.config.quantum_ns
        later = self._crisp.phase(tick, self.config.quantum).since >= self.config.rejoin
        apart = self.grid.collocation @ solution.segment.control - solution.target
        return np.asarray(np.abs(apart[later]).max(axis=0))

    def jerk(self, solution: Solution) -> Array:
        """(r, D) control points of the jerk of a plan."""
        return np.asarray(self.grid.rows[self.grid.order == 3] @ solution.segment.control)

    def _law(self, end: float, braking: float, rate: Array) -> PathTime:
        """The law with the given speeds along the path, one per interval."""
        nodes = np.concatenate(([0.0], np.cumsum(rate))) * self.config.interval
        return PathTime(end, braking, self.config.interval, nodes)

    def _join(self, target: Array, since: Array, state: Array, promptly: bool) -> Join:
        """How to get onto the path from the present state, where that is more than smoothing does by itself."""
        limits, n = self.limits, self.smooth
        # Two targets just after the splice give where the path is and how fast it goes.
        i = int(since.searchsorted(0.0))
        speed = (target[i + 2] - target[i]) / float(since[i + 2] - since[i])
        offset = state[0] - target[i] + float(since[i]) * speed
        offset[n:] = 0.0
        if promptly:
            return Join(offset=offset, duration=np.inf)
        missing = np.abs(speed - state[1])
        far, slow = (np.abs(offset) > self._near).any(), (missing > self._slow).any()
        if not (far or slow):
            return Join()
        duration = rejoin_time(offset, SHARE * limits.velocity, SHARE * limits.acceleration, SHARE * limits.jerk)
        unit = np.where(limits.crisp, 0.0, 1.0 / limits.velocity)
        along = float((speed * unit) @ (speed * unit))
        rate = float((speed * unit) @ (state[1] * unit)) / along if along > 0.0 else 1.0
        slow = slow and rate < 0.8
        return Join(
            offset=offset if far else None,
            duration=duration if far else 0.0,
            rate=min(max(rate, 0.0), 1.0) if slow else 1.0,
            ramp=float((missing / limits.acceleration)[:n].max()) / SHARE if slow else 0.0,
        )

    def _adjusted(self, target: Array, since: Array, state: Array, join: Join) -> Array:
        """(m, D) targets with the way onto the path added and grippers held to their speed."""
        limits, n = self.limits, self.smooth
        if join.offset is not None:
            target += np.outer(rejoin_profile(since, join.duration), join.offset)
            target = limits.clamp(target)
        if n < limits.size:
            steps = np.abs(np.diff(target[:, n:], axis=0, prepend=state[:1, n:]))
            for column in np.flatnonzero((steps > self._stride).any(axis=0)):
                target[:, n + column] = _slew(
                    target[:, n + column], float(state[0, n + column]), float(self._stride[column]), since
                )
        return target

    def _step(self, smooth: Phase, crisp: Phase, stacked: Array, sharp: NDArray[np.intp], tick: int) -> Array:
        """(n, D) change of the control points that minimises the cost and splices, bounds aside."""
        n = self.smooth
        if smooth is crisp or n == self.limits.size:
            step = smooth.gain @ stacked
        else:
            step = np.empty((self.grid.size, self.limits.size))
            np.matmul(smooth.gain, stacked[:, :n], out=step[:, :n])
            np.matmul(crisp.gain, stacked[:, n:], out=step[:, n:])
        if len(sharp):
            step[:, sharp] = self._sharp.phase(tick, self.config.quantum).gain @ stacked[:, sharp]
        return np.asarray(step)

    def _astray(self, reached: Array, target: Array, start: int) -> tuple[Array, NDArray[np.bool_]]:
        """How far the motion cuts corners: (m - start, n) distances, and the (n,) smooth columns beyond tolerance.

        A corner is cut to one side for a while, noise is not: distances are means over `CORNER_SPAN` targets.

        Args:
            reached: (m, D) positions at the targets' times.
            target: (m, D) the targets.
            start: the first target by which the path has been rejoined.
        """
        n = self.smooth
        apart = self._mean[start:, start:] @ (reached[start:, :n] - target[start:, :n])
        np.abs(apart, out=apart)
        return apart, np.asarray((apart > self.limits.tolerance[:n]).any(axis=0))

    def _slow_down(self, values: Array, apart: Array) -> Array:
        """(N,) factors <= 1 on the speed along the path that bring smooth columns within bounds and path tolerance.

        Velocity goes with the speed, acceleration with its square, jerk with its cube, a corner's cut with its square.
        Control point i of the derivatives acts around interval i - 1; neighbours slow down with it, to brake in time.
        """
        n, order, intervals = self.smooth, self.grid.order, self.config.intervals
        ratio = np.zeros(intervals)
        excesses = [
            ((np.abs(values[order == d, :n]) / self.bounds.upper[order == d, :n]).max(axis=1)) ** (1.0 / d)
            for d in (1, 2, 3)
        ]
        excesses += [
            (np.hypot(values[rows, disc.a], values[rows, disc.b]) / disc.radius) ** (1.0 / disc.order)
            for disc, rows in self.bounds.discs
            if disc.order > 0
        ]
        for excess in excesses:
            reached = excess[TRANSIENT:intervals]
            ratio[TRANSIENT : TRANSIENT + len(reached)] = np.maximum(
                ratio[TRANSIENT : TRANSIENT + len(reached)], reached
            )
        cut = np.zeros(intervals * self.config.samples)
        cut[len(cut) - len(apart) :] = np.sqrt((apart / self.limits.tolerance[:n]).max(axis=1))
        cut = np.minimum(cut, 1.0 / CORNER)
        wide = np.pad(np.maximum(ratio, cut.reshape(intervals, -1).max(axis=1)), 3, mode="edge")
        spread = np.lib.stride_tricks.sliding_window_view(wide, 7).max(axis=1)
        return np.asarray(1.0 / np.maximum(1.02 * spread, 1.0))

    def _bounded(
        self, phases: list[Phase], stacked: Array, before: Array, control: Array, bad: NDArray[np.bool_]
    ) -> tuple[Array, int, float]:
        """Solve the QP of each column in `bad`, then make sure of every bound."""
        old = self.grid.rows @ before
        solved = 0
        done: set[int] = set()
        for column in np.flatnonzero(bad).tolist():
            if column in done:
                continue
            columns = [column, *([self.bounds.partner[column]] if column in self.bounds.partner else [])]
            done.update(columns)
            phase = phases[column]
            x = self.bounds.solve(phase, columns, phase.target @ stacked[:, columns], old)
            solved += len(columns)
            if x is not None:
                control[:, columns] = before[:, columns] + phase.step @ x
        values = self.grid.rows @ control
        still = self.bounds.violated(values)
        if not still.any():
            return control, solved, 0.0
        fraction = self.bounds.guard(old, values, still)
        return before + fraction * (control - before), solved, float(1.0 - fraction.min())


def _slew(target: Array, start: float, stride: float, since: Array) -> Array:
    """(m,) `target` followed causally, at most `stride` from one to the next: a step starts when due, not before.

    A least-squares fit under a velocity bound would start half of the way early.
    """
    followed = np.empty_like(target)
    here = start
    for i, goal in enumerate(target.tolist()):
        if since[i] > 0.0:
            here = min(max(goal, here - stride), here + stride)
        followed[i] = here
    return followed
