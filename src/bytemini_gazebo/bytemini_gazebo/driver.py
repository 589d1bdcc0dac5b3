"""The robot's driver in Gazebo: joint commands become efforts, body twists become wheel speeds. No ROS, no clock.

The same law, limits and manners as the driver inside `bytemini_sim.world`, so that a controller cannot tell which
simulator is underneath; only that here the law is computed outside the physics engine, once per update.
"""

from __future__ import annotations

import numpy as np
from bytemini_core.types import NANOSECONDS, Array, JointCommand, RobotState
from bytemini_core.watchdog import SILENCE
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel


class GazeboDriver:
    """effort = stiffness (position - q) + damping (velocity - dq) + feed-forward, within the joints' effort limits.

    A command older than `watchdog.SILENCE` is followed no more: targets stay, rates go to zero, the base brakes.

    Before the first command it holds `robot.home` with the robot's own gains and gravity.

    Args:
        robot: from `load_robot`.
    """

    def __init__(self, robot: RobotModel) -> None:
        self._robot = robot
        self._kinematics = Kinematics(robot)
        self._command: JointCommand | None = None
        self._target = robot.home.copy()
        self._rate = np.zeros(len(robot.home))
        self._stiffness, self._damping = robot.stiffness.copy(), robot.damping.copy()
        self._feed: Array | None = None
        self._twist = np.zeros(3)
        self._time: int | None = None

    @property
    def command(self) -> JointCommand | None:
        """The last command taken; None before the first."""
        return self._command

    def take(self, command: JointCommand) -> None:
        """Follow a new command; joints it does not name keep their last.

        Raises:
            KeyError: it names a joint that the robot has not.
        """
        index = self._robot.indices(command.names)
        if self._feed is None:
            self._feed = self._kinematics.gravity(self._robot.home)
        self._target[index], self._rate[index] = command.position, command.velocity
        self._stiffness[index], self._damping[index] = command.stiffness, command.damping
        self._feed[index] = command.effort
        self._command = command

    def fresh(self, now: int) -> bool:
        """Whether there is a command that is not too old at time `now` (ns)."""
        return self._command is not None and now - self._command.stamp <= SILENCE * NANOSECONDS

    def effort(self, state: RobotState) -> Array:
        """(19,) efforts, Nm or N, in the order of `robot.joint_names`.

        Args:
            state: joints of the robot in that order; its stamp says how old the command is.

        Raises:
            ValueError: the state's joints are not the robot's.
        """
        if state.names != self._robot.joint_names:
            raise ValueError(f"the state names {state.names}, expected {self._robot.joint_names}")
        rate = self._rate if self.fresh(state.stamp) else 0.0
        feed = self._kinematics.gravity(state.position) if self._feed is None else self._feed
        wanted = self._stiffness * (self._target - state.position) + self._damping * (rate - state.velocity) + feed
        return np.asarray(np.clip(wanted, -self._robot.effort, self._robot.effort))

    def twist(self, now: int) -> Array:
        """(3,) body twist (m/s, m/s, rad/s) that the platform goes at `now` (ns): to the command, within limits."""
        wanted = self._command.base_twist if self._command is not None and self.fresh(now) else np.zeros(3)
        robot = self._robot
        seconds = 0.0 if self._time is None else max(now - self._time, 0) / NANOSECONDS
        self._time = now
        step = robot.base_acceleration * seconds
        target = np.clip(wanted, -robot.base_velocity, robot.base_velocity)
        self._twist = self._twist + np.clip(target - self._twist, -step, step)
        return self._twist
