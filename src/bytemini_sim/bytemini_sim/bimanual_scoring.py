"""What the tasks for two hands are worth, from contacts and poses; see `bimanual`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from bytemini_core.types import SIDES, Array

from bytemini_sim.scoring import GoalScore, Scorer
from bytemini_sim.world import World

CARRY = 0.20
"""How far the tray has to get, m."""
_LIFT = 0.03
_LEVEL = 0.97
"""Least vertical part of the tray's normal while it is carried (14 degrees)."""
_HOLD_SECONDS = 0.5
_REST_SPEED = 0.05


class _TwoHanded(Scorer):
    """What both tasks watch: which hands hold the target, and for how long."""

    stages: ClassVar[tuple[str, ...]] = ()

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._reached = dict.fromkeys(self.stages, False)
        self._succeeded = 0.0
        names = {name: i for i, name in enumerate(self._entities)}
        self._item = names[world.scene.target]
        self._target_row = self._names.index(world.scene.target)
        # Hands may touch what they are asked to take; everything else stays forbidden.
        for i, name in enumerate(self._entities):
            if name.startswith(tuple(f"{side}_{part}" for side in SIDES for part in ("hand", "finger"))):
                self._forbidden[self._item, i] = self._forbidden[i, self._item] = False

    def update(self) -> None:
        """Take note of the world; call it after every `World.step`."""
        super().update()
        geoms = self._world.data.contact.geom
        pairs = self._entity[geoms] if len(geoms) else np.empty((0, 2), dtype=np.intp)
        mine = pairs[(pairs == self._item).any(axis=1)]
        touching = set(mine.ravel().tolist())
        held = {side: all(int(finger) in touching for finger in self._fingers[k]) for k, side in enumerate(SIDES)}
        free = not any(self._hand_of[i] >= 0 for i in touching)
        self._stage(held, free, self._world.object_poses()[self._target_row], self._dt)

    def _stage(self, held: dict[str, bool], free: bool, pose: Array, dt: float) -> None:
        raise NotImplementedError

    @property
    def milestones(self) -> dict[str, bool]:
        """Stage to whether it was reached."""
        return dict(self._reached)

    @property
    def phase(self) -> str:
        """The furthest stage reached."""
        return next((name for name in reversed(self.stages) if self._reached[name]), "")

    @property
    def success(self) -> bool:
        """Whether the last stage holds now."""
        return self._succeeded >= _HOLD_SECONDS

    @property
    def done(self) -> bool:
        """Whether the verdict is in."""
        return self.success or self._lost()

    def _lost(self) -> bool:
        z = float(self._world.object_poses()[self._target_row, 2])
        return z < self._world.scene.table.height - 0.05

    def _worth(self, success: bool) -> tuple[bool, float]:
        following = self.first_approached == self._world.scene.target
        share = sum(self._reached.values()) / (len(self.stages) + 1)
        return following, 1.0 if success else share

    def _goal_scores(self) -> tuple[GoalScore, ...]:
        scene = self._world.scene
        return (GoalScore(scene.target, scene.destination, self.milestones, self.success),)

    def _failure(self) -> str:
        if self._lost():
            return f"the {self._world.scene.target} fell off the table"
        last = self.phase
        return f"came as far as {last}" if last else f"did not approach the {self._world.scene.target}"


class HandOverScorer(_TwoHanded):
    """Success: the asked hand alone holds it in the air for half a second, and the other one had it before."""

    stages = ("grasped", "lifted", "both hands", "handed over")

    def _stage(self, held: dict[str, bool], free: bool, pose: Array, dt: float) -> None:  # noqa: ARG002
        taker = self._world.scene.destination.removesuffix(" hand")
        giver = SIDES[1 - SIDES.index(taker)]
        up = bool(pose[2] - self._start[self._target_row, 2] > _LIFT)
        reached = self._reached
        reached["grasped"] |= held[giver]
        reached["lifted"] |= reached["grasped"] and held[giver] and up
        reached["both hands"] |= reached["lifted"] and held[giver] and held[taker] and up
        alone = reached["both hands"] and held[taker] and not self._touches(giver) and up
        reached["handed over"] |= alone
        self._succeeded = self._succeeded + dt if alone else 0.0

    def _touches(self, side: str) -> bool:
        geoms = self._world.data.contact.geom
        pairs = self._entity[geoms] if len(geoms) else np.empty((0, 2), dtype=np.intp)
        mine = pairs[(pairs == self._item).any(axis=1)].ravel()
        return bool((self._hand_of[mine] == SIDES.index(side)).any())


class CarryTrayScorer(_TwoHanded):
    """Success: the tray stands further to the asked side, let go and at rest, what was on it still on it."""

    stages = ("grasped by both", "lifted", "carried", "set down")

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._tilted = False

    def _stage(self, held: dict[str, bool], free: bool, pose: Array, dt: float) -> None:
        scene = self._world.scene
        start = self._start[self._target_row]
        sign = 1.0 if scene.destination == "left" else -1.0
        x, y = pose[3], pose[4]
        level = bool(1.0 - 2.0 * (x * x + y * y) >= _LEVEL)
        up = bool(pose[2] - start[2] > _LIFT)
        far = bool(sign * (pose[1] - start[1]) >= CARRY)
        reached = self._reached
        reached["grasped by both"] |= held["left"] and held["right"]
        reached["lifted"] |= reached["grasped by both"] and up and level and self._loaded()
        reached["carried"] |= reached["lifted"] and up and level and far and self._loaded()
        dof = self._dofs[self._target_row]
        still = float(np.linalg.norm(self._world.data.qvel[dof : dof + 6])) < _REST_SPEED
        down = reached["carried"] and far and free and still and bool(abs(pose[2] - start[2]) < 0.01) and self._loaded()
        reached["set down"] |= down
        self._succeeded = self._succeeded + dt if down else 0.0

    def _loaded(self) -> bool:
        """Whether what stood on the tray still does."""
        poses = self._world.object_poses()
        tray, load = poses[self._target_row], poses[1 - self._target_row]
        bottom = tray[2] - self._half[self._target_row, 2]
        return bool(np.linalg.norm((load - tray)[:2]) < 0.16 and load[2] > bottom + 0.01)


def two_handed_scorer(world: World) -> Scorer:
    """The scorer of a scene of this suite."""
    return HandOverScorer(world) if world.scene.setting == "hand_over" else CarryTrayScorer(world)
