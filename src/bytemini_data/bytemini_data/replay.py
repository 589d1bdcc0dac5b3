"""Drive the simulator from a recorded episode and tell how far it strays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bytemini_core.types import NANOSECONDS, OBSERVATION_PERIOD, SIDES
from gr3_policy_node.replay import Recording, ReplayPolicy

from bytemini_data.check import robot_of
from bytemini_data.features import ACTION, EMBODIMENT, ODOM, STATE, Embodiment
from bytemini_data.lerobot.reader import Dataset
from bytemini_data.lerobot.schema import DatasetError


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


def read(root: Path, episode: int) -> Recording:
    """An episode of a dataset, for a policy that plays it again.

    Raises:
        ValueError: the dataset is malformed or has no such episode, or it is a person's, who has no joints.
    """
    try:
        dataset = Dataset(root, episodes=[episode], cameras=())
        return recording(dataset)
    except DatasetError as error:
        raise ValueError(str(error)) from None


def recording(dataset: Dataset) -> Recording:
    """The first of a dataset's chosen episodes: where it began, then where the robot was to be frame by frame.

    Raises:
        DatasetError: it is a person's, who has no joints.
    """
    row, span = dataset.rows[0], dataset.span(0)
    if str(dataset.column(EMBODIMENT)[span.start]) == Embodiment.HUMAN:
        raise DatasetError(f"{dataset.root}: episode {row.index} is a person's, expected a robot's: it has no joints")
    state, action = (dataset.column(name)[span.start : span.stop].astype(np.float64) for name in (STATE, ACTION))
    rows = np.concatenate((state[:1], action))
    stamp = np.round(np.arange(len(rows)) * (NANOSECONDS / dataset.fps)).astype(np.int64)
    return Recording(f"{dataset.root.name}#{row.index}", dataset.names(ACTION)[:-3], stamp, rows[:, :-3], rows[:, -3:])


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

    stride = dataset.fps * OBSERVATION_PERIOD
    if stride < 1 or not np.isclose(stride, round(stride)):
        raise DatasetError(f"{root}: {dataset.fps} fps is no multiple of the simulator's {1 / OBSERVATION_PERIOD:g}")
    state = dataset.column(STATE)[:: round(stride)].astype(np.float64)
    frames = len(state)
    policy = ReplayPolicy(robot, recording(dataset))
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
