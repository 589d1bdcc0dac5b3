#!/usr/bin/env python3
"""Render the robot with MuJoCo, for the README and to judge the visuals by eye.

With no display: `MUJOCO_GL=egl python scripts/render.py OUT.png --view front-left`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mujoco
import numpy as np
from bytemini_description.robot import SIDES, VERSIONS, load_robot
from PIL import Image

# name: azimuth and elevation (degrees), distance and target (m) of MuJoCo's camera.
VIEWS = {
    "front-left": (215.0, -12.0, 2.35, (0.12, 0.0, 0.66)),
    "front": (180.0, -8.0, 2.35, (0.12, 0.0, 0.66)),
    "left": (270.0, -8.0, 2.35, (0.12, 0.0, 0.66)),
    "back-right": (40.0, -15.0, 2.35, (0.12, 0.0, 0.66)),
    "hand": (235.0, -35.0, 0.45, (0.50, 0.20, 0.95)),
}


def render(
    version: str, view: str, lift: float | None, collision: bool, size: tuple[int, int], zero: bool
) -> Image.Image:
    """One picture of the robot on a light floor, at home or at zero."""
    robot = load_robot(version)
    spec = mujoco.MjSpec.from_string(robot.urdf)
    width, height = size
    spec.visual.global_.offwidth, spec.visual.global_.offheight = width, height
    spec.visual.quality.offsamples = 8
    spec.visual.quality.shadowsize = 4096
    spec.visual.headlight.active = True
    spec.visual.headlight.ambient = [0.45, 0.45, 0.45]
    spec.visual.headlight.diffuse = [0.35, 0.35, 0.35]
    spec.visual.rgba.haze = [1, 1, 1, 1]
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[1, 1, 1],
        rgb2=[0.86, 0.89, 0.93],
        width=64,
        height=384,
    )
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[4, 4, 0.1], rgba=[0.80, 0.82, 0.84, 1], group=2)
    sun = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    spec.worldbody.add_light(type=sun, pos=[1, 1, 4], dir=[-0.35, -0.25, -1], diffuse=[0.45] * 3, castshadow=True)
    spec.worldbody.add_light(type=sun, pos=[2, -3, 3], dir=[-0.6, 0.7, -0.4], diffuse=[0.35] * 3, castshadow=False)
    model = spec.compile()
    data = mujoco.MjData(model)
    position = np.zeros_like(robot.home) if zero else robot.home.copy()
    if lift is not None:
        position[robot.indices(["lift_joint"])] = lift
    for name, value in zip(robot.joint_names, position, strict=True):
        data.joint(name).qpos = value
    for side in SIDES:
        data.joint(f"{side}_gripper_mimic_joint").qpos = data.joint(f"{side}_gripper_joint").qpos
    mujoco.mj_forward(model, data)
    camera = mujoco.MjvCamera()
    camera.azimuth, camera.elevation, camera.distance, camera.lookat[:] = VIEWS[view]
    option = mujoco.MjvOption()
    option.geomgroup[:] = 0
    option.geomgroup[[2, 0 if collision else 1]] = 1
    with mujoco.Renderer(model, height, width) as renderer:
        renderer.update_scene(data, camera, option)
        return Image.fromarray(renderer.render())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--robot", choices=VERSIONS, default="v1")
    parser.add_argument("--view", choices=tuple(VIEWS), default="front-left")
    parser.add_argument("--lift", type=float, help="m; as at home unless given")
    parser.add_argument("--collision", action="store_true", help="show the collision shapes instead")
    parser.add_argument("--zero", action="store_true", help="all joints at zero instead of home")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 800), metavar=("WIDTH", "HEIGHT"))
    arguments = parser.parse_args()
    image = render(
        arguments.robot, arguments.view, arguments.lift, arguments.collision, tuple(arguments.size), arguments.zero
    )
    image.save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
