from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from wbc_controller.viability import stopping_distance, stopping_speed, velocity_box
from wbc_controller.wrist import limit_wrist

DT = 0.005


def brake_path(speed: float, a: float) -> float:
    """D(v) by its definition: move, then brake, until at rest."""
    path = 0.0
    while speed > 0.0:
        path += speed * DT
        speed -= a * DT
    return path


@given(st.floats(0.0, 10.0), st.floats(0.1, 30.0))
@settings(max_examples=300, deadline=None)
def test_speed_is_the_inverse_of_the_braking_path(speed: float, a: float) -> None:
    path = brake_path(speed, a)
    assert math.isclose(stopping_distance(speed, a, DT), path, rel_tol=1e-9, abs_tol=1e-12)
    assert math.isclose(float(stopping_speed(np.float64(path), np.float64(a), DT)), speed, rel_tol=1e-9, abs_tol=1e-9)


def test_no_distance_left_is_no_speed() -> None:
    assert float(stopping_speed(np.float64(-0.1), np.float64(20.0), DT)) == 0.0


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_box_is_never_empty_and_never_lets_a_limit_through(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    lower, upper = -rng.uniform(0.0, 2.0, n), rng.uniform(0.0, 2.0, n)
    most, hardest = rng.uniform(0.05, 6.0, n), rng.uniform(0.3, 25.0, n)
    q, v = np.zeros(n), np.zeros(n)
    for _ in range(300):
        low, high = velocity_box(q, v, lower, upper, most, hardest, DT)
        nature = rng.integers(0, 3, n)
        new = np.where(nature == 0, low, np.where(nature == 1, high, rng.uniform(low, high)))
        assert (np.abs(new) <= most * (1 + 1e-12)).all()
        assert (np.abs(new - v) <= hardest * DT * (1 + 1e-9)).all()
        q, v = q + new * DT, new
        assert (q >= lower - 1e-12).all()
        assert (q <= upper + 1e-12).all()


def test_lower_speed_limit_is_approached_with_the_acceleration_limit() -> None:
    one = np.ones(1)
    low, high = velocity_box(0 * one, 0.8 * one, -9 * one, 9 * one, 0.4 * one, 2.0 * one, DT)
    assert math.isclose(low[0], 0.79)
    assert math.isclose(high[0], 0.79)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_wrist_stays_in_its_disc_within_the_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, most, radius = 20.0, 6.0, 0.7
    q, v = np.zeros(2), np.zeros(2)
    push = rng.uniform(-most, most, 2)
    bound = np.full(2, 0.7)
    for k in range(400):
        if k % 40 == 0:
            push = rng.uniform(-most, most, 2)
        low, high = velocity_box(q, v, -bound, bound, np.full(2, most), np.full(2, a), DT)
        new = np.array(
            limit_wrist(tuple(q), tuple(v), tuple(np.clip(push, low, high)), tuple(low), tuple(high), radius, a, DT)
        )
        assert (new >= low - 1e-9).all()
        assert (new <= high + 1e-9).all()
        q, v = q + new * DT, new
        assert np.hypot(*q) <= radius + 1e-9


def test_wrist_slides_along_its_rim() -> None:
    q, v = np.zeros(2), np.zeros(2)
    bound = np.full(2, 0.7)
    angles = []
    for _ in range(600):
        low, high = velocity_box(q, v, -bound, bound, np.full(2, 6.0), np.full(2, 20.0), DT)
        wanted = np.clip((6.0, 1.0), low, high)
        v = np.array(limit_wrist(tuple(q), tuple(v), tuple(wanted), tuple(low), tuple(high), 0.69, 20.0, DT))
        q = q + v * DT
        angles.append(math.atan2(q[1], q[0]))
    assert np.hypot(*q) > 0.68
    assert angles[-1] > 0.15
