import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from bytemini_sim.rendering import Renderer, RenderError
from bytemini_sim.tasks import make_task
from bytemini_sim.world import World


@pytest.fixture(scope="module")
def world(v1):
    world = World(v1, make_task("pick_place").sample(10, "put the apple into the basket"))
    try:
        world.images()
    except RenderError as error:
        pytest.skip(str(error))
    yield world
    world.close()


def project(world, camera, point):
    """Pixel (u, v) and distance along the view of a point in odom."""
    frame = world.frame(f"{camera}_camera_optical_frame")
    local = frame[:3, :3].T @ (point - frame[:3, 3])
    u, v, _ = world.intrinsics(camera) @ (local / local[2])
    return u, v, local[2]


def test_pictures_have_their_size_and_show_something(world):
    images = world.images()
    assert set(images) == {"head", "left_wrist", "right_wrist"}
    for image in images.values():
        assert image.shape == (224, 224, 3)
        assert image.dtype == np.uint8
        assert image.std() > 5


def test_pictures_are_deterministic_and_leave_physics_alone(v1, world):
    world.reset()
    blind = World(v1, world.scene, cameras=())
    for _ in range(20):
        first = world.images()["head"]
        np.testing.assert_array_equal(first, world.images()["head"])
        world.step(None)
        blind.step(None)
    assert world.digest() == blind.digest()


def test_the_apple_is_red_where_the_camera_model_says_it_is(world):
    apple = next(p for p in world.scene.objects if p.name == "apple")
    apple = dataclasses.replace(apple, position=(0.5, 0.0, apple.position[2]))
    world = World(world.robot, dataclasses.replace(world.scene, objects=(apple,), containers=()))
    u, v, _ = project(world, "head", world.scene_state().find("apple").pose[:3])
    red, green, blue = world.images()["head"][round(v), round(u)].astype(int)
    assert red > 2 * green
    assert red > 2 * blue


def test_depth_is_the_distance_along_the_view(world):
    world = World(world.robot, dataclasses.replace(world.scene, objects=(), containers=()))
    depth = world.depth()["head"]
    assert depth.dtype == np.float32
    for x, y in ((0.4, 0.0), (0.64, 0.0), (0.9, 0.1), (0.7, -0.1)):
        u, v, z = project(world, "head", np.array([x, y, world.scene.table.height]))
        assert depth[round(v), round(u)] == pytest.approx(z, abs=0.01)
    rgb, aligned = world.images_and_depth()["head"]
    np.testing.assert_array_equal(rgb, world.images()["head"])
    np.testing.assert_array_equal(aligned, depth)


def test_the_head_sees_every_object_of_every_scene(robot):
    world = World(robot, make_task("pick_place").sample(0))
    for seed in range(200):
        for placed in make_task("pick_place").sample(seed).placed:
            u, v, _ = project(world, "head", np.array(placed.position))
            assert 8 <= u <= 216, (seed, placed.name)
            assert 8 <= v <= 216, (seed, placed.name)


def test_the_head_sees_both_hands_and_the_wrists_their_fingertips(robot, world):
    world = World(robot, world.scene)
    for side in ("left", "right"):
        u, v, _ = project(world, "head", world.frame(f"{side}_tcp")[:3, 3])
        assert 0 < u < 224
        assert 0 < v < 224
        tip = world.frame(f"{side}_tcp") @ [0, 0, -0.02, 1]
        u, v, z = project(world, f"{side}_wrist", tip[:3])
        assert 0 < u < 224
        assert 40 < v < 184, "in the middle of the picture, with room beyond"
        assert z > 0.05


def test_a_photograph_for_people_is_of_the_asked_size(world):
    for pretty in (False, True):
        picture = world.photograph(size=(120, 160), pretty=pretty)
        assert picture.shape == (120, 160, 3)
        assert picture.std() > 10
    assert world.images()["head"].shape == (224, 224, 3), "another renderer in between does no harm"
    assert world.depth()["head"][112, 112] < 1.5


def test_a_picture_larger_than_the_buffer_is_refused(world):
    with pytest.raises(ValueError, match="expected at most 1280x960"):
        Renderer(world.model, 4000, 10)


@pytest.mark.parametrize("platform", ["glfw", "egl", "osmesa"])
def test_without_opengl_one_line_says_how_to_mend_it(platform):
    code = (
        "from bytemini_description.robot import load_robot\n"
        "from bytemini_sim.tasks import make_task\n"
        "from bytemini_sim.world import World\n"
        "from bytemini_sim.rendering import RenderError\n"
        "import sys\nfor name in ('mujoco.egl', 'mujoco.osmesa'):\n    assert name not in sys.modules\n"
        "sys.modules['mujoco.osmesa'] = None  # as where its library is missing\n"
        "world = World(load_robot('v1'), make_task('pick_place').sample(0))\n"
        "world.step(None)\n"
        "try:\n    world.images()\nexcept RenderError as error:\n    print('REFUSED', error)\n"
    )
    broken = {"MUJOCO_GL": platform, "MUJOCO_EGL_DEVICE_ID": "99", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **broken},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    line = done.stdout.strip()
    assert line.startswith("REFUSED"), done.stderr
    assert "\n" not in line
    assert ("expected egl or osmesa" if platform == "glfw" else "libegl1") in line
