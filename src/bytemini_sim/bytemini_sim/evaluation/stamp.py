"""What made a result: versions and renderer, so that nothing is compared that cannot be.

Never compare across render backends or MuJoCo versions: calvin_env issue 3 shows how much that alone changes.
"""

from __future__ import annotations

import platform
import subprocess
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

FORMAT = 2
"""Of scenes and scores: raised whenever the same seed no longer means the same scene or score."""


@dataclass(frozen=True)
class Stamp:
    """Versions behind a report.

    Attributes:
        format: `FORMAT` of the code that made it.
        mujoco: version of the physics engine.
        renderer: what drew the pictures, "none" without cameras.
        code: commit of the code, with "+changes" where files differed from it; "unknown" outside a repository.
        python, numpy, machine: for the record.
    """

    format: int
    mujoco: str
    renderer: str
    code: str
    python: str
    numpy: str
    machine: str

    def to_dict(self) -> dict[str, Any]:
        """As `report.json` holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: object) -> Stamp:
        """Read it back.

        Raises:
            ValueError: it is not a stamp of this version.
        """
        names = [item.name for item in fields(cls)]
        if not isinstance(data, dict) or any(name not in data for name in names):
            raise ValueError(
                "the report has no version stamp: it was made by another version; run the evaluation again"
            )
        return cls(**{name: data[name] for name in names})

    def differences(self, other: Stamp, names: tuple[str, ...]) -> str:
        """What differs among some fields, in words; "" for nothing."""
        return ", ".join(
            f"{name} {getattr(self, name)} and {getattr(other, name)}"
            for name in names
            if getattr(self, name) != getattr(other, name)
        )


COMPARABLE = ("format", "mujoco", "renderer")
"""What must be equal for two reports to be compared."""
RESUMABLE = (*COMPARABLE, "code", "numpy")
"""What must be equal for an evaluation to be continued."""


def make_stamp(cameras: bool) -> Stamp:
    """The stamp of results made here and now."""
    from bytemini_sim.rendering import renderer_name

    return Stamp(
        format=FORMAT,
        mujoco=version("mujoco"),
        renderer=renderer_name() if cameras else "none",
        code=_code(),
        python=platform.python_version(),
        numpy=version("numpy"),
        machine=platform.machine(),
    )


def _code() -> str:
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
