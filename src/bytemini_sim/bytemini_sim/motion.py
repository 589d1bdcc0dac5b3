"""Timed motion of the 19 policy columns: paths run rest to rest with minimum jerk, blended where they meet.

A `Trajectory` is a sum of displacements, one per segment, each along its path with a minimum-jerk profile. Segments
that overlap in time blend into one smooth motion that stays near their common corner; a start with a velocity
(replanning in motion) is one more displacement that brakes it to rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from bytemini_core.types import Array
from scipy.interpolate import CubicSpline

KNOTS = 61


@dataclass(frozen=True)
class Limits:
    """What planned motion keeps to, per column (n,): velocity, acceleration, jerk (per s, s^2, s^3)."""

    velocity: Array
    acceleration: Array
    jerk: Array


@dataclass(frozen=True)
class Segment:
    """One displacement: `path` (n, columns), knots even in progress, run within [start, start + duration] (s)."""

    phase: str
    path: Array
    start: float
    duration: float

    @property
    def end(self) -> float:
        """When it is over (s)."""
        return self.start + self.duration

    def displacement(self, times: Array) -> Array:
        """Displacement (m, columns) from the path's first knot at times (m,)."""
        return np.asarray(_along(self.path, minimum_jerk((times - self.start) / self.duration)) - self.path[0])


def minimum_jerk(u: Array) -> Array:
    """Progress from 0 to 1 over u in [0, 1], at rest at both ends; clipped outside."""
    u = np.clip(u, 0.0, 1.0)
    return np.asarray(u**3 * (10.0 - 15.0 * u + 6.0 * u * u))


def _along(path: Array, s: Array) -> Array:
    at = np.clip(s, 0.0, 1.0) * (len(path) - 1)
    low = np.minimum(at.astype(int), len(path) - 2)
    part = (at - low)[:, None]
    return np.asarray((1.0 - part) * path[low] + part * path[low + 1])


def _smooth(path: Array) -> Array:
    """The path on many knots of a cubic spline: kinks would cost acceleration, or time."""
    if len(path) < 4:
        return path
    s = np.linspace(0.0, 1.0, len(path))
    return np.asarray(CubicSpline(s, path, bc_type="natural")(np.linspace(0.0, 1.0, KNOTS)))


def duration(path: Array, limits: Limits) -> float:
    """The shortest time (s) in which a path (n, columns) is run with minimum jerk within the limits."""
    u = np.linspace(0.0, 1.0, 41)
    q = _along(path, minimum_jerk(u))
    step = u[1]
    v = np.diff(q, axis=0) / step
    a = np.diff(v, axis=0) / step
    lead = np.abs(path[-1] - path[0])
    return float(
        max(
            (np.abs(v).max(axis=0) / limits.velocity).max(),
            np.sqrt((np.abs(a).max(axis=0) / limits.acceleration).max()),
            np.cbrt((60.0 * lead / limits.jerk).max()),
            0.05,
        )
    )


class Trajectory:
    """Motion from a posture (and velocity) at a time, extended segment by segment.

    Times are seconds on whatever clock the caller keeps.
    """

    BRAKE = 0.4
    """Seconds in which an initial velocity is brought to rest."""

    def __init__(self, time: float, start: Array, velocity: Array | None = None) -> None:
        self.time = time
        self.start = np.array(start, dtype=np.float64)
        self.velocity = np.zeros_like(self.start) if velocity is None else np.array(velocity, dtype=np.float64)
        self.segments: list[Segment] = []

    @property
    def end(self) -> float:
        """When it comes to rest (s)."""
        return max((segment.end for segment in self.segments), default=self.time)

    @property
    def goal(self) -> Array:
        """Where it comes to rest (columns,)."""
        rest: Array = self.start + 0.5 * self.BRAKE * self.velocity
        for segment in self.segments:
            rest = rest + segment.path[-1] - segment.path[0]
        return rest

    def goal_after(self, phase: str) -> Array:
        """Where it would rest (columns,) after the last segment of a phase."""
        rest: Array = self.start + 0.5 * self.BRAKE * self.velocity
        last = max(i for i, segment in enumerate(self.segments) if segment.phase == phase)
        for segment in self.segments[: last + 1]:
            rest = rest + segment.path[-1] - segment.path[0]
        return rest

    def append(self, phase: str, path: Array, limits: Limits, at_least: float = 0.0, overlap: float = 0.0) -> None:
        """Add a segment that starts where the trajectory ends.

        Args:
            phase: what to call it.
            path: (n >= 2, columns) knots; only its displacements count.
            limits: what it keeps to.
            at_least: its duration is no less (s).
            overlap: how long before the present end it starts (s), a pause where negative.
        """
        path = _smooth(path)
        seconds = max(duration(path, limits), at_least)
        start = max(self.end - min(overlap, 0.5 * seconds), self.time) if self.segments else self.time
        self.segments.append(Segment(phase, path, start, seconds))

    def sample(self, times: Array) -> Array:
        """Columns (m, columns) at times (m,)."""
        u = np.clip((times - self.time) / self.BRAKE, 0.0, 1.0)
        brake = self.BRAKE * (u - 2.5 * u**4 + 3.0 * u**5 - u**6)
        q = self.start + brake[:, None] * self.velocity
        for segment in self.segments:
            q = q + segment.displacement(times)
        return np.asarray(q)

    def rate(self, time: float) -> Array:
        """Velocity (columns,) at a time."""
        step = 0.005
        low, high = self.sample(np.array([time - step, time + step]))
        return np.asarray((high - low) / (2 * step if time - step >= self.time else step))

    def phase(self, time: float) -> str:
        """The latest segment begun by `time`; "" before any."""
        begun = [segment.phase for segment in self.segments if segment.start <= time + 1e-9]
        return begun[-1] if begun else ""

    def when(self, phase: str) -> float:
        """When a phase ends (s), +inf if it is not part of the trajectory."""
        return max((segment.end for segment in self.segments if segment.phase == phase), default=np.inf)

    def begin_at(self, time: float) -> None:
        """Move all of it in time, so that it starts at `time` (s)."""
        later = time - self.time
        self.segments = [replace(segment, start=segment.start + later) for segment in self.segments]
        self.time = time

    def keep(self, phases: set[str]) -> None:
        """Drop every segment of other phases; the caller makes sure that none of them has begun."""
        self.segments = [segment for segment in self.segments if segment.phase in phases]
