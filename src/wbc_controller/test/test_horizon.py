from __future__ import annotations

import daqp
import numpy as np
import pytest
from bytemini_core.types import BaseReference, HandReference, Mode, WholeBodyReference
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import load_robot
from wbc_controller.benchmarks.fuzz import run_fuzz
from wbc_controller.benchmarks.path import Path, Target
from wbc_controller.config import WbcConfig
from wbc_controller.hands import logarithm
from wbc_controller.horizon import BLOCKS, KNOTS, STRIDE, Planner, Preview, responses
from wbc_controller.model import robot_problem
from wbc_controller.problem import build_knot

DT = 0.005


def hand(frame: str, target: Target) -> HandReference:
    vector = logarithm(target.rotation)
    angle = np.linalg.norm(vector)
    axis = vector / angle if angle > 0 else vector
    quaternion = np.r_[np.sin(angle / 2) * axis, np.cos(angle / 2)]
    return HandReference(frame, np.r_[target.position, quaternion], target.twist)


def distance(bench, frame: str, target: Target) -> float:
    pose = Kinematics(bench.robot).forward(frame, bench.position, bench.base)
    return float(np.linalg.norm(pose[:3, 3] - target.position))


def arm_wave(bench, t: float) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """A joint trajectory well within the limits: position, velocity, acceleration at t."""
    names = (*bench.robot.arm_joints("left"), *bench.robot.arm_joints("right"))
    swing = np.tile((0.4, 0.3, 0.5, 0.5, 0.6, 0.3, 0.3), 2)
    home = bench.robot.home[bench.robot.indices(names)]
    w = 1.5
    return names, home + swing * np.sin(w * t), swing * w * np.cos(w * t), -swing * w * w * np.sin(w * t)


def planner_at_home(seed: int) -> tuple[Planner, object]:
    """A planner whose hands are to go somewhere near, from a random posture and motion about home."""
    robot, rng = load_robot("v1"), np.random.default_rng(seed)
    problem = robot_problem(robot, DT)
    planner = Planner(problem, Preview())
    far = np.full(3, 1e6)
    planner.limits[:] = (
        np.r_[-far, robot.lower],
        np.r_[far, robot.upper],
        np.r_[robot.base_velocity, robot.velocity],
        np.r_[robot.base_acceleration, robot.acceleration],
        np.r_[robot.base_jerk, robot.jerk],
    )
    q = np.r_[rng.normal(size=3), np.clip(robot.home + 0.1 * rng.normal(size=19), robot.lower, robot.upper)]
    planner.now[:] = q, 0.2 * rng.normal(size=22) * planner.limits[2], np.zeros(22)
    path = Path(robot, crossing=True, step=False)
    for i, side in enumerate(("left", "right")):
        row = planner.rows[f"{side}_hand"]
        for k in range(KNOTS):
            target = path.at(i, 1.0 + planner.times[k])
            cos, sin = np.cos(q[2]), np.sin(q[2])
            turn = np.array(((cos, -sin, 0), (sin, cos, 0), (0, 0, 1.0)))
            row[k, :12] = np.r_[(turn @ target.rotation).ravel(), np.r_[q[:2], 0.0] + turn @ target.position]
        row[:, 18:] = np.array((1.0, 0.09)) / 0.03**2
    planner.rows["weight"][:] = 0.03**2
    planner.rows["gaze"][:] = 2.0, 0.0, 0.7, 0.04, 1.0
    planner.spreading(5e-4)
    return planner, problem


def independent_plan(planner: Planner, problem) -> np.ndarray:
    """The same preview by CasADi's virtual machine, numpy and DAQP's wheel, with every box row, but no collisions."""
    knot, spread, layout = build_knot(problem)
    columns, n = np.array(problem.columns), len(problem.columns)
    blocks, smooth = len(BLOCKS) - 1, planner.preview.smooth
    to = responses(DT)
    q, v = planner.now[0].copy(), planner.now[1].copy()
    gradient, damped = (np.array(x)[:, 0] for x in spread(q))
    H, g = np.zeros((n * blocks, n * blocks)), np.zeros(n * blocks)
    rows, least = [], []
    for i in range(KNOTS * STRIDE):
        cos, sin = np.cos(q[2]), np.sin(q[2])  # the plan is empty: it goes on with the acceleration it has
        q[3:] += DT * v[3:] * np.isin(np.arange(3, 22), columns)
        q[:3] += DT * np.array((cos * v[0] - sin * v[1], sin * v[0] + cos * v[1], v[2]))
        if (i + 1) % STRIDE:
            continue
        k = i // STRIDE
        row = {name: planner.rows[name][k].copy() for name in layout.fields}
        row["q"] = q
        parameter = np.concatenate([row[name] for name in layout.fields])
        G, h = (np.array(x)[:, 0] for x in knot(parameter)[:2])
        C = [np.kron(table[k][None], np.eye(n)) for table in to]
        weight = row["weight"][columns] + damped
        H += C[0].T @ G.reshape(n, n) @ C[0] + C[1].T @ (weight[:, None] * C[1])
        g += C[0].T @ h + C[1].T @ (weight * v[columns] - planner._numbers[3] * gradient)
        lower, upper, fastest, hardest, _ = planner.limits[:, columns]
        for matrix, low, high in zip(
            C,
            (lower - q[columns], -fastest - v[columns], -hardest),
            (upper - q[columns], fastest - v[columns], hardest),
            strict=True,
        ):
            rows += [matrix, -matrix]
            least += [low, -high]
    for b in range(blocks):
        H[b * n : (b + 1) * n, b * n : (b + 1) * n] += smooth * DT * (BLOCKS[b + 1] - BLOCKS[b]) * np.eye(n)
    sharp = np.tile(planner.limits[4, columns], blocks)
    A, bound = np.vstack(rows), np.concatenate(least)
    solution, _, flag, _ = daqp.solve(
        H,
        g,
        A,
        np.concatenate((sharp, np.full(len(bound), 1e30))),
        np.concatenate((-sharp, bound)),
        np.zeros(len(sharp) + len(bound), dtype=np.int32),
    )
    assert flag == 1
    return planner.now[1, columns] + DT * DT * solution[:n]


@pytest.mark.parametrize("seed", range(6))
def test_plan_agrees_with_an_independent_solver(seed: int) -> None:
    planner, problem = planner_at_home(seed)
    expected = independent_plan(planner, problem)
    assert planner.plan() >= 0
    np.testing.assert_allclose(planner.velocity[list(problem.columns)], expected, atol=2e-6)


def drive(bench, path: Path, ticks: int, ahead: bool) -> tuple[np.ndarray, float]:
    """Both hands along the path: commanded velocities (ticks, 22), largest error of a hand after the first second."""
    bench.controller.request_mode(Mode.TELEOP)
    begin = bench.t

    def reference(t: float) -> WholeBodyReference:
        hands = tuple(hand(f"{s}_tcp", path.at(i, t - begin)) for i, s in enumerate(("left", "right")))
        return WholeBodyReference(round(t * 1e9), Mode.TELEOP, hands=hands)

    velocities, worst = [], 0.0
    update = bench.controller.update
    for k in range(ticks):
        t = bench.t
        known = [reference(t - DT + STRIDE * DT * j) for j in range(1, KNOTS + 1)] if ahead else []
        bench.controller.update = lambda t, s, r, known=known: update(t, s, r, known)
        command = bench.step(reference(t))
        velocities.append(np.r_[command.joint.base_twist, command.joint.velocity])
        if k > 200:
            errors = [distance(bench, f"{s}_tcp", path.at(i, t - begin)) for i, s in enumerate(("left", "right"))]
            worst = max(worst, *errors)
    bench.controller.update = update
    return np.array(velocities), worst


def jerk_of(velocities: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.diff(velocities[200:], 2, axis=0) ** 2))) / DT**2


@pytest.mark.parametrize(("ahead", "most"), [(True, 5e-5), (False, 4e-4)])
def test_hands_follow_a_path_through_the_preview(make_bench, ahead: bool, most: float) -> None:
    bench = make_bench(load_robot("v1"), WbcConfig(preview=Preview()))
    velocities, worst = drive(bench, Path(bench.robot, crossing=False, step=False), 600, ahead)
    assert worst < most
    assert jerk_of(velocities) < 5.0
    assert not bench.violations
    assert bench.controller.failed == 0


def test_preview_slides_along_collisions_more_smoothly_than_the_tick_alone(make_bench) -> None:
    jerks = []
    for preview in (None, Preview()):
        bench = make_bench(load_robot("v1"), WbcConfig(preview=preview, self_distance=0.05))
        velocities, _ = drive(bench, Path(bench.robot, crossing=True, step=False), 900, False)
        jerks.append(jerk_of(velocities))
        assert not bench.violations
        assert bench.controller._solver.solve().distance.min() > 0.048
    assert jerks[1] < 20.0
    assert jerks[1] < 0.6 * jerks[0]


def test_joint_trajectory_is_followed_through_the_preview(make_bench) -> None:
    bench = make_bench(load_robot("v1"), WbcConfig(preview=Preview()))
    bench.controller.request_mode(Mode.POLICY)
    worst = 0.0
    for k in range(600):
        names, q, v, a = arm_wave(bench, bench.t)
        command = bench.step(bench.reference(names, q, v, a))
        if k > 300:
            worst = max(worst, float(np.abs(command.joint.position[bench.robot.indices(names)] - q).max()))
    assert worst < 2e-3
    assert not bench.violations


def test_fuzz_finds_nothing_with_the_preview() -> None:
    result = run_fuzz(load_robot("v2"), 2000, 11, Preview())
    assert result["failures"] == 0
    assert result["position_violations"] == 0
    assert max(result["max_velocity_ratio"], result["max_acceleration_ratio"]) <= 1.0 + 1e-7


@pytest.mark.parametrize("part", ["preview", "tick"])
def test_failing_solver_goes_on_for_three_ticks_then_holds(make_bench, part: str) -> None:
    bench = make_bench(load_robot("v1"), WbcConfig(preview=Preview() if part == "preview" else None))
    bench.controller.request_mode(Mode.POLICY)
    for _ in range(400):
        names, q, v, a = arm_wave(bench, bench.t)
        bench.step(bench.reference(names, q, v, a))
    if part == "preview":
        bench.controller._planner._plan = lambda *_: -1
    else:
        real = bench.controller._solver._tick
        bench.controller._solver._tick = lambda *arguments: min(real(*arguments), -1)
    for k in range(4):
        before = bench.velocity.copy()
        names, q, v, a = arm_wave(bench, bench.t)
        command = bench.step(bench.reference(names, q, v, a))
        assert bench.controller.failed == k + 1
        if k < 3:
            assert command.status.mode is Mode.POLICY
            assert np.abs(bench.velocity - before).max() < 0.05
    assert command.status.mode is Mode.HOLD
    assert "solver failed 4 times" in command.status.reason
    for _ in range(400):
        command = bench.step()
    assert not command.joint.velocity.any()
    assert not bench.violations


@pytest.mark.parametrize(("name", "value"), [("smooth", 0.0), ("closing", -1.0), ("margin", float("nan"))])
def test_preview_that_makes_no_sense_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Preview(**{name: value})


def test_hand_that_meets_the_resting_other_slides_off_without_chatter(make_bench) -> None:
    """The left hand is led through the place of the resting right one; wrists reach their rims on the way."""
    bench = make_bench(load_robot("v2"), WbcConfig(preview=Preview()))
    robot = bench.robot
    bench.controller.request_mode(Mode.TELEOP)
    poses = [Kinematics(robot).forward(f"{side}_tcp", bench.position) for side in ("left", "right")]
    way = poses[1][1, 3] - poses[0][1, 3] - 0.02
    names, velocities = robot.arm_joints("right"), []
    rest, still = robot.home[robot.indices(names)], BaseReference(np.zeros(3), np.zeros(3))
    for k in range(1000):
        share = min(k / 800, 1.0)
        twist = np.array((0.0, way / 4.0 if k < 800 else 0.0, 0.0, 0.0, 0.0, 0.0))
        target = Target(poses[0][:3, :3], poses[0][:3, 3] + (0.03, way * share, 0.05), twist)
        command = bench.step(
            bench.reference(names, rest, source=Mode.TELEOP, hands=(hand("left_tcp", target),), base=still)
        )
        velocities.append(np.r_[command.joint.base_twist, command.joint.velocity])
    jerk = np.diff(np.array(velocities), 2, axis=0) / DT**2
    assert np.abs(jerk).max() < 300.0  # the plan's own limit is 200; the tick alone reaches 4000
    assert command.status.sacrificed == ("left_tcp",)
    assert not bench.violations
