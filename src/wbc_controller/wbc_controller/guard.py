"""The robot can always brake without hitting itself: the last word on a tick's velocity.

Collision rows look at one instant; several of them together with joint limits can lead into a corner that braking comes
too late for. So a velocity is taken only when the posture stays clear on the way to rest under full braking; otherwise
the robot brakes. Braking from a velocity that was taken follows a path that was found clear, and so the robot comes to
rest clear.

The way is looked at by conservative advancement: no two bodies come nearer by more than what the joints between them
turn, times their levers. So from a posture with distance d the next look can wait until these add up to what d exceeds
the least distance by.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from bytemini_core.types import Array

from .problem import Problem
from .shapes import Box, Capsule
from .tree import REVOLUTE

_DEEPEST = 0.5  # of the clearance: between two looks bodies may come nearer than the clearance, but not than this


class Clear(Protocol):
    """`solver.TickSolver.clear`."""

    def __call__(self, q: Array, velocity: Array, hardest: Array, levers: Array, least: float, deepest: float) -> bool:
        """Whether braking from `velocity` keeps `least`, and `deepest` between two looks."""


def levers(problem: Problem) -> Array:
    """How fast (m per unit) each variable (3 + n,) can bring two bodies of a pair together: 0 where it parts none."""
    tree, graph = problem.graph.tree, problem.graph
    most = np.zeros(problem.variables)

    def of(body: Capsule | Box) -> dict[int, float]:
        if isinstance(body, Capsule):
            reach = max(float(np.linalg.norm(end)) for end in (body.start, body.end)) + body.radius
        else:
            reach = float(np.linalg.norm(body.centre) + np.linalg.norm(body.half))
        found: dict[int, float] = {}
        for joint in reversed(tree.chain(body.link)):
            column = graph.column(joint)
            if column is not None:
                arm = reach if joint.kind in REVOLUTE else 1.0
                found[column] = found.get(column, 0.0) + arm * abs(joint.multiplier)
            reach += float(np.linalg.norm(joint.translation))
            if joint.kind == "prismatic":
                low, high, _ = joint.limit or (-1.0, 1.0, 0.0)
                reach += max(abs(low), abs(high))
        return found

    for pair in problem.pairs:
        first, second = of(pair.first), of(pair.second)
        for column in first.keys() ^ second.keys():
            most[column] = max(most[column], first.get(column, 0.0), second.get(column, 0.0))
    return most


class Guard:
    """Checks braking paths of the joints; the base carries all bodies and does not matter."""

    def __init__(self, clear: Clear, hardest: Array, levers: Array, clearance: float, dt: float) -> None:
        """`hardest` (3 + n,): limits of acceleration; `levers` (3 + n,); `clearance` (m): what braking must keep."""
        self._clear, self._hardest, self._levers = clear, hardest, levers
        self._clearance, self._dt = clearance, dt

    def allows(self, q: Array, velocity: Array, present: float) -> bool:
        """Whether the joints may move at `velocity` in this tick.

        Args:
            q: (3 + n,) now.
            velocity: (3 + n,), its first three ignored.
            present: smallest distance now (m); a robot that is nearer than the clearance may move, but not nearer.
        """
        speed = np.abs(velocity[3:])
        least = min(self._clearance, present - 1e-6)
        way = (speed * (1.5 * self._dt + 0.5 * speed / self._hardest[3:])).dot(self._levers[3:])
        if present - float(way) >= least:
            return True
        deepest = min(_DEEPEST * self._clearance, least)
        return self._clear(q, velocity, self._hardest, self._levers, least, deepest)
