"""The robot can always brake without hitting itself: the last word on a tick's velocity.

Collision rows look at one instant; several of them together with joint limits can lead into a corner that braking comes
too late for. So a velocity is taken only when the posture stays clear on the way to rest under full braking, sampled at
`_SAMPLES` moments; otherwise the robot brakes. Braking from a velocity that was taken follows a path that was found
clear, and so the robot comes to rest clear.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from bytemini_core.types import Array

_SAMPLES = 5
_NEAR = 0.3  # m: farther apart, nothing that the drives can do brings bodies together before the rows act
_LEVER = 1.5  # m: farther from a joint's axis is no body of a robot of this size


class Clear(Protocol):
    """`solver.TickSolver.clear`."""

    def __call__(self, q: Array, velocity: Array, hardest: Array, least: float, samples: int) -> bool:
        """Whether braking from `velocity` keeps `least`."""


class Guard:
    """Checks braking paths of the joints; the base carries all bodies and does not matter."""

    def __init__(self, clear: Clear, hardest: Array, clearance: float, dt: float) -> None:
        """`hardest` (3 + n,): limits of acceleration; `clearance` (m): what braking must keep."""
        self._clear, self._hardest, self._clearance, self._dt = clear, hardest, clearance, dt

    def allows(self, q: Array, velocity: Array, present: float) -> bool:
        """Whether the joints may move at `velocity` in this tick.

        Args:
            q: (3 + n,) now.
            velocity: (3 + n,), its first three ignored.
            present: smallest distance now (m); a robot that is nearer than the clearance may move, but not nearer.
        """
        if present > _NEAR:
            return True
        speed = np.abs(velocity[3:])
        least = min(self._clearance, present - 1e-6)
        # A joint that turns by s on the way to rest brings two bodies nearer by s times its lever at most.
        way = speed @ (1.5 * self._dt + 0.5 * speed / self._hardest[3:])
        if present - _LEVER * float(way) >= least:
            return True
        return self._clear(q, velocity, self._hardest, least, _SAMPLES)
