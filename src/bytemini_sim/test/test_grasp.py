"""Where hands may go: distances, covering spheres, candidate grasps."""

import numpy as np
import pytest
from bytemini_core.types import SceneObject
from bytemini_description.robot import load_robot
from bytemini_sim.catalogue import load_catalogue
from bytemini_sim.clearance import BodyModel, Solid, Solids, cover, inside_of, parts_of, solids_of
from bytemini_sim.grasp import ASKEW, MAX_WIDTH, PAD, TIP, candidates, hand_rotation
from bytemini_sim.ik import Arm
from hypothesis import given, settings
from hypothesis import strategies as st

TABLE = 0.72


def thing(name: str, x: float = 0.55, y: float = 0.1, yaw: float = 0.3) -> SceneObject:
    """A thing of the catalogue where it would stand on the table."""
    catalogue = load_catalogue()
    item = next(item for item in catalogue.objects + catalogue.containers if item.name == name)
    pose = np.array([x, y, TABLE + item.size[2] / 2, 0, 0, np.sin(yaw / 2), np.cos(yaw / 2)])
    return SceneObject(name, item.category, item.color, item.shape, pose, np.array(item.size), item.container)


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(["box", "cylinder", "capsule", "ellipsoid"]),
    seed=st.integers(0, 10_000),
)
def test_distance_is_zero_on_the_surface_and_grows_outwards(kind, seed):
    rng = np.random.default_rng(seed)
    half = rng.uniform(0.02, 0.06, 3)
    if kind == "ellipsoid":
        half[:] = half[0]
    if kind in ("cylinder", "capsule"):
        half[1] = half[0]
        half[2] += half[0]
    solid = Solid(kind, hand_rotation(rng.uniform(-3, 3), rng.uniform(0, 1.5)), rng.uniform(-1, 1, 3), half)
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    one = Solids([solid])
    # March out from the centre to the surface: the distance there is 0, and 5 cm further at most 5 cm.
    t = np.linspace(0, 0.4, 4001)
    d = one.distance(solid.position + t[:, None] * direction)
    surface = t[np.argmax(d > 0)]
    assert d[0] < 0
    assert abs(d[np.argmax(d > 0)]) < 2e-4
    outside = one.distance(solid.position + (surface + 0.05) * direction)
    assert 0.0 < outside <= 0.0502
    assert Solids([]).distance(np.zeros(3)) == np.inf


@pytest.mark.parametrize("kind", ["box", "cylinder", "capsule", "ellipsoid"])
def test_covering_spheres_cover(kind):
    half = {"ellipsoid": (0.03, 0.03, 0.03), "box": (0.02, 0.05, 0.03)}.get(kind, (0.03, 0.03, 0.08))
    solid = Solid(kind, np.eye(3), np.zeros(3), np.array(half))
    centres, radius = cover(solid)
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (20_000, 3)) * half
    points = points[Solids([solid]).distance(points) < 0]
    reach = np.linalg.norm(points[:, None] - centres, axis=-1).min(axis=1) - radius
    assert reach.max() < 0.75 * min(half)  # corners stand out, edges by 0.41; planners keep a margin
    assert np.quantile(reach, 0.8) < 0.0015


def test_every_collision_shape_of_the_arms_is_covered():
    robot = load_robot("v1")
    body = BodyModel(robot)
    for side in ("left", "right"):
        assert set(body.arms[side]) == {"upper", "fore", "hand"}
        fingers = body.arms[side]["hand"].finger
        assert (fingers == 1).sum() == (fingers == -1).sum() > 0
    # Opening the gripper moves each finger by the joint's value, apart.
    arm = Arm(robot, "left")
    home = robot.home[robot.indices(robot.arm_joints("left"))]
    shut, _ = body.spheres(arm, home, np.array(0.0), 0.15)["hand"]
    wide, _ = body.spheres(arm, home, np.array(0.04), 0.15)["hand"]
    np.testing.assert_allclose(
        np.linalg.norm(wide - shut, axis=1), 0.04 * np.abs(body.arms["left"]["hand"].finger), atol=1e-12
    )


@pytest.mark.parametrize("ends", [False, True], ids=["middle", "ends"])
@pytest.mark.parametrize("name", [item.name for item in load_catalogue().objects])
def test_every_object_can_be_grasped(name, ends):
    item = thing(name)
    grasps = candidates(item, 0.0, TABLE, ends=ends)
    if ends and not len(grasps):  # not all are long
        return
    assert len(grasps) >= 4
    assert (grasps.width <= MAX_WIDTH).all()
    # The fingers' axis is level, the approach is 20 to 75 degrees below horizontal, tips stay above the table.
    np.testing.assert_allclose(grasps.rotation[:, 2, 1], 0.0, atol=1e-9)
    elevation = np.degrees(np.arcsin(-grasps.approach[:, 2]))
    assert elevation.min() > 20
    assert elevation.max() < 75
    tip = grasps.tcp[:, 2] - TIP * np.sin(np.radians(elevation)) - PAD * np.cos(np.radians(elevation))
    assert tip.min() > TABLE + 0.003
    # Somewhere between the pads, there is something.
    half = grasps.tcp + 0.5 * TIP * grasps.approach
    between = np.stack([grasps.tcp, half, grasps.tcp + TIP * grasps.approach], axis=1)
    assert (Solids(solids_of(item)).distance(between).min(axis=1) < 0.006).all()


def test_where_a_lens_stands_out_from_the_middle_the_ends_can_be_taken():
    item = thing("camera", yaw=0.0)  # 96 mm along x; the lens takes up the middle 40
    grasps = candidates(item, 0.0, TABLE, ends=True)
    across = np.abs(grasps.rotation[:, 1, 1]) > 1 - 1e-9
    beside = grasps.tcp[across, 0] - item.pose[0]
    for end in (-1, 1):
        assert ((end * beside > 0.020 + PAD) & (end * beside <= 0.048)).any()


def test_boxes_are_taken_flush_or_a_little_askew():
    item = thing("cheese", yaw=0.5)  # 80 x 46 mm: only one pair of faces fits
    grasps = candidates(item, 0.0, TABLE)
    across = np.array([-np.sin(0.5), np.cos(0.5), 0.0])
    angle = np.arccos(np.clip(np.abs(grasps.rotation[:, :, 1] @ across), 0, 1))
    assert angle.max() < ASKEW + 1e-6
    assert angle.min() < 1e-6
    assert grasps.cost[angle < 0.01].min() < grasps.cost[angle > 0.01].min()


def test_containers_are_hollow():
    for name in ("basket", "bowl"):
        item = thing(name)
        centre = np.asarray(item.pose[:3])
        solids = Solids(solids_of(item))
        assert solids.distance(centre + np.array([0, 0, 0.01])) > 0.02
        inside = inside_of(item)
        assert inside.holds(np.zeros(3))
        assert not inside.holds(np.array([0.2, 0.0, 0.0]))
        assert len(inside.spots(0.07)) == 9


def test_an_unknown_thing_is_its_box():
    item = SceneObject(
        "gizmo", "thing", "red", "cylinder", np.array([0, 0, 1, 0, 0, 0, 1.0]), np.array([0.06, 0.06, 0.1])
    )
    (part,) = parts_of(item)
    assert part.kind == "cylinder"
    box = SceneObject(
        "crate", "thing", "red", "box", np.array([0, 0, 1, 0, 0, 0, 1.0]), np.array([0.2, 0.3, 0.1]), True
    )
    assert len(parts_of(box)) == 5
    assert inside_of(box).size[0] < 0.2
