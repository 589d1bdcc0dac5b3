"""How fast the robot may go with what it has left: slower as battery and actuators near their limits, then it rests.

Between the value from which a quantity is reported and the one at which the robot has to rest, the share of every
velocity limit falls in a straight line to `PowerLimits.slowest`; at the latter nobody may own the robot, until the
quantity has recovered by a tenth of that span (no flapping at the edge).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from bytemini_core.types import PowerState

_RECOVERY = 0.1
_RATE = 1.0  # of the share, per second: what slows down or speeds up does so gently


@dataclass(frozen=True, slots=True)
class PowerLimits:
    """From where on the robot slows down, and where it has to rest.

    `hot`, `too_hot`: of the hottest actuator (degrees Celsius). `low`, `empty`: charge of the battery (percent).
    `high_power`, `most_power` (W), `high_current`, `most_current` (A): drawn from the battery. `slowest`: share of the
    velocity limits that is left just before it rests. `silence`: seconds without a word of the power, once it was
    heard, after which it rests.
    """

    hot: float = 70.0
    too_hot: float = 85.0
    low: float = 20.0
    empty: float = 10.0
    high_power: float = 1800.0
    most_power: float = 2400.0
    high_current: float = 40.0
    most_current: float = 50.0
    slowest: float = 0.25
    silence: float = 2.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (isinstance(value, int | float) and math.isfinite(value)):
                raise ValueError(f"power limits: {item.name} is {value!r}, expected a finite number")
        for less, more in (
            ("hot", "too_hot"), ("empty", "low"), ("high_power", "most_power"), ("high_current", "most_current")
        ):  # fmt: skip
            if not getattr(self, less) < getattr(self, more):
                raise ValueError(
                    f"power limits: {less} is {getattr(self, less)}, expected less than {more}, {getattr(self, more)}"
                )
        if not 0.0 < self.slowest <= 1.0 or self.silence <= 0.0:
            raise ValueError(
                f"power limits: slowest is {self.slowest}, silence {self.silence}, expected a share above 0 and seconds"
            )


class Pace:
    """The share of the velocity limits that may be used now.

    `share`: in force. `reason`: why it is less than 1, "" when it is not. `prevents`: why nobody may own the robot.
    """

    def __init__(self, limits: PowerLimits) -> None:
        self._limits = limits
        self._goal, self.share = 1.0, 1.0
        self.reason = self.prevents = ""
        self._time: float | None = None
        self._heard: float | None = None
        self._resting: set[str] = set()

    def hear(self, t: float, power: PowerState) -> None:
        """Take what the driver measured, at t (s)."""
        own = self._limits
        self._heard = t
        self._goal, self.reason, self.prevents = 1.0, "", ""
        hottest = int(power.temperature.argmax()) if len(power.names) else -1
        heat = float(power.temperature[hottest]) if len(power.names) else -math.inf
        name = power.names[hottest] if len(power.names) else ""
        for what, text, value, soft, hard in (
            ("heat", f"{name} has a temperature of {heat:.0f} °C", heat, own.hot, own.too_hot),
            ("charge", f"the battery is at {power.charge:.0f} %", power.charge, own.low, own.empty),
            ("power", f"the robot draws {power.power:.0f} W", power.power, own.high_power, own.most_power),
            ("current", f"the robot draws {power.current:.0f} A", power.current, own.high_current, own.most_current),
        ):
            left = (hard - value) / (hard - soft)
            resting = left <= (_RECOVERY if what in self._resting else 0.0)
            (self._resting.add if resting else self._resting.discard)(what)
            if resting:
                self.prevents = self.prevents or text
            if left < 1.0:
                goal = own.slowest + (1.0 - own.slowest) * max(left, 0.0)
                if goal < self._goal:
                    self._goal, self.reason = goal, text

    def at(self, t: float) -> float:
        """The share at t (s), which moves gently to where it has to be."""
        if self._heard is not None and t - self._heard > self._limits.silence:
            self.prevents = f"no word of battery and temperatures for {self._limits.silence:g} s"
        step = _RATE * min(max(t - self._time, 0.0), 0.1) if self._time is not None else 0.0
        self._time = t
        self.share += min(max(self._goal - self.share, -step), step)
        return self.share

    def restart(self) -> None:
        """Another clock: what was heard is not missed until it is heard again."""
        self._time = self._heard = None
