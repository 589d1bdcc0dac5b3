"""Joining sensors with clocks of their own, at the real rates of cameras and drivers."""

import numpy as np
import pytest
from bytemini_core.types import NANOSECONDS
from gr3_policy_node.alignment import Aligned, NewestJoin
from hypothesis import given
from hypothesis import strategies as st

MS = 1_000_000


def make(frames=("head", "wrist"), streams=("joints",), max_age=0.5, max_skew=0.1):
    return NewestJoin(frames, streams, max_age, max_skew)


def play(join, events, lag=5 * MS):
    """Messages in the order of their stamps, each arriving `lag` later; what came out."""
    out = []
    for stamp, name in sorted(events):
        got = join.add(name, stamp, stamp, stamp + lag)
        if got is not None:
            out.append(got)
    return out


def test_equal_stamps_join_exactly():
    join = make()
    events = [(t * 100 * MS, name) for t in range(5) for name in ("head", "wrist", "joints")]
    events += [(t * 5 * MS, "joints") for t in range(100) if t % 20]
    for aligned in play(join, events):
        assert set(aligned.values.values()) == {aligned.stamp}


@given(st.integers(0, 33), st.integers(0, 33), st.integers(0, 4))
def test_cameras_out_of_phase_never_share_a_stamp_and_still_join(head, wrist, joints):
    period = 33 * MS
    events = [(head * MS + i * period, "head") for i in range(30)]
    events += [(wrist * MS + i * period, "wrist") for i in range(30)]
    events += [(joints * MS + i * 5 * MS, "joints") for i in range(210)]
    out = play(make(), events)
    assert 28 <= len(out) <= 31
    for aligned in out:
        assert isinstance(aligned, Aligned)
        values = aligned.values
        assert aligned.stamp == max(values["head"], values["wrist"])
        assert abs(values["head"] - values["wrist"]) <= period
        assert abs(values["joints"] - aligned.stamp) <= 5 * MS
    stamps = [aligned.stamp for aligned in out]
    assert stamps == sorted(set(stamps))


def test_no_picture_is_used_twice_and_a_dead_camera_stops_everything():
    join = make(streams=())
    assert join.add("head", 1, "h1", 0) is None
    assert join.add("wrist", 1, "w1", 0).values == {"head": "h1", "wrist": "w1"}
    for i in range(2, 50):
        assert join.add("head", i, "h", 0) is None


def test_late_and_repeated_messages_are_dropped():
    join = make(frames=("head",), streams=())
    assert join.add("head", 5, "a", 0).stamp == 5
    assert join.add("head", 5, "b", 0) is None
    assert join.add("head", 3, "c", 0) is None


def test_it_waits_for_the_state_of_that_moment():
    join = make(frames=("head",))
    join.add("joints", 90 * MS, 90, 0)
    assert join.add("head", 100 * MS, "h", 0) is None
    assert join.add("joints", 95 * MS, 95, 0) is None
    assert join.add("joints", 102 * MS, 102, 0).values == {"head": "h", "joints": 102}


@pytest.mark.parametrize(
    ("events", "now", "words"),
    [
        ([("joints", 0), ("wrist", 0), ("head", 0), ("joints", 1)], NANOSECONDS, "pictures are 1.00 s old"),
        ([("wrist", NANOSECONDS * 3), ("joints", 3 * NANOSECONDS), ("head", NANOSECONDS * 3)], NANOSECONDS, "ahead of"),
        ([("wrist", 0), ("joints", NANOSECONDS), ("head", NANOSECONDS)], NANOSECONDS, "wrist is 1.00 s behind"),
        (
            [("wrist", NANOSECONDS), ("head", NANOSECONDS), ("joints", 2 * NANOSECONDS)],
            NANOSECONDS,
            "1.00 s ahead of the newest",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused_with_the_reason(events, now, words):
    join = make()
    said = [got for name, stamp in events if (got := join.add(name, stamp, 0, now)) is not None]
    assert len(said) == 1
    assert words in said[0]


def test_an_observation_needs_frames_and_names():
    with pytest.raises(ValueError, match="at least one"):
        make(frames=())
    with pytest.raises(KeyError):
        make().add("depth", 1, np.zeros(1), 0)
