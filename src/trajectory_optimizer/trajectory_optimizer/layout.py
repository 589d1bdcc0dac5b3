"""Which columns a plan has and how a chunk's columns become them: by name, never by position.

Joints are planned as they are. The base is planned in odom: a chunk's displacement (dx, dy, dyaw), given in the base
frame at its stamp, composes with the base pose (x, y, yaw) measured at that stamp on SE(2),

    (x, y, yaw) o (dx, dy, dyaw) = (x + cos(yaw) dx - sin(yaw) dy, y + sin(yaw) dx + cos(yaw) dy, yaw + dyaw)

Cartesian columns are the pose of a `{side}_tcp` in the base frame at the chunk's stamp: `{side}_hand/x`, `/y`, `/z`
and the first two columns of its rotation matrix, `/r11`, `/r21`, `/r31`, `/r12`, `/r22`, `/r32`. They too are planned
in odom: the position as it is, the rotation as a vector about an anchor (`rotation`): a hand turns on SO(3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from bytemini_core.types import BASE_COLUMNS, SIDES
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray

from trajectory_optimizer import rotation
from trajectory_optimizer.config import TrajectoryConfig
from trajectory_optimizer.limits import Disc, Limits

Array = NDArray[np.float64]


HAND_POSITION = ("x", "y", "z")
HAND_ROTATION = ("r11", "r21", "r31", "r12", "r22", "r32")


@dataclass(frozen=True, slots=True)
class Hand:
    """Cartesian columns of one hand: `position` and `turn` (rotation vector) in the plan, `rotation` in the chunk."""

    side: str
    position: slice
    turn: slice
    rotation: NDArray[np.intp]

    @property
    def frame(self) -> str:
        """The frame that the columns place."""
        return f"{self.side}_tcp"


@dataclass(frozen=True, eq=False)
class Layout:
    """The columns of a plan: the base, hands, joints that are not grippers, then the grippers.

    `names`: of a chunk, in its order. `joints`: names of the planned joints, which are the plan's columns from `first`
    on, in its order. `source`: (D,) the chunk's column of each plan column (for a hand's turn: of its rotation's).
    `base`: columns of x, y, yaw, or None. `smooth`: the number of columns before the grippers. `slack`: (D,) how far a
    target may pass a position limit before its chunk is refused.
    """

    names: tuple[str, ...]
    joints: tuple[str, ...]
    first: int
    source: NDArray[np.intp]
    base: slice | None
    hands: tuple[Hand, ...]
    smooth: int
    limits: Limits
    slack: Array

    @cached_property
    def in_order(self) -> bool:
        """Whether a chunk's columns stand as the plan's do."""
        return len(self.source) == len(self.names) and bool((self.source == np.arange(len(self.source))).all())

    def targets(self, values: NDArray[np.float32], base: Array, start: Array, anchors: Mapping[str, Array]) -> Array:
        """The chunk's rows (k, columns) as plan columns (k, D).

        Args:
            values: the rows.
            base: (3,) pose of the base in odom at the chunk's stamp.
            start: (D,) where the plan was then: rotations go on from there.
            anchors: (3, 3) rotation about which each hand's turn is taken, by side.

        Raises:
            ValueError: a hand's rotation is none, or too far from its anchor.
        """
        rows = values.astype(np.float64) if self.in_order else values.take(self.source, 1).astype(np.float64)
        x, y, yaw = (float(v) for v in base)
        cos, sin = np.cos(yaw), np.sin(yaw)
        turned = np.array([[cos, sin], [-sin, cos]])
        if self.base is not None:
            rows[:, :2] = rows[:, :2] @ turned
            rows[:, :3] += (x, y, yaw)
        for hand in self.hands:
            i = hand.position.start
            rows[:, i : i + 2] = rows[:, i : i + 2] @ turned + (x, y)
            there = rotation.from_columns(values.take(hand.rotation, 1).astype(np.float64))
            rise = anchors[hand.side].T @ np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
            turn = rotation.unwrapped(rotation.log(rise @ there), start[hand.turn])
            if (np.linalg.norm(turn, axis=1) > rotation.SINGULAR).any():
                raise ValueError(f"{hand.side}_hand turns more than {rotation.SINGULAR} rad from where it last rested")
            rows[:, hand.turn] = turn
        return rows


def make_layout(robot: RobotModel, names: Sequence[str], config: TrajectoryConfig) -> Layout:
    """The layout for a chunk's column names.

    Raises:
        ValueError: an unknown name, or some but not all columns of the base or of a hand.
    """
    names = tuple(names)
    groups = {"the base": BASE_COLUMNS} | {
        f"{side}_hand": tuple(f"{side}_hand/{part}" for part in (*HAND_POSITION, *HAND_ROTATION)) for side in SIDES
    }
    known = {*robot.joint_names, *(name for group in groups.values() for name in group)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"unknown columns {', '.join(unknown)}; expected joints of the robot, {', '.join(BASE_COLUMNS)} or "
            f"{{left,right}}_hand/{{{','.join((*HAND_POSITION, *HAND_ROTATION))}}}"
        )
    if not names:
        raise ValueError("no columns; expected joints of the robot, the base or a hand")
    for what, group in groups.items():
        missing = [name for name in group if name not in names]
        if 0 < len(missing) < len(group):
            raise ValueError(f"columns of {what} without {', '.join(missing)}; expected all of them or none")
    index = {name: i for i, name in enumerate(names)}
    base = [name for name in BASE_COLUMNS if name in index]
    sides = [side for side in SIDES if f"{side}_hand/x" in index]
    grippers = [robot.gripper_joint(side) for side in SIDES]
    body = [name for name in robot.joint_names if name in index and name not in grippers]
    crisp = [name for name in grippers if name in index]
    # Six columns a hand; those of its turn stand under the names of the rotation that they come from.
    order = [
        *base,
        *(f"{s}_hand/{part}" for s in sides for part in (*HAND_POSITION, *HAND_ROTATION[:3])),
        *body,
        *crisp,
    ]
    hands = tuple(
        Hand(
            side,
            slice(len(base) + 6 * n, len(base) + 6 * n + 3),
            slice(len(base) + 6 * n + 3, len(base) + 6 * n + 6),
            np.array([index[f"{side}_hand/{part}"] for part in HAND_ROTATION], dtype=np.intp),
        )
        for n, side in enumerate(sides)
    )
    return Layout(
        names=names,
        joints=(*body, *crisp),
        first=len(base) + 6 * len(sides),
        source=np.array([index[name] for name in order], dtype=np.intp),
        base=slice(0, 3) if base else None,
        hands=hands,
        smooth=len(order) - len(crisp),
        limits=_limits(robot, order, {name: i for i, name in enumerate(order)}, hands, config),
        slack=_slack(robot, order, config),
    )


def _slack(robot: RobotModel, order: Sequence[str], config: TrajectoryConfig) -> Array:
    """(D,) how far a target may pass a position limit before the chunk is refused."""
    index = {name: i for i, name in enumerate(robot.joint_names)}
    return np.array(
        [config.outside * float(robot.upper[index[n]] - robot.lower[index[n]]) if n in index else 0.0 for n in order]
    )


def _limits(
    robot: RobotModel, order: Sequence[str], column: dict[str, int], hands: Sequence[Hand], config: TrajectoryConfig
) -> Limits:
    size = len(order)
    index = {name: i for i, name in enumerate(robot.joint_names)}
    lower, upper = np.full(size, -np.inf), np.full(size, np.inf)
    velocity, acceleration, jerk = np.ones(size), np.ones(size), np.ones(size)
    linear = np.zeros(size, dtype=bool)
    for name, i in column.items():
        if name in index:
            j = index[name]
            lower[i], upper[i] = robot.lower[j], robot.upper[j]
            velocity[i], acceleration[i], jerk[i] = robot.velocity[j], robot.acceleration[j], robot.jerk[j]
            linear[i] = robot.upper[j] <= 0.5 and ("gripper" in name or "lift" in name)
    discs = []
    if BASE_COLUMNS[0] in column:
        i = column[BASE_COLUMNS[0]]
        linear[i : i + 2] = True
        translation, rotation = _base_limits(robot)
        for values, speed, turn in zip((velocity, acceleration, jerk), translation, rotation, strict=True):
            values[i : i + 2], values[i + 2] = speed, turn
        fraction = config.limit_fraction
        discs += [Disc(i, i + 1, k + 1, fraction * translation[k]) for k in range(3)]
    for hand in hands:
        for part, speeds in (
            (hand.position, (config.hand_velocity, config.hand_acceleration, config.hand_jerk)),
            (hand.turn, (config.hand_angular_velocity, config.hand_angular_acceleration, config.hand_angular_jerk)),
        ):
            for values, speed in zip((velocity, acceleration, jerk), speeds, strict=True):
                values[part] = speed / np.sqrt(3.0)  # each axis its share: the limit holds in every direction
        linear[hand.position] = True
    for side in SIDES:
        pitch, roll = (column.get(f"{side}_wrist_{axis}_joint") for axis in ("pitch", "roll"))
        if pitch is not None and roll is not None:
            discs.append(Disc(pitch, roll, 0, robot.wrist_tilt_limit))
    fraction = config.limit_fraction
    grippers = {robot.gripper_joint(side) for side in SIDES}
    crisp = np.array([name in grippers for name in order])
    return Limits(
        lower=lower,
        upper=upper,
        velocity=velocity * fraction,
        acceleration=acceleration * fraction,
        jerk=jerk * fraction,
        tolerance=np.where(linear, config.tolerance_linear, config.tolerance_angular),
        agreement=np.where(linear, config.agreement_linear, config.agreement_angular),
        # A gripper may be told to open or close at once.
        jump=np.where(crisp, np.inf, np.where(linear, config.jump_linear, config.jump_angular)),
        crisp=crisp,
        discs=tuple(discs),
    )


def _base_limits(robot: RobotModel) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Velocity, acceleration and jerk bounds in odom that keep the *twist* (vx, vy, wz) of the base within its own.

    The plan lives in odom, the limits in the turning base frame. With R the base's rotation, v_b = R^T v and

        v_b'  = R^T a - w x v_b
        v_b'' = R^T j - 2 w x R^T a - w' x v_b + w x (w x v_b)

    so what the turning adds at worst is taken off beforehand. Never below a third of the limit: where a robot turns so
    fast that this binds, the last gate (the whole-body controller) still holds the limit itself.
    """
    speed, turn = float(min(robot.base_policy_velocity[:2])), float(robot.base_policy_velocity[2])
    acceleration, spin = float(min(robot.base_acceleration[:2])), float(robot.base_acceleration[2])
    jerk = float(min(robot.base_jerk[:2]))
    a = max(acceleration - turn * speed, acceleration / 3.0)
    j = max(jerk - 2.0 * turn * a - spin * speed - turn * turn * speed, jerk / 3.0)
    return (speed, a, j), (turn, spin, float(robot.base_jerk[2]))
