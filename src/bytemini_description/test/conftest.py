"""What the tests of this package share: the robot in MuJoCo with a planar base, and a small inverse kinematics."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import SIDES, VERSIONS, RobotModel, load_robot

BASE_JOINTS = (("base_x", "slide", (1, 0, 0)), ("base_y", "slide", (0, 1, 0)), ("base_yaw", "hinge", (0, 0, 1)))


class MujocoRobot:
    """The URDF read by MuJoCo; the root link has no joint of its own, so the planar base is three joints more."""

    def __init__(self, robot: RobotModel):
        self.robot = robot
        spec = mujoco.MjSpec.from_string(robot.urdf)
        kinds = {"slide": mujoco.mjtJoint.mjJNT_SLIDE, "hinge": mujoco.mjtJoint.mjJNT_HINGE}
        for name, kind, axis in BASE_JOINTS:
            spec.body("base_footprint").add_joint(name=name, type=kinds[kind], axis=axis)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)

    def set(self, position, base_pose=(0.0, 0.0, 0.0)):
        """Put the robot into a posture."""
        for (name, _, _), value in zip(BASE_JOINTS, base_pose, strict=True):
            self.data.joint(name).qpos = value
        for name, value in zip(self.robot.joint_names, position, strict=True):
            self.data.joint(name).qpos = value
        for side in SIDES:
            self.data.joint(f"{side}_gripper_mimic_joint").qpos = self.data.joint(f"{side}_gripper_joint").qpos
        mujoco.mj_forward(self.model, self.data)

    def pose(self, body):
        """Pose (4, 4) of a link in the world."""
        pose = np.eye(4)
        pose[:3, :3] = self.data.body(body).xmat.reshape(3, 3)
        pose[:3, 3] = self.data.body(body).xpos
        return pose

    def contacts(self):
        """Names of the collision shapes that touch."""
        pairs = [(self.model.geom(c.geom1).name, self.model.geom(c.geom2).name) for c in self.data.contact]
        return pairs[: self.data.ncon]


@pytest.fixture(params=VERSIONS)
def robot(request):
    return load_robot(request.param)


@pytest.fixture
def kinematics(robot):
    return Kinematics(robot)


@pytest.fixture
def mujoco_robot(robot):
    return MujocoRobot(robot)


@pytest.fixture
def random_position(robot):
    """A function that draws postures within the limits, the wrists' discs included."""
    rng = np.random.default_rng(7)
    return lambda: robot.clamp_wrist(rng.uniform(robot.lower, robot.upper))
