"""What robot_state_publisher does, where no ROS distribution is installed: the description and its frames."""

from __future__ import annotations

import sys

import numpy as np
import pinocchio
from bytemini_core.diagnostics import Health, Level, Meter, Reporter
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import LATCHED_QOS, SENSOR_QOS, stamp_of
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

PERIOD = 1.0 / 30.0
"""Seconds between two sets of frames."""


class StatePublisher(Node):
    """Joint states in; /robot_description, /tf and /tf_static out."""

    def __init__(self) -> None:
        super().__init__("robot_state_publisher")
        urdf = parameter(self, "robot_description", "", "the robot's URDF")
        if not urdf:
            raise ValueError("parameter robot_description is empty, expected the robot's URDF")
        self._model = pinocchio.buildModelFromXML(urdf, mimic=True)
        self._data = self._model.createData()
        self._columns = {
            name: int(joint.idx_q)
            for name, joint in zip(self._model.names, self._model.joints, strict=True)
            if joint.nq == 1
        }
        self._position = pinocchio.neutral(self._model)
        self._last = 0
        self._description = self.create_publisher(String, "robot_description", LATCHED_QOS)
        self._description.publish(String(data=urdf))
        self._static = self.create_publisher(TFMessage, "/tf_static", LATCHED_QOS)
        self._moving = self.create_publisher(TFMessage, "/tf", 10)
        bodies = [f for f in self._model.frames if f.type == pinocchio.FrameType.BODY]
        self._links = [(f, self._parent_link(f)) for f in bodies if f.parentFrame]
        pinocchio.framesForwardKinematics(self._model, self._data, self._position)
        self._static.publish(TFMessage(transforms=[self._transform(f, p) for f, p in self._links if self._fixed(f, p)]))
        self._moves = [(f, p) for f, p in self._links if not self._fixed(f, p)]
        self.create_subscription(JointState, "joint_states", self._on_joints, SENSOR_QOS)
        self._states, self._sets = Meter(), Meter()
        self._reporter = Reporter(self, self._report)

    def _report(self) -> dict[str, Health]:
        states, sets = self._states.take()[0], self._sets.take()[0]
        message = "" if states else "no joint states: is the driver or the simulator running?"
        values = {"joint_states_rate": states, "frames_rate": sets}
        return {"": Health(Level.OK if states else Level.WARN, message, values)}

    def _parent_link(self, frame: pinocchio.Frame) -> pinocchio.Frame:
        parent = self._model.frames[frame.parentFrame]
        while parent.type != pinocchio.FrameType.BODY:
            parent = self._model.frames[parent.parentFrame]
        return parent

    @staticmethod
    def _fixed(frame: pinocchio.Frame, parent: pinocchio.Frame) -> bool:
        return bool(frame.parentJoint == parent.parentJoint)

    def _transform(self, frame: pinocchio.Frame, parent: pinocchio.Frame) -> TransformStamped:
        frames = self._data.oMf
        pose = frames[self._model.getFrameId(parent.name)].actInv(frames[self._model.getFrameId(frame.name)])
        message = TransformStamped(child_frame_id=frame.name)
        message.header.frame_id = parent.name
        x, y, z, qx, qy, qz, qw = pinocchio.SE3ToXYZQUAT(pose).tolist()
        translation, rotation = message.transform.translation, message.transform.rotation
        translation.x, translation.y, translation.z = x, y, z
        rotation.x, rotation.y, rotation.z, rotation.w = qx, qy, qz, qw
        return message

    def _on_joints(self, message: JointState) -> None:
        stamp = stamp_of(message)
        self._states.add()
        if 0 <= stamp - self._last < PERIOD * 1e9:
            return
        self._last = stamp
        for name, value in zip(message.name, message.position, strict=False):
            if name in self._columns and np.isfinite(value):
                self._position[self._columns[name]] = value
        pinocchio.framesForwardKinematics(self._model, self._data, self._position)
        self._sets.add()
        transforms = [self._transform(frame, parent) for frame, parent in self._moves]
        for transform in transforms:
            transform.header.stamp = message.header.stamp
        self._moving.publish(TFMessage(transforms=transforms))


def main() -> int:
    """Console entry."""
    return run_node(StatePublisher)


if __name__ == "__main__":
    sys.exit(main())
