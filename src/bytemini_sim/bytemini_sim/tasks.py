"""Tasks: what is asked, in which scene. A scene is a pure function of (task, setting, seed)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Protocol

import numpy as np

from bytemini_sim.catalogue import Catalogue, Item, load_catalogue
from bytemini_sim.layout import arrange
from bytemini_sim.scene import SceneSpec, Table

_PUT = re.compile(
    r"^\s*put\s+(?:(?:the|a|an)\s+)?(?P<target>.+?)\s+(?:into|in|inside)\s+(?:(?:the|a|an)\s+)?(?P<into>.+?)\s*[.!]?\s*$",
    re.IGNORECASE,
)


class Task(Protocol):
    """A family of scenes with one way of scoring."""

    @property
    def name(self) -> str:
        """Name of the task."""

    @property
    def setting(self) -> str:
        """Which of the task's settings."""

    def sample(self, seed: int, instruction: str | None = None) -> SceneSpec:
        """The scene of a seed.

        Args:
            seed: any integer of at least 0.
            instruction: what to ask for instead of what the seed draws; the scene is made to fit it.

        Raises:
            ValueError: the instruction cannot be understood or names what does not exist.
        """


class PickPlace:
    """Put the named one of six objects into the container (GR-3 report, section 5.1).

    Settings: "basic", objects and containers seen in training; "invalid", the named object is not in the scene, and the
    right answer is to refuse (GR-3 report, section 5.2, Invalid Tasks).
    """

    name = "pick_place"
    settings = ("basic", "invalid")
    objects_per_scene = 6

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
        # Both settings draw the same scene for the same seed; only what is asked for differs.
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), seed])
        asked = self._parse(instruction) if instruction is not None else None
        valid = self.setting != "invalid"
        objects = [self._objects[i] for i in rng.permutation(len(self._objects))]
        container = self._containers[int(rng.integers(len(self._containers)))]
        if asked:
            objects = [item for item in objects if item != asked[0]]
            container = asked[1]
            if valid:
                objects.insert(int(rng.integers(self.objects_per_scene)), asked[0])
        present = objects[: self.objects_per_scene]
        table = Table()
        placed, boxes = arrange(rng, present, [container], table)
        if asked:
            target, destination = asked
        else:
            target = present[int(rng.integers(len(present)))] if valid else objects[self.objects_per_scene]
            destination = container
        return SceneSpec(
            task=self.name,
            setting=self.setting,
            seed=seed,
            instruction=instruction or f"put the {target.name} into the {destination.name}",
            target=target.name,
            destination=destination.name,
            objects=placed,
            containers=boxes,
            valid=valid,
            table=table,
        )

    def _parse(self, instruction: str) -> tuple[Item, Item]:
        match = _PUT.match(instruction)
        if match is None:
            raise ValueError(f"cannot understand {instruction!r}; expected: put the <object> into the <container>")
        return (
            self._catalogue.object(match["target"].lower()),
            self._catalogue.container(match["into"].lower()),
        )


TASKS: dict[str, Callable[[str], Task]] = {PickPlace.name: PickPlace}


def make_task(name: str, setting: str = "basic") -> Task:
    """The task called `name` in one of its settings.

    Raises:
        ValueError: there is no such task or setting; the message lists what exists.
    """
    if name not in TASKS:
        raise ValueError(f"no task is called {name!r}; there are {', '.join(sorted(TASKS))}")
    return TASKS[name](setting)
