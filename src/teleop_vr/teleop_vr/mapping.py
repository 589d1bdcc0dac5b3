"""What the controls do: one table, which the program looks up, the headset shows and the README prints."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bytemini_core.types import NANOSECONDS

from teleop_vr.clutch import CLOSE_AT
from teleop_vr.protocol import LOWER, SQUEEZE, STICK, TRIGGER, UPPER, HeadsetFrame

HOLD = 0.8
"""s that Y is held before it pauses."""


class Action(StrEnum):
    """What a button can ask for."""

    TAKE = "take"
    DISCARD = "discard"
    REANCHOR = "reanchor"
    PAUSE = "pause"
    ESTOP = "estop"
    RECENTER = "recenter"


@dataclass(frozen=True, slots=True)
class Row:
    """One control. `control`: what the hand does; `does`: what follows; `when`: the condition."""

    control: str
    does: str
    when: str


TABLE = (
    Row("grip (squeeze), either hand", "clutch: that arm follows the hand while it is held", "tracked, sticks neutral"),
    Row("trigger, either hand", "gripper, 0 open to 1 closed; takes over where the gripper is", "that arm engaged"),
    Row("left stick", "base forward, left", "neutral seen before"),
    Row("right stick left, right", "base yaw", "neutral seen before"),
    Row("right stick up, down", "lift", "neutral seen before"),
    Row("headset", "head yaw and pitch", "an arm engaged"),
    Row("A", "start an episode; then save it, A again confirms, X does not", "a recorder runs"),
    Row("X", "discard the episode; X again confirms, A does not", "an episode runs"),
    Row("B", "bring the panels in front of the eyes", "always"),
    Row(f"Y held {HOLD:g} s", "pause and resume", "always"),
    Row("left stick click", "recentre: where the headset looks is the robot's forward", "nothing engaged"),
    Row("both stick clicks", "software emergency stop, latched", "always"),
    Row("grip + trigger + A (right), grip + trigger + X (left)", "software emergency stop, latched", "always"),
    Row("bare hand: pinch, fist", "trigger, grip", "hand tracking"),
)


class Buttons:
    """Turns buttons into actions: at their press, at the end of a hold, or at the release of a click.

    `left_handed`: the two controllers' buttons change places; the stops stay, they are the same on both.
    """

    def __init__(self, left_handed: bool = False) -> None:
        self._left_handed = left_handed
        self._before: tuple[int, int] | None = None
        self._upper_since: int | None = None
        self._click_alone = False
        self._stopped = False

    def forget(self) -> None:
        """Take the next frame's buttons for granted: what is down already does nothing."""
        self._before = None
        self._upper_since = None
        self._click_alone = False

    def update(self, now: int, frame: HeadsetFrame) -> tuple[Action, ...]:
        """The actions that this frame's buttons ask for; `now` in ns."""
        left, right = (frame.right, frame.left) if self._left_handed else (frame.left, frame.right)
        held = (left.buttons, right.buttons)
        actions = []
        stop = left.pressed(STICK) and right.pressed(STICK)
        for hand in (left, right):
            grip = hand.squeeze > CLOSE_AT or hand.pressed(SQUEEZE)
            stop |= grip and hand.pressed(LOWER) and (hand.trigger > 0.9 or hand.pressed(TRIGGER))
        if stop and not self._stopped:
            actions.append(Action.ESTOP)
        self._stopped = stop
        if self._before is None or stop:
            self._before, self._upper_since, self._click_alone = held, None, False
            return tuple(actions)

        def fell(hand: int, button: int) -> bool:
            assert self._before is not None
            return bool(held[hand] & ~self._before[hand] & 1 << button)

        if fell(1, LOWER):
            actions.append(Action.TAKE)
        if fell(0, LOWER):
            actions.append(Action.DISCARD)
        if fell(1, UPPER):
            actions.append(Action.REANCHOR)
        if fell(0, UPPER):
            self._upper_since = now
        if not left.pressed(UPPER):
            self._upper_since = None
        elif self._upper_since is not None and now - self._upper_since >= HOLD * NANOSECONDS:
            self._upper_since = None
            actions.append(Action.PAUSE)
        if fell(0, STICK):
            self._click_alone = True
        if right.pressed(STICK):
            self._click_alone = False
        if self._click_alone and not left.pressed(STICK):
            self._click_alone = False
            actions.append(Action.RECENTER)
        self._before = held
        return tuple(actions)


DEAD_ZONE = 0.12


def deflection(value: float) -> float:
    """A stick's axis (-1 to 1) without its dead zone, continuous at its edge."""
    size = max(0.0, abs(value) - DEAD_ZONE) / (1.0 - DEAD_ZONE)
    return size if value > 0.0 else -size


class Sticks:
    """The four axes, each dead until it was seen neutral: a stick held at (re)connection drives nothing.

    `axes`: base forward, base left, yaw left, lift up; -1 to 1. `left_handed`: the two sticks change places.
    """

    def __init__(self, left_handed: bool = False) -> None:
        self._left_handed = left_handed
        self.axes = (0.0, 0.0, 0.0, 0.0)
        self._seen = [False] * 4
        self.neutral = False

    def forget(self) -> None:
        """Every axis has to be seen neutral again."""
        self.axes = (0.0, 0.0, 0.0, 0.0)
        self._seen = [False] * 4
        self.neutral = False

    def update(self, frame: HeadsetFrame) -> None:
        """Take a frame's sticks."""
        driving, turning = (frame.right, frame.left) if self._left_handed else (frame.left, frame.right)
        forward, left = driving.stick
        up, turn = turning.stick
        raw = tuple(map(deflection, (forward, left, turn, up)))
        self._seen = [seen or value == 0.0 for seen, value in zip(self._seen, raw, strict=True)]
        self.axes = tuple(v if seen else 0.0 for v, seen in zip(raw, self._seen, strict=True))  # type: ignore[assignment]
        self.neutral = not any(raw)

    @property
    def driving(self) -> bool:
        """Whether an axis asks for motion."""
        return any(self.axes)
