from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import BSpline

from trajectory_optimizer import bspline

H = 0.08


@pytest.mark.parametrize("order", range(4))
def test_basis_agrees_with_scipy(order):
    control = np.random.default_rng(0).normal(size=12)
    curve = BSpline(H * np.arange(-5, 13), control, 5)
    curve = curve.derivative(order) if order else curve
    for t in np.linspace(0.0, 7 * H - 1e-9, 40):
        i = int(t / H)
        ours = bspline.basis(t / H - i, H)[order] @ control[i : i + 6]
        assert ours == pytest.approx(float(curve(t)), abs=1e-9 / H**order)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_stay_within_their_control_points(order):
    control = np.random.default_rng(1).normal(size=20)
    points = bspline.difference(20, order, H) @ control
    values = bspline.collocation(15, H, np.linspace(0.0, 15 * H, 500), order) @ control
    assert values.min() >= points.min() - 1e-9
    assert values.max() <= points.max() + 1e-9


def test_jerk_gram_is_the_integral_of_squared_jerk():
    control = np.random.default_rng(2).normal(size=15)
    start = 0.03
    times = np.linspace(start, 10 * H, 200_001)
    jerk = bspline.collocation(10, H, times[::50], 3) @ control
    numeric = np.trapezoid(jerk**2, times[::50])
    assert control @ bspline.jerk_gram(10, H, start) @ control == pytest.approx(numeric, rel=1e-4)
