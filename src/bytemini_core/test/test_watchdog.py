"""Silence is told from never having spoken, and by whose clock it is told."""

import signal
import subprocess
import sys

from bytemini_core.watchdog import BEAT, PATIENCE, SILENCE, Senders, Watch, signature
from hypothesis import given
from hypothesis import strategies as st

PARTS = ("policy", "cameras")


def test_only_who_spoke_is_missed():
    watch = Watch()
    assert watch.silent(100.0, PARTS) == ""
    watch.heard("cameras", 100.0)
    assert watch.silent(100.0 + SILENCE, PARTS) == ""
    assert watch.silent(100.001 + SILENCE, PARTS) == "cameras"
    assert watch.silent(100.001 + SILENCE, ("policy",)) == ""
    watch.forget()
    assert watch.silent(200.0, PARTS) == ""


def test_three_signs_may_be_lost():
    assert 4 * BEAT <= SILENCE < 0.1


@given(st.lists(st.floats(0.0, 10.0), min_size=1), st.floats(0.0, 20.0))
def test_it_is_the_last_word_that_counts(times, t):
    watch = Watch()
    for time in sorted(times):
        watch.heard("policy", time)
    assert bool(watch.silent(t, PARTS)) == (t - max(times) > SILENCE)


def test_who_only_waits_for_a_processor_has_longer():
    here = {"policy"}
    watch = Watch(lambda part: part not in here)
    watch.heard("policy", 0.0)
    assert watch.silent(PATIENCE, PARTS) == ""
    assert watch.silent(PATIENCE + 0.001, PARTS) == "policy"
    here.clear()
    assert watch.silent(SILENCE + 0.001, PARTS) == "policy"


def test_a_stopped_or_ended_process_is_gone_and_a_sleeping_one_is_not():
    senders = Senders()
    assert senders.part(signature("cameras")) == "cameras"
    assert not senders.gone("cameras")
    assert senders.gone("policy")  # nobody knows where
    assert senders.part("policy elsewhere 1") == "policy"
    assert senders.gone("policy")
    own = signature("policy").rpartition(" ")[0]
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        senders.part(f"{own} {process.pid}")
        assert not senders.gone("policy")
        process.send_signal(signal.SIGSTOP)
        while not senders.gone("policy"):
            pass
        process.send_signal(signal.SIGCONT)
        while senders.gone("policy"):
            pass
        process.kill()
    assert senders.gone("policy")
