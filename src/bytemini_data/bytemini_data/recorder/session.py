"""Where an episode stands: from countdown to saved, discarded or aborted. Pure: time and disk space come in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Of the running or last episode."""

    IDLE = "IDLE"
    COUNTDOWN = "COUNTDOWN"
    RECORDING = "RECORDING"
    SAVING = "SAVING"
    SAVED = "SAVED"
    DISCARDED = "DISCARDED"
    ABORTED = "ABORTED"


class Effect(StrEnum):
    """What is to be done when the state has changed."""

    BEGIN = "begin"
    SAVE = "save"
    DISCARD = "discard"
    ABORT = "abort"


@dataclass(frozen=True)
class Limits:
    """When a recording may not go on.

    `countdown`: seconds before it starts. `longest`: seconds of an episode. `reserve`: bytes that stay free on the
    disk; an episode starts only with as much again for itself. `loss`: seconds without the head camera or the state
    after which an episode is aborted; shorter losses are counted and told.
    """

    countdown: float = 3.0
    longest: float = 900.0
    reserve: int = 2 * 1024**3
    loss: float = 1.0


@dataclass(frozen=True)
class Answer:
    """To a command or a tick: whether it was taken, what happens now or why not, and what is to be done."""

    ok: bool
    message: str
    effect: Effect | None = None


class Session:
    """The state machine of episodes.

    Attributes:
        state: see `State`.
        operator, success: of the episode, as the last command said.
        reason: why it was aborted.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.state = State.IDLE
        self.operator = ""
        self.success = False
        self.reason = ""
        self._since = 0.0
        self._now = 0.0

    @property
    def countdown(self) -> float:
        """Seconds until recording starts; 0 when none runs."""
        return max(0.0, self.limits.countdown - (self._now - self._since)) if self.state is State.COUNTDOWN else 0.0

    @property
    def duration(self) -> float:
        """Seconds recorded so far."""
        return self._now - self._since if self.state in (State.RECORDING, State.SAVING) else 0.0

    def command(
        self, command: str, now: float, free: int, operator: str = "", confirmed: bool = False, success: bool = False
    ) -> Answer:
        """What an operator asks for.

        Args:
            command: "start", "save", "discard" or "abort".
            now: seconds.
            free: bytes free on the disk.
            operator: who asks.
            confirmed: a discard was asked about.
            success: with save, whether the task was done.
        """
        if command == "start":
            return self._start(now, free, operator)
        if command not in ("save", "discard", "abort"):
            return Answer(False, f"{command!r} is no command, expected start, save, discard or abort")
        if self.state is State.COUNTDOWN and command != "save":
            self.state = State.DISCARDED
            return Answer(True, "the countdown was stopped; nothing was recorded")
        if self.state is not State.RECORDING:
            return Answer(False, f"there is nothing to {command}: the recorder is {self.state.value}")
        self._now = now
        if command == "save":
            self.success = success
            self.state = State.SAVING
            return Answer(True, "saving", Effect.SAVE)
        if command == "discard":
            if not confirmed:
                return Answer(False, f"throw {self.duration:.0f} s away? Say discard again, confirmed")
            self.state = State.DISCARDED
            return Answer(True, "discarded", Effect.DISCARD)
        return self._abort("the operator aborted it")

    def tick(self, now: float, free: int, silence: dict[str, float] | None = None) -> Answer | None:
        """Time goes on.

        Args:
            now: seconds.
            free: bytes free on the disk.
            silence: input to seconds since it was heard; those that an episode cannot do without.

        Returns:
            What has changed by itself; None for nothing.
        """
        self._now = now
        if self.state is State.COUNTDOWN and now - self._since >= self.limits.countdown:
            self.state, self._since = State.RECORDING, now
            return Answer(True, "recording", Effect.BEGIN)
        if self.state is not State.RECORDING:
            return None
        if free < self.limits.reserve:
            return self._abort(f"{free / 1e9:.1f} GB are free on the disk, expected {self.limits.reserve / 1e9:.1f}")
        for name, seconds in (silence or {}).items():
            if min(seconds, now - self._since) > self.limits.loss:
                return self._abort(f"no {name} for {seconds:.1f} s: is it publishing?")
        if now - self._since >= self.limits.longest:
            self.success = False
            self.state = State.SAVING
            return Answer(True, f"saving: {self.limits.longest:g} s are as long as an episode may be", Effect.SAVE)
        return None

    def saved(self) -> None:
        """The episode is on disk to stay."""
        self._from_saving(State.SAVED)

    def failed(self, reason: str) -> None:
        """The episode could not be begun or saved."""
        self.reason = reason
        if self.state in (State.SAVING, State.RECORDING):
            self.state = State.ABORTED

    def _from_saving(self, state: State) -> None:
        if self.state is not State.SAVING:
            raise RuntimeError(f"the recorder is {self.state.value}, expected SAVING")
        self.state = state

    def _start(self, now: float, free: int, operator: str) -> Answer:
        if self.state in (State.COUNTDOWN, State.RECORDING, State.SAVING):
            return Answer(False, f"an episode is under way: the recorder is {self.state.value}")
        needed = 2 * self.limits.reserve
        if free < needed:
            return Answer(False, f"{free / 1e9:.1f} GB are free on the disk, expected {needed / 1e9:.1f}: make room")
        self.state, self._since, self._now = State.COUNTDOWN, now, now
        self.operator, self.success, self.reason = operator or self.operator, False, ""
        return Answer(True, f"recording starts in {self.limits.countdown:g} s")

    def _abort(self, reason: str) -> Answer:
        self.state, self.reason = State.ABORTED, reason
        return Answer(True, f"aborted: {reason}", Effect.ABORT)
