"""When a chunk takes effect: the policy's latency as part of the simulation.

In lock step a chunk predicted from the observation at stamp s is taken at s + latency, neither earlier (however fast
this machine is) nor later (the stage waits for it). The same schedule serves the node and the in-process rollout, so
that both see the same latency and give the same motion.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bytemini_core.types import NANOSECONDS, ActionChunk


@dataclass
class ChunkSchedule:
    """One chunk per observation period, due `latency` seconds after its observation.

    `period`, `latency`: seconds. Observations are taken at stamps that are whole multiples of the period.
    """

    period: float
    latency: float
    _chunks: dict[int, ActionChunk] = field(default_factory=dict)
    _next: int | None = None

    def __post_init__(self) -> None:
        if not self.period > 0 or self.latency < 0:
            raise ValueError(f"period {self.period} s and latency {self.latency} s: expected > 0 and >= 0")
        self._period = round(self.period * NANOSECONDS)
        self._latency = round(self.latency * NANOSECONDS)

    def restart(self, now: int) -> None:
        """Begin anew at stamp `now`: earlier observations were of another run; a chunk of this very one may be here."""
        self._chunks = {stamp: chunk for stamp, chunk in self._chunks.items() if stamp >= now}
        self._next = None

    def add(self, chunk: ActionChunk) -> None:
        """Keep a chunk until it is due."""
        self._chunks[chunk.stamp] = chunk

    def take(self, now: int) -> list[ActionChunk] | None:
        """The chunks that are due at stamp `now`, oldest first; None while one that is due has not come.

        The first call fixes where the schedule starts: earlier observations are not waited for.
        """
        if self._next is None:
            self._next = -(-now // self._period) * self._period
        due = range(self._next, now - self._latency + 1, self._period)
        if any(stamp not in self._chunks for stamp in due):
            return None
        chunks = [self._chunks.pop(stamp) for stamp in due]
        if chunks:
            self._next = due[-1] + self._period
            self._chunks = {stamp: chunk for stamp, chunk in self._chunks.items() if stamp >= self._next}
        return chunks
