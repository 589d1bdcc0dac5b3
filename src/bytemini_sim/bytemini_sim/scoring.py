"""What an episode is worth, computed from physics and never from the policy's own word.

The measures are those of the GR-3 report, section 5.1: *instruction following*, whether the robot correctly approaches
the object that the instruction names, and *success*, whether it puts that object into the container. Where the named
object is absent (section 5.2, Invalid Tasks) the episode counts only if no object is manipulated within 10 seconds.
Between the two stand milestones, for partial credit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from bytemini_core.types import NANOSECONDS, SIDES, Array
from numpy.typing import NDArray

from bytemini_sim.world import LimitCounts, World

MILESTONES = ("approached", "grasped", "lifted", "over", "inside")
REFUSAL_SECONDS = 10.0
"""How long an invalid instruction must leave everything alone, s (GR-3 report, section 5.2)."""

APPROACH_DISTANCE = 0.02
"""A hand approaches an object when its grasp centre is this near to the object's bounding box, m ..."""
APPROACH_SECONDS = 0.2
"""... for this long, s, so that passing by is not approaching; touching counts at once."""

_GRASP_SECONDS = 0.05
_LIFT_HEIGHT = 0.03
_RELEASE_SECONDS = 0.25
_REST_SPEED = 0.08
_RIM_DEPTH = 0.01
_MOVED = 0.01
_TURNED = 0.2
_SAME_EVENT_SECONDS = 0.5
_LOOK_EVERY = 4  # ticks between looks at distances; contacts are watched at every tick
_MAX_COLLISIONS = 100


@dataclass(frozen=True, slots=True)
class Collision:
    """A contact that should not be: `time` (s) it began, and the two names (links, "table", "floor", objects)."""

    time: float
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.first} hit {self.second} at {self.time:.2f} s"


@dataclass(frozen=True, slots=True)
class EpisodeScore:
    """The worth of one episode.

    `goals`: what became of everything asked for; with several, `milestones` are those that all have reached, and
    `progress` is the share of goals done (GR-3 report, section 5.2, Flat). `instruction_following`: the first object a
    hand approached is a named one (invalid instruction: nothing was manipulated). `success`: everything asked for ended
    in its container, released and at rest (invalid instruction: nothing was manipulated within `REFUSAL_SECONDS`).
    `progress`: share of `MILESTONES` reached, 1 on success. `collisions`: see `Collision`; a pair that parts for less
    than 0.5 s has collided once. `limit_violations`: `World.limits`. `max_joint_jerk`: rad/s^3, largest over the arm
    joints' *commanded* positions at every control tick (third difference); `max_measured_jerk`: the same of the
    *measured* velocities (second difference), contact and all. `failure`: "" on success, else what went wrong.
    `first_approached`: name of the object, "" for none. `manipulated`: what was moved by more than 0.01 m or 0.2 rad.
    `final_poses`: name to pose (x, y, z, qx, qy, qz, qw) in odom.
    """

    instruction_following: bool
    success: bool
    progress: float
    milestones: dict[str, bool]
    collisions: tuple[Collision, ...]
    limit_violations: int
    limits: LimitCounts
    max_joint_jerk: float
    max_measured_jerk: float
    failure: str
    first_approached: str
    manipulated: tuple[str, ...]
    final_poses: dict[str, tuple[float, ...]]
    sim_seconds: float
    digest: str
    goals: tuple[GoalScore, ...] = ()


@dataclass(frozen=True, slots=True)
class GoalScore:
    """What became of one thing asked for: `target` into `destination`."""

    target: str
    destination: str
    milestones: dict[str, bool]
    success: bool


@dataclass(slots=True)
class _Goal:
    """One thing to bring somewhere, watched: indices into the scene's things, and times in seconds."""

    target: int
    box: int
    hands: int
    held: Array = field(init=False)
    free: float = 0.0
    resting: float = 0.0
    dropped: bool = False
    milestones: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(MILESTONES, False))

    def __post_init__(self) -> None:
        self.held = np.zeros(self.hands)

    def let_go(self, dt: float) -> None:
        """No hand touches it now."""
        self.held[:] = 0.0
        self.free += dt

    @property
    def progress(self) -> float:
        """Share of the milestones reached; 1 only on success."""
        if self.resting > 0.0:
            return 1.0
        if self.milestones["inside"]:
            return (len(MILESTONES) - 1) / len(MILESTONES)  # in, but held or still moving
        return sum(self.milestones.values()) / len(MILESTONES)


@dataclass(slots=True)
class _Track:
    """Rows at every control tick, in an array that grows."""

    width: int
    rows: Array = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        self.rows = np.empty((4096, self.width))

    def add(self, row: Array) -> None:
        if self.count == len(self.rows):
            self.rows = np.concatenate([self.rows, np.empty_like(self.rows)])
        self.rows[self.count] = row
        self.count += 1

    def jerk(self, order: int, dt: float) -> float:
        """Largest absolute difference quotient of that order."""
        if self.count <= order:
            return 0.0
        return float(np.abs(np.diff(self.rows[: self.count], order, axis=0)).max() / dt**order)


class Scorer:
    """Watches one episode of a world, from its start.

    Args:
        world: at the start of the episode; make another scorer after every `World.reset`.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._scene = scene = world.scene
        self._dt = world.physics.tick / NANOSECONDS
        self._ticks = 0
        names = scene.names()
        self._names = names
        self._index_entities()
        self._half = np.array([placed.item.size for placed in scene.placed]) / 2
        self._bodies = np.array([world.model.body(f"item/{name}").id for name in names])
        self._dofs = np.array([int(world.model.joint(f"item/{name}").dofadr[0]) for name in names])
        self._tcps = np.array([world.model.body(f"{side}_tcp").id for side in SIDES])
        self._start = world.object_poses()
        self._goals = [
            _Goal(names.index(target), names.index(into), len(SIDES))
            for target, into in scene.asked
            if target in names and into in names
        ]
        self._goal_of = {goal.target: goal for goal in self._goals}
        self._objects = len(scene.objects)
        self._near = np.zeros(self._objects)
        self._moved = np.zeros(len(names), dtype=bool)
        self._moved_early = False
        self.first_approached = ""
        self._collisions: list[Collision] = []
        self._last_contact: dict[tuple[int, int], float] = {}
        arms = [*world.robot.arm_joints("left"), *world.robot.arm_joints("right")]
        self._arms = world.robot.indices(arms)
        self._commanded = _Track(len(arms))
        self._measured = _Track(len(arms))
        self._arm_dofs = np.array([int(world.model.joint(name).dofadr[0]) for name in arms])

    def _index_entities(self) -> None:
        """Who each geom belongs to, and which pairs may not touch."""
        model = self._world.model
        names = ["floor", "table", *self._names]
        links = [model.body(i).name for i in range(model.nbody)]
        robot = [name for name in links if name not in ("world", "table") and not name.startswith("item/")]
        self._entities = (*names, *robot)
        number = {name: i for i, name in enumerate(self._entities)}
        of_body = np.array(
            [number["floor"] if name == "world" else number[name.removeprefix("item/")] for name in links]
        )
        self._entity = of_body[model.geom_bodyid]
        is_robot = np.arange(len(self._entities)) >= len(names)
        forbidden = is_robot[:, None] | is_robot[None, :]
        hand = np.array(
            [
                any(name.startswith(f"{side}_{part}") for side in SIDES for part in ("hand", "finger"))
                for name in self._entities
            ]
        )
        for name in {name for goal in self._scene.asked for name in goal} & number.keys():
            forbidden[number[name], hand] = forbidden[hand, number[name]] = False
        self._forbidden = forbidden
        self._first_item = 2
        items = (np.arange(len(self._entities)) >= self._first_item) & (np.arange(len(self._entities)) < len(names))
        matters = forbidden | (hand[:, None] & items[None, :]) | (items[:, None] & hand[None, :])
        self._matters = matters[np.ix_(self._entity, self._entity)]  # by geom: one look-up for all contacts
        self._hand_of = np.full(len(self._entities), -1)
        for k, side in enumerate(SIDES):
            for name in self._entities:
                if name.startswith((f"{side}_hand", f"{side}_finger")):
                    self._hand_of[number[name]] = k
        self._fingers = np.array([[number[f"{side}_finger_{f}_link"] for f in "ab"] for side in SIDES])

    # -- watching -------------------------------------------------------------------------------------------------

    @property
    def untouched(self) -> float:
        """Seconds for which no hand has touched what the first goal is about."""
        return self._goals[0].free

    def update(self) -> None:
        """Take note of the world; call it after every `World.step`."""
        world = self._world
        self._ticks += 1
        self._commanded.add(world.commanded[self._arms])
        self._measured.add(world.data.qvel[self._arm_dofs])
        self._watch_contacts()
        if self._ticks % _LOOK_EVERY == 0:
            self._look(_LOOK_EVERY * self._dt)

    def _watch_contacts(self) -> None:
        geoms = self._world.data.contact.geom
        geoms = geoms[self._matters[geoms[:, 0], geoms[:, 1]]]
        touched: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        if len(geoms):
            pairs = self._entity[geoms]
            bad = self._forbidden[pairs[:, 0], pairs[:, 1]]
            if bad.any():
                self._note_collisions(pairs[bad])
            # An object's contacts with hands: pairs (object, robot link).
            first, second = np.minimum(pairs[:, 0], pairs[:, 1]), np.maximum(pairs[:, 0], pairs[:, 1])
            hands = self._hand_of[second]
            touching = (hands >= 0) & (first >= self._first_item) & (first < self._first_item + self._objects)
            touched = first[touching] - self._first_item
            if len(touched) and not self.first_approached:
                self.first_approached = self._names[int(touched[0])]
        for goal in self._goals:
            mine = touched == goal.target
            if not mine.any():
                goal.let_go(self._dt)
                continue
            goal.free = 0.0
            goal.milestones["approached"] = True
            fingers = second[touching][mine]
            for side in range(len(SIDES)):
                both = (fingers == self._fingers[side, 0]).any() and (fingers == self._fingers[side, 1]).any()
                goal.held[side] = goal.held[side] + self._dt if both else 0.0
            if goal.held.max() >= _GRASP_SECONDS:
                goal.milestones["grasped"] = True

    def _note_collisions(self, pairs: NDArray[np.intp]) -> None:
        now = self._ticks * self._dt
        for a, b in {(int(min(p)), int(max(p))) for p in pairs}:
            last = self._last_contact.get((a, b), -1.0)
            self._last_contact[a, b] = now
            if (last < 0 or now - last > _SAME_EVENT_SECONDS) and len(self._collisions) < _MAX_COLLISIONS:
                # Links have the larger numbers: "left_finger_a_link hit table".
                self._collisions.append(Collision(round(now, 4), self._entities[b], self._entities[a]))

    def _look(self, dt: float) -> None:
        """Distances and poses: who is near what, what has moved, where the target is."""
        poses = self._world.object_poses()
        turned = np.abs((poses[:, 3:] * self._start[:, 3:]).sum(axis=1)) < np.cos(_TURNED / 2)
        self._moved |= (np.linalg.norm(poses[:, :3] - self._start[:, :3], axis=1) > _MOVED) | turned
        if self._moved.any() and self._ticks * self._dt <= REFUSAL_SECONDS:
            self._moved_early = True
        if not self.first_approached or not all(goal.milestones["approached"] for goal in self._goals):
            self._look_for_approach(dt)
        for goal in self._goals:
            self._look_at_target(goal, dt)

    def _look_for_approach(self, dt: float) -> None:
        data, n = self._world.data, self._objects
        offset = data.xpos[self._tcps][:, None] - data.xpos[self._bodies[:n]]
        rotation = data.xmat[self._bodies[:n]].reshape(n, 3, 3)
        local = np.abs((offset[:, :, None] @ rotation)[:, :, 0]) - self._half[:n]
        distance = np.linalg.norm(np.maximum(local, 0.0), axis=2).min(axis=0)
        self._near = np.where(distance < APPROACH_DISTANCE, self._near + dt, 0.0)
        nearest = int(np.argmin(distance))
        if self._near[nearest] >= APPROACH_SECONDS - 1e-9:
            if not self.first_approached:
                self.first_approached = self._names[nearest]
            if nearest in self._goal_of:
                self._goal_of[nearest].milestones["approached"] = True

    def _look_at_target(self, goal: _Goal, dt: float) -> None:
        data, milestones = self._world.data, goal.milestones
        body = self._bodies[goal.target]
        centre, rotation = data.xpos[body], data.xmat[body].reshape(3, 3)
        reach = float(np.abs(rotation[2]) @ self._half[goal.target])
        held = goal.free < 0.1
        if held and centre[2] - self._start[goal.target, 2] > _LIFT_HEIGHT and milestones["grasped"]:
            milestones["lifted"] = True
        over, inside = self._where(goal, centre, reach)
        if over and milestones["lifted"]:
            milestones["over"] = True
        dof = self._dofs[goal.target]
        slow = float(np.linalg.norm(data.qvel[dof : dof + 3])) < _REST_SPEED
        settled = inside and goal.free > _RELEASE_SECONDS and slow
        goal.resting = goal.resting + dt if settled else 0.0
        milestones["inside"] = inside
        if milestones["lifted"] and not held and not over:
            goal.dropped = True

    def _where(self, goal: _Goal, centre: Array, reach: float) -> tuple[bool, bool]:
        """Whether the target is over the container's opening, and whether its lowest point is below the rim."""
        data, item = self._world.data, self._scene.placed[goal.box].item
        body = self._bodies[goal.box]
        rotation = data.xmat[body].reshape(3, 3)
        local = rotation.T @ (centre - data.xpos[body])
        half = np.array(item.inner[:2]) / 2
        across = np.hypot(local[0], local[1]) <= half[0] if item.round else bool((np.abs(local[:2]) <= half).all())
        upright = rotation[2, 2] > 0.8
        rim = item.size[2] / 2
        over = bool(across and local[2] > -rim)
        return over, bool(over and upright and local[2] - reach < rim - _RIM_DEPTH)

    # -- judging --------------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Simulated seconds watched."""
        return self._ticks * self._dt

    @property
    def milestones(self) -> dict[str, bool]:
        """Milestone to whether everything asked for has reached it."""
        return {name: bool(self._goals) and all(g.milestones[name] for g in self._goals) for name in MILESTONES}

    @property
    def phase(self) -> str:
        """The furthest milestone reached, "" for none."""
        reached = self.milestones
        return next((name for name in reversed(MILESTONES) if reached[name]), "")

    @property
    def success(self) -> bool:
        """Whether the episode is a success as things stand now."""
        if not self._goals:
            return not self._moved_early
        return all(goal.resting > 0.0 for goal in self._goals)

    @property
    def done(self) -> bool:
        """Whether the verdict is in: success, or what can no longer become one."""
        if not self._goals:
            return self._moved_early or self.seconds >= REFUSAL_SECONDS
        return self.success or any(self._fallen(goal) for goal in self._goals)

    def _fallen(self, goal: _Goal) -> bool:
        """Whether it lies deeper than its container stands: it fell off the table."""
        floor = float(self._start[goal.box, 2] - self._half[goal.box, 2]) - 0.05
        return float(self._world.data.xpos[self._bodies[goal.target], 2]) < floor

    @property
    def manipulated(self) -> tuple[str, ...]:
        """What has been moved since the start."""
        return tuple(name for name, moved in zip(self._names, self._moved, strict=True) if moved)

    def result(self) -> EpisodeScore:
        """The verdict as things stand now."""
        success = self.success
        following, progress = self._worth(success)
        limits = self._world.limits
        poses = self._world.object_poses()
        return EpisodeScore(
            instruction_following=following,
            success=success,
            progress=progress,
            milestones=dict(self.milestones),
            collisions=tuple(self._collisions),
            limit_violations=limits.total,
            limits=limits,
            max_joint_jerk=self._commanded.jerk(3, self._dt),
            max_measured_jerk=self._measured.jerk(2, self._dt),
            failure="" if success else self._failure(),
            first_approached=self.first_approached,
            manipulated=self.manipulated,
            final_poses={name: tuple(pose.tolist()) for name, pose in zip(self._names, poses, strict=True)},
            sim_seconds=round(self.seconds, 6),
            digest=self._world.digest(),
            goals=self._goal_scores(),
        )

    def _worth(self, success: bool) -> tuple[bool, float]:
        """Instruction following and progress."""
        if not self._goals:
            return success, float(success)
        each = [goal.progress for goal in self._goals]
        # One thing counts by its milestones, several by what is done (GR-3 report, section 5.2, Flat).
        progress = each[0] if len(each) == 1 else sum(p == 1.0 for p in each) / len(each)
        return self.first_approached in {self._names[goal.target] for goal in self._goals}, progress

    def _goal_scores(self) -> tuple[GoalScore, ...]:
        return tuple(
            GoalScore(self._names[goal.target], self._names[goal.box], dict(goal.milestones), goal.resting > 0.0)
            for goal in self._goals
        )

    def _failure(self) -> str:
        if not self._goals:
            return f"manipulated {', '.join(self.manipulated)} although the instruction was invalid"
        wrong = self.first_approached and self._names.index(self.first_approached) not in self._goal_of
        prefix = f"approached the {self.first_approached} first; " if wrong else ""
        missing = [goal for goal in self._goals if goal.resting == 0.0]
        words = "; ".join(self._shortfall(goal) for goal in missing[:3])
        if len(self._goals) > 1:
            prefix += f"{len(missing)} of {len(self._goals)} not done: "
        return prefix + words

    def _shortfall(self, goal: _Goal) -> str:
        target, into = self._names[goal.target], self._names[goal.box]
        reached = goal.milestones
        if self._fallen(goal):
            return f"the {target} fell off the table"
        if reached["inside"]:
            return f"the {target} is in the {into} but not released and at rest"
        if goal.dropped:
            return f"dropped the {target} outside the {into}"
        if reached["over"]:
            return f"the {target} was over the {into} but did not end inside"
        if reached["lifted"]:
            return f"lifted the {target} but did not bring it over the {into}"
        if reached["grasped"]:
            return f"grasped the {target} but did not lift it"
        if reached["approached"]:
            return f"approached the {target} but did not grasp it"
        return f"did not approach the {target}"
