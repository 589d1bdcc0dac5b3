"""Where a hand may take an object, and how it may hold it over a container: geometry only.

A grasp comes in along a straight line, `elevation` below horizontal, with the fingers' axis horizontal. ByteMini's
wrist (pitch^2 + roll^2 < 0.7^2) makes top-down grasps mostly unreachable, 30 to 60 degrees are natural (ROBOT.md). Flat
faces are taken flush: the fingers' axis lies along an axis of a box, across the axis of a lying can, anywhere around an
upright one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bytemini_core.types import Array, SceneObject
from numpy.typing import NDArray

from bytemini_sim.clearance import Solid, Solids, solids_of

MAX_WIDTH = 0.075
"""What the gripper takes (m): 85 mm stroke less 5 mm of clearance on each side."""

TABLE_CLEARANCE = 0.005
MIN_WIDTH = 0.012
"""Thinner parts (a mug's handle) are no place to hold an object by (m)."""

ELEVATIONS = np.radians([28.0, 36.0, 44.0, 52.0, 60.0, 68.0])
HEADINGS = np.radians(np.arange(-80.0, 81.0, 20.0))
WINDOW = np.radians(140.0)
"""Approaches turn from straight ahead by no more than this; beyond it an arm would have to reach around the object."""
ASKEW = np.radians(8.0)
TIP, PAD = 0.025, 0.010
"""The pads reach this far beyond the tcp, and this far to either side of the fingers' plane (m)."""

_ENDS = 0.012
"""Where the middle of a long part is not free, it is taken this far (m) from an end: the pads' half width and a margin
for where it lies."""

_BETWEEN = 0.006
"""What is no further (m) from the middle between the pads is taken by them, for they are not points."""

_PREFERRED = np.radians(48.0)
_LEVEL = 0.17
"""An object's axis with a vertical part below this counts as horizontal (10 degrees)."""


@dataclass(frozen=True)
class Grasps:
    """Candidates: `rotation` (n, 3, 3) and `tcp` (n, 3) in the scene's frame, `width` (n,) between the pads (m).

    `cost` (n,): how far each is from an ideal grasp, 0 best. `approach` (n, 3): unit vectors the hand moves along.
    """

    rotation: Array
    tcp: Array
    width: Array
    cost: Array

    def __len__(self) -> int:
        return len(self.width)

    @property
    def approach(self) -> Array:
        """The hand's -z: from the palm to the fingertips."""
        return -self.rotation[..., 2]

    def take(self, keep: int | NDArray[np.int_] | NDArray[np.bool_]) -> Grasps:
        """Some of the candidates, or one, without the leading axis."""
        return Grasps(self.rotation[keep], self.tcp[keep], self.width[keep], self.cost[keep])


_FIELDS = ("rotation", "tcp", "width", "cost")


def hand_rotation(heading: Array, elevation: Array) -> Array:
    """Hands (..., 3, 3) that approach along a heading (about z), elevation below horizontal, fingers' axis horizontal.

    The hand's -z is the approach, its y the fingers' axis, its x (the wrist camera's side) up.
    """
    heading, elevation = np.broadcast_arrays(heading, elevation)
    c, s, ce, se = np.cos(heading), np.sin(heading), np.cos(elevation), np.sin(elevation)
    z = np.stack([-ce * c, -ce * s, se], axis=-1)
    y = np.stack([-s, c, np.zeros_like(c)], axis=-1)
    return np.stack([np.cross(y, z), y, z], axis=-1)


def _level(heading: Array) -> Array:
    return np.stack([-np.sin(heading), np.cos(heading), np.zeros_like(heading)], axis=-1)


def _turn(angle: Array) -> Array:
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)


def _headings(part: Solid, ahead: float) -> tuple[Array, Array]:
    """Headings (n,) whose fingers' axis fits a part's shape, and what each costs (n,)."""
    round_ = part.kind in ("cylinder", "capsule")
    fan = ahead + HEADINGS
    if round_ and abs(part.rotation[2, 2]) > 1 - _LEVEL:
        return fan, np.zeros(len(fan))
    if part.kind == "ellipsoid" and np.ptp(part.extent(_level(fan))) < 0.016:
        return fan, _oblique(part, fan)
    headings: list[float] = []
    for axis in range(3):
        direction = part.rotation[:, axis]
        if abs(direction[2]) > _LEVEL or (round_ and axis < 2):
            continue
        along = float(np.arctan2(direction[1], direction[0]))
        if round_:
            headings += [along, along + np.pi]  # the fingers close across the axis
        if part.kind != "capsule":
            headings += [along - np.pi / 2, along + np.pi / 2]  # the fingers close along it
    if not headings:
        return fan, np.full(len(fan), 0.5)
    flush = np.array(headings)
    # A little askew is turned flush by the pads as they close; good where nothing else is free.
    if part.kind == "ellipsoid":
        turned = (flush[:, None] + ASKEW * np.arange(-3, 4)).ravel()
        return turned, _oblique(part, turned)
    return np.concatenate([flush, flush + ASKEW, flush - ASKEW]), np.repeat([0.0, 0.6], [len(flush), 2 * len(flush)])


def _oblique(part: Solid, headings: Array) -> Array:
    """What it costs (n,) that the pads will turn an ellipsoid until they meet its narrowest width."""
    width = part.extent(_level(headings))
    return np.asarray(12.0 * (width - width.min()))


def candidates(
    item: SceneObject, ahead: float, table_height: float, elevations: Array = ELEVATIONS, ends: bool = False
) -> Grasps:
    """Grasps of one object that keep the fingertips off the table: of each of its parts, in its middle or at its ends.

    Args:
        item: the object.
        ahead: the heading (rad, about z of the scene) that the robot faces.
        table_height: m.
        elevations: approaches below horizontal (rad).
        ends: of long parts the ends, as the hand comes, instead of the middle: something may stand out from that, like
            a lens. What is held by an end turns in the hand more easily.
    """
    solids = solids_of(item)
    centre = np.asarray(item.pose[:3])
    found = [_of_part(solid, solids, centre, ahead, table_height, elevations, ends) for solid in solids]
    return Grasps(*(np.concatenate([getattr(part, name) for part in found]) for name in _FIELDS))


def _of_part(
    part: Solid, solids: list[Solid], centre: Array, ahead: float, table_height: float, elevations: Array, ends: bool
) -> Grasps:
    headings, price = _headings(part, ahead)
    width = part.extent(_level(headings))
    fits = (width <= MAX_WIDTH) & (width > MIN_WIDTH) & (np.abs(_turn(headings - ahead)) <= WINDOW)
    headings, width, price = headings[fits], width[fits], price[fits]
    up = np.array([0.0, 0.0, 1.0])
    height = float(part.extent(up))
    # Tall things can be taken anywhere within a finger's length from the top, flat ones with the fingertips only.
    top = max(float(solid.position[2] + solid.extent(up) / 2) for solid in solids) - float(part.position[2])
    rises = np.unique(np.clip([0.0, top - 0.040, top - 0.022], 0.0, max(height / 2 - 0.008, 0.0)))
    h, e, rise, more, end = (
        grid.ravel()
        for grid in np.meshgrid(
            np.arange(len(headings)), elevations, rises, [0.0, 0.014], [-1, 1] if ends else [0], indexing="ij"
        )
    )
    ahead_of_hand = np.stack([np.cos(headings), np.sin(headings), np.zeros_like(headings)], axis=-1)
    reach = part.extent(ahead_of_hand) / 2 - _ENDS
    has = (end == 0) | (reach[h] > 2 * PAD)  # what is shorter has no ends of its own
    h, e, rise, more, end = h[has], e[has], rise[has], more[has], end[has]
    R = hand_rotation(headings[h], e)
    tcp = part.position + rise[:, None] * up + (end * reach[h])[:, None] * ahead_of_hand[h]
    # Back along the approach until the fingertips clear the table, and a little more where the palm needs room.
    lowest = table_height + TABLE_CLEARANCE + TIP * np.sin(e) + PAD * np.cos(e)
    back = np.maximum(lowest - tcp[:, 2], 0.0) / np.sin(e) + more
    tcp = tcp + back[:, None] * R[..., 2]
    # The pads must still meet the part at its widest, or nearly so, and something of it must be between them.
    pads = tcp[:, None] - np.linspace(0.0, TIP, 3)[:, None] * R[:, None, :, 2]
    holds = (back <= TIP + 0.004) & (Solids([part]).distance(pads).min(axis=1) < _BETWEEN)
    h, e, back, R, tcp = h[holds], e[holds], back[holds], R[holds], tcp[holds]
    turn = np.abs(_turn(headings[h] - ahead))
    off_centre = np.linalg.norm(tcp - centre, axis=-1)
    cost = 1.5 * np.abs(e - _PREFERRED) + 14.0 * off_centre + 10.0 * back + 0.15 * turn + 4.0 * width[h] + price[h]
    return Grasps(R, tcp, width[h], cost)
