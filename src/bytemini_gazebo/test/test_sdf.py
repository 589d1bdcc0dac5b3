"""Worlds for Gazebo, read back through Gazebo's own parser, against the scenes they were made of."""

import numpy as np
import pytest
from bytemini_description.robot import load_robot
from bytemini_gazebo.sdf import WORLD, _pose, world_sdf
from bytemini_sim.tasks import TASKS, make_task
from scipy.spatial.transform import Rotation

SETTINGS = [(name, setting) for name in TASKS for setting in TASKS[name].settings]


def numbers(element):
    return np.array([float(word) for word in element.text.split()])


def matrix(pose):
    placed = np.eye(4)
    placed[:3, :3] = Rotation.from_euler("xyz", pose[3:]).as_matrix()
    placed[:3, 3] = pose[:3]
    return placed


def half_extents(geometry):
    """Half edges of the box around a shape, in the shape's own frame."""
    shape = geometry[0]
    if shape.tag == "box":
        return numbers(shape.find("size")) / 2
    if shape.tag == "sphere":
        return np.full(3, float(shape.find("radius").text))
    if shape.tag == "ellipsoid":
        return numbers(shape.find("radii"))
    radius, length = (float(shape.find(tag).text) for tag in ("radius", "length"))
    return np.array([radius, radius, length / 2 + (radius if shape.tag == "capsule" else 0.0)])


def around(link):
    """Lowest and highest corner of what can be touched, in the link's frame."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for collision in link.findall("collision"):
        pose = matrix(numbers(collision.find("pose")) if collision.find("pose") is not None else np.zeros(6))
        half = half_extents(collision.find("geometry"))
        if collision.find("geometry")[0].tag in ("sphere", "ellipsoid"):
            reach = np.sqrt((pose[:3, :3] ** 2) @ half**2)
        else:
            reach = np.abs(pose[:3, :3]) @ half
        low, high = np.minimum(low, pose[:3, 3] - reach), np.maximum(high, pose[:3, 3] + reach)
    return low, high


@pytest.mark.parametrize(("task", "setting"), SETTINGS)
def test_world_and_scene_agree_object_by_object(task, setting, parsed):
    for seed in (3, 4):
        scene = make_task(task, setting).sample(seed)
        world = parsed(world_sdf(load_robot("v1"), scene)).find("world")
        assert world.get("name") == WORLD
        models = {model.get("name"): model for model in world.findall("model")}
        assert set(scene.names()) <= set(models)
        for placed in scene.placed:
            model, item = models[placed.name], placed.item
            assert model.find("static") is None or model.find("static").text in ("false", "0")
            expected = np.eye(4)
            pose = placed.pose()
            expected[:3, :3], expected[:3, 3] = Rotation.from_quat(pose[3:]).as_matrix(), pose[:3]
            np.testing.assert_allclose(matrix(numbers(model.find("pose"))), expected, atol=1e-6)
            link = model.find("link")
            assert float(link.find("inertial/mass").text) == pytest.approx(item.mass, rel=1e-5)
            low, high = around(link)
            if item.container and item.round:  # walls of flat boards: the circle goes through their corners
                board = max(numbers(size)[1] for size in link.findall("collision/geometry/box/size")) / 2
                assert np.hypot(high[0], board) == pytest.approx(item.size[0] / 2, abs=1e-3)
                low, high = low[2:], high[2:]
            np.testing.assert_allclose(high - low, item.size[3 - len(low) :], atol=2e-3)
            painted = [numbers(visual.find("material/diffuse"))[:3] for visual in link.findall("visual")]
            plain = [part.color for part in item.parts if not getattr(part, "pattern", None)]
            for color in plain:
                assert min(np.abs(color - other).max() for other in painted) < 1e-3, placed.name
        table = scene.table
        top = next(c for c in models["table"].iter("collision") if c.get("name") == "table_top_collision")
        np.testing.assert_allclose(numbers(models["table"].find("pose"))[:3], [table.x, table.y, table.height])
        np.testing.assert_allclose(
            numbers(top.find("geometry/box/size")), [table.depth, table.width, table.thickness], atol=1e-6
        )
        for name in ("floor", "table"):
            assert models[name].find("static").text in ("true", "1")


def test_a_scene_always_gives_the_same_world():
    scene = make_task("pick_place").sample(5)
    assert world_sdf(load_robot("v1"), scene) == world_sdf(load_robot("v1"), scene)


def test_angles_turn_as_quaternions_do():
    rng = np.random.default_rng(0)
    straight = [[np.sqrt(0.5), 0.0, sign * np.sqrt(0.5), 0.0] for sign in (1, -1)]
    mixed = (Rotation.from_euler("xyz", [0.4, np.pi / 2, 0.9]).as_quat())[[3, 0, 1, 2]]
    for quat in [*rng.normal(size=(100, 4)), *np.array(straight), mixed]:
        quat = quat / np.linalg.norm(quat)
        turned = Rotation.from_euler("xyz", _pose(np.zeros(3), quat)[3:]).as_matrix()
        np.testing.assert_allclose(turned, Rotation.from_quat(quat[[1, 2, 3, 0]]).as_matrix(), atol=1e-7)
