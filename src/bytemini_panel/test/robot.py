"""A robot that only talks: what the page and the recorder listen to, and the services they call."""

import threading
import time

import numpy as np
import rclpy
from bytemini_core.ros import (
    LATCHED_QOS,
    SENSOR_QOS,
    image_message,
    joint_command_message,
    joint_state_message,
    odometry_message,
    wbc_status_message,
)
from bytemini_core.types import CAMERAS, SIDES, JointCommand, Mode, RobotState, WbcStatus
from bytemini_description.robot import load_robot
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import WrenchStamped
from nav_msgs.msg import Odometry
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, String
from wbc_controller.modes import ModeMachine

from bytemini_msgs.action import RunTask
from bytemini_msgs.msg import JointCommand as JointCommandMsg
from bytemini_msgs.msg import WbcStatus as WbcStatusMsg
from bytemini_msgs.srv import SetMode


class TalkingRobot(Node):
    """Stands still at `position` and does whatever task it is given until `finish` is set."""

    def __init__(self):
        super().__init__("talking_robot", use_global_arguments=False)
        self.robot = load_robot("v1")
        self.position = self.robot.home.copy()
        self.base = np.array([0.3, -0.2, 0.4])
        self.modes = ModeMachine()
        self.stops = []
        self.tasks = []
        self.cancelled = []
        self.slow = 0.0
        self.finish = threading.Event()
        self.talking = self.seeing = True
        self.health = [("wbc_controller", 0, "", {"tick_ms": "0.4"})]
        group = ReentrantCallbackGroup()
        self._joints = self.create_publisher(JointState, "joint_states", SENSOR_QOS)
        self._odometry = self.create_publisher(Odometry, "odom", SENSOR_QOS)
        self._statuses = self.create_publisher(WbcStatusMsg, "wbc/status", 10)
        self._modes = self.create_publisher(WbcStatusMsg, "wbc/mode", LATCHED_QOS)
        self._commands = self.create_publisher(JointCommandMsg, "joint_command", 10)
        self._wrenches = [self.create_publisher(WrenchStamped, f"wrench/{side}", SENSOR_QOS) for side in SIDES]
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._images = {c: self.create_publisher(Image, f"camera/{c}/color/image_raw", SENSOR_QOS) for c in CAMERAS}
        self._description = self.create_publisher(String, "robot_description", LATCHED_QOS)
        self._description.publish(String(data=self.robot.urdf))
        self.create_subscription(Bool, "estop", self._on_estop, LATCHED_QOS)
        self.create_service(SetMode, "wbc/set_mode", self._on_mode)
        self._server = ActionServer(
            self,
            RunTask,
            "run_task",
            self._execute,
            goal_callback=self._on_goal,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=group,
        )
        self.create_timer(0.02, self._talk)
        self.create_timer(0.1, self._see)
        self.create_timer(0.5, self._diagnose)
        self._say_mode()

    def _on_estop(self, message):
        self.stops.append(message.data)
        if message.data:
            self.request(Mode.ESTOP)

    def _on_mode(self, request, response):
        response.success, response.message = self.request(Mode(request.mode), request.reset)
        return response

    def request(self, mode, reset=True):
        answer = self.modes.request(mode, reset)
        self._say_mode()
        return answer

    def fault(self, reason):
        self.modes.fault(reason)
        self._say_mode()

    def _status(self):
        return wbc_status_message(WbcStatus(time.time_ns(), self.modes.mode, self.modes.reason))

    def _say_mode(self):
        self._modes.publish(self._status())

    def _talk(self):
        if not self.talking:
            return
        now, names, n = time.time_ns(), self.robot.joint_names, len(self.robot.joint_names)
        state = RobotState(now, names, self.position, np.zeros(n), np.zeros(n), self.base)
        self._odometry.publish(odometry_message(state))
        self._joints.publish(joint_state_message(state))
        self._statuses.publish(self._status())
        zero = np.zeros(n)
        self._commands.publish(joint_command_message(JointCommand(now, names, self.position, zero, zero, zero, zero)))
        for publisher in self._wrenches:
            message = WrenchStamped()
            message.wrench.force.z = -5.0
            publisher.publish(message)

    def _see(self):
        if self.seeing:
            for i, camera in enumerate(CAMERAS):
                picture = np.full((48, 64, 3), 40 + 60 * i, np.uint8)
                self._images[camera].publish(image_message(picture, time.time_ns(), f"{camera}_camera_optical_frame"))

    def _diagnose(self):
        message = DiagnosticArray()
        for name, level, text, values in self.health:
            pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
            message.status.append(DiagnosticStatus(name=name, level=bytes([level]), message=text, values=pairs))
        self._diagnostics.publish(message)

    def _on_goal(self, goal):
        self.tasks.append((goal.instruction, goal.time_limit))
        time.sleep(self.slow)
        return GoalResponse.REJECT if "unicorn" in goal.instruction else GoalResponse.ACCEPT

    def _execute(self, goal):
        began, chunks = time.monotonic(), 0
        result = RunTask.Result(message="the policy says so")
        while not self.finish.wait(0.1):
            chunks += 1
            feedback = RunTask.Feedback(elapsed=time.monotonic() - began, chunks=chunks)
            feedback.task_status.phase, feedback.task_status.progress = "reach", 0.25
            feedback.task_status.confidence = 0.9
            goal.publish_feedback(feedback)
            if goal.is_cancel_requested:
                result.status, result.message = RunTask.Result.PREEMPTED, "cancelled"
                goal.canceled()
                self.cancelled.append(goal.request.instruction)
                return result
        result.status, result.elapsed, result.chunks = RunTask.Result.TERMINATED, time.monotonic() - began, chunks
        goal.succeed()
        return result


class Spinner:
    """Spins a node in a thread until it is stopped."""

    def __init__(self, node, executor=None):
        self.executor = executor or MultiThreadedExecutor(num_threads=3)
        self.executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._ended = False
        self._thread.start()

    def _spin(self):
        while not self._ended and rclpy.ok():
            try:
                self.executor.spin_once(timeout_sec=0.05)
            except ExternalShutdownException:
                return

    def stop(self):
        self._ended = True
        self._thread.join(5)


def until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come about")
