"""Pictures of the controller: where the left hand reaches and how well, and how the benchmark's path is followed.

python -m wbc_controller.benchmarks.pictures --out src/wbc_controller/results
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path as FilePath
from typing import Any

import casadi as ca
import numpy as np
from bytemini_core.types import Array
from bytemini_description.robot import RobotModel, load_robot

from wbc_controller.benchmarks.path import DURATION, Path
from wbc_controller.benchmarks.peers import DT
from wbc_controller.benchmarks.wbc import Ours, Planned, ten_pairs
from wbc_controller.graph import BASE, Graph
from wbc_controller.model import Frames
from wbc_controller.solver import CompiledTick
from wbc_controller.tree import Tree

_CELL = 0.03  # m


def reach(robot: RobotModel, postures: int, seed: int = 0) -> tuple[Array, Array]:
    """Places (postures, 3) of the left hand over random postures of its arm, the lift at home, and manipulability."""
    graph, frame = Graph(Tree(robot.urdf), robot.joint_names), Frames().hands[0]
    place = graph.placement(frame)
    arm = robot.indices(robot.arm_joints("left"))
    jacobian = ca.vertcat(*graph.jacobian(frame, place.translation))[:, [BASE + int(i) for i in arm]]
    spread = ca.sqrt(ca.fmax(ca.det(ca.mtimes(jacobian, jacobian.T)), 0.0))
    function = ca.Function("reach", [graph.q], [place.translation, spread], {"cse": True}).map(postures)
    rng = np.random.default_rng(seed)
    q = np.tile(np.concatenate((np.zeros(BASE), robot.home)), (postures, 1))
    q[:, BASE + arm] = rng.uniform(robot.lower[arm], robot.upper[arm], (postures, len(arm)))
    places, values = function(q.T)
    return np.array(places).T, np.array(values)[0]


def follow(robot: RobotModel, preview: bool) -> tuple[Array, Array]:
    """Drive the colliding path: error of the left hand (ticks,) in m and jerk over all variables (ticks,), RMS."""
    from bytemini_description.kinematics import Kinematics

    problem, ticks = ten_pairs(robot), round(DURATION / DT)
    if preview:
        ours: Ours = Planned("preview", robot, problem, Path(robot, crossing=True, step=False))
    else:
        ours = Ours("tick", robot, CompiledTick(problem), problem)
    path, kinematics = Path(robot, crossing=True), Kinematics(robot)
    q, errors = np.zeros((ticks, BASE + len(robot.joint_names))), np.zeros(ticks)
    for k in range(ticks):
        targets = [path.at(hand, (k + 1) * DT) for hand in (0, 1)]
        q[k], _ = ours.step(targets)
        errors[k] = np.linalg.norm(kinematics.forward("left_tcp", q[k, 3:], q[k, :3])[:3, 3] - targets[0].position)
    jerk = np.diff(q, 3, axis=0) / DT**3
    return errors, np.sqrt(np.mean(jerk**2, axis=1))


def _cells(across: Array, up: Array, values: Array) -> tuple[Array, tuple[float, float, float, float]]:
    """The best value in every cell of a view, NaN where none fell."""
    low, high = (np.floor((across.min(), up.min())), np.ceil((across.max(), up.max())))
    shape = np.ceil((high - low) / _CELL).astype(int) + 1
    best = np.full(shape, np.nan)
    index = (((across - low[0]) / _CELL).astype(int), ((up - low[1]) / _CELL).astype(int))
    for i, j, value in zip(*index, values, strict=True):
        best[i, j] = np.fmax(best[i, j], value)
    return best.T, (low[0], low[0] + shape[0] * _CELL, low[1], low[1] + shape[1] * _CELL)


def main(argv: list[str]) -> int:
    """Draw the reachability and manipulability of the left hand, and how the tick and the preview follow a path."""
    parser = argparse.ArgumentParser(prog="pictures", description=main.__doc__)
    parser.add_argument("--out", type=FilePath, default=FilePath(), help="folder of the pictures")
    parser.add_argument("--postures", type=int, default=60_000, help="default: %(default)s")
    parser.add_argument("--robot", choices=("v1", "v2"), default="v1", help="default: %(default)s")
    arguments = parser.parse_args(argv)
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    robot = load_robot(arguments.robot)
    arguments.out.mkdir(parents=True, exist_ok=True)
    places, values = reach(robot, arguments.postures)
    views = (("x", "z", 0, 2), ("y", "z", 1, 2), ("x", "y", 0, 1))
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    for axis, (across, up, i, j) in zip(axes, views, strict=True):
        best, extent = _cells(places[:, i], places[:, j], values)
        picture: Any = axis.imshow(best, origin="lower", extent=extent, cmap="viridis", vmin=0.0)
        axis.set_xlabel(f"{across} (m)")
        axis.set_ylabel(f"{up} (m)")
    figure.colorbar(picture, ax=axes, label="best manipulability of the left arm")
    figure.savefig(arguments.out / "reach.png", dpi=70)

    figure, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True, constrained_layout=True)
    time = DT * np.arange(1, round(DURATION / DT) + 1)
    for name, preview in (("tick alone", False), ("with preview", True)):
        errors, jerk = follow(robot, preview)
        axes[0].semilogy(time, 1e3 * errors, label=name, linewidth=0.9)
        axes[1].semilogy(time[3:], jerk, label=name, linewidth=0.7)
    axes[0].set_ylabel("left hand off (mm)")
    axes[1].set_ylabel("jerk, RMS (rad/s^3)")
    axes[1].set_xlabel("s; a step of 5 cm at 6 s")
    axes[0].legend()
    figure.savefig(arguments.out / "tracking.png", dpi=70)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
