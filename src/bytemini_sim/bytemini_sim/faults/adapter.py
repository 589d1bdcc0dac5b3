"""A serial adapter of software with a stop button at it, in a process of its own: pyserial's loop, served by RFC 2217.

`Adapter` starts it and presses the button. Whoever opens `Adapter.url` with pyserial drives and reads its lines through
a network port, as with a serial device server.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from types import TracebackType

from serial.rfc2217 import PortManager
from serial.urlhandler.protocol_loop import Serial

LOOK = 0.002
"""Seconds between two looks at the lines."""


class Adapter:
    """The adapter's process. A context manager."""

    def __enter__(self) -> Adapter:
        """Plug it in."""
        # It ends when its standard input does: with whoever started it, however that ends.
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        port = int(self._process.stdout.readline())
        self.url = f"rfc2217://127.0.0.1:{port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unplug it."""
        self._process.kill()
        self._process.communicate()

    def press(self) -> None:
        """Open the loop."""
        self._process.send_signal(signal.SIGUSR1)

    def release(self) -> None:
        """Close the loop."""
        self._process.send_signal(signal.SIGUSR2)

    def freeze(self) -> None:
        """Let it hang: its lines stay as they were last seen."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)


class _Cable(Serial):  # type: ignore[misc]
    """pyserial's loop from RTS to CTS, with a button in it."""

    pressed = False

    @property
    def cts(self) -> bool:
        return bool(super().cts) and not self.pressed


class _Connection:
    """What pyserial's server writes to."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client

    def write(self, data: bytes) -> None:
        self._client.sendall(data)


def main() -> None:
    """Serve one client after the other, until the end of the standard input; says on which port."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    cable = _Cable("loop://")
    signal.signal(signal.SIGUSR1, lambda *_: setattr(cable, "pressed", True))
    signal.signal(signal.SIGUSR2, lambda *_: setattr(cable, "pressed", False))
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            client, _ = server.accept()
            with client, contextlib.suppress(OSError):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _serve(cable, client)


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


def _serve(cable: _Cable, client: socket.socket) -> None:
    """Until the client is gone."""
    manager = PortManager(cable, _Connection(client))
    while True:
        if select.select([client], [], [], LOOK)[0]:
            data = client.recv(1024)
            if not data:
                return
            for _ in manager.filter(data):
                pass  # no bytes for the port itself: only its lines are used
        manager.check_modem_lines()


if __name__ == "__main__":
    main()
