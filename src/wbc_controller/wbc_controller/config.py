"""What can be set on the controller; refused at load when it makes no sense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from bytemini_core.types import Mode
from bytemini_core.watchdog import SILENCE

from .compliance import Compliance
from .horizon import Preview
from .pace import PowerLimits
from .weights import Weights


@dataclass(frozen=True, slots=True)
class WbcConfig:
    """Parameters of the controller.

    `period`: control tick (s). `max_silence`: without a tick for longer (s) the drives have held by themselves.
    `max_leap`: what a joint's sensor may move (fraction of its range) from one state to the next beyond twice what its
    velocity limit allows, `max_base_leap` the same for odometry (m; rad: twice as much). `max_lag`: how far (fraction
    of the range) a joint of lift, head or arms may be from where it was sent, for `max_silence`.
    `max_reference_age`, `max_state_age`: older input is stale (s). `max_future`: how far a stamp may lie ahead of the
    clock (s). `limit_tolerance`: how far (as a fraction of a joint's range) a target may lie outside the limits and
    still be taken, clamped. `max_jump`: largest step (fraction of the range) between one reference and the next of the
    same owner. `max_base_jump`: the same for the base pose (m, rad).
    `blend_time`: shortest take-over from rest to a new owner's reference (s). `base_gain`: feedback on the odometry
    (1/s). `approach`: share of the acceleration limit with which errors are closed, the rest being left for
    the reference's own acceleration. `self_distance`: distance that bodies of the robot keep
    (m), `clearance`: that full braking must leave them (m). `hand_jump`: largest
    step of a hand's target from one reference to the next (m; rad: pi times as much). `yielding`: hand error (m; rad:
    pi times as much) from which the status says that the hand was sacrificed. `weights`: of the
    tasks. `compliance`: how the hands yield; None: as stiff as the drives.
    `preview`: plan 0.3 s ahead and let the tick follow the plan; None: the tick alone. It needs a compiler.
    `grip_force`: most that a finger presses with (N), by keeping its commanded position that near to the measured one;
    None: as much as its drive can.
    `hand_speed`: most that a hand moves with (m/s), `hand_force`: most that it may push with before the robot holds and
    gives way (N), by the owner; none where an owner is not named. `power`: of battery and actuators.
    """

    period: float = 0.005
    max_silence: float = SILENCE
    max_leap: float = 0.03
    max_base_leap: float = 0.05
    max_lag: float = 0.12
    max_reference_age: float = SILENCE
    max_state_age: float = 0.05
    max_future: float = 0.05
    limit_tolerance: float = 0.05
    max_jump: float = 0.25
    max_base_jump: float = 0.5
    blend_time: float = 0.3
    base_gain: float = 4.0
    approach: float = 0.7
    self_distance: float = 0.02
    clearance: float = 0.01
    hand_jump: float = 0.25
    yielding: float = 0.01
    weights: Weights = field(default_factory=Weights)
    compliance: Compliance | None = None
    preview: Preview | None = None
    grip_force: float | None = None
    hand_speed: Mapping[Mode, float] = field(default_factory=dict)
    hand_force: Mapping[Mode, float] = field(default_factory=dict)
    power: PowerLimits = field(default_factory=PowerLimits)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("weights", "compliance", "preview", "power") or value is None:
                continue
            if item.name in ("hand_speed", "hand_force"):
                for mode, most in value.items():
                    if not 0.0 < most < math.inf:
                        raise ValueError(f"wbc config: {item.name} in {mode} is {most!r}, expected a positive number")
                continue
            if not (isinstance(value, int | float) and 0.0 < value < math.inf):
                raise ValueError(f"wbc config: {item.name} is {value!r}, expected a positive finite number")
        if self.approach > 1.0:
            raise ValueError(f"wbc config: approach is {self.approach}, expected a share between 0 and 1")
