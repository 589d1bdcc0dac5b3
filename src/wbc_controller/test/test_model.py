from __future__ import annotations

import casadi as ca
import coal
import numpy as np
import pytest
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel
from wbc_controller.graph import Graph
from wbc_controller.model import Frames, model_problem, robot_problem
from wbc_controller.problem import Tuning
from wbc_controller.proximity import Proximity, segment_box, segment_segment
from wbc_controller.shapes import Box, Capsule
from wbc_controller.tree import Tree

DT = 0.005


@pytest.mark.parametrize("frame", ["left_tcp", "right_hand_link", "head_camera_optical_frame", "left_finger_b_link"])
def test_kinematics_agree_with_pinocchio(robot: RobotModel, frame: str) -> None:
    graph, truth = Graph(Tree(robot.urdf), robot.joint_names), Kinematics(robot)
    place = graph.placement(frame)
    linear, angular = graph.jacobian(frame, place.translation)
    function = ca.Function("f", [graph.q], [place.rotation, place.translation, ca.vertcat(linear, angular)])
    rng = np.random.default_rng(1)
    for _ in range(50):
        q, base = rng.uniform(robot.lower, robot.upper), rng.normal(size=3)
        rotation, translation, jacobian = (np.array(x) for x in function(np.concatenate((base, q))))
        pose = truth.forward(frame, q, base)
        np.testing.assert_allclose(rotation, pose[:3, :3], atol=1e-12)
        np.testing.assert_allclose(translation[:, 0], pose[:3, 3], atol=1e-12)
        np.testing.assert_allclose(jacobian, truth.jacobian(frame, q, base), atol=1e-12)


def coal_distance(first: Capsule, at: tuple, second: Capsule | Box, other: tuple) -> float:
    def solid(body: Capsule | Box, place: tuple) -> tuple:
        rotation, translation = place
        if isinstance(body, Box):
            return coal.Box(*(2 * body.half)), coal.Transform3s(
                rotation @ body.rotation, rotation @ body.centre + translation
            )
        start, end = rotation @ body.start + translation, rotation @ body.end + translation
        length = np.linalg.norm(end - start)
        z = (end - start) / length if length > 1e-9 else np.array((0, 0, 1.0))
        x = np.linalg.svd(z[None])[2][1]
        frame = np.column_stack((x, np.cross(z, x), z))
        return coal.Capsule(body.radius, length), coal.Transform3s(frame, (start + end) / 2)

    a, b = solid(first, at), solid(second, other)
    return coal.distance(a[0], a[1], b[0], b[1], coal.DistanceRequest(), coal.DistanceResult())


def test_distances_agree_with_coal_and_rows_are_their_gradients(robot: RobotModel) -> None:
    problem = robot_problem(robot, DT)
    tree = Tree(robot.urdf)
    graph = Graph(tree, robot.joint_names)
    links = [graph.placement(link) for link in problem.links]
    flat = [x for place in links for x in (place.rotation, place.translation)]
    columns = [graph.tree.joints[robot.joint_names[c - 3]] for c in problem.columns[3:]]
    screws = [ca.horzcat(*(graph.screw(joint)[i] for joint in columns)) for i in (0, 1)]
    function = ca.Function("f", [graph.q], [*flat, *screws])
    axes, origins = (np.zeros((len(problem.columns), 3)) for _ in range(2))
    places = np.zeros((len(problem.links), 12))
    proximity = Proximity(problem, axes, origins, places)
    proximity.surround(0.02, np.array([[1.0, 0, 0, 0, 1, 0, 0, 0, 1, 0.6, 0.0, 0.5, 0.2, 0.4, 0.02, 0.01]]))

    def rows(q: np.ndarray) -> tuple:
        values = [np.array(x) for x in function(q)]
        placement = np.array(
            [np.concatenate((r.ravel(), t.ravel())) for r, t in zip(values[:-2:2], values[1:-2:2], strict=True)]
        )
        cos, sin = np.cos(q[2]), np.sin(q[2])
        axes[:] = np.vstack(([cos, sin, 0], [-sin, cos, 0], [0, 0, 1], values[-2].T))
        origins[:] = np.vstack((np.zeros((2, 3)), [q[0], q[1], 0], values[-1].T))
        places[:] = placement
        proximity.update()
        return placement, proximity.distance.copy()

    rng = np.random.default_rng(2)
    checked = close = 0
    for _ in range(10):
        q = np.concatenate((rng.normal(size=3) * (0.1, 0.1, 1.0), rng.uniform(robot.lower, robot.upper)))
        placement, distance = rows(q)
        R, near = proximity.R.copy(), np.flatnonzero(proximity.near)
        at = {n: (p[:9].reshape(3, 3), p[9:]) for n, p in zip(problem.links, placement, strict=True)}
        for i, pair in enumerate(problem.pairs):
            true = coal_distance(pair.first, at[pair.first.link], pair.second, at[pair.second.link])
            if true > 0.0:
                assert distance[i] == pytest.approx(true, abs=1e-6)
        h = 1e-6
        for j, column in enumerate(problem.columns):
            step = np.zeros(len(q))
            step[column] = h
            if column < 2:  # base rates are in the base's axes
                cos, sin = np.cos(q[2]), np.sin(q[2])
                step[:2] = h * np.array(((cos, sin), (-sin, cos)))[column]
            ahead, behind = (rows(q + s)[1] for s in (step, -step))
            slope = (ahead - behind) / (2 * h)
            for row in near:
                if distance[row] > 0.01:  # the closest points may leap where bodies are parallel, else it is smooth
                    checked += 1
                    close += abs(R[row, j] - slope[row]) < 1e-4
    assert checked > 3000
    assert close > 0.999 * checked


def test_parallel_and_degenerate_segments_have_closest_points() -> None:
    zero, x, up = np.zeros((1, 3)), np.array([[1.0, 0, 0]]), np.array([[0, 0, 0.5]])
    one, two = segment_segment(zero, x, zero + up, x + up)
    assert np.linalg.norm(one - two) == pytest.approx(0.5)
    one, two = segment_segment(zero, zero, x, x)
    assert np.linalg.norm(one - two) == pytest.approx(1.0)
    one, two = segment_box(zero, zero, np.eye(3)[None], 2 * x, np.array([[0.5, 1, 1]]))
    assert np.linalg.norm(one - two) == pytest.approx(1.5)


def problem_of(robot: RobotModel, urdf: str, frames: Frames | None = None):
    return model_problem(
        urdf, robot.joint_names, robot.lower, robot.upper, robot.home, frames or Frames(), Tuning(), only=()
    )


def test_unknown_frame_is_refused_by_name(robot: RobotModel) -> None:
    with pytest.raises(ValueError, match="no frame left_palm"):
        problem_of(robot, robot.urdf, Frames(hands=("left_palm", "right_tcp")))


def test_inertia_that_no_body_has_is_refused_by_name(robot: RobotModel) -> None:
    start = robot.urdf.index("<inertia", robot.urdf.index('name="left_forearm_link"'))
    bad = robot.urdf[:start] + robot.urdf[start:].replace('ixx="', 'ixx="-', 1)
    with pytest.raises(ValueError, match="left_forearm_link"):
        problem_of(robot, bad)


def test_bodies_that_touch_at_home_are_refused_by_name(robot: RobotModel) -> None:
    home = robot.home.copy()
    home[robot.indices(("left_shoulder_roll_joint", "left_shoulder_yaw_joint"))] = -0.35, -1.5
    with pytest.raises(ValueError, match=r"left_\w+.* touch at home"):
        model_problem(robot.urdf, robot.joint_names, robot.lower, robot.upper, home, Frames(), Tuning())


def test_pairs_are_mirrored(robot: RobotModel) -> None:
    def mirror(name: str) -> str:
        return name.replace("left", "@").replace("right", "left").replace("@", "right")

    pairs = {frozenset((p.first.name, p.second.name)) for p in robot_problem(robot, DT).pairs}
    assert {frozenset(map(mirror, pair)) for pair in pairs} == pairs
    assert frozenset(("left_hand_link", "right_hand_link")) in pairs
    assert frozenset(("left_forearm_link", "left_hand_link")) not in pairs


OTHER = """<robot name="other">
  <link name="root"/><link name="tower"><collision><geometry><box size="0.2 0.2 1.0"/></geometry></collision></link>
  <joint name="tower_joint" type="fixed"><parent link="root"/><child link="tower"/></joint>
  {arms}
</robot>"""
ARM = """
  <joint name="{s}1" type="revolute"><parent link="tower"/><child link="{s}_l1"/>
    <origin xyz="0 {y} 0.4"/><axis xyz="0 0 1"/>
    <limit lower="-2" upper="2" velocity="2" effort="9"/></joint><link name="{s}_l1"/>
  <joint name="{s}2" type="revolute"><parent link="{s}_l1"/><child link="{s}_l2"/><axis xyz="0 1 0"/>
    <limit lower="-2" upper="2" velocity="2" effort="9"/></joint>
  <link name="{s}_l2"><collision><origin xyz="0.2 0 0" rpy="0 1.5707963267948966 0"/>
    <geometry><cylinder radius="0.04" length="0.3"/></geometry></collision></link>
  <joint name="{s}3" type="prismatic"><parent link="{s}_l2"/><child link="{s}_l3"/>
    <origin xyz="0.4 0 0"/><axis xyz="1 0 0"/>
    <limit lower="0" upper="0.3" velocity="1" effort="9"/></joint>
  <link name="{s}_l3"><collision><geometry><sphere radius="0.05"/></geometry></collision></link>"""


def test_another_robot_is_driven_by_the_same_code() -> None:
    from wbc_controller.solver import FallbackTick

    urdf = OTHER.format(arms=ARM.format(s="a", y=0.3) + ARM.format(s="b", y=-0.3))
    joints = ("a1", "a2", "a3", "b1", "b2", "b3")
    lower, upper = np.array((-2, -2, 0.0) * 2), np.array((2, 2, 0.3) * 2)
    problem = model_problem(urdf, joints, lower, upper, np.zeros(6), Frames(("a_l3", "b_l3"), None), Tuning())
    assert any("a_l3" in p.name and "b_l3" in p.name for p in problem.pairs)
    solver = FallbackTick(problem)
    p = {name: solver.parameters[where] for name, where in problem.layout.fields.items()}
    p["lower"][:], p["upper"][:] = [-1e6] * 3 + [*lower], [1e6] * 3 + [*upper]
    p["fastest"][:], p["hardest"][:], p["weight"][:] = 1.0, 10.0, 1e-4
    p["q"][3:] = (0.2, 0.3, 0.1, -0.2, 0.3, 0.1)
    for side in ("left", "right"):
        p[f"{side}_hand"][[0, 4, 8]] = 1.0
        p[f"{side}_hand"][18] = 1.0
    goal = np.array((0.6, 0.25, 0.2))
    p["left_hand"][9:12], p["right_hand"][9:12] = goal, goal * (1, -1, 1)
    for _ in range(400):
        v = solver.solve().velocity.copy()
        p["q"][:] += DT * v  # the base's yaw stays at zero by symmetry
        p["v"][:] = v
    assert solver.solve().info[2] < 1e-4
