"""The command that people use: simulator, controller and page over ROS, driven from a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bytemini_core.domain import private_domain
from bytemini_core.web import pairing_token
from playwright.sync_api import Browser

from .operating import Operator, Served

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def served(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    assert chromium.is_connected()
    folder = tmp_path_factory.mktemp("stack")
    apart = {"XDG_CONFIG_HOME": str(folder)}
    token = pairing_token(folder / "bytemini" / "web")
    command = ["-P", "-m", "bytemini_core.cli", "teleop", "--teleop-port", "{port}", "--out", str(folder / "logs")]
    with private_domain():
        server = Served(command, folder / "log.txt", token, **apart)
        recorder = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("recorder_double.py"))], env={**os.environ, **apart}
        )
        try:
            server.start(within=90)
            yield server
        finally:
            server.stop()
            recorder.kill()
            recorder.wait(timeout=10)


def test_the_whole_stack_follows_records_and_stops(open_page, served: Served) -> None:
    operator = Operator(open_page(served.address, headset=True), served)
    operator.enter()
    operator.until(lambda s: s["mode"] != "ESTOP" and not any(w["code"] == "robot" for w in s["warnings"]), "robot", 30)
    assert any(operator.leads("right", by) for by in (0.06, -0.06, 0.06, -0.06)), "the arm never follows"
    operator.let_go("right")
    operator.until(lambda s: s["latency"]["rtt_ms"] is not None, "the round trip is measured")

    operator.act("tap", "right", "a-button")
    operator.until(lambda s: s["episode"]["state"] == "RECORDING", "records")
    operator.reads("#task", "Fold the towel")
    operator.act("tap", "right", "a-button")
    operator.until(lambda s: s["prompt"], "asks before saving")
    operator.act("tap", "right", "a-button")
    operator.until(lambda s: s["episode"]["state"] == "SAVED" and s["episode"]["saved"] == 1, "saved")
    operator.act("tap", "right", "a-button")
    operator.until(lambda s: s["episode"]["state"] == "RECORDING", "records again")
    operator.act("tap", "left", "x-button")
    operator.until(lambda s: s["prompt"], "asks before discarding")
    operator.act("tap", "left", "x-button")
    operator.until(lambda s: s["episode"]["state"] == "DISCARDED", "discarded")

    operator.engage("left")
    desk = open_page(served.address)
    desk.click("#estop:enabled")
    operator.until(lambda s: s["mode"] == "ESTOP" and not s["hands"]["left"]["engaged"], "the controller stops", 4)
    operator.let_go("left")
    desk.click("#reset")
    desk.click("#reset-yes")
    operator.until(lambda s: s["session"] == "ready" and s["mode"] == "HOLD", "holds, ready")
