"""What scenes are made of: objects and containers, read from a data file and checked at the door.

The catalogue is data (`data/catalogue.yaml`), so that an owner adds things without touching code. Every entry belongs
to a namespace (`seen`, `held_out`): whatever is used for training must never draw from `held_out` (GR-3 report,
section 5.1: 54 seen and 45 unseen objects).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bytemini_core.types import Array
from scipy.spatial.transform import Rotation

Vector3 = tuple[float, float, float]
Color = tuple[float, float, float]

SPLITS = ("seen", "held_out", "suite")
MAX_GRASP_WIDTH = 0.075
"""The narrower horizontal extent an object may have at most, m: the gripper opens 0.085 m."""

_DIMENSIONS = {
    "sphere": ("radius",),
    "box": ("size",),
    "ellipsoid": ("size",),
    "cylinder": ("radius", "height"),
    "capsule": ("radius", "length"),
}
_ROUND_SIDES = 8
PATTERNS = ("stripes", "checker", "dots")
INSTANCE = " #"
"""Between a thing's name and its number where a scene holds several of the same: "coke #2"."""


def kind_of(name: str) -> str:
    """The catalogue's name of a thing in a scene: "coke" of "coke #2"."""
    return name.split(INSTANCE)[0]


@dataclass(frozen=True, slots=True)
class Part:
    """One primitive of a thing, in the thing's frame (m, rad).

    `size`: half extents as MuJoCo takes them: sphere (r, 0, 0), box and ellipsoid (x, y, z), cylinder and capsule
    (r, half height without caps, 0). `solid`: takes part in contact; decoration does not.
    """

    shape: str
    size: Vector3
    position: Vector3
    quaternion: tuple[float, float, float, float]
    """(w, x, y, z), MuJoCo's order."""
    color: Color
    solid: bool
    pattern: tuple[str, Color] | None = None
    """One of `PATTERNS` and its second colour; None for a plain surface."""

    @property
    def volume(self) -> float:
        """Volume, m^3."""
        a, b, c = self.size
        match self.shape:
            case "sphere":
                return 4 / 3 * np.pi * a**3
            case "box":
                return 8 * a * b * c
            case "ellipsoid":
                return 4 / 3 * np.pi * a * b * c
            case "cylinder":
                return 2 * np.pi * a**2 * b
            case _:
                return np.pi * a**2 * (2 * b + 4 / 3 * a)

    def half_extents(self) -> Array:
        """(3,) half edge lengths of the part's axis-aligned bounding box in the thing's frame, m."""
        w, x, y, z = self.quaternion
        rotation = Rotation.from_quat([x, y, z, w]).as_matrix()
        a, b, c = self.size
        half: Array
        match self.shape:
            case "sphere":
                half = np.full(3, a)
            case "box":
                half = np.abs(rotation) @ self.size
            case "ellipsoid":
                half = np.sqrt((rotation**2) @ np.square([a, b, c]))
            case "cylinder":
                axis = rotation[:, 2]
                half = np.abs(axis) * b + a * np.sqrt(np.maximum(0.0, 1 - axis**2))
            case _:
                half = np.abs(rotation[:, 2]) * b + a
        return half


@dataclass(frozen=True, slots=True)
class Item:
    """A kind of thing: an object to grasp or a container to put it into.

    Its frame lies in the middle of the bounding box of its solid parts, z up as it stands; `size`: the box's edge
    lengths, m. `shape`: "box", "cylinder", "sphere", "ellipsoid", "capsule" or "compound" (several solid parts).
    Containers only: `inner`: edge lengths of the free space (m; a round one's are its inner diameter), `round`: whether
    its outline is round, `floor`: height of its floor's upper side above its underside, m.
    """

    name: str
    category: str
    color: str
    split: str
    mass: float
    friction: float
    shape: str
    size: Vector3
    parts: tuple[Part, ...]
    container: bool = False
    inner: Vector3 = (0.0, 0.0, 0.0)
    floor: float = 0.0
    round: bool = False

    @property
    def kind(self) -> str:
        """Its name in the catalogue; instances of a kind differ in `name` only."""
        return kind_of(self.name)

    def instance(self, number: int) -> Item:
        """Another one of the same kind, for scenes with several: the first, number 1, keeps the plain name."""
        return self if number == 1 else replace(self, name=f"{self.kind}{INSTANCE}{number}")

    @property
    def radius(self) -> float:
        """Radius of the upright cylinder that holds it, m."""
        return float(np.hypot(self.size[0], self.size[1]) / 2)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every known thing, by name; `objects` and `containers` in the order of the file.

    `facts`: phrase to the names of all objects that it is true of (common sense, for instructions).
    """

    objects: tuple[Item, ...]
    containers: tuple[Item, ...]
    facts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def split(self, split: str) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
        """Objects and containers of one namespace."""
        return (
            tuple(item for item in self.objects if item.split == split),
            tuple(item for item in self.containers if item.split == split),
        )

    def object(self, name: str) -> Item:
        """The object called `name`.

        Raises:
            ValueError: there is none; the message lists what exists.
        """
        return _find(self.objects, name, "object")

    def container(self, name: str) -> Item:
        """The container called `name`.

        Raises:
            ValueError: there is none; the message lists what exists.
        """
        return _find(self.containers, name, "container")


def _find(items: tuple[Item, ...], name: str, kind: str) -> Item:
    for item in items:
        if item.name == name:
            return item
    raise ValueError(f"no {kind} is called {name!r}; there are {', '.join(sorted(i.name for i in items))}")


def default_path() -> Path:
    """The catalogue that comes with the package."""
    return Path(__file__).parent / "data" / "catalogue.yaml"


@cache
def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read and check a catalogue file.

    Args:
        path: the file; None for the package's own.

    Raises:
        ValueError: the file is not a catalogue; the message names the entry, what was wrong and what was expected.
    """
    path = path or default_path()
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not a readable catalogue: {error}") from None
    if not isinstance(data, dict) or {"colors", "objects", "containers"} - data.keys():
        raise ValueError(f"{path} must hold the keys colors, objects and containers")
    colors = {str(k): _triple(v, f"{path}: color {k}") for k, v in data["colors"].items()}
    objects = tuple(_object(entry, colors, str(path)) for entry in data["objects"])
    containers = tuple(_container(entry, colors, str(path)) for entry in data["containers"])
    names = [item.name for item in objects + containers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path} holds {', '.join(twice)} more than once; names must be unique")
    return Catalogue(objects, containers, _facts(data.get("facts", {}), {item.name for item in objects}, str(path)))


def _facts(data: Any, known: set[str], path: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(data, dict):
        raise ValueError(f"{path}: facts is {data!r}, expected phrases, each with a list of objects")
    for phrase, names in data.items():
        if not isinstance(names, list) or not names or set(names) - known:
            raise ValueError(f"{path}: facts: {phrase!r} is said of {names!r}, expected a list of objects' names")
    return {str(phrase): tuple(names) for phrase, names in data.items()}


def _triple(value: Any, where: str) -> Vector3:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != (3,) or not np.isfinite(array).all():
        raise ValueError(f"{where} is {value!r}, expected three numbers")
    return float(array[0]), float(array[1]), float(array[2])


def _head(entry: Any, colors: dict[str, Color], path: str) -> tuple[str, str, str, str, float, float]:
    """The fields that objects and containers share, checked."""
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        raise ValueError(f"{path} holds an entry without a name: {entry!r}")
    where = f"{path}: {name}"
    if missing := {"category", "color", "split", "mass", "friction"} - entry.keys():
        raise ValueError(f"{where} lacks {', '.join(sorted(missing))}")
    if entry["split"] not in SPLITS:
        raise ValueError(f"{where} has split {entry['split']!r}, expected {', '.join(SPLITS)}")
    if entry["color"] not in colors:
        raise ValueError(f"{where} has color {entry['color']!r}, expected one of {', '.join(colors)}")
    if not 0.01 <= float(entry["mass"]) <= 20.0:
        raise ValueError(f"{where} has mass {entry['mass']} kg, expected 0.01 to 20")
    if not 0.1 <= float(entry["friction"]) <= 2.0:
        raise ValueError(f"{where} has friction {entry['friction']}, expected 0.1 to 2")
    return name, str(entry["category"]), entry["color"], entry["split"], float(entry["mass"]), float(entry["friction"])


def _object(entry: Any, colors: dict[str, Color], path: str) -> Item:
    name, category, color, split, mass, friction = _head(entry, colors, path)
    where = f"{path}: {name}"
    parts = [_part(raw, colors, color, where) for raw in entry.get("parts", ())]
    solid = [part for part in parts if part.solid]
    if not solid:
        raise ValueError(f"{where} has no solid part; nothing could touch it")
    low = np.min([np.subtract(p.position, p.half_extents()) for p in solid], axis=0)
    high = np.max([np.add(p.position, p.half_extents()) for p in solid], axis=0)
    size = high - low
    if min(size[0], size[1]) > MAX_GRASP_WIDTH and not entry.get("two_handed", False):
        raise ValueError(f"{where} is {min(size[:2]):.3f} m wide at its narrowest, expected at most {MAX_GRASP_WIDTH}")
    centre = (low + high) / 2
    moved = tuple(replace(part, position=_triple(np.subtract(part.position, centre), where)) for part in parts)
    shape = solid[0].shape if len(solid) == 1 else "compound"
    return Item(name, category, color, split, mass, friction, shape, _triple(size, where), moved)


def _part(raw: Any, colors: dict[str, Color], color: str, where: str) -> Part:
    shape = raw.get("shape") if isinstance(raw, dict) else None
    if shape not in _DIMENSIONS:
        raise ValueError(f"{where} has a part of shape {shape!r}, expected one of {', '.join(_DIMENSIONS)}")
    known = {"shape", "at", "rpy", "color", "solid", "pattern", *_DIMENSIONS[shape]}
    if wrong := (raw.keys() - known) | (set(_DIMENSIONS[shape]) - raw.keys()):
        raise ValueError(f"{where}: its {shape} has or lacks {', '.join(sorted(wrong))}, expected {', '.join(known)}")
    match shape:
        case "sphere":
            size = (float(raw["radius"]), 0.0, 0.0)
        case "box" | "ellipsoid":
            size = _triple(np.asarray(raw["size"]) / 2, f"{where}: size")
        case "cylinder":
            size = (float(raw["radius"]), float(raw["height"]) / 2, 0.0)
        case _:
            size = (float(raw["radius"]), float(raw["length"]) / 2 - float(raw["radius"]), 0.0)
    if min(size[: {"sphere": 1, "box": 3, "ellipsoid": 3}.get(shape, 2)]) <= 0:
        raise ValueError(f"{where}: its {shape} has a dimension that is not positive")
    part_color = raw.get("color", color)
    if part_color not in colors:
        raise ValueError(f"{where}: color {part_color!r} is not one of {', '.join(colors)}")
    return Part(
        shape,
        size,
        _triple(raw.get("at", (0, 0, 0)), f"{where}: at"),
        _quaternion(_triple(raw.get("rpy", (0, 0, 0)), f"{where}: rpy")),
        colors[part_color],
        bool(raw.get("solid", True)),
        _pattern(raw["pattern"], colors, where) if "pattern" in raw else None,
    )


def _pattern(raw: Any, colors: dict[str, Color], where: str) -> tuple[str, Color]:
    if not isinstance(raw, dict) or raw.get("kind") not in PATTERNS or raw.get("color") not in colors:
        raise ValueError(f"{where}: pattern is {raw!r}, expected a kind ({', '.join(PATTERNS)}) and a known color")
    return raw["kind"], colors[raw["color"]]


def _quaternion(rpy: Vector3) -> tuple[float, float, float, float]:
    x, y, z, w = Rotation.from_euler("xyz", rpy).as_quat()
    return float(w), float(x), float(y), float(z)


def _container(entry: Any, colors: dict[str, Color], path: str) -> Item:
    name, category, color, split, mass, friction = _head(entry, colors, path)
    where = f"{path}: {name}"
    if entry.get("shape") not in ("box", "round"):
        raise ValueError(f"{where} has shape {entry.get('shape')!r}, expected box or round")
    needed = {"box": ("size", "wall"), "round": ("radius", "height", "wall")}[entry["shape"]]
    if missing := set(needed) - entry.keys():
        raise ValueError(f"{where} lacks {', '.join(sorted(missing))}")
    wall = float(entry["wall"])
    bottom = float(entry.get("floor", wall))
    rgb, band = colors[color], colors[entry.get("band", color)]
    if entry["shape"] == "box":
        size = _triple(entry["size"], f"{where}: size")
        outline = _box_walls(size, wall)
        half = (size[0] / 2, size[1] / 2, bottom / 2)
        floor = Part("box", half, (0.0, 0.0, -size[2] / 2 + bottom / 2), (1.0, 0.0, 0.0, 0.0), rgb, True)
        inner = (size[0] - 2 * wall, size[1] - 2 * wall, size[2] - bottom)
    else:
        radius, height = float(entry["radius"]), float(entry["height"])
        size = (2 * radius, 2 * radius, height)
        outline = _round_walls(radius, height, wall)
        apothem = float(radius * np.cos(np.pi / _ROUND_SIDES))
        floor = Part(
            "cylinder",
            (apothem, bottom / 2, 0.0),
            (0.0, 0.0, -height / 2 + bottom / 2),
            (1.0, 0.0, 0.0, 0.0),
            rgb,
            True,
        )
        inner = (2 * (apothem - wall), 2 * (apothem - wall), height - bottom)
    if min(inner) <= 0.03:
        raise ValueError(f"{where} leaves {min(inner):.3f} m of room inside, expected at least 0.03")
    parts = [Part("box", half, at, _quaternion((0.0, 0.0, yaw)), rgb, True) for half, at, yaw in outline]
    parts.append(floor)
    # The band covers the rim, a little thicker than the walls.
    band_half = size[2] * 0.12
    for half, at, yaw in outline:
        stripe = (half[0] + 0.0008, half[1] + 0.0008, band_half)
        where_z = size[2] / 2 - band_half + 0.0008
        parts.append(Part("box", stripe, (at[0], at[1], where_z), _quaternion((0.0, 0.0, yaw)), band, False))
    return Item(
        name=name,
        category=category,
        color=color,
        split=split,
        mass=mass,
        friction=friction,
        shape="compound",
        size=size,
        parts=tuple(parts),
        container=True,
        inner=inner,
        floor=bottom,
        round=entry["shape"] == "round",
    )


def _box_walls(size: Vector3, wall: float) -> list[tuple[Vector3, Vector3, float]]:
    """The four walls of an open box: half extents, centre, yaw."""
    x, y, z = size[0] / 2, size[1] / 2, size[2] / 2
    t = wall / 2
    return [
        ((t, y, z - t), (x - t, 0.0, t), 0.0),
        ((t, y, z - t), (-x + t, 0.0, t), 0.0),
        ((x - wall, t, z - t), (0.0, y - t, t), 0.0),
        ((x - wall, t, z - t), (0.0, -y + t, t), 0.0),
    ]


def _round_walls(radius: float, height: float, wall: float) -> list[tuple[Vector3, Vector3, float]]:
    """The eight walls of an open octagonal pot: half extents, centre, yaw."""
    t, z = wall / 2, height / 2
    middle = float(radius * np.cos(np.pi / _ROUND_SIDES)) - t
    half_side = float(radius * np.sin(np.pi / _ROUND_SIDES))
    walls: list[tuple[Vector3, Vector3, float]] = []
    for yaw in np.linspace(0.0, 2 * np.pi, _ROUND_SIDES, endpoint=False).tolist():
        at = (float(middle * np.cos(yaw)), float(middle * np.sin(yaw)), t)
        walls.append(((t, half_side, z - t), at, yaw))
    return walls
