"""Tasks: what is asked, in which scene. A scene is a pure function of (task, setting, seed)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bytemini_sim.pick_place import PickPlace
from bytemini_sim.scene import SceneSpec


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


TASKS: dict[str, Callable[[str], Task]] = {PickPlace.name: PickPlace}


def make_task(name: str, setting: str = "basic") -> Task:
    """The task called `name` in one of its settings.

    Raises:
        ValueError: there is no such task or setting; the message lists what exists.
    """
    if name not in TASKS:
        raise ValueError(f"no task is called {name!r}; there are {', '.join(sorted(TASKS))}")
    return TASKS[name](setting)
