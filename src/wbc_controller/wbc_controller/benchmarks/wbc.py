"""`./bytemini bench wbc`: the tick's time, tracking and jerk beside mink and pink, in one run and one thread."""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from bytemini_core.errors import UserError
from bytemini_core.types import SIDES, Array
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel, load_robot
from rich.console import Console
from rich.table import Table

from wbc_controller.benchmarks.fuzz import run_fuzz
from wbc_controller.benchmarks.judge import nearest
from wbc_controller.benchmarks.path import DURATION, STEP, STEP_TIME, Path, Target
from wbc_controller.benchmarks.peers import DISTANCE, DT, POSITION, POSTURE, ROTATION, Mink, Peer, Pink
from wbc_controller.horizon import KNOTS, STRIDE, Planner, Preview
from wbc_controller.model import robot_problem
from wbc_controller.problem import Pair, Problem
from wbc_controller.proximity import ITEM
from wbc_controller.solver import CompiledTick, FallbackTick, TickSolver
from wbc_controller.weights import LOOSE, Weights

WARM = 100  # first ticks, left out of the times
SMOOTH = slice(round(1.0 / DT), round(STEP_TIME / DT) - 5)  # where errors and jerk are judged
_ARMS = [f"{side}_{link}" for side in ("left", "right") for link in ("forearm_link", "hand_link")]
PAIRS = frozenset(
    [
        *(frozenset((a, b)) for a in _ARMS[:2] for b in _ARMS[2:]),
        *(frozenset((a, "torso_link")) for a in _ARMS),
        *(frozenset((f"{side}_hand_link", "head_link")) for side in ("left", "right")),
    ]
)


def ten_pairs(robot: RobotModel) -> Problem:
    """The robot's problem with the benchmark's ten pairs."""
    return robot_problem(robot, DT, PAIRS)


class Ours:
    """Our tick with everything on: ten pairs, 24 environment rows, manipulability, gaze, posture, exact limits."""

    def __init__(
        self, name: str, robot: RobotModel, solver: TickSolver, problem: Problem, leeway: float = LOOSE
    ) -> None:
        self.name = name
        self._robot, self._solver = robot, solver
        p = {key: solver.parameters[where] for key, where in problem.layout.fields.items()}
        self._p = p
        far = np.full(3, 1e6)
        p["lower"][:], p["upper"][:] = np.concatenate((-far, robot.lower)), np.concatenate((far, robot.upper))
        p["fastest"][:] = np.concatenate((robot.base_velocity, robot.velocity))
        p["hardest"][:] = np.concatenate((robot.base_acceleration, robot.acceleration))
        weights = Weights()
        p["weight"][:] = POSTURE**2
        p["weight"][:3], p["weight"][3] = weights.free_base**2, weights.free_lift**2
        p["manipulability"][:] = weights.manipulability
        p["leeway"][:] = leeway
        p["gaze"][:] = 2.0, 0.0, 0.7, weights.gaze**2, 2.0
        self._hands = [p["left_hand"], p["right_hand"]]
        for given in self._hands:
            given[18:] = POSITION**2, ROTATION**2
        environment = np.zeros((6, ITEM))
        for i, item in enumerate(environment):
            item[:9] = np.eye(3).ravel()
            item[9:] = 0.9, 0.3 * i - 0.75, 0.35, 0.2, 0.1, 0.02, 0.01
        self._environment = environment
        solver.surround(DISTANCE, environment)
        self._q = np.concatenate((np.zeros(3), robot.home))
        self.failures = 0

    def step(self, targets: Sequence[Target]) -> tuple[Array, float]:
        """See `peers.Peer`; filling in the parameters counts."""
        begun = time.perf_counter()
        for given, target in zip(self._hands, targets, strict=True):
            given[:9] = target.rotation.reshape(-1)
            given[9:12] = target.position
            given[12:18] = target.twist
        want = np.zeros(22)
        want[3:] = 0.5 * (self._robot.home - self._q[3:])
        filled = time.perf_counter() - begun
        q, spent = self._advance(want)
        return q, filled + spent

    def _advance(self, want: Array) -> tuple[Array, float]:
        """Solve for these wanted rates and move: q, and the seconds that it took."""
        p, q = self._p, self._q
        begun = time.perf_counter()
        p["q"][:] = q
        p["want"][:] = want
        solution = self._solver.solve()
        velocity = solution.velocity
        p["v"][:] = velocity
        spent = time.perf_counter() - begun
        self.failures += solution.flag < 0
        cos, sin = np.cos(q[2]), np.sin(q[2])
        vx, vy = velocity[:2]
        q = q + DT * velocity
        q[:2] = self._q[:2] + DT * np.array((cos * vx - sin * vy, sin * vx + cos * vy))
        self._q = q
        return q, spent


class Planned(Ours):
    """Our preview with everything on at every knot, feeding our tick; it knows the path, but not the step to come.

    `planned`: seconds of each tick that the preview took, filling in its parameters included.
    """

    def __init__(self, name: str, robot: RobotModel, problem: Problem, path: Path) -> None:
        super().__init__(name, robot, CompiledTick(problem), problem)
        p, planner = self._p, Planner(problem, Preview())
        self._planner, rows, closing = planner, planner.rows, planner.preview.closing
        planner.surround(DISTANCE, self._environment)
        planner.limits[:] = p["lower"], p["upper"], p["fastest"], p["hardest"], np.r_[robot.base_jerk, robot.jerk]
        planner.spreading(float(p["manipulability"][0]))
        rows["weight"][:] = p["weight"]
        rows["gaze"][:] = *p["gaze"][:3], p["gaze"][3] * p["gaze"][4] ** 2, 1.0
        for side in SIDES:
            rows[f"{side}_hand"][:, 18:] = np.array((POSITION**2, ROTATION**2)) / closing**2
        p["weight"][:] = 1.0  # the tick follows the plan
        p["manipulability"][:] = p["gaze"][3] = 0.0
        for given in self._hands:
            given[18:] = 0.0
        ticks = round(DURATION / DT) + KNOTS * STRIDE + 1
        self._poses = np.zeros((2, ticks, 12))
        for hand in (0, 1):
            for k in range(ticks):
                target = path.at(hand, k * DT)
                self._poses[hand, k] = *target.rotation.ravel(), *target.position
        self._acceleration = np.zeros(22)
        self._tick = 0
        self.planned: list[float] = []

    def step(self, targets: Sequence[Target]) -> tuple[Array, float]:
        """See `peers.Peer`; filling in the parameters counts. The targets are those of the path."""
        del targets
        p, q, planner = self._p, self._q, self._planner
        before = p["v"].copy()
        begun = time.perf_counter()
        planner.now[:] = q, before, self._acceleration
        knots = slice(self._tick + STRIDE, self._tick + STRIDE * KNOTS + 1, STRIDE)
        for side, poses in zip(SIDES, self._poses, strict=True):
            planner.rows[f"{side}_hand"][:, :12] = poses[knots]
            if self._tick * DT >= STEP_TIME:
                planner.rows[f"{side}_hand"][:, 9:12] += STEP
        planner.rows["want"][:, 3:] = 0.5 * (self._robot.home - q[3:])
        self.failures += planner.plan() < 0
        planned = time.perf_counter() - begun
        self.planned.append(planned)
        q, spent = self._advance(planner.velocity)
        self._acceleration = (p["v"] - before) / DT
        self._tick += 1
        return q, planned + spent


@dataclass(frozen=True, slots=True)
class Result:
    """What one controller did on the path. Times in us, errors in mm and degrees over 1 s to 6 s, jerk in rad/s^3.

    `preview`: p50 and p99 of the preview's part of the times.
    """

    name: str
    p50: float
    p99: float
    position: float
    rotation: float
    nearest: float
    acceleration: float
    jerk: float
    failures: int
    preview: tuple[float, float] | None = None


def drive(peer: Peer, robot: RobotModel, path: Path, pairs: Sequence[Pair]) -> Result:
    """Drive a controller along the path and judge it by Pinocchio and coal."""
    ticks = round(DURATION / DT)
    targets = [[path.at(hand, (k + 1) * DT) for hand in (0, 1)] for k in range(ticks)]
    q, spent = np.zeros((ticks + 1, 22)), np.zeros(ticks)
    q[0, 3:] = robot.home
    gc.disable()
    for k in range(ticks):
        try:
            q[k + 1], spent[k] = peer.step(targets[k])
        except Exception:  # a peer's solver may find its constraints infeasible: it stands for that tick
            q[k + 1], spent[k] = q[k], np.nan
    gc.enable()
    kinematics = Kinematics(robot)
    position, rotation = [], []
    for k in range(ticks)[SMOOTH]:
        for hand, frame in enumerate(("left_tcp", "right_tcp")):
            pose, target = kinematics.forward(frame, q[k + 1, 3:], q[k + 1, :3]), targets[k][hand]
            position.append(np.sum((pose[:3, 3] - target.position) ** 2))
            cosine = (np.trace(pose[:3, :3].T @ target.rotation) - 1.0) / 2.0
            rotation.append(np.arccos(np.clip(cosine, -1.0, 1.0)) ** 2)
    velocity = np.diff(q, axis=0) / DT
    acceleration = np.diff(velocity, axis=0) / DT
    jerk = np.diff(acceleration, axis=0)[SMOOTH] / DT
    hardest = np.concatenate((robot.base_acceleration, robot.acceleration))
    timed = spent[WARM:][np.isfinite(spent[WARM:])]
    return Result(
        peer.name,
        float(np.percentile(timed, 50) * 1e6),
        float(np.percentile(timed, 99) * 1e6),
        float(np.sqrt(np.mean(position)) * 1e3),
        float(np.degrees(np.sqrt(np.mean(rotation)))),
        nearest(robot, q[SMOOTH], pairs) * 1e3,
        float(np.max(np.abs(acceleration) / hardest)),
        float(np.sqrt(np.mean(jerk**2))),
        int(np.isnan(spent).sum()) + getattr(peer, "failures", 0),
        _percentiles(peer.planned) if isinstance(peer, Planned) else None,
    )


def _percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    p50, p99 = np.percentile(seconds[WARM:], (50, 99)) * 1e6
    return float(p50), float(p99)


def main(argv: list[str]) -> int:
    """Times, tracking, jerk and fuzz of the whole-body controller, beside mink and pink where they are installed."""
    parser = argparse.ArgumentParser(prog="bytemini bench wbc", description=main.__doc__)
    parser.add_argument("--json", type=FilePath, default=None, help="also write the figures to this file")
    parser.add_argument("--fuzz", type=int, default=20_000, help="ticks of the fuzz (default: %(default)s)")
    parser.add_argument("--robot", choices=("v1", "v2"), default="v1", help="default: %(default)s")
    arguments = parser.parse_args(argv)
    if arguments.fuzz < 1:
        raise UserError(f"--fuzz is {arguments.fuzz}, expected at least 1")
    console = Console(width=max(Console().width, 110))
    robot = load_robot(arguments.robot)
    problem = ten_pairs(robot)
    results: dict[str, dict[bool, Result]] = {}
    makers: dict[str, Callable[[bool], Peer]] = {
        "ours": lambda _: Ours("ours", robot, CompiledTick(problem), problem),
        "ours, strict": lambda _: Ours("ours, strict", robot, CompiledTick(problem), problem, 0.0),
        "ours, preview": lambda crossing: Planned("ours, preview", robot, problem, Path(robot, crossing, step=False)),
        "ours, no compiler": lambda _: Ours("ours, no compiler", robot, FallbackTick(problem), problem),
        "mink": lambda _: Mink(robot, problem.pairs),
        "pink": lambda _: Pink(robot, problem.pairs),
    }
    for name, make in makers.items():
        try:
            with console.status(name):
                paths = {crossing: Path(robot, crossing) for crossing in (False, True)}
                results[name] = {c: drive(make(c), robot, path, problem.pairs) for c, path in paths.items()}
        except ImportError as error:
            console.print(f"{name} is not installed ({error}): pip install mink==1.3.0 pin-pink==4.4.0")
    console.print(_table(results))
    with console.status(f"fuzz, {arguments.fuzz} ticks"):
        fuzz = run_fuzz(robot, arguments.fuzz, seed=0)
    console.print(f"fuzz: {json.dumps(fuzz)}")
    if arguments.json:
        figures = _figures(results, fuzz)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def _table(results: dict[str, dict[bool, Result]]) -> Table:
    names = ("controller", "path", "us p50", "us p99", "mm", "deg", "nearest mm", "a / limit", "jerk", "failed")
    table = Table()
    for name in names:
        table.add_column(name, no_wrap=True)
    for runs in results.values():
        for crossing, r in runs.items():
            times = (f"{r.p50:.1f}", f"{r.p99:.1f}")
            errors = (f"{r.position:.3f}", f"{r.rotation:.3f}", f"{r.nearest:.1f}")
            path = "colliding" if crossing else "free"
            table.add_row(r.name, path, *times, *errors, f"{r.acceleration:.4f}", f"{r.jerk:.1f}", str(r.failures))
    return table


def _figures(results: dict[str, dict[bool, Result]], fuzz: dict[str, Any]) -> dict[str, Any]:
    def times(name: str) -> dict[str, float | None]:
        run = results[name][True] if name in results else None
        return {"p50": run.p50 if run else None, "p99": run.p99 if run else None}

    ours, preview = results["ours"], results["ours, preview"][True].preview
    return {
        "single_step_us": times("ours"),
        "strict_us": times("ours, strict"),
        "preview_us": dict(zip(("p50", "p99"), preview or (None, None), strict=True)),
        "preview_and_step_us": times("ours, preview"),
        "no_compiler_us": times("ours, no compiler"),
        "peers": {"mink_us": times("mink"), "pink_us": times("pink")},
        "tracking_mm": {"free": ours[False].position, "collision": ours[True].position},
        "tracking_preview_mm": {
            "free": results["ours, preview"][False].position,
            "collision": results["ours, preview"][True].position,
        },
        "jerk": {name: runs[True].jerk for name, runs in results.items()},
        "acceleration_ratio": {name: runs[True].acceleration for name, runs in results.items()},
        "fuzz": fuzz,
    }
