"""ROS node of Gazebo's robot: turns joint commands into controller commands, and publishes the standard topics.

No other node knows which simulator runs. Scenes, ground truth and scoring are those of `bytemini_sim`: a MuJoCo world
of the same scene follows Gazebo's robot and objects, and the very same scorer watches it.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
from bytemini_core.diagnostics import Health, Level, Meter, Reporter
from bytemini_core.join import StampJoin
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import (
    LATCHED_QOS,
    command_qos,
    joint_command,
    joint_state_message,
    odometry_message,
    odometry_transform,
    robot_state,
    scene_message,
    sensor_qos,
    stamp_of,
)
from bytemini_core.types import NANOSECONDS, OBSERVATION_PERIOD, RobotState
from bytemini_core.watchdog import HOLDING
from bytemini_description.robot import VERSIONS, load_robot
from bytemini_sim.services import fill_score
from bytemini_sim.tasks import make_scorer, make_task
from bytemini_sim.world import World
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import SetBool
from tf2_msgs.msg import TFMessage

from bytemini_gazebo.driver import GazeboDriver
from bytemini_msgs.msg import JointCommand as JointCommandMsg
from bytemini_msgs.msg import SceneState as SceneStateMsg
from bytemini_msgs.srv import ResetWorld, ScoreEpisode


class GazeboNode(Node):
    """The driver of one robot in one scene."""

    def __init__(self) -> None:
        super().__init__("gazebo_driver", parameter_overrides=[Parameter("use_sim_time", value=True)])
        version = parameter(self, "robot", "v1", "version of the robot", choices=VERSIONS)
        task = parameter(self, "task", "pick_place", "task whose scene Gazebo shows")
        setting = parameter(self, "setting", "basic", "setting of the task")
        seed = parameter(self, "seed", 0, "seed of the scene", bounds=(0, 2**31 - 1))
        instruction = parameter(self, "instruction", "", "what to do; '' to draw it from the seed")
        period = parameter(
            self, "observation_period", OBSERVATION_PERIOD, "s between observations", bounds=(0.005, 10.0)
        )
        self._robot = robot = load_robot(version)
        self._world = World(robot, make_task(task, setting).sample(seed, instruction or None), cameras=())
        self._scorer = make_scorer(self._world)
        self._driver = GazeboDriver(robot)
        self._period = round(period * NANOSECONDS)
        self._odometry: Odometry | None = None
        self._holding: bool | None = None
        self._poses: dict[str, np.ndarray] = {}
        self._running = True
        self._join = StampJoin(("joints", "base"))
        self._updates, self._ticks, self._taken = Meter(), Meter(), Meter()

        qos = sensor_qos(False)
        self._efforts = self.create_publisher(Float64MultiArray, "effort_controller/commands", 1)
        self._base = self.create_publisher(Twist, "gazebo/cmd_vel", 1)
        self._joints = self.create_publisher(JointState, "joint_states", qos)
        self._odom = self.create_publisher(Odometry, "odom", qos)
        self._scene = self.create_publisher(SceneStateMsg, "sim/scene_state", qos)
        self._transforms = self.create_publisher(TFMessage, "/tf", 10)
        self._holds = self.create_publisher(Bool, HOLDING, LATCHED_QOS)
        self._layout = self.create_publisher(SceneStateMsg, "sim/scene", LATCHED_QOS)
        self._layout.publish(scene_message(self._world.scene_state()))
        commands = command_qos(False)
        self.create_subscription(JointCommandMsg, "joint_command", lambda m: self._on_command("joints", m), commands)
        self.create_subscription(TwistStamped, "cmd_vel", lambda m: self._on_command("base", m), commands)
        self.create_subscription(JointState, "joint_state_broadcaster/joint_states", self._on_joints, 1)
        self.create_subscription(Odometry, "gazebo/odom", self._on_odometry, 1)
        self.create_subscription(TFMessage, "gazebo/poses", self._on_poses, 1)
        self.create_service(ResetWorld, "sim/reset", self._on_reset)
        self.create_service(ScoreEpisode, "sim/score", self._on_score)
        self.create_service(SetBool, "sim/run", self._on_run)
        self._reporter = Reporter(self, self._report)
        self.get_logger().info(f"{task}, {setting}, seed {seed}: {self._world.scene.instruction}")

    def _report(self) -> dict[str, Health]:
        updates, ticks = self._updates.take()[0], self._ticks.take()[0]
        missing = len(self._world.scene.names()) - len(self._poses)
        message = ""
        if not updates:
            message = "Gazebo tells no joint states: is its simulation running, and the controllers?"
        elif missing:
            message = f"Gazebo has not told where {missing} things are: is the bridge running?"
        values = {"update_rate": updates, "tick_rate": ticks, "command_rate": self._taken.take()[0]}
        return {"": Health(Level.WARN if message else Level.OK, message, values)}

    # Gazebo's side

    def _on_odometry(self, message: Odometry) -> None:
        self._odometry = message

    def _on_poses(self, message: TFMessage) -> None:
        wanted = self._world.scene.names()
        for transform in message.transforms:
            if transform.child_frame_id in wanted:
                p, q = transform.transform.translation, transform.transform.rotation
                self._poses[transform.child_frame_id] = np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])

    def _on_joints(self, message: JointState) -> None:
        """One update of the driver; every control tick also what the rest of the stack sees."""
        if self._odometry is None:
            return
        try:
            state = robot_state(self._own(message), self._odometry)
        except (ValueError, KeyError, IndexError) as error:
            self.get_logger().warning(f"refused Gazebo's joint states: {error}", throttle_duration_sec=1.0)
            return
        self._updates.add()
        self._efforts.publish(Float64MultiArray(data=self._driver.effort(state).tolist()))
        if state.stamp % self._world.physics.tick == 0:
            self._tick(state)

    def _own(self, message: JointState) -> JointState:
        """The robot's own joints in their order; KeyError where one is missing.

        The broadcaster also tells of the fingers that follow, whose effort is not a number.
        """
        place = {name: i for i, name in enumerate(message.name)}
        index = [place[name] for name in self._robot.joint_names]
        columns = {key: [getattr(message, key)[i] for i in index] for key in ("position", "velocity", "effort")}
        return JointState(header=message.header, name=list(self._robot.joint_names), **columns)

    def _tick(self, state: RobotState) -> None:
        self._ticks.add()
        if (holding := not self._driver.fresh(state.stamp)) is not self._holding:
            self._holding = holding
            self._holds.publish(Bool(data=holding))
        base = Twist()
        base.linear.x, base.linear.y, base.angular.z = self._driver.twist(state.stamp).tolist()
        self._base.publish(base)
        odometry = odometry_message(state)
        self._odom.publish(odometry)
        self._joints.publish(joint_state_message(state))
        names = self._world.scene.names()
        if len(self._poses) < len(names):
            return  # Gazebo has not told yet where everything is
        if self._running:
            poses = np.array([self._poses[name] for name in names])
            fresh = self._driver.fresh(state.stamp)
            self._world.follow(state, poses, self._driver.command if fresh else None)
            self._scorer.update()
        if state.stamp % self._period == 0:
            scene = dataclasses.replace(self._world.scene_state(), stamp=state.stamp)
            self._scene.publish(scene_message(scene))
            self._transforms.publish(TFMessage(transforms=[odometry_transform(odometry)]))

    # The stack's side

    def _on_command(self, name: str, message: Any) -> None:
        both = self._join.add(name, stamp_of(message), message)
        if both is None:
            return
        try:
            self._driver.take(joint_command(both["joints"], both["base"]))
            self._taken.add()
        except (ValueError, KeyError) as error:
            self.get_logger().warning(f"refused: {error}", throttle_duration_sec=1.0)

    def _on_reset(self, request: ResetWorld.Request, response: ResetWorld.Response) -> ResetWorld.Response:
        """Score from now on. Gazebo's world is made at its start: another scene needs another Gazebo."""
        here = self._world.scene
        try:
            task = make_task(request.task or here.task, request.setting or here.setting)
            asked = task.sample(request.seed, request.instruction or None)
        except ValueError as error:
            response.message = str(error)
            return response
        if asked != here:
            response.message = (
                f"Gazebo shows {here.task}, {here.setting}, seed {here.seed}, {here.instruction!r}: start it with "
                f"task:={asked.task} setting:={asked.setting} seed:={asked.seed} for the other scene"
            )
            return response
        self._world.reset()
        self._scorer = make_scorer(self._world)
        self._running = True
        response.success, response.instruction = True, here.instruction
        return response

    def _on_score(self, _: ScoreEpisode.Request, response: ScoreEpisode.Response) -> ScoreEpisode.Response:
        scene = dataclasses.replace(self._world.scene_state(), stamp=self.get_clock().now().nanoseconds)
        return fill_score(response, self._scorer.result(), scene)

    def _on_run(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._running = request.data
        response.success = True
        return response


def main() -> int:
    """Console entry."""
    return run_node(GazeboNode)


if __name__ == "__main__":
    sys.exit(main())
