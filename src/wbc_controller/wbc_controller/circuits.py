"""Stop circuits: who may stop the robot by opening one, by saying nothing, or by never having said anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bytemini_core.watchdog import Watch


class StopCircuits:
    """What was last heard of every stop circuit. Nothing but the word that it is closed, and lately, counts as closed.

    Args:
        required: names of circuits without whose word nobody may own the robot. A circuit that was heard once is
            missed from then on, required or not.
        gone: whether the process behind a circuit that is overdue is gone (`watchdog.Watch`).

    Times are the machine's own (s, monotonic): a button is pressed whatever simulated time does.
    """

    def __init__(self, required: Iterable[str] = (), gone: Callable[[str], bool] | None = None) -> None:
        self._required = tuple(required)
        self._watch = Watch(gone) if gone else Watch()
        self._open: dict[str, str] = {}
        self._ending = False

    def hear(self, name: str, t: float, closed: bool, reason: str = "") -> None:
        """A circuit is closed, or open for a reason, at t (s).

        Raises:
            ValueError: it has no name.
        """
        if not name:
            raise ValueError("a stop circuit says nothing of its name: it belongs into header.frame_id")
        self._watch.heard(name, t)
        self._open[name] = "" if closed else reason or "no reason is given"

    def stops(self, t: float) -> str:
        """Why the robot has to stop at t (s); "" when every circuit that was ever heard is closed."""
        if not self._ending and (silent := self._watch.silent(t, self._open)):
            return f"emergency stop: no word of stop circuit {silent}, is its node running?"
        return next((f"emergency stop: circuit {name} is open: {why}" for name, why in self._open.items() if why), "")

    def prevents(self, t: float) -> str:
        """Why nobody may own the robot, or reset it, at t (s); "" when nothing prevents it."""
        missing = next((name for name in self._required if name not in self._open), "")
        return self.stops(t) or (f"no word yet of stop circuit {missing}, is its node running?" if missing else "")

    def end(self) -> None:
        """The whole stack is being ended, the robot held: who falls silent now is no emergency."""
        self._ending = True

    def states(self) -> str:
        """Every circuit and whether it is closed, for a person."""
        known = {**dict.fromkeys(self._required, "not heard yet"), **self._open}
        return ", ".join(f"{name}: {why or 'closed'}" for name, why in known.items())
