import numpy as np
import pytest
from bytemini_core.types import NANOSECONDS, ActionChunk
from hypothesis import given
from hypothesis import strategies as st
from trajectory_optimizer.schedule import ChunkSchedule

PERIOD, TICK = NANOSECONDS // 10, NANOSECONDS // 200


def chunk(stamp):
    return ActionChunk(stamp, 0, ("a",), 0.1, np.zeros((1, 1)), np.zeros(1, dtype=np.int8), np.zeros(1))


@given(st.integers(0, 60), st.integers(0, 5))
def test_every_chunk_is_taken_once_at_its_stamp_plus_latency(latency_ticks, start):
    schedule = ChunkSchedule(0.1, latency_ticks * 0.005)
    taken = []
    first = start * PERIOD
    for now in range(first, first + 10 * PERIOD, TICK):
        if now % PERIOD == 0:
            schedule.add(chunk(now))
        taken += [(now, c.stamp) for c in schedule.take(now)]
    assert all(now - stamp == latency_ticks * TICK for now, stamp in taken)
    assert [stamp for _, stamp in taken] == [first + i * PERIOD for i in range(len(taken))]


def test_waits_for_a_chunk_that_is_due():
    schedule = ChunkSchedule(0.1, 0.05)
    assert schedule.take(0) == []
    assert schedule.take(9 * TICK) == []
    assert schedule.take(10 * TICK) is None
    schedule.add(chunk(0))
    assert [c.stamp for c in schedule.take(10 * TICK)] == [0]


def test_observations_before_the_start_are_not_waited_for():
    schedule = ChunkSchedule(0.1, 0.0)
    assert schedule.take(PERIOD + TICK) == []


def test_after_a_restart_what_was_missing_is_not_waited_for():
    schedule = ChunkSchedule(0.1, 0.0)
    assert schedule.take(0) is None
    schedule.restart(PERIOD + TICK)
    assert schedule.take(PERIOD + TICK) == []


def test_a_restart_keeps_the_chunk_that_was_faster_than_the_state():
    schedule = ChunkSchedule(0.1, 0.0)
    schedule.add(chunk(0))
    schedule.add(chunk(5 * PERIOD))
    schedule.restart(5 * PERIOD)
    assert [c.stamp for c in schedule.take(5 * PERIOD)] == [5 * PERIOD]


@pytest.mark.parametrize(("period", "latency"), [(0.0, 0.0), (-1.0, 0.0), (0.1, -0.1), (float("nan"), 0.0)])
def test_bad_times_are_refused(period, latency):
    with pytest.raises(ValueError, match="expected"):
        ChunkSchedule(period, latency)
