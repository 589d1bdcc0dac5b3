"""What one socket's frames have to prove beyond being well formed: order, pace, age; and how soon they are heeded."""

from __future__ import annotations

from collections import deque

from bytemini_core.types import NANOSECONDS

from teleop_vr.protocol import HeadsetFrame, Refused, parse_frame

FASTEST = 150.0
"""Frames per second that a headset may send for long."""

BURST = 60.0
"""Frames that may come at once, after a gap on the way."""


class Intake:
    """Takes the frames of one socket in order; a replayed, late or surplus one is refused. Times are steady, in s."""

    def __init__(self) -> None:
        self.last: HeadsetFrame | None = None
        self._allowance = BURST
        self._heard = 0.0

    def take(self, now: float, data: bytes) -> HeadsetFrame:
        """The frame, if it is to be taken.

        Raises:
            Refused: with the reason.
        """
        if self._heard:
            self._allowance = min(BURST, self._allowance + (now - self._heard) * FASTEST)
        self._heard = now
        if self._allowance < 1.0:
            raise Refused("flood", f"more than {FASTEST:g} frames a second")
        self._allowance -= 1.0
        frame = parse_frame(data)
        last = self.last
        if last is not None:
            if frame.sequence <= last.sequence:
                raise Refused("sequence", f"sequence {frame.sequence} follows {last.sequence}: replayed or late")
            if frame.time <= last.time:
                raise Refused("time", f"the headset's clock stood still or went back at sequence {frame.sequence}")
        if frame.server_echo > now:
            raise Refused("echo", "the frame echoes a time that has not come yet")
        self.last = frame
        return frame


class Delay:
    """How old frames are when they come, from the server's own times that come back: no two clocks are compared.

    A frame echoes the server's time t of the newest state that the page had, and how long the page had it: the rest of
    now - t was spent on the two ways. The least of the last `window` s is taken for twice the quiet way; whatever a
    frame took longer, it waited on its own.

    `round_trip`, `jitter` and `usual`, the age, are smoothed, in s; None while unknown.
    """

    def __init__(self, window: float = 20.0) -> None:
        self._window = round(window * NANOSECONDS)
        self._least: deque[tuple[int, float]] = deque()  # round trips that no later one undercut
        self.round_trip: float | None = None
        self.jitter: float | None = None
        self.usual: float | None = None

    def age(self, now: int, frame: HeadsetFrame) -> float | None:
        """Age (s) of a frame that came at `now` (ns); None while the page has echoed nothing yet."""
        if frame.server_echo == 0.0:
            return None
        trip = max(0.0, float(now / NANOSECONDS - frame.server_echo - frame.echo_held))
        while self._least and self._least[-1][1] >= trip:
            self._least.pop()
        self._least.append((now, trip))
        while now - self._least[0][0] > self._window:
            self._least.popleft()
        if self.round_trip is None or self.jitter is None:
            self.round_trip, self.jitter = trip, 0.0
        self.jitter += (abs(trip - self.round_trip) - self.jitter) / 16.0  # RFC 3550, section 6.4.1
        self.round_trip += (trip - self.round_trip) / 8.0
        age = trip - 0.5 * self._least[0][1]
        self.usual = age if self.usual is None else self.usual + (age - self.usual) / 8.0
        return age


class Reaction:
    """How long the robot takes from a reference to a joint command that may heed it. Times in s, stamps in ns.

    A command carries the stamp of the state that it answers. One that answers a state which came after the reference
    left was made when the controller had the reference.
    """

    def __init__(self) -> None:
        self._waiting: tuple[float, int] | None = None
        self.usual: float | None = None

    def led(self, now: float, stamp: int) -> None:
        """A reference leaves at `now`; `stamp`: of the newest state."""
        if self._waiting is None:
            self._waiting = now, stamp

    def commanded(self, now: float, stamp: int) -> None:
        """A joint command comes at `now`, with this stamp."""
        if self._waiting is None or stamp <= self._waiting[1]:
            return
        took, self._waiting = now - self._waiting[0], None
        self.usual = took if self.usual is None else self.usual + (took - self.usual) / 8.0
