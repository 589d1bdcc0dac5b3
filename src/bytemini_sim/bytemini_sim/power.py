"""Heat of the actuators and charge of the battery, as far as a simulation knows.

An actuator heats with the square of its effort (copper losses) and cools towards the room with one time constant; the
battery feeds electronics, losses and mechanical work. Capacity is the report's (4.08 kWh, more than 10 h: ROBOT.md);
the losses are round figures of quasi-direct drives of this size, no measurement.
"""

from __future__ import annotations

import numpy as np
from bytemini_core.types import Array

CAPACITY = 4080.0
"""Wh of the full battery."""

VOLTAGE = 48.0
"""V of the battery, a round figure."""

IDLE = 250.0
"""W of computer, cameras and electronics."""

ROOM = 25.0
"""Degrees Celsius."""

FULL_RISE = 80.0
"""Kelvin that an actuator ends above the room when it always gives its greatest effort."""

TIME_CONSTANT = 900.0
"""Seconds in which it comes two thirds of the way."""

FULL_LOSS = 60.0
"""W that an actuator turns into heat at its greatest effort."""

HOT, TOO_HOT = 70.0, 85.0
"""Degrees Celsius from which an actuator is reported, and from which it has to rest."""

LOW, EMPTY = 20.0, 10.0
"""Percent of charge below which the battery is reported, and below which the robot has to be charged."""


class PowerModel:
    """Temperatures (n,) in degrees Celsius and charge in percent of a robot with these effort limits."""

    def __init__(self, effort: Array, charge: float = 100.0) -> None:
        """Start at room temperature. `effort`: (n,) Nm or N, the greatest of each joint."""
        self._effort = effort
        self.temperature = np.full(len(effort), ROOM)
        self.charge = charge
        self.power = IDLE
        """W drawn from the battery of late."""

    def step(self, seconds: float, effort: Array, velocity: Array) -> None:
        """Let time pass at these efforts (Nm, N) and velocities (rad/s, m/s), each (n,)."""
        load = np.square(effort / self._effort)
        self.temperature += (ROOM + FULL_RISE * load - self.temperature) * -np.expm1(-seconds / TIME_CONSTANT)
        # Work that the load gives back is not stored again.
        self.power = IDLE + FULL_LOSS * float(load.sum()) + float(np.maximum(effort * velocity, 0.0).sum())
        self.charge = max(0.0, self.charge - 100.0 * self.power * seconds / 3600.0 / CAPACITY)
