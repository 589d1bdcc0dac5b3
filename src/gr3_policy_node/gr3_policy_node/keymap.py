"""What a foreign policy server calls things: a robot's key map, read from YAML.

```yaml
name: one-arm                     # for logs
dt: 0.0667                        # s between rows of "actions"
rows: 8                           # this many of them are used, the rest dropped
deadline: 1.0                     # s in which an answer is of use
observation:                      # what to send under which key; "images.cam_high" is cam_high in images
  observation/exterior_image_1_left: {camera: head, size: [224, 224]}
  observation/joint_position: {joints: [right_shoulder_pitch_joint, ..]}
  observation/gripper_position: {joints: [right_gripper_joint], scale: 23.5, offset: 0}
  prompt: {prompt: true}
actions:                          # one entry per column of "actions", in order
  - {column: right_shoulder_pitch_joint}
  - {column: right_gripper_joint, scale: 0.0425}
  - {column: null}                # a column that this robot has not
```

Numbers are sent as `scale * value + offset` and read as `scale * number + offset`; `relative: true` adds the joint's
position at the observation to what was read. Pictures are sent as uint8, `layout` HWC (the default) or CHW, resized
with their aspect kept and padded with black, as openpi's clients do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bytemini_core.types import CAMERAS, Observation
from bytemini_description.robot import BASE_COLUMNS, RobotModel
from numpy.typing import NDArray

DEADLINE = 1.0
"""Seconds in which an answer is of use, where the map says nothing."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A camera's picture, sent in `size` (height, width) and `layout`."""

    camera: str
    size: tuple[int, int]
    layout: str = "HWC"


@dataclass(frozen=True, slots=True)
class Joints:
    """Positions of joints, sent as scale * position + offset."""

    names: tuple[str, ...]
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """The instruction."""


Source = Picture | Joints | Prompt


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the answer, read as scale * number + offset; `name` None for one that is dropped."""

    name: str | None
    scale: float = 1.0
    offset: float = 0.0
    relative: bool = False


@dataclass(frozen=True)
class KeyMap:
    """How one robot speaks to one kind of server."""

    name: str
    observation: Mapping[str, Source]
    actions: tuple[Column, ...]
    dt: float
    rows: int
    deadline: float = DEADLINE
    cameras: tuple[str, ...] = field(init=False)
    columns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        wanted = [source.camera for source in self.observation.values() if isinstance(source, Picture)]
        object.__setattr__(self, "cameras", tuple(dict.fromkeys(wanted)))
        object.__setattr__(self, "columns", tuple(column.name for column in self.actions if column.name is not None))

    def request(self, observation: Observation) -> dict[str, Any]:
        """What to send.

        Raises:
            ValueError: the observation lacks a camera or a joint that the map names.
        """
        message: dict[str, Any] = {}
        for key, source in self.observation.items():
            if isinstance(source, Prompt):
                value: Any = observation.instruction
            elif isinstance(source, Picture):
                if source.camera not in observation.images:
                    raise ValueError(f"the observation has no picture of {source.camera}")
                value = letterbox(observation.images[source.camera], source.size)
                value = value.transpose(2, 0, 1) if source.layout == "CHW" else value
            else:
                picked = pick(observation, observation.state.position, source.names)
                value = (source.scale * picked + source.offset).astype(np.float32)
            _put(message, key, value)
        return message

    def rows_of(self, actions: Any, observation: Observation) -> NDArray[np.float32]:
        """The (rows, columns) of an answer's "actions".

        Raises:
            ValueError: they are not (rows or more, number of columns in the map), or not finite.
        """
        width = len(self.actions)
        if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "iuf":
            got = actions.dtype if isinstance(actions, np.ndarray) else type(actions).__name__
            raise ValueError(f"the server's actions are {got}, expected an array of numbers")
        if actions.ndim != 2 or actions.shape[1] != width or len(actions) < self.rows:
            raise ValueError(
                f"the server's actions have shape {actions.shape}, expected ({self.rows} or more, {width}) by the map"
            )
        numbers = actions[: self.rows].astype(np.float64)
        if not np.isfinite(numbers).all():
            row, column = np.argwhere(~np.isfinite(numbers))[0]
            raise ValueError(f"the server's actions are not finite at row {row}, column {column}")
        out = []
        for i, column in enumerate(self.actions):
            if column.name is None:
                continue
            values = column.scale * numbers[:, i] + column.offset
            start = pick(observation, observation.state.position, (column.name,))[0] if column.relative else 0.0
            out.append(start + values)
        return np.stack(out, axis=1).astype(np.float32)


def load_key_map(path: Path, robot: RobotModel) -> KeyMap:
    """Read a key map and check it against the robot.

    Raises:
        ValueError: the file or an entry is wrong; names it.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"key map {path} cannot be read: {' '.join(str(error).split())}") from None
    try:
        return _key_map(data, robot)
    except ValueError as error:
        raise ValueError(f"key map {path}: {error}") from None


def _key_map(data: Any, robot: RobotModel) -> KeyMap:
    fields = _entry("the map", data, {"name", "dt", "rows", "observation", "actions"}, {"deadline"})
    sources: dict[str, Source] = {}
    for key, entry in _mapping("observation", fields["observation"]).items():
        sources[str(key)] = _source(f"observation, {key}", entry, robot)
    if not isinstance(fields["actions"], list) or not fields["actions"]:
        raise ValueError("actions: expected a list with one entry per column of the server's actions")
    columns = tuple(_column(f"actions, entry {i}", entry, robot) for i, entry in enumerate(fields["actions"]))
    named = [column.name for column in columns if column.name is not None]
    if not named or len(set(named)) != len(named):
        raise ValueError("actions: expected at least one column of the robot, and none twice")
    rows = fields["rows"]
    if not isinstance(rows, int) or isinstance(rows, bool) or not 1 <= rows <= 1000:
        raise ValueError(f"rows is {rows!r}, expected 1 to 1000")
    return KeyMap(
        str(fields["name"]),
        sources,
        columns,
        _number("dt", fields["dt"], 1e-3, 10.0),
        rows,
        _number("deadline", fields.get("deadline", DEADLINE), 1e-3, 60.0),
    )


def _source(where: str, entry: Any, robot: RobotModel) -> Source:
    kinds = {"camera", "joints", "prompt"} & set(_mapping(where, entry))
    if kinds == {"prompt"}:
        _entry(where, entry, {"prompt"}, set())
        return Prompt()
    if kinds == {"camera"}:
        fields = _entry(where, entry, {"camera", "size"}, {"layout"})
        size, layout = fields["size"], fields.get("layout", "HWC")
        if fields["camera"] not in CAMERAS:
            raise ValueError(f"{where}: camera is {fields['camera']!r}, expected {' or '.join(CAMERAS)}")
        if not (isinstance(size, list) and len(size) == 2 and all(type(n) is int and 1 <= n <= 4096 for n in size)):
            raise ValueError(f"{where}: size is {size!r}, expected [height, width] in pixels")
        if layout not in ("HWC", "CHW"):
            raise ValueError(f"{where}: layout is {layout!r}, expected HWC or CHW")
        return Picture(fields["camera"], (size[0], size[1]), layout)
    if kinds == {"joints"}:
        fields = _entry(where, entry, {"joints"}, {"scale", "offset"})
        names = fields["joints"]
        if not isinstance(names, list) or not names:
            raise ValueError(f"{where}: joints is {names!r}, expected a list of names")
        if unknown := [str(name) for name in names if name not in robot.joint_names]:
            raise ValueError(f"{where}: the robot has no {', '.join(unknown)}; it has {', '.join(robot.joint_names)}")
        return Joints(tuple(names), _scale(where, fields), _offset(where, fields))
    raise ValueError(f"{where}: expected one of camera, joints, prompt")


def _column(where: str, entry: Any, robot: RobotModel) -> Column:
    fields = _entry(where, entry, {"column"}, {"scale", "offset", "relative"})
    name, relative = fields["column"], fields.get("relative", False)
    known = (*robot.joint_names, *BASE_COLUMNS)
    if name is not None and name not in known:
        raise ValueError(f"{where}: the robot has no column {name!r}, it has {', '.join(known)}")
    if not isinstance(relative, bool):
        raise ValueError(f"{where}: relative is {relative!r}, expected true or false")
    if relative and name not in robot.joint_names:
        raise ValueError(f"{where}: only a joint can be relative to its position")
    return Column(name, _scale(where, fields), _offset(where, fields), relative)


def _mapping(where: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{where} is {value!r:.40}, expected a mapping")
    return value


def _entry(where: str, value: Any, needed: set[str], optional: set[str]) -> Mapping[str, Any]:
    fields = _mapping(where, value)
    if missing := needed - set(fields):
        raise ValueError(f"{where} lacks {', '.join(sorted(missing))}")
    if unknown := set(fields) - needed - optional:
        known = ", ".join(sorted(needed | optional))
        raise ValueError(f"{where} has no entry {', '.join(sorted(map(str, unknown)))}, expected {known}")
    return fields


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, expected {low:g} to {high:g}")
    return float(value)


def _scale(where: str, fields: Mapping[str, Any]) -> float:
    scale = _number(f"{where}: scale", fields.get("scale", 1.0), -1e6, 1e6)
    if scale == 0.0:
        raise ValueError(f"{where}: scale is 0, which leaves nothing")
    return scale


def _offset(where: str, fields: Mapping[str, Any]) -> float:
    return _number(f"{where}: offset", fields.get("offset", 0.0), -1e6, 1e6)


def pick(observation: Observation, values: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
    """`values` (one per joint of the observation) of the joints called `names`, in that order.

    Raises:
        ValueError: the observation has no such joint.
    """
    index = {name: i for i, name in enumerate(observation.state.names)}
    if missing := [name for name in names if name not in index]:
        raise ValueError(f"the observation has no {', '.join(missing)}")
    return values[[index[name] for name in names]]


def _put(message: dict[str, Any], key: str, value: Any) -> None:
    """Flat keys stay flat; `a.b` is `b` in `a`, as Aloha's servers want `images.cam_high`."""
    *path, last = key.split(".")
    for part in path:
        message = message.setdefault(part, {})
    message[last] = value


def letterbox(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """`image` (H, W, 3) in `size` (height, width), its aspect kept, padded with black: openpi's `resize_with_pad`."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    from PIL import Image

    ratio = max(width / size[1], height / size[0])
    inner = (max(int(height / ratio), 1), max(int(width / ratio), 1))
    resized = np.asarray(Image.fromarray(image).resize((inner[1], inner[0]), Image.Resampling.BILINEAR))
    out = np.zeros((*size, 3), dtype=np.uint8)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    out[top : top + inner[0], left : left + inner[1]] = resized
    return out
