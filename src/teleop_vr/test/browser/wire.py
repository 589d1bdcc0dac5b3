"""A network between browser and server that can be cut and can stall."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class Wire:
    """Passes bytes between a port of this machine and another; `cut` breaks what is open, `stalled` holds all back."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.stalled = threading.Event()
        self._ended = threading.Event()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Break every connection; new ones are taken."""
        with self._lock:
            for pair in self._pairs:
                for end in pair:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End."""
        self._ended.set()
        self.stalled.clear()
        self.cut()
        self._thread.join(timeout=2)
        self._listener.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target), timeout=2)
                except OSError:
                    near.close()  # nobody listens there now
                    continue
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass, args=(near, far), daemon=True).start()

    def _pass(self, near: socket.socket, far: socket.socket) -> None:
        pair = (near, far)
        with self._lock:
            self._pairs.add(pair)
        other = {near: far, far: near}
        with contextlib.suppress(OSError):
            while not self._ended.is_set():
                if self.stalled.is_set():
                    self._ended.wait(0.02)
                    continue
                for end in select.select(pair, [], [], 0.05)[0]:
                    data = end.recv(65536)
                    if not data:
                        raise ConnectionResetError
                    other[end].sendall(data)
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            end.close()
