"""The bytes of the openpi protocol: msgpack, with numpy arrays as maps of four entries.

An array is `{b"__ndarray__": True, b"data": C-order bytes, b"dtype": "<f4", b"shape": [..]}`, a numpy scalar
`{b"__npgeneric__": True, b"data": value, b"dtype": str}`; every other key is text. No pickle anywhere: objects,
structures and complex numbers are refused both ways. What comes in is checked before memory is touched, so that no
message can ask for more than the bytes it brought.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np

KINDS = "biufUS"
"""Kinds of numpy dtypes that may cross: truth values, integers, floats, text, bytes."""

MOST_DIMENSIONS = 8


def pack(value: Any) -> bytes:
    """Encode a tree of dicts, lists, numbers, text, bytes and numpy arrays.

    Raises:
        ValueError: something in it cannot cross (a Python object, a complex or structured array).
    """
    try:
        return bytes(msgpack.packb(value, default=_encode))
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"this cannot be sent as msgpack: {error}") from None


def unpack(data: bytes) -> Any:
    """Decode a message; arrays are read-only views of `data`.

    Raises:
        ValueError: it is not msgpack, or an array in it does not fit its own description.
    """
    try:
        return msgpack.unpackb(data, object_hook=_decode)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"this is no message of the openpi protocol (msgpack with numpy arrays): {reason}") from None


def _encode(value: Any) -> dict[bytes, Any]:
    if isinstance(value, np.ndarray):
        _check_kind(value.dtype)
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic):
        _check_kind(value.dtype)
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__} has no form on the wire")


def _decode(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        return _array(value)
    if b"__npgeneric__" in value:
        scalar = value[b"data"]
        if not isinstance(scalar, bool | int | float | str | bytes):
            raise ValueError(f"a numpy scalar holds a {type(scalar).__name__}")
        return _dtype(value[b"dtype"]).type(scalar)
    return value


def _array(value: dict[Any, Any]) -> np.ndarray[Any, Any]:
    data, shape, dtype = value[b"data"], value[b"shape"], _dtype(value[b"dtype"])
    if not isinstance(data, bytes):
        raise ValueError(f"an array's data is a {type(data).__name__}, expected bytes")
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"an array's shape is {shape!r:.60}, expected a list of at most {MOST_DIMENSIONS} lengths")
    if not all(type(length) is int and 0 <= length < 2**31 for length in shape):
        raise ValueError(f"an array's shape is {shape!r:.60}, expected lengths of 0 or more")
    if dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {shape} and dtype {dtype.str} came with {len(data)} bytes")
    return np.ndarray(tuple(shape), dtype, data)


def _dtype(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str):
        raise ValueError(f"a dtype is {name!r:.40}, expected text like '<f4'")
    dtype = np.dtype(name)
    _check_kind(dtype)
    return dtype


def _check_kind(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in KINDS:
        raise TypeError(f"dtype {dtype} is not one that may cross: expected numbers, truth values or text")
