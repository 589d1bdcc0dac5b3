"""Heat and charge against closed forms."""

import numpy as np
import pytest
from bytemini_sim.power import CAPACITY, FULL_LOSS, FULL_RISE, IDLE, ROOM, TIME_CONSTANT, PowerModel


@pytest.mark.parametrize("step", [0.1, 60.0])
def test_an_actuator_heats_with_the_square_of_its_effort(step):
    model = PowerModel(np.array([10.0, 10.0, 10.0]))
    for _ in range(round(TIME_CONSTANT / step)):
        model.step(step, np.array([10.0, -5.0, 0.0]), np.zeros(3))
    share = 1 - np.exp(-1)
    np.testing.assert_allclose(model.temperature, ROOM + FULL_RISE * share * np.array([1.0, 0.25, 0.0]))


def test_the_battery_feeds_electronics_losses_and_work():
    model = PowerModel(np.array([10.0, 10.0]))
    model.step(3600.0, np.array([10.0, 5.0]), np.array([2.0, -3.0]))
    power = IDLE + FULL_LOSS * 1.25 + 20.0  # what the second joint takes up is not given back
    assert model.power == pytest.approx(power)
    assert model.charge == pytest.approx(100 - 100 * power / CAPACITY)
    model.step(1e6, np.array([10.0, 5.0]), np.zeros(2))
    assert model.charge == 0.0


def test_an_idle_robot_lasts_longer_than_ten_hours():
    assert CAPACITY / IDLE > 10
