"""The pure parts: clocks, connection, accounts and pairs."""

import numpy as np
import pytest
from bytemini_cameras.clock import BUCKET, JUMP, WRAP, ClockMap
from bytemini_cameras.link import LONGEST_WAIT, STALL, STEADY, Link, LinkState
from bytemini_cameras.monitor import StreamMonitor
from bytemini_cameras.pairing import Pairing
from bytemini_core.types import NANOSECONDS
from hypothesis import given, settings
from hypothesis import strategies as st

PERIOD = NANOSECONDS // 30
HOST = 1_700_000_000 * NANOSECONDS


def arrivals(drift, seconds, seed, start=HOST, device=5 * NANOSECONDS, delay=2e-3, jitter=4e-3):
    """True host times, device stamps and arrivals of frames whose delays are exponential above a least one."""
    random = np.random.default_rng(seed)
    true = start + np.arange(seconds * 30) * PERIOD
    stamps = device + np.round((true - start) / (1 + drift)).astype(np.int64)
    return true, stamps, true + np.round((delay + random.exponential(jitter, len(true))) * NANOSECONDS).astype(np.int64)


@settings(max_examples=15, deadline=None)
@given(drift=st.floats(-100e-6, 100e-6), seed=st.integers(0, 2**16))
def test_stamps_keep_the_true_rhythm_however_delivery_jitters(drift, seed):
    true, stamps, came = arrivals(drift, 120, seed)
    clock = ClockMap()
    mapped = np.array([clock.map(int(s), int(a)) for s, a in zip(stamps, came, strict=True)])
    assert (mapped <= came).all()
    assert (np.diff(mapped) > 0).all()
    # Late by the shortest delay, 2 ms, and by what is not yet known of the drift: 1 ms after a minute.
    late = (mapped - true)[60 * 30 :] / 1e6
    assert abs(late - 2.0).max() < 1.0
    assert abs(clock.drift - drift) < 20e-6
    # The rhythm is the camera's, not that of the arrivals (whose steps deviate by 6 ms).
    assert np.std(np.diff(mapped[60 * 30 :])) / 1e6 < 0.1


def test_the_counter_of_the_camera_may_wrap_round():
    _, stamps, came = arrivals(0.0, 20, 0, device=WRAP - 10 * NANOSECONDS, jitter=0.0)
    clock = ClockMap()
    mapped = np.array([clock.map(int(s % WRAP), int(a)) for s, a in zip(stamps, came, strict=True)])
    assert abs(np.diff(mapped) - PERIOD).max() <= 2
    assert clock.restarts == 0


@pytest.mark.parametrize("jump", [-3600 * NANOSECONDS, -2 * JUMP, 2 * JUMP, 3600 * NANOSECONDS])
def test_a_clock_that_was_set_is_followed_at_once(jump):
    _, stamps, came = arrivals(0.0, 30, 1, jitter=0.0)
    clock = ClockMap()
    for i, (stamp, arrival) in enumerate(zip(stamps, came, strict=True)):
        later = i >= len(came) // 2
        mapped = clock.map(int(stamp), int(arrival) + later * jump)
        assert 0 <= int(arrival) + later * jump - mapped < BUCKET // 100
    assert clock.restarts == 1


def test_a_camera_that_starts_again_is_mapped_anew():
    _, stamps, came = arrivals(0.0, 30, 2, device=40 * NANOSECONDS, jitter=0.0)
    clock = ClockMap()
    for stamp, arrival in zip(stamps, came, strict=True):
        clock.map(int(stamp), int(arrival))
    clock.reset()
    assert clock.map(7, HOST * 2) == HOST * 2
    assert clock.restarts == 0


def test_waits_double_up_to_the_longest_and_are_forgiven_after_steady_frames():
    link, now, waits = Link(), 0.0, []
    for _ in range(8):
        assert link.due(now)
        link.lost(now, "gone")
        assert not link.due(now)
        waits.append(link.wait(now))
        now += waits[-1]
    assert waits == [0.25, 0.5, 1, 2, 4, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]
    link.opened(now)
    link.frame(now)
    link.lost(now + 1, "again")
    assert link.wait(now + 1) == LONGEST_WAIT  # it comes and goes: not trusted yet
    now += 1 + LONGEST_WAIT
    link.opened(now)
    link.frame(now)
    link.frame(now + STEADY)
    link.lost(now + STEADY, "once more")
    assert link.wait(now + STEADY) == waits[0]
    assert link.connections == 2


def test_an_open_camera_that_sends_nothing_stalls():
    link = Link()
    assert not link.stalled(100.0)  # not open: nothing is expected
    link.opened(0.0)
    assert not link.stalled(STALL)
    assert link.stalled(STALL + 0.01)
    link.frame(STALL)
    assert (link.state, link.reason) == (LinkState.STREAMING, "")
    assert link.stalled(2 * STALL + 0.01)
    with pytest.raises(ValueError, match="not open"):
        Link().frame(0.0)


def test_every_frame_is_accounted_for():
    monitor = StreamMonitor(4, 2, 3)
    good = (4, 2, 24)
    assert monitor.refuse(1, 10, good) == ""
    assert "twice" in monitor.refuse(1, 20, good)
    assert "twice" in monitor.refuse(2, 10, good)
    assert "2x1" in monitor.refuse(3, 30, (2, 1, 6))
    assert monitor.refuse(5, 50, good) == ""
    monitor.begin()
    assert monitor.refuse(0, 1, good) == ""
    for i in range(60):
        monitor.arrived(i / 30, 0.01)
    report = monitor.report(2.0)
    assert (report.frames, report.dropped, report.repeated, report.misshapen) == (3, 3, 2, 1)
    assert report.rate == pytest.approx(30)
    assert report.latency == pytest.approx(0.01)
    assert monitor.report(2.5).gap == pytest.approx(2.5 - 59 / 30)
    assert monitor.report(10.0).rate == 0


@given(st.permutations(range(8)), st.integers(-15, 15))
def test_pairs_are_of_one_instant_in_whatever_order_frames_come(order, skew):
    pairing = Pairing(16)
    pairs = []
    for i in sorted(range(8), key=lambda i: (i // 2, order[i])):  # frames of neighbouring instants may overtake
        stamp = 33 * (i // 2)
        pairs.append(pairing.colour(stamp, i // 2) if i % 2 else pairing.depth(stamp + skew, i // 2))
    assert [pair for pair in pairs if pair] == [(i, i) for i in range(4)]


def test_a_frame_without_a_partner_is_left_out():
    pairing = Pairing(16)
    assert pairing.colour(0, "a") is None
    assert pairing.depth(33, "B") is None
    assert pairing.colour(66, "c") is None
    assert pairing.depth(66, "C") == ("c", "C")
    pairing.clear()
    assert pairing.colour(33, "b") is None


def test_a_picture_that_never_changes_is_told_from_one_that_does():
    random = np.random.default_rng(0)
    scene = random.integers(0, 250, (480, 640, 3), np.uint8)
    monitor, still = StreamMonitor(640, 480, 3), memoryview(scene)
    times = np.arange(60) / 30
    noisy = [scene + random.integers(0, 2, scene.shape, np.uint8) for _ in times]
    assert not any(monitor.still(t, memoryview(picture)) for t, picture in zip(times, noisy, strict=True))
    said = [monitor.still(2.0 + t, still) for t in times]
    assert sum(map(bool, said)) in (50, 51)  # of 60: from 0.3 s on
    assert all(said[10:])
    assert "same picture" in said[-1]
    assert monitor.report(4.0).frozen == sum(map(bool, said))
    monitor.begin()
    assert monitor.still(5.0, still)  # opened anew, it still hangs
    assert not monitor.still(5.1, memoryview(noisy[0]))
