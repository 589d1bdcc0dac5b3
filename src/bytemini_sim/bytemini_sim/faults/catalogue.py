"""The faults of the campaign."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from bytemini_core.types import NANOSECONDS, ActionChunk, Array, Mode, RobotState, WholeBodyReference
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray
from wbc_controller.controller import WholeBodyController

from bytemini_sim.faults.injector import Fault, Injector
from bytemini_sim.faults.run import WATCH


def _dead(*stages: str) -> type[Injector]:
    """Stages that are not there."""

    class Dead(Injector):
        alive = Injector.alive - set(stages)

    return Dead


def _clock(seconds: float) -> type[Injector]:
    class Clock(Injector):
        clock = seconds

    return Clock


def _states(change: Callable[[Injector, RobotState], Sequence[RobotState]]) -> type[Injector]:
    class States(Injector):
        def state(self, state: RobotState) -> Sequence[RobotState]:
            return change(self, state)

    return States


def _references(change: Callable[[Injector, WholeBodyReference], Sequence[WholeBodyReference]]) -> type[Injector]:
    class References(Injector):
        def reference(self, reference: WholeBodyReference) -> Sequence[WholeBodyReference]:
            return change(self, reference)

    return References


def _chunks(change: Callable[[Injector, ActionChunk], Sequence[ActionChunk]]) -> type[Injector]:
    class Chunks(Injector):
        def chunk(self, chunk: ActionChunk) -> Sequence[ActionChunk]:
            return change(self, chunk)

    return Chunks


def _commands(act: Callable[[WholeBodyController], Any]) -> type[Injector]:
    class Commands(Injector):
        done = False

        def operator(self, controller: WholeBodyController, tick: int) -> None:  # noqa: ARG002
            if not self.done:
                act(controller)
            self.done = True

    return Commands


def _put(array: Array, index: int, value: float) -> Array:
    changed = array.copy()
    changed[index] = value
    return changed


_ELBOW = 6  # of robot.joint_names: the left elbow


class _Stuck(Injector):
    """A sensor that says what it said."""

    held: float | None = None

    def state(self, state: RobotState) -> Sequence[RobotState]:
        if self.held is None:
            self.held = float(state.position[_ELBOW])
        return (replace(state, position=_put(state.position, _ELBOW, self.held)),)


class _Late(Injector):
    """States that come 0.3 s late."""

    def __init__(self, rng: np.random.Generator, robot: RobotModel) -> None:
        super().__init__(rng, robot)
        self._queue: list[RobotState] = []

    def state(self, state: RobotState) -> Sequence[RobotState]:
        self._queue.append(state)
        return (self._queue.pop(0),) if len(self._queue) > 60 else ()


class _Shuffled(Injector):
    """Every other state comes after the next one."""

    kept: RobotState | None = None

    def state(self, state: RobotState) -> Sequence[RobotState]:
        if self.kept is None:
            self.kept = state
            return ()
        pair, self.kept = (state, self.kept), None
        return pair


class _TakeOver(Injector):
    """The person takes the robot over, and sends nothing."""

    def operator(self, controller: WholeBodyController, tick: int) -> None:  # noqa: ARG002
        controller.request_mode(Mode.TELEOP)


_LONG = WATCH

FAULTS: tuple[Fault, ...] = (
    # Processes: nothing comes from them any more.
    Fault("policy dies", "no chunks for good", _LONG, _dead("policy"), within_ms=100),
    Fault("policy stalls 0.5 s", "no chunks for a while", 0.5, _dead("policy"), tolerated=True),
    Fault("optimizer dies", "no references for good", _LONG, _dead("optimizer"), within_ms=100),
    Fault("optimizer stalls 0.5 s", "no references for a while", 0.5, _dead("optimizer"), within_ms=100),
    Fault("controller dies", "no commands for good: the driver holds", _LONG, _dead("controller"), within_ms=100),
    Fault("controller stalls 0.5 s", "no commands for a while", 0.5, _dead("controller"), within_ms=100),
    Fault("joint states cease", "the driver's sensors are silent", _LONG, _dead("driver"), within_ms=100),
    Fault("network stalls 0.5 s", "nothing reaches anybody", 0.5, _dead("driver", "controller", "optimizer", "policy"),
          within_ms=100),
    Fault("policy and optimizer die", "the controller is alone", _LONG, _dead("policy", "optimizer"), within_ms=100),
    # Sensors.
    Fault("joint sensor NaN", "an encoder says nothing", _LONG,
          _states(lambda _, s: (replace(s, position=_put(s.position, _ELBOW, np.nan)),))),
    Fault("joint velocity infinite", "a tachometer overflows", _LONG,
          _states(lambda _, s: (replace(s, velocity=_put(s.velocity, _ELBOW, np.inf)),))),
    Fault("joint missing", "a joint is not among the states", _LONG,
          _states(lambda _, s: (RobotState(s.stamp, s.names[1:], s.position[1:], s.velocity[1:], s.effort[1:],
                                           s.base_pose, s.base_twist),))),
    Fault("joint sensor stuck", "an encoder freezes", _LONG, _Stuck),
    Fault("joint sensor noisy", "0.05 rad of noise on an encoder", _LONG,
          _states(lambda i, s: (replace(s, position=_put(s.position, _ELBOW,
                                                         s.position[_ELBOW] + i.rng.normal(0.0, 0.05))),))),
    Fault("joint sensor jumps", "an encoder slips by 0.5 rad", _LONG,
          _states(lambda _, s: (replace(s, position=_put(s.position, _ELBOW, s.position[_ELBOW] - 0.5)),))),
    Fault("states 0.3 s late", "a slow bus", _LONG, _Late),
    Fault("states twice", "duplicate stamps", _LONG, _states(lambda _, s: (s, s)), tolerated=True),
    Fault("states out of order", "the network swaps messages", _LONG, _Shuffled, tolerated=True),
    Fault("states from the future", "a driver's clock is 5 s ahead", _LONG,
          _states(lambda _, s: (replace(s, stamp=s.stamp + 5 * NANOSECONDS),))),
    Fault("odometry jumps 1 m", "wheels slip, or a map is corrected", _LONG,
          _states(lambda _, s: (replace(s, base_pose=s.base_pose + np.array([1.0, 0.0, 0.0])),))),
    Fault("odometry NaN", "a division by zero", _LONG,
          _states(lambda _, s: (replace(s, base_pose=np.full(3, np.nan)),))),
    # References.
    Fault("reference NaN", "a sender divides by zero", _LONG,
          _references(lambda _, r: (replace(r, position=r.position * np.nan),))),
    Fault("one reference NaN", "once", 0.005,
          _references(lambda _, r: (replace(r, position=r.position * np.nan),)), tolerated=True),
    Fault("reference jumps", "the other end of every range", _LONG,
          _references(lambda i, r: (replace(r, position=_far(i.robot, r)),))),
    Fault("reference beyond limits", "twice every range", _LONG,
          _references(lambda _, r: (replace(r, position=r.position + 10.0),))),
    Fault("reference of an unknown joint", "another robot's names", _LONG,
          _references(lambda _, r: (replace(r, names=tuple(f"other_{n}" for n in r.names)),))),
    Fault("reference stale", "0.3 s old", _LONG,
          _references(lambda _, r: (replace(r, stamp=r.stamp - 3 * NANOSECONDS // 10),))),
    Fault("reference from the future", "5 s ahead", _LONG,
          _references(lambda _, r: (replace(r, stamp=r.stamp + 5 * NANOSECONDS),))),
    Fault("reference of somebody else", "TELEOP while the policy owns the robot", _LONG,
          _references(lambda _, r: (replace(r, source=Mode.TELEOP),))),
    Fault("two publishers", "a second sender wants the robot at home", _LONG,
          _references(lambda i, r: (r, replace(r, position=_home(i.robot, r))) if i.rng.random() < 0.5 else (r,))),
    Fault("flood of references", "200 a tick", _LONG, _references(lambda _, r: (r,) * 200), tolerated=True),
    # Chunks.
    Fault("chunk NaN", "a policy diverges", _LONG, _chunks(lambda _, c: (replace(c, values=c.values * np.nan),))),
    Fault("chunk teleports", "the other end of every range", _LONG,
          _chunks(lambda i, c: (replace(c, values=_far_chunk(i.robot, c)),))),
    Fault("chunk of random targets", "an untrained policy", _LONG,
          _chunks(lambda i, c: (replace(c, values=_random_chunk(i, c)),)), tolerated=True),
    Fault("chunk of other joints", "another robot's policy", _LONG,
          _chunks(lambda _, c: (replace(c, names=tuple(f"other_{n}" for n in c.names)),))),
    Fault("chunk stale", "3 s old", _LONG, _chunks(lambda _, c: (replace(c, stamp=c.stamp - 3 * NANOSECONDS),))),
    Fault("chunk from the future", "5 s ahead", _LONG,
          _chunks(lambda _, c: (replace(c, stamp=c.stamp + 5 * NANOSECONDS),))),
    Fault("chunks twice and reordered", "the network swaps messages", _LONG, _chunks(lambda _, c: (c, c)),
          tolerated=True),
    Fault("chunk without duration", "dt = 0", _LONG, _chunks(lambda _, c: (replace(c, dt=0.0),))),
    Fault("empty chunks", "a policy that wants nothing", _LONG,
          _chunks(lambda _, c: (replace(c, values=c.values[:0], task_status=c.task_status[:0],
                                        confidence=c.confidence[:0]),))),
    Fault("flood of chunks", "30 at once", _LONG, _chunks(lambda _, c: (c,) * 30), tolerated=True),
    # Clocks.
    Fault("clock jumps forward 5 s", "of controller and optimizer", _LONG, _clock(5.0)),
    Fault("clock jumps back 5 s", "of controller and optimizer", _LONG, _clock(-5.0)),
    # People.
    Fault("emergency stop", "the button", _LONG, _commands(lambda c: c.request_mode(Mode.ESTOP))),
    Fault("emergency stop, and a policy that insists", "only a reset may release it", _LONG,
          _commands(lambda c: (c.request_mode(Mode.ESTOP), c.request_mode(Mode.POLICY)))),
    Fault("hold is requested", "the operator's pause", _LONG, _commands(lambda c: c.request_mode(Mode.HOLD))),
    Fault("person takes over and does nothing", "TELEOP without references", _LONG, _TakeOver),
)  # fmt: skip
"""The campaign. Half of it is about who fell silent, half about who says nonsense."""


def _home(robot: RobotModel, reference: WholeBodyReference) -> Array:
    return robot.home[robot.indices(reference.names)]


def _far(robot: RobotModel, reference: WholeBodyReference) -> Array:
    index = robot.indices(reference.names)
    middle = 0.5 * (robot.lower + robot.upper)[index]
    return np.where(reference.position > middle, robot.lower[index], robot.upper[index])


def _far_chunk(robot: RobotModel, chunk: ActionChunk) -> NDArray[np.float32]:
    values = chunk.values.copy()
    for column, name in enumerate(chunk.names):
        if name in robot.joint_names:
            i = int(robot.indices([name])[0])
            high = values[0, column] > 0.5 * (robot.lower[i] + robot.upper[i])
            values[:, column] = robot.lower[i] if high else robot.upper[i]
    return values


def _random_chunk(injector: Injector, chunk: ActionChunk) -> NDArray[np.float32]:
    steps = injector.rng.normal(0.0, 0.05, chunk.values.shape)
    return (chunk.values + np.cumsum(steps, axis=0)).astype(np.float32)
