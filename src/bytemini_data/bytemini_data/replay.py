"""Drive the simulator from a recorded episode and tell how far it strays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bytemini_core.types import (
    NANOSECONDS,
    OBSERVATION_PERIOD,
    SIDES,
    ActionChunk,
    Array,
    Observation,
    PolicyMetadata,
    TaskStatus,
)
from numpy.typing import NDArray

from bytemini_data.check import robot_of
from bytemini_data.features import ACTION, ODOM, STATE, TASK_STATUS, policy_chunk
from bytemini_data.lerobot.reader import Dataset
from bytemini_data.lerobot.schema import DatasetError

HORIZON = 16


@dataclass(frozen=True)
class Replayed:
    """How a replay went: `success` of it; errors of measured against recorded at the frames' times.

    `arm_rms`, `arm_max`: rad, over arm joints; `joint_rms`: rad or m per joint; `base_rms`: m; `frames` compared.
    """

    episode: int
    success: bool
    recorded_success: bool
    frames: int
    arm_rms: float
    arm_max: float
    base_rms: float
    joint_rms: dict[str, float]


class RecordedPolicy:
    """Gives the recorded actions as chunks, by the time since the episode's start. A `Policy`."""

    def __init__(
        self,
        state: Array,
        action: Array,
        status: NDArray[np.int64],
        names: tuple[str, ...],
        columns: tuple[str, ...],
        dt: float,
    ) -> None:
        self._state, self._action, self._status = state, action, status
        self._names, self._columns, self._dt = names, columns, dt
        self._start: int | None = None

    @property
    def metadata(self) -> PolicyMetadata:
        """What it is."""
        return PolicyMetadata("replay", self._columns, HORIZON, self._dt)

    def reset(self) -> None:
        """Begin again."""
        self._start = None

    def infer(
        self,
        observation: Observation,
        prefix: NDArray[np.float32] | None = None,  # noqa: ARG002
        noise: NDArray[np.float32] | None = None,  # noqa: ARG002
    ) -> ActionChunk:
        """The recorded actions from this time on; when they are over, that the task is done."""
        if self._start is None:
            self._start = observation.stamp
        frame = round((observation.stamp - self._start) / NANOSECONDS / self._dt)
        last = len(self._action) - 1
        rows = self._action[np.minimum(frame + np.arange(HORIZON), last)]
        state = np.concatenate((self._state[min(frame, last), :-3], observation.state.base_pose))
        over = frame > last
        status = np.full(HORIZON, TaskStatus.TERMINATED if over else TaskStatus.ONGOING, dtype=np.int8)
        return ActionChunk(
            stamp=observation.stamp,
            sequence=0,
            names=self._columns,
            dt=self._dt,
            values=policy_chunk(state, rows, self._names, self._columns),
            task_status=status,
            confidence=np.ones(HORIZON, dtype=np.float32),
            instruction=observation.instruction,
            policy="replay",
        )


def replay(root: Path, episode: int) -> Replayed:
    """Replay one episode in the simulator, in the scene that its card names.

    Raises:
        DatasetError: the dataset is malformed, or the episode was not recorded in the simulator.
        ValueError: the dataset has no such episode.
    """
    dataset = Dataset(root, episodes=[episode], cameras=())
    row = dataset.rows[0]
    card = json.loads(row.fields.get("card") or "{}")
    setup = card.get("setup")
    if not setup:
        raise DatasetError(
            f"{root}: episode {episode} has no scene of the simulator in its card: nothing to replay it in"
        )
    robot = robot_of(dataset.schema.robot_type)
    from bytemini_sim.episode import RolloutOptions
    from bytemini_sim.inproc import InprocRunner

    if not np.isclose(dataset.fps * OBSERVATION_PERIOD, 1.0):
        stride = round(dataset.fps * OBSERVATION_PERIOD)
        if stride < 1 or not np.isclose(stride / dataset.fps, OBSERVATION_PERIOD):
            raise DatasetError(
                f"{root}: {dataset.fps} fps is no multiple of the simulator's {1 / OBSERVATION_PERIOD:g}"
            )
    stride = round(dataset.fps * OBSERVATION_PERIOD)
    state = dataset.column(STATE)[::stride].astype(np.float64)
    # The action of a frame says where to be a frame later: of a coarser one, the last of its fine ones.
    action = dataset.column(ACTION)[stride - 1 :: stride].astype(np.float64)
    frames = min(len(state), len(action))
    state, action = state[:frames], action[:frames]
    status = dataset.column(TASK_STATUS)[::stride][:frames]
    policy = RecordedPolicy(state, action, status, dataset.names(ACTION), robot.policy_columns, OBSERVATION_PERIOD)
    options = RolloutOptions(
        task=setup["task"],
        setting=setup["setting"],
        robot=robot.version,
        instruction=setup["instruction"],
        cameras=False,
        outside=False,
    )
    runner = InprocRunner(options, policy=policy)
    try:
        result = runner.run(setup["seed"])
    finally:
        runner.close()
    trajectory = result.trajectory
    at = np.searchsorted(
        trajectory.stamp, trajectory.stamp[0] + np.arange(frames) * round(OBSERVATION_PERIOD * NANOSECONDS)
    )
    at = at[at < len(trajectory)]
    measured = np.concatenate((trajectory.position[at], trajectory.base_pose[at]), axis=1)
    error = measured - state[: len(at)]
    names = dataset.names(STATE)
    arms = [i for i, name in enumerate(names) if name.startswith(SIDES) and "gripper" not in name]
    base = [names.index(name) for name in ODOM[:2]]
    each = np.sqrt((error**2).mean(0))
    return Replayed(
        episode=row.index,
        success=result.result.success,
        recorded_success=bool(row.fields.get("success")),
        frames=len(at),
        arm_rms=float(np.sqrt((error[:, arms] ** 2).mean())),
        arm_max=float(np.abs(error[:, arms]).max()),
        base_rms=float(np.sqrt((error[:, base] ** 2).sum(1).mean())),
        joint_rms={name: round(float(value), 6) for name, value in zip(names, each, strict=True)},
    )
