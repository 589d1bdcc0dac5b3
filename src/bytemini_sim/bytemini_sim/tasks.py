"""Tasks: what is asked, in which scene. A scene is a pure function of (task, setting, seed)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bytemini_sim.bimanual import Bimanual
from bytemini_sim.bin_picking import BinPicking
from bytemini_sim.pick_place import PickPlace
from bytemini_sim.scene import SceneSpec
from bytemini_sim.table_bussing import TableBussing

if TYPE_CHECKING:
    from bytemini_sim.scoring import Scorer
    from bytemini_sim.world import World


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


TASKS: dict[str, type[PickPlace | TableBussing | BinPicking | Bimanual]] = {
    task.name: task for task in (PickPlace, TableBussing, BinPicking, Bimanual)
}


def make_task(name: str, setting: str | None = None) -> Task:
    """The task called `name` in one of its settings, its first unless said otherwise.

    Raises:
        ValueError: there is no such task or setting; the message lists what exists.
    """
    if name not in TASKS:
        raise ValueError(f"no task is called {name!r}; there are {', '.join(sorted(TASKS))}")
    return TASKS[name](setting or TASKS[name].settings[0])


TRAINING = "train"
"""The setting that policies learn from; never evaluated on."""


def evaluation_settings(name: str) -> tuple[str, ...]:
    """The settings of a task that evaluations use, the plain one first."""
    return tuple(setting for setting in TASKS[name].settings if setting != TRAINING)


def make_scorer(world: World) -> Scorer:
    """What judges an episode of the world's scene, from its start on; make another one after every `World.reset`."""
    from bytemini_sim.scoring import Scorer

    if world.scene.task == Bimanual.name:
        from bytemini_sim.bimanual_scoring import two_handed_scorer

        return two_handed_scorer(world)
    return Scorer(world)
