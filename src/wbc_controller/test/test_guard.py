from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from bytemini_core.types import Mode, RobotState, WholeBodyReference
from bytemini_description.robot import load_robot
from wbc_controller.benchmarks.fuzz import wild_reference
from wbc_controller.config import WbcConfig
from wbc_controller.controller import WholeBodyController
from wbc_controller.guard import Guard, levers
from wbc_controller.model import robot_problem
from wbc_controller.solver import CompiledTick, FallbackTick, clear

DT = 0.005


wall = partial(clear, lambda q: 1.0 - q[3], DT)


def test_guard_brakes_in_time_for_a_wall() -> None:
    """One joint runs at a wall at 1 m: the guard lets it move as long as braking stops it 0.1 m before."""
    guard = Guard(wall, np.full(4, 2.0), np.ones(4), 0.1, DT)
    q, v = np.array((0.0, 0.0, 0.0, 0.75)), 0.0
    for _ in range(400):
        faster = v + 2.0 * DT
        v = faster if guard.allows(q, np.array((0, 0, 0, faster)), 1.0 - q[3]) else max(v - 2.0 * DT, 0.0)
        q[3] += v * DT
    assert 0.88 < q[3] <= 0.9 + 1e-9


def test_guard_lets_a_robot_that_is_too_near_move_apart_only() -> None:
    guard = Guard(wall, np.full(4, 2.0), np.ones(4), 0.1, DT)
    q = np.array((0.0, 0.0, 0.0, 0.95))
    assert guard.allows(q, np.array((0, 0, 0, -0.2)), 0.05)
    assert not guard.allows(q, np.array((0, 0, 0, 0.2)), 0.05)


@pytest.mark.parametrize("seed", range(3))
def test_wild_references_never_bring_bodies_together(seed: int) -> None:
    robot = load_robot("v1" if seed % 2 else "v2")
    rng = np.random.default_rng(seed)
    controller = WholeBodyController(robot, WbcConfig(max_jump=1e6, max_base_jump=1e6, hand_jump=1e6))
    zero, q, nearest = np.zeros(19), robot.home, 1.0
    for k in range(3000):
        stamp = round(k * DT * 1e9)
        if k % 150 == 0:
            wild = wild_reference(robot, rng, np.zeros(3))
        state = RobotState(stamp, robot.joint_names, q, zero, zero)
        reference = WholeBodyReference(stamp, Mode.TELEOP, **wild) if k else None
        q = controller.update(k * DT, state, reference).joint.position
        controller.request_mode(Mode.TELEOP)
        nearest = min(nearest, controller._solver.nearest(np.concatenate((np.zeros(3), q))))
    assert nearest > 0.0


def test_compiled_guard_answers_as_the_one_in_numpy() -> None:
    robot = load_robot("v1")
    problem = robot_problem(robot, DT)
    compiled, fallback = CompiledTick(problem), FallbackTick(problem)
    rng, hardest = np.random.default_rng(4), np.concatenate((robot.base_acceleration, robot.acceleration))
    answers, arms = [], levers(problem)
    for _ in range(200):
        q = np.concatenate((np.zeros(3), rng.uniform(robot.lower, robot.upper)))
        velocity = np.concatenate((np.zeros(3), rng.uniform(-1, 1, 19) * robot.velocity))
        both = [solver.clear(q, velocity, hardest, arms, 0.01, 0.005) for solver in (compiled, fallback)]
        assert both[0] == both[1]
        answers.append(both[0])
    assert 10 < sum(answers) < 190


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_no_body_moves_faster_than_its_joints_levers_say(version: str) -> None:
    robot = load_robot(version)
    problem = robot_problem(robot, DT)
    solver, arms, rng = CompiledTick(problem), levers(problem), np.random.default_rng(1)
    assert (arms[:3] == 0.0).all()
    for _ in range(3000):
        q = np.concatenate((np.zeros(3), rng.uniform(robot.lower, robot.upper)))
        moved = np.concatenate((np.zeros(3), rng.normal(size=19))) * 1e-3
        assert abs(solver.nearest(q + moved) - solver.nearest(q)) <= 1.01 * float(arms @ np.abs(moved)) + 1e-9


def test_a_post_is_not_missed_between_two_looks() -> None:
    """What is passed on the way to rest counts, however thin and wherever on the way it is."""
    for post in np.linspace(0.02, 0.8, 40):
        thin = partial(clear, lambda q, post=post: abs(q[3] - post) - 0.005, DT)
        guard = Guard(thin, np.full(4, 2.0), np.ones(4), 0.01, DT)
        assert not guard.allows(np.zeros(4), np.array((0, 0, 0, 2.0)), float(post) - 0.005)
