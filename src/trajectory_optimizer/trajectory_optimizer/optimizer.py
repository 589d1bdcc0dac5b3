"""`TrajectoryOptimizer`: action chunks in, a whole-body reference out (GR-3 report, section 4.2).

One thread calls `reset`, `observe`, `add_chunk` and `brake`; `sample` may be called from any other at any time: it
reads one immutable plan, which those replace in one assignment, and never waits for them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from bytemini_core.types import (
    NANOSECONDS,
    ActionChunk,
    BaseReference,
    HandReference,
    Mode,
    RobotState,
    TaskStatus,
    WholeBodyReference,
)
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray

from trajectory_optimizer import rotation
from trajectory_optimizer.chunk_fusion import ChunkPath, LiveChunks, chunk_path
from trajectory_optimizer.config import TrajectoryConfig
from trajectory_optimizer.history import History, Moment
from trajectory_optimizer.layout import Hand, Layout, make_layout
from trajectory_optimizer.plan import Plan, Segment
from trajectory_optimizer.planner import Planner
from trajectory_optimizer.pursuit import pursue
from trajectory_optimizer.report import ChunkReport, Splice

if TYPE_CHECKING:
    from bytemini_description.kinematics import Kinematics

__all__ = ["ChunkReport", "TrajectoryConfig", "TrajectoryOptimizer"]

Array = NDArray[np.float64]

HISTORY = 3 * NANOSECONDS


@dataclass(slots=True)
class _Task:
    """What is known of the chunks in force."""

    live: LiveChunks | None = None
    stop: float = 0.0
    braking: float = 0.0
    over: bool = True


_T = TypeVar("_T")


def _unchecked(kind: type[_T], **values: object) -> _T:
    """An instance of a frozen type without its checks: what a plan holds was checked when the plan was made.

    The checks of a reference cost five times its evaluation, 200 times a second.
    """
    made = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def _hand_reference(hand: Hand, rows: Array, anchor: Array) -> HandReference:
    """The pose and twist in odom of a hand from the plan's rows (4, D)."""
    turn, rate = rows[0, hand.turn], rows[1, hand.turn]
    matrix = anchor @ rotation.exp(turn)
    spin = matrix @ (rotation.right_jacobian(turn) @ rate)
    return HandReference(
        frame=hand.frame,
        pose=np.concatenate((rows[0, hand.position], rotation.quaternion(matrix[None])[0])),
        twist=np.concatenate((rows[1, hand.position], spin)),
    )


class TrajectoryOptimizer:
    """Splices chunks into one motion within limits; see the package's README for the method."""

    def __init__(
        self,
        robot: RobotModel,
        config: TrajectoryConfig | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Make an optimiser; it holds from its first `reset` or `observe`.

        Args:
            robot: names and limits.
            config: parameters; None for the defaults.
            clock: s, measures `ChunkReport.solve_time`.
        """
        self.robot = robot
        self.config = config or TrajectoryConfig()
        self._clock = clock
        self._history = History(HISTORY)
        self._layouts: dict[tuple[str, ...], tuple[Layout, Planner]] = {}
        self._plan: Plan | None = None
        self._task = _Task()
        self._sequence, self._stamp, self._instruction = -1, -1, ""
        self._barrier, self._why = -1, ""
        self._yaw = 0.0
        self._state: RobotState | None = None
        self._anchors: dict[str, Array] = {}
        self._kinematics: Kinematics | None = None
        self._use(robot.policy_columns)
        self._planner.warm()

    def reset(self, state: RobotState) -> None:
        """Hold where `state` is, forget every chunk; also how a new owner of the robot starts.

        Raises:
            ValueError: a joint of the robot is missing in `state`.
        """
        self._state = state
        self._yaw = float(state.base_pose[2])
        self._task = _Task()
        self._sequence, self._stamp, self._instruction = -1, -1, ""
        self._barrier, self._why = -1, ""
        self._use(self.robot.policy_columns)
        rest = self._planner.rest(state.stamp, self._measured(self._layout, state))
        self._publish(Plan(rest, rest))
        self._history.clear()
        self._remember(state)

    def lost(self, state: RobotState) -> bool:
        """Whether the robot may be anywhere else than the last state said: no state for a while, or a leap of odometry.

        Every plan is void then: `observe` resets.
        """
        if self._plan is None or self._state is None:
            return True
        if not 0 <= state.stamp - self._state.stamp <= self.config.silence * NANOSECONDS:
            return True
        x, y, yaw = state.base_pose - self._state.base_pose
        turn = abs((yaw + np.pi) % (2.0 * np.pi) - np.pi)
        return bool(np.hypot(x, y) > self.config.odometry_jump or turn > 2.0 * self.config.odometry_jump)

    def observe(self, state: RobotState) -> None:
        """Record odometry; re-plan where a path reaches beyond the present plan. Call at every control tick.

        The first state resets, and so does one after the robot was `lost`.
        """
        if self.lost(state):
            self.reset(state)
        plan = self._current()
        self._state = state
        self._remember(state)
        segment = plan.after
        task = self._task
        if task.live is None or task.stop - segment.progress - segment.law.end < 1e-6:
            return
        if (state.stamp - segment.splice) * 1e-9 > 0.5 * self._planner.reach:
            self._replan(state.stamp)

    def add_chunk(self, chunk: ActionChunk, now: int) -> ChunkReport:
        """Take in a chunk: refuse it with a reason, or re-plan the whole motion from the present reference.

        Args:
            chunk: the policy's word; k = 0 settles.
            now: ns, the present.
        """
        started = self._clock()
        if self._plan is None:
            return ChunkReport(chunk.stamp, chunk.sequence, False, "where the robot is is not known yet")
        reason = self._refusal(chunk, now)
        if reason:
            return ChunkReport(chunk.stamp, chunk.sequence, False, reason)
        if chunk.names != self._layout.names and chunk.horizon:
            reason = self._change_layout(chunk.names, now)
            if reason:
                return ChunkReport(chunk.stamp, chunk.sequence, False, reason)
        if self._layout.hands:
            self._anchor_again(now)
        targets, reason = self._targets(chunk)
        if reason:
            return ChunkReport(chunk.stamp, chunk.sequence, False, reason)
        fresh = self._task.over or chunk.sequence == 0 or chunk.instruction != self._instruction
        if len(targets) == 0:
            self._accept(chunk)
            self._settle(now)
            return ChunkReport(chunk.stamp, chunk.sequence, True, solve_time=self._clock() - started)

        splice, old = self._splice(now)
        moment = self._history.at(chunk.stamp)
        consumed = old.consumed(splice)
        path = chunk_path(moment.reference, targets, chunk.dt, moment.consumed, self._layout.limits)
        present = old.at(splice)[0]
        shift = pursue(path, consumed - path.offset, present, self._distance, self.config.dead_band, self.config.reach)
        reason = self._too_far(path, consumed - path.offset + shift, chunk.dt, present)
        if reason:
            return ChunkReport(chunk.stamp, chunk.sequence, False, reason)
        if shift:
            path = ChunkPath(path.rows, path.dt, path.offset - shift)
        live = LiveChunks(
            (path, *([] if fresh or not self._task.live else self._task.live.paths[: self.config.fused - 1]))
        )
        task = _Task(live, path.offset + path.end, self.config.braking, over=False)
        solution = self._planner.solve(old, splice, live, task.stop, task.braking)
        elapsed = self._clock() - started
        if not math.isfinite(float(solution.segment.control.sum())):
            return ChunkReport(chunk.stamp, chunk.sequence, False, "failed: the optimisation gave no finite plan")
        if self.config.deadline is not None and elapsed > self.config.deadline:
            return ChunkReport(chunk.stamp, chunk.sequence, False, f"late: took {elapsed:.4f} s, the old plan goes on")
        self._accept(chunk)
        self._task = task
        self._publish(Plan(old, solution.segment))
        previous = live.paths[1] if len(live.paths) > 1 else None
        return ChunkReport(
            stamp=chunk.stamp,
            sequence=chunk.sequence,
            accepted=True,
            delay_actions=(consumed - moment.consumed) / chunk.dt,
            shift=shift,
            rate=solution.rate,
            bounded=solution.bounded,
            fused=len(live.paths),
            solve_time=self._clock() - started,
            splice=Splice(splice, old, path, previous, consumed, solution, self._planner, chunk.dt, targets),
        )

    def sample(self, now: int) -> WholeBodyReference:
        """The reference for `now` (ns); cheap, and safe from another thread."""
        plan, layout, anchors = self._stream
        rows = plan.segment(now).at(now)
        base = None
        if layout.base is not None:
            vx, vy, wz = rows[1, layout.base].tolist()
            yaw = float(rows[0, 2])
            cos, sin = math.cos(yaw), math.sin(yaw)
            body = np.array([cos * vx + sin * vy, cos * vy - sin * vx, wz])
            base = _unchecked(BaseReference, pose=rows[0, layout.base], twist=body)
        joints = rows[:, layout.first :]
        return _unchecked(
            WholeBodyReference,
            stamp=now,
            source=Mode.POLICY,
            names=layout.joints,
            position=joints[0],
            velocity=joints[1],
            acceleration=joints[2],
            base=base,
            hands=tuple(_hand_reference(hand, rows, anchors[hand.side]) for hand in layout.hands),
        )

    def brake(self, now: int, reason: str = "") -> None:
        """Come to rest along the path within limits; chunks observed before `now` are refused from here on.

        Args:
            now: ns.
            reason: why, repeated when such a chunk is refused.
        """
        self._current()
        self._barrier, self._why = now, reason or "brake"
        self._settle(now)

    def settled(self, now: int) -> bool:
        """Whether the reference is at rest at `now` and stays so."""
        plan = self._current()
        return plan.segment(now).rests(now) and plan.after.rests(now)

    # -- the plan ------------------------------------------------------------------------------------------------

    def _current(self) -> Plan:
        if self._plan is None:
            raise RuntimeError("the trajectory optimiser has no state yet: call reset(state) or observe(state) first")
        return self._plan

    def _publish(self, plan: Plan) -> None:
        self._plan = plan
        self._stream = (plan, self._layout, self._anchors)

    def _splice(self, now: int) -> tuple[int, Segment]:
        """The stamp of the next splice and the segment in force there."""
        plan = self._current()
        if now < plan.after.splice:
            return plan.after.splice, plan.before  # replaces a segment that has not begun
        origin, quantum = plan.after.origin, self.config.quantum_ns
        due = now + round(self.config.lead * NANOSECONDS) - origin
        return origin + -(-due // quantum) * quantum, plan.after

    def _replan(self, now: int) -> None:
        """Plan anew along the chunks in force."""
        task = self._task
        assert task.live is not None
        splice, old = self._splice(now)
        solution = self._planner.solve(old, splice, task.live, task.stop, task.braking, promptly=task.over)
        self._publish(Plan(old, solution.segment))

    def _settle(self, now: int) -> None:
        """Brake along the path to rest; what comes next starts afresh."""
        task = self._task
        if task.over:
            return
        splice, old = self._splice(now)
        state = old.at(splice)
        limits = self._layout.limits
        # sigma' falls linearly over 2 b: the deceleration is v / (2 b).
        b = max(self.config.braking, float((np.abs(state[1]) / (1.2 * limits.acceleration)).max()))
        task.stop = min(task.stop, old.consumed(splice) + b)
        task.braking = b
        task.over = True
        self._replan(now)

    # -- chunks --------------------------------------------------------------------------------------------------

    def _refusal(self, chunk: ActionChunk, now: int) -> str:
        """Why a chunk is refused before its numbers are looked at; "" if it is not."""
        age = (now - chunk.stamp) * 1e-9
        if age < 0:
            return f"observed {-age:.3f} s in the future; expected a stamp before now"
        if age > self.config.max_age:
            return f"stale: observed {age:.3f} s ago, at most {self.config.max_age} s allowed"
        if chunk.stamp < self._barrier:
            return f"observed before the brake ({self._why})"
        if chunk.stamp < self._history.oldest:
            return "observed before the optimiser was reset"
        if chunk.stamp <= self._stamp:
            return f"stamp {chunk.stamp} is not newer than the last chunk's, {self._stamp}"
        new_task = chunk.sequence == 0 or chunk.instruction != self._instruction
        if chunk.sequence <= self._sequence and not new_task:
            return f"sequence {chunk.sequence} after {self._sequence}: duplicate or out of order"
        return ""

    def _accept(self, chunk: ActionChunk) -> None:
        self._sequence, self._stamp, self._instruction = chunk.sequence, chunk.stamp, chunk.instruction

    def _targets(self, chunk: ActionChunk) -> tuple[Array, str]:
        """(k', D) the rows to execute, up to where the policy says it is done, and why they are refused or ""."""
        rows = chunk.horizon
        if chunk.task_status.any():
            over = (chunk.task_status != TaskStatus.ONGOING) & (chunk.confidence >= self.config.status_confidence)
            if over.any():
                first = int(over.argmax())
                # What ends the task is still done, unless it is refused or over already.
                rows = first + 1 if chunk.task_status[first] == TaskStatus.TERMINATED and first > 0 else first
        layout = self._layout
        if rows == 0:
            return np.zeros((0, layout.limits.size)), ""
        moment, limits = self._history.at(chunk.stamp), layout.limits
        try:
            targets = layout.targets(chunk.values[:rows], moment.base, moment.reference, self._anchors)
        except ValueError as error:
            return np.zeros((0, limits.size)), str(error)
        if limits.allows(targets):
            return targets, ""
        beyond = np.maximum(targets - limits.upper, limits.lower - targets) - layout.slack
        if beyond.max() > 0:
            row, column = np.unravel_index(int(beyond.argmax()), beyond.shape)
            name = layout.names[layout.source[column]]
            return targets, (
                f"out of limits: {name} is {targets[row, column]:.4f} at row {row}, "
                f"expected {limits.lower[column]:.4f} to {limits.upper[column]:.4f}"
            )
        return limits.clamp(targets), ""

    def _too_far(self, path: ChunkPath, u: float, dt: float, present: Array) -> str:
        """Why the chunk's first row at or after policy time `u` cannot be joined; "" if it can."""
        limits = self._layout.limits
        gap = np.abs(path.point(max(u, dt))[0] - present)
        gap /= limits.jump
        worst = int(gap.argmax())
        if gap[worst] <= 1.0:
            return ""
        name = self._layout.names[self._layout.source[worst]]
        return (
            f"starts too far away: {name} is {gap[worst] * limits.jump[worst]:.3f} from the present, "
            f"at most {limits.jump[worst]:.3f} allowed"
        )

    # -- columns -------------------------------------------------------------------------------------------------

    def _use(self, names: tuple[str, ...]) -> None:
        if names not in self._layouts:
            layout = make_layout(self.robot, names, self.config)
            self._layouts[names] = (layout, Planner(layout.limits, layout.smooth, self.config))
        self._layout, self._planner = self._layouts[names]
        limits = self._layout.limits
        # RMS over the smooth columns in units of their path tolerance.
        self._distance = np.where(limits.crisp, 0.0, 1.0 / limits.tolerance) / math.sqrt(max(self._layout.smooth, 1))

    def _change_layout(self, names: tuple[str, ...], now: int) -> str:
        """Take up other columns, at rest only; why not, or ""."""
        plan, before, state = self._current(), self._layout, self._state
        assert state is not None
        try:
            layout = make_layout(self.robot, names, self.config)
        except ValueError as error:
            return str(error)
        if set(names) == set(before.names):
            self._layouts.setdefault(names, (layout, self._planner))
            self._use(names)
            self._publish(plan)
            return ""
        if not self.settled(now):
            return f"columns changed from {', '.join(before.names)} to {', '.join(names)} in motion; expected at rest"
        held = plan.after.at(now)[0]
        self._use(names)
        layout = self._layout
        position = self._measured(layout, state)
        known = dict(zip(before.joints, held[before.first :], strict=True))
        for column, name in enumerate(layout.joints, layout.first):
            position[column] = known.get(name, position[column])
        if layout.base is not None and before.base is not None:
            position[layout.base] = held[before.base]
        self._hold(position, now)
        return ""

    def _hold(self, position: Array, now: int) -> None:
        """Start anew at rest at `position` (D,)."""
        origin, quantum = self._current().after.origin, self.config.quantum_ns
        rest = self._planner.rest(origin + -(-(now - origin) // quantum) * quantum, position)
        assert self._state is not None
        self._task = _Task()
        self._publish(Plan(rest, rest))
        self._history.clear()
        self._remember(self._state)

    def _anchor_again(self, now: int) -> None:
        """At rest, take the hands' turns about where they are: so no anchor is ever far away."""
        layout, held = self._layout, self._current().after.at(now)[0]
        turns = {hand.side: held[hand.turn] for hand in layout.hands}
        if max(float(np.abs(turn).max()) for turn in turns.values()) < 0.5 or not self.settled(now):
            return
        self._anchors = {side: self._anchors[side] @ rotation.exp(turn) for side, turn in turns.items()}
        for hand in layout.hands:
            held[hand.turn] = 0.0
        self._hold(held, now)

    def _measured(self, layout: Layout, state: RobotState) -> Array:
        """(D,) the measured position of each column; hands become the anchors of their turns."""
        index = {name: i for i, name in enumerate(state.names)}
        wanted = self.robot.joint_names if layout.hands else layout.joints
        missing = [name for name in wanted if name not in index]
        if missing:
            raise ValueError(f"the robot's state lacks {', '.join(missing)}; expected every joint of the layout")
        position = np.zeros(layout.limits.size)
        position[layout.first :] = state.position[[index[name] for name in layout.joints]]
        if layout.base is not None:
            position[layout.base] = (*state.base_pose[:2], self._unwrapped(state))
        if layout.hands:
            if self._kinematics is None:
                # Only Cartesian policies need it, and it is slow to import.
                from bytemini_description.kinematics import Kinematics

                self._kinematics = Kinematics(self.robot)
            joints = state.position[[index[name] for name in self.robot.joint_names]]
            poses = {h.side: self._kinematics.forward(h.frame, joints, state.base_pose) for h in layout.hands}
            for hand in layout.hands:
                position[hand.position] = poses[hand.side][:3, 3]
            self._anchors = {side: pose[:3, :3] for side, pose in poses.items()}
        return position

    def _unwrapped(self, state: RobotState) -> float:
        """The measured yaw without the jump at pi."""
        turn = float(state.base_pose[2]) - self._yaw
        self._yaw += turn - 2.0 * np.pi * round(turn / (2.0 * np.pi))
        return self._yaw

    def _remember(self, state: RobotState) -> None:
        plan = self._current()
        segment = plan.segment(state.stamp)
        base = np.array([state.base_pose[0], state.base_pose[1], self._unwrapped(state)])
        self._history.add(Moment(state.stamp, base, segment.at(state.stamp)[0], segment.consumed(state.stamp)))
