from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel, load_robot
from hypothesis import given, settings
from hypothesis import strategies as st
from wbc_controller.hands import exponential
from wbc_controller.model import robot_problem
from wbc_controller.prepare import prepare
from wbc_controller.solver import CompiledTick, CompilerError, FallbackTick, compile_shared, make_solver
from wbc_controller.viability import stopping_distance, stopping_speed
from wbc_controller.weights import LOOSE

BOX = np.array([[1.0, 0, 0, 0, 1, 0, 0, 0, 1, 0.7, 0.0, 0.6, 0.2, 0.4, 0.02, 0.01]])


def fill(solver, problem, robot: RobotModel, rng: np.random.Generator, wild: bool) -> None:
    p = {name: solver.parameters[where] for name, where in problem.layout.fields.items()}
    q = rng.uniform(robot.lower, robot.upper) if wild else robot.home
    p["q"][:] = np.concatenate((rng.normal(size=3), q))
    p["v"][:] = 0.0
    p["lower"][:] = np.concatenate((np.full(3, -1e6), robot.lower))
    p["upper"][:] = np.concatenate((np.full(3, 1e6), robot.upper))
    p["fastest"][:] = np.concatenate((robot.base_velocity, robot.velocity))
    p["hardest"][:] = np.concatenate((robot.base_acceleration, robot.acceleration))
    p["want"][:] = 0.1 * rng.normal(size=22)
    p["weight"][:] = 0.03**2
    kinematics = Kinematics(robot)
    for side in ("left", "right"):
        pose = kinematics.forward(f"{side}_tcp", q, p["q"][:3])
        far = rng.normal(size=3) * (0.1 if wild else 1e-4)
        p[f"{side}_hand"][:] = np.concatenate((pose[:3, :3].ravel(), pose[:3, 3] + far, np.zeros(6), (1.0, 0.09)))
    p["gaze"][:] = 2.0, 0.0, 0.7, 0.01, 2.0
    p["manipulability"][:] = 0.003
    p["leeway"][:] = LOOSE


@pytest.mark.parametrize("wild", [False, True])
def test_fallback_gives_the_compiled_answer(wild: bool) -> None:
    """To 1e-9, except where soft rows have to give way: where bodies are inside one another.

    Then multipliers reach violation / SOFTNESS = 3e5 and the programme is ill conditioned: of 1500 wild states 612 are
    such, the two answers differ by 1.7e-7 at most, and the compiled one by 2.3e-7 from itself when its parameters are
    changed by a rounding error (2e-16 of each). The other 888 differ by 2e-13.
    """
    robot = load_robot("v1")
    problem = robot_problem(robot, 0.005)
    compiled, fallback = CompiledTick(problem), FallbackTick(problem)
    for solver in (compiled, fallback):
        solver.surround(0.02, BOX)
    rng = np.random.default_rng(3)
    iterations = kept = 0
    for _ in range(40):
        fill(compiled, problem, robot, rng, wild)
        if not wild:  # bodies inside one another leave strict hands a programme of soft rows alone, good to 1e-5
            compiled.parameters[problem.layout.fields["leeway"]] = rng.choice((0.0, 0.01, LOOSE))
        fallback.parameters[:] = compiled.parameters
        one, two = compiled.solve(), fallback.solve()
        assert one.flag == two.flag
        iterations += one.flag
        apart = bool((one.distance >= 0.02).all())
        kept += apart
        np.testing.assert_allclose(one.velocity, two.velocity, atol=1e-9 if apart else 1e-6)
        np.testing.assert_allclose(one.distance, two.distance, atol=1e-12)
        np.testing.assert_allclose(one.info, two.info, atol=1e-9)
        q = compiled.parameters[problem.layout.fields["q"]]
        assert compiled.nearest(q) == pytest.approx(fallback.nearest(q), abs=1e-12)
        end = list(one.bound).index(-1)
        np.testing.assert_array_equal(one.bound[: end + 1], two.bound[: end + 1])
    assert iterations > 40
    assert kept > 15


def test_no_compiler_means_the_fallback_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    solver, reason = make_solver(robot_problem(load_robot("v1"), 0.005), tmp_path)
    assert isinstance(solver, FallbackTick)
    assert "build-essential" in reason


def test_library_is_compiled_once(tmp_path: Path) -> None:
    source = "int answer(void) { return 42; }"
    first = compile_shared(source, "answer", tmp_path)
    made = first.stat().st_mtime_ns
    assert compile_shared(source, "answer", tmp_path) == first
    assert first.stat().st_mtime_ns == made
    assert compile_shared(source.replace("42", "43"), "answer", tmp_path) != first
    with pytest.raises(CompilerError, match="failed"):
        compile_shared("not C", "answer", tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".so", ".so"]


@pytest.mark.parametrize("items", [np.zeros((1, 15)), np.zeros((33, 16)), np.full((1, 16), np.nan)])
def test_environment_of_the_wrong_shape_is_refused(items: np.ndarray) -> None:
    solver, _ = make_solver(robot_problem(load_robot("v1"), 0.005))
    with pytest.raises(ValueError, match="environment"):
        solver.surround(0.02, items)


@functools.cache
def tangent_solver() -> FallbackTick:
    return FallbackTick(robot_problem(load_robot("v1"), 0.005))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_tangents_of_the_wrists_disc_cut_off_nothing_viable(seed: int) -> None:
    """Whatever can still stop inside the disc, by its definition, keeps every tangent; what leaves it fast does not."""
    robot, rng = load_robot("v1"), np.random.default_rng(seed)
    problem = robot_problem(robot, 0.005)
    solver = tangent_solver()
    fill(solver, problem, robot, rng, False)
    p = {name: solver.parameters[where] for name, where in problem.layout.fields.items()}
    a, b = problem.body.discs[0]
    limit = float(min(p["hardest"][a], p["hardest"][b]))
    q = problem.body.tilt * np.sqrt(rng.uniform()) * exponential(np.array((0, 0, rng.uniform(-9, 9))))[:2, 0]
    p["q"][[a, b]] = q
    solver.solve()
    mine = np.flatnonzero(np.array(problem.tangent_discs) == 0)
    rows = solver.tangents[mine]
    for v in rng.normal(size=(20, 2)) * rng.uniform(0.0, 6.0):
        speed = float(np.hypot(*v))
        stop = q + stopping_distance(speed, limit, 0.005) * v / speed
        if np.hypot(*stop) <= problem.body.tilt:
            assert (-rows[:, :2] @ v >= rows[:, 2] - 1e-9).all()
    outward = q / np.hypot(*q)
    room = problem.body.tilt - np.hypot(*q)
    too_fast = 1.01 * stopping_speed(np.float64(room), np.float64(limit), 0.005) + 1e-6
    assert (-rows[:, :2] @ (too_fast * outward) < rows[:, 2]).any()


def test_everything_can_be_compiled_beforehand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert prepare() == ""
    monkeypatch.setenv("PATH", "")
    assert "build-essential" in prepare(tmp_path)
