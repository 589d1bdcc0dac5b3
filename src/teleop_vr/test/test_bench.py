"""The benchmark's own scoring: right when it heard the robot, refused when it did not."""

from __future__ import annotations

import numpy as np
import pytest
from bytemini_core.errors import UserError
from bytemini_description.robot import load_robot
from teleop_vr.simulated import SimulatedHeadset

from teleop_vr import bench

BEGAN, PERIOD, LAG = 100.0, 0.005, 0.02


def rise(t: float) -> float:
    return 0.04 * (1.0 - np.cos(2.0 * np.pi * 0.5 * max(t, 0.0)))


def a_robot_led_upwards(heard_from: float) -> dict[str, bench.Track]:
    """Hands that follow grips by the lift alone, LAG behind; heard from so many s after the trajectory's beginning."""
    model = load_robot("v1")
    lift = model.joint_names.index("lift_joint")
    start = {side: SimulatedHeadset().hand(side).pose for side in bench.SIDES}
    heard, stretch = bench.Heard(), bench.Stretch(BEGAN)
    for t in np.arange(max(heard_from, -2.0), 4.0, PERIOD):
        joints = model.home.copy()
        joints[lift] += rise(t - LAG)
        heard.joints.append((BEGAN + t, joints))
        heard.bases.append(np.zeros(3))
    for t in np.arange(0.0, 3.9, 1.0 / 90.0):
        up = np.array((0.0, 0.0, rise(t), 0.0, 0.0, 0.0, 1.0))
        stretch.sent.append((BEGAN + t, *(bench.moved_by(start[side], up) for side in bench.SIDES)))
    return bench.followed(model, heard, stretch, start)


def test_a_lag_is_told_from_an_error():
    found = bench.figures(a_robot_led_upwards(heard_from=-2.0))
    assert found["lag_ms"] == pytest.approx(1000.0 * LAG, abs=1.0)
    assert found["tracking_mm"] < 0.2
    assert found["tracking_deg"] < 0.01


def test_a_robot_that_was_not_heard_at_the_beginning_is_not_scored():
    # From the first states that came, later on the way, every pose would seem to be off by that way.
    with pytest.raises(UserError, match="did not hear the robot"):
        a_robot_led_upwards(heard_from=1.1)
