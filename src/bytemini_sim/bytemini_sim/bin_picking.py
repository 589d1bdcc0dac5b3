"""Move everything from the right basket to the left one: GR-2's end-to-end bin picking (report, section 3.2).

Five to nine objects, twelve to seventeen where it is cluttered, of the seen or of the held-out ones. GR-2 stacks
things; here they lie side by side, in an order in which a hand that comes in at an angle (ROBOT.md) can take them out:
between things that lean on one another it does not fit. That is easier than the report's clutter. The report gives no
sizes of the baskets: these are as large as both arms reach, because seventeen things and the fingers beside them need
it, and as low as keeps things in, because a hand at 30 to 60 degrees has to get in over their walls.
"""

from __future__ import annotations

import math
import zlib
from typing import ClassVar

import numpy as np

from bytemini_sim.catalogue import Catalogue, Item, load_catalogue
from bytemini_sim.layout import OBJECT_ZONE, scatter
from bytemini_sim.scene import Placed, SceneSpec, Table

INSTRUCTION = "move any object from the right basket to the left basket"
SOURCE, TARGET = "right basket", "left basket"

FEW, MANY = (5, 9), (12, 17)
"""How many objects there are, least and most (GR-2 report, section 3.2)."""

_CENTRES = {SOURCE: (0.56, -0.30), TARGET: (0.56, 0.30)}
_GAPS = {False: 0.026, True: 0.009}
"""Least space between objects, m, by whether it is cluttered; an open finger is 0.026 m thick."""


class BinPicking:
    """Empty a basket into another.

    Settings: "seen", "unseen", "cluttered_seen", "cluttered_unseen", as in the report.
    """

    name = "bin_picking"
    settings: ClassVar[tuple[str, ...]] = ("seen", "unseen", "cluttered_seen", "cluttered_unseen")

    def __init__(self, setting: str = "seen", catalogue: Catalogue | None = None) -> None:
        if setting not in self.settings:
            raise ValueError(f"{self.name} has no setting {setting!r}; there are {', '.join(self.settings)}")
        self.setting = setting
        self._catalogue = catalogue or load_catalogue()

    def sample(self, seed: int, instruction: str | None = None) -> SceneSpec:
        """The scene of a seed; see `Task.sample`.

        Raises:
            ValueError: an instruction is given: this suite has one of its own.
        """
        if seed < 0:
            raise ValueError(f"seed is {seed}, expected 0 or more")
        if instruction is not None:
            raise ValueError(f"{self.name} has one instruction of its own; give none")
        rng = np.random.default_rng([zlib.crc32(f"{self.name}/{self.setting}".encode()), seed])
        # The whole depth only where many have to fit: both arms reach tall things no further than on a table.
        crowded = self.setting.startswith("cluttered")
        low, high = MANY if crowded else FEW
        count = int(rng.integers(low, high + 1))
        pool = self._catalogue.split("held_out" if self.setting.endswith("unseen") else "seen")[0]
        if crowded:  # what takes less room: seventeen of the others would not lie side by side
            pool = tuple(sorted(pool, key=lambda item: item.size[0] * item.size[1])[: len(pool) * 3 // 5])
        table = Table()
        baskets = tuple(self._basket(name, table) for name in (SOURCE, TARGET))
        while True:
            items: list[Item] = [pool[i] for i in rng.permutation(len(pool))[:count]]
            placed = scatter(rng, items, baskets[0], _GAPS[crowded], True, math.inf if crowded else OBJECT_ZONE.x[1])
            if placed is not None:
                break
        return SceneSpec(
            task=self.name,
            setting=self.setting,
            seed=seed,
            instruction=INSTRUCTION,
            target=placed[0].name,
            destination=TARGET,
            objects=placed,
            containers=baskets,
            table=table,
            time_limit=30.0 + 25.0 * count,
            group=f"{count} objects",
            goals=tuple((one.name, TARGET) for one in placed),
        )

    def _basket(self, name: str, table: Table) -> Placed:
        item = self._catalogue.container(name)
        return Placed(item, (*_CENTRES[name], table.height + item.size[2] / 2 + 5e-4), 0.0)
