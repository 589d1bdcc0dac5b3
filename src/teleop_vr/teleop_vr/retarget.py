"""From the operator's hands, sticks and head to one whole-body reference.

Hands are led in the *cabin*: a frame in odom that begins at the base, moves as the sticks ask base and lift to move,
and as nothing else moves. So hands ride along when the operator drives, and stand still in the room when the base
joins in by itself because a hand leaves its arm's workspace. The base is sent to the cabin plus what it has joined in.

Base and lift join in by a leash: what a hand's target is beyond `reach` of its shoulder draws them along, horizontally
the base, vertically the lift, with a gain of their own each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from bytemini_core.types import (
    SIDES,
    Array,
    BaseReference,
    HandReference,
    Mode,
    RobotState,
    WholeBodyReference,
)
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel

from teleop_vr.limiter import HandLimits
from teleop_vr.poses import about_z, compose, distance, elevation, from_matrix, heading, inverse, rotate

_STILL = 0.1
"""Speed (rad/s) of an arm's joints below which it counts as at rest."""

_LEASH = 0.2
"""How far (m) the base may be from where it is sent before sending it on waits: it may be blocked."""

HEAD = ("head_yaw_joint", "head_pitch_joint")
LIFT = "lift_joint"
_GENTLE = 0.6  # of an acceleration limit, so that the controller follows without falling behind


@dataclass(frozen=True, slots=True)
class RetargetConfig:
    """Parameters of the retargeting. SI units.

    `scale`: robot's hand travel per operator's. `base_speed` (m/s, m/s, rad/s), `lift_speed`, `head_speed`: at full
    deflection, or fastest. `reach`: m from shoulder to hand from which base and lift join in; `farthest`: m beyond
    which no hand is sent. `base_gain`, `lift_gain`: speed per metre beyond reach, 1/s; 0 leaves the group out.
    `join_speed`: m/s that base and lift join in with at most. `locked`: the base does not join in until the operator
    unlocks it. `left_handed`: sticks and buttons of the two controllers change places. `limits`: of the hands.
    """

    scale: float = 1.0
    base_speed: tuple[float, float, float] = (0.5, 0.4, 0.9)
    lift_speed: float = 0.1
    head_speed: float = 1.5
    reach: float = 0.60
    farthest: float = 0.69
    base_gain: float = 3.0
    lift_gain: float = 1.5
    join_speed: float = 0.3
    locked: bool = False
    left_handed: bool = False
    limits: HandLimits = field(default_factory=HandLimits)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, bool):
                continue
            numbers = value if isinstance(value, tuple) else () if isinstance(value, HandLimits) else (value,)
            least = 0.0 if item.name.endswith("gain") else 1e-6
            if not all(isinstance(v, int | float) and least <= v < math.inf for v in numbers):
                raise ValueError(f"teleop config: {item.name} is {value!r}, expected finite numbers above 0")
        if self.farthest <= self.reach:
            raise ValueError(f"teleop config: farthest is {self.farthest}, expected more than reach, {self.reach}")


@dataclass(frozen=True, slots=True)
class HandGoal:
    """Where a hand is led: `pose` (7,) and `twist` (6,) in the cabin."""

    pose: Array
    twist: Array


class Body:
    """The robot as the operator leads it: cabin, lift, head, grippers, base. Not thread-safe.

    `joining`: whether base or lift join in. `beyond`: the hands whose target is cut to `farthest`.
    """

    def __init__(self, robot: RobotModel, config: RetargetConfig) -> None:
        self.robot, self.config = robot, config
        self._kinematics = Kinematics(robot)
        self._names = (LIFT, *HEAD, *(robot.gripper_joint(side) for side in SIDES))
        self._index = robot.indices(self._names)
        self._shoulder = {side: self._shoulder_of(side) for side in SIDES}
        self._open = float(robot.upper[robot.indices([robot.gripper_joint("left")])[0]])
        self._cabin = np.zeros(4)  # x, y, yaw in odom, height above where the lift began
        self._targets = np.zeros(len(self._names))
        self._rates = np.zeros(len(self._names))
        self._stick = np.zeros(4)  # base twist and lift speed that the sticks have come to
        self._join = np.zeros(3)  # base x, y in odom and lift speed that the leash has come to
        self._joined = np.zeros(2)  # how far the base has joined in, x and y in odom
        self._gaze: Array | None = None  # the head's yaw and pitch less the headset's
        self.joining = False
        self.beyond: tuple[str, ...] = ()

    def _shoulder_of(self, side: str) -> Array:
        """The point where the shoulder's axes meet, in base_footprint with the lift at 0."""
        still = np.zeros(len(self.robot.joint_names))
        found: Array = self._kinematics.forward(f"{side}_shoulder_roll_link", still)[:3, 3]
        return found

    def measured(self, side: str, state: RobotState) -> Array:
        """Pose (7,) of a hand in odom, from the measured joints."""
        return from_matrix(self._kinematics.forward(f"{side}_tcp", self._ordered(state), state.base_pose))

    def moving(self, side: str, state: RobotState) -> bool:
        """Whether an arm is still on its way: a hand that moves is no place to latch on to."""
        index = {name: i for i, name in enumerate(state.names)}
        arm = [index[name] for name in self.robot.arm_joints(side)]
        return bool(np.abs(state.velocity[arm]).max() > _STILL)

    def _ordered(self, state: RobotState) -> Array:
        if state.names == self.robot.joint_names:
            return state.position
        index = {name: i for i, name in enumerate(state.names)}
        return state.position[[index[name] for name in self.robot.joint_names]]

    def unfit(self, state: RobotState, commanded: Array | None) -> str:
        """Why no solver could take over from the present joints without a step; "" when one can.

        A solver that keeps the limits cannot reproduce joints outside them: its first solution would be elsewhere.
        """
        robot = self.robot
        joints = self._ordered(state)
        kept = robot.clamp_wrist(np.clip(joints, robot.lower, robot.upper))
        for side in SIDES:
            here, there = (
                from_matrix(self._kinematics.forward(f"{side}_tcp", q, state.base_pose)) for q in (joints, kept)
            )
            step, turn = distance(here, there)
            if step > 0.005 or turn > 0.02:
                worst = robot.joint_names[int(np.argmax(np.abs(joints - kept)))]
                return f"{worst} is beyond its limit: the {side} hand would step by {step * 1000:.0f} mm"
        if commanded is not None:
            gap = np.abs(commanded - joints)
            arms = np.array([not name.endswith("gripper_joint") for name in robot.joint_names])
            worst_joint = int(np.argmax(gap * arms))
            if gap[worst_joint] > 0.1:
                return (
                    f"{robot.joint_names[worst_joint]} is {gap[worst_joint]:.2f} from where it is commanded: blocked?"
                )
        return ""

    def start(self, state: RobotState, commanded: Array | None) -> None:
        """Begin where the robot is; what is commanded is held on to, so that a grasp keeps its force."""
        self._targets = (self._ordered(state) if commanded is None else commanded)[self._index].copy()
        self._rates[:] = 0.0
        self._stick[:] = 0.0
        self._join[:] = 0.0
        self._joined[:] = 0.0
        self._cabin = np.array((*state.base_pose, 0.0))
        self.settle()

    def settle(self) -> None:
        """Put the cabin where the base is sent to; only while no hand is led in it. The head is latched anew."""
        self._cabin[:2] += self._joined
        self._joined[:] = 0.0
        self._gaze = None

    def rest(self, state: RobotState) -> None:
        """Send the base to where it is measured to be: with the last hand goes what kept it elsewhere.

        While a hand is led the controller weighs its pose against the base's; without the hand the base would set out
        for what it was sent to.
        """
        self._joined[:] = 0.0
        self._cabin[:3] = state.base_pose

    @property
    def cabin(self) -> Array:
        """The cabin (7,) in odom."""
        x, y, yaw, z = self._cabin
        return np.concatenate(((x, y, z), about_z(yaw)))

    def in_cabin(self, pose: Array) -> Array:
        """A pose (7,) in odom, seen from the cabin."""
        return compose(inverse(self.cabin), pose)

    @property
    def lift(self) -> float:
        """Where the lift is asked to be, m."""
        return float(self._targets[0])

    @property
    def head(self) -> tuple[float, float]:
        """Where the head is asked to be: yaw and pitch, rad."""
        return float(self._targets[1]), float(self._targets[2])

    @property
    def base_twist(self) -> tuple[float, float, float]:
        """What the sticks ask of the base now, in base_footprint."""
        return float(self._stick[0]), float(self._stick[1]), float(self._stick[2])

    def closure(self, side: str) -> float:
        """How far a gripper is asked to close: 0 open, 1 closed."""
        return 1.0 - float(self._targets[3 + SIDES.index(side)]) / self._open

    def closure_step(self, dt: float) -> float:
        """How far a gripper may close within dt (s)."""
        joint = self._index[3]
        return float(self.robot.velocity[joint]) * 0.9 * dt / self._open

    def close(self, side: str, closure: float) -> None:
        """Ask a gripper for a closure: 0 open, 1 closed."""
        self._targets[3 + SIDES.index(side)] = self._open * (1.0 - min(max(closure, 0.0), 1.0))

    def look(self, gaze: Array, dt: float) -> None:
        """Turn the head as the headset (quaternion, cabin axes) turns, from where both were, within its speed."""
        looks = np.array((heading(gaze), elevation(gaze)))
        if self._gaze is None:
            self._gaze = self._targets[1:3] - looks
        where = self._index[1:3]
        wanted = np.clip(looks + self._gaze, self.robot.lower[where], self.robot.upper[where])
        self._gaze = wanted - looks  # beyond the head's range the headset slips, and coming back leads at once
        step = np.clip(wanted - self._targets[1:3], -self.config.head_speed * dt, self.config.head_speed * dt)
        self._targets[1:3] += step
        self._rates[1:3] = step / dt

    def step(
        self, dt: float, axes: tuple[float, float, float, float], goals: Mapping[str, HandGoal], locked: bool
    ) -> tuple[BaseReference, tuple[HandReference, ...]]:
        """Move cabin, base and lift on by dt (s); where base and hands should be.

        Args:
            dt: s.
            axes: of the sticks: base forward, left, yaw, lift up; -1 to 1.
            goals: side to where that hand is led.
            locked: the base does not join in.
        """
        robot, config = self.robot, self.config
        wanted = np.array(axes) * (*config.base_speed, config.lift_speed)
        lift = self._targets[0]
        # The cabin rises with the sticks' share only as far as the lift can follow it.
        room = (robot.lower[self._index[0]] - lift, robot.upper[self._index[0]] - lift)
        wanted[3] = min(max(wanted[3], room[0] / 0.3), room[1] / 0.3)
        hardest = _GENTLE * np.array((*robot.base_acceleration, robot.acceleration[self._index[0]]))
        self._stick += np.clip(wanted - self._stick, -hardest * dt, hardest * dt)
        vx, vy, wz, vz = self._stick
        cos, sin = math.cos(self._cabin[2]), math.sin(self._cabin[2])
        motion = np.array((cos * vx - sin * vy, sin * vx + cos * vy, wz, vz))
        away = self._cabin[:2] + self._joined - self._base[:2]
        if away @ away > _LEASH * _LEASH and away @ (motion[:2] + self._join[:2]) > 0.0:
            motion[:2] = self._join[:2] = 0.0
        self._cabin += motion * dt

        hands, pull = [], np.zeros(3)
        beyond: list[str] = []
        cabin = self.cabin
        for side, goal in goals.items():
            pose = compose(cabin, goal.pose)
            twist = np.concatenate((rotate(cabin[3:], goal.twist[:3]), rotate(cabin[3:], goal.twist[3:])))
            arm = pose[:3] - cabin[:3]
            twist[:3] += (motion[0] - wz * arm[1], motion[1] + wz * arm[0], vz)
            twist[5] += wz
            shoulder = self._shoulder_now(side)
            reach = pose[:3] - shoulder
            far = math.sqrt(float(reach @ reach))
            if far > config.reach:
                pull += reach * ((far - config.reach) / far)
            # A base that may not help is not tempted: it would give way to a hand that cannot be reached.
            farthest = config.reach if locked else config.farthest
            if far > farthest:
                pose[:3] = shoulder + reach * (farthest / far)
                twist[:3] = (motion[0], motion[1], vz)
                beyond.append(side)
            hands.append(HandReference(f"{side}_tcp", pose, twist))
        self.beyond = tuple(beyond)
        join = np.array((config.base_gain * pull[0], config.base_gain * pull[1], config.lift_gain * pull[2]))
        if locked:
            join[:2] = 0.0
        size = math.hypot(join[0], join[1])
        join[:2] *= min(1.0, config.join_speed / size) if size > 0.0 else 0.0
        join[2] = min(max(join[2], -config.lift_speed), config.lift_speed)
        change = hardest[[0, 1, 3]] * dt
        self._join += np.clip(join - self._join, -change, change)
        self._joined += self._join[:2] * dt
        self.joining = bool(np.any(np.abs(self._join) > 0.005))
        before = self._targets[0]
        self._targets[0] = np.clip(before + (vz + self._join[2]) * dt, before + room[0], before + room[1])
        self._rates[0] = (self._targets[0] - before) / dt
        ahead, aside = motion[:2] + self._join[:2]
        twist = np.array((cos * ahead + sin * aside, cos * aside - sin * ahead, wz))
        limit = robot.base_velocity
        place = np.concatenate((self._cabin[:2] + self._joined, self._cabin[2:3]))
        return BaseReference(place, np.clip(twist, -limit, limit)), tuple(hands)

    def see(self, state: RobotState) -> None:
        """Take the measured base and lift, which the shoulders stand on."""
        self._base = state.base_pose
        self._height = float(self._ordered(state)[self._index[0]])

    def _shoulder_now(self, side: str) -> Array:
        x, y, yaw = self._base
        at = self._shoulder[side]
        cos, sin = math.cos(yaw), math.sin(yaw)
        return np.array((x + cos * at[0] - sin * at[1], y + sin * at[0] + cos * at[1], at[2] + self._height))

    def reference(self, stamp: int, base: BaseReference, hands: tuple[HandReference, ...]) -> WholeBodyReference:
        """The whole-body reference for `stamp` (ns of the robot's clock)."""
        rates, self._rates = self._rates, np.zeros(len(self._names))
        return WholeBodyReference(
            stamp=stamp,
            source=Mode.TELEOP,
            names=self._names,
            position=self._targets.copy(),
            velocity=rates,
            acceleration=np.zeros(len(self._names)),
            base=base,
            hands=hands,
        )
