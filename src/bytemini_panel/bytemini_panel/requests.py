"""What the page may ask for: read, judged, and refused with a reason before anything is touched."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

LONGEST_INSTRUCTION = 500
LONGEST_TASK = 3600.0


@dataclass(frozen=True)
class EStop:
    """Stop now and stay stopped."""


@dataclass(frozen=True)
class Reset:
    """Leave the latched stop, to HOLD."""


@dataclass(frozen=True)
class Hold:
    """Take the robot from whoever owns it."""


@dataclass(frozen=True)
class Cancel:
    """End the task under way."""


@dataclass(frozen=True)
class Run:
    """Do a task given in words; `time_limit` in s, 0 for the policy's own."""

    instruction: str
    time_limit: float = 0.0


@dataclass(frozen=True)
class Save:
    """Have the flight recorder write down what it remembers."""


Request = EStop | Reset | Hold | Cancel | Run | Save

_FIELDS: dict[str, set[str]] = {
    "estop": set(),
    "reset": {"confirmed"},
    "hold": set(),
    "cancel": set(),
    "run": {"instruction", "time_limit"},
    "save": set(),
}


def read(text: str | bytes) -> tuple[Request, int]:
    """The request in a message of the page, and its number (`id`), which the answer carries.

    Raises:
        ValueError: it is not one of the requests above, with what was expected.
    """
    if isinstance(text, bytes):
        raise ValueError("a binary message, expected JSON text")
    try:
        message = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise ValueError(f"a JSON {type(message).__name__}, expected an object")
    kind, number = message.pop("type", None), message.pop("id", 0)
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise ValueError(f"unknown request {kind!r}, expected {', '.join(_FIELDS)}")
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"id is {number!r}, expected a whole number")
    unknown = set(message) - _FIELDS[kind]
    if unknown:
        raise ValueError(f"{kind} has no {', '.join(sorted(unknown))}")
    return _build(kind, message), number


def _build(kind: str, message: dict[str, Any]) -> Request:
    if kind == "reset":
        if message.get("confirmed") is not True:
            raise ValueError("a reset must be confirmed: the robot may move again after it")
        return Reset()
    if kind == "run":
        return _run(message.get("instruction"), message.get("time_limit", 0.0))
    plain: dict[str, type[EStop | Hold | Cancel | Save]] = {
        "estop": EStop,
        "hold": Hold,
        "cancel": Cancel,
        "save": Save,
    }
    return plain[kind]()


def _run(instruction: object, time_limit: object) -> Run:
    if not isinstance(instruction, str) or not instruction.strip():
        raise ValueError("the instruction is empty: say what to do, like 'put the apple into the basket'")
    if len(instruction) > LONGEST_INSTRUCTION:
        raise ValueError(f"the instruction has {len(instruction)} characters, at most {LONGEST_INSTRUCTION} are taken")
    if not instruction.isprintable():
        raise ValueError("the instruction holds characters that cannot be printed")
    numeric = isinstance(time_limit, int | float) and not isinstance(time_limit, bool)
    if not numeric or not math.isfinite(time_limit) or not 0 <= time_limit <= LONGEST_TASK:  # type: ignore[arg-type,operator]
        raise ValueError(f"time_limit is {time_limit!r}, expected 0 (the default) to {LONGEST_TASK:g} s")
    return Run(instruction.strip(), float(time_limit))  # type: ignore[arg-type]
