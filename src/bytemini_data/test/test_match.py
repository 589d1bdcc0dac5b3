"""Frames out of streams: the head is the clock, every missing picture is counted, whatever the jitter."""

from itertools import pairwise

import numpy as np
from bytemini_data.recorder.match import Matcher
from hypothesis import given, settings
from hypothesis import strategies as st

MS = 1_000_000
CAMERAS = ("head", "left_wrist", "right_wrist")


def run(matcher, events):
    slots = []
    for stamp, stream, value in sorted(events, key=lambda event: event[:2]):
        slots += matcher.add(stream, stamp, value)
    return slots + list(matcher.flush())


def perfect(seconds=2.0, rate=30, fps=10, lost=(), jitter=0.0, seed=0):
    """Cameras at `rate`, joints at 200 Hz; `lost`: (camera, number) that never come; values are numbers."""
    rng = np.random.default_rng(seed)
    events = []
    for i in range(round(seconds * rate)):
        for camera in CAMERAS:
            if (camera, i) not in lost:
                events.append((round((1.0 + i / rate) * 1e9 + rng.uniform(-jitter, jitter) * 1e9), camera, i))
    events += [(round(1e9 + i * 5 * MS), "joints", i) for i in range(round(seconds * 200) + 20)]
    return run_matcher(events, fps)


def run_matcher(events, fps):
    matcher = Matcher(fps, CAMERAS, ("joints", "mode"), ("joints",))
    return matcher, run(matcher, events)


def test_every_third_picture_makes_a_frame_with_the_state_of_its_time():
    matcher, slots = perfect()
    assert [slot.picks["head"][1] for slot in slots] == list(range(0, 60, 3))
    assert [slot.picks["right_wrist"][1] for slot in slots] == list(range(0, 60, 3))
    for slot, after in pairwise(slots):
        assert abs(slot.picks["joints"][0] - slot.stamp) <= 2.5 * MS
        assert slot.picks["joints next"] == after.picks["joints"]
    assert set(matcher.counts.drops.values()) == {0}


@given(
    lost=st.sets(st.tuples(st.sampled_from(CAMERAS), st.integers(1, 58)), max_size=25),
    seed=st.integers(0, 999),
    jitter=st.floats(0, 0.005),
)
@settings(max_examples=80, deadline=None)
def test_each_lost_picture_is_one_drop_and_time_goes_on(lost, seed, jitter):
    """At the camera's own rate: as many frames as the head's clock ticks, every lost picture counted."""
    matcher, slots = perfect(2.0, 30, 30, lost, jitter, seed)
    last = max(i for i in range(60) if ("head", i) not in lost)
    assert len(slots) == last + 1
    for camera in CAMERAS:
        missing = sum((camera, i) in lost for i in range(last + 1))
        assert matcher.counts.drops[camera] == missing
        for i, slot in enumerate(slots):
            assert (camera in slot.picks) == ((camera, i) not in lost)
            if camera in slot.picks:
                assert slot.picks[camera][1] == i
    times = np.array([slot.stamp for slot in slots])
    assert (np.abs(np.diff(times) - 1e9 / 30) < 2.1 * jitter * 1e9 + MS).all()


def test_drift_of_the_heads_clock_loses_no_frame():
    """A camera that gives 29.8 pictures a second instead of 30 for two minutes."""
    events = [(round(1e9 + i / 29.8 * 1e9), camera, i) for i in range(3576) for camera in CAMERAS]
    matcher, slots = run_matcher(events, 30)
    assert [slot.picks["head"][1] for slot in slots] == list(range(3576))
    assert set(matcher.counts.drops.values()) == {0}


def test_a_camera_half_a_period_off_is_not_taken():
    events = [(round(1e9 + i / 10 * 1e9), "head", i) for i in range(20)]
    events += [(round(1e9 + (i / 10 + 0.049) * 1e9), "left_wrist", i) for i in range(20)]
    matcher, slots = run_matcher(events, 10)
    assert matcher.counts.drops == {"head": 0, "left_wrist": 0, "right_wrist": 20}
    assert [slot.picks["left_wrist"][1] for slot in slots] == list(range(20))


def test_messages_out_of_order_are_counted_not_used():
    matcher = Matcher(10, ("head",), ("joints",))
    for stamp in (10, 30, 20, 30, 40):
        list(matcher.add("joints", stamp * MS, stamp))
    assert matcher.counts.late == {"joints": 2}
    assert matcher.counts.received == {"joints": 5}


def test_a_silent_stream_delays_frames_but_does_not_stop_them():
    matcher = Matcher(10, ("head",), ("joints",), ("joints",))
    slots = []
    for i in range(20):
        slots += matcher.add("head", 1_000 * MS + i * 100 * MS, i)
    assert 14 <= len(slots) <= 17
    assert all("joints" not in slot.picks for slot in slots)


def test_memory_does_not_grow():
    matcher = Matcher(10, CAMERAS, ("joints",), ("joints",))
    for i in range(20_000):
        list(matcher.add("joints", i * 5 * MS, i))
        if i % 20 == 0:
            for camera in CAMERAS:
                list(matcher.add(camera, i * 5 * MS, i))
    assert sum(len(stream.stamps) for stream in matcher._streams.values()) < 300
