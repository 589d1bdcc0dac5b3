"""An emergency stop that outlives its process: a file says that it is latched."""

from __future__ import annotations

import os
from pathlib import Path


def latch_file(domain: str, namespace: str) -> Path:
    """Where the latch of a robot is kept: under XDG_STATE_HOME, or ~/.local/state.

    Args:
        domain: ROS domain of the robot, "" for the default.
        namespace: of its nodes, "" or "/" for none.
    """
    root = os.environ.get("XDG_STATE_HOME")
    name = f"estop-{domain or '0'}{namespace.rstrip('/').replace('/', '-')}"
    return (Path(root) if root else Path.home() / ".local" / "state") / "bytemini" / name


class Latch:
    """Remembers on disk whether the emergency stop is latched.

    Args:
        path: of the file; there while it is latched. Its text is the reason, for whoever looks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def closed(self) -> bool:
        """Whether it is latched. A place that cannot be read counts as latched: better one reset too many."""
        try:
            return self._path.exists()
        except OSError:
            return True

    def close(self, reason: str) -> None:
        """Latch it.

        Raises:
            OSError: the file cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(reason + "\n", encoding="utf-8")

    def open(self) -> None:
        """Release it: a person has reset the emergency stop."""
        self._path.unlink(missing_ok=True)
