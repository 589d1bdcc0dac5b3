from pathlib import Path

from wbc_controller.latch import Latch, latch_file


def test_latched_until_released_whoever_asks(tmp_path) -> None:
    path = tmp_path / "state" / "estop"
    assert not Latch(path).closed
    Latch(path).close("the button")
    assert Latch(path).closed  # another process, after a restart
    assert path.read_text() == "the button\n"
    Latch(path).open()
    Latch(path).open()
    assert not Latch(path).closed


def test_robots_have_latches_of_their_own(monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    files = {latch_file(*where) for where in (("", "/"), ("7", "/"), ("7", "/left"), ("7", "/left/arm"))}
    assert len(files) == 4
    assert latch_file("", "") == Path("/state/bytemini/estop-0")
