"""From a robot and a scene to a MuJoCo model: everything that the URDF cannot say is added here, through MjSpec."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from bytemini_core.types import CAMERAS, SIDES
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray

from bytemini_sim._mujoco import mujoco
from bytemini_sim.catalogue import Item, Part
from bytemini_sim.scene import Look, Placed, SceneSpec, Table
from bytemini_sim.textures import surface, table_top

BASE_JOINTS = ("base_x_joint", "base_y_joint", "base_yaw_joint")
"""The planar base that a simulator adds below base_footprint (world axes)."""

OUTSIDE_CAMERA = "outside"
"""A fixed camera beside the table, for videos."""

ROBOT_GROUP, SCENE_GROUP, HIDDEN_GROUP = 1, 2, 3
"""Geom groups: what is drawn of the robot, what is drawn of the scene, collision shapes that are not drawn."""

# Visual quality: (shadow map size, samples, slices, stacks, quads). Shadows and multisampling cost ten times the rest
# in software rendering, and the cost of a frame is vertices, so the fast setting draws primitives coarsely.
_FAST = (0, 0, 12, 6, 1)
_PRETTY = (4096, 4, 40, 20, 6)

_CONTAINER_SOLREF = (0.01, 1.0)
_PAD_SOLREF = (0.005, 1.0)
"""Twice the time step: with the default 0.02 a held block creeps 9 mm out of a hand that shakes for 3 s, now 1 mm."""
_PAD_SOLIMP = (0.95, 0.99, 0.001, 0.5, 2.0)
_ROLLING_SHAPES = frozenset({"sphere", "ellipsoid", "capsule", "cylinder"})
_ROLLING_FRICTION = 0.0015
"""Rolling resistance of things that roll, m: an apple on wood stops, and holds on a slope of 2.5 degrees."""


@dataclass(frozen=True, slots=True)
class PhysicsConfig:
    """How finely time is cut. One control tick is `substeps` steps of `timestep` seconds."""

    timestep: float = 0.0025
    substeps: int = 2

    def __post_init__(self) -> None:
        if not 1e-4 <= self.timestep <= 5e-3:
            raise ValueError(f"physics timestep is {self.timestep} s, expected 0.0001 to 0.005")
        if self.substeps < 1:
            raise ValueError(f"substeps is {self.substeps}, expected at least 1")

    @property
    def tick(self) -> int:
        """Length of a control tick, ns."""
        return round(self.timestep * self.substeps * 1e9)


def build_model(
    robot: RobotModel, scene: SceneSpec, physics: PhysicsConfig | None = None, pretty: bool = False
) -> mujoco.MjModel:
    """Compile the robot and a scene.

    Args:
        robot: from `load_robot`.
        scene: from `Task.sample`.
        physics: time steps; None for the default.
        pretty: high-quality drawing (shadows, multisampling, fine meshes) for video instead of fast drawing.
    """
    spec = _robot_spec(robot).copy()
    spec.option.timestep = (physics or PhysicsConfig()).timestep
    _set_quality(spec, pretty)
    _add_room(spec, scene.look, pretty)
    _add_table(spec, scene.table, scene.look)
    for placed in scene.placed:
        _add_item(spec, placed)
    return spec.compile()


def robot_mjcf(robot: RobotModel) -> str:
    """The robot alone as MJCF, its shapes named: for other simulations than this one (tools/check_robosuite.py)."""
    spec = _robot_spec(robot).copy()
    for i, geom in enumerate(spec.geoms):
        geom.name = geom.name or f"{geom.parent.name}_{i}"
    spec.compile()
    return str(spec.to_xml())


@cache
def _robot_spec(robot: RobotModel) -> mujoco.MjSpec:
    """The robot alone, ready to be copied into scenes (RobotModel hashes by identity, and load_robot is cached)."""
    spec = mujoco.MjSpec.from_string(robot.urdf)
    option = spec.option
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    # A diverged state must be reported, never silently replaced by the initial one.
    option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    spec.compiler.boundmass = 0.0
    _add_base(spec, robot)
    _set_contacts(spec, robot)
    _add_actuators(spec, robot)
    for equality in spec.equalities:  # the mimic fingers, soft by default
        equality.solref = (0.004, 1.0)
    for camera in CAMERAS:
        # A MuJoCo camera looks along -z with y up, an optical frame along +z with y down.
        spec.body(f"{camera}_camera_optical_frame").add_camera(
            name=camera, quat=(0.0, 1.0, 0.0, 0.0), fovy=robot.cameras[camera]["fovy"]
        )
    for side in SIDES:
        spec.body(f"{side}_hand_link").add_site(name=f"{side}_wrist", group=4)
        for kind in ("force", "torque"):
            spec.add_sensor(
                name=f"{side}_{kind}",
                type=getattr(mujoco.mjtSensor, f"mjSENS_{kind.upper()}"),
                objtype=mujoco.mjtObj.mjOBJ_SITE,
                objname=f"{side}_wrist",
            )
    return spec


def _add_base(spec: mujoco.MjSpec, robot: RobotModel) -> None:
    root = spec.body("base_footprint")
    slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
    kinds = ((slide, (1, 0, 0)), (slide, (0, 1, 0)), (hinge, (0, 0, 1)))
    for name, (kind, axis) in zip(BASE_JOINTS, kinds, strict=True):
        root.add_joint(name=name, type=kind, axis=axis, armature=robot.base_armature)


def _set_contacts(spec: mujoco.MjSpec, robot: RobotModel) -> None:
    body_friction = robot.contact["body_friction"]
    finger_friction = robot.contact["finger_friction"]
    for geom in spec.geoms:
        if not geom.contype:
            geom.group = ROBOT_GROUP
            continue
        geom.group = HIDDEN_GROUP
        geom.friction = body_friction
        if geom.name.endswith("_pad"):
            # What is between the pads feels the pads' rubber, whatever it is made of: priority over the object.
            geom.priority, geom.condim, geom.friction = 1, 4, finger_friction
            geom.solref, geom.solimp = _PAD_SOLREF, _PAD_SOLIMP
    for first, second in _neighbours(spec):
        spec.add_exclude(bodyname1=first, bodyname2=second)


def _neighbours(spec: mujoco.MjSpec) -> list[tuple[str, str]]:
    """Pairs of links whose contact means nothing: joined through links without a shape, or two fingers of one hand.

    Links joined directly are left out by MuJoCo itself.
    """
    shaped = {geom.parent.name for geom in spec.geoms if geom.contype}
    pairs = []
    for body in spec.bodies:
        if body.name not in shaped:
            continue
        ancestor = body.parent
        direct = True
        while ancestor is not None and ancestor.name not in shaped:
            ancestor, direct = ancestor.parent, False
        if ancestor is not None and not direct and ancestor.name != "world":
            pairs.append((ancestor.name, body.name))
    pairs += [(f"{side}_finger_a_link", f"{side}_finger_b_link") for side in SIDES]
    return pairs


def _add_actuators(spec: mujoco.MjSpec, robot: RobotModel) -> None:
    """One actuator per joint: force = ctrl - K q - D dq, clipped; K and D are written at run time.

    The bias is part of the model, so that implicitfast integrates the damping implicitly and stiff gains stay stable.
    """
    for i, name in enumerate(robot.joint_names):
        spec.joint(name).armature = robot.armature[i]
        _add_affine(spec, name, robot.stiffness[i], robot.damping[i], robot.effort[i])
        if name.endswith("_gripper_joint"):
            spec.joint(name.replace("_gripper_joint", "_gripper_mimic_joint")).armature = robot.armature[i]
    for i, name in enumerate(BASE_JOINTS):
        # The drives' velocity servo, time constant about 20 ms for 100 kg.
        _add_affine(spec, name, 0.0, (5000.0, 5000.0, 1500.0)[i], robot.base_effort[i])


def _add_affine(spec: mujoco.MjSpec, joint: str, stiffness: float, damping: float, effort: float) -> None:
    spec.add_actuator(
        name=joint,
        target=joint,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        gainprm=(1.0,) + (0.0,) * 9,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        biasprm=(0.0, -stiffness, -damping) + (0.0,) * 7,
        forcelimited=mujoco.mjtLimited.mjLIMITED_TRUE,
        forcerange=(-effort, effort),
    )


def _set_quality(spec: mujoco.MjSpec, pretty: bool) -> None:
    quality = spec.visual.quality
    quality.shadowsize, quality.offsamples, quality.numslices, quality.numstacks, quality.numquads = (
        _PRETTY if pretty else _FAST
    )
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1280, 960
    # znear and zfar are relative to the extent. 0.02 m: nearer than anything the wrist cameras have to see, and in
    # front of the camera's own housing.
    spec.stat.extent = 1.0
    spec.stat.center = (0.4, 0.0, 0.8)
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 12.0
    spec.visual.map.shadowclip = 1.5


def _add_room(spec: mujoco.MjSpec, look: Look, pretty: bool) -> None:
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=look.sky[0],
        rgb2=look.sky[1],
        width=64,
        height=384,
    )
    spec.add_texture(
        name="floor",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=look.floor[0],
        rgb2=look.floor[1],
        width=128,
        height=128,
    )
    _material(spec, "floor", "floor", (12.0, 12.0))
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(6.0, 6.0, 0.1),
        material="floor",
        group=SCENE_GROUP,
        friction=(0.8, 0.005, 0.0001),
    )
    head = spec.visual.headlight
    head.active = 1
    light = look.light * np.asarray(look.tint)
    head.ambient = 0.36 * light
    head.diffuse = 0.22 * light
    head.specular = np.full(3, 0.05)
    for name, lamp, strength in (("lamp", (0.2, -1.2, 2.8), 0.50), ("window", (1.8, 1.6, 2.6), 0.22)):
        spec.worldbody.add_light(
            name=name,
            pos=lamp,
            dir=np.subtract((0.5, 0.0, 0.7), lamp),
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            castshadow=pretty and name == "lamp",
            diffuse=strength * light,
            specular=np.full(3, 0.15),
            ambient=np.zeros(3),
        )
    if look.wall is not None:  # behind the table, to be seen only
        spec.worldbody.add_geom(
            name="wall",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=(0.05, 4.0, 1.6),
            pos=(2.6, 0.0, 1.6),
            rgba=(*look.wall, 1.0),
            group=SCENE_GROUP,
            contype=0,
            conaffinity=0,
        )
    position = np.array([1.75, -1.45, 1.75])
    forward = np.array([0.30, 0.0, 0.78]) - position
    z = -forward / np.linalg.norm(forward)
    x = np.cross((0.0, 0.0, 1.0), z)
    x /= np.linalg.norm(x)
    spec.worldbody.add_camera(
        name=OUTSIDE_CAMERA, pos=position, fovy=37.0, quat=_matrix_to_quat(np.column_stack([x, np.cross(z, x), z]))
    )


def _matrix_to_quat(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, matrix.ravel())
    return quat


def _material(spec: mujoco.MjSpec, name: str, texture: str, repeat: tuple[float, float]) -> None:
    material = spec.add_material(name=name, texrepeat=repeat, specular=0.1, shininess=0.1)
    textures = [""] * int(mujoco.mjtTextureRole.mjNTEXROLE)
    textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = texture
    material.textures = textures


def _add_table(spec: mujoco.MjSpec, table: Table, look: Look) -> None:
    pixels = table_top(look.pattern, look.table, look.table_grain)
    texture = spec.add_texture(
        name="table", type=mujoco.mjtTexture.mjTEXTURE_2D, width=pixels.shape[1], height=pixels.shape[0], nchannel=3
    )
    texture.data = pixels.tobytes()
    _material(spec, "table", "table", (1.0, 1.0))
    body = spec.worldbody.add_body(name="table", pos=(table.x, table.y, table.height))
    box = mujoco.mjtGeom.mjGEOM_BOX
    half = (table.depth / 2, table.width / 2, table.thickness / 2)
    common = {"group": SCENE_GROUP, "friction": (0.5, 0.005, 0.0001)}
    body.add_geom(name="table_top", type=box, size=half, pos=(0, 0, -half[2]), material="table", **common)
    leg = (table.height - table.thickness) / 2
    for i, (x, y) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
        body.add_geom(
            name=f"table_leg_{i}",
            type=box,
            size=(0.025, 0.025, leg),
            pos=(x * (half[0] - table.leg_inset), y * (half[1] - 0.04), -table.thickness - leg),
            rgba=(*look.table_legs, 1.0),
            **common,
        )


_GEOM_TYPES = {
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
}


def _add_item(spec: mujoco.MjSpec, placed: Placed) -> None:
    item: Item = placed.item
    body = spec.worldbody.add_body(
        name=f"item/{item.name}",
        pos=placed.position,
        quat=(np.cos(placed.yaw / 2), 0.0, 0.0, np.sin(placed.yaw / 2)),
    )
    body.add_freejoint(name=f"item/{item.name}")
    volume = sum(part.volume for part in item.parts if part.solid)
    for part in item.parts:
        geom = body.add_geom(
            material=_pattern_material(spec, part) if part.pattern else "",
            type=_GEOM_TYPES[part.shape],
            size=part.size,
            pos=part.position,
            quat=part.quaternion,
            rgba=(1.0, 1.0, 1.0, 1.0) if part.pattern else (*part.color, 1.0),
            group=SCENE_GROUP,
            mass=item.mass * part.volume / volume if part.solid else 0.0,
            contype=int(part.solid),
            conaffinity=int(part.solid),
            friction=(item.friction, 0.005, _ROLLING_FRICTION),
        )
        if part.solid and not item.container and part.shape in _ROLLING_SHAPES:
            geom.condim = 6
        if item.container:
            geom.solref = _CONTAINER_SOLREF


def _pattern_material(spec: mujoco.MjSpec, part: Part) -> str:
    """The material of a part's two colours; made once per model."""
    assert part.pattern is not None
    kind, second = part.pattern
    name = f"{kind} {part.color} {second}"
    if not any(material.name == name for material in spec.materials):
        pixels = surface(kind, part.color, second)
        texture = spec.add_texture(
            name=name,
            type=mujoco.mjtTexture.mjTEXTURE_CUBE,
            width=pixels.shape[1],
            height=pixels.shape[0],
            nchannel=3,
        )
        texture.data = pixels.tobytes()
        _material(spec, name, name, (1.0, 1.0))
    return name
