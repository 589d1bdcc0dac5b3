"""Headset, session, controller and body in one thread and one time: the whole path, deterministic, without transport.

For tests and for the benchmarks that ask what the path does rather than how long it takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from bytemini_core.types import NANOSECONDS, Array, JointCommand, Mode, RobotState, WholeBodyReference
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel
from wbc_controller.config import WbcConfig
from wbc_controller.controller import WholeBodyCommand, WholeBodyController

from teleop_vr import inputs
from teleop_vr.poses import from_matrix
from teleop_vr.retarget import RetargetConfig
from teleop_vr.session import Outputs, Session
from teleop_vr.simulated import SimulatedHeadset

OPERATOR = 1


class RobotBody(Protocol):
    """What carries out joint commands: `bytemini_sim.world.World` is one."""

    def state(self) -> RobotState:
        """What is measured now."""

    def step(self, command: JointCommand | None) -> None:
        """Advance one control tick."""


class IdealBody:
    """Joints and base that are where they are commanded to be."""

    def __init__(self, model: RobotModel, period: float) -> None:
        self._names, self._period = model.joint_names, period
        self._zero = np.zeros(len(model.joint_names))
        self._ticks = 0
        self.position: Array = model.home.copy()
        self.base, self.twist = np.zeros(3), np.zeros(3)

    def state(self) -> RobotState:
        """Where it is."""
        stamp = round(self._ticks * self._period * NANOSECONDS)
        return RobotState(stamp, self._names, self.position, self._zero, self._zero, self.base, self.twist)

    def step(self, command: JointCommand | None) -> None:
        """Be where the command says."""
        self._ticks += 1
        if command is None:
            return
        self.position, self.twist = command.position, command.base_twist
        cos, sin = np.cos(self.base[2]), np.sin(self.base[2])
        vx, vy, wz = command.base_twist
        self.base = self.base + self._period * np.array((cos * vx - sin * vy, sin * vx + cos * vy, wz))


class Rig:
    """See the module.

    `now`: ns. `headset`: to be moved. `messages`: what the session said, oldest first. `recorded`: what the recorder
    was told. `references`: how many there were. `command`: the controller's last.
    """

    def __init__(
        self,
        model: RobotModel,
        body: RobotBody | None = None,
        config: RetargetConfig | None = None,
        rate: float = 90.0,
        toggle: bool = False,
    ) -> None:
        self.model = model
        self.session = Session(model, config, toggle)
        self.controller = WholeBodyController(model, WbcConfig())
        self.period: float = self.controller.config.period
        self.body: RobotBody = body or IdealBody(model, self.period)
        self.headset = SimulatedHeadset()
        self.kinematics = Kinematics(model)
        self.now = 10 * NANOSECONDS
        self.sending = True
        self.hearing = True
        self.messages: list[dict[str, Any]] = []
        self.recorded: list[tuple[str, bool, bool]] = []
        self.estops: list[bool] = []
        self.references = 0
        self.reference: WholeBodyReference | None = None
        self.command: WholeBodyCommand | None = None
        self.watch: Callable[[inputs.Input, Outputs], None] | None = None
        self._interval = 1.0 / rate
        self._due = 0.0
        self.feed(inputs.Opened(OPERATOR))
        self.say({"type": "hello", "protocol": 1, "client": "rig", "want": "operator"})

    @property
    def time(self) -> float:
        """Seconds since the start."""
        return float(self.now / NANOSECONDS - 10.0)

    def feed(self, item: inputs.Input) -> Outputs:
        """Give the session an input, and carry out what follows."""
        out = self.session.feed(self.now, item)
        if out.reference is not None:
            self.reference = out.reference
            self.references += 1
        if out.mode is not None:
            self.controller.request_mode(out.mode, reset=out.estop is False)
        if out.estop is not None:
            self.estops.append(out.estop)
        self.recorded += out.recorder
        self.messages += [message for _, message in out.messages]
        if self.watch is not None:
            self.watch(item, out)
        return out

    def say(self, message: dict[str, Any], client: int = OPERATOR) -> Outputs:
        """Say something as a page."""
        return self.feed(inputs.Text(client, json.dumps(message)))

    def order(self, command: str, client: int = OPERATOR, **more: Any) -> dict[str, Any]:
        """Give a command as a page; the answer."""
        out = self.say({"type": "command", "id": 1, "command": command, **more}, client)
        return next(message for _, message in out.messages if message["type"] == "result")

    def step(self) -> None:
        """Advance one control tick."""
        state = self.body.state()
        if self.hearing:
            self.feed(inputs.Measured(state))
        if self.sending and self.time >= self._due:
            self._due = max(self._due + self._interval, self.time)
            self.headset.echo, self.headset.held = self.now / NANOSECONDS - 0.01, 0.005
            self.feed(inputs.Binary(OPERATOR, self.headset.frame(self._interval)))
        self.feed(inputs.Tick())
        self.command = self.controller.update(state.stamp / NANOSECONDS, state, self.reference)
        self.body.step(self.command.joint)
        self.now += round(self.period * NANOSECONDS)
        self.feed(inputs.Commanded(self.command.joint.names, self.command.joint.position))
        status = self.command.status
        self.feed(inputs.Controller(status.mode, status.reason, status.active, status.sacrificed))

    def run(self, seconds: float, script: Callable[[float], None] | None = None) -> None:
        """Advance; `script` moves the headset, and is given the seconds since this run began."""
        start = self.time
        while self.time - start < seconds - 1e-9:
            if script is not None:
                script(self.time - start)
            self.step()

    def hand(self, side: str) -> Array:
        """Where a hand is measured to be, (7,) in odom."""
        state = self.body.state()
        return from_matrix(self.kinematics.forward(f"{side}_tcp", state.position, state.base_pose))

    def view(self) -> dict[str, Any]:
        """What the operator sees."""
        return self.session.view(self.now, OPERATOR)

    def engage(self, *sides: str) -> None:
        """Come to rest with these grips held, and no others."""
        for side in ("left", "right"):
            self.headset.hand(side).squeeze = 0.0
        self.run(0.1)
        for side in sides:
            self.headset.hand(side).squeeze = 1.0
        self.run(0.3)

    @property
    def mode(self) -> Mode:
        """The controller's."""
        return self.controller.mode
