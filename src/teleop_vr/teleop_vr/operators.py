"""One holds the robot, the others watch, until the first lets go or falls silent."""

from __future__ import annotations

from bytemini_core.types import NANOSECONDS

CLAIM = 5.0
"""s of silence after which the operator's claim ends."""


class Operators:
    """Who may steer. Clients are numbers; times in ns.

    `holder`: the operator's number, None when the robot is free. `name`: what the operator calls itself.
    """

    def __init__(self) -> None:
        self.holder: int | None = None
        self.name = ""
        self._heard = 0

    def claim(self, now: int, client: int, name: str) -> str:
        """Ask for the robot; "" when granted, else why not."""
        if self.holder not in (None, client) and not self.expired(now):
            return (
                f"{self.name or 'another client'} holds the robot: it has to release it, or be silent for {CLAIM:g} s"
            )
        self.holder, self.name, self._heard = client, name, now
        return ""

    def release(self, client: int) -> bool:
        """Give the robot up; whether it was this client's."""
        if self.holder != client:
            return False
        self.holder, self.name = None, ""
        return True

    def heard(self, now: int, client: int) -> None:
        """The client showed that it is alive."""
        if client == self.holder:
            self._heard = now

    def expired(self, now: int) -> bool:
        """Whether the operator has been silent for too long."""
        return self.holder is not None and now - self._heard > CLAIM * NANOSECONDS
