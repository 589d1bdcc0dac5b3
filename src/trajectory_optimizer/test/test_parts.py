"""Fusion, pursuit, path time, rotations and metrics, each by what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from trajectory_optimizer.chunk_fusion import LiveChunks, chunk_path, fuse
from trajectory_optimizer.metrics import cosine, jerk_rms, lag_and_error
from trajectory_optimizer.path_time import PathTime
from trajectory_optimizer.pursuit import pursue, rejoin_profile, rejoin_reach, rejoin_time

from trajectory_optimizer import rotation

DT = 1.0 / 30.0
DOUBT = np.full(2, 0.1**-2)


@pytest.fixture
def path(make_limits):
    def make(offset=0.0, bias=0.0, rows=50, dt=DT):
        """A chunk that runs along (t, 2 t), off by `bias`, observed when `offset` s had been consumed."""
        t = offset + dt * np.arange(rows + 1)
        values = np.stack((t, 2 * t), axis=1) + bias
        return chunk_path(values[0], values[1:], dt, offset, make_limits())

    return make


def test_a_single_chunk_is_followed_as_it_is(path):
    u = np.linspace(0.0, 1.0, 7)
    assert fuse(LiveChunks([path()]), u, DOUBT, 0.9)[:, 1] == pytest.approx(2 * u)


def test_chunks_that_agree_are_averaged(path):
    live = LiveChunks([path(0.5, 0.02), path(0.0, -0.02)])
    off = fuse(live, np.linspace(0.6, 1.0, 9), DOUBT, 1.0)[:, 0] - np.linspace(0.6, 1.0, 9)
    assert np.abs(off).max() < 0.001


def test_a_chunk_that_means_something_else_is_not(path):
    live = LiveChunks([path(0.5), path(0.0, 0.8)])
    off = fuse(live, np.linspace(0.6, 1.0, 9), DOUBT, 1.0)[:, 0] - np.linspace(0.6, 1.0, 9)
    assert np.abs(off).max() < 0.001


def test_a_chunk_that_ends_leaves_no_step(path):
    live = LiveChunks([path(0.5, 0.02), path(0.0, -0.02)])
    u = np.linspace(1.0, 2.1, 56)
    off = fuse(live, u, DOUBT, 1.0)[:, 0] - u
    assert np.abs(np.diff(off)).max() < 1e-9


def test_rows_far_apart_are_joined_by_cubics(make_limits):
    t = 0.1 * np.arange(1, 17)
    targets = np.stack((np.sin(3 * t), np.cos(3 * t) - 1), axis=1)
    made = chunk_path(np.zeros(2), targets, 0.1, 0.0, make_limits())
    u = np.linspace(0.2, 1.3, 100)
    assert np.abs(made.at(u)[:, 0] - np.sin(3 * u)).max() < 0.1**2 * 9 / 8 / 3, "three times closer than straight lines"


def test_pursuit_finds_a_lag_ahead_and_takes_it(path):
    assert pursue(path(), 0.3, np.array([0.36, 0.72]), np.full(2, 20.0), 0.5, 0.3) == pytest.approx(0.06, abs=1e-6)


@pytest.mark.parametrize("present", [(0.24, 0.48), (0.38, 0.56), (0.301, 0.602)])
def test_pursuit_ignores_what_is_behind_beside_or_noise(path, present):
    assert pursue(path(), 0.3, np.array(present), np.full(2, 20.0), 0.5, 0.3) == 0.0


def test_the_look_ahead_ends(path):
    assert pursue(path(), 0.3, np.array([0.9, 1.8]), np.full(2, 20.0), 0.5, 0.3) <= 0.3 + 1e-9


def test_rejoin_time_and_reach_are_inverse():
    limits = (np.array([0.5, 2.0]), np.array([3.0, 15.0]), np.array([30.0, 150.0]))
    reach = rejoin_reach(0.6, *limits)
    assert rejoin_time(reach, *limits) == pytest.approx(0.6)
    assert rejoin_profile(np.array([-1.0, 0.0, 0.6, 2.0]), 0.6) == pytest.approx([1.0, 1.0, 0.0, 0.0])


def test_path_time_runs_at_full_speed_then_rests_at_the_end():
    law = PathTime(1.0, 0.15)
    tau = np.linspace(0.0, 2.0, 401)
    sigma = law(tau)
    assert sigma[tau <= 0.85] == pytest.approx(tau[tau <= 0.85])
    assert sigma[tau >= 1.15] == pytest.approx(1.0)
    assert (np.diff(sigma) >= -1e-12).all(), "never backwards"
    assert np.diff(sigma).max() <= 0.005 + 1e-12, "never faster than asked"
    assert [law.at(float(t)) for t in tau] == pytest.approx(sigma)


def test_slowed_path_time_agrees_with_itself():
    law = PathTime(2.0, 0.15, 0.08, np.concatenate(([0.0], np.cumsum(np.full(20, 0.04)))))
    tau = np.linspace(-0.1, 2.0, 60)
    assert [law.at(float(t)) for t in tau] == pytest.approx(law(tau))
    assert law.at(0.8) == pytest.approx(0.4)


@pytest.mark.parametrize("seed", range(20))
def test_rotations_round_trip(seed):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    phi = axis / np.linalg.norm(axis) * rng.choice([1e-8, 0.3, 2.0, np.pi - 1e-6])
    matrix = rotation.exp(phi)
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-12)
    assert rotation.log(matrix[None])[0] == pytest.approx(phi, abs=1e-7)
    assert rotation.from_columns(matrix[:, :2].T.reshape(1, 6))[0] == pytest.approx(matrix, abs=1e-12)


def test_the_right_jacobian_maps_rates_to_angular_velocity():
    rng = np.random.default_rng(3)
    for _ in range(20):
        phi, rate = rng.normal(size=3), rng.normal(size=3)
        h = 1e-6
        turned = rotation.exp(phi - h * rate).T @ rotation.exp(phi + h * rate)
        assert rotation.log(turned[None])[0] / (2 * h) == pytest.approx(rotation.right_jacobian(phi) @ rate, abs=1e-6)
        assert np.linalg.svd(rotation.right_jacobian(phi))[1].max() <= 1 + 1e-12


def test_a_turn_goes_on_through_pi():
    angles = np.linspace(2.5, 4.5, 21)
    wrapped = rotation.log(np.array([rotation.exp(np.array([0.0, 0.0, a])) for a in angles]))
    assert rotation.unwrapped(wrapped, np.array([0.0, 0.0, 2.4]))[:, 2] == pytest.approx(angles)


def test_columns_that_are_no_rotation_are_refused():
    with pytest.raises(ValueError, match="row 1"):
        rotation.from_columns(np.array([[1.0, 0, 0, 0, 1, 0], [1.0, 0, 0, 2, 0, 0]]))


def test_lag_and_error_of_a_shifted_path():
    t = np.arange(4000) * 0.005
    clean = np.sin(t)[:, None]
    lag, error = lag_and_error(np.sin(t - 0.0234)[:, None], clean, 0.005)
    assert lag == pytest.approx(0.0234, abs=1e-4)
    assert error == pytest.approx(0.0234 / np.sqrt(2), rel=0.05)


def test_jerk_and_cosine():
    t = np.arange(2000) * 0.005
    assert jerk_rms(np.sin(2 * t)[:, None], 0.005) == pytest.approx(8 / np.sqrt(2), rel=0.02)
    assert cosine(np.array([1.0, 0.0]), np.array([0.0, 2.0])) == 0.0
    assert np.isnan(cosine(np.zeros(2), np.ones(2)))
