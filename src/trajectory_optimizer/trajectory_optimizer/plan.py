"""An immutable plan: what the 200 Hz stream reads while the next one is being made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajectory_optimizer.bspline import DEGREE, ORDER, basis
from trajectory_optimizer.path_time import PathTime

Array = NDArray[np.float64]

REST = 2e-4
"""rad or m: a motion with less than this to go is at rest."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A spline on the fixed grid, meant from `splice` on, and the policy time it consumes.

    `control`: (n, D) control points from interval `first` of width `width` ns counted from `origin` ns; at rest
    after its end. `progress`: s of policy time consumed at the splice since the reset; `law`: how it goes on.
    """

    origin: int
    width: int
    first: int
    control: Array
    splice: int
    progress: float
    law: PathTime

    def at(self, stamp: int) -> Array:
        """(4, D) position, velocity, acceleration and jerk at `stamp` ns."""
        index, part = divmod(stamp - self.origin, self.width)
        i = index - self.first
        if i < 0:
            i, part = 0, 0
        control = self.control
        if i > len(control) - ORDER:
            still: Array = np.zeros((4, control.shape[1]))
            still[0] = control[-1]
            return still
        return basis(part / self.width, self.width * 1e-9) @ control[i : i + ORDER]

    def consumed(self, stamp: int) -> float:
        """Seconds of policy time consumed at `stamp` since the reset (exact from the splice on)."""
        return self.progress + self.law.at((stamp - self.splice) * 1e-9)

    def from_interval(self, first: int) -> Array:
        """(n, D) control points of the same curve on a grid that begins at interval `first` >= the present one."""
        control, shift = self.control, first - self.first
        if shift <= 0:
            return control
        n = len(control)
        moved = np.empty_like(control)
        moved[: max(n - shift, 0)] = control[shift:]
        moved[max(n - shift, 0) :] = control[-1]
        return moved

    @property
    def end(self) -> int:
        """Stamp (ns) from which the curve is at rest."""
        return self.origin + (self.first + len(self.control) - DEGREE) * self.width

    def rests(self, stamp: int) -> bool:
        """Whether what motion is left at `stamp` is below `REST` in every column."""
        index = (stamp - self.origin) // self.width - self.first
        rest = self.control[min(max(index, 0), len(self.control) - 1) :]
        return bool((np.abs(rest - rest[-1]) < REST).all())


@dataclass(frozen=True, slots=True)
class Plan:
    """`after` from its splice on, `before` until then; both agree there up to the second derivative."""

    before: Segment
    after: Segment

    def segment(self, stamp: int) -> Segment:
        """What is in force at `stamp`."""
        return self.after if stamp >= self.after.splice else self.before
