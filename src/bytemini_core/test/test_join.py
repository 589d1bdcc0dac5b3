import pytest
from bytemini_core.join import StampJoin
from hypothesis import given
from hypothesis import strategies as st


def test_a_set_comes_out_once_when_its_last_part_comes():
    join = StampJoin(("a", "b"))
    assert join.add("a", 5, 1) is None
    assert join.add("b", 5, 2) == {"a": 1, "b": 2}
    assert join.add("a", 5, 3) is None  # late
    assert join.add("b", 5, 4) is None


def test_incomplete_sets_before_a_complete_one_are_dropped():
    join = StampJoin(("a", "b"))
    join.add("a", 1, "lost its partner")
    join.add("a", 2, "x")
    assert join.add("b", 2, "y") == {"a": "x", "b": "y"}
    assert join.add("b", 1, "too late") is None


def test_a_silent_input_costs_no_memory():
    join = StampJoin(("a", "b"), depth=4)
    for stamp in range(100):
        join.add("a", stamp, stamp)
    assert join.add("b", 10, 0) is None
    assert join.add("b", 99, 0) == {"a": 99, "b": 0}


def test_unknown_input_is_named():
    with pytest.raises(KeyError, match="c is not an input"):
        StampJoin(("a", "b")).add("c", 0, 0)


@given(st.permutations([(name, stamp) for name in "ab" for stamp in range(6)]))
def test_whatever_the_order_stamps_come_out_increasing_and_whole(order):
    join = StampJoin(("a", "b"))
    out = [done for name, stamp in order if (done := join.add(name, stamp, stamp)) is not None]
    stamps = [done["a"] for done in out]
    assert all(done["a"] == done["b"] for done in out)
    assert stamps == sorted(set(stamps))
    assert stamps[-1] == max(stamps)


def test_a_clock_that_starts_anew_is_followed():
    """A simulator that was started again begins at zero: whoever joins by its stamps must not wait for the old time."""
    join = StampJoin(("a", "b"))
    join.add("a", 100_000_000_000, 1)
    assert join.add("b", 100_000_000_000, 1) is not None
    assert join.add("a", 99_990_000_000, 2) is None  # a late message
    assert join.add("b", 99_990_000_000, 2) is None
    assert join.add("a", 0, 3) is None
    assert join.add("b", 0, 3) == {"a": 3, "b": 3}
