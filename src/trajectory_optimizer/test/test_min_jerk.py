from __future__ import annotations

import numpy as np
import pytest
from trajectory_optimizer.limits import Disc, Limits
from trajectory_optimizer.min_jerk import Bounds, Grid, Phase

from trajectory_optimizer import bspline

START = 0.035


def problem(continuity=2, seed=0, size=2):
    """A grid, its phase, targets, and an old plan at rest after a start that moves."""
    grid = Grid(0.08, 20, 2, 1.7, 0.4, continuity)
    rng = np.random.default_rng(seed)
    old = np.repeat(rng.uniform(-0.3, 0.3, (1, size)), grid.size, axis=0)
    old[:6] += rng.normal(0.0, 0.002, (6, size))
    target = rng.uniform(-0.3, 0.3, size) + 0.3 * np.sin(3.0 * grid.times[:, None] + np.arange(size))
    return grid, Phase(grid, START), target, old


@pytest.mark.parametrize("continuity", [2, 3])
def test_the_cached_gain_solves_the_kkt_system(continuity):
    grid, phase, target, old = problem(continuity)
    n = grid.size
    since = grid.times - START
    weight = np.clip(since / grid.rejoin, 0.0, 1.0) ** 2 * grid.interval / grid.samples
    hessian = grid.collocation.T @ (weight[:, None] * grid.collocation)
    hessian += (2 * np.pi * grid.bandwidth) ** -6 * bspline.jerk_gram(grid.intervals, grid.interval, START)
    splice = np.zeros((continuity + 1, n))
    splice[:, :6] = bspline.basis(START / grid.interval, grid.interval)[: continuity + 1]
    scale = grid.interval ** np.arange(continuity + 1)
    splice *= scale[:, None]
    rest = bspline.difference(n, 1, 1.0)[-4:]
    rows = np.vstack((splice, rest))
    kkt = np.block([[hessian, rows.T], [rows, np.zeros((len(rows), len(rows)))]])
    right = np.vstack((grid.collocation.T @ (weight[:, None] * target), splice @ old, np.zeros((4, 2))))
    expected = np.linalg.solve(kkt, right)[:n]
    assert old + phase.gain @ np.vstack((target, old)) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("continuity", [2, 3])
def test_the_splice_is_exact(continuity):
    grid, phase, target, old = problem(continuity)
    new = old + phase.gain @ np.vstack((target, old))
    jump = bspline.basis(START / grid.interval, grid.interval) @ (new - old)[:6]
    assert np.abs(jump[0]).max() < 1e-14
    assert np.abs(jump[1]).max() < 1e-13
    assert np.abs(jump[2]).max() < 1e-11
    assert (np.abs(jump[3]).max() < 1e-9) == (continuity == 3)


def test_the_plan_ends_at_rest():
    _, phase, target, old = problem()
    new = old + phase.gain @ np.vstack((target, old))
    assert np.ptp(new[-5:], axis=0) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("discs", [(), (Disc(0, 1, 0, 0.25),), (Disc(0, 1, 1, 0.4), Disc(0, 1, 2, 3.0))])
def test_the_qp_binds_and_beats_its_guard(make_limits, discs):
    grid, phase, target, old = problem()
    old[:] = 0.0
    limits = make_limits(discs=discs, velocity=0.5)
    bounds = Bounds(grid, limits)
    stacked = np.vstack((target, old))
    free = old + phase.gain @ stacked
    bad = bounds.violated(grid.rows @ free)
    assert bad.any()
    columns = [0, 1] if discs else [int(np.flatnonzero(bad)[0])]
    x = bounds.solve(phase, columns, phase.target @ stacked[:, columns], grid.rows @ old)
    bounded = old.copy()
    bounded[:, columns] += phase.step @ x
    assert not bounds.violated(grid.rows @ bounded)[columns].any()
    fraction = bounds.guard(grid.rows @ old, grid.rows @ free, bad)
    guarded = old + fraction * (free - old)
    assert not bounds.violated(grid.rows @ guarded).any()
    wanted = phase.target @ stacked[:, columns]

    def cost(control):
        reached = np.linalg.lstsq(phase.step, (control - old)[:, columns], rcond=None)[0]
        return float(((reached - wanted) ** 2).sum())

    assert cost(free) < cost(bounded) < cost(guarded)


def test_a_guard_that_cannot_move_keeps_the_old_plan(make_limits):
    grid, phase, target, old = problem()
    limits = make_limits()
    bounds = Bounds(grid, limits)
    old[:] = limits.upper
    new = old + phase.gain @ np.vstack((target + 9.0, old))
    values = grid.rows @ new
    fraction = bounds.guard(grid.rows @ old, values, bounds.violated(values))
    assert not bounds.violated(grid.rows @ (old + fraction * (new - old))).any()


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [("velocity", np.zeros(2), "positive"), ("jerk", np.ones(3), "shape"), ("lower", np.full(2, 4.0), "exceeds")],
)
def test_limits_that_mean_nothing_are_refused(make_limits, field, value, why):
    limits = make_limits()
    values = {name: getattr(limits, name) for name in Limits.__dataclass_fields__}
    values[field] = value
    with pytest.raises(ValueError, match=why):
        Limits(**values)
