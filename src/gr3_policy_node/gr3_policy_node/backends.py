"""Which policies there are, by the word an operator uses."""

from __future__ import annotations

from collections.abc import Callable

from bytemini_core.types import Policy
from bytemini_description.robot import RobotModel


def _expert(robot: RobotModel, seed: int) -> Policy:
    from bytemini_sim.expert import PickPlaceExpert

    return PickPlaceExpert(robot, seed=seed)


_BACKENDS: dict[str, Callable[[RobotModel, int], Policy]] = {"expert": _expert}

POLICIES = tuple(_BACKENDS)
"""The words `load_policy` knows."""


def load_policy(name: str, robot: RobotModel, seed: int = 0) -> Policy:
    """The policy called `name`.

    Args:
        name: one of `POLICIES`.
        robot: the robot it drives.
        seed: of whatever is random in it.

    Raises:
        ValueError: no policy is called so.
    """
    if name not in _BACKENDS:
        raise ValueError(f"policy is {name!r}, expected {' or '.join(POLICIES)}")
    return _BACKENDS[name](robot, seed)
