"""A recorded episode as a policy: what a rollout or a dataset kept, once more.

Who records says how it is read: packages offer readers as entry points of the group `bytemini.recordings`, a callable
`read(path, episode) -> Recording`, so that this package plays recordings without knowing their files.

It needs no network and no model, so that a robot, a bench or a server can be tried dry. The joints go where they were
commanded, at the same time after the start; the base drives the recorded way from where it stands. It looks at nothing:
what lies elsewhere than it lay is missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from bytemini_core.types import NANOSECONDS, ActionChunk, Array, Observation, PolicyMetadata, TaskStatus
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray

from gr3_policy_node.delay import reanchor

HORIZON = 16
DT = 0.1

START = 0.2
"""How far (rad) an arm's joint may be from the recording's first posture, for the robot not to leap."""

GROUP = "bytemini.recordings"


@dataclass(frozen=True)
class Recording:
    """What an episode's policy did.

    Attributes:
        name: what it is called.
        names: of the n joints.
        stamp: (T,) nanoseconds, increasing.
        command: (T, n) commanded positions, rad or m.
        base: (T, 3) x, y, yaw in odom, m and rad.
    """

    name: str
    names: tuple[str, ...]
    stamp: NDArray[np.int64]
    command: Array
    base: Array


class ReplayPolicy:
    """Plays a recording. A `Policy` (bytemini_core.types)."""

    def __init__(self, robot: RobotModel, recording: Recording) -> None:
        """Take a recording.

        Raises:
            ValueError: it has not the robot's joints, or is too short.
        """
        name, names, stamp = recording.name, recording.names, recording.stamp
        self.metadata = PolicyMetadata(name, robot.policy_columns, HORIZON, DT, extra={"scripted": True})
        joints = [column for column in robot.policy_columns if not column.startswith("base/")]
        if missing := [joint for joint in joints if joint not in names]:
            raise ValueError(f"recording {name} has no {', '.join(missing)}, which robot {robot.version} moves")
        if len(stamp) < 2:
            raise ValueError(
                f"recording {name} has {len(stamp)} instants in which the policy drove, expected 2 or more"
            )
        self._joints = tuple(joints)
        self._arms = tuple(joint for joint in joints if "gripper" not in joint)
        self._time = (stamp - stamp[0]) / NANOSECONDS
        self._values = recording.command[:, [names.index(joint) for joint in joints]]
        self._base = np.column_stack([recording.base[:, :2], np.unwrap(recording.base[:, 2])])
        self._start: tuple[int, Array] | None = None

    def reset(self) -> None:
        """Play from the beginning."""
        self._start = None

    def infer(
        self,
        observation: Observation,
        prefix: NDArray[np.float32] | None = None,  # noqa: ARG002 (a recording continues nothing)
        noise: NDArray[np.float32] | None = None,  # noqa: ARG002
    ) -> ActionChunk:
        """The recording's next 1.6 s.

        Raises:
            ValueError: the robot does not stand as the recording begins.
        """
        state = observation.state
        if self._start is None:
            self._check_start(observation)
            self._start = observation.stamp, state.base_pose
        begun, origin = self._start
        now = (observation.stamp - begun) / NANOSECONDS
        times = now + DT * np.arange(1, HORIZON + 1)
        columns = [np.interp(times, self._time, column) for column in (*self._values.T, *self._base.T)]
        recorded = np.stack(columns, axis=1)
        base = ("base/x", "base/y", "base/yaw")
        # From odom to the recording's first pose, from there to where this robot stands now.
        way = reanchor(recorded[:, -3:], base, np.zeros(3), self._base[0])
        recorded[:, -3:] = reanchor(way, base, origin, state.base_pose)
        order = [(*self._joints, *base).index(column) for column in self.metadata.columns]
        status = np.where(times > self._time[-1] + DT, TaskStatus.TERMINATED, TaskStatus.ONGOING)
        return ActionChunk(
            observation.stamp,
            0,
            self.metadata.columns,
            DT,
            recorded[:, order].astype(np.float32),
            status.astype(np.int8),
            np.ones(HORIZON, dtype=np.float32),
            observation.instruction,
            self.metadata.name,
        )

    def _check_start(self, observation: Observation) -> None:
        state = observation.state
        for joint in self._arms:
            first = self._values[0, self._joints.index(joint)]
            off = abs(state.position[state.names.index(joint)] - first)
            if off > START:
                raise ValueError(
                    f"{joint} is {off:.2f} rad from where the recording begins ({first:.2f}), expected at most "
                    f"{START}: bring the arms there first"
                )


def load_replay(where: str, robot: RobotModel) -> ReplayPolicy:
    """What a rollout or a dataset recorded.

    Args:
        where: `FILE.npz` of a rollout, or `FOLDER` of a LeRobotDataset, whose first episode it is, or `FOLDER#7`.
        robot: that plays it.

    Raises:
        ValueError: it is not there, cannot be read, or is not this robot's.
    """
    path, episode = _place(where)
    kind = "dataset" if path.is_dir() else "rollout"
    for entry in entry_points(group=GROUP, name=kind):
        recording: Recording = entry.load()(path, episode)
        return ReplayPolicy(robot, recording)
    raise ValueError(f"nothing here reads the recording of a {kind}: run ./bytemini setup")


def is_recording(where: str) -> bool:
    """Whether there is a file or folder for `load_replay` to try."""
    return _place(where)[0].exists()


def _place(where: str) -> tuple[Path, int]:
    path, mark, number = where.rpartition("#")
    if mark and number.isdecimal():
        return Path(path).expanduser(), int(number)
    return Path(where).expanduser(), 0
