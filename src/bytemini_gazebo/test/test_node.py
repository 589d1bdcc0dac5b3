"""The driver node in the real stack, with a stand-in for Gazebo: topics as the bridge brings them, physics by MuJoCo.

What the stand-in gets is what Gazebo's controllers would get, efforts and a twist; it holds them for an update.
"""

import dataclasses
import threading
import time

import numpy as np
import pytest
import rclpy
from bytemini_core.ros import odometry_message, to_time
from bytemini_core.types import JointCommand
from bytemini_description.robot import load_robot
from bytemini_sim.episode import RolloutOptions
from bytemini_sim.model import PhysicsConfig
from bytemini_sim.tasks import make_task
from bytemini_sim.world import World
from geometry_msgs.msg import TransformStamped, Twist
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from tf2_msgs.msg import TFMessage

from bytemini_bringup.stack import stack
from bytemini_sim import wire

SEED = 3
INSTALLATION = ("gazebo", "gazebo_bridge", "gazebo_spawn", "gazebo_controllers", "robot_state_publisher")
PACE = 0.45
"""Times real time at most: the nodes of the stack go by simulated time, but need their own."""


class StandIn(threading.Thread):
    """Gazebo, its controllers and its bridge, as the driver sees them."""

    def __init__(self, domain, scene):
        super().__init__(daemon=True)
        self.robot = load_robot("v1")
        self.world = World(self.robot, scene, cameras=(), physics=PhysicsConfig(substeps=1))
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("stand_in", context=self.context)
        self.clock = self.node.create_publisher(Clock, "/clock", 10)
        self.joints = self.node.create_publisher(JointState, "joint_state_broadcaster/joint_states", 1)
        self.odometry = self.node.create_publisher(Odometry, "gazebo/odom", 1)
        self.poses = self.node.create_publisher(TFMessage, "gazebo/poses", 1)
        self.node.create_subscription(Float64MultiArray, "effort_controller/commands", self.on_effort, 1)
        self.node.create_subscription(Twist, "gazebo/cmd_vel", self.on_twist, 1)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.effort, self.twist, self.answers = None, np.zeros(3), 0
        self.stop = threading.Event()

    def on_effort(self, message):
        self.effort, self.answers = np.array(message.data), self.answers + 1

    def on_twist(self, message):
        self.twist = np.array([message.linear.x, message.linear.y, message.angular.z])

    def run(self):
        robot, zero = self.robot, np.zeros(19)
        begin, tick = time.monotonic(), 0
        while not self.stop.is_set():
            asked = self.answers
            self.publish(tick)
            late = time.monotonic() + 0.5
            while self.answers == asked and time.monotonic() < late and not self.stop.is_set():
                self.executor.spin_once(timeout_sec=0.01)
            command = None
            if self.effort is not None:
                command = JointCommand(
                    self.world.time, robot.joint_names, zero, zero, zero, zero, self.effort, self.twist
                )
            self.world.step(command)
            tick += 1
            time.sleep(max(0.0, begin + tick * 0.0025 / PACE - time.monotonic()))
            begin = max(begin, time.monotonic() - tick * 0.0025 / PACE - 0.02)

    def publish(self, tick):
        now = to_time(self.world.time)
        state = self.world.state()
        self.clock.publish(Clock(clock=now))
        self.odometry.publish(odometry_message(state))
        if tick % 6 == 0:  # Gazebo tells poses at 60 Hz
            transforms = []
            for name, pose in zip(self.world.scene.names(), self.world.object_poses(), strict=True):
                transform = TransformStamped(child_frame_id=name)
                t, q = transform.transform.translation, transform.transform.rotation
                t.x, t.y, t.z, q.x, q.y, q.z, q.w = pose.tolist()
                transforms.append(transform)
            transforms.append(TransformStamped(child_frame_id="bytemini"))
            self.poses.publish(TFMessage(transforms=transforms))
        order = np.argsort(state.names)
        message = JointState(
            name=[*(state.names[i] for i in order), "left_gripper_mimic_joint", "right_gripper_mimic_joint"],
            position=[*state.position[order], 0.04, 0.04],
            velocity=[*state.velocity[order], 0.0, 0.0],
            effort=[*state.effort[order], float("nan"), float("nan")],
        )
        message.header.stamp = now
        self.joints.publish(message)


@pytest.mark.e2e
def test_a_whole_episode_is_driven_and_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(wire, "stack", lambda values: tuple(p for p in stack(values) if p.name not in INSTALLATION))
    options = RolloutOptions(cameras=False, outside=False, instruction="put the apple into the basket")
    scene = make_task(options.task, options.setting).sample(SEED, options.instruction)
    with wire.WireRunner(options, tmp_path, record=False, gazebo=SEED) as runner:
        gazebo = StandIn(runner.domain, scene)
        gazebo.start()
        try:
            episode = runner.run(SEED)
            with pytest.raises(ValueError, match="Gazebo shows pick_place, basic, seed 3"):
                runner.run(SEED + 1)
        finally:
            gazebo.stop.set()
            gazebo.join(5.0)
            gazebo.context.try_shutdown()
    assert episode.result.success, dataclasses.asdict(episode.result)
    assert episode.result.instruction_following
    assert episode.result.limit_violations == 0
    for name, pose in zip(scene.names(), gazebo.world.object_poses(), strict=True):
        np.testing.assert_allclose(episode.final_poses[name][:3], pose[:3], atol=0.01)
