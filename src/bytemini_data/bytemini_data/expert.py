"""Record episodes of a policy in the simulator, in process: synthetic sets, as fast as the machine allows."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bytemini_core.types import ActionChunk, Array, Mode, Observation, Policy, PolicyMetadata, TaskStatus
from bytemini_description.robot import load_robot
from numpy.typing import NDArray

from bytemini_data.card import card_of, setup_of, with_scene
from bytemini_data.episode import Story, assess, commit, configurations, open_writer, usual_length
from bytemini_data.features import ODOM, Layout, Moment
from bytemini_data.lerobot.schema import Schema
from bytemini_data.lerobot.writer import DatasetWriter, EpisodeWriter, StagedEpisode
from bytemini_data.plan import Plan, PlanError
from bytemini_data.quality import FAIL, Quality
from bytemini_data.schedule import Configuration, Scheduler

if TYPE_CHECKING:
    from bytemini_sim.episode import Episode
    from bytemini_sim.inproc import InprocRunner

MOST_REJECTED = 3
"""Episodes rejected per episode wanted, on average, before giving up: the policy cannot do what the plan asks."""


@dataclass(frozen=True)
class Options:
    """How to record. `noise`: of the expert, 0 for none; `keep_failures`: also episodes that did not succeed."""

    policy: str = "expert"
    robot: str = "v1"
    image_size: int = 224
    noise: float = 0.0
    keep_failures: bool = False


@dataclass(frozen=True)
class Job:
    """One episode to record, and the folder to build it in."""

    setup: dict[str, Any]
    options: Options
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What came of a job: `staged` is None when it was rejected for `reason`."""

    staged: StagedEpisode | None
    quality: Quality | None
    card: dict[str, Any]
    success: bool
    reason: str


class Witness:
    """A policy that does what another does and writes down every frame.

    A frame is written when the next begins: only then is known what was commanded for it. What the policy means for
    one frame ahead (the first row of its chunk, without injected noise where the policy tells) is the action of its
    columns; of the joints that it does not name, the command.
    """

    def __init__(self, policy: Policy, layout: Layout, writer: EpisodeWriter) -> None:
        self._policy = policy
        self._layout = layout
        self._writer = writer
        self._runner: InprocRunner | None = None
        self._last: tuple[Observation, ActionChunk, dict[str, Array], bool] | None = None
        self._attempts = 0
        self.phase = ""

    @property
    def metadata(self) -> PolicyMetadata:
        """Of the policy that it witnesses."""
        return self._policy.metadata

    def attach(self, runner: InprocRunner) -> None:
        """Say whose world it is in."""
        self._runner = runner

    def reset(self) -> None:
        """Forget the last task."""
        self._policy.reset()
        self._last, self._attempts = None, 0

    def infer(
        self,
        observation: Observation,
        prefix: NDArray[np.float32] | None = None,
        noise: NDArray[np.float32] | None = None,
    ) -> ActionChunk:
        """See `Policy.infer`."""
        self.flush()
        chunk = self._policy.infer(observation, prefix, noise)
        self.phase = getattr(self._policy, "phase", "")
        attempts = getattr(self._policy, "attempts", 0)
        retry = attempts > max(1, self._attempts)
        self._attempts = attempts
        meant = getattr(self._policy, "intended", None)
        if meant is None or meant.stamp != chunk.stamp:
            meant = chunk
        assert self._runner is not None
        self._last = (observation, meant, self._runner.world.wrenches(), retry)
        return chunk

    def flush(self) -> None:
        """Write down the frame that is still open."""
        if self._last is None:
            return
        observation, chunk, wrenches, retry = self._last
        self._last = None
        assert self._runner is not None
        state = observation.state
        target = np.concatenate((self._runner.world.commanded, state.base_pose))
        if chunk.horizon:
            place = {name: i for i, name in enumerate(self._layout.columns)}
            row = dict(zip(chunk.names, chunk.values[0].tolist(), strict=True))
            for name, value in row.items():
                if name in place:
                    target[place[name]] = value
            cos, sin = np.cos(state.base_pose[2]), np.sin(state.base_pose[2])
            dx, dy, turn = (row.get(name, 0.0) for name in ("base/x", "base/y", "base/yaw"))
            moved = (cos * dx - sin * dy, sin * dx + cos * dy, turn)
            target[[place[name] for name in ODOM]] += moved
        status = TaskStatus(int(chunk.task_status[0])) if chunk.horizon else TaskStatus.ONGOING
        moment = Moment(
            observation.images, state, target, state.base_twist, wrenches, task_status=status, mode=Mode.POLICY.value,
            retry=retry,
        )  # fmt: skip
        self._writer.add(self._layout.frame(moment))


def record_job(job: Job) -> Outcome:
    """Record one episode; in whichever process."""
    from bytemini_core.types import OBSERVATION_PERIOD
    from bytemini_sim.episode import RolloutOptions
    from bytemini_sim.inproc import InprocRunner
    from bytemini_sim.tasks import make_task

    options, setup = job.options, job.setup
    robot = load_robot(options.robot)
    scene = make_task(setup["task"], setup["setting"]).sample(setup["seed"], setup["instruction"])
    layout = Layout(robot, (options.image_size, options.image_size), round(1 / OBSERVATION_PERIOD))
    with EpisodeWriter(layout.schema, job.folder, scene.instruction) as writer:
        witness = Witness(_policy(options, setup["seed"]), layout, writer)
        rollout = RolloutOptions(
            task=setup["task"],
            setting=setup["setting"],
            robot=options.robot,
            instruction=setup["instruction"],
            image_size=options.image_size,
            outside=False,
        )
        runner = InprocRunner(rollout, policy=witness)
        witness.attach(runner)
        try:
            episode = runner.run(setup["seed"])
            witness.flush()
        finally:
            runner.close()
        reason = "" if options.keep_failures else _failure(episode)
        staged = writer.finish()
    quality = assess(staged, layout.fps, robot)
    if not reason and quality.verdict == FAIL:
        reason = "; ".join(quality.reasons)
    card = {"scene": scene}
    if reason:
        staged.discard()
        return Outcome(None, quality, card, episode.result.success, reason)
    return Outcome(staged, quality, card, episode.result.success, "")


def _policy(options: Options, seed: int) -> Policy:
    robot = load_robot(options.robot)
    if options.policy == "expert":
        from bytemini_sim.task_expert import TaskExpert

        # What is recorded is there to be learned from, by who has to see the things that the arms hide at home.
        return TaskExpert(robot, noise_scale=options.noise, seed=seed, clears_view=True)
    from gr3_policy_node.backends import load_policy

    return load_policy(options.policy, robot, seed)


def _failure(episode: Episode) -> str:
    result = episode.result
    if not result.success:
        return result.failure or "not done"
    return f"{result.collisions} collisions" if result.collisions else ""


class Collection:
    """Records what a plan wants with a policy in the simulator, into one dataset, in several processes.

    May be interrupted at any time and gone on with: what is in the dataset counts.
    """

    def __init__(self, plan: Plan, root: Path, options: Options) -> None:
        """Open or create the dataset.

        Raises:
            PlanError: the plan names no task of the simulator, or cannot be met.
            DatasetError: the dataset is of another kind, or written by another process.
        """
        self.plan, self.options = plan, options
        probe = Scheduler(plan)
        if setup_of(plan, Configuration(0, 0, plan.cell(0), 0)) is None:
            raise PlanError("the plan names no task of the simulator: add simulation: {task: pick_place}")
        del probe
        self._robot = load_robot(options.robot)
        layout = Layout(self._robot, (options.image_size, options.image_size), 10)
        self.schema: Schema = layout.schema
        self.writer: DatasetWriter = open_writer(root, layout)
        self.scheduler = Scheduler(plan, [c for c in configurations(self.writer) if c])
        self.rejected = 0

    def close(self) -> None:
        """Let others write the dataset."""
        self.writer.close()

    def run(self, jobs: int, told: Callable[[str], None], stepped: Callable[[], None]) -> None:
        """Record until the plan is complete.

        Args:
            jobs: processes that simulate side by side.
            told: takes a line for the user: what was rejected and why.
            stepped: called for every episode that was saved.

        Raises:
            PlanError: too much is rejected.
        """
        pending: dict[Future[Outcome], Configuration] = {}
        with _pool(jobs) as submit:
            while pending or not self.scheduler.complete:
                while len(pending) < jobs and not self.scheduler.complete:
                    configuration = self.scheduler.next()
                    setup = setup_of(self.plan, configuration)
                    assert setup is not None
                    job = Job(setup, self.options, self.writer.staging())
                    pending[submit(job)] = configuration
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda f: pending[f].draw):
                    self._take(future.result(), pending.pop(future), told, stepped)

    def _take(
        self, outcome: Outcome, configuration: Configuration, told: Callable[[str], None], stepped: Callable[[], None]
    ) -> None:
        if outcome.staged is None:
            self.scheduler.reject(configuration)
            self.rejected += 1
            told(f"rejected draw {configuration.draw} ({', '.join(configuration.cell.values())}): {outcome.reason}")
            if self.rejected > MOST_REJECTED * self.plan.episodes:
                raise PlanError(
                    f"{self.rejected} episodes were rejected: {self.options.policy} cannot do what is planned"
                )
            return
        card = with_scene(card_of(self.plan, configuration), outcome.card["scene"])
        quality = outcome.quality
        assert quality is not None
        usual = usual_length(self.writer.rows, outcome.staged.task, self.schema.fps)
        if usual:
            quality = assess(outcome.staged, self.schema.fps, self._robot, usual)
        story = Story(
            outcome.success,
            f"{self.options.policy}{f' noise {self.options.noise:g}' if self.options.noise else ''}",
            configuration.as_dict(),
            {**card.as_dict(), "diagram": ""},
            f"bytemini_sim {self.options.robot}",
        )
        commit(self.writer, outcome.staged, quality, story)
        stepped()


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[Callable[[Job], Future[Outcome]]]:
    """Something that records jobs: this process for one, processes of their own for several."""
    if jobs == 1:

        def here(job: Job) -> Future[Outcome]:
            future: Future[Outcome] = Future()
            future.set_result(record_job(job))
            return future

        yield here
        return
    # Spawned, not forked: OpenGL and threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield lambda job: pool.submit(record_job, job)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
