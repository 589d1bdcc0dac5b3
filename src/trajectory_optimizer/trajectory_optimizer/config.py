"""The parameters of the trajectory optimiser; the defaults are what the stack runs with."""

from __future__ import annotations

from dataclasses import dataclass, fields

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TrajectoryConfig:
    """Times in s unless said otherwise; angular and linear quantities in rad and m.

    Grid: `interval` of the knots, `intervals` of the horizon, `samples` targets per interval, `quantum` to which
    splices are rounded up, `lead` between the arrival of a chunk and its splice (an optimisation that takes less
    is never seen by the stream).
    Smoothing: `bandwidth` (Hz) of the smoother, `rejoin` over which trust in the targets grows after a splice,
    `sharp_bandwidth` (Hz) of grippers, of brakes, and where path
    tolerance asks for it, `continuity` at a splice: 2, or 3 for a continuous jerk too.
    Fusion: `fused` newest chunks, `decay` of their weight with each newer one,
    `agreement_*` beyond which an older chunk is not believed.
    Limits: `limit_fraction` of the robot's velocity, acceleration and jerk that plans use; `hand_*` for Cartesian
    columns. `tolerance_*`: how far a plan may cut a corner. `slowest`: the least speed along the path.
    `braking`: policy time over which motion fades at the end of a path.
    Refusal: `max_age` of a chunk, `jump_*` from the present to its path, `outside` (fraction of a column's range)
    by which its targets may pass position limits (they are clamped).
    Pursuit: `dead_band` (in path tolerances, RMS) below which an offset is noise, `reach` of the look-ahead.
    `status_confidence`: a TERMINATED or INVALID row counts from this confidence on.
    Losing the robot: `silence` without a state, `odometry_jump` (m; twice as much in rad) from one state to the next.
    `deadline`: an optimisation that took longer is thrown away and the old plan kept; None where results must not
    depend on the machine's speed.
    """

    interval: float = 0.08
    intervals: int = 24
    samples: int = 2
    quantum: float = 0.005
    lead: float = 0.005
    bandwidth: float = 1.7
    rejoin: float = 0.4
    sharp_bandwidth: float = 4.0
    continuity: int = 2
    fused: int = 3
    decay: float = 0.9
    agreement_angular: float = 0.1
    agreement_linear: float = 0.05
    limit_fraction: float = 0.95
    hand_velocity: float = 1.0
    hand_acceleration: float = 8.0
    hand_jerk: float = 80.0
    hand_angular_velocity: float = 3.0
    hand_angular_acceleration: float = 20.0
    hand_angular_jerk: float = 200.0
    tolerance_angular: float = 0.03
    tolerance_linear: float = 0.03
    slowest: float = 0.05
    braking: float = 0.15
    max_age: float = 1.0
    jump_angular: float = 0.8
    jump_linear: float = 0.3
    outside: float = 0.05
    dead_band: float = 0.5
    reach: float = 0.3
    status_confidence: float = 0.5
    silence: float = 0.5
    odometry_jump: float = 0.1
    deadline: float | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None or item.name in ("lead", "rejoin", "outside", "dead_band", "reach"):
                if value is not None and not value >= 0:
                    raise ValueError(f"TrajectoryConfig.{item.name} is {value}, expected at least 0")
            elif not value > 0:
                raise ValueError(f"TrajectoryConfig.{item.name} is {value}, expected a positive number")
        if self.continuity not in (2, 3):
            raise ValueError(f"TrajectoryConfig.continuity is {self.continuity}, expected 2 or 3")
        if self.intervals < 12:
            raise ValueError(
                f"TrajectoryConfig.intervals is {self.intervals}, expected at least 12: shorter cannot stop"
            )
        if not (self.decay <= 1 and self.limit_fraction <= 1 and self.slowest <= 1 and self.status_confidence <= 1):
            raise ValueError("TrajectoryConfig: decay, limit_fraction, slowest and status_confidence are at most 1")
        ticks = self.interval / self.quantum
        if abs(ticks - round(ticks)) > 1e-9:
            raise ValueError(
                f"TrajectoryConfig.interval is {self.interval} s, expected a multiple of quantum, {self.quantum} s"
            )

    @property
    def interval_ns(self) -> int:
        """Width of a knot interval in ns."""
        return self.quantum_ns * round(self.interval / self.quantum)

    @property
    def quantum_ns(self) -> int:
        """The splice quantum in ns."""
        return round(self.quantum * NANOSECONDS)
