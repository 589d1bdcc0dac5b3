"""What the optimiser says of each chunk; what costs time to know is worked out only when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trajectory_optimizer.chunk_fusion import ChunkPath
from trajectory_optimizer.metrics import chunk_acceleration, cosine
from trajectory_optimizer.plan import Segment
from trajectory_optimizer.planner import Planner, Solution

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Splice:
    """The material of the numbers of a `ChunkReport`.

    `before`: the segment until the splice at `stamp` ns. `path`, `previous`: the new chunk and the one before it.
    `consumed`: policy time consumed at the splice. `solution`: of `planner`. `dt`: s between the chunk's rows.
    `targets`: those rows.
    """

    stamp: int
    before: Segment
    path: ChunkPath
    previous: ChunkPath | None
    consumed: float
    solution: Solution
    planner: Planner
    dt: float
    targets: Array


@dataclass(frozen=True)
class ChunkReport:
    """What became of one chunk; several columns as one number are the largest, each in its own unit (rad or m).

    `stamp`, `sequence`: of the chunk. `reason`: why it was refused, "" when accepted. `delay_actions`: rows of it that
    were consumed between its observation and its splice. `shift`: s of its path beyond those that pursuit found behind
    the robot. `rate`: least speed along the path (1: as the policy asked). `bounded`: columns that a limit held back.
    `fused`: chunks that have a say. `solve_time`: s of wall time for all of `add_chunk`; only reported.
    """

    stamp: int
    sequence: int
    accepted: bool
    reason: str = ""
    delay_actions: float = 0.0
    shift: float = 0.0
    rate: float = 1.0
    bounded: int = 0
    fused: int = 0
    solve_time: float = 0.0
    splice: Splice | None = field(default=None, repr=False)

    @cached_property
    def _jump(self) -> Array:
        """(3,) largest step of position, velocity and acceleration at the splice."""
        if self.splice is None:
            return np.zeros(3)
        gap = self.splice.solution.segment.at(self.splice.stamp) - self.splice.before.at(self.splice.stamp)
        largest: Array = np.abs(gap[:3]).max(axis=1)
        return largest

    @property
    def splice_position_jump(self) -> float:
        """Between the motions before and after the splice, at the splice."""
        return float(self._jump[0])

    @property
    def splice_velocity_jump(self) -> float:
        """The same of the velocity."""
        return float(self._jump[1])

    @property
    def splice_acceleration_jump(self) -> float:
        """The same of the acceleration."""
        return float(self._jump[2])

    @property
    def peak_jerk(self) -> float:
        """Bound on the largest jerk of the new plan."""
        return 0.0 if self.splice is None else float(np.abs(self.splice.planner.jerk(self.splice.solution)).max())

    @property
    def tolerance_used(self) -> float:
        """Largest distance of the new plan from its targets once it has rejoined them."""
        return 0.0 if self.splice is None else float(self.splice.planner.deviation(self.splice.solution).max())

    @property
    def intra_chunk_acceleration(self) -> float:
        """Largest second difference of the chunk's own rows."""
        return 0.0 if self.splice is None else chunk_acceleration(self.splice.targets, self.splice.dt)

    @property
    def seam_position_jump(self) -> float:
        """What switching from the last chunk (or the present, if there is none) to this one's rows would jump."""
        if self.splice is None:
            return 0.0
        here = self._raw(self.splice.path)[0]
        there = self.splice.before.at(self.splice.stamp)[0]
        if self.splice.previous is not None:
            there = self._raw(self.splice.previous)[0]
        return float(np.abs(here - there).max())

    @property
    def seam_velocity_cosine(self) -> float:
        """Between the velocities of the last chunk and of this one at the splice; nan if either rests."""
        if self.splice is None or self.splice.previous is None:
            return float("nan")
        return cosine(self._raw(self.splice.path)[1], self._raw(self.splice.previous)[1])

    def _raw(self, path: ChunkPath) -> Array:
        """(2, D) position and velocity of a chunk's own path at the splice."""
        assert self.splice is not None
        return np.stack(path.point(self.splice.consumed - path.offset))
