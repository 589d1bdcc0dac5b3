"""`python -m wbc_controller.prepare`: compile the ticks and previews of all robots now, not at a node's first start."""

from __future__ import annotations

import sys
from pathlib import Path

from bytemini_description.robot import VERSIONS, load_robot

from .config import WbcConfig
from .horizon import Planner, Preview
from .model import robot_problem
from .solver import CompiledTick, CompilerError


def prepare(cache: Path | None = None) -> str:
    """Compile what is not in the cache yet (None: the user's). Returns why that was not possible, "" when it was."""
    try:
        for version in VERSIONS:
            problem = robot_problem(load_robot(version), WbcConfig().period)
            CompiledTick(problem, cache)
            Planner(problem, Preview(), cache)
    except (CompilerError, OSError) as error:
        return str(error)
    return ""


if __name__ == "__main__":
    if reason := prepare():
        sys.exit(f"the controller will run without its compiled tick, and without a preview: {reason}")
