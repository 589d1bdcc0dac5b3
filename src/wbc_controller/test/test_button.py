"""The stop button: its loop, its port, and its word in the controller."""

import os
import pty
from types import SimpleNamespace

import pytest
import serial
from bytemini_core.watchdog import PATIENCE, SILENCE
from hypothesis import given
from hypothesis import strategies as st
from serial.urlhandler import protocol_loop
from wbc_controller.button import FALL, LOOKS, PULSE, RETRY, RISE, Button, Loop
from wbc_controller.circuits import StopCircuits

LOOK = 0.005


class Wire:
    """A loop with a lag, that can be cut, shorted or frozen, and time that passes in it."""

    def __init__(self, lag=0.0):
        self.t, self.cut, self.shorted, self.frozen = 10.0, False, False, None
        self.loop, self._driven = Loop(self.t), []
        self._lag = lag

    def run(self, seconds):
        """Look at it for a while; what it said, by the time."""
        said = []
        for _ in range(round(seconds / LOOK)):
            self.t += LOOK
            self._driven.append((self.t, self.loop.driven))
            driven = next((d for at, d in reversed(self._driven) if at <= self.t - self._lag), True)
            voltage = self.shorted or (driven and not self.cut)
            said.append((self.t, self.loop.look(self.t, voltage if self.frozen is None else self.frozen)))
        return said


def after(said, since):
    return next((at - since for at, why in said if why), None)


@pytest.mark.parametrize("lag", [0.0, 0.016, 0.04])
def test_a_closed_loop_is_closed_once_it_was_tested_and_stays_so(lag):
    wire = Wire(lag)
    said = wire.run(5.0)
    assert said[0][1] == "it was not tested yet"
    assert all(why == "" for at, why in said if at > 10.0 + 3 * max(lag, LOOK) + 2 * LOOK)


@given(st.floats(0.5, 3.0), st.sampled_from([0.0, 0.016, 0.04]))
def test_pressed_at_any_moment_it_opens_within_a_pulse_and_is_tested_before_it_closes(moment, lag):
    wire = Wire(lag)
    wire.run(moment)
    pressed, wire.cut = wire.t, True
    said = wire.run(1.5)
    assert after(said, pressed) <= 2 * lag + RISE + LOOKS * LOOK + 4 * LOOK
    assert "pressed" in said[-1][1]
    wire.cut = False
    said = wire.run(1.0)
    assert "pressed" in said[0][1]
    assert said[-1][1] == ""


def test_between_two_pulses_it_opens_at_the_next_look():
    wire = Wire()
    wire.run(0.5)
    pressed, wire.cut = wire.t, True
    assert after(wire.run(0.1), pressed) == pytest.approx(LOOK)


@pytest.mark.parametrize("fault", ["shorted", "frozen"])
def test_what_would_read_as_closed_for_ever_is_found_by_the_next_pulse(fault):
    wire = Wire()
    wire.run(0.5)
    began = wire.t
    setattr(wire, fault, True)
    said = wire.run(2.0)
    assert after(said, began) <= PULSE + FALL + 3 * LOOK
    assert "without voltage" in said[-1][1]


def test_a_busy_machine_that_looks_rarely_gives_the_line_more_looks():
    loop = Loop(0.0)
    loop.look(0.5, True)
    loop.look(1.0, False)
    assert loop.driven
    assert [loop.look(1.5 + 0.1 * i, False) for i in range(LOOKS - 1)] == ["it was not tested yet"] * (LOOKS - 1)
    assert "pressed" in loop.look(2.5, False)


@pytest.fixture
def adapter(monkeypatch):
    """pyserial's loop, with a button in it and a plug."""
    adapter, cts = SimpleNamespace(pressed=False, unplugged=False), protocol_loop.Serial.cts

    def read(port):
        if adapter.unplugged:
            raise serial.SerialException("device disconnected")
        return cts.fget(port) and not adapter.pressed

    monkeypatch.setattr(protocol_loop.Serial, "cts", property(read))
    return adapter


def look(button, since, seconds):
    return [button.look(since + LOOK * i) for i in range(round(seconds / LOOK))][-1]


def test_pyserials_own_loop_closes_opens_and_comes_back(adapter):
    button = Button("loop://")
    assert look(button, 0.0, 3.0) == ""
    adapter.pressed = True
    assert "pressed" in button.look(3.0)
    adapter.pressed = False
    assert look(button, 4.0, 0.5) == ""
    adapter.unplugged = True
    assert "loop:// cannot be read: device disconnected" in button.look(5.0)
    adapter.unplugged = False
    assert "cannot be read" in button.look(5.0 + 0.5 * RETRY)  # not yet
    assert look(button, 5.1 + RETRY, 0.5) == ""
    button.close()


def test_dtr_and_dsr_serve_as_well():
    button = Button("loop://", "dtr-dsr")
    assert look(button, 0.0, 0.5) == ""
    button.close()


def test_what_is_no_adapter_is_an_open_circuit_or_refused():
    assert "cannot be read" in Button("/dev/there-is-none").look(0.0)
    with pytest.raises(ValueError, match="nonsense"):
        Button("nonsense://here")
    with pytest.raises(ValueError, match="expected rts-cts or dtr-dsr"):
        Button("loop://", "rts-dsr")
    master, slave = pty.openpty()  # a terminal without control lines
    try:
        button = Button(os.ttyname(slave))
        assert "cannot be read" in button.look(0.0)
        button.close()
    finally:
        os.close(master)
        os.close(slave)


def test_only_a_late_word_that_it_is_closed_counts_as_closed():
    circuits = StopCircuits(["button"])
    assert circuits.stops(0.0) == ""  # nothing moves before it was heard
    assert "no word yet of stop circuit button" in circuits.prevents(0.0)
    circuits.hear("button", 1.0, True)
    assert circuits.prevents(1.0 + 0.9 * SILENCE) == ""
    assert "no word of stop circuit button" in circuits.stops(1.0 + 1.1 * SILENCE)
    circuits.hear("button", 2.0, False, "pressed")
    assert circuits.stops(2.0) == circuits.prevents(2.0) == "emergency stop: circuit button is open: pressed"
    circuits.hear("button", 2.1, True)
    assert circuits.prevents(2.1) == ""
    assert circuits.states() == "button: closed"


def test_a_circuit_that_nobody_required_counts_once_it_was_heard():
    circuits = StopCircuits([], gone=lambda name: name != "driver")
    assert circuits.prevents(0.0) == ""
    circuits.hear("driver", 0.0, True)
    assert circuits.stops(PATIENCE) == ""  # its process lives, and only waits
    assert "driver" in circuits.stops(PATIENCE + 0.001)
    circuits.hear("driver", 1.0, False)
    assert "no reason is given" in circuits.stops(1.0)
    with pytest.raises(ValueError, match="name"):
        circuits.hear("", 1.0, True)


def test_at_the_end_of_the_stack_silence_is_no_emergency_and_a_press_still_is():
    circuits = StopCircuits(["button"])
    circuits.hear("button", 0.0, True)
    circuits.end()
    assert circuits.stops(10.0) == ""
    circuits.hear("button", 10.0, False, "pressed")
    assert "pressed" in circuits.stops(10.0)
