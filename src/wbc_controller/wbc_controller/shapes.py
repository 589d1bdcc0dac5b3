"""Bodies for collision rows, from the URDF's collision primitives: capsules on the arms, boxes elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from bytemini_core.types import Array

from .tree import Link, Shape, Tree

_GROWTH = 1.27  # a shape joins a link's capsule while it fattens it by less than this


@dataclass(frozen=True, slots=True)
class Capsule:
    """Points within `radius` of the segment from `start` to `end`, in the frame of `link` (m)."""

    name: str
    link: str
    start: Array
    end: Array
    radius: float


@dataclass(frozen=True, slots=True)
class Box:
    """A box of half edges `half` about `centre`, axes the columns of `rotation`, in the frame of `link` (m)."""

    name: str
    link: str
    rotation: Array
    centre: Array
    half: Array


def _corners(shape: Shape) -> tuple[Array, float]:
    """Points (k, 3) in the link's frame and a radius about them that cover the shape."""
    if shape.kind == "sphere":
        return shape.translation[None], shape.size[0]
    if shape.kind == "cylinder":
        radius, length = shape.size
        ends = np.array(((0.0, 0.0, -length / 2), (0.0, 0.0, length / 2)))
        return ends @ shape.rotation.T + shape.translation, radius
    half = np.array(shape.size) / 2
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    return (signs * half) @ shape.rotation.T + shape.translation, 0.0


def enclosing_capsule(name: str, link: str, pieces: list[tuple[Array, float]]) -> Capsule:
    """The thinnest capsule along x, y or z of the link that covers every (points, radius)."""
    best: Capsule | None = None
    low = np.min([(points - radius).min(axis=0) for points, radius in pieces], axis=0)
    high = np.max([(points + radius).max(axis=0) for points, radius in pieces], axis=0)
    centre = (low + high) / 2
    for axis in range(3):
        across = [i for i in range(3) if i != axis]
        radius = max(
            float(np.max(np.linalg.norm((points - centre)[:, across], axis=1)) + thick) for points, thick in pieces
        )
        if best is not None and radius >= best.radius:
            continue
        reach = []  # where the segment must begin and end for its round caps to cover each point
        for points, thick in pieces:
            off = points - centre
            cap = np.sqrt(np.maximum((radius - thick) ** 2 - np.sum(off[:, across] ** 2, axis=1), 0.0))
            reach.append((np.min(off[:, axis] + cap), np.max(off[:, axis] - cap)))
        first, last = min(r[0] for r in reach), max(r[1] for r in reach)
        if first > last:
            first = last = (first + last) / 2
        start, end = centre.copy(), centre.copy()
        start[axis] += first
        end[axis] += last
        best = Capsule(name, link, start, end, radius)
    assert best is not None
    return best


def _folded(tree: Tree, link: str, standing: Iterable[str], travel: dict[str, float]) -> list[tuple[Array, float]]:
    """Shapes of the links that hang on `link` by joints outside the problem (fingers), at half their travel."""
    pieces: list[tuple[Array, float]] = []
    for joint in tree.joints.values():
        if joint.parent != link or (joint.mimic or joint.name) not in standing:
            continue
        shift = joint.translation + joint.rotation @ joint.axis * travel.get(joint.mimic or joint.name, 0.0)
        for shape in tree.links[joint.child].shapes:
            points, radius = _corners(shape)
            pieces.append((points @ joint.rotation.T + shift, radius))
    return pieces


def bodies_of(
    tree: Tree, arms: dict[str, list[str]], standing: Iterable[str], travel: dict[str, float]
) -> tuple[list[Capsule], list[Box]]:
    """Capsules of the arms' links and boxes of all others.

    Args:
        tree: the robot.
        arms: links of each arm.
        standing: joints outside the problem, whose links fold into their parent.
        travel: their displacement that counts (m).
    """
    capsules: list[Capsule] = []
    boxes: list[Box] = []
    standing = set(standing)
    armed = {link for links in arms.values() for link in links}
    folded = {j.child for j in tree.joints.values() if (j.mimic or j.name) in standing}
    for link in tree.links.values():
        if link.name in folded or not link.shapes:
            continue
        if link.name in armed:
            capsules += _arm_capsules(link, _folded(tree, link.name, standing, travel))
        else:
            boxes += [_box(link, i, shape) for i, shape in enumerate(link.shapes)]
    return capsules, boxes


def _arm_capsules(link: Link, folded: list[tuple[Array, float]]) -> list[Capsule]:
    pieces = [_corners(link.shapes[0]), *folded]
    main = enclosing_capsule(link.name, link.name, pieces)
    others: list[Capsule] = []
    for i, shape in enumerate(link.shapes[1:], start=1):
        grown = enclosing_capsule(link.name, link.name, [*pieces, _corners(shape)])
        if grown.radius <= _GROWTH * main.radius:
            pieces.append(_corners(shape))
            main = grown
        else:
            others.append(enclosing_capsule(f"{link.name}#{i}", link.name, [_corners(shape)]))
    return [main, *others]


def _box(link: Link, index: int, shape: Shape) -> Box:
    name = link.name if index == 0 else f"{link.name}#{index}"
    if shape.kind == "box":
        half = np.array(shape.size) / 2
    elif shape.kind == "cylinder":
        half = np.array((shape.size[0], shape.size[0], shape.size[1] / 2))
    else:
        half = np.full(3, shape.size[0])
    return Box(name, link.name, shape.rotation, shape.translation, half)
