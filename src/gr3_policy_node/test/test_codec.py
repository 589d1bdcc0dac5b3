"""The codec against openpi's own layout, round trips, and what does not belong on the wire."""

import contextlib

import msgpack
import numpy as np
import pytest
from gr3_policy_node.codec import pack, unpack
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

DTYPES = st.sampled_from(["<f4", "<f8", "|u1", "<i8", "|b1", ">f4", "<f2", "<U5", "|S3"])
ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))


@given(ARRAYS)
def test_arrays_come_back_to_the_bit(array):
    back = unpack(pack({"x": array, "y": [array]}))
    for got in (back["x"], back["y"][0]):
        assert got.dtype == array.dtype
        assert got.shape == array.shape
        assert got.tobytes() == array.tobytes()


def test_the_layout_is_openpis():
    raw = msgpack.unpackb(pack({"x": np.arange(6, dtype=np.float32).reshape(2, 3).T, "s": np.int16(4)}))
    assert raw["x"][b"__ndarray__"] is True
    assert raw["x"][b"dtype"] == "<f4"
    assert raw["x"][b"shape"] == [3, 2]
    assert raw["x"][b"data"] == np.array([0, 3, 1, 4, 2, 5], dtype="<f4").tobytes()
    assert raw["s"] == {b"__npgeneric__": True, b"data": 4, b"dtype": "<i2"}


def test_scalars_keep_their_dtype():
    back = unpack(pack({"a": np.float32(0.5), "b": np.bool_(True), "c": np.str_("word")}))
    assert isinstance(back["a"], np.float32)
    assert isinstance(back["b"], np.bool_)
    assert back["c"] == "word"


@pytest.mark.parametrize("value", [np.array([object()]), np.zeros(2, dtype="c8"), np.zeros(1, dtype="i4,f4"), object()])
def test_what_has_no_form_is_not_sent(value):
    with pytest.raises(ValueError, match="cannot be sent"):
        pack({"x": value})


def array(**changed):
    entry = {"__ndarray__": True, "data": b"\0" * 8, "dtype": "<f4", "shape": [2], **changed}
    return msgpack.packb({"x": {key.encode(): value for key, value in entry.items() if value is not None}})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xdf\xff\xff\xff\xff",  # a map of four thousand million entries
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000,  # lists in lists
        msgpack.packb({"x": 1}) + b"more",
        array(data=None),
        array(dtype="|O"),
        array(dtype="O"),
        array(dtype="<c8"),
        array(dtype="i4,f4"),
        array(dtype="nonsense"),
        array(dtype=4),
        array(dtype="<U0"),
        array(shape=[3]),
        array(shape=[-2]),
        array(shape=[2**40, 2**40]),
        array(shape=[0, 2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1]),
        array(shape=[1] * 33),
        array(shape=2),
        array(shape=[2.0]),
        array(shape=[True, 2]),
        array(data="text"),
        msgpack.packb({b"__npgeneric__": True, b"data": [1], b"dtype": "<f4"}),
        msgpack.packb({b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}),
        msgpack.packb({b"__npgeneric__": True, b"dtype": "<f4"}),
    ],
)
def test_malformed_messages_are_refused_in_words(data):
    with pytest.raises(ValueError, match="no message of the openpi protocol"):
        unpack(data)


@given(st.binary(max_size=200))
def test_noise_never_breaks_it(data):
    with contextlib.suppress(ValueError):
        unpack(data)


@given(st.data())
def test_a_bent_message_never_breaks_it(data):
    whole = bytearray(
        pack({"observation/state": np.arange(19.0), "prompt": "go", "n": {"m": np.zeros((2, 2, 3), "u1")}})
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        unpack(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
