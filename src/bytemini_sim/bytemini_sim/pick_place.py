"""Put A into B: the scenes of GR-3's generalizable pick-and-place (report, section 5.1), and of training for it.

What training may draw and what evaluation holds back:

| | training draws | only evaluation draws |
|---|---|---|
| objects | the 54 of `seen` | the 45 of `held_out` ("unseen_objects") |
| looks | `training_look` and the basic room | `looks.UNSEEN` ("unseen_environments") |
| instructions | `TRAINING_WORDINGS` with names | phrases of `grammar.describe` ("unseen_instructions") |
| layouts | stream of its own | streams of their own |
"""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from functools import cache

import numpy as np

from bytemini_sim.catalogue import Catalogue, Item, load_catalogue
from bytemini_sim.grammar import KINDS, describe, things_placed
from bytemini_sim.layout import arrange
from bytemini_sim.looks import UNSEEN, training_look
from bytemini_sim.scene import Look, Placed, SceneSpec, Table

_PUT = re.compile(
    r"^\s*(?:please\s+)?(?:put|place|move|drop)\s+(?:(?:the|a|an)\s+)?(?P<target>.+)\s+(?:into|in|inside)\s+"
    r"(?:(?:the|a|an)\s+)?(?P<into>.+?)\s*[.!]?\s*$",
    re.IGNORECASE,
)

TRAINING_WORDINGS = (
    "put the {target} into the {into}",
    "put the {target} in the {into}",
    "place the {target} in the {into}",
    "move the {target} into the {into}",
    "drop the {target} into the {into}",
    "please put the {target} into the {into}",
)
"""How training scenes ask; evaluation asks with the first."""

BATCH = 6
UNSEEN_BATCH = 5
"""Objects of a mini-batch, seen and unseen (GR-3 report, section 5.1: nine of six, nine of five)."""


@cache
def batches(split: str, size: int) -> tuple[tuple[str, ...], ...]:
    """The objects of a namespace in mini-batches: shuffled once and for all, names only."""
    names = [item.name for item in load_catalogue().split(split)[0]]
    order = np.random.default_rng(zlib.crc32(split.encode())).permutation(len(names))
    return tuple(tuple(names[i] for i in order[start : start + size]) for start in range(0, len(names), size))


class PickPlace:
    """Put the named object into the container.

    Settings:
        basic: a mini-batch of six seen objects in the basic room; 54 consecutive seeds ask for each object once.
        unseen_environments: the same layouts and questions in `looks.UNSEEN`, in turn.
        unseen_instructions: six seen objects, two of them sometimes of a kind; asked for by size, spatial relation,
            category and common sense, in turn.
        unseen_objects: a mini-batch of five held-out objects; 45 consecutive seeds ask for each once.
        invalid: the scene of "basic", asked for what is not there (section 5.2, Invalid Tasks): refuse.
        train: two to six seen objects, random rooms, several wordings: what a policy may learn from.
    """

    name = "pick_place"
    settings = ("basic", "unseen_environments", "unseen_instructions", "unseen_objects", "invalid", "train")

    def __init__(self, setting: str = "basic", catalogue: Catalogue | None = None) -> None:
        if setting not in self.settings:
            raise ValueError(f"{self.name} has no setting {setting!r}; there are {', '.join(self.settings)}")
        self.setting = setting
        self._catalogue = catalogue or load_catalogue()
        self._objects, self._containers = self._catalogue.split("seen")

    def sample(self, seed: int, instruction: str | None = None) -> SceneSpec:
        """The scene of a seed; see `Task.sample`."""
        if seed < 0:
            raise ValueError(f"seed is {seed}, expected 0 or more")
        # "basic", "unseen_environments" and "invalid" share a stream: the same layouts, asked or seen differently.
        stream = self.setting if self.setting in ("unseen_instructions", "unseen_objects", "train") else "basic"
        rng = np.random.default_rng([zlib.crc32(f"{self.name}/{stream}".encode()), seed])
        if instruction is not None:
            return self._asked(rng, seed, instruction)
        match self.setting:
            case "unseen_instructions":
                return self._described(rng, seed)
            case "train":
                return self._training(rng, seed)
            case "unseen_objects":
                return self._of_batch(rng, seed, batches("held_out", UNSEEN_BATCH))
            case _:
                return self._of_batch(rng, seed, batches("seen", BATCH))

    # -- settings -----------------------------------------------------------------------------------------------------

    def _of_batch(self, rng: np.random.Generator, seed: int, groups: tuple[tuple[str, ...], ...]) -> SceneSpec:
        """One mini-batch and one of its objects: all of them in a round of consecutive seeds, batches in turn."""
        batch, member = groups[seed % len(groups)], seed // len(groups)
        items = [self._catalogue.object(name) for name in batch]
        container = self._container(rng)
        placed, boxes = arrange(rng, items, [container], Table())
        target = items[member % len(items)]
        if self.setting == "invalid":
            others = [item for item in self._objects if item.name not in batch]
            target = others[int(rng.integers(len(others)))]
        group, look = f"batch {seed % len(groups) + 1}", Look()
        if self.setting == "unseen_environments":
            # One step further in each round, so that every object comes to every room.
            look = list(UNSEEN.values())[(seed + seed // len(self._objects)) % len(UNSEEN)]
            group = look.name
        return self._spec(seed, placed, boxes, target.name, container.name, look=look, group=group)

    def _described(self, rng: np.random.Generator, seed: int) -> SceneSpec:
        """Draw scenes until one has a thing that the kind of phrase singles out."""
        kind = KINDS[seed % len(KINDS)]
        table = Table()
        while True:
            items = [self._objects[i] for i in rng.permutation(len(self._objects))[:BATCH]]
            if kind == "spatial" and rng.random() < 0.5:
                items[-1] = items[0].instance(2)
            container = self._container(rng)
            placed, boxes = arrange(rng, items, [container], table)
            phrases = describe(things_placed(placed), kind)
            if phrases:
                # Every kind of phrase as likely as another, whatever the scene offers more of.
                phrase, target = phrases[int(rng.integers(len(phrases)))]
                return self._spec(seed, placed, boxes, target, container.name, phrase=phrase, group=kind)

    def _training(self, rng: np.random.Generator, seed: int) -> SceneSpec:
        count = int(rng.choice((2, 3, 4, 5, 6, 6, 6)))
        items = [self._objects[i] for i in rng.permutation(len(self._objects))[:count]]
        container = self._container(rng)
        placed, boxes = arrange(rng, items, [container], Table())
        target = items[int(rng.integers(count))]
        look = training_look(rng) if rng.random() < 0.8 else Look()
        # The plain wording as often as all others together.
        wording = TRAINING_WORDINGS[max(0, int(rng.integers(-len(TRAINING_WORDINGS) + 2, len(TRAINING_WORDINGS))))]
        return self._spec(
            seed, placed, boxes, target.name, container.name, look=look, wording=wording, group=f"{count} objects"
        )

    def _asked(self, rng: np.random.Generator, seed: int, instruction: str) -> SceneSpec:
        """A scene for an instruction: with what it names, among seen objects."""
        target, container = self._parse(instruction)
        valid = self.setting != "invalid"
        others = [self._objects[i] for i in rng.permutation(len(self._objects))]
        items = [item for item in others if item.name != target.name][:BATCH]
        if valid:
            items[int(rng.integers(BATCH))] = target
        placed, boxes = arrange(rng, items, [container], Table())
        look = training_look(rng) if self.setting == "train" else Look()
        if self.setting == "unseen_environments":
            look = list(UNSEEN.values())[seed % len(UNSEEN)]
        spec = self._spec(seed, placed, boxes, target.name, container.name, look=look, group="asked")
        return replace(spec, instruction=instruction)

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _container(self, rng: np.random.Generator) -> Item:
        return self._containers[int(rng.integers(len(self._containers)))]

    def _spec(
        self,
        seed: int,
        objects: tuple[Placed, ...],
        containers: tuple[Placed, ...],
        target: str,
        into: str,
        *,
        look: Look | None = None,
        phrase: str | None = None,
        wording: str = TRAINING_WORDINGS[0],
        group: str = "",
    ) -> SceneSpec:
        return SceneSpec(
            task=self.name,
            setting=self.setting,
            seed=seed,
            instruction=wording.format(target=phrase or target, into=into),
            target=target,
            destination=into,
            objects=objects,
            containers=containers,
            valid=self.setting != "invalid",
            look=look or Look(),
            group=group,
        )

    def _parse(self, instruction: str) -> tuple[Item, Item]:
        match = _PUT.match(instruction)
        if match is None:
            raise ValueError(f"cannot understand {instruction!r}; expected: put the <object> into the <container>")
        return (
            self._catalogue.object(match["target"].lower()),
            self._catalogue.container(match["into"].lower()),
        )
