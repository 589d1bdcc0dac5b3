"""The whole-body controller: from a reference to the one joint command, inside every limit, at each control tick."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from bytemini_core.types import (
    NANOSECONDS,
    SIDES,
    Array,
    BaseReference,
    HandReference,
    JointCommand,
    Mode,
    PowerState,
    RobotState,
    WbcStatus,
    WholeBodyReference,
)
from bytemini_core.watchdog import Watch
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray

from .admittance import Admittance
from .blend import Blend
from .compliance import Compliance, WrenchObserver, WristSensor
from .config import WbcConfig
from .gate import Gate
from .guard import Guard, levers
from .hands import HandTarget, exponentials, length
from .horizon import KNOTS, Planner
from .model import RIM, Frames, robot_problem
from .modes import LIFELINES, OWNERS, ModeMachine
from .pace import Pace
from .problem import GRAVITY
from .proximity import ITEM
from .slow import slow_hands
from .solver import Solution, make_solver
from .tree import Tree
from .viability import velocity_box
from .weights import Weights
from .wrist import limit_wrist

_BASE = 3
_FAR = 1e6  # the base has no position limit (m, rad)
_POSTURE_RATE = 0.5  # of the way home that an arm's spare freedom goes in a second
_GAZE_RATE = 2.0  # of the angle to what the head should look at, per second
_EASE = 1.0  # s until posture, gaze and manipulability count fully after a take-over, and new weights
_SPREADS = 0.05  # s for which the preview believes that a yielding hand goes on as it does
_LASTING = 0.1  # s for which the preview believes in a reference's acceleration
_STICTION = 0.01  # rad/s, m/s: dry friction turns over within it
_PUSHED = 4  # ticks in a row that a hand may push too hard: an impact's edge is the observer's, not the hand's
_SLIGHT = 0.1  # m: a push at its limit makes a moment of this lever at least
_NEARLY, _OLD = 0.7, 4  # share of a hand's speed limit, and ticks, up to which its Jacobian need not be of this tick
_RETREAT = 0.3  # rad/s, m/s: with which what pushed too hard gives way
_PATIENCE = 3  # ticks that a failed solver may coast on its last velocity


@dataclass(frozen=True, slots=True)
class WholeBodyCommand:
    """What one tick produces: the command for the drives and what the controller says of itself."""

    joint: JointCommand
    status: WbcStatus


class UnseenError(RuntimeError):
    """No state of the robot could be used yet: where it is, is not known, and so nothing can be commanded."""


class WholeBodyController:
    """Tracks references with all 22 degrees of freedom; holds when it must not.

    Args:
        robot: from `load_robot`.
        config: parameters; None for the defaults.
        gone: whether a part whose signs of life are overdue is gone (`watchdog.Watch`); None: it is.

    `fallback`: why the tick is not compiled ("" when it is). `failures`: ticks in a row whose solver failed; `failed`:
    all of them since the start. Such a tick follows the plan's next step (without a preview: it goes on as it did);
    after `_PATIENCE` in a row the robot holds. A solver's time is bounded by its iterations, beyond which it has
    failed, so that a run does not depend on the machine's load; `late` counts ticks that outlasted the period.

    A reference names joints, the base, hands, or a mixture. All of it goes into one quadratic programme a tick
    (`problem`, `solver`); what the robot does in HOLD and ESTOP needs no solver.

    The commanded state u = (base in odom, joints) and its velocity (base twist in base_footprint, joint rates) moves by
    q[k+1] = q[k] + v[k+1] dt, with v chosen inside the viability box (`viability`) and the wrists' disc (`wrist`), so
    that position, velocity and acceleration limits hold at every tick whatever the reference does. A reference that
    itself keeps the limits is followed exactly: no lag, no smoothing.
    """

    def __init__(
        self, robot: RobotModel, config: WbcConfig | None = None, gone: Callable[[str], bool] | None = None
    ) -> None:
        self.robot = robot
        self.config = config or WbcConfig()
        self._modes = ModeMachine()
        self._watch = Watch(gone) if gone else Watch()
        self._pace = Pace(self.config.power)
        frames = Frames()
        self._gate = Gate(robot, self.config, frames.hands)
        self._problem = robot_problem(robot, self.config.period)
        self._solver, self.fallback = make_solver(self._problem)
        self._solver.surround(self.config.self_distance, np.zeros((0, ITEM)))
        self._planner: Planner | None = None
        if self.config.preview is not None and not self.fallback:
            self._planner = Planner(self._problem, self.config.preview)
            self._planner.surround(self.config.self_distance, np.zeros((0, ITEM)))
        self._parameters = {name: self._solver.parameters[where] for name, where in self._problem.layout.fields.items()}
        self._kinematics = Kinematics(robot)
        self._n = len(robot.joint_names)
        far = np.full(_BASE, _FAR)
        self._lower = np.concatenate((-far, robot.lower))
        self._upper = np.concatenate((far, robot.upper))
        self._acceleration = np.concatenate((robot.base_acceleration, robot.acceleration))
        self._closing = self.config.approach * robot.acceleration
        reach, clearance = levers(self._problem), self.config.clearance
        self._guard = Guard(self._solver.clear, self._acceleration, reach, clearance, self.config.period)
        self._base_acceleration = robot.base_acceleration.tolist()
        self._jerk = np.concatenate((robot.base_jerk, robot.jerk))
        self._velocity_limits = {
            mode: np.concatenate(
                (robot.base_policy_velocity if mode is Mode.POLICY else robot.base_velocity, robot.velocity)
            )
            for mode in Mode
        }
        self._wrists = [
            (
                side,
                int(robot.indices((f"{side}_wrist_pitch_joint",))[0]),
                int(robot.indices((f"{side}_wrist_roll_joint",))[0]),
            )
            for side in SIDES
        ]
        self._rim = robot.wrist_tilt_limit * RIM
        self._column_names = ("base/x", "base/y", "base/yaw", *robot.joint_names)
        p = self._parameters
        p["lower"][:], p["upper"][:], p["hardest"][:] = self._lower, self._upper, self._acceleration
        self._columns = np.array(self._problem.columns)
        if self._planner is not None:
            self._planner.discs([(_BASE + pitch, _BASE + roll) for _, pitch, roll in self._wrists], self._rim)
            self._planner.limits[[0, 1, 3, 4]] = self._lower, self._upper, self._acceleration, self._jerk
        self._hands = {frame: p[f"{side}_hand"] for frame, side in zip(frames.hands, SIDES, strict=True)}
        for given in self._hands.values():
            given[:] = 0.0
            given[[0, 4, 8]] = 1.0
        head = [_BASE + i for i, name in enumerate(robot.joint_names) if name.startswith("head")]
        arms = [_BASE + robot.indices(robot.arm_joints(side)) for side in SIDES]
        self._arm = dict(zip(frames.hands, arms, strict=True))
        self._head = np.array(head)
        self._lift = _BASE + int(robot.indices(("lift_joint",))[0])
        self._position = np.zeros(self._n)
        self._velocity = np.zeros(_BASE + self._n)
        self._change = np.zeros(_BASE + self._n)  # of velocity in the last tick (per s)
        self._state: RobotState | None = None
        self._reference: WholeBodyReference | None = None
        self._target: Array | None = None  # joints, of the present owner
        self._blend: Blend | None = None
        self._targets: dict[str, HandTarget] = {}
        compliance = self.config.compliance
        self._admittances: dict[str, Admittance] = {}
        self._observer: WrenchObserver | None = None
        self._external = np.zeros(self._n)
        # Of the hands at this tick's state, made when first asked for: see `_jacobian`, `_wrench`.
        self._measured: dict[str, Array] = {}
        self._felt: dict[str, Array] = {}
        self._loads = (0.0, 0.0)  # kg
        self._sensor: WristSensor | None = None
        self._wrenches: Mapping[str, Array] = {}
        if compliance is not None and compliance.sensor:
            self._sensor = WristSensor(robot)
        elif compliance is not None or self.config.hand_force:
            gain = (compliance or Compliance()).observer
            self._observer = WrenchObserver(robot, self._kinematics, gain, self.config.period)
        self._jacobians: list[Array] = []
        self._age = _OLD
        self._pushed = 0
        self._retreat: Array | None = None  # joints, where the hand pushed no more than it may
        self._sides = dict(zip(frames.hands, SIDES, strict=True))
        self._grippers = robot.indices([robot.gripper_joint(side) for side in SIDES])
        joints = Tree(robot.urdf).joints
        self._viscous = np.array([joints[name].damping for name in robot.joint_names])
        self._dry = np.array([joints[name].friction for name in robot.joint_names])
        self._aimed = -np.inf
        self._weights = (self.config.weights, self.config.weights)  # before `_weighed` (s), and `_EASE` later
        self._weighed = -np.inf
        self.failures = self.failed = self.late = 0
        self._sacrificed: tuple[str, ...] = ()
        self._since = -np.inf
        self._time = -np.inf
        self._followed = -np.inf  # when every joint was last where it had been sent
        self._ahead: Sequence[WholeBodyReference] = ()
        self._refused = 0
        self._last: WholeBodyCommand | None = None

    def set_environment(self, boxes: Array) -> None:
        """What forearms and hands keep away from.

        Args:
            boxes: (k, 16), in odom: rotation (row-major), centre (m), half edges (m), distance to keep (m). A
                half-space is a box large enough.

        Raises:
            ValueError: a wrong shape, too many, or not finite.
        """
        self._solver.surround(self.config.self_distance, boxes)
        if self._planner is not None:
            self._planner.surround(self.config.self_distance, boxes)

    @property
    def mode(self) -> Mode:
        """Who owns the robot."""
        return self._modes.mode

    def request_mode(self, mode: Mode, reset: bool = False, why: str = "") -> tuple[bool, str]:
        """Ask for a mode: whether it was granted, and why not ("" when granted). See `ModeMachine`."""
        before = self._modes.mode
        if reason := self._prevents(mode):
            return False, reason
        granted, reason = self._modes.request(mode, reset, why)
        if granted and self._modes.mode is not before:
            self._release()
            self._since = self._time
            if before is Mode.ESTOP and self.at_rest:  # else it goes on braking
                self._last = None  # the drives may have been without power: start again from what is measured
        return granted, reason

    def alive(self, part: str, t: float) -> None:
        """A part of the stack (`modes.LIFELINES`) gives a sign of life at t (s); from now on it is missed."""
        self._watch.heard(part, t)

    def hear_power(self, t: float, power: PowerState) -> None:
        """Take what the driver measured of battery and actuators, at t (s): see `pace`."""
        self._pace.hear(t, power)

    def interrupt(self, reason: str) -> None:
        """Take the robot from its owner for something that only the caller sees: HOLD with that reason."""
        if self._modes.mode in OWNERS:
            self._fault(reason)

    @property
    def share(self) -> float:
        """Of the velocity limits, that battery and actuators leave."""
        return self._pace.share

    @property
    def at_rest(self) -> bool:
        """Whether nothing is commanded to move."""
        return not self._velocity.any()

    def _prevents(self, mode: Mode) -> str:
        """Why nobody may own the robot in this mode now; "" when nothing prevents it."""
        if part := self._watch.silent(self._time, LIFELINES.get(mode, ())):
            return f"no sign of life from {part}: is it running?"
        return self._pace.prevents if mode in OWNERS else ""

    def update(
        self,
        t: float,
        state: RobotState,
        reference: WholeBodyReference | None = None,
        ahead: Sequence[WholeBodyReference] = (),
        wrenches: Mapping[str, Array] | None = None,
    ) -> WholeBodyCommand:
        """Advance one control tick.

        Args:
            t: time of the tick (s) on the clock of all stamps. A call sooner than half a period after the last answers
                with the last command again, so that the limits hold in real time too.
            state: measured. A stale or incomplete one takes the robot from its owner (HOLD).
            reference: the newest one known, of any source; None when there is none. Only the owner's is executed, for
                `max_reference_age` at most.
            ahead: what the sender of `reference` knows to come, by stamp, for the preview: the same joints and hands.
                Without it the preview extrapolates. Only the plan is shaped by it: nothing of it is executed as such.
            wrenches: per side what the sensor in the wrist measures, (6,) force and torque that hand and load exert on
                the wrist, in hand_link's axes. Only `Compliance(sensor=True)` uses it, and holds without it.

        Raises:
            UnseenError: neither this state nor one before it could be used; the driver has to hold by itself.
        """
        started = time.perf_counter()
        if self._last is not None and 0.0 <= t - self._time < 0.5 * self.config.period:
            return self._last
        silence = 0.0 if self._state is None else (state.stamp - self._state.stamp) / NANOSECONDS
        if self._last is not None and abs(silence) > self.config.max_silence and not self._gate.state(t, state):
            if self._reference is not None:
                restarted = "the driver was started anew: its clock went back"
                self._fault(f"no robot state for {silence:.3f} s" if silence > 0.0 else restarted)
            self._last = None  # the drives have held meanwhile: go on from where the robot is
        if t < self._time:
            self._fault(f"the clock went back by {self._time - t:.3f} s")
            self._since = t
            self._watch.forget()
            self._pace.restart()
        self._time, self._ahead = t, ahead
        if reason := self._gate.state(t, state):
            self._fault(reason)
            if self._state is None:
                raise UnseenError(reason)
        else:
            before, self._state = self._state, self._ordered(state)
            self._measured, self._felt = {}, {}
            if reason := self._implausible(t, before, self._state):
                self._fault(reason)
            if self._observer is not None:
                self._external = self._observer.update(self._state) + self._load_effort()
            if self._sensor is not None and (reason := self._sense(wrenches)):
                self._fault(reason)
        share = self._pace.at(t)
        if self._modes.mode in OWNERS and (reason := self._prevents(self._modes.mode)):
            self._fault(reason)
        if (reason := self._pushes()) and self._state is not None:
            self._fault(reason)
            self._retreat = self.robot.clamp_wrist(np.clip(self._state.position, self.robot.lower, self.robot.upper))
        if self._last is None:
            self._start()
        self._take(t, reference)
        active = self._move(t, share)
        position = self._position.copy()
        effort = self._kinematics.gravity(self._position) + self._load_effort() + self._friction()
        if self.config.grip_force is not None and self._state is not None:
            self._limit_grip(position, self._state.position, self.config.grip_force)
        command = JointCommand(
            stamp=state.stamp,
            names=self.robot.joint_names,
            position=position,
            velocity=self._velocity[_BASE:].copy(),
            stiffness=self.robot.stiffness,
            damping=self.robot.damping,
            effort=np.minimum(np.maximum(effort, -self.robot.effort), self.robot.effort),
            base_twist=self._velocity[:_BASE].copy(),
        )
        spent = time.perf_counter() - started
        self.late += spent > self.config.period
        status = WbcStatus(
            stamp=state.stamp,
            mode=self._modes.mode,
            reason=self._modes.reason or self._waiting() or (self._slowed() if share < 1.0 else ""),
            active=active,
            sacrificed=self._sacrificed,
            solve_time=spent,
            refused=self._refused,
        )
        self._last = WholeBodyCommand(command, status)
        return self._last

    def carry(self, left: float, right: float) -> None:
        """Say what the hands hold: its weight is carried, bounds the base's acceleration, and is no external force.

        Raises:
            ValueError: not between 0 and 20 kg.
        """
        if not (0.0 <= left <= 20.0 and 0.0 <= right <= 20.0):
            raise ValueError(f"loads are {left} and {right} kg, expected 0 to 20")
        self._loads = (left, right)
        self._parameters["payload"][:] = self._loads

    def _load_effort(self) -> Array:
        """Efforts (19,) that hold the loads in the hands."""
        effort = np.zeros(self._n)
        for frame, load in zip(self._hands, self._loads, strict=True):
            if load > 0.0:
                effort += load * GRAVITY * self._kinematics.jacobian(frame, self._position)[2, _BASE:]
        return effort

    def _friction(self) -> Array:
        """Efforts (19,) that the joints' friction takes at the commanded rates."""
        rate = self._velocity[_BASE:]
        effort: Array = self._viscous * rate + self._dry * np.tanh(rate / _STICTION)
        return effort

    def _limit_grip(self, position: Array, measured: Array, force: float) -> None:
        """Keep the fingers' commanded positions, in place, so near to the measured ones that they press with `force`.

        The fingers' own motion is theirs: a finger that lags behind by less is not touched.
        """
        g = self._grippers
        near = force / self.robot.stiffness[g]
        position[g] = np.clip(position[g], np.maximum(measured[g] - near, self.robot.lower[g]), measured[g] + near)

    def _sense(self, wrenches: Mapping[str, Array] | None) -> str:
        """Take the sensors' readings; why they cannot be used, "" when they can."""
        if wrenches is None or any(side not in wrenches for side in SIDES):
            return "compliance needs the wrenches of both wrists, and they did not come"
        for side in SIDES:
            reading = np.asarray(wrenches[side], dtype=np.float64)
            if reading.shape != (6,) or not np.isfinite(reading).all():
                return f"the {side} wrist's wrench is not six finite numbers"
        self._wrenches = wrenches
        return ""

    def _start(self) -> None:
        """Begin at rest where the robot is measured to be."""
        if self._state is not None:
            measured = np.clip(self._state.position, self.robot.lower, self.robot.upper)
            for _, pitch, roll in self._wrists:
                tilt = float(np.hypot(measured[pitch], measured[roll]))
                measured[[pitch, roll]] *= self._rim / max(tilt, self._rim)
            self._position = measured
        self._velocity = np.zeros(_BASE + self._n)
        self._change = np.zeros(_BASE + self._n)

    def _implausible(self, t: float, before: RobotState | None, state: RobotState) -> str:
        """Why a state, fresh and complete, cannot be the robot's, or shows that it does not do as it is told."""
        if before is None or self._last is None:
            self._followed = t
            return ""
        if reason := self._gate.leap(before, state):
            return reason
        reason = self._gate.astray(state, self._position)
        if not reason:
            self._followed = t
        return reason if t - self._followed > self.config.max_silence else ""

    def _ordered(self, state: RobotState) -> RobotState:
        """The state in the robot's own order of joints."""
        if state.names == self.robot.joint_names:
            return state
        index = [state.names.index(name) for name in self.robot.joint_names]
        joints = (state.position[index], state.velocity[index], state.effort[index])
        return RobotState(state.stamp, self.robot.joint_names, *joints, state.base_pose, state.base_twist)

    def _fault(self, reason: str) -> None:
        self._refused += 1
        if self._modes.mode in OWNERS:
            self._release()
        self._modes.fault(reason)

    def _release(self) -> None:
        """Forget what the last owner wanted."""
        self._reference = None
        self._target = None
        self._blend = None
        self._targets, self._admittances = {}, {}
        self._sacrificed = ()
        self.failures = 0
        if self._planner is not None:
            self._planner.restart()

    def _waiting(self) -> str:
        return "waiting for the first reference" if self._modes.mode in OWNERS and self._reference is None else ""

    def _slowed(self) -> str:
        return f"at {100.0 * self._pace.share:.0f} % of its speed: {self._pace.reason}" if self._pace.reason else ""

    def _pushes(self) -> str:
        """Which hand pushes harder than its owner may, for a few ticks; "" for none."""
        most = self.config.hand_force.get(self._modes.mode)
        if most is None or self._state is None:
            self._pushed = 0
            return ""
        forces = {
            side: length(self._wrench(frame)[:3])
            for frame, side in self._sides.items()
            if self._sensor is not None or length(self._external[self._arm[frame] - _BASE]) > _SLIGHT * most
        }
        side, force = max(forces.items(), key=lambda item: item[1], default=("", 0.0))
        self._pushed = self._pushed + 1 if force > most else 0
        if self._pushed < _PUSHED:
            return ""
        return f"the {side} hand pushes with {force:.0f} N, at most {most:.0f} N is allowed in {self._modes.mode}"

    def _take(self, t: float, reference: WholeBodyReference | None) -> None:
        """Accept the owner's reference, or fault."""
        mode = self._modes.mode
        if mode not in OWNERS:
            return
        known = self._reference
        if reference is None or reference.source is not mode or reference is known:
            if known is not None and (reason := self._gate.fresh(t, known)):
                self._fault(reason)
            return
        if known is None and reference.stamp / NANOSECONDS < self._since:
            return  # left over from before this owner was granted the robot
        if reason := self._gate.reference(t, reference, known, self._target):
            self._fault(reason)
            return
        self._reference = reference
        if self._target is None:
            self._target = self._position.copy()

    def _goal(self, t: float, reference: WholeBodyReference, target: Array) -> tuple[Array, Array, Array]:
        """Where the joints should be at t, their rate and acceleration: the reference, extrapolated from its stamp.

        `target` (n,) remembers the joints' targets from one reference to the next.
        """
        index = self._gate.indices(reference.names)
        late = t - reference.stamp / NANOSECONDS
        rate, acceleration = np.zeros(self._n), np.zeros(self._n)
        target[index] = reference.position
        rate[index] = reference.velocity + reference.acceleration * late
        acceleration[index] = reference.acceleration
        goal = target + rate * late - 0.5 * acceleration * late * late
        return goal, rate, acceleration

    def _base_twist(self, base: BaseReference | None, late: float) -> Array:
        """Twist that follows a base reference `late` seconds old: feed-forward, and feedback on the odometry."""
        if base is None or self._state is None:
            return np.zeros(_BASE)
        if base.pose is None:
            return base.twist
        # plain floats: a few numbers, of which numpy would make ten times the work
        x, y, yaw = self._state.base_pose.tolist()
        to_x, to_y, to_yaw = base.pose.tolist()
        vx, vy, wz = base.twist.tolist()
        cos, sin = math.cos(to_yaw), math.sin(to_yaw)
        forward = (cos * vx - sin * vy, sin * vx + cos * vy, wz)
        errors = [to_x + forward[0] * late - x, to_y + forward[1] * late - y, to_yaw + wz * late - yaw]
        errors[2] = (errors[2] + math.pi) % (2.0 * math.pi) - math.pi
        # near: proportional; far: the speed from which half the acceleration limit can stop in time
        wanted = [
            f + math.copysign(min(self.config.base_gain * abs(e), math.sqrt(a * abs(e))), e)
            for f, e, a in zip(forward, errors, self._base_acceleration, strict=True)
        ]
        cos, sin = math.cos(yaw), math.sin(yaw)
        return np.array((cos * wanted[0] + sin * wanted[1], cos * wanted[1] - sin * wanted[0], wanted[2]))

    def _move(self, t: float, share: float) -> tuple[str, ...]:
        """Choose the next velocity and move the commanded state. Returns the names of the constraints that bound it.

        `share`: of the velocity limits that may be used.
        """
        dt = self.config.period
        reference, target = self._reference, self._target
        active: list[str] = []
        solution: Solution | None = None
        if reference is None or target is None:
            position = np.concatenate((np.zeros(_BASE), self._position))
            limit = self._velocity_limits[self._modes.mode]
            low, high = velocity_box(position, self._velocity, self._lower, self._upper, limit, self._acceleration, dt)
            velocity = np.clip(self._giving_way(), low, high)
        else:
            solution = self._solve(t, reference, target, share)
            velocity, low, high = solution.velocity.copy(), solution.low, solution.high
            active += self._bound(solution)
        active += [name for name in self._limit_wrists(velocity, low, high) if name not in active]
        if solution is not None and (most := self.config.hand_speed.get(self._modes.mode)) is not None:
            velocity, slowed = slow_hands(self._hand_jacobians(velocity, most), velocity, low, high, most)
            if slowed:
                self._limit_wrists(velocity, low, high)
                active.append("hand speed")
        if solution is not None:
            present = float(solution.distance[: len(self._problem.pairs)].min(initial=1.0))
            if not self._guard.allows(self._parameters["q"], velocity, present):
                brake = np.sign(self._velocity) * np.maximum(np.abs(self._velocity) - self._acceleration * dt, 0.0)
                velocity[_BASE:] = np.clip(brake, low, high)[_BASE:]
                self._limit_wrists(velocity, low, high)
                active.append("braking for clearance")
        self._change = (velocity - self._velocity) / dt
        self._velocity = velocity
        moved = self._position + velocity[_BASE:] * dt
        self._position = np.minimum(np.maximum(moved, self.robot.lower), self.robot.upper)
        return tuple(active)

    def _limit_wrists(self, velocity: Array, low: Array, high: Array) -> list[str]:
        """Bring the wrists' part of `velocity`, in place, to where their discs allow; names the wrists it changed."""
        changed = []
        for side, pitch, roll in self._wrists:
            p, r = _BASE + pitch, _BASE + roll
            asked = (float(velocity[p]), float(velocity[r]))
            given = limit_wrist(
                (float(self._position[pitch]), float(self._position[roll])),
                (float(self._velocity[p]), float(self._velocity[r])),
                asked,
                (float(low[p]), float(low[r])),
                (float(high[p]), float(high[r])),
                self._rim,
                float(min(self._acceleration[p], self._acceleration[r])),
                self.config.period,
            )
            if given != asked:
                velocity[p], velocity[r] = given
                changed.append(f"{side} wrist range")
        return changed

    def _hand_jacobians(self, velocity: Array, most: float) -> list[Array]:
        """Linear Jacobians (3, 3 + n) of the hands; those of a few ticks ago where no hand comes near its limit."""
        self._age += 1
        fast = any(length(jacobian @ velocity) > _NEARLY * most for jacobian in self._jacobians)
        if fast or self._age >= _OLD:
            q, self._age = self._parameters["q"], 0
            self._jacobians = [self._kinematics.jacobian(frame, q[_BASE:], q[:_BASE])[:3] for frame in self._hands]
        return self._jacobians

    def _giving_way(self) -> Array:
        """Velocity of the next tick without an owner: to rest, or back to where the hand pushed no more than it may."""
        velocity = self._braking()
        if self._retreat is None or self._modes.mode is not Mode.HOLD:
            self._retreat = None
            return velocity
        error = self._retreat - self._position
        error[np.abs(error) < 1e-9] = 0.0
        velocity[_BASE:] = np.clip(self._solver.approach(error, self._closing), -_RETREAT, _RETREAT)
        return velocity

    def _solve(self, t: float, reference: WholeBodyReference, target: Array, share: float) -> Solution:
        """Fill in the tick's parameters and solve; a failed solver coasts for `_PATIENCE` ticks, then it is a fault."""
        p, state = self._parameters, self._state
        p["q"][_BASE:] = self._position
        if state is not None:
            p["q"][:_BASE] = state.base_pose
        p["v"][:] = self._velocity
        p["fastest"][:] = share * self._velocity_limits[self._modes.mode]
        free = np.zeros(0, dtype=np.intp)
        if reference.hands:
            free, arms = self._aim(t, reference)
            target[free - _BASE] = self._position[free - _BASE]  # left to the tasks: they have no target to return to
        else:
            p["weight"][:] = 1.0
            for given in self._hands.values():
                given[18:] = 0.0
            p["relative"][:] = p["gaze"][3] = p["manipulability"][:] = 0.0
            self._targets, self._admittances = {}, {}
            self._sacrificed = ()
        p["want"][:] = self._tracking(t, reference, target)
        if reference.hands:
            p["want"][arms] += self._eased(t) * _POSTURE_RATE * (self.robot.home - self._position)[arms - _BASE]
        flag = 0
        if self._planner is not None:
            self._solver.admit()
            flag = self._preview(self._planner, t, reference, target, free)
        solution = self._solver.solve()
        if solution.flag < 0:
            solution.velocity[:] = np.clip(self._velocity, solution.low, solution.high)
        if solution.flag >= 0 and flag >= 0:
            self.failures = 0
            return solution
        self.failures += 1
        self.failed += 1
        if self.failures > _PATIENCE:
            self._fault(f"the solver failed {self.failures} times in a row (flag {min(flag, solution.flag)})")
            solution.velocity[:] = np.clip(self._braking(), solution.low, solution.high)
        return solution

    def _preview(
        self, planner: Planner, t: float, reference: WholeBodyReference, target: Array, free: NDArray[np.intp]
    ) -> int:
        """Plan ahead with the tick's tasks, and let the tick follow the plan's first step instead.

        `free`: the variables that are left to the tasks. Returns the planner's flag; below 0 the tick follows the last
        plan's next step.
        """
        p, rows, preview = self._parameters, planner.rows, planner.preview
        # What is commanded now is for the last tick.
        times = np.asarray(t - self.config.period + planner.times, np.float64)
        known = self._expected(reference, times)
        planner.now[:] = p["q"], self._velocity, self._change
        planner.limits[2] = p["fastest"]
        doubt = 1.0 if self._ahead else np.exp(-preview.doubt * np.arange(KNOTS))[:, None]
        counts = doubt / preview.closing**2
        late = times - np.array([r.stamp for r in known]) / NANOSECONDS
        for side, (frame, given) in zip(SIDES, self._hands.items(), strict=True):
            row = rows[f"{side}_hand"]
            row[:, 18:] = counts * given[18:]
            if (aimed := self._targets.get(frame)) is None or not given[18]:
                continue
            hands = [next(hand for hand in r.hands if hand.frame == frame) for r in known]
            rotations, positions = aimed.ahead(times, hands, late)
            if (admittance := self._admittances.get(frame)) is not None:
                moved = admittance.offset + np.minimum(planner.times, _SPREADS)[:, None] * admittance.rate
                positions += moved[:, :3]
                rotations = exponentials(moved[:, 3:]) @ rotations
            row[:, :9], row[:, 9:12] = rotations.reshape(KNOTS, 9), positions
        rows["relative"][:] = counts * p["relative"]
        rows["gaze"][:, :3], rows["gaze"][:, 4] = p["gaze"][:3], 1.0
        rows["gaze"][:, 3] = p["gaze"][3] * p["gaze"][4] ** 2
        rows["weight"][:], rows["want"][:] = p["weight"], p["want"]
        held = np.ones(self._n, dtype=bool)
        held[free - _BASE] = False
        goals, rates = self._goals(times, known, late, target)
        rows["aim"][:, _BASE:] = goals
        rows["hold"][:, _BASE:] = counts * (p["weight"][_BASE:] * held)
        rows["want"][:, _BASE:] = np.where(held, rates, p["want"][_BASE:])
        planner.spreading(float(p["manipulability"][0]))
        flag = planner.plan()
        p["want"][self._columns] = planner.velocity[self._columns]
        p["weight"][:] = 1.0
        for given in self._hands.values():
            given[18:] = 0.0
        p["relative"][:] = p["gaze"][3] = p["manipulability"][:] = 0.0
        return flag

    def _expected(self, reference: WholeBodyReference, times: Array) -> list[WholeBodyReference]:
        """The reference stamped nearest to each of the times (s), of those that fit the present one."""
        if not self._ahead:
            return [reference] * len(times)
        frames = {hand.frame for hand in reference.hands}
        fitting = [reference]
        for r in self._ahead:
            if r.source is reference.source and r.names == reference.names and {h.frame for h in r.hands} == frames:
                fitting.append(r)
        stamps = np.array([r.stamp for r in fitting]) / NANOSECONDS
        return [fitting[i] for i in np.argmin(np.abs(times[:, None] - stamps), axis=1)]

    def _goals(
        self, times: Array, known: Sequence[WholeBodyReference], late: Array, target: Array
    ) -> tuple[Array, Array]:
        """Where the joints should be at the times (s), and their rates, both (k, n); accelerations act for a while."""
        goals, rates = np.tile(target, (len(times), 1)), np.zeros((len(times), self._n))
        index = self._gate.indices(known[0].names)
        if len(index):
            position, velocity, acceleration = (
                np.array([getattr(r, name) for r in known]) for name in ("position", "velocity", "acceleration")
            )
            acts = np.minimum(late, _LASTING)[:, None]
            rates[:, index] = velocity + acceleration * acts
            goals[:, index] = position + velocity * late[:, None] + acceleration * acts * (late[:, None] - 0.5 * acts)
        if self._blend is not None:
            for k, time_ in enumerate(times):
                if (fade := self._blend.at(float(time_))) is None:
                    break
                goals[k] += fade[0]
                rates[k] += fade[1]
        return np.clip(goals, self.robot.lower, self.robot.upper), rates

    def _aim(self, t: float, reference: WholeBodyReference) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Hand targets and the weights of everything beside them.

        Returns:
            The joints' variables that no reference names and the tasks may use, and those of them in an arm.
        """
        p, weights = self._parameters, self._weights_at(t)
        p["leeway"][:] = weights.leeway
        late = t - reference.stamp / NANOSECONDS
        named = np.zeros(_BASE + self._n, dtype=bool)
        named[_BASE + self._gate.indices(reference.names)] = True
        weight = p["weight"]
        weight[:] = weights.joint**2
        weight[:_BASE] = weights.base**2 if reference.base is not None else weights.free_base**2
        free = np.zeros(_BASE + self._n, dtype=bool)
        middle = np.zeros(3)
        for hand in reference.hands:
            known = self._targets.get(hand.frame)
            if known is None:
                present = self._kinematics.forward(hand.frame, self._position, p["q"][:_BASE])
                known = HandTarget(t - self.config.period, present, hand, late, self.config.blend_time)
                self._targets[hand.frame] = known
                self._aimed = t
            rotation, position, twist = known.at(t, hand, late)
            self._yield(hand)
            given = self._hands[hand.frame]
            given[:9] = rotation.reshape(-1)
            given[9:12] = position
            given[12:18] = twist
            given[18:] = weights.position**2, weights.rotation**2
            weight[self._arm[hand.frame]] = weights.posture**2
            free[self._arm[hand.frame]] = True
            middle += position / len(reference.hands)
        for frame in self._hands.keys() - {hand.frame for hand in reference.hands}:
            self._hands[frame][18:] = 0.0
            self._targets.pop(frame, None)
            self._admittances.pop(frame, None)
        arms = free & ~named
        if not named[self._lift]:
            free[self._lift] = True
            weight[self._lift] = weights.free_lift**2
        p["gaze"][:3], p["gaze"][3:] = middle, 0.0
        if not named[self._head].any():
            p["gaze"][3:] = weights.gaze**2, _GAZE_RATE * self._eased(t)
            free[self._head] = True
            weight[self._head] = weights.posture**2
        p["relative"][:] = weights.relative**2 if len(reference.hands) == len(self._hands) else 0.0
        p["manipulability"][:] = weights.manipulability * self._eased(t)
        return np.flatnonzero(free & ~named), np.flatnonzero(arms)

    def _yield(self, hand: HandReference) -> None:
        """Ask the hand's admittance (`admittance`) to answer what pushes it; the solver takes the step."""
        compliance, state = self.config.compliance, self._state
        if compliance is None or state is None:
            return
        side = self._sides[hand.frame]
        admittance = self._admittances.get(hand.frame)
        if admittance is None:
            memory = self._solver.yielding[SIDES.index(side)]
            admittance = self._admittances[hand.frame] = Admittance(compliance, self.config.period, memory)
        given = self._jacobian(hand.frame)[:, _BASE:] @ (state.position - self._position)
        admittance.ask(self._wrench(hand.frame), hand.wrench, given, hand.stiffness)

    def _jacobian(self, frame: str) -> Array:
        """Jacobian (6, 3 + n) of a hand as the robot is measured to stand."""
        known = self._measured.get(frame)
        if known is None:
            assert self._state is not None
            known = self._kinematics.jacobian(frame, self._state.position, self._state.base_pose)
            self._measured[frame] = known
        return known

    def _wrench(self, frame: str) -> Array:
        """Wrench (6,) of the surroundings on a hand, odom axes, by the sensor in the wrist or the joints' efforts."""
        known = self._felt.get(frame)
        if known is None:
            known = self._felt[frame] = self._feel(frame)
        return known

    def _feel(self, frame: str) -> Array:
        assert self._state is not None
        if self._sensor is not None:
            position, pose, side = self._state.position, self._state.base_pose, self._sides[frame]
            link = self._kinematics.forward(f"{side}_hand_link", position, pose)
            point = self._kinematics.forward(frame, position, pose)[:3, 3]
            return self._sensor.wrench(side, self._wrenches[side], link, point, self._loads[SIDES.index(side)])
        arm = self._arm[frame]
        return WrenchObserver.wrench(self._jacobian(frame)[:, arm], self._external[arm - _BASE])

    def weigh(self, weights: Weights) -> None:
        """Change the tasks' weights, gradually: they are reached within `_EASE`."""
        self._weights, self._weighed = (self._weights_at(self._time), weights), self._time

    def _weights_at(self, t: float) -> Weights:
        before, after = self._weights
        return after if t >= self._weighed + _EASE else before.toward(after, max(0.0, (t - self._weighed) / _EASE))

    def _eased(self, t: float) -> float:
        """0 at the take-over of a hand, 1 from `_EASE` later."""
        return min(1.0, max(0.0, (t - self._aimed) / _EASE))

    def _bound(self, solution: Solution) -> list[str]:
        """Names of what bound the motion; notes which hands were sacrificed."""
        velocity = solution.velocity
        at = (velocity <= solution.low) | (velocity >= solution.high)
        active = [f"{self._column_names[i]} limit" for i in np.flatnonzero(at & (np.abs(velocity) > 0.0))]
        for row in solution.bound:
            if row < 0:
                break
            if row < len(self._problem.pairs):
                active.append(f"distance {self._problem.pairs[row].name}")
            elif row >= len(solution.distance):
                name = f"{self._wrists[row - len(solution.distance)][0]} wrist range"
                active += [name] if name not in active else []
            else:
                item, which = divmod(int(row) - len(self._problem.pairs), len(self._problem.watched))
                active.append(f"distance {self._problem.watched[which].name} - environment {item}")
        if self._targets:
            yielding = self.config.yielding
            errors = solution.info[2:].reshape(2, 2)
            self._sacrificed = tuple(
                frame
                for frame, error in zip(self._hands, errors, strict=True)
                if frame in self._targets and (error[0] > yielding or error[1] > np.pi * yielding)
            )
        return active

    def _braking(self) -> Array:
        """Velocity of the next tick on the way to rest: the jerk limit shapes it, except in an emergency stop."""
        dt = self.config.period
        v, a, j = self._velocity, self._acceleration, self._jerk
        speed = np.abs(v)
        if self._modes.mode is Mode.ESTOP:
            stopping: Array = np.sign(v) * np.maximum(speed - a * dt, 0.0)
            return stopping
        fade = np.minimum(np.minimum(0.8 * np.sqrt(2.0 * j * speed), a), speed / dt)
        slower: Array = v + dt * np.clip(-np.sign(v) * fade, self._change - j * dt, self._change + j * dt)
        return slower

    def _tracking(self, t: float, reference: WholeBodyReference, target: Array) -> Array:
        """Velocity of the next tick that puts the joints onto the reference, in one tick where they are near it.

        With r the goal at t, d its displacement over the tick and e = (r - d) - q the error before it, the wanted
        velocity is d / dt + sign(e) stopping_speed(|e|): e / dt exactly for an error below a dt^2, hence q = r after
        the tick; the time-optimal approach for a larger one.
        """
        dt = self.config.period
        goal, rate, acceleration = self._goal(t, reference, target)
        if self._blend is None:
            limits = (self.robot.velocity, self.robot.acceleration, self.robot.jerk)
            drift = self._velocity[_BASE:] - rate
            self._blend = Blend(t - dt, self._position - goal, drift, *limits, self.config.blend_time)
        if (fade := self._blend.at(t)) is not None:
            goal, rate, acceleration = goal + fade[0], rate + fade[1], acceleration + fade[2]
        goal = self.robot.clamp_wrist(np.minimum(np.maximum(goal, self.robot.lower), self.robot.upper))
        moved = dt * (rate - 0.5 * dt * acceleration)
        error = goal - moved - self._position
        joints = moved / dt + self._solver.approach(error, self._closing)
        return np.concatenate((self._base_twist(reference.base, t - reference.stamp / NANOSECONDS), joints))
