"""What stands between two stages of the loop and spoils what passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from bytemini_core.types import ActionChunk, RobotState, WholeBodyReference
from bytemini_description.robot import RobotModel
from wbc_controller.controller import WholeBodyController


class Injector:
    """One fault at work; what it does not override passes unharmed. `rng`: its own, from the run's seed.

    Values may be made wrong by building them anew: what their types refuse is refused at the door, as in a node.
    """

    def __init__(self, rng: np.random.Generator, robot: RobotModel) -> None:
        self.rng, self.robot = rng, robot

    alive: frozenset[str] = frozenset({"driver", "controller", "optimizer", "policy"})
    """Stages that run."""
    clock = 0.0
    """Seconds by which the controller's and the optimizer's clock is off."""

    def state(self, state: RobotState) -> Sequence[RobotState]:
        """What arrives of a state."""
        return (state,)

    def chunk(self, chunk: ActionChunk) -> Sequence[ActionChunk]:
        """What arrives of a chunk."""
        return (chunk,)

    def reference(self, reference: WholeBodyReference) -> Sequence[WholeBodyReference]:
        """What arrives of a reference."""
        return (reference,)

    def operator(self, controller: WholeBodyController, tick: int) -> None:
        """What a person or a careless client does at the `tick`-th tick of the fault."""


@dataclass(frozen=True)
class Fault:
    """`name`; what it `means`; for how many `seconds` it lasts; what makes its `Injector`.

    `tolerated`: the stack goes on through it (it refuses the bad input and has good input besides); else it must hold,
    `within_ms` of its beginning.
    """

    name: str
    means: str
    seconds: float
    make: Callable[[np.random.Generator, RobotModel], Injector]
    tolerated: bool = False
    within_ms: float = math.inf
