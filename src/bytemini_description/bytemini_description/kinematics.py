"""Forward kinematics, Jacobians and gravity of the whole body (Pinocchio inside).

The base is a planar joint between odom and base_footprint, so that base and arms are one chain.
"""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from numpy.typing import ArrayLike, NDArray

from bytemini_description.robot import RobotModel

Array = NDArray[np.float64]


class Kinematics:
    """Kinematics of one robot. Not thread-safe: it keeps Pinocchio's working memory.

    Attributes:
        model, data: Pinocchio's, with the planar base as joint 1 and the mimic fingers as joints of their own.
        velocity_columns: (22,) Pinocchio's velocity index of vx, vy, wz and of each of `robot.joint_names`.
    """

    def __init__(self, robot: RobotModel):
        self.robot = robot
        self.model = pin.buildModelFromXML(robot.urdf, pin.JointModelPlanar())
        self.data = self.model.createData()
        joints = [self.model.joints[self.model.getJointId(name)] for name in robot.joint_names]
        self._q = pin.neutral(self.model)
        self._q_columns = np.array([joint.idx_q for joint in joints])
        self.velocity_columns = np.array([0, 1, 2, *(joint.idx_v for joint in joints)])
        # A mimic finger moves with its gripper: (index in q, index in v, which of the 22 columns).
        grippers = [name for name in robot.joint_names if name.endswith("_gripper_joint")]
        fingers = [
            self.model.joints[self.model.getJointId(name.replace("_joint", "_mimic_joint"))] for name in grippers
        ]
        self._mimic_source = robot.indices(grippers)
        self._mimic_q = np.array([joint.idx_q for joint in fingers])
        self._mimic_v = np.array([joint.idx_v for joint in fingers])
        self._frames = {frame.name: i for i, frame in enumerate(self.model.frames)}

    def configuration(self, position: ArrayLike, base_pose: ArrayLike = (0.0, 0.0, 0.0)) -> Array:
        """Pinocchio's q of joint positions (19,) and base pose (x, y, yaw) in odom; a new array."""
        q: Array = self._q.copy()
        position = np.asarray(position, dtype=np.float64)
        x, y, yaw = np.asarray(base_pose, dtype=np.float64)
        q[:4] = x, y, np.cos(yaw), np.sin(yaw)
        q[self._q_columns] = position
        q[self._mimic_q] = position[self._mimic_source]
        return q

    def forward(self, frame: str, position: ArrayLike, base_pose: ArrayLike = (0.0, 0.0, 0.0)) -> Array:
        """Pose (4, 4) of a frame of the URDF in odom.

        Args:
            frame: its name.
            position: (19,) in the order of `robot.joint_names`.
            base_pose: (x, y, yaw) of base_footprint in odom.

        Raises:
            KeyError: the URDF has no such frame.
        """
        index = self._frame(frame)
        pin.forwardKinematics(self.model, self.data, self.configuration(position, base_pose))
        pose: Array = pin.updateFramePlacement(self.model, self.data, index).homogeneous
        return pose

    def jacobian(self, frame: str, position: ArrayLike, base_pose: ArrayLike = (0.0, 0.0, 0.0)) -> Array:
        """Jacobian (6, 22) of a frame: rows linear then angular velocity of its origin, in odom axes.

        Columns: base vx, vy, wz in base_footprint axes, then `robot.joint_names`. Arguments and errors as `forward`.
        """
        index = self._frame(frame)
        full = pin.computeFrameJacobian(
            self.model,
            self.data,
            self.configuration(position, base_pose),
            index,
            pin.ReferenceFrame.LOCAL_WORLD_ALIGNED,
        )
        jacobian: Array = full[:, self.velocity_columns]
        jacobian[:, 3 + self._mimic_source] += full[:, self._mimic_v]
        return jacobian

    def gravity(self, position: ArrayLike) -> Array:
        """Efforts (19,) that hold the joints against gravity at `position` (19,), in N and Nm."""
        full = pin.computeGeneralizedGravity(self.model, self.data, self.configuration(position))
        effort: Array = full[self.velocity_columns[3:]]
        effort[self._mimic_source] += full[self._mimic_v]
        return effort

    def _frame(self, name: str) -> int:
        try:
            return self._frames[name]
        except KeyError:
            known = ", ".join(frame for frame in self._frames if not frame.endswith("_joint"))
            raise KeyError(f"the robot has no frame {name}, expected one of {known}") from None
