"""What travels between page and server, version 1: parsed strictly, refused with a reason, built in one place.

The headset sends one binary frame per XR frame (`FRAME`), in WebXR axes; `parse_frame` gives REP-103. Everything else
from the page is JSON (`parse_text`). Pictures go down as binary (`picture`), all else as JSON.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from bytemini_core.types import Array

from teleop_vr.poses import from_webxr, unit

VERSION = 1
FRAME_MAGIC = 0x31544D42
PICTURE_MAGIC = 0x31564D42

FRAME = struct.Struct("<IIddfII7f7f7f4f4fI")
"""Magic, sequence, time, server_echo, echo_held, flags, epoch, head, left, right, two x (trigger, squeeze, stick x, y),
buttons: 156 bytes."""

PICTURE = struct.Struct("<IBBHIHHd")

HEAD_TRACKED, LEFT_TRACKED, RIGHT_TRACKED, LEFT_BARE, RIGHT_BARE, VISIBLE, PASSTHROUGH = (1 << i for i in range(7))
_KNOWN_FLAGS = (1 << 7) - 1

TRIGGER, SQUEEZE, _, STICK, LOWER, UPPER, THUMBREST, MENU = range(8)
"""Buttons of the `xr-standard` gamepad: LOWER is X on the left and A on the right, UPPER is Y and B."""

FARTHEST = 20.0
"""m from the origin of the operator's space; a pose farther away is no pose."""

COMMANDS = (
    "start",
    "save",
    "discard",
    "confirm",
    "cancel",
    "estop",
    "reset",
    "recenter",
    "pause",
    "resume",
    "lock_base",
    "unlock_base",
)


class Refused(ValueError):  # noqa: N818 - a refusal is an answer, not an error of ours
    """A message that is not taken. `code`: one word, for counting; the text says what was expected."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class HandInput:
    """One hand in a frame. `pose` (7,): the grip, REP-103 axes of the operator's space; meaningless unless `tracked`.

    `trigger`, `squeeze`: 0 to 1. `stick`: (forward, left), each -1 to 1. `buttons`: bit i is button i of the gamepad.
    `bare`: a hand without a controller; its pinch is the trigger, its fist the squeeze.
    """

    pose: Array
    tracked: bool
    bare: bool
    trigger: float
    squeeze: float
    stick: tuple[float, float]
    buttons: int

    def pressed(self, button: int) -> bool:
        """Whether a button is down."""
        return bool(self.buttons >> button & 1)


@dataclass(frozen=True, slots=True)
class HeadsetFrame:
    """One frame of the headset.

    `sequence`: counts up. `time`: the headset's own clock, s. `server_echo`: the server's clock (s) in the newest state
    the page had, 0 before the first; `echo_held`: s since that came. `epoch`: counts discontinuities of the space or
    the inputs. `visible`: no menu over the page and the headset is on. `head` (7,): as the hands' poses.
    """

    sequence: int
    time: float
    server_echo: float
    echo_held: float
    epoch: int
    visible: bool
    passthrough: bool
    head: Array
    head_tracked: bool
    left: HandInput
    right: HandInput

    def hand(self, side: str) -> HandInput:
        """The "left" or "right" hand."""
        return self.left if side == "left" else self.right


def _pose(name: str, values: Array) -> Array:
    size = math.sqrt(float(values[3:] @ values[3:]))
    if abs(size - 1.0) > 0.01:
        raise Refused("quaternion", f"the quaternion of the {name} has length {size:.4f}, expected 1")
    if float(np.max(np.abs(values[:3]))) > FARTHEST:
        raise Refused("position", f"the {name} is farther than {FARTHEST:g} m from the origin")
    return from_webxr(np.concatenate((values[:3], unit(values[3:]))))


def parse_frame(data: bytes) -> HeadsetFrame:
    """The frame that `data` holds.

    Raises:
        Refused: wrong length or magic, a number that is not finite or out of range, unknown flags.
    """
    if len(data) != FRAME.size:
        raise Refused("length", f"a frame has {len(data)} bytes, expected {FRAME.size}")
    magic, sequence, time, echo, held, flags, epoch, *rest = FRAME.unpack(data)
    if magic != FRAME_MAGIC:
        raise Refused("magic", f"a frame begins with {magic:#x}, expected {FRAME_MAGIC:#x}")
    if flags & ~_KNOWN_FLAGS:
        raise Refused("flags", f"flags {flags:#x} hold unknown bits, expected at most {_KNOWN_FLAGS:#x}")
    *numbers, buttons = rest
    values = np.array((time, echo, held, *numbers))
    if not np.isfinite(values).all():
        raise Refused("finite", "a number of the frame is not finite")
    if time < 0.0 or echo < 0.0 or held < 0.0:
        raise Refused("range", f"time {time}, server_echo {echo} and echo_held {held} must not be negative")
    if buttons >> 16:
        raise Refused("flags", f"buttons {buttons:#x} hold more than two gamepads of eight")
    analog = values[24:32]
    if (analog[[0, 1, 4, 5]] < -0.001).any() or (np.abs(analog) > 1.001).any():
        raise Refused("range", "a trigger is outside 0 to 1 or a stick outside -1 to 1")
    head, left, right = (
        _pose(name, values[3 + 7 * i : 10 + 7 * i]) for i, name in enumerate(("head", "left hand", "right hand"))
    )
    clipped = np.clip(analog, -1.0, 1.0).tolist()
    hands = [
        HandInput(
            pose=pose,
            tracked=bool(flags & tracked),
            bare=bool(flags & bare),
            trigger=max(0.0, clipped[4 * i]),
            squeeze=max(0.0, clipped[4 * i + 1]),
            stick=(-clipped[4 * i + 3], -clipped[4 * i + 2]),  # the gamepad counts down and right as positive
            buttons=buttons >> 8 * i & 0xFF,
        )
        for i, (pose, tracked, bare) in enumerate(((left, LEFT_TRACKED, LEFT_BARE), (right, RIGHT_TRACKED, RIGHT_BARE)))
    ]
    return HeadsetFrame(
        sequence=sequence,
        time=time,
        server_echo=echo,
        echo_held=held,
        epoch=epoch,
        visible=bool(flags & VISIBLE),
        passthrough=bool(flags & PASSTHROUGH),
        head=head,
        head_tracked=bool(flags & HEAD_TRACKED),
        left=hands[0],
        right=hands[1],
    )


def parse_text(text: str) -> dict[str, Any]:
    """The message that a text holds; its "type" is known and its fields are of the right type.

    Raises:
        Refused: it is none.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused("json", f"a message is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise Refused("json", "a message is no JSON object")
    kind = message.get("type")
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None:
        raise Refused("type", f"a message has type {str(kind)[:40]!r}, expected one of {', '.join(_FIELDS)}")
    for name, expected in fields.items():
        value = message.get(name)
        if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
            wanted = " or ".join(t.__name__ for t in expected)
            raise Refused("field", f"{kind}.{name} is {str(value)[:40]!r}, expected {wanted}")
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused("field", f"{kind}.{name} is {value}, expected a finite number")
    if kind == "command" and message["command"] not in COMMANDS:
        raise Refused("command", f"there is no command {message['command'][:40]!r}, expected {', '.join(COMMANDS)}")
    return message


_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "hello": {"protocol": (int,), "want": (str,)},
    "claim": {},
    "release": {},
    "command": {"id": (int,), "command": (str,)},
    "pong": {"id": (int,)},
    "shown": {"camera": (int,), "sequence": (int,), "held_ms": (int, float)},
    "log": {"text": (str,)},
}


def picture(camera: int, sequence: int, width: int, height: int, captured: float, jpeg: bytes) -> bytes:
    """The message that carries a picture. `captured`: s on the server's steady clock."""
    return PICTURE.pack(PICTURE_MAGIC, camera, 0, 0, sequence & 0xFFFFFFFF, width, height, captured) + jpeg
