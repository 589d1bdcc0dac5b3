"""What was true at past stamps: chunks are about the moment of their observation, not of their arrival."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment.

    `base`: (x, y, yaw) in odom, yaw unwrapped. `reference`: (D,) what the plan asked then. `consumed`: s.
    """

    stamp: int
    base: Array
    reference: Array
    consumed: float


class History:
    """The last `length` ns of moments in order of their stamps."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._stamps: list[int] = []
        self._moments: list[Moment] = []

    def clear(self) -> None:
        """Forget everything."""
        self._stamps.clear()
        self._moments.clear()

    def add(self, moment: Moment) -> None:
        """Append; a stamp that is not newer than the last replaces nothing and is dropped."""
        if self._stamps and moment.stamp <= self._stamps[-1]:
            return
        self._stamps.append(moment.stamp)
        self._moments.append(moment)
        # Trimmed in blocks: dropping the head of a list at every tick would copy it at every tick.
        if len(self._stamps) > 64 and self._stamps[32] < moment.stamp - self.length:
            del self._stamps[:32], self._moments[:32]

    @property
    def newest(self) -> Moment:
        """The last moment added."""
        return self._moments[-1]

    @property
    def oldest(self) -> int:
        """Stamp of the oldest moment kept."""
        return self._stamps[0]

    def at(self, stamp: int) -> Moment:
        """The moment at `stamp`, interpolated between its neighbours; the nearest one outside the record."""
        i = bisect_right(self._stamps, stamp)
        if i == 0:
            return self._moments[0]
        before = self._moments[i - 1]
        if before.stamp == stamp or i == len(self._stamps):
            return before
        after = self._moments[i]
        part = (stamp - before.stamp) / (after.stamp - before.stamp)
        return Moment(
            stamp,
            before.base + part * (after.base - before.base),
            before.reference + part * (after.reference - before.reference),
            before.consumed + part * (after.consumed - before.consumed),
        )
