"""Demonstrations: the scripted expert's episodes and still scenes, as shards of arrays on disk.

A shard is a folder of `.npy` files and a `meta.json`, complete or absent: it is written under another name and moved.
So generation can be stopped and resumed at any time, by any number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.types import (
    CAMERAS,
    NANOSECONDS,
    SIDES,
    ActionChunk,
    Array,
    Mode,
    Observation,
    Policy,
    RobotState,
    TaskStatus,
)
from bytemini_description.robot import RobotModel, load_robot
from bytemini_sim.catalogue import Color, Item, load_catalogue
from bytemini_sim.expert import PickPlaceExpert, aside
from bytemini_sim.grammar import KINDS, describe, things_placed
from bytemini_sim.layout import arrange
from bytemini_sim.looks import training_look
from bytemini_sim.scene import Look, SceneSpec, Table
from bytemini_sim.scoring import Scorer
from bytemini_sim.tasks import make_task
from bytemini_sim.world import World
from trajectory_optimizer.optimizer import TrajectoryOptimizer
from wbc_controller.config import WbcConfig
from wbc_controller.controller import WholeBodyController

from gr3.deploy import load_policy
from gr3.layout import DT, HORIZON, ChunkCodec, Float
from gr3.shards import PHASES, THINGS, Shard, missing, shard_folder
from gr3.views import SOURCE_SIZE, VIEWS, View

SHARD = 32
"""Episodes in a shard of demonstrations."""
STILLS = 512
"""Pictures in a shard of still scenes."""

_CORRECTIONS = 1_000_000
"""Seeds of corrected episodes begin here: no other demonstration shows their scenes."""
_CHOICE = 3
"""Of so many scenes the fullest is taken: the more there is, the more goes wrong."""
_LET_GO = 0.3
"""For so long (s) no hand may have touched the thing before the expert takes over: it would put down what is held."""
_PATIENCE = 8.0
"""So long (s) that is waited for."""

_TAKING_TURNS = (2.0, 25.0)
"""For how long (s) the two take turns, at least and at most."""
_POLICY_DRIVES, _EXPERT_DRIVES = (0.4, 3.5), (0.4, 2.0)
"""How long a turn is, at least and at most (s)."""
_HANDED_BACK = ("approach", "descend", "close", "lift", "transfer")
"""Where the expert gives the robot back: later than that it ends what it does."""
_BEGINS = 0.8
"""So long (s) after it took over all frames are kept, not every other."""

_LATENCY = 0.05
_AFTER_DONE = 5

_DENSE_PHASES = ("look", "approach", "descend", "close", "lower", "release")


class _Turn:
    """Who drives since when: a policy, or the expert where it is None."""

    def __init__(self, policy: Policy | None, since: int, rng: np.random.Generator) -> None:
        self.policy, self.since = policy, since
        self._end = since + round(float(rng.uniform(*(_POLICY_DRIVES if policy else _EXPERT_DRIVES))) * NANOSECONDS)
        self._rows = int(policy.metadata.extra["execute"]) if policy is not None else 1
        if policy is not None:
            policy.reset()

    def is_over(self, now: int) -> bool:
        """Whether the turn has had its time."""
        return now >= self._end

    def asks(self, now: int, period: int) -> bool:
        """Whether the policy is asked now."""
        return (now - self.since) % (self._rows * period) == 0


@dataclass(frozen=True)
class Recipe:
    """How scenes are drawn and shown.

    `robot`: whose. `views`: the size of model that the pictures are for (`gr3.views.VIEWS`). `noise`: most of the
    expert's injected noise, drawn anew per episode. `recolored`, `twins`: share of things in still scenes with another
    colour than the catalogue's, and of still scenes with two of a kind.
    """

    robot: str = "v1"
    views: str = "tiny"
    noise: float = 1.5
    recolored: float = 0.25
    twins: float = 0.15


PAINTS: dict[str, Color] = {
    "red": (0.80, 0.10, 0.10),
    "orange": (0.95, 0.48, 0.08),
    "yellow": (0.96, 0.82, 0.12),
    "green": (0.16, 0.55, 0.20),
    "blue": (0.12, 0.30, 0.75),
    "purple": (0.42, 0.16, 0.56),
    "pink": (0.94, 0.56, 0.68),
    "brown": (0.42, 0.26, 0.14),
    "white": (0.94, 0.94, 0.92),
    "black": (0.09, 0.09, 0.10),
}
"""Colours of recoloured things."""


def recolored(item: Item, rng: np.random.Generator) -> Item:
    """The thing all in one other colour: no robot trajectory shows it."""
    color = str(rng.choice([name for name in PAINTS if name != item.color]))
    parts = tuple(replace(part, color=PAINTS[color]) for part in item.parts)
    return replace(item, name=f"{color} {item.name.removeprefix(item.color).strip()}", color=color, parts=parts)


def still_scene(seed: int, recipe: Recipe) -> SceneSpec:
    """A scene to look at: things of the training namespace, some recoloured, sometimes two of a kind."""
    rng = np.random.default_rng([30_011, seed])
    objects, containers = load_catalogue().split("seen")
    items = [objects[i] for i in rng.permutation(len(objects))[: int(rng.integers(1, 7))]]
    items = [recolored(item, rng) if rng.random() < recipe.recolored else item for item in items]
    items = list({item.name: item for item in items}.values())
    if len(items) > 1 and rng.random() < recipe.twins:
        items[-1] = items[0].instance(2)
    container = containers[int(rng.integers(len(containers)))]
    placed, boxes = arrange(rng, items, [container], Table())
    target = items[int(rng.integers(len(items)))].name
    return SceneSpec(
        task="pick_place",
        setting="train",
        seed=seed,
        instruction=f"put the {target} into the {container.name}",
        target=target,
        destination=container.name,
        objects=placed,
        containers=boxes,
        look=training_look(rng) if rng.random() < 0.8 else Look(),
    )


def things(world: World, state: RobotState, views: Mapping[str, View]) -> tuple[Array, Array]:
    """Where things are: (THINGS, 3) in base_footprint (m), and (cameras, THINGS, 2) as fractions of each view.

    What is behind a camera has nan; rows beyond the scene's things are nan.
    """
    poses = world.object_poses()[:, :3]
    x, y, yaw = state.base_pose
    c, s = np.cos(yaw), np.sin(yaw)
    offset = poses - [x, y, 0.0]
    places = np.full((THINGS, 3), np.nan)
    places[: len(poses)] = offset @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    points = np.full((len(CAMERAS), THINGS, 2), np.nan)
    for i, camera in enumerate(CAMERAS):
        pose = world.frame(f"{camera}_camera_optical_frame")
        local = (poses - pose[:3, 3]) @ pose[:3, :3]
        pixel = local @ world.intrinsics(camera).T
        with np.errstate(divide="ignore", invalid="ignore"):
            uv = views[camera].normalised(pixel[:, 0] / pixel[:, 2], pixel[:, 1] / pixel[:, 2])
        points[i, : len(poses)] = np.where(local[:, 2:] > 0.02, uv, np.nan)
    return places, points


def frame_of(
    world: World, codec: ChunkCodec, views: Mapping[str, View], rows: Float, episode: int, phase: str = ""
) -> dict[str, Any]:
    """What is kept of one instant; `rows` (HORIZON, columns) of the model's actions, `phase` of the expert."""
    state = world.state()
    places, points = things(world, state, views)
    images = world.images()
    return {
        **{name: view.of(images[name]) for name, view in views.items()},
        "state": codec.state(state),
        "actions": rows.astype(np.float32),
        "phase": np.int8(PHASES.index(phase)),
        "episode": np.int32(episode),
        "places": places.astype(np.float32),
        "points": points.astype(np.float32),
    }


def described(scene: SceneSpec) -> dict[str, Any]:
    """What of a scene is kept beside its frames."""
    return {
        "seed": scene.seed,
        "instruction": scene.instruction,
        "valid": scene.valid,
        "target": scene.target,
        "destination": scene.destination,
        "look": scene.look.name,
        "phrases": [list(pair) for kind in KINDS for pair in describe(things_placed(scene.objects), kind)],
        "things": [
            {
                "name": thing.name,
                "category": thing.item.category,
                "color": thing.item.color,
                "size": list(thing.item.size),
                "container": thing.item.container,
            }
            for thing in scene.placed
        ],
    }


def _digest_of(policy: Path) -> str:
    """SHA-256 of what names a policy: the description of a checkpoint, the weights of a training run."""
    described_by = policy / "policy.json"
    return hashlib.sha256((described_by if described_by.is_file() else policy / "last.pt").read_bytes()).hexdigest()


class Demonstrator:
    """Runs the expert through the whole stack (trajectory optimiser, whole-body controller, physics) and records."""

    def __init__(self, recipe: Recipe, checkpoint: Path | None = None) -> None:
        """`checkpoint`: of the policy that takes turns with the expert in corrections; they keep its digest."""
        self.recipe = recipe
        self.policy = load_policy(checkpoint, threads=1) if checkpoint else None
        self._digest = _digest_of(checkpoint) if checkpoint else ""
        self.robot: RobotModel = load_robot(recipe.robot)
        self.codec = ChunkCodec(self.robot)
        self.views = VIEWS[recipe.views]
        self._world: World | None = None

    def world(self, scene: SceneSpec) -> World:
        """The world, at the start of a scene."""
        if self._world is None:
            self._world = World(self.robot, scene, image_size=SOURCE_SIZE)
        else:
            self._world.reset(scene)
        return self._world

    def episode(self, seed: int, number: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The frames of the demonstration of a seed, and what is known about it; no frames where the expert failed."""
        scene = make_task("pick_place", "train").sample(seed)
        return self._run(scene, np.random.default_rng([70_001, seed]), number, 0.0)

    def correction(self, seed: int, number: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The frames in which the expert drives, where it and the policy take turns.

        So the model sees what its own mistakes lead to, and what to do then, which the expert by itself never shows
        (Ross et al. 2011, "A reduction of imitation learning and structured prediction to no-regret online learning";
        handing over instead of labelling every instant, as Kelly et al. 2019, HG-DAgger). A turn of the expert's is
        short, because only where it begins is new; the last one goes on to the end. What is inside already stays there,
        and the expert shows the way home and what is said then. No frames where a hand has the thing all along.
        """
        task, first = make_task("pick_place", "train"), _CORRECTIONS + _CHOICE * seed
        scene = max((task.sample(first + i) for i in range(_CHOICE)), key=lambda s: len(s.objects))
        rng = np.random.default_rng([70_003, seed])
        return self._run(scene, rng, number, float(rng.uniform(*_TAKING_TURNS)))

    def _run(
        self, scene: SceneSpec, rng: np.random.Generator, number: int, in_turns: float
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """An episode in which, for `in_turns` seconds, the policy and the expert take turns; the expert ends it.

        The frames of its last turn are kept if it ends well. Of turns before that only that it had a plan is known.
        """
        world = self.world(scene)
        expert = PickPlaceExpert(
            self.robot, noise_scale=float(rng.uniform(0.0, self.recipe.noise)), seed=scene.seed, clears_view=True
        )
        optimizer = TrajectoryOptimizer(self.robot)
        optimizer.reset(world.state())
        controller = WholeBodyController(self.robot, WbcConfig())
        controller.request_mode(Mode.POLICY)
        scorer = Scorer(world)
        period, latency = round(DT * NANOSECONDS), round(_LATENCY * NANOSECONDS)
        frames: list[dict[str, Any]] = []
        finished, odd, upcoming = 0, int(rng.integers(2)), None
        turn = _Turn(self.policy if in_turns else None, 0, rng)
        pending: ActionChunk | None = None
        proven = 0  # frames before the last turn
        for_at_most = round((30.0 + in_turns) * NANOSECONDS)
        while world.time < for_at_most:
            now = world.time
            state = world.state()
            if now % period == 0:
                if turn.policy is not None and turn.is_over(now) and scorer.untouched > _LET_GO:
                    turn, proven = _Turn(None, now, rng), len(frames)
                    expert.reset()
                elif turn.policy is not None and turn.is_over(now - round(_PATIENCE * NANOSECONDS)):
                    break
                elif (
                    turn.policy is None
                    and now < in_turns * NANOSECONDS
                    and turn.is_over(now)
                    and expert.phase in _HANDED_BACK
                ):
                    turn, proven = _Turn(self.policy, now, rng), len(frames)
                if turn.policy is not None:
                    if turn.asks(now, period):
                        pending = turn.policy.infer(Observation(now, scene.instruction, state, world.images()))
                else:
                    pending = expert.infer(Observation(now, scene.instruction, state, {}, world.scene_state()))
                    status = TaskStatus(int(pending.task_status[0]))
                    if expert.phase == "stuck":
                        break
                    finished += status is not TaskStatus.ONGOING
                    begins = 0 < turn.since <= now < turn.since + _BEGINS * NANOSECONDS
                    if finished or begins or now // period % 2 == odd or expert.phase in _DENSE_PHASES:
                        assert expert.intended is not None
                        rows = self.codec.encode(state, expert.intended.values, status)
                        frames.append(frame_of(world, self.codec, self.views, rows, number, expert.phase))
                    if finished >= _AFTER_DONE:
                        break
            optimizer.observe(state)
            if pending is not None and now >= pending.stamp + latency:
                optimizer.add_chunk(pending, now)
                pending = None
            reference = upcoming or optimizer.sample(now)
            upcoming = optimizer.sample(now + world.physics.tick)
            world.step(controller.update(now / NANOSECONDS, state, reference).joint)
            scorer.update()
        if not (finished and scorer.success):
            frames = frames[:proven]
        about = {**described(scene), "success": bool(frames)}
        return frames, about | ({"begun_by": self._digest} if in_turns else {})

    def still(self, seed: int, number: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """A scene with the arms somewhere beside the view, before anything moves: for vision and language only."""
        rng = np.random.default_rng([30_013, seed])
        scene = still_scene(seed, self.recipe)
        world = self.world(scene)
        self._pose(world, rng)
        rows = np.zeros((HORIZON, len(self.codec.layout.columns)), dtype=np.float32)
        return [frame_of(world, self.codec, self.views, rows, number)], {**described(scene), "success": True}

    def _pose(self, world: World, rng: np.random.Generator) -> None:
        """Move the arms somewhere else, without physics."""
        import mujoco

        arms = {
            name: angle
            for side in SIDES
            for name, angle in zip(self.robot.arm_joints(side), aside(self.robot, side), strict=True)
        }
        spread = rng.choice([0.05, 0.3, 0.8])
        for index, name in enumerate(self.robot.joint_names):
            if name.endswith("_gripper_joint"):
                value = rng.uniform(self.robot.lower[index], self.robot.upper[index])
            elif name in arms:
                value = arms[name] + rng.normal() * spread
            else:
                continue
            at = world.model.joint(name).qposadr[0]
            world.data.qpos[at] = np.clip(value, self.robot.lower[index], self.robot.upper[index])
        mujoco.mj_forward(world.model, world.data)


def write_shard(kind: str, folder: Path, index: int, demonstrator: Demonstrator) -> int:
    """Make shard `index` of a kind ("demos", "corrections" or "stills"); how many frames it has."""
    count = STILLS if kind == "stills" else SHARD
    make = {"demos": demonstrator.episode, "corrections": demonstrator.correction, "stills": demonstrator.still}[kind]
    shard = Shard(dict(demonstrator.views), [], [])
    for number in range(count):
        frames, about = make(index * count + number, number)
        shard.frames.extend(frames)
        shard.episodes.append(about)
    shard.write(folder, kind)
    return len(shard.frames)


_demonstrator: Demonstrator | None = None


def _work(job: tuple[str, str, int, Recipe, Path | None]) -> tuple[str, int, int]:
    global _demonstrator
    kind, root, index, recipe, checkpoint = job
    if _demonstrator is None:
        _demonstrator = Demonstrator(recipe, checkpoint)
    frames = write_shard(kind, shard_folder(Path(root), kind, index), index, _demonstrator)
    return kind, index, frames


def generate(
    root: Path, kind: str, shards: Sequence[int], recipe: Recipe, processes: int, checkpoint: Path | None = None
) -> Iterator[tuple[str, int, int]]:
    """Make the shards that are missing, in parallel; yields (kind, index, frames) as they are done.

    `checkpoint`: of the policy whose episodes are corrected, for the kind "corrections".
    """
    import multiprocessing

    jobs = [(kind, str(root), i, recipe, checkpoint) for i in missing(root, kind, shards)]
    if processes <= 1:
        yield from map(_work, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(_work, jobs)
