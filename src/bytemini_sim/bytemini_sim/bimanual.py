"""Two small tasks that need both hands: hand something over, carry a tray with something on it.

Own tasks, not the reports': ByteMini has two arms (GR-3 report, section 4), so its stack is tried on both at once. What
counts is measured: which fingers touch what, where things are, how level the tray is.
"""

from __future__ import annotations

import zlib
from typing import ClassVar

import numpy as np
from bytemini_core.types import SIDES

from bytemini_sim.catalogue import Catalogue, load_catalogue
from bytemini_sim.scene import Placed, SceneSpec, Table

TRAY = "serving tray"
HANDED = ("tall bottle", "rolling pin")
CARRIED = ("paper cup", "tea tin", "candle", "tape roll", "toy drum", "honey jar")


class Bimanual:
    """Settings: "hand_over", from one hand to the other, in the air; "carry_tray", to the left or to the right."""

    name = "bimanual"
    settings: ClassVar[tuple[str, ...]] = ("hand_over", "carry_tray")

    def __init__(self, setting: str = "hand_over", catalogue: Catalogue | None = None) -> None:
        if setting not in self.settings:
            raise ValueError(f"{self.name} has no setting {setting!r}; there are {', '.join(self.settings)}")
        self.setting = setting
        self._catalogue = catalogue or load_catalogue()

    def sample(self, seed: int, instruction: str | None = None) -> SceneSpec:
        """The scene of a seed; see `Task.sample`.

        Raises:
            ValueError: an instruction is given: this suite draws its own.
        """
        if seed < 0:
            raise ValueError(f"seed is {seed}, expected 0 or more")
        if instruction is not None:
            raise ValueError(f"{self.name} draws its instructions from the seed; give none")
        rng = np.random.default_rng([zlib.crc32(f"{self.name}/{self.setting}".encode()), seed])
        side = SIDES[int(rng.integers(2))]
        sign = 1.0 if side == "left" else -1.0
        other = SIDES[1 - SIDES.index(side)]
        table = Table()
        if self.setting == "hand_over":
            name = HANDED[int(rng.integers(len(HANDED)))]
            item = self._catalogue.object(name)
            # Between the hands, as they are at home: what is this tall would stand in their way elsewhere.
            x, y, yaw = rng.uniform((0.52, -0.02, -np.pi), (0.60, 0.05, np.pi))
            objects: tuple[Placed, ...] = (Placed(item, (x, sign * y, table.height + item.size[2] / 2 + 5e-4), yaw),)
            words = f"hand the {name} over from the {side} hand to the {other} hand"
            target, into = name, f"{other} hand"
        else:
            tray = self._catalogue.object(TRAY)
            item = self._catalogue.object(CARRIED[int(rng.integers(len(CARRIED)))])
            x, y, yaw = rng.uniform((0.50, -0.03, -0.12), (0.55, 0.06, 0.12))
            # From the other side towards the asked one: there is room on the table.
            base = Placed(tray, (x, -sign * (0.06 + y), table.height + tray.size[2] / 2 + 5e-4), yaw)
            dx, dy = rng.uniform((-0.04, -0.04), (0.04, 0.04))
            top = table.height + 0.012
            thing = Placed(
                item, (x + dx, base.position[1] + dy, top + item.size[2] / 2 + 1e-3), float(rng.uniform(-3, 3))
            )
            objects = (base, thing)
            words = f"carry the tray to the {side}"
            target, into = TRAY, side
        return SceneSpec(
            task=self.name,
            setting=self.setting,
            seed=seed,
            instruction=words,
            target=target,
            destination=into,
            objects=objects,
            containers=(),
            table=table,
            time_limit=60.0,
            group=f"{side} to {other}" if self.setting == "hand_over" else f"to the {side}",
        )
