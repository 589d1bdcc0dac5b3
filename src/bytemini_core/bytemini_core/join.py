"""Join what belongs to one stamp: the lock step of the graph in one small class.

Every stage of the stack answers stamp t once all its inputs of stamp t are there. Waiting for data instead of for
clocks makes a run deterministic, however the processes are scheduled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NEW_CLOCK = 1_000_000_000
"""Nanoseconds by which a stamp is earlier than the last set's when it is no late message but another clock."""


class StampJoin:
    """Collects one value per input and stamp; complete sets come out in order of their stamps.

    An incomplete set is dropped as soon as a later one is complete: with best-effort inputs a lost message costs that
    one stamp and nothing more. Stamps a second too early tell that whoever makes them was started anew, or
    that a clock was set back: what was before is forgotten. At most `depth` incomplete sets are kept, so that an input
    that stays silent costs no memory.
    """

    def __init__(self, inputs: Sequence[str], depth: int = 256):
        self._inputs = tuple(inputs)
        self._depth = depth
        self._pending: dict[int, dict[str, Any]] = {}
        self._last = -1

    def add(self, name: str, stamp: int, value: Any) -> dict[str, Any] | None:
        """Take one input's value; the complete set of that stamp, or None while something of it is missing.

        Args:
            name: one of the inputs.
            stamp: nanoseconds; one not later than the last complete set's is late and is dropped (see `NEW_CLOCK`).
            value: anything.

        Raises:
            KeyError: `name` is not an input.
        """
        if name not in self._inputs:
            raise KeyError(f"{name} is not an input of this join, expected one of {', '.join(self._inputs)}")
        if stamp <= self._last - NEW_CLOCK:
            self.clear()
        if stamp <= self._last:
            return None
        pending = self._pending.setdefault(stamp, {})
        pending[name] = value
        if len(pending) < len(self._inputs):
            if len(self._pending) > self._depth:
                del self._pending[min(self._pending)]
            return None
        self._last = stamp
        self._pending = {s: values for s, values in self._pending.items() if s > stamp}
        return pending

    def clear(self) -> None:
        """Forget everything, also what was last complete: the clock starts anew."""
        self._pending.clear()
        self._last = -1
