"""What silence means: a robot that hears nothing slows, then lets go of the operator, and holds."""

from __future__ import annotations

from enum import StrEnum

from bytemini_core.types import NANOSECONDS

SLOW_AFTER, LOST_AFTER = 0.2, 0.5
"""Seconds without a fresh pose after which motion stops, and after which every clutch opens."""


class Link(StrEnum):
    """How fresh what we hear is."""

    FRESH = "fresh"
    SLOW = "slow"
    LOST = "lost"


class Watchdog:
    """Times the silence of one source, by the server's steady clock (ns) alone."""

    def __init__(self, slow_after: float = SLOW_AFTER, lost_after: float = LOST_AFTER) -> None:
        self._slow, self._lost = round(slow_after * NANOSECONDS), round(lost_after * NANOSECONDS)
        self.heard: int | None = None

    def feed(self, now: int, age: float = 0.0) -> None:
        """Something came; it was `age` s old when it came."""
        heard = now - round(max(age, 0.0) * NANOSECONDS)
        self.heard = heard if self.heard is None else max(self.heard, heard)

    def forget(self) -> None:
        """As if nothing had ever been heard."""
        self.heard = None

    def silence(self, now: int) -> float:
        """Seconds since something fresh came; infinite when nothing ever did."""
        return float("inf") if self.heard is None else (now - self.heard) / NANOSECONDS

    def link(self, now: int) -> Link:
        """What that silence means."""
        if self.heard is None or now - self.heard >= self._lost:
            return Link.LOST
        return Link.SLOW if now - self.heard >= self._slow else Link.FRESH
