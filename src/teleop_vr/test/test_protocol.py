"""The wire: what is taken is exactly what was sent, what is not is refused with a reason."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_vr.intake import BURST, Delay, Intake, Reaction
from teleop_vr.poses import from_vector
from teleop_vr.protocol import COMMANDS, FRAME, PICTURE, STICK, Refused, parse_frame, parse_text, picture
from teleop_vr.simulated import SimulatedHeadset


def patched(data: bytes, offset: int, form: str, value: float) -> bytes:
    changed = bytearray(data)
    struct.pack_into("<" + form, changed, offset, value)
    return bytes(changed)


def test_the_layout_is_the_documented_one():
    """Offsets as the page packs them."""
    headset = SimulatedHeadset(sequence=6, time=1.5, echo=2.5, held=0.25, epoch=9)
    headset.left.trigger, headset.left.squeeze, headset.left.stick = 0.25, 0.5, (0.75, -1.0)
    headset.right.buttons = 1 << STICK
    data = headset.frame(0.5)
    assert len(data) == FRAME.size == 156
    assert struct.unpack_from("<II", data, 0) == (0x31544D42, 7)
    assert struct.unpack_from("<dd", data, 8) == (2.0, 2.5)
    assert struct.unpack_from("<f", data, 24) == (0.25,)
    assert struct.unpack_from("<II", data, 28) == (0b100111, 9)
    assert np.allclose(struct.unpack_from("<7f", data, 36), (0, 1.6, 0, 0, 0, 0, 1))  # the head is 1.6 m up: y
    assert np.allclose(struct.unpack_from("<7f", data, 64), (-0.2, 1.1, -0.4, 0, 0, 0, 1))
    assert struct.unpack_from("<4f", data, 120) == (0.25, 0.5, 1.0, -0.75)  # right and down are positive there
    assert struct.unpack_from("<I", data, 152) == (1 << 8 + STICK,)


def test_what_was_sent_is_what_is_taken():
    headset = SimulatedHeadset()
    headset.right.pose[3:] = from_vector(np.array((0.3, -0.2, 0.9)))
    headset.right.tracked, headset.left.bare = False, True
    headset.left.stick, headset.right.trigger = (0.5, -0.25), 0.75
    headset.left.buttons = 1 << STICK
    frame = parse_frame(headset.frame(0.01))
    assert np.allclose(frame.right.pose, headset.right.pose, atol=1e-6)
    assert np.allclose(frame.left.pose, headset.left.pose, atol=1e-6)
    assert np.allclose(frame.head, headset.head, atol=1e-6)
    assert (frame.left.tracked, frame.right.tracked, frame.left.bare, frame.right.bare) == (True, False, True, False)
    assert frame.left.stick == (0.5, -0.25)
    assert frame.right.trigger == 0.75
    assert frame.left.pressed(STICK)
    assert not frame.right.pressed(STICK)


@pytest.mark.parametrize(
    ("offset", "form", "value", "code"),
    [
        (0, "I", 7, "magic"),
        (8, "d", math.nan, "finite"),
        (8, "d", -1.0, "range"),
        (28, "I", 1 << 20, "flags"),
        (36, "f", math.inf, "finite"),
        (64, "f", 21.0, "position"),
        (64 + 24, "f", 0.9, "quaternion"),
        (92 + 24, "f", 0.0, "quaternion"),
        (120, "f", 1.5, "range"),
        (124, "f", -0.5, "range"),
        (128, "f", -2.0, "range"),
        (152, "I", 1 << 16, "flags"),
    ],
)
def test_bad_frames_are_refused_by_reason(offset, form, value, code):
    with pytest.raises(Refused) as refused:
        parse_frame(patched(SimulatedHeadset().frame(0.01), offset, form, value))
    assert refused.value.code == code


@given(st.binary(max_size=400))
def test_bytes_at_random_are_refused(data):
    with pytest.raises(Refused):
        parse_frame(data)


@given(st.integers(0, 155), st.integers(0, 255))
def test_a_mutated_frame_is_refused_or_still_sound(offset, value):
    data = bytearray(SimulatedHeadset().frame(0.01))
    data[offset] = value
    try:
        frame = parse_frame(bytes(data))
    except Refused:
        return
    for pose in (frame.head, frame.left.pose, frame.right.pose):
        assert np.isfinite(pose).all()
        assert abs(np.linalg.norm(pose[3:]) - 1.0) < 1e-9
        assert np.abs(pose[:3]).max() <= 20.0
    for hand in (frame.left, frame.right):
        assert 0.0 <= hand.trigger <= 1.0
        assert 0.0 <= hand.squeeze <= 1.0
        assert all(-1.0 <= axis <= 1.0 for axis in hand.stick)


@given(
    st.text(max_size=200) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps)
)
def test_texts_at_random_are_refused(text):
    with pytest.raises(Refused):
        parse_text(text)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "fly"}, "type"),
        ({"type": ["command"]}, "type"),
        ({"type": "hello", "protocol": "1", "want": "operator"}, "field"),
        ({"type": "hello", "protocol": True, "want": "operator"}, "field"),
        ({"type": "command", "id": 1, "command": "fly"}, "command"),
        ({"type": "shown", "camera": 0, "sequence": 1, "held_ms": math.nan}, "field"),
        ([1], "json"),
    ],
)
def test_bad_messages_are_refused_by_reason(message, code):
    with pytest.raises(Refused) as refused:
        parse_text(json.dumps(message))
    assert refused.value.code == code


def test_deeply_nested_text_is_refused():
    with pytest.raises(Refused):
        parse_text("[" * 100_000)


def test_every_command_is_taken():
    for command in COMMANDS:
        assert parse_text(json.dumps({"type": "command", "id": 1, "command": command}))["command"] == command


def test_a_picture_carries_its_time():
    message = picture(2, 7, 224, 120, 12.5, b"jpeg")
    assert PICTURE.unpack_from(message) == (0x31564D42, 2, 0, 0, 7, 224, 120, 12.5)
    assert message[PICTURE.size :] == b"jpeg"
    assert PICTURE.size == 24


def test_replayed_and_reordered_frames_are_refused():
    intake, headset = Intake(), SimulatedHeadset()
    first, second = headset.frame(0.01), headset.frame(0.01)
    intake.take(1.0, first)
    intake.take(1.01, second)
    for replayed in (first, second):
        with pytest.raises(Refused) as refused:
            intake.take(1.02, replayed)
        assert refused.value.code == "sequence"
    headset.time -= 0.05
    with pytest.raises(Refused) as refused:
        intake.take(1.03, headset.frame(0.01))
    assert refused.value.code == "time"


def test_a_flood_is_refused_and_ends():
    intake, headset = Intake(), SimulatedHeadset()
    taken, codes = 0, set()
    for i in range(2000):
        try:
            intake.take(1.0 + i * 1e-4, headset.frame(0.001))
        except Refused as refused:
            codes.add(refused.code)
        else:
            taken += 1
    assert codes == {"flood"}
    assert taken <= BURST + 0.2 * 150 + 1
    intake.take(3.0, headset.frame(0.01))


def test_a_frame_cannot_echo_the_future():
    headset = SimulatedHeadset(echo=5.0)
    with pytest.raises(Refused) as refused:
        Intake().take(4.0, headset.frame(0.01))
    assert refused.value.code == "echo"


@given(st.floats(0.0, 1e6), st.floats(0.002, 0.1), st.floats(0.0, 1.0))
def test_age_is_what_a_frame_waited_whatever_the_headsets_clock_says(clock, way, waited):
    delay = Delay()
    for i in range(20):
        now = 100.0 + i / 90
        headset = SimulatedHeadset(time=clock + i / 90, echo=now - 2 * way - 0.01, held=0.01)
        age = delay.age(round(now * 1e9), parse_frame(headset.frame(0.001)))
        assert age == pytest.approx(way, abs=1e-6)
    now += waited
    age = delay.age(round(now * 1e9), parse_frame(headset.frame(0.001)))
    assert age == pytest.approx(way + waited, abs=1e-6)


def test_age_is_unknown_before_the_first_echo():
    assert Delay().age(1, parse_frame(SimulatedHeadset().frame(0.01))) is None


def test_a_reaction_is_timed_by_the_first_command_that_answers_a_later_state():
    reaction = Reaction()
    reaction.commanded(0.9, 400)  # nothing was asked yet
    assert reaction.usual is None
    reaction.led(1.0, 500)
    reaction.led(1.001, 500)  # the first one counts
    reaction.commanded(1.002, 500)  # under way already when the reference left
    assert reaction.usual is None
    reaction.commanded(1.006, 505)
    assert reaction.usual == pytest.approx(0.006)
    reaction.commanded(1.011, 510)
    assert reaction.usual == pytest.approx(0.006)
