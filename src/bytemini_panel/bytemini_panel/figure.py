"""The robot's URDF as the page draws it: a tree of joints, and the primitive shapes of every link."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from typing import Any

GREY = (0.6, 0.6, 0.6, 1.0)
"""Colour of a shape whose material says none."""

MOVING = {"revolute": "turn", "continuous": "turn", "prismatic": "slide"}


def figure(urdf: str) -> dict[str, Any]:
    """What the page needs of a URDF, ready for JSON.

    Args:
        urdf: the robot's description.

    Returns:
        `links`: name to its shapes, each `kind` ("box", "cylinder", "sphere"), `size` (m: edges; radius and length;
        radius), `pose` (x, y, z, qx, qy, qz, qw in the link) and `color` (r, g, b, a from 0 to 1).
        `joints`, parents first: `name`, `parent`, `child`, `pose` of the child at 0, `motion` ("fixed", "turn",
        "slide"), `axis`, and `follows` (joint, multiplier, offset) for one that mimics another.
        `root`: the link that hangs on none.

    Raises:
        ValueError: not a URDF, or its joints are no tree.
    """
    try:
        robot = ET.fromstring(urdf)
    except ET.ParseError as error:
        raise ValueError(f"the robot's description is no XML: {error}") from error
    colors = {
        material.get("name", ""): _numbers(color.get("rgba"), GREY)
        for material in robot.iter("material")
        if (color := material.find("color")) is not None
    }
    links = {
        link.get("name", ""): [shape for visual in link.findall("visual") if (shape := _shape(visual, colors))]
        for link in robot.findall("link")
    }
    joints = [_joint(joint) for joint in robot.findall("joint")]
    children = {joint["child"] for joint in joints}
    roots = [name for name in links if name not in children]
    if len(roots) != 1:
        raise ValueError(f"the robot's description has {len(roots)} root links, expected 1: {', '.join(roots)}")
    return {"links": links, "joints": _parents_first(roots[0], joints), "root": roots[0]}


def _parents_first(root: str, joints: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ordered, known, left = [], {root}, list(joints)
    while left:
        ready = [joint for joint in left if joint["parent"] in known]
        if not ready:
            raise ValueError(f"joint {left[0]['name']} does not hang on the root link {root}")
        ordered += ready
        known |= {joint["child"] for joint in ready}
        left = [joint for joint in left if joint not in ready]
    return ordered


def _joint(joint: ET.Element) -> dict[str, Any]:
    axis, mimic = joint.find("axis"), joint.find("mimic")
    parent, child = joint.find("parent"), joint.find("child")
    if parent is None or child is None:
        raise ValueError(f"joint {joint.get('name')} has no parent or no child")
    return {
        "name": joint.get("name"),
        "parent": parent.get("link"),
        "child": child.get("link"),
        "pose": _pose(joint.find("origin")),
        "motion": MOVING.get(joint.get("type", ""), "fixed"),
        "axis": _numbers(axis.get("xyz") if axis is not None else None, (1.0, 0.0, 0.0)),
        "follows": None
        if mimic is None
        else [mimic.get("joint"), float(mimic.get("multiplier", "1")), float(mimic.get("offset", "0"))],
    }


def _shape(visual: ET.Element, colors: dict[str, tuple[float, ...]]) -> dict[str, Any] | None:
    """A primitive; None for a mesh, which the page does not draw."""
    geometry = visual.find("geometry")
    form = None if geometry is None else next(iter(geometry), None)
    if form is None or form.tag not in ("box", "cylinder", "sphere"):
        return None
    if form.tag == "box":
        size = _numbers(form.get("size"), (0.0, 0.0, 0.0))
    else:
        size = tuple(float(form.get(name, "0")) for name in ("radius", "length") if form.get(name))
    material = visual.find("material")
    color = colors.get(material.get("name", ""), GREY) if material is not None else GREY
    return {"kind": form.tag, "size": size, "pose": _pose(visual.find("origin")), "color": color}


def _numbers(text: str | None, default: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split()) if text else default


def _pose(origin: ET.Element | None) -> tuple[float, ...]:
    """Position and quaternion of an <origin>: fixed-axis roll, pitch, yaw, as URDF has it."""
    position = _numbers(origin.get("xyz") if origin is not None else None, (0.0, 0.0, 0.0))
    roll, pitch, yaw = _numbers(origin.get("rpy") if origin is not None else None, (0.0, 0.0, 0.0))
    (cr, sr), (cp, sp), (cy, sy) = ((math.cos(a / 2), math.sin(a / 2)) for a in (roll, pitch, yaw))
    return (
        *position,
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
        cr * cp * cy + sr * sp * sy,
    )
