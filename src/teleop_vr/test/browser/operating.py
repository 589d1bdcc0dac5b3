"""What the tests of the page act with: a served robot, and a person who wears a headset or sits at the desk."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

TOKEN = "pairing"


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], within: float, what: str) -> Any:
    """Wait until a condition holds; its value."""
    end = time.monotonic() + within
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, f"not within {within:g} s: {what}"
        time.sleep(0.02)


def refused(hand: dict[str, Any]) -> bool:
    """Whether a grip was answered with no; waiting for the controller is no answer yet."""
    return bool(hand["withheld"]) and not hand["withheld"].startswith("waiting")


class Served:
    """A server in a process of its own. `command`: its Python's arguments; {port} in them is where it is to serve."""

    def __init__(self, command: list[str], log: Path, token: str = TOKEN, **environment: str) -> None:
        self.port = free_port()
        self.token = token
        self._command = [sys.executable, *(word.format(port=self.port) for word in command)]
        self._environment = {**os.environ, **environment}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    @property
    def address(self) -> str:
        """What a person opens."""
        return f"https://localhost:{self.port}/#token={self.token}"

    def start(self, within: float = 40.0) -> None:
        """Start, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
                # Whoever runs the tests in the background ignores Ctrl-C, and so would this process.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        until(self._answers, within, f"the server answers (its log: {self._log})")

    def kill(self) -> None:
        """End at once, as a fault would."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=10)

    def stop(self) -> None:
        """End as by Ctrl-C, which also ends what the process started; at once where that takes too long."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=20)
        self.kill()

    def get(self, path: str) -> Any:
        """Content of an address."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=5, context=self._tls) as answer:
            return json.load(answer)

    def state(self) -> dict[str, Any]:
        """The newest state."""
        found: dict[str, Any] = self.get("/api/state")
        return found

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the server ended:\n{self._log.read_text()[-2000:]}"
        try:
            return bool(self.get("/api/health")["ok"])
        except OSError:
            return False


class Operator:
    """A person with a headset: what they do, and what the robot's server makes of it."""

    def __init__(self, page: Page, served: Served) -> None:
        self.page, self.served = page, served

    def enter(self, button: str = "#enter-vr") -> None:
        """Put the headset on: hands in front of the chest, nothing pressed."""
        self.page.wait_for_selector(f"{button}:enabled")
        self.place("head", [0, 1.6, 0])
        self.place("left", [-0.2, 1.1, -0.4])
        self.place("right", [0.2, 1.1, -0.4])
        self.page.click(button)
        self.until(lambda s: s["session"] == "ready" and s["sticks"]["neutral"], "the headset is ready")

    def act(self, what: str, *arguments: Any) -> Any:
        """Do something with the headset (see quest.js)."""
        return self.page.evaluate("([what, rest]) => quest[what](...rest)", [what, list(arguments)])

    def place(self, what: str, position: list[float]) -> None:
        """Put a hand or the head somewhere."""
        self.act("place", what, position)

    def pose(self, hand: str, position: list[float], orientation: list[float]) -> None:
        """Put a hand somewhere, turned."""
        self.act("place", hand, position, orientation)

    def press(self, hand: str, button: str, value: float = 1.0) -> None:
        """Press a button so far."""
        self.act("press", hand, button, value)

    def engage(self, hand: str = "right") -> None:
        """Squeeze the grip until the arm follows: where it is refused, open and squeeze again, as people do."""
        end = time.monotonic() + 12.0
        while True:
            self.press(hand, "squeeze")
            tried = time.monotonic() + 2.0
            while True:
                answer = self.served.state()["hands"][hand]
                if answer["engaged"]:
                    return
                if refused(answer) or time.monotonic() > tried:
                    break
                time.sleep(0.02)
            assert time.monotonic() < end, f"the {hand} hand is not engaged: {answer['withheld']}"
            self.press(hand, "squeeze", 0)
            self.until(lambda s: not s["hands"][hand]["withheld"], f"the {hand} grip is open")

    def leads(self, hand: str, by: float) -> bool:
        """Grip anew and move a hand up (m); whether the arm follows. A busy machine may fall silent: then it holds."""

        def height() -> float | None:
            ghost = self.served.state()["hands"][hand]["ghost"]
            return ghost and float(ghost[1])

        self.let_go(hand)
        self.engage(hand)
        before = height()
        self.act("move", hand, [0.0, by, -0.02], 500)
        self.page.wait_for_timeout(700)
        after = height()
        return before is not None and after is not None and abs(after - before - by) < 0.01

    def grip(self, hand: str, to: float) -> None:
        """Open (0) or close (1) a gripper; the trigger sweeps, to take it over where it is."""

        def there(state: dict[str, Any]) -> bool:
            now = state["hands"][hand]
            return now["engaged"] and now["gripper"] is not None and abs(now["gripper"] - to) < 0.05

        for _ in range(8):
            if not self.served.state()["hands"][hand]["engaged"]:  # a busy machine kept the page's frames back
                self.let_go(hand)
                self.engage(hand)
            self.press(hand, "trigger", 1.0 - to)
            self.page.wait_for_timeout(150)
            self.press(hand, "trigger", to)
            self.page.wait_for_timeout(1000)
            if there(self.served.state()):
                return
        raise AssertionError(f"the gripper does not go to {to}: {self.served.state()['hands'][hand]}")

    def let_go(self, hand: str = "right") -> None:
        """Open the grip."""
        self.press(hand, "squeeze", 0)
        self.until(lambda s: not s["hands"][hand]["engaged"], f"the {hand} hand is free")

    def until(self, condition: Callable[[dict[str, Any]], Any], what: str, within: float = 8.0) -> dict[str, Any]:
        """Wait for a state of the robot's server; that state."""
        newest: dict[str, Any] = {}

        def holds() -> bool:
            newest.clear()
            newest.update(self.served.state())
            return bool(condition(newest))

        try:
            until(holds, within, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; the state is {json.dumps(newest)}") from None
        return newest

    def reads(self, selector: str, text: str, within: float = 8.0) -> None:
        """Wait until a part of the page says something."""
        self.page.wait_for_function(
            "([selector, text]) => document.querySelector(selector)?.textContent.includes(text)",
            arg=[selector, text],
            timeout=1000 * within,
        )
