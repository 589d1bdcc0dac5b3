"""Uniform quintic B-splines on a fixed time grid.

On interval i of width h, with u in [0, 1) the fraction of it that has passed,

    p(u) = sum_k b_k(u) c_{i+k},  k = 0..5,      b(u) = [1, u, ..., u^5] M,

which is C4 everywhere. Every derivative is again a uniform B-spline of lower degree whose control points are finite
differences, v_i = (c_{i+1} - c_i) / h and so on, and a B-spline stays inside the convex hull of its control points:
bounds on control points are bounds on the curve at every instant, not only at samples.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DEGREE = 5
ORDER = DEGREE + 1
REST = DEGREE
"""So many equal control points at the end make the curve rest there with every derivative zero."""


def _segment_matrix() -> Array:
    """(6, 6) M of b(u) = [1, u, ..., u^5] M, by the recursion of uniform B-splines (Qin 1998, eq. 8).

    M_k = ([M_{k-1}; 0] L_k + [0; M_{k-1}] R_k) / (k - 1), L_k and R_k bidiagonal.
    """
    m = np.ones((1, 1))
    for k in range(2, ORDER + 1):
        left = np.zeros((k - 1, k))
        right = np.zeros((k - 1, k))
        for i in range(k - 1):
            left[i, i], left[i, i + 1] = i + 1.0, k - 2.0 - i
            right[i, i], right[i, i + 1] = -1.0, 1.0
        m = (np.vstack((m, np.zeros((1, k - 1)))) @ left + np.vstack((np.zeros((1, k - 1)), m)) @ right) / (k - 1)
    return m


SEGMENT = _segment_matrix()
_POWER = np.arange(ORDER)


@lru_cache(maxsize=4096)
def basis(u: float, h: float) -> Array:
    """(4, 6) weights of the six control points for position, velocity, acceleration and jerk; read-only.

    Args:
        u: fraction of the interval passed, in [0, 1].
        h: width of the interval, s.
    """
    powers = u**_POWER
    rows = np.zeros((4, ORDER))
    derivative = np.eye(ORDER)
    shift = np.diag(np.arange(1.0, ORDER), 1)  # maps the coefficients of p to those of dp/du
    for d in range(4):
        rows[d] = powers @ derivative @ SEGMENT / h**d
        derivative = derivative @ shift
    rows.flags.writeable = False
    return rows


def difference(n: int, order: int, h: float) -> Array:
    """(n - order, n) matrix from control points to those of the derivative of that order."""
    matrix = np.eye(n)
    for _ in range(order):
        matrix = np.diff(matrix, axis=0) / h
    return matrix


def collocation(intervals: int, h: float, times: Array, order: int = 0) -> Array:
    """(len(times), intervals + 5) matrix from control points to values at `times` (s from the grid's first knot)."""
    matrix = np.zeros((len(times), intervals + DEGREE))
    for row, t in enumerate(times):
        i = min(int(t / h), intervals - 1)
        matrix[row, i : i + ORDER] = basis(float(t / h - i), h)[order]
    return matrix


def jerk_gram(intervals: int, h: float, start: float) -> Array:
    """(n, n) matrix J with c^T J c = integral of jerk^2 from `start` (s, inside the first interval) to the end.

    Gauss-Legendre with three points is exact: jerk is quadratic on an interval.
    """
    n = intervals + DEGREE
    gram = np.zeros((n, n))
    nodes, weights = np.polynomial.legendre.leggauss(3)
    for i in range(intervals):
        lower = start / h if i == 0 else 0.0
        for node, weight in zip(nodes, weights, strict=True):
            u = lower + (1.0 - lower) * (node + 1.0) / 2.0
            row = basis(float(u), h)[3]
            gram[i : i + ORDER, i : i + ORDER] += weight * (1.0 - lower) / 2.0 * h * np.outer(row, row)
    return gram
