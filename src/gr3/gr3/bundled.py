"""The checkpoints that come with the package, as policies."""

from __future__ import annotations

from pathlib import Path

from bytemini_description.robot import RobotModel

from gr3.deploy import Gr3Policy, load_policy

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def make_tiny(robot: RobotModel, seed: int) -> Gr3Policy:
    """`gr3-tiny`, trained by `./bytemini train --recipe gr3-tiny`.

    Raises:
        CheckpointError: it does not fit the robot.
    """
    return load_policy(CHECKPOINTS / "gr3-tiny", robot, seed=seed)
