"""Which columns a plan has and how a chunk's columns become them: by name, never by position.

Joints are planned as they are. The base is planned in odom: a chunk's displacement (dx, dy, dyaw), given in the base
frame at its stamp, composes with the base pose (x, y, yaw) measured at that stamp on SE(2),

    (x, y, yaw) o (dx, dy, dyaw) = (x + cos(yaw) dx - sin(yaw) dy, y + sin(yaw) dx + cos(yaw) dy, yaw + dyaw)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bytemini_core.types import BASE_COLUMNS, SIDES
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray

from trajectory_optimizer.config import TrajectoryConfig
from trajectory_optimizer.limits import Disc, Limits

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Layout:
    """The columns of a plan: joints that are not grippers, then the base, then the grippers.

    `names`: of a chunk, in its order. `joints`: names of the planned joints in the plan's order, with `joint_at` their
    (J,) columns in the plan. `source`: (D,) the chunk's column of each plan column. `base`: columns of x, y, yaw, or
    None. `smooth`: the number of columns before the grippers.
    """

    names: tuple[str, ...]
    joints: tuple[str, ...]
    joint_at: NDArray[np.intp]
    source: NDArray[np.intp]
    base: slice | None
    smooth: int
    limits: Limits
    slack: Array

    def targets(self, values: NDArray[np.float32], base: Array) -> Array:
        """(k, D) the chunk's rows (k, columns) as plan columns; `base`: (3,) pose in odom at the chunk's stamp."""
        rows = values.take(self.source, 1).astype(np.float64)
        if self.base is not None:
            x, y, yaw = (float(v) for v in base)
            cos, sin = np.cos(yaw), np.sin(yaw)
            i = self.base.start
            dx, dy = rows[:, i].copy(), rows[:, i + 1].copy()
            rows[:, i] = x + cos * dx - sin * dy
            rows[:, i + 1] = y + sin * dx + cos * dy
            rows[:, i + 2] += yaw
        return rows


def make_layout(robot: RobotModel, names: Sequence[str], config: TrajectoryConfig) -> Layout:
    """The layout for a chunk's column names.

    Raises:
        ValueError: an unknown name, or some but not all columns of the base.
    """
    names = tuple(names)
    index = {name: i for i, name in enumerate(robot.joint_names)}
    unknown = [name for name in names if name not in index and name not in BASE_COLUMNS]
    if unknown:
        raise ValueError(
            f"unknown columns {', '.join(unknown)}; expected joints of the robot or {', '.join(BASE_COLUMNS)}"
        )
    present = [name for name in BASE_COLUMNS if name in names]
    if present and len(present) < len(BASE_COLUMNS):
        missing = sorted(set(BASE_COLUMNS) - set(present))
        raise ValueError(f"columns {', '.join(present)} without {', '.join(missing)}; expected all of the base or none")
    if not names:
        raise ValueError("no columns; expected joints of the robot or the base")
    grippers = [robot.gripper_joint(side) for side in SIDES]
    body = [name for name in robot.joint_names if name in names and name not in grippers]
    crisp = [name for name in grippers if name in names]
    order = [*body, *present, *crisp]
    column = {name: i for i, name in enumerate(order)}
    joints = (*body, *crisp)
    start = len(body)
    return Layout(
        names=names,
        joints=joints,
        joint_at=np.array([column[name] for name in joints], dtype=np.intp),
        source=np.array([names.index(name) for name in order], dtype=np.intp),
        base=slice(start, start + 3) if present else None,
        smooth=len(order) - len(crisp),
        limits=_limits(robot, order, column, config),
        slack=_slack(robot, order, config),
    )


def _slack(robot: RobotModel, order: Sequence[str], config: TrajectoryConfig) -> Array:
    """(D,) how far a target may pass a position limit before the chunk is refused."""
    index = {name: i for i, name in enumerate(robot.joint_names)}
    return np.array(
        [config.outside * float(robot.upper[index[n]] - robot.lower[index[n]]) if n in index else 0.0 for n in order]
    )


def _limits(robot: RobotModel, order: Sequence[str], column: dict[str, int], config: TrajectoryConfig) -> Limits:
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
    for side in SIDES:
        pitch, roll = (column.get(f"{side}_wrist_{axis}_joint") for axis in ("pitch", "roll"))
        if pitch is not None and roll is not None:
            discs.append(Disc(pitch, roll, 0, robot.wrist_tilt_limit))
    fraction = config.limit_fraction
    grippers = {robot.gripper_joint(side) for side in SIDES}
    return Limits(
        lower=lower,
        upper=upper,
        velocity=velocity * fraction,
        acceleration=acceleration * fraction,
        jerk=jerk * fraction,
        tolerance=np.where(linear, config.tolerance_linear, config.tolerance_angular),
        agreement=np.where(linear, config.agreement_linear, config.agreement_angular),
        jump=np.where(linear, config.jump_linear, config.jump_angular),
        crisp=np.array([name in grippers for name in order]),
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
