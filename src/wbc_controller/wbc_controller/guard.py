"""The robot can always brake without hitting itself: the last word on a tick's velocity.

Collision rows look at one instant; several of them together with joint limits can lead into a corner that braking comes
too late for. So a velocity is taken only when the posture stays clear on the way to rest under full braking, sampled at
`_SAMPLES` moments; otherwise the robot brakes. Braking from a velocity that was taken follows a path that was found
clear, and so the robot comes to rest clear.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from bytemini_core.types import Array

_SAMPLES = 5
_NEAR = 0.3  # m: farther apart, nothing that the drives can do brings bodies together before the rows act

_LEVER = 1.5  # m: farther from a joint's axis is no body of a robot of this size


class Guard:
    """Checks braking paths of the joints; the base carries all bodies and does not matter."""

    def __init__(self, nearest: Callable[[Array], float], acceleration: Array, clearance: float, dt: float) -> None:
        """`nearest`: q -> smallest distance (m); `acceleration` (n,) limits; `clearance` (m) that braking must keep."""
        self._nearest, self._acceleration, self._clearance, self._dt = nearest, acceleration, clearance, dt

    def allows(self, q: Array, velocity: Array, present: float) -> bool:
        """Whether the joints may move at `velocity` in this tick.

        Args:
            q: (3 + n,) now.
            velocity: (3 + n,), its first three ignored.
            present: smallest distance now (m); a robot that is nearer than the clearance may move, but not nearer.
        """
        dt, a = self._dt, self._acceleration
        rate = velocity[3:]
        if present > _NEAR:
            return True
        stop = np.abs(rate) / a  # s, after this tick
        least = min(self._clearance, present - 1e-6)
        # A joint that turns by s on the way to rest brings two bodies nearer by s times its lever at most.
        if present - _LEVER * float(np.abs(rate) @ (dt + 0.5 * (stop + dt))) >= least:
            return True
        last = float(stop.max())
        posture = q.copy()
        for k in range(1, _SAMPLES + 1):
            t = np.minimum(last * k / _SAMPLES, stop)
            posture[3:] = q[3:] + rate * (dt + t) - 0.5 * np.sign(rate) * a * t * (t + dt)
            if self._nearest(posture) < least:
                return False
        return True
