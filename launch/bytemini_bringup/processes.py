"""Start the stack's processes where no `ros2 launch` is installed, watch them, and bring them down together."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from bytemini_bringup.ready import Ready
from bytemini_bringup.stack import APART, Process

GRACE = 3.0
"""Seconds that the processes have to end after the first signal."""


_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """Have the kernel interrupt this process when its parent dies, however it dies: no stack outlives its owner."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


class Restarts:
    """How often a process may be started again: a few times, then it is broken and not just unlucky."""

    def __init__(self, most: int = 3, seconds: float = 60.0) -> None:
        """Allow `most` restarts of each process within so many `seconds`."""
        self._most, self._seconds = most, seconds
        self._times: dict[str, list[float]] = {}

    def allow(self, process: Process, status: int | None, now: float) -> bool:
        """Whether a process that has ended with this status at `now` (s) is to be started again; counts it.

        One that ended well was asked to, by somebody else: it stays away.
        """
        times = [time for time in self._times.get(process.name, []) if now - time < self._seconds]
        self._times[process.name] = [*times, now]
        return process.again and status != 0 and len(times) < self._most


class ProcessDiedError(RuntimeError):
    """A process of the stack ended by itself; the message holds its name and its last words."""


def installed(process: Process) -> tuple[str, str]:
    """Package and executable of a process: its own, or its substitute where that is not installed.

    Raises:
        RuntimeError: neither is installed.
    """
    candidates = [(process.package, process.executable), *([process.substitute] if process.substitute else [])]
    for package, name in candidates:
        try:
            if (Path(get_package_prefix(package)) / "lib" / package / name).is_file():
                return package, name
        except PackageNotFoundError:
            continue
    wanted = " or ".join(f"{package}/{name}" for package, name in candidates)
    raise RuntimeError(f"{wanted} is not installed: run ./bytemini setup, or source install/setup.bash")


class Processes:
    """The running stack. A context manager: what was started is brought down on leaving, whatever happened."""

    def __init__(
        self,
        processes: Iterable[Process],
        logs: Path,
        namespace: str = "",
        environment: Mapping[str, str] | None = None,
        ordered: bool = False,
    ):
        """Prepare.

        Args:
            processes: what to start, in this order.
            logs: folder for one log file per process.
            namespace: of every node.
            environment: added to this process's own.
            ordered: start each when those before it are ready; else all at once, for whoever waits for the whole.
        """
        self._processes = tuple(processes)
        self._ordered = ordered
        self._once = {process.name for process in self._processes if process.once}
        self._logs = logs
        self._namespace = namespace
        self._environment = {**os.environ, **(environment or {})}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._restarts = Restarts()
        self._folder = tempfile.TemporaryDirectory(prefix="bytemini-")

    def __enter__(self) -> Processes:
        """Start everything."""
        self._logs.mkdir(parents=True, exist_ok=True)
        try:
            for process in self._processes:
                self._start(process)
                if self._ordered and process.ready is not None:
                    self._await(process.name, process.ready)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Bring everything down."""
        self.stop()

    def _start(self, process: Process) -> None:
        parameters = Path(self._folder.name) / f"{process.name}.yaml"
        parameters.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(process.parameters)}}), encoding="utf-8")
        package, name = installed(process)
        path = Path(get_package_prefix(package)) / "lib" / package / name
        # A Python script runs with this very interpreter: its first line cannot name one whose path has a space.
        interpreter = [sys.executable] if path.read_bytes()[:2] == b"#!" else []
        command = [*interpreter, str(path), *process.arguments, "--ros-args", "-r", f"__node:={process.name}"]
        for file in (*process.files, str(parameters)):
            command += ["--params-file", file]
        if self._namespace:
            command += ["-r", f"__ns:=/{self._namespace.strip('/')}"]
            command += [word for topic in APART for word in ("-r", f"/{topic}:={topic}")]
        with self.log(process.name).open("ab") as log:
            # A session of its own: Ctrl-C reaches us alone, and we bring the others down in order.
            self._running[process.name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self._environment, **process.environment},
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def _await(self, name: str, ready: Ready) -> None:
        """Until a process says that it is ready; its end is an error, and so is its silence."""
        command = [sys.executable, "-m", "bytemini_bringup.ready", ready.kind, ready.name]
        if self._namespace:
            command += ["--ros-args", "-r", f"__ns:=/{self._namespace.strip('/')}"]
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, env=self._environment, start_new_session=True, preexec_fn=_end_with_parent
        ) as waiter:
            try:
                while waiter.poll() is None:
                    self.check()
                    time.sleep(0.05)
            finally:
                waiter.kill()
            assert waiter.stderr is not None
            words = waiter.stderr.read().decode(errors="replace").strip()
        if waiter.returncode != 0:
            raise ProcessDiedError(f"{name} did not become ready: {words} (log: {self.log(name)})")

    def log(self, name: str) -> Path:
        """Where a process's words are kept."""
        return self._logs / f"{name}.log"

    def pid(self, name: str) -> int:
        """The process's number."""
        return self._running[name].pid

    def check(self) -> None:
        """Raise ProcessDiedError when one of the processes has ended that should not have."""
        for name in self._ended():
            raise ProcessDiedError(self._end_of(name))

    def tend(self) -> list[str]:
        """Start again what has ended by itself (the robot holds meanwhile); says what.

        Raises:
            ProcessDiedError: one has ended too often, or the stack cannot go on without it.
        """
        words = []
        for name in self._ended():
            process = next(process for process in self._processes if process.name == name)
            if not self._restarts.allow(process, self._running[name].returncode, time.monotonic()):
                raise ProcessDiedError(self._end_of(name))
            words.append(f"{self._end_of(name)}; started again")
            self._start(process)
        return words

    def restart(self, name: str, **parameters: Any) -> None:
        """End a process at once, if it still runs, and start it again, with other parameters where they are given."""
        process = next(process for process in self._processes if process.name == name)
        running = self._running[name]
        running.kill()
        running.wait()
        self._start(replace(process, parameters={**process.parameters, **parameters}))

    def _ended(self) -> list[str]:
        status = {name: process.poll() for name, process in self._running.items()}
        return [name for name, s in status.items() if s is not None and not (s == 0 and name in self._once)]

    def _end_of(self, name: str) -> str:
        return f"{name} ended with status {self._running[name].returncode}: {self._last_words(name)}"

    def _last_words(self, name: str) -> str:
        lines = [line.strip() for line in self.log(name).read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"it said nothing (log: {self.log(name)})"

    def stop(self) -> None:
        """Ask every process to end, last started first; kill what has not ended after `GRACE` seconds."""
        for process in reversed(self._running.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + GRACE
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        self._folder.cleanup()
