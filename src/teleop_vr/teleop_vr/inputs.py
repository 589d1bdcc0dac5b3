"""Everything that a session hears, as data: so that what happened can be written down and happen again."""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from bytemini_core.types import Array, Mode, RobotState


@dataclass(frozen=True, slots=True)
class Opened:
    """A socket was opened."""

    client: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A socket is gone."""

    client: int


@dataclass(frozen=True, slots=True)
class Binary:
    """A headset frame, as it came."""

    client: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Text:
    """A JSON message, as it came."""

    client: int
    text: str


@dataclass(frozen=True, slots=True)
class Measured:
    """The robot's state."""

    state: RobotState


@dataclass(frozen=True, slots=True)
class Commanded:
    """Where the controller commands the joints to be: (n,) in the order of `names`."""

    names: tuple[str, ...]
    position: Array


@dataclass(frozen=True, slots=True)
class Controller:
    """What the whole-body controller says of itself."""

    mode: Mode
    reason: str = ""
    active: tuple[str, ...] = ()
    sacrificed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recorder:
    """Where the recorder stands (`bytemini_msgs/EpisodeStatus`). `state` "" means that none is heard."""

    state: str = ""
    index: int = 0
    saved: int = 0
    countdown: float = 0.0
    duration: float = 0.0
    task: str = ""
    scene_card: str = ""
    quality: str = ""
    warnings: tuple[str, ...] = ()
    dataset: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """The recorder's, or the controller's, answer to what a client asked for."""

    what: str
    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Force:
    """Size of the force (N) at a wrist."""

    side: str
    newton: float


@dataclass(frozen=True, slots=True)
class Pictures:
    """Age (s) of the newest picture of each camera that was ever seen."""

    ages: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went on."""


Input = (
    Opened | Closed | Binary | Text | Measured | Commanded | Controller | Recorder | Answered | Force | Pictures | Tick
)
_KINDS = {
    kind.__name__: kind
    for kind in (
        Opened,
        Closed,
        Binary,
        Text,
        Measured,
        Commanded,
        Controller,
        Recorder,
        Answered,
        Force,
        Pictures,
        Tick,
    )
}


def to_json(item: Input) -> dict[str, Any]:
    """An input as a JSON object; numbers keep every bit."""
    name = type(item).__name__
    if isinstance(item, Measured):
        s = item.state
        numbers = np.concatenate((s.position, s.velocity, s.effort, s.base_pose, s.base_twist))
        return {"kind": name, "stamp": s.stamp, "names": list(s.names), "numbers": _encode(numbers)}
    if isinstance(item, Commanded):
        return {"kind": name, "names": list(item.names), "numbers": _encode(item.position)}
    if isinstance(item, Binary):
        return {"kind": name, "client": item.client, "data": base64.b64encode(item.data).decode()}
    return {"kind": name, **asdict(item)}


def from_json(message: dict[str, Any]) -> Input:
    """The inverse of `to_json`.

    Raises:
        ValueError: no input looks like this.
    """
    fields = dict(message)
    try:
        kind: Any = _KINDS[fields.pop("kind")]
        if kind is Measured:
            numbers, n = _decode(fields["numbers"]), len(fields["names"])
            parts = np.split(numbers, (n, 2 * n, 3 * n, 3 * n + 3))
            return Measured(RobotState(fields["stamp"], tuple(fields["names"]), *parts))
        if kind is Commanded:
            return Commanded(tuple(fields["names"]), _decode(fields["numbers"]))
        if kind is Binary:
            return Binary(fields["client"], base64.b64decode(fields["data"]))
        if kind is Controller:
            fields["mode"] = Mode(fields["mode"])
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        made: Input = kind(**fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{str(message)[:80]} is no input of a session: {error}") from error
    return made


def _encode(numbers: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, dtype="<f8").tobytes()).decode()


def _decode(text: str) -> Array:
    return np.frombuffer(base64.b64decode(text), dtype="<f8").astype(np.float64)
