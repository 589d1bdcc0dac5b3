"""Episodes with the same cores called directly: no ROS, one process, bit-identical for a seed.

The order of calls within a control tick is the order in which the nodes answer one another in lock step, so that both
transports give the same motion.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from bytemini_core.types import (
    CAMERAS,
    NANOSECONDS,
    OBSERVATION_PERIOD,
    Mode,
    Observation,
    Policy,
    TaskStatus,
    WholeBodyReference,
)
from bytemini_description.robot import RobotModel, load_robot
from gr3_policy_node.backends import load_policy
from gr3_policy_node.pace import Pace
from gr3_policy_node.session import AGREEMENT, TaskSession, Verdict
from gr3_policy_node.worker import empty_chunk, row_status
from trajectory_optimizer.interface import ChunkOptimizer
from trajectory_optimizer.optimizer import TrajectoryOptimizer
from trajectory_optimizer.schedule import ChunkSchedule
from wbc_controller.config import WbcConfig
from wbc_controller.controller import WholeBodyController

from bytemini_sim.episode import (
    OUTSIDE_SIZE,
    SETTLE_SECONDS,
    Episode,
    Frame,
    RolloutOptions,
    failure_of,
)
from bytemini_sim.model import OUTSIDE_CAMERA
from bytemini_sim.results.report import EpisodeResult
from bytemini_sim.results.trajectory import TrajectoryLog
from bytemini_sim.scene import SceneSpec
from bytemini_sim.tasks import make_scorer, make_task
from bytemini_sim.world import WRIST_LAG, World


class InprocRunner:
    """Runs episodes one after the other, each from its seed alone."""

    def __init__(
        self,
        options: RolloutOptions,
        video: bool = False,
        policy: Policy | None = None,
        make_optimizer: Callable[[RobotModel], ChunkOptimizer] = TrajectoryOptimizer,
    ):
        """Prepare.

        Args:
            options: what to roll out.
            video: keep a frame per observation.
            policy: this one instead of the one that `options` names.
            make_optimizer: makes what turns chunks into references; a study may put a peer in its place.

        Raises:
            ValueError: unknown task, setting, policy or robot.
        """
        self.options = options
        self._video = video
        self._robot: RobotModel = load_robot(options.robot)
        self._task = make_task(options.task, options.setting)
        self._policy = policy or load_policy(options.policy, self._robot)
        self._make_optimizer = make_optimizer
        self._world: World | None = None

    def _world_of(self, scene: SceneSpec) -> World:
        if self._world is None:
            size = self.options.image_size
            self._world = World(
                self._robot,
                scene,
                cameras=CAMERAS if self.options.cameras else (),
                image_size=(size, size),
                wrist_lag=WRIST_LAG if self.options.wrist_lag else 0.0,
            )
        else:
            self._world.reset(scene)
        return self._world

    @property
    def world(self) -> World:
        """The world of the episode under way.

        Raises:
            RuntimeError: no episode was begun.
        """
        if self._world is None:
            raise RuntimeError("no episode has been run: there is no world yet")
        return self._world

    def close(self) -> None:
        """Free what the pictures need."""
        if self._world is not None:
            self._world.close()

    def run(self, seed: int, on_tick: Callable[[float], None] | None = None) -> Episode:
        """One episode.

        Args:
            seed: of the scene and of the policy.
            on_tick: called at every observation with the simulated seconds so far.
        """
        scene = self._task.sample(seed, self.options.instruction)
        world = self._world_of(scene)
        robot, policy = self._robot, self._policy
        policy.reset()
        scorer = make_scorer(world)
        optimizer = self._make_optimizer(robot)
        optimizer.reset(world.state())
        controller = WholeBodyController(robot, WbcConfig())
        controller.request_mode(Mode.POLICY)
        schedule = ChunkSchedule(OBSERVATION_PERIOD, self.options.latency)
        session = TaskSession(scene.instruction, 0, scene.time_limit, AGREEMENT)
        pace = Pace(policy, session, time.perf_counter)
        log = TrajectoryLog(robot.joint_names)
        frames: list[Frame] = []
        period = round(OBSERVATION_PERIOD * NANOSECONDS)
        verdict: Verdict | None = None
        status, confidence, phase = TaskStatus.ONGOING, 0.0, ""
        last_word = TaskStatus.ONGOING
        end: int | None = None
        upcoming: WholeBodyReference | None = None
        word_at: float | None = None
        success_at: float | None = None
        started = time.perf_counter()
        while True:
            now = world.time
            if verdict is not None and end is None:
                word_at = now / NANOSECONDS
                end = now + round(SETTLE_SECONDS * NANOSECONDS)
            if end is not None and now >= end and (scene.valid or scorer.done):
                break
            state = world.state()
            if now % period == 0:
                images = world.images() if self.options.cameras else {}
                if verdict is None:
                    observation = Observation(now, scene.instruction, state, images, world.scene_state())
                    if pace.due(now):
                        chunk, verdict = pace.ask(observation)
                        last_word = row_status(chunk)[0]
                        phase = getattr(policy, "phase", "")
                    else:
                        chunk = pace.go_on(observation)
                    status, confidence = row_status(chunk)
                else:
                    chunk = empty_chunk(Observation(now, "", state), policy)
                schedule.add(chunk)
                if self._video:
                    views = {**images, OUTSIDE_CAMERA: world.photograph(OUTSIDE_CAMERA, OUTSIDE_SIZE, pretty=False)}
                    frames.append(Frame(now, views, status, confidence, phase, controller.mode.value))
                if on_tick is not None:
                    on_tick(now / NANOSECONDS)
            optimizer.observe(state)
            for due in schedule.take(now) or ():
                optimizer.add_chunk(due, now)
            # The reference of a tick is made in the tick before, as the node does.
            reference = upcoming or optimizer.sample(now)
            upcoming = optimizer.sample(now + world.physics.tick)
            command = controller.update(now / NANOSECONDS, state, reference)
            world.step(command.joint)
            scorer.update()
            if not scorer.success:
                success_at = None
            elif success_at is None:
                success_at = world.time / NANOSECONDS
            log.append(state, command.joint, command.status, status, confidence, phase)
        wall = time.perf_counter() - started
        score = scorer.result()
        for collision in score.collisions:
            log.event(round(collision.time * NANOSECONDS), "collision", str(collision))
        assert verdict is not None
        words = "" if verdict.status == "TERMINATED" else verdict.message
        return Episode(
            result=EpisodeResult(
                seed=seed,
                instruction=scene.instruction,
                setting=scene.setting,
                instruction_following=score.instruction_following,
                success=score.success,
                progress=score.progress,
                task_status=last_word,
                sim_seconds=world.time / NANOSECONDS,
                wall_seconds=wall,
                max_joint_jerk=score.max_joint_jerk,
                limit_violations=score.limit_violations,
                collisions=len(score.collisions),
                failure=failure_of(score.success, score.failure, words),
            ),
            trajectory=log.trajectory(),
            digest=score.digest,
            final_poses={name: np.array(pose) for name, pose in score.final_poses.items()},
            frames=frames,
            verdict=verdict.message,
            inference_ms=1000.0 * session.inference_time / max(session.chunks, 1),
            score=score,
            ended=verdict.status,
            word_at=word_at,
            success_at=success_at,
            group=scene.group,
            valid=scene.valid,
        )
