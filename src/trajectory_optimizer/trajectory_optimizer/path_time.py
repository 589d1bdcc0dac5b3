"""How fast a plan moves along the policy's path: sigma(tau), seconds of the policy's time consumed since the splice.

sigma' <= 1: a plan is never faster than the policy asked. It is below 1 where limits or path tolerance ask for more
time, and falls linearly to 0 where the path ends, so that the motion comes to rest *along* the path:

    sigma(tau) = w(s(tau)),   s(tau) = int rate dtau,   w(s) = s - x^2 / (4 b),  x = clip(s - (end - b), 0, 2 b)

reaches `end` with zero slope after b more seconds than at full speed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PathTime:
    """One law sigma(tau).

    `end`: seconds of policy time that remain. `braking`: b, s. `step`, `nodes`: s(tau) at tau = 0, step, 2 step, ...
    where the plan is slowed; None at full speed.
    """

    end: float
    braking: float
    step: float = 0.0
    nodes: Array | None = None

    def __call__(self, tau: Array) -> Array:
        """The values at times `tau` (m,) since the splice."""
        s = np.maximum(tau, 0.0)
        if self.nodes is not None:
            s = np.interp(s, np.arange(len(self.nodes)) * self.step, self.nodes)
        b = min(self.braking, self.end)
        if b <= 0.0:
            return np.minimum(s, self.end)
        x = np.minimum(np.maximum(s - (self.end - b), 0.0), 2.0 * b)
        return np.minimum(s, self.end + b) - x * x / (4.0 * b)

    def at(self, tau: float) -> float:
        """The value at one time since the splice."""
        s = max(tau, 0.0)
        if self.nodes is not None:
            last = len(self.nodes) - 1
            i = min(int(s / self.step), last - 1)
            part = min(s / self.step - i, 1.0)
            s = float(self.nodes[i]) * (1.0 - part) + float(self.nodes[i + 1]) * part
        b = min(self.braking, self.end)
        if b <= 0.0:
            return min(s, self.end)
        x = min(max(s - (self.end - b), 0.0), 2.0 * b)
        return min(s, self.end + b) - x * x / (4.0 * b)
