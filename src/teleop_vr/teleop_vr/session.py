"""One teleoperation, from what is heard to what the robot should do: every decision, no transport, no clock, no ROS.

`Session.feed` takes one input and its time and gives what follows. The same inputs at the same times give the same
outputs, to the bit (`teleop_vr.replay`). Not thread-safe.

Rules that hold whatever comes:
- A reference goes out only while the controller says that teleoperation owns the robot, an operator holds it, and the
  emergency stop is not latched.
- A hand is led only while its clutch is engaged; anything that breaks what the clutch was latched on opens it, and then
  a fresh squeeze is needed: silence, a reset of the space, a change of inputs, a menu over the page, a lost socket, a
  rejected jump, a fault of the controller.
- When teleoperation ends the robot is asked to hold, and never moved.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bytemini_core.types import NANOSECONDS, SIDES, Array, Mode, RobotState, WholeBodyReference
from bytemini_description.robot import RobotModel

from teleop_vr import inputs
from teleop_vr.clutch import Anchor, Gripper, Squeeze
from teleop_vr.inputs import Input
from teleop_vr.intake import Delay, Intake
from teleop_vr.limiter import Follower, JumpGate
from teleop_vr.mapping import Action, Buttons, Sticks
from teleop_vr.operators import Operators
from teleop_vr.poses import about_z, distance, heading, multiply, to_webxr
from teleop_vr.protocol import VERSION, HeadsetFrame, Refused, parse_text
from teleop_vr.retarget import Body, HandGoal, RetargetConfig
from teleop_vr.watchdog import LOST_AFTER, SLOW_AFTER, Link, Watchdog

STATE_SILENCE = 0.1
"""s without a robot state after which the robot counts as not there."""

IDLE_PERIOD = 0.015
"""s after the last reference from which a tick sends another, though no frame came."""

FRAME_GAP = 0.03
"""s after the last frame from which the hands begin to brake."""

SLOWEST_LINK = 0.3
"""s of round trip above which nothing is engaged."""

CAMERA_SILENCE = 1.0
"""s without a picture after which the base is not driven by stick: nobody drives blind."""

ASK_PERIOD = 0.2
PROMPT_TIME = 5.0
_TWITCH = 0.3  # s between two pulses of the same cause on a hand
_CONTACT = 6.0  # N above what the wrist bore lately
_WAITING = ("waiting for the controller", "the arm is still moving")


@dataclass(slots=True)
class Outputs:
    """What follows from one input.

    `reference`: for the controller. `mode`: to ask the controller for. `estop`: to publish. `recorder`: (command,
    confirmed, success) to send to the recorder. `messages`: (client or None for all, message) to send. `closes`:
    (client, code, reason, fix) sockets to close. `frame`: of the operator's headset, taken.
    """

    reference: WholeBodyReference | None = None
    mode: Mode | None = None
    estop: bool | None = None
    recorder: list[tuple[str, bool, bool]] = field(default_factory=list)
    messages: list[tuple[int | None, dict[str, Any]]] = field(default_factory=list)
    closes: list[tuple[int, int, str, str]] = field(default_factory=list)
    frame: HeadsetFrame | None = None


class _Hand:
    """What is known of one of the operator's hands."""

    def __init__(self, config: RetargetConfig) -> None:
        self.squeeze = Squeeze()
        self.gate = JumpGate(config.limits)
        self.seen = Watchdog()
        self.grip: Array | None = None  # newest pose that was believed
        self.bare = False
        self.anchor: Anchor | None = None
        self.follower: Follower | None = None
        self.gripper: Gripper | None = None
        self.trigger = 0.0
        self.withheld = ""
        self.limited: tuple[str, ...] = ()
        self.force = 0.0
        self.usual: float | None = None
        self.pulsed: dict[str, int] = {}

    @property
    def engaged(self) -> bool:
        return self.anchor is not None


def _same_space(before: HeadsetFrame, frame: HeadsetFrame) -> bool:
    """Whether poses go on in the same space: the head is where it was a moment ago.

    A controller laid down changes the inputs, not the space: forward must not become where the operator looks for it.
    """
    step, turn = distance(before.head, frame.head)
    seen = before.head_tracked and frame.head_tracked and frame.time - before.time < 0.1
    return seen and step < 0.05 and turn < 0.15


class _Prompt:
    """A question to the operator."""

    def __init__(self, kind: str, now: int) -> None:
        self.kind, self.until = kind, now + round(PROMPT_TIME * NANOSECONDS)


class Session:
    """See the module. `rejected`: refused messages by reason. `frames`: frames taken."""

    def __init__(
        self, robot: RobotModel, config: RetargetConfig | None = None, toggle: bool = False, alone: bool = False
    ) -> None:
        """Begin.

        Args:
            robot: the robot.
            config: of the retargeting.
            toggle: both grips together engage both arms and either lets go, instead of holding each.
            alone: there is no robot; the operator shows a task with their own hands.
        """
        self._alone = alone
        self.robot, self.config = robot, config or RetargetConfig()
        self._toggle = toggle
        self.body = Body(robot, self.config)
        self.operators = Operators()
        self.rejected: Counter[str] = Counter()
        self.frames = 0
        self.locked = self.config.locked
        self.paused = False
        self.estop = False
        self.mode, self.mode_reason = Mode.HOLD, "the controller is not heard"
        self.delay = Delay()
        self._active: tuple[str, ...] = ()
        self._sacrificed: tuple[str, ...] = ()
        self._clients: dict[int, str] = {}
        self._intake: dict[int, Intake] = {}
        self._link = Watchdog()
        self._robot = Watchdog(STATE_SILENCE, STATE_SILENCE)
        self._hands = {side: _Hand(self.config) for side in SIDES}
        self._buttons, self._sticks = Buttons(self.config.left_handed), Sticks(self.config.left_handed)
        self._frame: HeadsetFrame | None = None
        self._arrived = 0
        self._heading: float | None = None
        self._state: RobotState | None = None
        self._commanded: Array | None = None
        self._recorder = inputs.Recorder()
        self._prompt: _Prompt | None = None
        self._pictures: dict[str, float] = {}
        self._leading = False  # references go out
        self._withheld = ""  # why the sticks drive nothing
        self._asked = -NANOSECONDS
        self._stopped = -NANOSECONDS
        self._stepped = 0
        self._referred = 0
        self._allowance = 0.0
        self._period: float | None = None
        self._lost = False
        self._pending: dict[str, list[tuple[int, int]]] = {}
        self._out = Outputs()

    def feed(self, now: int, item: Input) -> Outputs:
        """Take an input at `now` (ns, steady; never less than before): what follows."""
        self._out = Outputs()
        match item:
            case inputs.Binary(client, data):
                self._binary(now, client, data)
            case inputs.Measured(state):
                self._state = state
                self._robot.feed(now)
                self.body.see(state)
            case inputs.Tick():
                self._advance(now, None)
            case inputs.Commanded(names, position):
                if names == self.robot.joint_names:
                    self._commanded = position
            case inputs.Controller():
                self._controller(now, item)
            case inputs.Text(client, text):
                self._text(now, client, text)
            case inputs.Opened(client):
                self._intake[client] = Intake()
                self._clients[client] = ""
            case inputs.Closed(client):
                self._intake.pop(client, None)
                self._clients.pop(client, None)
                self._release(now, client, "the operator's connection is gone")
            case inputs.Recorder():
                self._record(item)
            case inputs.Answered(what, ok, message):
                self._answered(what, ok, message)
            case inputs.Force(side, newton):
                self._feel(now, side, newton)
            case inputs.Pictures(ages):
                self._pictures = ages
        return self._out

    # What the clients say

    def _binary(self, now: int, client: int, data: bytes) -> None:
        intake = self._intake.get(client)
        if intake is None:
            return
        if client != self.operators.holder:
            self.rejected["observer"] += 1
            return
        try:
            frame = intake.take(now / NANOSECONDS, data)
        except Refused as error:
            self.rejected[error.code] += 1
            return
        age = self.delay.age(now, frame)
        if age is not None and age > SLOW_AFTER:
            self.rejected["stale"] += 1
            return
        self.frames += 1
        self._out.frame = frame
        self.operators.heard(now, client)
        self._link.feed(now, age or 0.0)
        self._lost = False
        before, self._frame = self._frame, frame
        if before is not None and now > self._arrived:
            period = (now - self._arrived) / NANOSECONDS
            self._period = period if self._period is None else self._period + (period - self._period) / 30.0
        self._arrived = now
        self._take(now, frame, before)

    def _text(self, now: int, client: int, text: str) -> None:
        if client not in self._clients:
            return
        try:
            message = parse_text(text)
        except Refused as error:
            self.rejected[error.code] += 1
            self._send(client, {"type": "event", "level": "warn", "text": f"refused: {error}"})
            return
        match message["type"]:
            case "hello":
                if message["protocol"] != VERSION:
                    reason = f"the page speaks protocol {message['protocol']}, the server {VERSION}"
                    self._out.closes.append((client, 4002, reason, "reload the page"))
                    return
                self._clients[client] = str(message.get("client", ""))[:60] or f"client {client}"
                reason = self._claim(now, client) if message["want"] == "operator" else ""
                self._send(client, {"type": "welcome", "client": client, "role": self.role(client), "reason": reason})
            case "claim":
                reason = self._claim(now, client)
                self._send(
                    client,
                    {"type": "role", "role": self.role(client), "operator": self.operators.name, "reason": reason},
                )
            case "release":
                self._release(now, client, "the operator released the robot")
                self._send(client, {"type": "role", "role": "observer", "operator": self.operators.name, "reason": ""})
            case "command":
                ok, answer = self._command(now, client, message)
                self._send(client, {"type": "result", "id": message["id"], "ok": ok, "message": answer})
            case "pong":
                self.operators.heard(now, client)

    def role(self, client: int) -> str:
        """What a client is: "operator" or "observer"."""
        return "operator" if client == self.operators.holder else "observer"

    def _claim(self, now: int, client: int) -> str:
        held = self.operators.holder
        reason = self.operators.claim(now, client, self._clients.get(client, ""))
        if not reason and held != client:
            if held is not None:
                self._end(now, "another operator took over")
                self._send(held, {"type": "role", "role": "observer", "operator": self.operators.name, "reason": ""})
            self._forget()
        return reason

    def _release(self, now: int, client: int, reason: str) -> None:
        if self.operators.release(client):
            self._end(now, reason)
            self._forget()

    def _forget(self) -> None:
        """Nothing that the last headset said holds for the next."""
        self._link.forget()
        self.delay = Delay()
        self._frame, self._heading, self._period, self._lost = None, None, None, False
        self._buttons.forget()
        self._sticks.forget()
        for hand in self._hands.values():
            hand.squeeze.forget()
            hand.gate.reset()
            hand.seen.forget()
            hand.grip, hand.withheld = None, ""

    def _command(self, now: int, client: int, message: dict[str, Any]) -> tuple[bool, str]:
        command = message["command"]
        if command == "estop":
            self._emergency(now, f"{self._clients[client]} pressed stop")
            return True, "emergency stop"
        if command == "reset":
            if not self.estop and self.mode is not Mode.ESTOP:
                return False, "the emergency stop is not latched"
            if message.get("confirmed") is not True:
                return False, "confirm first that nobody is near the robot and nothing is jammed"
            self.estop = False
            self._out.estop, self._out.mode = False, Mode.HOLD
            return True, "reset; engage anew to move"
        if command in ("start", "save", "discard"):
            return self._ask(now, command)
        if command in ("confirm", "cancel"):
            success = message.get("success", True)
            return self._answer_prompt(command == "confirm", success is not False)
        if command == "pause":
            self._pause(now, True)
            return True, "paused"
        if client != self.operators.holder:
            return False, f"only the operator may {command}: claim the robot first"
        if command == "resume":
            self._pause(now, False)
            return True, "resumed; engage anew to move"
        if command == "recenter":
            return self._recenter()
        self.locked = command == "lock_base"
        return True, "the base stays" if self.locked else "the base joins in"

    # The recorder

    def _ask(self, now: int, what: str) -> tuple[bool, str]:
        running = self._recorder.state in ("COUNTDOWN", "RECORDING")
        if not self._recorder.state:
            return False, "no recorder is running"
        if what == "start":
            if running or self._recorder.state == "SAVING":
                return False, f"the recorder is {self._recorder.state.lower()}"
            self._out.recorder.append(("start", False, False))
            return True, "starting"
        if not running:
            return False, "no episode is running"
        self._prompt = _Prompt(what, now)
        return True, f"confirm to {what}"

    def _answer_prompt(self, confirmed: bool, success: bool) -> tuple[bool, str]:
        prompt, self._prompt = self._prompt, None
        if prompt is None:
            return False, "nothing was asked"
        if not confirmed:
            return True, "cancelled"
        self._out.recorder.append((prompt.kind, True, success and prompt.kind == "save"))
        return True, prompt.kind

    def _record(self, item: inputs.Recorder) -> None:
        before, self._recorder = self._recorder, item
        if item.state != before.state:
            if item.state == "SAVED":
                for side in SIDES:
                    self._pulse(None, side, "save", 0.5, 120)
            if item.state not in ("COUNTDOWN", "RECORDING"):
                self._prompt = None

    def _answered(self, what: str, ok: bool, message: str) -> None:
        if not ok:
            self._event("warn", f"{what}: {message}")

    # The robot

    def _controller(self, now: int, item: inputs.Controller) -> None:
        before, self.mode, self.mode_reason = self.mode, item.mode, item.reason
        self._active, self._sacrificed = item.active, item.sacrificed
        if item.mode is Mode.ESTOP and before is not Mode.ESTOP and not self.estop:
            self._end(now, "emergency stop")
        if self._leading and item.mode is not Mode.TELEOP:
            self._break_off(now, f"the controller is in {item.mode}: {item.reason or 'no reason given'}")
            self._leading = False

    def _feel(self, now: int, side: str, newton: float) -> None:
        hand = self._hands[side]
        usual = newton if hand.usual is None else hand.usual
        hand.force = max(0.0, newton - usual)
        hand.usual = usual + 0.05 * (newton - usual)
        if hand.engaged and hand.force > _CONTACT:
            self._pulse(now, side, "contact", min(1.0, hand.force / 30.0), 30)

    # The headset

    def _take(self, now: int, frame: HeadsetFrame, before: HeadsetFrame | None) -> None:
        if before is None:
            self._buttons.forget()
        elif frame.epoch != before.epoch:
            self._break_off(now, "the headset's space or inputs changed")
            self._buttons.forget()
            self._sticks.forget()
            for hand in self._hands.values():
                hand.gate.reset()
                hand.grip = None
            if not _same_space(before, frame):
                self._heading = None
        if not frame.visible and (before is None or before.visible):
            self._break_off(now, "the headset shows a menu or is off")
            self._sticks.forget()
        if self._heading is None and frame.head_tracked:
            self._heading = heading(frame.head[3:])
            self._event("info", "the robot's forward is where the headset looks now")
        for action in self._buttons.update(now, frame):
            self._act(now, action)
        self._sticks.update(frame)
        for side, hand in self._hands.items():
            self._look_at(now, frame, side, hand)
        self._advance(now, before)

    def _look_at(self, now: int, frame: HeadsetFrame, side: str, hand: _Hand) -> None:
        given = frame.hand(side)
        hand.limited = ()
        hand.trigger = given.trigger
        if given.bare != hand.bare:
            self._let_go(now, side, "controllers and bare hands changed places")
            hand.gate.reset()
            hand.bare, hand.grip = given.bare, None
        if given.tracked:
            verdict = hand.gate.check(frame.time, given.pose)
            if verdict == "pass":
                hand.grip = given.pose
                hand.seen.feed(now)
            elif verdict == "lost":
                self._let_go(now, side, "the controller jumped")
                hand.gate.reset()
                hand.limited = ("jump",)
            else:
                hand.limited = ("jump",)
        if not self._toggle:
            hand.squeeze.update(now, given.squeeze)
            if hand.engaged and not hand.squeeze.held:
                self._let_go(now, side, "")
        if not hand.squeeze.held:
            hand.withheld = ""

    def _act(self, now: int, action: Action) -> None:
        running = self._recorder.state in ("COUNTDOWN", "RECORDING")
        done: tuple[bool, str] = (True, "")
        if action is Action.ESTOP:
            self._emergency(now, "the operator pressed stop")
        elif action is Action.PAUSE:
            self._pause(now, not self.paused)
        elif action is Action.RECENTER:
            done = self._recenter()
        elif action is Action.REANCHOR:
            self._send(self.operators.holder, {"type": "panels", "do": "reanchor"})
        elif self._prompt is not None:
            same = (action is Action.TAKE) == (self._prompt.kind == "save")
            done = self._answer_prompt(same, True)
        elif action is Action.TAKE:
            done = self._ask(now, "save" if running else "start")
        elif action is Action.DISCARD:
            done = self._ask(now, "discard")
        if not done[0]:
            self._event("warn", done[1])

    def _recenter(self) -> tuple[bool, str]:
        if any(hand.engaged for hand in self._hands.values()):
            return False, "let go of the grips before recentring"
        self._heading = None  # the next frame's head sets it
        return True, "recentred"

    def _pause(self, now: int, paused: bool) -> None:
        self.paused = paused
        if paused:
            self._end(now, "paused")

    def _emergency(self, now: int, reason: str) -> None:
        self._break_off(now, reason)
        self._leading = False
        self.estop = True
        self._stopped = now
        self._out.estop, self._out.mode = True, Mode.ESTOP
        if self._recorder.state in ("COUNTDOWN", "RECORDING"):
            self._out.recorder.append(("abort", True, False))
        self._event("error", f"emergency stop: {reason}")

    # Letting go

    def _let_go(self, now: int, side: str, reason: str) -> None:
        hand = self._hands[side]
        if reason:
            hand.squeeze.forget()
        if not hand.engaged:
            return
        hand.anchor = hand.follower = hand.gripper = None
        if self._state is not None and not any(other.engaged for other in self._hands.values()):
            self.body.rest(self._state)
        self._pulse(now, side, "release", 0.3, 20)
        if reason:
            self._event("warn", f"{side} hand let go: {reason}")

    def _break_off(self, now: int, reason: str) -> None:
        """Open both clutches; each takes a fresh squeeze."""
        for side in SIDES:
            self._let_go(now, side, reason)

    def _end(self, now: int, reason: str) -> None:
        """End teleoperation: the robot is asked to hold."""
        self._break_off(now, reason)
        if self._leading or self.mode is Mode.TELEOP:
            self._out.mode = Mode.HOLD
        self._leading = False

    # Time

    def _advance(self, now: int, before: HeadsetFrame | None) -> None:
        """What is due at `now`; `before` is the frame before the one just taken, None when none came."""
        frame = self._frame
        came = frame is not None and now == self._arrived
        if self._prompt is not None and now >= self._prompt.until:
            self._prompt = None
        if self.estop and self.mode is not Mode.ESTOP and now - self._stopped >= ASK_PERIOD * NANOSECONDS:
            self._stopped = now
            self._out.estop, self._out.mode = True, Mode.ESTOP  # until the controller says so itself
        if self.operators.expired(now):
            holder = self.operators.holder
            assert holder is not None
            self._release(now, holder, "the operator fell silent")
            return
        link = self._link.link(now)
        if link is Link.LOST and frame is not None and not self._lost:
            self._lost = True
            self._end(now, f"no fresh frame for {LOST_AFTER:g} s")
            self._sticks.forget()
        for side, hand in self._hands.items():
            if hand.engaged and hand.seen.link(now) is Link.LOST:
                self._let_go(now, side, "not seen")
        if self._leading and self._robot.link(now) is Link.LOST:
            self._break_off(now, "the robot's state is not heard")
            self._leading = False
        self._withheld = ""
        self._engage(now, link)
        if not self._leading or self._state is None:
            self._stepped = now
            return
        if not came and now - self._referred < IDLE_PERIOD * NANOSECONDS:
            return
        self._lead(now, link, came, before)

    def _hindrance(self, now: int, link: Link) -> str:
        """Why nothing can be driven now; "" when it can."""
        frame = self._frame
        if self.estop or self.mode is Mode.ESTOP:
            return "emergency stop is latched: reset it first"
        if self.paused:
            return "paused: hold Y to resume"
        if frame is None or link is not Link.FRESH:
            return "no fresh frames from the headset"
        if not frame.visible:
            return "the headset shows a menu or is off"
        if self._state is None or self._robot.link(now) is not Link.FRESH:
            return "the robot is not heard"
        if self.delay.round_trip is not None and self.delay.round_trip > SLOWEST_LINK:
            return f"the network takes {self.delay.round_trip * 1000:.0f} ms to and fro, at most 300 ms"
        return ""

    def _engage(self, now: int, link: Link) -> None:
        """Grant, refuse or keep waiting what the grips and sticks ask for."""
        if self._toggle:
            self._toggled(now)
        wanting = [side for side, hand in self._hands.items() if hand.squeeze.wants(now) and not hand.engaged]
        driving = self._sticks.driving
        if not wanting and not (driving and not self._leading):
            return
        hindrance = self._hindrance(now, link)
        if not hindrance and self._state is not None and (wanting or not self._leading):
            hindrance = self.body.unfit(self._state, self._commanded)
        if not hindrance and not self._leading:
            if self.mode is Mode.TELEOP and self._state is not None:
                self.body.start(self._state, self._commanded)
                self._leading, self._stepped, self._allowance = True, now, 0.0
            else:
                if now - self._asked >= ASK_PERIOD * NANOSECONDS:
                    self._asked = now
                    self._out.mode = Mode.TELEOP
                hindrance = _WAITING[0]
        if driving and not self._leading and hindrance not in _WAITING:
            self._withheld = hindrance
        for side in wanting:
            self._grant(now, side, hindrance)

    def _toggled(self, now: int) -> None:
        """Both grips at once engage both arms; a grip while engaged lets go of both."""
        frame = self._frame
        if frame is None:
            return
        squeezes = [self._hands[side].squeeze for side in SIDES]
        pressed = False
        for side, squeeze in zip(SIDES, squeezes, strict=True):
            before = squeeze.held
            squeeze.update(now, frame.hand(side).squeeze)
            pressed |= squeeze.held and not before
        if not pressed:
            return
        engaged = any(hand.engaged for hand in self._hands.values())
        both = all(squeeze.held for squeeze in squeezes)
        for side, squeeze in zip(SIDES, squeezes, strict=True):
            squeeze.since = now if both and not engaged else None
            self._let_go(now, side, "")

    def _grant(self, now: int, side: str, hindrance: str) -> None:
        hand = self._hands[side]
        if not hindrance and (hand.grip is None or hand.seen.silence(now) > 0.1):
            hindrance = "the hand is not tracked"
        if not hindrance and self._heading is None:
            hindrance = "the headset is not tracked: where forward is, is not known"
        if not hindrance and not self._sticks.neutral:
            hindrance = "let go of the sticks first"
        if not hindrance and self._state is not None and self.body.moving(side, self._state):
            hindrance = _WAITING[1]
        hand.withheld = hindrance
        if hindrance in _WAITING:
            return
        hand.squeeze.spend()
        if hindrance:
            self._pulse(now, side, "refused", 0.8, 80)
            return
        assert self._state is not None
        assert hand.grip is not None
        assert self._heading is not None
        if not any(other.engaged for other in self._hands.values()):
            self.body.settle()
        at = self.body.in_cabin(self.body.measured(side, self._state))
        hand.anchor = Anchor(hand.grip, at, self._heading, self.config.scale)
        hand.follower = Follower(self.config.limits, at)
        hand.gripper = Gripper(self.body.closure(side))
        self._pulse(now, side, "engage", 0.6, 40)

    def _lead(self, now: int, link: Link, came: bool, before: HeadsetFrame | None) -> None:
        """Step the body and send a reference."""
        frame, state = self._frame, self._state
        assert frame is not None
        assert state is not None
        dt = min((now - self._stepped) / NANOSECONDS, 0.05)
        if dt <= 0.0:
            return
        self._stepped = now
        self._allowance = min(self._allowance + dt, 0.15)
        gap = (now - self._arrived) / NANOSECONDS
        sampled = 0.0
        if came and before is not None:
            # What lies between two samples is the headset's own interval, whatever the network did; but no more than
            # has gone by here, so that no clock runs a hand faster than its limits.
            sampled = min(max(frame.time - before.time, 0.004), 0.05, max(self._allowance, 0.004))
            self._allowance -= sampled
        for hand in self._hands.values():
            if hand.follower is None or hand.anchor is None:
                continue
            if sampled and hand.grip is not None and hand.seen.heard == now:
                hand.limited = hand.follower.step(hand.anchor.target(hand.grip), sampled)
            elif hand.seen.silence(now) > FRAME_GAP:
                hand.follower.stop(dt)
        for side, hand in self._hands.items():
            if hand.gripper is not None and came:
                self.body.close(side, hand.gripper.reach(hand.trigger, self.body.closure_step(dt)))
        engaged = any(hand.engaged for hand in self._hands.values())
        if engaged and came and frame.head_tracked and self._heading is not None:
            self.body.look(multiply(about_z(-self._heading), frame.head[3:]), dt)
        blind = bool(self._pictures) and min(self._pictures.values()) > CAMERA_SILENCE
        still = link is not Link.FRESH or not frame.visible
        x, y, yaw, lift = (0.0, 0.0, 0.0, 0.0) if still else self._sticks.axes
        axes = (0.0, 0.0, 0.0, lift) if blind else (x, y, yaw, lift)
        goals = {
            side: HandGoal(hand.follower.pose, hand.follower.twist if gap < FRAME_GAP else np.zeros(6))
            for side, hand in self._hands.items()
            if hand.follower is not None
        }
        base, hands = self.body.step(dt, axes, goals, self.locked)
        for side in self.body.beyond:
            self._hands[side].limited = (*self._hands[side].limited, "reach")
        for side, hand in self._hands.items():
            if hand.engaged and hand.limited:
                self._pulse(now, side, "limit", 0.2, 20)
        self._referred = now
        late = min(now - (self._robot.heard or now), 40_000_000)  # the controller takes 50 ms of future
        self._out.reference = self.body.reference(state.stamp + late, base, hands)

    # What is said

    def _send(self, client: int | None, message: dict[str, Any]) -> None:
        self._out.messages.append((client, message))

    def _event(self, level: str, text: str) -> None:
        self._send(None, {"type": "event", "level": level, "text": text})

    def _pulse(self, now: int | None, side: str, cause: str, intensity: float, ms: int) -> None:
        """A haptic pulse to the operator; the same cause not more often than every `_TWITCH` s."""
        if self.operators.holder is None:
            return
        hand = self._hands[side]
        if now is not None:
            if now - hand.pulsed.get(cause, -NANOSECONDS) < _TWITCH * NANOSECONDS:
                return
            hand.pulsed[cause] = now
        pulse = {"type": "haptic", "hand": side, "intensity": round(intensity, 2), "ms": ms, "cause": cause}
        self._send(self.operators.holder, pulse)

    def phase(self, now: int) -> str:
        """Where the session stands, in one word."""
        if self.estop or self.mode is Mode.ESTOP:
            return "estop"
        if self.paused:
            return "paused"
        if self._frame is None:
            return "idle"
        if self._link.link(now) is not Link.FRESH:
            return "lost"
        return "engaged" if any(hand.engaged for hand in self._hands.values()) else "ready"

    def view(self, now: int, client: int) -> dict[str, Any]:
        """The `state` message for a client."""
        frame, recorder, prompt = self._frame, self._recorder, self._prompt
        steady = now / NANOSECONDS
        trip, jitter = self.delay.round_trip, self.delay.jitter
        try:
            card = json.loads(recorder.scene_card) if recorder.scene_card else None
        except ValueError:
            card = None
        return {
            "type": "state",
            "t": steady,
            "echo": None
            if frame is None
            else {"sequence": frame.sequence, "held_ms": round((now - self._arrived) / 1e6, 2)},
            "role": self.role(client),
            "operator": self.operators.name,
            "session": self.phase(now),
            "mode": self.mode.value,
            "mode_reason": self.mode_reason,
            "hands": {side: self._hand_view(now, hand, side) for side, hand in self._hands.items()},
            "base": {
                "twist": [round(v, 3) for v in self.body.base_twist] if self._leading else [0.0, 0.0, 0.0],
                "locked": self.locked,
                "joining": self.body.joining and self._leading,
            },
            "lift": round(self.body.lift, 4),
            "head": [round(v, 3) for v in self.body.head],
            "sticks": {"neutral": self._sticks.neutral},
            "episode": {
                "state": recorder.state,
                "index": recorder.index,
                "saved": recorder.saved,
                "countdown": round(recorder.countdown, 2),
                "duration": round(recorder.duration, 2),
                "task": recorder.task,
                "scene_card": card,
                "quality": recorder.quality,
                "warnings": list(recorder.warnings),
                "dataset": recorder.dataset,
            },
            "prompt": None
            if prompt is None
            else {
                "kind": prompt.kind,
                "text": f"{prompt.kind.capitalize()} episode {recorder.index}?",
                "confirm": "A" if prompt.kind == "save" else "X",
                "cancel": "X" if prompt.kind == "save" else "A",
                "left_s": round((prompt.until - now) / NANOSECONDS, 1),
            },
            "warnings": self._warnings(now),
            "latency": {
                "rtt_ms": None if trip is None else round(trip * 1000, 1),
                "jitter_ms": None if jitter is None else round(jitter * 1000, 2),
                "frame_hz": None if not self._period else round(1.0 / self._period, 1),
            },
            "counters": {"frames": self.frames, "rejected": dict(self.rejected)},
        }

    def _hand_view(self, now: int, hand: _Hand, side: str) -> dict[str, Any]:
        ghost = None
        if hand.anchor is not None and hand.follower is not None:
            ghost = [round(v, 4) for v in to_webxr(hand.anchor.ghost(hand.follower.pose)).tolist()]
        return {
            "engaged": hand.engaged,
            "withheld": hand.withheld,
            "tracked": hand.seen.silence(now) < SLOW_AFTER,
            "limited": list(hand.limited),
            "gripper": round(self.body.closure(side), 3) if self._leading else None,
            "gripper_waiting": hand.gripper is not None and hand.gripper.waiting,
            "ghost": ghost,
            "force": round(hand.force, 1),
        }

    def _warnings(self, now: int) -> list[dict[str, str]]:
        found = []

        def warn(code: str, text: str) -> None:
            found.append({"code": code, "text": text})

        if self._frame is not None:
            for side, hand in self._hands.items():
                if hand.seen.silence(now) > SLOW_AFTER:
                    warn("hand_lost", f"{side} hand is not seen")
            if self._link.link(now) is not Link.FRESH:
                warn("link_stale", f"no fresh frame for {self._link.silence(now):.1f} s")
        if self._robot.link(now) is Link.LOST and not self._alone:
            warn("robot", "the robot is not heard")
        if self._withheld:
            warn("withheld", f"the sticks drive nothing: {self._withheld}")
        for side, hand in self._hands.items():
            if hand.engaged and hand.limited:
                warn("limit", f"{side} hand: {', '.join(hand.limited)}")
        if self._leading:
            for name in self._sacrificed:
                warn("limit", f"{name} cannot reach its target")
            for name in self._active[:3]:
                warn("limit", name)
        for camera, age in self._pictures.items():
            if age > CAMERA_SILENCE:
                warn("camera_stale", f"no picture of {camera} for {age:.1f} s")
        for text in self._recorder.warnings:
            warn("recorder", text)
        return found
