"""Clean up the dining table: the scenes of GR-3's long-horizon table bussing (report, section 5.2).

Food goes into the to-go box at the left end of a long table, utensils into the bussing box at its right end, trash into
the rubbish bin beyond it: "given the large workspace, the robot needs to move its mobile base".
"""

from __future__ import annotations

import zlib
from typing import ClassVar

import numpy as np

from bytemini_sim.catalogue import Catalogue, Item, load_catalogue
from bytemini_sim.grammar import plural
from bytemini_sim.layout import Zone, arrange
from bytemini_sim.scene import Placed, SceneSpec, Table

CLEAN_UP = "clean up the dining table"

FOOD, UTENSILS, TRASH = "to-go box", "bussing box", "rubbish bin"
WOVEN = "woven basket"

BELONGS = {
    **dict.fromkeys(("hamburger", "bread roll", "donut", "apple", "egg", "sushi roll", "cheese", "strawberry"), FOOD),
    **dict.fromkeys(("fork", "spoon", "knife", "salt shaker"), UTENSILS),
    **dict.fromkeys(("paper cup", "paper ball", "empty can", "tissue pack"), TRASH),
}
"""Where each kind of thing on a dining table goes."""

SETS = (
    ("hamburger", "strawberry", "fork", "knife", "paper cup", "paper ball"),
    ("bread roll", "egg", "spoon", "fork", "empty can", "tissue pack"),
    ("donut", "apple", "knife", "spoon", "paper ball", "empty can"),
    ("sushi roll", "cheese", "fork", "salt shaker", "paper cup", "tissue pack"),
    ("apple", "hamburger", "spoon", "knife", "tissue pack", "paper cup"),
)
"""The five sets of objects of the setting "flat"."""

_TABLE = Table(width=1.90, leg_inset=0.20)
_STATIONS = {FOOD: (0.58, 0.68), UTENSILS: (0.58, -0.70), WOVEN: (0.58, -0.40)}
_BIN = (0.67, -1.22)
_ZONE = Zone(x=(0.43, 0.68), y=(-0.36, 0.40))
_NARROW = Zone(x=(0.43, 0.68), y=(-0.12, 0.42))
"""Where objects stand while the woven basket stands beside them."""


class TableBussing:
    """Clear a table.

    Settings:
        flat: "clean up the dining table": one of five sets of six objects, everything where it belongs.
        if_basic: one thing, by name, to where it belongs.
        if_multiple_objects: all things of a kind of which there are several.
        if_multiple_destinations: a utensil, into the woven basket or the bussing box, which both are there.
        if_multiple_objects_destinations: all utensils of a kind into one of the two.
        if_novel_destinations: one thing to where it does not belong.
        if_invalid: a thing that is not there: refuse.

    Every episode of an `if_` setting is one sub-task from the home position.
    """

    name = "table_bussing"
    settings: ClassVar[tuple[str, ...]] = (
        "flat",
        "if_basic",
        "if_multiple_objects",
        "if_multiple_destinations",
        "if_multiple_objects_destinations",
        "if_novel_destinations",
        "if_invalid",
    )

    def __init__(self, setting: str = "flat", catalogue: Catalogue | None = None) -> None:
        if setting not in self.settings:
            raise ValueError(f"{self.name} has no setting {setting!r}; there are {', '.join(self.settings)}")
        self.setting = setting
        self._catalogue = catalogue or load_catalogue()

    def sample(self, seed: int, instruction: str | None = None) -> SceneSpec:
        """The scene of a seed; see `Task.sample`.

        Raises:
            ValueError: an instruction is given: this suite's scenes bring their own.
        """
        if seed < 0:
            raise ValueError(f"seed is {seed}, expected 0 or more")
        if instruction is not None:
            raise ValueError(f"{self.name} draws its instructions from the seed; give none")
        rng = np.random.default_rng([zlib.crc32(f"{self.name}/{self.setting}".encode()), seed])
        names = SETS[seed % len(SETS)]
        if self.setting == "flat":
            goals = tuple((name, BELONGS[name]) for name in names)
            return self._spec(rng, seed, [self._catalogue.object(name) for name in names], goals, CLEAN_UP, 360.0)
        woven = "destinations" in self.setting and "novel" not in self.setting
        some = [names[i] for i in sorted(rng.permutation(len(names))[:4])]
        utensils = [name for name in names if BELONGS[name] == UTENSILS and name != "salt shaker"]
        if woven and not set(some) & set(utensils):
            some[-1] = utensils[0]
        candidates = [name for name in some if name in utensils] if woven else some
        asked = candidates[int(rng.integers(len(candidates)))]
        into = BELONGS[asked]
        if woven:
            into = (WOVEN, UTENSILS)[int(rng.integers(2))]
        if self.setting == "if_novel_destinations":
            others = [box for box in (FOOD, UTENSILS, TRASH) if box != into]
            into = others[int(rng.integers(len(others)))]
        items = [self._catalogue.object(name) for name in some]
        if self.setting == "if_invalid":
            missing = [name for name in BELONGS if name not in some]
            asked = missing[int(rng.integers(len(missing)))]
            return self._spec(rng, seed, items, (), f"put the {asked} into the {BELONGS[asked]}", 60.0, asked)
        if self.setting.startswith("if_multiple_objects"):
            item = self._catalogue.object(asked)
            again = [item.instance(number) for number in range(2, 3 + int(rng.integers(2)))]
            # Two or three of the kind among at most five things.
            rest = [other for other in items if other.name != asked]
            items = [*rest[: 5 - 1 - len(again)], item, *again]
            goals = tuple((one.name, into) for one in (item, *again))
            words = f"put all the {plural(asked)} into the {into}"
            return self._spec(rng, seed, items, goals, words, 60.0 * len(goals), woven=woven)
        return self._spec(rng, seed, items, ((asked, into),), f"put the {asked} into the {into}", 60.0, woven=woven)

    def _spec(
        self,
        rng: np.random.Generator,
        seed: int,
        items: list[Item],
        goals: tuple[tuple[str, str], ...],
        instruction: str,
        time_limit: float,
        absent: str = "",
        woven: bool = False,
    ) -> SceneSpec:
        stations = [self._station(name) for name in (FOOD, UTENSILS, *((WOVEN,) if woven else ()))]
        rubbish = self._catalogue.container(TRASH)
        stations.append(Placed(rubbish, (*_BIN, rubbish.size[2] / 2 + 5e-4), 0.0))
        placed, _ = arrange(rng, items, [], _TABLE, fixed=stations, zone=_NARROW if woven else _ZONE)
        return SceneSpec(
            task=self.name,
            setting=self.setting,
            seed=seed,
            instruction=instruction,
            target=goals[0][0] if goals else absent,
            destination=goals[0][1] if goals else BELONGS[absent],
            objects=placed,
            containers=tuple(stations),
            valid=bool(goals),
            table=_TABLE,
            time_limit=time_limit,
            group=f"set {seed % len(SETS) + 1}",
            goals=goals,
        )

    def _station(self, name: str) -> Placed:
        item = self._catalogue.container(name)
        return Placed(item, (*_STATIONS[name], _TABLE.height + item.size[2] / 2 + 5e-4), 0.0)
