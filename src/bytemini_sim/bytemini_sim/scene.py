"""A scene as plain data: what stands where, how it looks, what is asked.

A `SceneSpec` is a pure function of (task, setting, seed) and knows nothing of the robot's version, so that two robots,
or two policies, can be compared on the very same scenes. The world frame is odom: the robot starts at its origin,
facing +x.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from bytemini_core.types import Array

from bytemini_sim.catalogue import Color, Item

TABLE_PATTERNS = ("wood", "plain", "speckle", "belt", "gloss", "planks", "tiles")


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its top's centre (m, odom), edge lengths and height above the floor, m.

    `leg_inset`: how far its legs stand inside the front and back edges, m: a base drives in under the top.
    """

    x: float = 0.64
    y: float = 0.0
    depth: float = 0.62
    width: float = 1.20
    height: float = 0.72
    thickness: float = 0.03
    leg_inset: float = 0.04


@dataclass(frozen=True, slots=True)
class Look:
    """How a place looks; nothing of it changes physics. Colours are linear RGB in [0, 1].

    `light`: brightness of the lamps relative to the basic room, `tint` their colour. `pattern`: of the table's top,
    from `table` and `table_grain`, one of `TABLE_PATTERNS`. `wall`: colour of a wall behind the table; None for none.
    """

    name: str = "basic"
    table: Color = (0.78, 0.66, 0.50)
    table_grain: Color = (0.68, 0.55, 0.39)
    table_legs: Color = (0.30, 0.31, 0.33)
    floor: tuple[Color, Color] = ((0.46, 0.48, 0.50), (0.40, 0.42, 0.45))
    sky: tuple[Color, Color] = ((0.80, 0.85, 0.90), (0.55, 0.60, 0.66))
    light: float = 1.0
    tint: Color = (1.0, 1.0, 1.0)
    pattern: str = "wood"
    wall: Color | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """One thing and where its frame starts: `position` (m) in odom, `yaw` about +z (rad)."""

    item: Item
    position: tuple[float, float, float]
    yaw: float

    @property
    def name(self) -> str:
        """The item's name, unique in a scene."""
        return self.item.name

    def pose(self) -> Array:
        """(7,) pose (x, y, z, qx, qy, qz, qw) in odom."""
        return np.array([*self.position, 0.0, 0.0, np.sin(self.yaw / 2), np.cos(self.yaw / 2)])


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """One episode's scene.

    `target`, `destination`: the names the instruction speaks of. With `valid` False at least one of them is not in the
    scene, and the right answer is to refuse. `time_limit`: simulated seconds the episode may take. `group`: what
    reports tell apart within a setting: mini-batch, room, kind of phrase.
    """

    task: str
    setting: str
    seed: int
    instruction: str
    target: str
    destination: str
    objects: tuple[Placed, ...]
    containers: tuple[Placed, ...]
    valid: bool = True
    table: Table = field(default_factory=Table)
    look: Look = field(default_factory=Look)
    time_limit: float = 60.0
    group: str = ""
    goals: tuple[tuple[str, str], ...] = ()
    """(object, container) of everything asked for, where it is more than `target` into `destination`."""

    @property
    def asked(self) -> tuple[tuple[str, str], ...]:
        """(object, container) of everything that has to be brought somewhere; nothing where the right answer is no."""
        return (self.goals or ((self.target, self.destination),)) if self.valid else ()

    @property
    def placed(self) -> tuple[Placed, ...]:
        """Objects, then containers: the order of `World.scene_state().objects`."""
        return self.objects + self.containers

    def names(self) -> tuple[str, ...]:
        """Names of everything placed, in the same order."""
        return tuple(p.name for p in self.placed)
