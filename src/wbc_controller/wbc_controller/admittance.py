"""One hand's mass, damper and spring, in the memory that the tick reads: `tick.c` does the same, number for number.

    M x'' + D x' + s(K (x + d)) = F + F_wanted,    x'[k+1] = (M x'[k] + dt (F + F_wanted - s(K (x[k] + d)))) /
                                                             (M + dt D + dt^2 K),    x[k+1] = x[k] + dt x'[k+1]

(`compliance` says what the letters mean). Implicit Euler dissipates: passive for every positive M, D, K and dt.
"""

from __future__ import annotations

import numpy as np
from bytemini_core.types import Array

from .compliance import Compliance
from .hands import exponential

MEMORY = 67  # of a hand: whether it steps, then eleven vectors of six
_NAMES = ("inertia", "damping", "own", "limit", "deadband", "wrench", "wanted", "given", "asked", "offset", "rate")
_AT = {name: slice(1 + 6 * i, 7 + 6 * i) for i, name in enumerate(_NAMES)}


class Admittance:
    """A hand that yields. `offset` (m, rotation vector in rad, odom axes) and `rate` (6,) are views of its memory."""

    def __init__(self, compliance: Compliance, dt: float, memory: Array | None = None) -> None:
        """At rest. `memory`: (`MEMORY`,), the solver's, which then takes the steps; None for one of its own."""
        self._dt = dt
        self.memory = np.zeros(MEMORY) if memory is None else memory
        m = self.memory
        m[:] = 0.0
        m[_AT["own"]], m[_AT["damping"]], m[_AT["inertia"]] = (
            compliance.stiffness,
            compliance.damping,
            compliance.inertia,
        )
        m[_AT["limit"]], m[_AT["deadband"]] = compliance.force_limit, compliance.deadband
        self.offset, self.rate = m[_AT["offset"]], m[_AT["rate"]]

    def ask(self, wrench: Array, wanted: Array, given: Array, stiffness: Array) -> None:
        """What the next step is to answer; all (6,), odom axes.

        Args:
            wrench: external, on the hand.
            wanted: to be exerted by the hand, at most the force limit.
            given: how far the drives have given way already.
            stiffness: asked for; where it is 0, the controller's own holds, or no spring where a wrench is wanted.
        """
        m = self.memory
        m[0] = 1.0
        m[_AT["wrench"]], m[_AT["wanted"]], m[_AT["given"]], m[_AT["asked"]] = wrench, wanted, given, stiffness

    def step(self, wrench: Array, wanted: Array, given: Array, stiffness: Array) -> None:
        """Advance one tick; arguments as of `ask`."""
        self.ask(wrench, wanted, given, stiffness)
        advance(self.memory, self._dt)


def advance(m: Array, dt: float) -> bool:
    """Take the step that was asked for; whether one was."""
    if not m[0]:
        return False
    m[0] = 0.0
    inertia, damping, own, limit, deadband, wrench, wanted, given, asked, offset, rate = m[1:].reshape(11, 6)
    spring = np.where(asked > 0.0, asked, np.where(wanted != 0.0, 0.0, own))
    push = np.sign(wrench) * np.maximum(np.abs(wrench) - deadband, 0.0)
    back = np.clip(spring * (offset + given), -limit, limit)
    mass = inertia + dt * damping + dt * dt * spring
    rate[:] = (inertia * rate + dt * (push + np.clip(wanted, -limit, limit) - back)) / mass
    offset += dt * rate
    return True


def move(hand: Array, m: Array) -> None:
    """Move a hand's target, as the tick takes it (rotation 9, position 3, twist 6), by the offset and its rate."""
    offset, rate = m[_AT["offset"]], m[_AT["rate"]]
    hand[:9] = (exponential(offset[3:]) @ hand[:9].reshape(3, 3)).reshape(-1)
    hand[9:12] += offset[:3]
    hand[12:18] += rate
