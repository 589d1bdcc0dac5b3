"""What the openpi protocol's dictionaries mean here: requests become observations, chunks become replies.

The client sends one dictionary per request. Keys may be flat (`"observation/head"`) or nested (`{"observation":
{"head": ..}}`), with or without the leading `observation/`; pictures may stand below `images/`. Unknown keys are
ignored, as everywhere in this protocol; what would matter and the policy does not take is refused by name.

Pure: nothing here knows of sockets or clocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bytemini_core.types import ActionChunk, Observation, PolicyMetadata, RobotState
from numpy.typing import NDArray

from gr3_policy_node.worker import row_status

MOST_DEPTH = 4
"""Dictionaries in dictionaries that a request may have."""

LONGEST_PROMPT = 2000
"""Characters."""

LONGEST_DEADLINE_MS = 3_600_000.0


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One observation to answer.

    `reset`: a new task begins with it. `prefix`: (m, columns) rows already committed to execution. `noise`: (horizon,
    columns) or the metadata's `noise_shape`. `deadline`: seconds from its arrival in which the answer is of use, None
    for whenever.
    """

    observation: Observation
    reset: bool = False
    prefix: NDArray[np.float32] | None = None
    noise: NDArray[np.float32] | None = None
    deadline: float | None = None


def takes_prefix(metadata: PolicyMetadata) -> bool:
    """Whether a policy continues committed actions: what it says in `PolicyMetadata.extra`."""
    return bool(metadata.extra.get("prefix", False))


def noise_shape(metadata: PolicyMetadata) -> tuple[int, int] | None:
    """Shape of the initial noise that a policy takes, as it says in `PolicyMetadata.extra`; None if it takes none."""
    shape = metadata.extra.get("noise_shape")
    return None if shape is None else (int(shape[0]), int(shape[1]))


def announcement(metadata: PolicyMetadata, joints: Sequence[str], most_bytes: int) -> dict[str, Any]:
    """What the server says of itself to every client that connects.

    Args:
        metadata: of the policy that is served.
        joints: names of the state's numbers, in order.
        most_bytes: the longest message that is taken.
    """
    optional = {
        "reset": "true with the first observation of a task",
        "deadline_ms": "time in which the answer is of use; later it is an error",
        "stamp": "nanoseconds, of the client's own clock",
        "velocity": f"({len(joints)},) of the joints",
        "effort": f"({len(joints)},) of the joints",
        "base_pose": "(3,) x, y, yaw in odom",
        "base_twist": "(3,) vx, vy, wz in base_footprint",
    }
    if takes_prefix(metadata):
        optional["prefix"] = (
            f"(m, {len(metadata.columns)}) actions already committed to execution, m < {metadata.horizon}; "
            "base columns from the base pose at this observation"
        )
    if (shape := noise_shape(metadata)) is not None:
        optional["noise"] = f"{shape} or {(metadata.horizon, len(metadata.columns))} initial noise; drawn if left out"
    return {
        "server": "bytemini",
        "policy": metadata.name,
        "columns": list(metadata.columns),
        "horizon": metadata.horizon,
        "dt": metadata.dt,
        "cameras": list(metadata.cameras),
        "image_size": list(metadata.image_size),
        "state": list(joints),
        "keys": ["state", "prompt", *(f"images/{camera}" for camera in metadata.cameras)],
        "optional_keys": optional,
        "max_message_bytes": most_bytes,
        "extra": {key: value for key, value in metadata.extra.items() if _is_plain(value)},
    }


def parse_request(message: Any, metadata: PolicyMetadata, joints: tuple[str, ...], stamp: int) -> Request:
    """Read one request.

    Args:
        message: as decoded.
        metadata: of the policy that will answer.
        joints: names of the state's numbers, in order.
        stamp: nanoseconds, for a request that states none.

    Raises:
        ValueError: something is missing, or has another shape, dtype or content than expected; names the key.
    """
    if not isinstance(message, dict):
        raise ValueError(f"the request is a {type(message).__name__}, expected a dictionary of observations")
    given: dict[str, Any] = {}
    for key, value in _flatten(message, "", 1):
        if key in given:
            raise ValueError(f"'{key}' is given twice, flat and nested or with and without 'observation/'")
        given[key] = value
    needed = ("state", "prompt", *metadata.cameras)
    if missing := [key for key in needed if key not in given]:
        came = ", ".join(sorted(given)[:20]) or "nothing"
        raise ValueError(f"the request lacks {', '.join(missing)}: expected {', '.join(needed)}, got {came}")
    width, columns = len(joints), len(metadata.columns)
    stamp = _integer("stamp", given["stamp"]) if "stamp" in given else stamp
    zeros = np.zeros(width)
    state = RobotState(
        stamp=stamp,
        names=joints,
        position=_floats("state", given["state"], (width,), f"the joints {', '.join(joints)}"),
        velocity=_floats("velocity", given["velocity"], (width,)) if "velocity" in given else zeros,
        effort=_floats("effort", given["effort"], (width,)) if "effort" in given else zeros,
        base_pose=_floats("base_pose", given["base_pose"], (3,)) if "base_pose" in given else np.zeros(3),
        base_twist=_floats("base_twist", given["base_twist"], (3,)) if "base_twist" in given else np.zeros(3),
    )
    images = {camera: _image(camera, given[camera], metadata.image_size) for camera in metadata.cameras}
    for key, taken in (("prefix", takes_prefix(metadata)), ("noise", noise_shape(metadata) is not None)):
        if given.get(key) is not None and not taken:
            raise ValueError(f"{metadata.name} takes no '{key}': leave it out (the metadata list what it takes)")
    prefix = noise = None
    if given.get("prefix") is not None:
        prefix = _floats("prefix", given["prefix"], (None, columns), "rows of actions").astype(np.float32)
        if len(prefix) >= metadata.horizon:
            raise ValueError(f"prefix has {len(prefix)} rows, expected fewer than the horizon of {metadata.horizon}")
    if given.get("noise") is not None:
        plain = (metadata.horizon, columns)
        shape = plain if getattr(given["noise"], "shape", None) == plain else noise_shape(metadata) or plain
        noise = _floats("noise", given["noise"], shape).astype(np.float32)
    reset = given.get("reset", False)
    if not isinstance(reset, bool | np.bool_):
        raise ValueError(f"reset is {reset!r:.40}, expected true or false")
    return Request(
        Observation(stamp, _prompt(given["prompt"]), state, images),
        bool(reset),
        prefix,
        noise,
        _deadline(given["deadline_ms"]) if given.get("deadline_ms") is not None else None,
    )


def reply(chunk: ActionChunk, phase: str, server: Mapping[str, float], policy_ms: float) -> dict[str, Any]:
    """The answer to one request.

    The only array is `actions`: openpi's `ActionChunkBroker` slices every array by the row, so that everything else is
    a list or a number.

    Args:
        chunk: what the policy says.
        phase: what it is doing, in a word.
        server: timings of the server, ms.
        policy_ms: time of the inference.
    """
    status, confidence = row_status(chunk)
    return {
        "actions": chunk.values,
        "columns": list(chunk.names),
        "dt": chunk.dt,
        "task_status": int(status),
        "confidence": confidence,
        "row_status": chunk.task_status.tolist(),
        "row_confidence": chunk.confidence.tolist(),
        "phase": phase,
        "server_timing": dict(server),
        "policy_timing": {"infer_ms": policy_ms},
    }


def picture(name: str, value: Any) -> NDArray[np.uint8]:
    """An RGB picture (H, W, 3) from (H, W, 3) or (3, H, W).

    Raises:
        ValueError: it is none; says what it is.
    """
    if not isinstance(value, np.ndarray):
        raise ValueError(f"image {name} is a {type(value).__name__}, expected an array of uint8")
    if value.dtype != np.uint8:
        bad = value.dtype.kind == "f" and not np.isfinite(value).all()
        words = " with NaN or infinite pixels" if bad else ""
        raise ValueError(f"image {name} is {value.dtype}{words}, expected uint8 from 0 to 255")
    if value.ndim == 3 and value.shape[2] == 3:
        return value
    if value.ndim == 3 and value.shape[0] == 3:
        return value.transpose(1, 2, 0)
    raise ValueError(f"image {name} has shape {value.shape}, expected (height, width, 3) or (3, height, width)")


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return isinstance(value, bool | int | float | str)


def _flatten(tree: Mapping[Any, Any], path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > MOST_DEPTH:
        raise ValueError(f"'{path}' holds dictionaries too deep in each other, expected at most {MOST_DEPTH}")
    for key, value in tree.items():
        if not isinstance(key, str):
            raise ValueError(f"a key of the request is {key!r:.40}, expected text")
        full = f"{path}/{key}" if path else key
        if isinstance(value, dict):
            yield from _flatten(value, full, depth + 1)
        else:
            yield full.removeprefix("observation/").removeprefix("images/"), value


def _floats(name: str, value: Any, shape: tuple[int | None, ...], what: str = "") -> NDArray[np.float64]:
    expected = f"({', '.join('m' if n is None else str(n) for n in shape)}{',' * (len(shape) == 1)})"
    expected += f" ({what})" if what else ""
    if isinstance(value, list):
        if not all(isinstance(item, bool | int | float | list) for item in value):
            raise ValueError(f"{name} is a list that holds more than numbers, expected an array {expected}")
        try:
            value = np.asarray(value, dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"{name} is a ragged list, expected an array {expected}") from None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        got = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"{name} is {got}, expected an array of numbers {expected}")
    if value.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, value.shape, strict=True)):
        raise ValueError(f"{name} has shape {value.shape}, expected {expected}")
    array = value.astype(np.float64)
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} is not finite at {index}")
    if np.abs(array).max(initial=0.0) > 1e6:
        raise ValueError(f"{name} holds {np.abs(array).max():g}, expected SI units (no more than 1e6)")
    return array


def _image(camera: str, value: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    image = picture(camera, value)
    if image.shape[:2] != tuple(size):
        raise ValueError(
            f"image {camera} is {image.shape[0]} x {image.shape[1]}, expected {size[0]} x {size[1]}: resize it first "
            "(openpi_client.image_tools.resize_with_pad)"
        )
    return image


def _prompt(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, str):
        raise ValueError(f"prompt is {value!r:.40}, expected text")
    text = str(value).strip()
    if not text:
        raise ValueError("prompt is empty: say what to do, like 'put the apple into the basket'")
    if len(text) > LONGEST_PROMPT:
        raise ValueError(f"prompt has {len(text)} characters, expected at most {LONGEST_PROMPT}")
    return text


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or not 0 <= value < 2**63:
        raise ValueError(f"{name} is {value!r:.40}, expected nanoseconds as a whole number of 0 or more")
    return int(value)


def _deadline(value: Any) -> float:
    if (
        isinstance(value, bool | np.bool_)
        or not isinstance(value, int | float | np.integer | np.floating)
        or not 0 < value <= LONGEST_DEADLINE_MS
    ):
        raise ValueError(f"deadline_ms is {value!r:.40}, expected milliseconds above 0, at most an hour's")
    return float(value) / 1000.0
