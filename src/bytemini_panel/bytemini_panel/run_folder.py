"""One folder for each run: who ran, with which versions and parameters, what was logged, and the last minute of faults.

```
runs/<run>/run.json          run, start, machine, versions, nodes
           parameters.yaml   of every node that was found
           log.jsonl         what the nodes logged: one JSON object a line, with the run's name
           faults/<n>-<what>/   a bag (MCAP) of the minute before and the seconds after, with fault.json
```
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

RUN = "BYTEMINI_RUN"
"""Environment variable with the name of the run, which all processes of a stack share."""

LEAST_SPACE = 500 * 2**20
"""Bytes that are left free on the disk."""

PACKAGES = ("numpy", "mujoco", "casadi", "daqp", "pin", "onnxruntime", "torch", "pyrealsense2", "mcap", "rclpy")


def new_run(now: float | None = None) -> str:
    """A name for a run: its start, and four digits that keep two of one second apart."""
    return time.strftime("%Y%m%d-%H%M%S", time.localtime(now)) + f"-{secrets.token_hex(2)}"


def environment(run: str) -> dict[str, str]:
    """What a stack's starter adds to the environment of its processes: the run's name is in every line they log."""
    return {
        RUN: run,
        "RCUTILS_CONSOLE_OUTPUT_FORMAT": f"run={run} time={{time}} level={{severity}} node={{name}}: {{message}}",
    }


def this_run() -> str:
    """The run of this process: that of its starter, else a new one."""
    return os.environ.get(RUN) or new_run()


def versions(source: Path | None = None) -> dict[str, str]:
    """Versions of what decides how the robot moves; "" for what is not installed.

    Args:
        source: a folder of the source tree, whose commit is told; None for that of this file.
    """
    found = {"python": platform.python_version(), "ros": os.environ.get("ROS_DISTRO", "jazzy (wheels)")}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = ""
    folder = source or Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--tags"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
        found["source"] = answer.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        found["source"] = ""
    return found


class RunFolder:
    """Writes one run's folder; every file is complete at any moment but the log, whose last line may be torn."""

    def __init__(self, parent: Path, run: str) -> None:
        """Make the folder, or go on with it: a recorder that was restarted belongs to the same run.

        Raises:
            ValueError: the name is not that of a folder, or the folder cannot be written.
        """
        if not re.fullmatch(r"[\w.-]{1,80}", run) or run.startswith("."):
            raise ValueError(f"the run is called {run!r}, expected letters, digits, '-', '_' and '.'")
        self.run, self.path = run, parent / run
        try:
            (self.path / "faults").mkdir(parents=True, exist_ok=True)
            self._log = (self.path / "log.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            raise ValueError(f"cannot write {self.path}: {error.strerror}; choose another folder with 'out'") from error
        self._parameters: dict[str, Any] = {}
        self._began = time.time()

    def describe(self, nodes: list[str]) -> None:
        """Write `run.json`."""
        content = {
            "run": self.run,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self._began)),
            "machine": {"name": socket.gethostname(), "system": platform.platform(), "cores": os.cpu_count()},
            "domain": os.environ.get("ROS_DOMAIN_ID", "0"),
            "versions": self._versions(),
            "nodes": sorted(nodes),
        }
        _write(self.path / "run.json", json.dumps(content, indent=1) + "\n")

    def _versions(self) -> dict[str, str]:
        if not hasattr(self, "_known_versions"):
            self._known_versions = versions()
        return self._known_versions

    def parameters(self, node: str, values: Mapping[str, Any]) -> None:
        """Add the parameters of one node to `parameters.yaml`."""
        self._parameters[node] = dict(sorted(values.items()))
        _write(self.path / "parameters.yaml", yaml.safe_dump(self._parameters, sort_keys=True, allow_unicode=True))

    def log(self, wall: float, level: str, node: str, text: str) -> None:
        """Append one line to the log (`wall`: s since 1970)."""
        line = {"run": self.run, "time": round(wall, 6), "level": level, "node": node, "text": text}
        self._log.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._log.flush()

    def fault(self, reason: str) -> Path:
        """The folder for the recording of a fault; not made yet.

        Raises:
            OSError: the disk is nearly full.
        """
        free = shutil.disk_usage(self.path).free
        if free < LEAST_SPACE:
            raise OSError(f"only {free // 2**20} MB are free on the disk of {self.path}: nothing is recorded")
        taken = sum(1 for entry in (self.path / "faults").iterdir() if entry.is_dir())
        slug = re.sub(r"[^a-z0-9]+", "-", reason.lower()).strip("-")[:40].rstrip("-")
        return self.path / "faults" / f"{taken + 1:03d}-{slug or 'fault'}"

    def close(self) -> None:
        """Close the log."""
        self._log.close()


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(path.suffix + ".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
