"""A scene of `bytemini_sim` as an SDF world for Gazebo Harmonic.

The source is the compiled MuJoCo model of the very same scene, shape by shape with its inertia: whatever the catalogue,
the tasks or the looks add there appears here, and nothing is said twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
from bytemini_core.types import Array
from bytemini_description.robot import RobotModel
from bytemini_sim._mujoco import mujoco
from bytemini_sim.model import build_model
from bytemini_sim.scene import Look, SceneSpec
from numpy.typing import NDArray

WORLD = "bytemini"
"""Name of every world: Gazebo's topics and services carry it."""

STEP = 0.00125
"""Physics step, s. Gazebo's solver has no implicit damping: half of MuJoCo's step keeps the stiff fingers calm,
and two make one update of the driver (config/controllers.yaml)."""

VERSION = "1.9"

_SYSTEMS = (
    ("gz-sim-physics-system", "gz::sim::systems::Physics"),
    ("gz-sim-user-commands-system", "gz::sim::systems::UserCommands"),
    ("gz-sim-scene-broadcaster-system", "gz::sim::systems::SceneBroadcaster"),
    ("gz-sim-forcetorque-system", "gz::sim::systems::ForceTorque"),
)


class SdfError(ValueError):
    """Something of the scene has no counterpart in SDF."""


def world_sdf(robot: RobotModel, scene: SceneSpec) -> str:
    """The world of a scene, without the robot, which is spawned from its own description.

    Args:
        robot: only because a scene is compiled around one.
        scene: from `Task.sample`.

    Returns:
        An SDF 1.9 document. Static models "floor" and "table" (and what else the scene has that stands still), one free
        model per object and container, called as in the scene, with one link "body". Poses are those of the scene's
        start (before anything has settled), in odom; world and odom coincide.

    Raises:
        SdfError: a shape that SDF does not have.
    """
    model = build_model(robot, scene)
    root = ElementTree.Element("sdf", version=VERSION)
    world = _add(root, "world", name=WORLD)
    physics = _add(world, "physics", name="step", type="ignored")
    _add(physics, "max_step_size", STEP)
    _add(physics, "real_time_factor", 1.0)
    for filename, name in _SYSTEMS:
        _add(world, "plugin", filename=filename, name=name)
    sensors = _add(world, "plugin", filename="gz-sim-sensors-system", name="gz::sim::systems::Sensors")
    _add(sensors, "render_engine", "ogre2")
    _add(world, "gravity", model.opt.gravity)
    _add_light(world, model, scene.look)
    movable = [f"item/{name}" for name in scene.names()]
    for body in range(model.nbody):
        name = model.body(body).name
        if name in movable:
            _add_free_body(world, model, body, name.removeprefix("item/"))
        elif model.body_rootid[body] == body and not _moves(model, body):
            for title, geoms in _fixed_geoms(model, body):
                _add_fixed(world, model, title, body, geoms)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _moves(model: mujoco.MjModel, body: int) -> bool:
    """Whether a body of the top level (or anything it carries) has a joint: the robot, and every object."""
    return bool((model.body_jntnum[model.body_rootid == body] > 0).any()) if body else False


def _fixed_geoms(model: mujoco.MjModel, body: int) -> Iterator[tuple[str, list[int]]]:
    """Static models and their shapes: each shape of the world itself is a model, a fixed body is one as a whole."""
    geoms = [geom for geom in range(model.ngeom) if model.geom_bodyid[geom] == body]
    if body == 0:
        yield from ((model.geom(geom).name, [geom]) for geom in geoms)
    elif geoms:
        yield model.body(body).name, geoms


def _add_light(world: ElementTree.Element, model: mujoco.MjModel, look: Look) -> None:
    """The room's lamps. MuJoCo's light at the viewer, which Gazebo has not, becomes ambient light as a whole."""
    head = model.vis.headlight
    scene = _add(world, "scene")
    _add(scene, "ambient", (*np.minimum(np.add(head.ambient, head.diffuse), 1.0), 1.0))
    _add(scene, "background", (*look.sky[0], 1.0))
    _add(scene, "shadows", "true")
    for index in range(model.nlight):
        lamp = _add(world, "light", name=model.light(index).name, type="directional")
        _add(lamp, "pose", (*model.light_pos[index], 0.0, 0.0, 0.0))
        _add(lamp, "diffuse", (*np.minimum(model.light_diffuse[index], 1.0), 1.0))
        _add(lamp, "specular", (*np.minimum(model.light_specular[index], 1.0), 1.0))
        _add(lamp, "direction", model.light_dir[index])
        _add(lamp, "cast_shadows", str(index == 0).lower())


def _add_fixed(world: ElementTree.Element, model: mujoco.MjModel, name: str, body: int, geoms: list[int]) -> None:
    element = _add(world, "model", name=name)
    _add(element, "static", "true")
    _add(element, "pose", _pose(model.body_pos[body], model.body_quat[body]))
    link = _add(element, "link", name="body")
    for geom in geoms:
        _add_geom(link, model, geom)


def _add_free_body(world: ElementTree.Element, model: mujoco.MjModel, body: int, name: str) -> None:
    element = _add(world, "model", name=name)
    _add(element, "pose", _pose(model.body_pos[body], model.body_quat[body]))
    link = _add(element, "link", name="body")
    inertial = _add(link, "inertial")
    _add(inertial, "pose", _pose(model.body_ipos[body], model.body_iquat[body]))
    _add(inertial, "mass", float(model.body_mass[body]))
    inertia = _add(inertial, "inertia")
    for key, value in zip(("ixx", "iyy", "izz"), model.body_inertia[body], strict=True):
        _add(inertia, key, float(value))
    for geom in range(model.ngeom):
        if model.geom_bodyid[geom] == body:
            _add_geom(link, model, geom)


def _add_geom(link: ElementTree.Element, model: mujoco.MjModel, geom: int) -> None:
    """A shape to be seen, and to be touched if it is solid."""
    name = model.geom(geom).name or f"shape_{geom - model.body_geomadr[model.geom_bodyid[geom]]}"
    pose = _pose(model.geom_pos[geom], model.geom_quat[geom])
    visual = _add(link, "visual", name=f"{name}_visual")
    _add(visual, "pose", pose)
    visual.append(_geometry(model, geom))
    color = _color(model, geom)
    material = _add(visual, "material")
    _add(material, "ambient", color)
    _add(material, "diffuse", color)
    _add(material, "specular", (0.1, 0.1, 0.1, 1.0))
    if not (model.geom_contype[geom] or model.geom_conaffinity[geom]):
        return
    collision = _add(link, "collision", name=f"{name}_collision")
    _add(collision, "pose", pose)
    collision.append(_geometry(model, geom))
    slide, spin, _ = model.geom_friction[geom]
    friction = _add(_add(collision, "surface"), "friction")
    ode = _add(friction, "ode")
    _add(ode, "mu", float(slide))
    _add(ode, "mu2", float(slide))
    _add(_add(_add(friction, "torsional"), "ode"), "slip", 0.0)
    _add(friction.find("torsional"), "coefficient", float(spin))


def _geometry(model: mujoco.MjModel, geom: int) -> ElementTree.Element:
    geometry = ElementTree.Element("geometry")
    kind, size = mujoco.mjtGeom(model.geom_type[geom]), model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        _add(_add(geometry, "box"), "size", 2 * size)
    elif kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        _add(_add(geometry, "sphere"), "radius", float(size[0]))
    elif kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
        _add(_add(geometry, "ellipsoid"), "radii", size)
    elif kind in (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE):
        shape = _add(geometry, "cylinder" if kind == mujoco.mjtGeom.mjGEOM_CYLINDER else "capsule")
        _add(shape, "radius", float(size[0]))
        _add(shape, "length", float(2 * size[1]))
    elif kind == mujoco.mjtGeom.mjGEOM_PLANE:
        plane = _add(geometry, "plane")
        _add(plane, "normal", (0.0, 0.0, 1.0))
        _add(plane, "size", 2 * size[:2])
    else:
        raise SdfError(f"shape {model.geom(geom).name!r} is a {kind.name}, which has no counterpart in SDF")
    return geometry


def _color(model: mujoco.MjModel, geom: int) -> Array:
    """(4,) RGBA: the shape's own colour, or the mean of the picture on it."""
    material = int(model.geom_matid[geom])
    texture = int(model.mat_texid[material, int(mujoco.mjtTextureRole.mjTEXROLE_RGB)]) if material >= 0 else -1
    rgba = np.array(model.geom_rgba[geom], dtype=np.float64)
    if texture < 0:
        return rgba
    begin, channels = int(model.tex_adr[texture]), int(model.tex_nchannel[texture])
    end = begin + int(model.tex_height[texture]) * int(model.tex_width[texture]) * channels
    pixels: NDArray[np.uint8] = model.tex_data[begin:end].reshape(-1, channels)
    rgba[:3] *= pixels[:, :3].mean(axis=0) / 255.0
    return rgba


def _pose(position: Array, quat: Array) -> Array:
    """(6,) x y z roll pitch yaw of a position and a quaternion (w, x, y, z): SDF's fixed-axis angles."""
    w, x, y, z = quat
    sine = float(np.clip(2.0 * (w * y - z * x), -1.0, 1.0))
    if abs(sine) > 1.0 - 1e-12:  # looking straight up or down: roll and yaw are one
        return np.array([*position, 0.0, np.copysign(np.pi / 2, sine), -2.0 * np.sign(sine) * np.arctan2(x, w)])
    roll = np.arctan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y))
    yaw = np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
    return np.array([*position, roll, np.arcsin(sine), yaw])


def _add(parent: ElementTree.Element | None, tag: str, value: object = None, **attributes: str) -> ElementTree.Element:
    assert parent is not None
    element = ElementTree.SubElement(parent, tag, attributes)
    if isinstance(value, np.ndarray | tuple):
        element.text = " ".join(f"{number:.12g}" for number in value)
    elif isinstance(value, float):
        element.text = f"{value:.12g}"
    elif value is not None:
        element.text = str(value)
    return element
