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
from trajectory_optimizer.limits import APOTHEM, INSET, NORMALS, Limits

Array = NDArray[np.float64]

ITERATIONS = 400
"""Of the QP solver at most; beyond, `guard` decides."""
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
        self._order = grid.order
        self._constraints: dict[tuple[int, tuple[int, ...], bool], tuple[Array, Array, Array]] = {}

    def constraints(self, columns: int, discs: tuple[int, ...], swapped: bool) -> tuple[Array, Array, Array]:
        """The QP's rows, scaled to length 1, with their scales and the cost's identity.

        Args:
            columns: 1, or 2 for a pair solved together.
            discs: derivative orders at which the pair is coupled; their rows follow, normal by normal.
            swapped: the pair's first column is the disc's second.
        """
        key = (columns, discs, swapped)
        if key not in self._constraints:
            blocks = [np.kron(np.eye(columns), self.rows)]
            for order in discs:
                rows = self.rows[self._order == order]
                for normal in NORMALS[:, ::-1] if swapped else NORMALS:
                    blocks.append(np.hstack((normal[0] * rows, normal[1] * rows)))
            matrix = np.vstack(blocks)
            scale = 1.0 / np.maximum(np.linalg.norm(matrix, axis=1), 1e-12)
            self._constraints[key] = (np.ascontiguousarray(matrix * scale[:, None]), scale, np.eye(matrix.shape[1]))
        return self._constraints[key]


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
        self._tight = INSET * np.where(position[:, None], 1.0, magnitude[grid.order])
        self.discs = [(disc, grid.order == disc.order) for disc in limits.discs]
        # Where the pairs are in R c, flattened, and the squares of the circles inside their 16-gons.
        at = [np.flatnonzero(rows) * limits.size for _, rows in self.discs]
        empty = np.zeros(0, dtype=np.intp)
        self._at_a = np.concatenate([empty, *(i + disc.a for i, (disc, _) in zip(at, self.discs, strict=True))])
        self._at_b = np.concatenate([empty, *(i + disc.b for i, (disc, _) in zip(at, self.discs, strict=True))])
        radii = np.array([disc.radius * APOTHEM + ROUNDING for disc, _ in self.discs])
        self._inner = np.repeat(radii**2, [len(i) for i in at])
        coupled: dict[int, int] = {}
        for disc in limits.discs:
            coupled[disc.a], coupled[disc.b] = disc.b, disc.a
        self.partner = coupled

    def violated(self, values: Array) -> NDArray[np.bool_]:
        """(D,) columns of R c (r, D) with a control point beyond its bound; a disc marks both of its columns."""
        bad = np.asarray(np.logical_or(values > self.upper, values < self.lower).any(axis=0))
        if len(self._inner):
            a, b = values.take(self._at_a), values.take(self._at_b)
            a *= a
            b *= b
            a += b
            if (a > self._inner).any():  # beyond the circle within the 16-gon: look closer
                for disc, rows in self.discs:
                    reach = self._polygon(values[rows, disc.a], values[rows, disc.b])
                    if (reach > disc.radius * APOTHEM + ROUNDING).any():
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
                old[:, column],
                new[:, column],
                self.lower[:, column] + slack[:, column],
                self.upper[:, column] - slack[:, column],
            )
        for disc, rows in self.discs:
            if not bad[disc.a]:
                continue
            inner = disc.radius * APOTHEM * (1.0 - 0.5 * INSET)
            before = np.outer(old[rows, disc.a], NORMALS[:, 0]) + np.outer(old[rows, disc.b], NORMALS[:, 1])
            after = np.outer(new[rows, disc.a], NORMALS[:, 0]) + np.outer(new[rows, disc.b], NORMALS[:, 1])
            both = min(_fraction(before, after, -inner, inner), fraction[disc.a], fraction[disc.b])
            fraction[disc.a] = fraction[disc.b] = both
        return fraction

    def solve(self, phase: Phase, columns: list[int], wanted: Array, old: Array) -> Array | None:
        """Solve the QP of one column, or of a coupled pair together.

        Args:
            phase: where the splice lies.
            columns: one, or the two of a disc.
            wanted: (f, len(columns)) unconstrained x*.
            old: (r, D) R c_old.

        Returns:
            (f, len(columns)) x; None if the solver gives up.
        """
        lower = [np.minimum(self.lower[:, c] + self._tight[:, c] - old[:, c], 0.0) for c in columns]
        upper = [np.maximum(self.upper[:, c] - self._tight[:, c] - old[:, c], 0.0) for c in columns]
        discs = [(disc, rows) for disc, rows in self.discs if disc.a in columns and len(columns) == 2]
        for disc, rows in discs:
            inner = disc.radius * APOTHEM * (1.0 - INSET)
            here = np.outer(NORMALS[:, 0], old[rows, disc.a]) + np.outer(NORMALS[:, 1], old[rows, disc.b])
            lower.append(np.minimum(-inner - here, 0.0).ravel())
            upper.append(np.maximum(inner - here, 0.0).ravel())
        swapped = bool(discs) and discs[0][0].a != columns[0]
        matrix, norm, identity = phase.constraints(len(columns), tuple(disc.order for disc, _ in discs), swapped)
        goal = wanted.T.ravel()
        scale = 1.0 / max(float(np.sqrt(goal @ goal)), 1e-12)  # the solver's tolerances are absolute
        norm = norm * scale
        x, _, flag, _ = daqp.solve(
            identity,
            goal * -scale,
            matrix,
            np.minimum(np.concatenate(upper) * norm, 1e20),
            np.maximum(np.concatenate(lower) * norm, -1e20),
            np.zeros(len(norm), dtype=np.int32),
            primal_tol=1e-9,
            iter_limit=ITERATIONS,
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
