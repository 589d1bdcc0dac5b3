"""Let a fault happen to a moving robot, and measure what the stack makes of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bytemini_core.join import StampJoin
from bytemini_core.types import (
    NANOSECONDS,
    OBSERVATION_PERIOD,
    ActionChunk,
    Array,
    JointCommand,
    Mode,
    Observation,
    WbcStatus,
    WholeBodyReference,
)
from bytemini_core.watchdog import SILENCE
from bytemini_description.robot import load_robot
from trajectory_optimizer.optimizer import TrajectoryOptimizer
from wbc_controller.config import WbcConfig
from wbc_controller.controller import WholeBodyController

from bytemini_sim.expert import PickPlaceExpert
from bytemini_sim.faults.injector import Fault, Injector
from bytemini_sim.tasks import make_task
from bytemini_sim.world import World

BEGIN = 0.8
"""Seconds after the start at which the fault begins: the arm is on its way, at its fastest."""
WATCH = 2.5
"""Seconds for which the robot is watched from the beginning of the fault."""
RECOVERY = 2.0
"""Seconds that the robot has to move again after the fault is gone and the operator has started anew."""
LATENCY = 0.05
"""Seconds from an observation to the arrival of its chunk."""
AT_REST = 0.02
"""Joints and base slower than this (rad/s, m/s) rest ..."""
REST_SECONDS = 0.2
"""... when they do so for this long."""


@dataclass(frozen=True)
class FaultReport:
    """What came of a fault.

    `time_to_hold_ms`: from its beginning, in the robot's time, until the controller or the driver held, or without
    either of them the robot stood; None if it went on. `time_to_rest_ms`: until the robot rests, None if it went on.
    `limit_violations`: of the simulated robot. `max_*_ratio`: the
    largest speed and acceleration of a joint from the fault on, over its limit (acceleration: commanded). `recovered`:
    it moved again afterwards. `reason`: the controller's word. `wall_ms`: until it held by the machine's clock, where
    the run was in real time.
    """

    name: str
    seed: int
    time_to_hold_ms: float | None
    time_to_rest_ms: float | None
    limit_violations: int
    max_speed_ratio: float
    max_acceleration_ratio: float
    recovered: bool
    reason: str
    wall_ms: float | None = None


class FaultRun:
    """The loop of the stack around a world, with a fault in it.

    Args:
        seed: of the scene and of the fault's own chance.
        robot: version of the robot.
    """

    def __init__(self, seed: int, robot: str = "v1") -> None:
        self._seed = seed
        self._robot = load_robot(robot)
        self._world = World(self._robot, make_task("pick_place").sample(seed), cameras=())

    def run(self, fault: Fault) -> FaultReport:
        """Let the fault happen once."""
        loop = _Loop(self._world, self._seed)
        ticks = loop.ticks
        loop.go(ticks(BEGIN))
        before = self._world.limits.total
        injector = fault.make(np.random.default_rng([self._seed, len(fault.name)]), self._robot)
        loop.injector = injector
        loop.go(ticks(min(fault.seconds, WATCH)))
        loop.injector = Injector(np.random.default_rng(0), self._robot)
        loop.go(ticks(WATCH) - ticks(min(fault.seconds, WATCH)))
        seen = loop.log.since(ticks(BEGIN))
        rest = _first_rest(seen.speed, ticks(REST_SECONDS))
        reaction = next((i for i, holding in enumerate(seen.holding) if holding), None)
        held = rest if reaction is None else reaction
        reason = next((r for r in seen.reasons if r), "") or loop.refused
        loop.go(ticks(0.1))  # everybody sees that the fault is gone, before the operator starts anew
        loop.start_again()
        loop.go(ticks(RECOVERY))
        moved = np.abs(loop.log.positions[-1] - loop.log.positions[-ticks(RECOVERY)]).max()
        tick = 1e3 * self._world.physics.tick / NANOSECONDS
        return FaultReport(
            name=fault.name,
            seed=self._seed,
            time_to_hold_ms=None if held is None else held * tick,
            time_to_rest_ms=None if rest is None else rest * tick,
            limit_violations=self._world.limits.total - before,
            max_speed_ratio=float(np.max(loop.log.since(ticks(BEGIN)).speed_ratio)),
            max_acceleration_ratio=float(np.max(loop.log.since(ticks(BEGIN)).acceleration_ratio)),
            recovered=loop.controller.mode is Mode.POLICY and bool(moved > 0.05),
            reason=reason,
        )


def _first_rest(speed: Sequence[float], ticks: int) -> int | None:
    """The first tick from which on everything rests for that many ticks."""
    calm = 0
    for i, value in enumerate(speed):
        calm = calm + 1 if value < AT_REST else 0
        if calm == ticks:
            return i + 1 - ticks
    return None


@dataclass
class _Log:
    """What is measured at every tick."""

    speed: list[float] = field(default_factory=list)
    speed_ratio: list[float] = field(default_factory=list)
    acceleration_ratio: list[float] = field(default_factory=list)
    holding: list[bool] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    positions: list[Array] = field(default_factory=list)

    def since(self, tick: int) -> _Log:
        """From that tick on."""
        return _Log(*(getattr(self, name)[tick:] for name in self.__dataclass_fields__))


class _Loop:
    """One tick after the other, as the nodes do it in real time: newest input; the driver holds without commands."""

    def __init__(self, world: World, seed: int) -> None:
        self._world, self._robot, self._seed = world, world.robot, seed
        world.reset()
        self.injector = Injector(np.random.default_rng(0), self._robot)
        self.controller = WholeBodyController(self._robot, WbcConfig())
        self.controller.request_mode(Mode.POLICY)
        self.log = _Log()
        self._optimizer = TrajectoryOptimizer(self._robot)
        self._optimizer.reset(world.state())
        self._owner = self.controller.mode
        self._policy = PickPlaceExpert(self._robot, seed=seed)
        self._under_way: deque[tuple[int, ActionChunk]] = deque()
        self._join = StampJoin(("state",))
        self._reference: WholeBodyReference | None = None
        self._command: JointCommand | None = None
        self._status: WbcStatus | None = None
        self.refused = ""
        """Why the last chunk was refused, "" if it was not."""
        self._velocity = np.zeros(len(self._robot.joint_names))
        self._tick = 0

    def ticks(self, seconds: float) -> int:
        """Control ticks in that many seconds."""
        return round(seconds * NANOSECONDS / self._world.physics.tick)

    def go(self, ticks: int) -> None:
        """So many ticks."""
        for _ in range(ticks):
            self._step()

    def start_again(self) -> None:
        """What an operator does: reset, restart what has died, give the task anew."""
        self.controller.request_mode(Mode.HOLD, reset=True)
        self.controller.request_mode(Mode.POLICY)
        self._policy.reset()
        self._optimizer.brake(self._world.time, "a new task")
        self._reference = None

    def _step(self) -> None:
        world, fault, now = self._world, self.injector, self._world.time
        arrived_states = _admitted(lambda: fault.state(world.state())) if "driver" in fault.alive else ()
        # Joined by stamps, as in the nodes: what is late or comes twice is dropped.
        joined = [self._join.add("state", state.stamp, state) for state in arrived_states]
        states = [both["state"] for both in joined if both is not None]
        clock = now + round(fault.clock * NANOSECONDS)
        if "policy" in fault.alive and now % round(OBSERVATION_PERIOD * NANOSECONDS) == 0:
            observation = Observation(now, world.scene.instruction, world.state(), {}, world.scene_state())
            for chunk in _admitted(lambda: fault.chunk(self._policy.infer(observation))):
                self._under_way.append((now + round(LATENCY * NANOSECONDS), chunk))
        if "optimizer" in fault.alive:
            for state in states:
                if self._owner is not self.controller.mode:  # as in the node: another owner voids the plan
                    self._owner = self.controller.mode
                    self._optimizer.reset(state)
                self._optimizer.observe(state)
            while self._under_way and self._under_way[0][0] <= now:
                self.refused = self._optimizer.add_chunk(self._under_way.popleft()[1], clock).reason
            reference = self._optimizer.sample(clock)
            for arrived in _admitted(lambda: fault.reference(reference)):
                self._reference = arrived
        if "policy" in fault.alive:
            self.controller.alive("policy", clock / NANOSECONDS)
        if "controller" in fault.alive:
            fault.operator(self.controller, self._tick)
            for state in states:
                answer = self.controller.update(clock / NANOSECONDS, state, self._reference)
                self._command, self._status = answer.joint, answer.status
        command = self._command
        old = command is None or now - command.stamp > SILENCE * NANOSECONDS
        world.step(None if old else command)
        self._measure(old)
        self._tick += 1

    def _measure(self, driver_holds: bool) -> None:
        state = self._world.state()
        robot, dt = self._robot, self._world.physics.tick / NANOSECONDS
        speed = np.abs(state.velocity)
        # A driver that holds stops by itself, whatever it was told last.
        told = self._command is not None and not driver_holds
        commanded = self._command.velocity if told and self._command is not None else np.zeros_like(speed)
        self.log.speed.append(float(max(speed.max(), np.abs(state.base_twist).max())))
        self.log.speed_ratio.append(float((speed / robot.velocity).max()))
        change = np.abs(commanded - self._velocity) / dt
        self.log.acceleration_ratio.append(0.0 if driver_holds else float((change / robot.acceleration).max()))
        self._velocity = commanded
        mode = self._status.mode if self._status is not None else Mode.HOLD
        self.log.holding.append(driver_holds or mode in (Mode.HOLD, Mode.ESTOP))
        self.log.reasons.append(self._status.reason if self._status is not None and mode is not Mode.POLICY else "")
        self.log.positions.append(state.position.copy())


def _admitted(make: Callable[[], Iterable[Any]]) -> Sequence[Any]:
    """What the types let through: a node refuses the rest when it reads the message."""
    try:
        return tuple(make())
    except ValueError:
        return ()
