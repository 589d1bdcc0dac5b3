"""The scripted expert for whole tasks: which things go where, in which order, one pick-and-place after the other.

Simulation only, like `PickPlaceExpert`, which does the work: it reads the scene's ground truth.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from bytemini_core.types import ActionChunk, Observation, Policy, PolicyMetadata, SceneObject, SceneState, TaskStatus
from numpy.typing import NDArray

from bytemini_sim.bimanual_expert import BimanualExpert, understands
from bytemini_sim.bin_picking import INSTRUCTION as EMPTY_BASKET
from bytemini_sim.bin_picking import SOURCE, TARGET
from bytemini_sim.catalogue import kind_of
from bytemini_sim.clearance import inside_of
from bytemini_sim.expert import PickPlaceExpert
from bytemini_sim.grammar import plain, plural, resolve, things_in
from bytemini_sim.ik import quaternion_matrix
from bytemini_sim.table_bussing import BELONGS, CLEAN_UP

if TYPE_CHECKING:
    from bytemini_description.robot import RobotModel

TRIES = 3
"""How often one thing is tried before the task counts as stuck."""

_ALL = re.compile(
    r"^\s*(?:please\s+)?(?:put|place|move)\s+all\s+(?:the\s+)?(?P<things>.+)\s+(?:into|in|inside)\s+(?P<into>.+?)[\s.!]*$",
    re.IGNORECASE,
)


def goals_of(instruction: str, scene: SceneState) -> list[tuple[str, str]] | None:
    """(object, container) names of everything an instruction wants brought somewhere, as the scene is now.

    Returns:
        The goals; None for an instruction about one thing, which `PickPlaceExpert` understands by itself.
    """
    objects = [item for item in scene.objects if not item.container]
    words = plain(instruction).rstrip(".! ")
    if words == CLEAN_UP:
        there = {item.name for item in scene.objects if item.container}
        belongs = [(item.name, BELONGS.get(kind_of(item.name), "")) for item in objects]
        return [(name, into) for name, into in belongs if into in there]
    if words == EMPTY_BASKET:
        source = scene.find(SOURCE)
        if source is None or scene.find(TARGET) is None:
            return []
        return [(item.name, TARGET) for item in objects if _over(item, source)]
    match = _ALL.match(instruction)
    if match is not None:
        into = resolve(match["into"], things_in(scene, container=True))
        wanted = plain(match["things"])
        if into is None:
            return []
        return [(item.name, into) for item in objects if plural(kind_of(item.name)) == wanted]
    return None


def _over(item: SceneObject, container: SceneObject) -> bool:
    """Whether an object's centre is over a container's opening, or in it."""
    local = quaternion_matrix(container.pose[3:]).T @ (item.pose[:3] - container.pose[:3])
    return inside_of(container).holds(local)


def make_expert(robot: RobotModel, seed: int) -> Policy:
    """The expert of all suites as the policy server asks for it: without noise."""
    return TaskExpert(robot, seed=seed)


class TaskExpert:
    """Understands every suite's instructions about bringing things somewhere. A `Policy`; privileged, simulation only.

    Attributes:
        phase: what it is doing, see `PickPlaceExpert`.
        trouble: why it refused or is stuck, "" otherwise.
    """

    def __init__(
        self, robot: RobotModel, *, noise_scale: float = 0.0, seed: int = 0, clears_view: bool = False
    ) -> None:
        """Prepare for a robot; see `PickPlaceExpert`, which alone clears the view."""
        self._one_hand = PickPlaceExpert(robot, noise_scale=noise_scale, seed=seed, clears_view=clears_view)
        self._both_hands = BimanualExpert(robot, noise_scale=noise_scale, seed=seed)
        self.single = self._one_hand
        self.reset()

    @property
    def metadata(self) -> PolicyMetadata:
        """Those of `PickPlaceExpert`."""
        return self.single.metadata

    def reset(self) -> None:
        """Forget the task."""
        self.single.reset()
        self.single.goal = None
        self.phase = ""
        self.trouble = ""
        self._task = ""
        self._left: list[tuple[str, str]] | None = None
        self._tries: Counter[str] = Counter()
        self._sequence = 0

    def infer(
        self,
        observation: Observation,
        prefix: NDArray[np.float32] | None = None,
        noise: NDArray[np.float32] | None = None,
    ) -> ActionChunk:
        """The next 1.6 s of the pick-and-place under way; see `PickPlaceExpert.infer`.

        Raises:
            ValueError: the observation has no scene.
        """
        scene = observation.scene
        if scene is None:
            raise ValueError("the scripted expert needs Observation.scene (simulation only); use a policy that looks")
        if observation.instruction != self._task:
            self.reset()
            self._task = observation.instruction
            self.single = self._both_hands if understands(observation.instruction) else self._one_hand
            self.single.reset()
            self._left = goals_of(observation.instruction, scene)
        if not self._left and self.single.goal is None:
            chunk = self.single.infer(observation, prefix, noise)
            self.phase, self.trouble = self.single.phase, self.single.trouble
            return chunk
        if self.single.goal is None:
            self._next(scene)
        chunk = self.single.infer(observation, prefix, noise)
        if self.single.phase == "done" or self._resting_stuck(observation):
            chunk = self._go_on(scene, chunk)
        self.phase, self.trouble = self.single.phase, self.single.trouble
        return self._numbered(chunk)

    def _numbered(self, chunk: ActionChunk) -> ActionChunk:
        self._sequence += 1
        return replace(chunk, sequence=self._sequence - 1)

    def _resting_stuck(self, observation: Observation) -> bool:
        return self.single.phase == "stuck" and self.single.at_rest(observation.stamp)

    def _go_on(self, scene: SceneState, chunk: ActionChunk) -> ActionChunk:
        """What is under way is over, one way or the other: choose the next thing."""
        assert self._left is not None
        goal = self.single.goal
        assert goal is not None
        before = len(self._left)
        done = self.single.phase == "done"
        # What came to rest late, or came in beside another, is done too.
        self._left = [one for one in self._left if not (self._is_there(scene, one) or (done and one == goal))]
        if len(self._left) < before:
            for name in self._tries:  # what was in the way of others may be gone now
                self._tries[name] = min(self._tries[name], TRIES - 1)
        if not self._left:
            self.single.rest()
            return chunk
        if not done and self._tries[goal[0]] >= TRIES and all(self._tries[name] >= TRIES for name, _ in self._left):
            return chunk  # nothing more to try: stuck, and says so
        self._next(scene)
        return replace(chunk, task_status=np.full(len(chunk.task_status), int(TaskStatus.ONGOING), dtype=np.int8))

    def _is_there(self, scene: SceneState, goal: tuple[str, str]) -> bool:
        item, container = (scene.find(name) for name in goal)
        return item is not None and container is not None and self._one_hand.is_inside(item, container)

    def _next(self, scene: SceneState) -> None:
        """The thing tried least, and of those the one with the most room around it."""
        assert self._left
        where = {item.name: item for item in scene.objects}

        def cost(goal: tuple[str, str]) -> tuple[int, float]:
            item = where[goal[0]]
            others = [other for other in scene.objects if not other.container and other.name != item.name]
            room = min((float(np.linalg.norm((o.pose - item.pose)[:2])) for o in others), default=1.0)
            return self._tries[goal[0]], float(item.pose[0]) - 2.0 * min(room, 0.15)

        goal = min(self._left, key=cost)
        self._tries[goal[0]] += 1
        self.single.reset()
        self.single.goal = goal
