"""A stop button on a serial port: a normally-closed loop between two of its control lines, tested while it is read.

The adapter drives one line (RTS, or DTR) and reads another (CTS, or DSR); the button's contact lies between them. A
pressed button, a cut cable and an adapter that is gone all read as no voltage. What would read as closed for ever, a
short circuit or an adapter that froze, is found by test pulses, as safety relays do: once a second the driven line is
taken away for a moment, and the other one has to follow.
"""

from __future__ import annotations

import contextlib
from typing import Any

import serial

LINES = {"rts-cts": ("rts", "cts"), "dtr-dsr": ("dtr", "dsr")}
"""Which line is driven and which is read, by the choice's name."""

PULSE = 1.0
"""Seconds between two test pulses."""

FALL = 0.2
"""Seconds within which the line has to follow when the voltage is taken away ..."""

RISE = 0.05
"""... and, looked at `LOOKS` times at least, when it comes back."""

LOOKS = 5
"""So often the line is read before it is given up: on a busy machine `RISE` may be over after one look."""

RETRY = 0.5
"""Seconds between two attempts to open a port."""


class Loop:
    """The loop as it is read, and when it is tested: a state machine over times that are handed in.

    `driven`: whether there should be voltage on the loop; whoever reads it sees to that. A loop is open until its first
    test has gone well, and again after it was open.
    """

    def __init__(self, t: float) -> None:
        """Begin at t (s, monotonic), with voltage."""
        self._why = "it was not tested yet"
        self._tested = float("-inf")
        self._drive(t, True)

    def look(self, t: float, voltage: bool) -> str:
        """Take what the other end reads at t (s); why the loop is open, "" when it is closed."""
        self._looks += 1
        if self.driven and voltage:
            if t - self._tested >= PULSE:
                self._drive(t, False)
            else:
                self._why = ""
        elif self.driven:
            if self._lasts(t, RISE):
                self._why, self._tested = "the button is pressed, or its cable is cut", float("-inf")
        elif not voltage:
            self._tested = t
            self._drive(t, True)
        elif self._lasts(t, FALL):
            self._why = "it is closed even without voltage: a short circuit, or the adapter hangs"
        return self._why

    def _drive(self, t: float, voltage: bool) -> None:
        self.driven, self._since, self._looks = voltage, t, 0

    def _lasts(self, t: float, seconds: float) -> bool:
        return t - self._since > seconds and self._looks >= LOOKS


class Button:
    """The loop at a serial port, which is opened, and opened again where the adapter goes away.

    Args:
        port: device, or a URL of pyserial's (`loop://`, `rfc2217://host:port`).
        lines: which lines the loop is between, of `LINES`.

    Raises:
        ValueError: the URL is none of pyserial's, or there are no such lines.
    """

    def __init__(self, port: str, lines: str = "rts-cts") -> None:
        if lines not in LINES:
            raise ValueError(f"lines are {lines!r}, expected {' or '.join(LINES)}")
        self._driven, self._read = LINES[lines]
        serial.serial_for_url(port, do_not_open=True)
        self._name = port
        self._port: Any = None
        self._loop = Loop(0.0)
        self._why = ""
        self._retry = float("-inf")

    def look(self, t: float) -> str:
        """Read it at t (s, monotonic); why it is open, "" when it is closed."""
        if self._port is None and t < self._retry:
            return self._why
        try:
            if self._port is None:
                # Nobody else may drive these lines.
                self._port = serial.serial_for_url(self._name, exclusive=True)
                self._loop = Loop(t)
            before = self._loop.driven
            why = self._loop.look(t, bool(getattr(self._port, self._read)))
            if self._loop.driven is not before:
                setattr(self._port, self._driven, self._loop.driven)
        except OSError as error:
            self.close()
            self._retry, self._why = t + RETRY, f"{self._name} cannot be read: {error}"
            return self._why
        return why

    def close(self) -> None:
        """Let the port go."""
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(OSError):  # it is gone already
                port.close()
