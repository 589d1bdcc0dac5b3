"""Minimum-jerk motion through noisy targets as one small linear algebra step, limits by QP only where they bind.

Unknown are the control points c of a quintic B-spline (`bspline`) over a horizon of N intervals of a *fixed* time grid.
With targets d at m sample times and weights W, the splice at time s inside the first interval,

    minimise   1/2 (B c - d)^T W (B c - d) + mu/2 int_s^end jerk^2 dt
    subject to E c = E c_old          position, velocity, acceleration (and jerk) continue at s
               c_{n-5} = ... = c_{n-1}      the horizon ends at rest
               lo <= R c <= hi              position, velocity, acceleration, jerk control points.

c = c_old + S x removes both equalities (the old plan, continued at rest, meets them), with S scaled so that the cost is
1/2 |x - x*|^2, x* = S^T (B^T W d - H c_old). B, W, E and S depend only on how far s lies in its interval, and s is a
multiple of a quantum: a handful of phases, each factored once. Without active bounds an update is c_old + G [d; c_old].

Because the grid is fixed, c_old is feasible for the new problem (same rows, fewer of them): x = 0 always meets every
bound. Hence the QP is never infeasible, and whatever a solver returns, the point on the segment from x = 0 to it that
still meets every bound is a plan within limits that splices exactly (`guard`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import daqp
import numpy as np
from numpy.typing import NDArray

from trajectory_optimizer import bspline
from trajectory_optimizer.limits import APOTHEM, NORMALS, Limits

Array = NDArray[np.float64]

MARGIN = 1e-9
"""The QP takes its bounds this much (m, rad; relative for derivatives) tighter: solvers have tolerances."""
ROUNDING = 1e-12
"""A position this far beyond its bound is rounding: a joint may rest exactly on its limit."""


@dataclass(frozen=True)
class Grid:
    """The time grid of every plan and what the cost weighs.

    `interval`: s, width of a knot interval. `intervals`: N. `samples`: targets per interval. `bandwidth`: Hz, where the
    smoother has halved the response to a target (mu = (2 pi f)^-6). `rejoin`: s over which trust in the targets grows
    from 0 to 1 after the splice. `continuity`: 2 or 3, the derivative that is still continuous at a splice.
    """

    interval: float
    intervals: int
    samples: int
    bandwidth: float
    rejoin: float
    continuity: int

    @property
    def size(self) -> int:
        """Number of control points n."""
        return self.intervals + bspline.DEGREE

    @property
    def horizon(self) -> float:
        """Length of the grid in s."""
        return self.interval * self.intervals

    @cached_property
    def times(self) -> Array:
        """(m,) times of the targets, s from the first knot."""
        step = self.interval / self.samples
        times: Array = (np.arange(self.intervals * self.samples, dtype=np.float64) + 0.5) * step
        return times

    @cached_property
    def collocation(self) -> Array:
        """(m, n) from control points to positions at `times`."""
        return bspline.collocation(self.intervals, self.interval, self.times)

    @cached_property
    def rows(self) -> Array:
        """(r, n) R: control points of position, velocity, acceleration, jerk, less those that the rest fixes."""
        n, moving = self.size, self.size - bspline.REST
        blocks = [np.eye(n)[: moving + 1]]
        blocks += [bspline.difference(n, order, self.interval)[:moving] for order in (1, 2, 3)]
        return np.ascontiguousarray(np.vstack(blocks), dtype=np.float64)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(r,) derivative order of each row of R."""
        moving = self.size - bspline.REST
        return np.asarray(np.repeat(np.arange(4), (moving + 1, moving, moving, moving)))


class Phase:
    """Everything that depends only on where in its interval the splice lies."""

    def __init__(self, grid: Grid, start: float) -> None:
        """Factor the problem for a splice `start` seconds into the first interval."""
        n = grid.size
        tie = np.zeros((n, n - bspline.REST + 1))
        tie[: n - bspline.REST, : n - bspline.REST] = np.eye(n - bspline.REST)
        tie[n - bspline.REST :, -1] = 1.0
        splice = np.zeros((grid.continuity + 1, n))
        splice[:, : bspline.ORDER] = bspline.basis(start / grid.interval, grid.interval)[: grid.continuity + 1]
        # Rows of very different size (1, 1/h, 1/h^2) would cost the null space its accuracy.
        tied = splice @ tie
        tied /= np.linalg.norm(tied, axis=1, keepdims=True)
        free = tie @ np.linalg.svd(tied)[2][grid.continuity + 1 :].T

        since = grid.times - start
        trust = np.clip(since / grid.rejoin, 0.0, 1.0) ** 2 if grid.rejoin > 0 else (since >= 0).astype(float)
        weighted = grid.collocation.T * (trust * grid.interval / grid.samples)
        smooth = (2.0 * np.pi * grid.bandwidth) ** -6
        hessian = weighted @ grid.collocation + smooth * bspline.jerk_gram(grid.intervals, grid.interval, start)
        factor = np.linalg.cholesky(free.T @ hessian @ free)
        self.since = since
        self.step = np.linalg.solve(factor, free.T).T  # S (n, f)
        self.target = np.hstack((self.step.T @ weighted, -self.step.T @ hessian))  # x* = target [d; c_old]
        self.gain = self.step @ self.target  # c - c_old = gain [d; c_old]
        self.rows = np.ascontiguousarray(grid.rows @ self.step)


class MinJerk:
    """The minimum-jerk problem of one set of columns; phases are factored on first use, or all by `warm`."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._phases: dict[int, Phase] = {}

    def phase(self, ticks: int, quantum: float) -> Phase:
        """The phase for a splice `ticks` quanta into the first interval."""
        phase = self._phases.get(ticks)
        if phase is None:
            phase = self._phases[ticks] = Phase(self.grid, ticks * quantum)
        return phase


class Bounds:
    """The rows of one grid with the limits of its columns filled in."""

    def __init__(self, grid: Grid, limits: Limits) -> None:
        self.grid, self.limits = grid, limits
        magnitude = np.stack((np.ones(limits.size), limits.velocity, limits.acceleration, limits.jerk))
        self.upper = magnitude[grid.order]
        self.lower = -self.upper
        position = grid.order == 0
        self.upper[position], self.lower[position] = limits.upper + ROUNDING, limits.lower - ROUNDING
        self._tight = MARGIN * np.power(10.0, grid.order)
        self.discs = [(disc, grid.order == disc.order) for disc in limits.discs]
        coupled: dict[int, int] = {}
        for disc in limits.discs:
            coupled[disc.a], coupled[disc.b] = disc.b, disc.a
        self.partner = coupled

    def violated(self, values: Array) -> NDArray[np.bool_]:
        """(D,) columns of R c (r, D) with a control point beyond its bound; a disc marks both of its columns."""
        bad = np.asarray(((values > self.upper) | (values < self.lower)).any(axis=0))
        for disc, rows in self.discs:
            a, b = values[rows, disc.a], values[rows, disc.b]
            inner = disc.radius * APOTHEM + ROUNDING
            if ((a * a + b * b) > inner * inner).any() and (self._polygon(a, b) > inner).any():
                bad[[disc.a, disc.b]] = True
        return bad

    @staticmethod
    def _polygon(a: Array, b: Array) -> Array:
        """(r, 8) distance of the points (a, b) from the origin along the normals of the 16-gon."""
        reach: Array = np.abs(np.outer(a, NORMALS[:, 0]) + np.outer(b, NORMALS[:, 1]))
        return reach

    def guard(self, old: Array, new: Array, bad: NDArray[np.bool_]) -> Array:
        """(D,) the largest fractions of the way from R c_old to R c_new (both (r, D)) that break no bound.

        A bound that the old plan itself passes by rounding may stay so, but not grow.
        """
        slack = 0.5 * self._tight  # so that the result, evaluated anew, is still within bounds in spite of rounding
        fraction = np.ones(self.limits.size)
        for column in np.flatnonzero(bad):
            fraction[column] = _fraction(
                old[:, column], new[:, column], self.lower[:, column] + slack, self.upper[:, column] - slack
            )
        for disc, rows in self.discs:
            if not bad[disc.a]:
                continue
            inner = disc.radius * APOTHEM - 0.5 * MARGIN
            before = np.outer(old[rows, disc.a], NORMALS[:, 0]) + np.outer(old[rows, disc.b], NORMALS[:, 1])
            after = np.outer(new[rows, disc.a], NORMALS[:, 0]) + np.outer(new[rows, disc.b], NORMALS[:, 1])
            both = min(_fraction(before, after, -inner, inner), fraction[disc.a], fraction[disc.b])
            fraction[disc.a] = fraction[disc.b] = both
        return fraction

    def solve(self, phase: Phase, column: int, wanted: Array, old: Array) -> Array | None:
        """Solve the QP of one column, or of a coupled pair together.

        Args:
            phase: where the splice lies.
            column: the column; its partner in a disc is solved with it.
            wanted: (f, D) unconstrained x*.
            old: (r, D) R c_old.

        Returns:
            (f,) or (f, 2) x for (column,) or (column, partner); None if the solver gives up.
        """
        columns = [column] + ([self.partner[column]] if column in self.partner else [])
        lower = np.concatenate([np.minimum(self.lower[:, c] + self._tight - old[:, c], 0.0) for c in columns])
        upper = np.concatenate([np.maximum(self.upper[:, c] - self._tight - old[:, c], 0.0) for c in columns])
        rows = phase.rows if len(columns) == 1 else np.kron(np.eye(2), phase.rows)
        for disc, at in self.discs:
            if disc.a in columns:
                inner = disc.radius * APOTHEM * (1.0 - MARGIN)
                block, present = phase.rows[at], old[at]
                for normal in NORMALS:
                    weights = (normal[0], normal[1]) if disc.a == columns[0] else (normal[1], normal[0])
                    rows = np.vstack((rows, np.hstack((weights[0] * block, weights[1] * block))))
                    here = normal[0] * present[:, disc.a] + normal[1] * present[:, disc.b]
                    lower = np.concatenate((lower, np.minimum(-inner - here, 0.0)))
                    upper = np.concatenate((upper, np.maximum(inner - here, 0.0)))
        norm = np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
        goal = wanted[:, columns].T.ravel()
        scale = 1.0 / max(float(np.linalg.norm(goal)), 1e-12)  # the solver's tolerances are absolute
        x, _, flag, _ = daqp.solve(
            np.eye(len(goal)),
            -goal * scale,
            np.ascontiguousarray(rows / norm[:, None]),
            np.minimum(upper / norm * scale, 1e20),
            np.maximum(lower / norm * scale, -1e20),
            np.zeros(len(norm), dtype=np.int32),
            primal_tol=1e-9,
        )
        if flag != 1 or not np.isfinite(x).all():
            return None
        return np.asarray(x).reshape(len(columns), -1).T / scale


def _fraction(old: Array, new: Array, lower: Array | float, upper: Array | float) -> float:
    """The largest t in [0, 1] for which old + t (new - old) stays within the bounds, or no farther out than old."""
    change = new - old
    room = np.where(change > 0, np.maximum(upper - old, 0.0), np.minimum(lower - old, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = np.where(np.abs(change) > 0, room / change, 1.0)
    return float(np.clip(allowed.min(), 0.0, 1.0))
