"""Rethink Robotics' Baxter, as the example-robot-data package ships it: nothing is wired to ByteMini."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pinocchio as pin
import pytest
from wbc_controller.graph import Graph
from wbc_controller.horizon import Planner, Preview
from wbc_controller.model import Frames, model_problem
from wbc_controller.problem import Problem, Tuning
from wbc_controller.solver import CompiledTick, FallbackTick
from wbc_controller.tree import Tree, limits_of

DT = 0.005
JOINTS = tuple(f"{side}_{name}" for side in ("left", "right") for name in ("s0", "s1", "e0", "e1", "w0", "w1", "w2"))
HOME = np.array((-0.08, -1.0, -1.19, 1.94, 0.67, 1.03, -0.5, 0.08, -1.0, 1.19, 1.94, -0.67, 1.03, 0.5))
HANDS = ("left_gripper", "right_gripper")


@pytest.fixture(scope="module")
def urdf() -> str:
    try:
        files = importlib.metadata.files("example-robot-data") or ()
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("example-robot-data is not installed: pip install -r requirements/dev.txt")
    return next(Path(f.locate()) for f in files if f.name == "baxter.urdf").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def problem(urdf: str) -> Problem:
    lower, upper, _ = limits_of(Tree(urdf), JOINTS)
    links = ("lower_forearm", "wrist", "lower_elbow")
    only = [frozenset((f"left_{one}", f"right_{two}")) for one in links for two in links]
    return model_problem(urdf, JOINTS, lower, upper, HOME, Frames(HANDS, None), Tuning(dt=DT), only)


def test_bodies_that_its_urdf_lets_overlap_are_refused_by_name(urdf: str) -> None:
    lower, upper, _ = limits_of(Tree(urdf), JOINTS)
    with pytest.raises(ValueError, match=r"upper_forearm_visual.* touch at home"):
        model_problem(urdf, JOINTS, lower, upper, HOME, Frames(HANDS, None), Tuning(dt=DT))


def placements(urdf: str, q: np.ndarray) -> list[pin.SE3]:
    """Poses of the hands by Pinocchio, base included."""
    model = pin.buildModelFromXML(urdf)
    at = pin.neutral(model)
    for name, value in zip(JOINTS, q[3:], strict=True):
        at[model.joints[model.getJointId(name)].idx_q] = value
    data = model.createData()
    pin.framesForwardKinematics(model, data, at)
    base = pin.SE3(pin.utils.rotate("z", q[2]), np.array((q[0], q[1], 0.0)))
    return [base * data.oMf[model.getFrameId(hand)] for hand in HANDS]


def test_its_kinematics_agree_with_pinocchio(urdf: str) -> None:
    import casadi as ca

    graph, rng = Graph(Tree(urdf), JOINTS), np.random.default_rng(0)
    frames = [graph.placement(hand) for hand in HANDS]
    function = ca.Function("f", [graph.q], [x for f in frames for x in (f.rotation, f.translation)])
    for _ in range(20):
        q = np.concatenate((rng.normal(size=3), rng.uniform(-1.0, 1.0, 14)))
        values = [np.array(x) for x in function(q)]
        for hand, truth in enumerate(placements(urdf, q)):
            np.testing.assert_allclose(values[2 * hand], truth.rotation, atol=1e-10)
            np.testing.assert_allclose(values[2 * hand + 1][:, 0], truth.translation, atol=1e-10)


@pytest.mark.parametrize("kind", ["tick", "fallback", "preview"])
def test_its_hands_go_where_they_are_told_within_its_limits(urdf: str, problem: Problem, kind: str) -> None:
    assert len(problem.pairs) == 9
    solver = FallbackTick(problem) if kind == "fallback" else CompiledTick(problem)
    planner = Planner(problem, Preview()) if kind == "preview" else None
    lower, upper, velocity = limits_of(Tree(urdf), JOINTS)
    p = {name: solver.parameters[where] for name, where in problem.layout.fields.items()}
    solver.surround(0.05, np.zeros((0, 16)))
    limits = np.array(
        (
            np.r_[[-1e6] * 3, lower],
            np.r_[[1e6] * 3, upper],
            np.r_[[0.5] * 3, velocity],
            np.r_[[1.0] * 3, [10.0] * 14],
            np.r_[[10.0] * 3, [100.0] * 14],
        )
    )
    p["lower"][:], p["upper"][:], p["fastest"][:], p["hardest"][:] = limits[:4]
    q = np.concatenate((np.zeros(3), HOME))
    for i, (side, start) in enumerate(zip(("left", "right"), placements(urdf, q), strict=True)):
        sign = 1 - 2 * i
        place = start.translation + np.array((0.1, 0.05 * sign, 0.08))
        goal = np.r_[start.rotation.ravel(), place, np.zeros(6), 1.0, 0.09]
        p[f"{side}_hand"][:] = goal
        if planner is not None:
            planner.rows[f"{side}_hand"][:] = goal
            planner.rows[f"{side}_hand"][:, 18:] /= 0.03**2
            planner.rows["weight"][:], planner.limits[:] = 0.03**2, limits
    weight = 0.03**2 if planner is None else 1.0
    p["weight"][:] = weight
    if planner is not None:
        p["left_hand"][18:] = p["right_hand"][18:] = 0.0
        planner.surround(0.05, np.zeros((0, 16)))
    v, change = np.zeros(17), np.zeros(17)
    for _ in range(400):
        p["q"][:], p["v"][:] = q, v
        if planner is not None:
            planner.now[:] = q, v, change
            assert planner.plan() >= 0
            p["want"][:] = planner.velocity
        solution = solver.solve()
        assert solution.flag >= 0
        new = solution.velocity.copy()
        assert (np.abs(new) <= limits[2] * (1 + 1e-9)).all()
        assert (np.abs(new - v) <= limits[3] * DT * (1 + 1e-7)).all()
        change, v = (new - v) / DT, new
        cos, sin = np.cos(q[2]), np.sin(q[2])
        q = q + DT * np.r_[cos * v[0] - sin * v[1], sin * v[0] + cos * v[1], v[2:]]
        assert ((q[3:] >= lower) & (q[3:] <= upper)).all()
    for side, place in zip(("left", "right"), placements(urdf, q), strict=True):
        assert np.linalg.norm(place.translation - p[f"{side}_hand"][9:12]) < 1e-3
    assert solution.distance.min() > 0.049


def test_joint_without_limits_is_refused_by_name(urdf: str) -> None:
    start = urdf.index("<limit", urdf.index('name="left_e0"'))
    bad = urdf[:start] + "<unlimited" + urdf[start + len("<limit") :]
    with pytest.raises(ValueError, match="left_e0 has limits None"):
        limits_of(Tree(bad), JOINTS)
    with pytest.raises(ValueError, match="no joint left_e9"):
        limits_of(Tree(urdf), ("left_e9",))
