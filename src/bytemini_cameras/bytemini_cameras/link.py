"""When a camera is opened, given up and looked for again: a state machine over times that are handed in."""

from __future__ import annotations

from enum import StrEnum

STALL = 1.0
"""Seconds without a frame after which a camera is taken for lost and opened anew."""

FIRST_WAIT = 0.25
"""Seconds before the first new attempt."""

LONGEST_WAIT = 8.0
"""Seconds between attempts, at most."""

STEADY = 5.0
"""Seconds of frames after which a camera is trusted again and the next wait starts short."""


class LinkState(StrEnum):
    """Where a camera stands."""

    SEARCHING = "searching"
    OPENED = "opened"
    STREAMING = "streaming"


class Link:
    """One camera's connection.

    The wait between attempts doubles from `FIRST_WAIT` to `LONGEST_WAIT`, and is short again only once the camera has
    streamed for `STEADY` seconds: one that comes and goes does not keep the USB bus busy.
    """

    def __init__(self, stall: float = STALL) -> None:
        """Start with nothing connected.

        Args:
            stall: seconds without a frame after which the camera is lost.
        """
        self.state = LinkState.SEARCHING
        self.reason = "not opened yet"
        self.connections = 0
        """How often frames began to come."""
        self._stall = stall
        self._wait = FIRST_WAIT
        self._next = float("-inf")
        self._since = 0.0
        self._heard = 0.0

    def due(self, now: float) -> bool:
        """Whether it is time to try to open the camera (`now`: s, monotonic)."""
        return self.state is LinkState.SEARCHING and now >= self._next

    def wait(self, now: float) -> float:
        """Seconds until it is time to try."""
        return max(0.0, self._next - now)

    def opened(self, now: float) -> None:
        """The camera was opened; its first frame is awaited."""
        self.state, self._heard = LinkState.OPENED, now

    def frame(self, now: float) -> None:
        """A frame has come."""
        if self.state is LinkState.SEARCHING:
            raise ValueError("a frame from a camera that is not open")
        if self.state is LinkState.OPENED:
            self.state, self.reason, self._since = LinkState.STREAMING, "", now
            self.connections += 1
        self._heard = now
        if now - self._since >= STEADY:
            self._wait = FIRST_WAIT

    def stalled(self, now: float) -> bool:
        """Whether an open camera has been silent for too long."""
        return self.state is not LinkState.SEARCHING and now - self._heard > self._stall

    def lost(self, now: float, reason: str) -> None:
        """The camera could not be opened, went away or fell silent; it is tried again after a wait."""
        self.state, self.reason = LinkState.SEARCHING, reason
        self._next = now + self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT)
