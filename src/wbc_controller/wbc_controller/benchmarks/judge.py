"""Distances between bodies along a trajectory, by coal: the judge is not one of the judged."""

from __future__ import annotations

from collections.abc import Sequence

import coal
import numpy as np
from bytemini_core.types import Array
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel

from wbc_controller.benchmarks.peers import upright
from wbc_controller.problem import Pair
from wbc_controller.shapes import Box, Capsule


def nearest(robot: RobotModel, q: Array, pairs: Sequence[Pair]) -> float:
    """Smallest distance (m) between the pairs over postures q (k, 22)."""
    kinematics = Kinematics(robot)
    solids = {body.name: _solid(body) for pair in pairs for body in (pair.first, pair.second)}
    links = sorted({body.link for pair in pairs for body in (pair.first, pair.second)})
    smallest = np.inf
    request = coal.DistanceRequest()
    for posture in q:
        at = {}
        for link in links:
            pose = kinematics.forward(link, posture[3:], posture[:3])
            at[link] = coal.Transform3s(pose[:3, :3], pose[:3, 3])
        for pair in pairs:
            (one, here), (two, there) = solids[pair.first.name], solids[pair.second.name]
            distance = coal.distance(
                one, at[pair.first.link] * here, two, at[pair.second.link] * there, request, coal.DistanceResult()
            )
            smallest = min(smallest, distance)
    return float(smallest)


def _solid(body: Capsule | Box) -> tuple[coal.ShapeBase, coal.Transform3s]:
    if isinstance(body, Box):
        return coal.Box(*(2.0 * body.half)), coal.Transform3s(body.rotation, body.centre)
    rotation, centre, length = upright(body)
    return coal.Capsule(body.radius, length), coal.Transform3s(rotation, centre)
