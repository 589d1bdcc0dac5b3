"""The one place that says what a row of actions and a vector of state mean.

GR-3 predicts an action chunk whose columns are joint targets, base motion and, as an additional dimension, the task
status (GR-3 report, sections 2 and 3.1). Hand poses are auxiliary columns: they are what human trajectories supervise,
where there are no joints (section 3.3). Everything but grippers and status is relative to the robot at the chunk's
stamp, so that the same motion elsewhere has the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bytemini_core.types import BASE_COLUMNS, SIDES, Array, RobotState, TaskStatus
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel
from numpy.typing import ArrayLike, NDArray

HORIZON = 16
"""k, rows of a chunk."""
REST = 0.05
"""rad/s and m/s below which a joint or the base is at rest."""
NO_MOTION = 0.02
"""Change of a joint (rad) or of the base (m, rad) that is no motion; for fingers (m) a tenth."""
DT = 0.1
"""Seconds between rows: row i is due (i + 1) DT after the observation."""

STATUS = "task_status"
POSE = ("x", "y", "z", "r11", "r21", "r31", "r12", "r22", "r32")
"""A hand's pose: translation (m) and the first two columns of its rotation matrix."""
HANDS = tuple(f"{side}_hand/{part}" for side in SIDES for part in POSE)
BASE_TWIST = ("base/vx", "base/vy", "base/wz")

Float = NDArray[np.float32]


def pose_vector(pose: ArrayLike) -> Array:
    """(..., 4, 4) homogeneous poses as (..., 9): translation (m), first two columns of the rotation."""
    pose = np.asarray(pose, dtype=np.float64)
    return np.concatenate([pose[..., :3, 3], pose[..., :3, 0], pose[..., :3, 1]], axis=-1)


def pose_matrix(vector: ArrayLike) -> Array:
    """(..., 9) pose vectors as (..., 4, 4); the two columns are made orthonormal (Gram-Schmidt).

    Raises:
        ValueError: the last axis is not 9 long, or a rotation's columns are zero or parallel.
    """
    vector = np.asarray(vector, dtype=np.float64)
    if vector.shape[-1:] != (9,):
        raise ValueError(f"a pose vector has shape {vector.shape}, expected (..., 9)")
    first = vector[..., 3:6]
    first_norm = np.linalg.norm(first, axis=-1, keepdims=True)
    first = first / np.maximum(first_norm, 1e-12)
    second = vector[..., 6:9]
    second = second - (first * second).sum(-1, keepdims=True) * first
    norm = np.linalg.norm(second, axis=-1, keepdims=True)
    if (norm < 1e-6).any() or (first_norm < 1e-6).any():
        raise ValueError("a pose vector's rotation columns are zero or parallel: they are no rotation")
    second = second / norm
    pose = np.zeros((*vector.shape[:-1], 4, 4))
    pose[..., :3, 0] = first
    pose[..., :3, 1] = second
    pose[..., :3, 2] = np.cross(first, second)
    pose[..., :3, 3] = vector[..., :3]
    pose[..., 3, 3] = 1.0
    return pose


@dataclass(frozen=True)
class ActionLayout:
    """Columns of a chunk and entries of the state, of one robot.

    Attributes:
        policy: the 19 columns that leave the model as an `ActionChunk`: 14 arm joints, 2 grippers, 3 base.
        columns: `policy`, then both hands' poses (auxiliary), then the task status.
        state_names: 19 joint positions and velocities, the base's twist, the grippers' efforts, then both hands' poses
            in base_footprint. By posture alone, setting out looks like arriving, and fingers that hold a wide thing
            look like fingers that are still closing.
    """

    policy: tuple[str, ...]
    joints: tuple[str, ...]

    @classmethod
    def of(cls, robot: RobotModel) -> ActionLayout:
        """The layout of a robot model."""
        return cls(tuple(robot.policy_columns), tuple(robot.joint_names))

    @classmethod
    def named(cls, columns: Sequence[str], state_names: Sequence[str]) -> ActionLayout:
        """The layout whose columns and state have these names, as a run or a checkpoint keeps them.

        Raises:
            ValueError: no layout has.
        """
        policy = tuple(columns[: -len(HANDS) - 1])
        layout = cls(policy, tuple(name for name in state_names if "/" not in name))
        if (layout.columns, layout.state_names) != (tuple(columns), tuple(state_names)):
            raise ValueError("the columns and the state have other names than this version gives them: train anew")
        return layout

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that the model predicts."""
        return (*self.policy, *HANDS, STATUS)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Entries of the state vector."""
        velocities = (f"{name}/velocity" for name in self.joints)
        efforts = (f"{name}/effort" for name in self.grippers)
        return (*self.joints, *velocities, *BASE_TWIST, *efforts, *HANDS)

    @property
    def grippers(self) -> tuple[str, ...]:
        """The joints whose effort belongs to the state."""
        return tuple(name for name in self.joints if name.endswith("_gripper_joint"))

    @property
    def status(self) -> int:
        """Index of the status column, the last."""
        return len(self.columns) - 1

    @property
    def hands(self) -> slice:
        """Where the hand columns are."""
        return slice(len(self.policy), len(self.policy) + len(HANDS))

    @property
    def state_rates(self) -> slice:
        """Where velocities and the base's twist are in the state vector."""
        return slice(len(self.joints), 2 * len(self.joints) + len(BASE_TWIST))

    @property
    def state_hands(self) -> slice:
        """Where the hands' poses are in the state vector."""
        return slice(len(self.state_names) - len(HANDS), len(self.state_names))

    def supervised(self, kind: str) -> NDArray[np.bool_]:
        """(columns,) which columns a kind of sample supervises.

        Args:
            kind: "robot": all; "invalid": only the status (GR-3 report, section 3.1); "human": only the hands, for
                there are neither joints nor grippers (section 3.3); "none": a picture without a trajectory.

        Raises:
            ValueError: an unknown kind.
        """
        mask = np.zeros(len(self.columns), dtype=bool)
        match kind:
            case "robot":
                mask[:] = True
            case "invalid":
                mask[self.status] = True
            case "human":
                mask[self.hands] = True
            case "none":
                pass
            case _:
                raise ValueError(f"a sample's kind is {kind!r}, expected robot, invalid, human or none")
        return mask

    def relative_joints(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(columns, joints): which columns are relative to which entries of the measured joint positions."""
        pairs = [
            (i, self.joints.index(name))
            for i, name in enumerate(self.policy)
            if name not in BASE_COLUMNS and not name.endswith("_gripper_joint")
        ]
        columns, joints = zip(*pairs, strict=True)
        return np.array(columns), np.array(joints)


class ChunkCodec:
    """Between physical chunks and the model's columns, and from a robot's state to the model's. Not thread-safe."""

    def __init__(self, robot: RobotModel) -> None:
        self.robot = robot
        self.layout = ActionLayout.of(robot)
        self._kinematics = Kinematics(robot)
        self._relative, self._reference = self.layout.relative_joints()
        self._grippers = [self.layout.joints.index(name) for name in self.layout.grippers]
        self._driven = [
            (column, robot.joint_names.index(name))
            for column, name in enumerate(self.layout.policy)
            if name not in BASE_COLUMNS
        ]

    def position(self, state: RobotState) -> Array:
        """(19,) joint positions in the robot's order.

        Raises:
            ValueError: the state lacks joints of this robot; names them.
        """
        return state.position[self._order(state)]

    def _order(self, state: RobotState) -> slice | list[int]:
        if state.names == self.layout.joints:
            return slice(None)
        at = {name: i for i, name in enumerate(state.names)}
        missing = [name for name in self.layout.joints if name not in at]
        if missing:
            raise ValueError(f"the robot's state lacks {', '.join(missing)}; the policy was trained with them")
        return [at[name] for name in self.layout.joints]

    def hands(self, position: ArrayLike, base: ArrayLike = (0.0, 0.0, 0.0)) -> Array:
        """(2, 4, 4) poses of both tcps in base_footprint, or in odom for a base pose."""
        return np.stack([self._kinematics.forward(f"{side}_tcp", position, base) for side in SIDES])

    def state(self, state: RobotState) -> Float:
        """The model's (61,) state vector.

        Raises:
            ValueError: see `position`.
        """
        order = self._order(state)
        position, effort = state.position[order], state.effort[order][self._grippers]
        hands = pose_vector(self.hands(position)).reshape(-1)
        return np.concatenate([position, state.velocity[order], state.base_twist, effort, hands]).astype(np.float32)

    def encode(self, state: RobotState, values: ArrayLike, status: TaskStatus | Sequence[int]) -> Float:
        """A chunk's rows as the model's.

        Args:
            state: the robot at the chunk's stamp.
            values: (k, 19) in the columns of `layout.policy`: joints absolute, base relative to its pose at the stamp.
            status: task status of all rows, or (k,) one each.

        Returns:
            (k, 38): arm joints relative to the measured, hands relative to the present pose of each.
        """
        values = np.asarray(values, dtype=np.float64)
        position = self.position(state)
        rows = np.zeros((len(values), len(self.layout.columns)), dtype=np.float32)
        rows[:, : values.shape[1]] = values
        rows[:, self._relative] -= position[self._reference].astype(np.float32)
        back = np.linalg.inv(self.hands(position))
        columns, joints = zip(*self._driven, strict=True)
        for i, row in enumerate(values):
            posture = position.copy()
            posture[list(joints)] = row[list(columns)]
            rows[i, self.layout.hands] = pose_vector(back @ self.hands(posture, row[-3:])).reshape(-1)
        rows[:, self.layout.status] = np.asarray(status, dtype=np.float32)
        return rows

    def without_wait(self, state: RobotState, values: Float, executed: int) -> Float:
        """A chunk for a robot that stands still, without the wait that it begins with.

        Where some demonstrations go on and others come again, the middle of both waits first. A policy without a clock
        sees the same all the while, and asked again before the wait is over it waits for ever. (Others leave rows
        without motion out of their training data: OpenVLA's regenerate_libero_dataset.py.)

        Args:
            state: the robot at the chunk's stamp.
            values: (k, 19) as `decode` gives them.
            executed: rows until it is asked again; a shorter wait passes by itself.

        Returns:
            (k, 19): the rows from the last one that does not move, the very last filling up; the same rows where the
            robot moves, where nothing waits, and where nothing ever moves.
        """
        if max(np.abs(state.velocity).max(), np.abs(state.base_twist).max()) > REST:
            return values
        here, limit = np.zeros(values.shape[1]), np.full(values.shape[1], NO_MOTION)
        position = self.position(state)
        for column, joint in self._driven:
            here[column] = position[joint]
            if self.layout.policy[column] in self.layout.grippers:
                limit[column] = 0.1 * NO_MOTION
        moves = (np.abs(values - here) > limit).any(axis=1)
        first = int(moves.argmax())
        if not moves.any() or first < executed:
            return values
        return np.concatenate([values[first - 1 :], np.repeat(values[-1:], first - 1, axis=0)])

    def decode(self, state: RobotState, rows: ArrayLike) -> tuple[Float, NDArray[np.int8], Float]:
        """The model's rows as physical ones, clamped to the joints' limits and the wrists' tilt disc.

        Args:
            state: the robot at the chunk's stamp.
            rows: (k, 38).

        Returns:
            (k, 19) values, (k,) task status, (k,) its confidence in [0, 1]: 1 where the predicted number is a status,
            0 half-way between two. The status is that of the whole chunk: the mean over its rows, because training
            gives all rows the status of the instant of the observation.
        """
        rows = np.asarray(rows, dtype=np.float64)
        robot = self.robot
        values = rows[:, : len(self.layout.policy)].copy()
        values[:, self._relative] += self.position(state)[self._reference]
        full = np.repeat(robot.home[None], len(values), axis=0)
        columns, joints = (list(part) for part in zip(*self._driven, strict=True))
        full[:, joints] = np.clip(values[:, columns], robot.lower[joints], robot.upper[joints])
        values[:, columns] = np.stack([robot.clamp_wrist(row) for row in full])[:, joints]
        mean = float(rows[:, self.layout.status].mean())
        nearest = round(min(max(mean, -1.0), 1.0))
        confidence = min(max(1.0 - 2.0 * abs(min(max(mean, -1.0), 1.0) - nearest), 0.0), 1.0)
        k = len(values)
        return (
            values.astype(np.float32),
            np.full(k, nearest, dtype=np.int8),
            np.full(k, confidence, dtype=np.float32),
        )
