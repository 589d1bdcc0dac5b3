"""The states of an episode."""

import pytest
from bytemini_data.recorder.session import Effect, Limits, Session, State
from hypothesis import given
from hypothesis import strategies as st

PLENTY = 10**12


def recording(limits=None):
    session = Session(limits or Limits())
    session.command("start", 10.0, PLENTY, "ann")
    session.tick(10.0 + session.limits.countdown, PLENTY)
    assert session.state is State.RECORDING
    return session


def test_from_countdown_to_saved():
    session = Session(Limits(countdown=3.0))
    assert session.command("start", 10.0, PLENTY, "ann").ok
    assert session.state is State.COUNTDOWN
    assert session.tick(11.0, PLENTY) is None
    assert session.countdown == 2.0
    assert session.tick(13.0, PLENTY).effect is Effect.BEGIN
    session.tick(18.0, PLENTY)
    assert session.duration == 5.0
    answer = session.command("save", 18.5, PLENTY, success=True)
    assert (answer.effect, session.state, session.success, session.operator) == (Effect.SAVE, State.SAVING, True, "ann")
    assert not session.command("start", 19.0, PLENTY).ok
    session.saved()
    assert session.state is State.SAVED
    assert session.command("start", 20.0, PLENTY).ok
    assert not session.success


def test_a_discard_asks_first():
    session = recording()
    answer = session.command("discard", 20.0, PLENTY)
    assert not answer.ok
    assert answer.effect is None
    assert session.state is State.RECORDING
    assert session.command("discard", 21.0, PLENTY, confirmed=True).effect is Effect.DISCARD
    assert session.state is State.DISCARDED


def test_a_countdown_is_stopped_without_asking():
    session = Session(Limits())
    session.command("start", 0.0, PLENTY)
    answer = session.command("discard", 1.0, PLENTY)
    assert answer.ok
    assert answer.effect is None
    assert session.tick(5.0, PLENTY) is None


def test_too_little_disk_refuses_to_start_and_aborts_what_runs():
    session = Session(Limits(reserve=1000))
    answer = session.command("start", 0.0, 1999)
    assert not answer.ok
    assert "free on the disk" in answer.message
    assert session.state is State.IDLE
    session = recording(Limits(reserve=1000))
    assert session.tick(20.0, 1001) is None
    assert session.tick(21.0, 999).effect is Effect.ABORT
    assert "free on the disk" in session.reason


def test_a_silent_camera_ends_the_episode_only_after_a_while():
    session = recording(Limits(loss=1.0))
    assert session.tick(20.0, PLENTY, {"head": 0.9}) is None
    answer = session.tick(20.1, PLENTY, {"head": 1.1})
    assert answer.effect is Effect.ABORT
    assert "no head for 1.1 s" in session.reason


def test_silence_before_the_start_is_not_held_against_the_episode():
    session = recording(Limits(loss=1.0, countdown=3.0))
    assert session.tick(13.5, PLENTY, {"head": 99.0}) is None


def test_the_longest_episode_is_saved():
    session = recording(Limits(longest=60.0))
    assert session.tick(72.9, PLENTY) is None
    assert session.tick(73.1, PLENTY).effect is Effect.SAVE


@given(
    st.lists(
        st.sampled_from(["start", "save", "discard", "discard!", "abort", "tick", "saved", "nonsense"]), max_size=40
    )
)
def test_no_order_of_commands_breaks_it(words):
    """Effects come in pairs: nothing begins twice, nothing ends that has not begun."""
    session, now, running = Session(Limits(countdown=1.0)), 0.0, False
    for word in words:
        now += 0.6
        if word == "saved":
            if session.state is State.SAVING:
                session.saved()
            else:
                with pytest.raises(RuntimeError):
                    session.saved()
            continue
        if word == "tick":
            answer = session.tick(now, PLENTY)
        else:
            answer = session.command(word.rstrip("!"), now, PLENTY, confirmed=word.endswith("!"))
        effect = answer.effect if answer else None
        if effect is Effect.BEGIN:
            assert not running
            running = True
        elif effect is not None:
            assert running
            running = False
        assert running == (session.state is State.RECORDING)
