"""Which policies there are, by the word an operator uses.

Packages offer policies as entry points of the group `bytemini.policies`: a callable `make(robot, seed) -> Policy`. So
this package serves policies without knowing any of them.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from bytemini_core.types import Policy
from bytemini_description.robot import RobotModel

GROUP = "bytemini.policies"


def policies() -> tuple[str, ...]:
    """The words that `load_policy` knows."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def load_policy(name: str, robot: RobotModel, seed: int = 0) -> Policy:
    """The policy called `name`.

    Args:
        name: one of `policies()`.
        robot: the robot it drives.
        seed: of whatever is random in it.

    Raises:
        ValueError: no policy is called so.
    """
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            policy: Policy = entry.load()(robot, seed)
            return policy
    known = " or ".join(policies()) or "one to be installed (./bytemini setup)"
    raise ValueError(f"policy is {name!r}, expected {known}")
