"""The page in a real browser, with an emulated headset, against the real server and a robot that obeys at once."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from .operating import TOKEN, Operator, Served, refused, until
from .wire import Wire

pytestmark = pytest.mark.e2e
EYES = {"width": 480, "height": 240}
DESK = {"width": 640, "height": 480}
"""px; small, since what it draws is computed on the processor that the headset's eyes also need."""


@pytest.fixture(scope="module")
def served(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    assert chromium.is_connected()  # no server where there is no browser
    command = ["-m", "teleop_vr.demo", "--host", "127.0.0.1", "--port", "{port}", "--token", TOKEN]
    server = Served(command, tmp_path_factory.mktemp("server") / "log.txt")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def wire(served: Served) -> Iterator[Wire]:
    link = Wire(served.port)
    yield link
    link.close()


@pytest.fixture
def address(wire: Wire) -> str:
    return f"https://localhost:{wire.port}/"


@pytest.fixture
def operator(open_page, served: Served, address: str) -> Iterator[Operator]:
    """Someone in the headset, ready to drive."""
    person = Operator(open_page(f"{address}#token={TOKEN}", headset=True), served)
    person.enter()
    yield person
    person.page.close()
    until(lambda: not served.state()["operator"], 8, "the robot is free again")


@pytest.fixture
def desk(open_page, address: str) -> Callable[..., Page]:
    def opened(**how) -> Page:
        return open_page(f"{address}#token={TOKEN}", size=how.pop("size", DESK), **how)

    return opened


def test_the_desk_sees_robot_and_cameras(desk, address: str) -> None:
    asked: list[str] = []
    page = desk(before=lambda p: p.on("request", lambda request: asked.append(request.url)))
    page.wait_for_selector("#link:text('Connected')")
    page.wait_for_selector("#headline-text:text('No headset')")
    page.wait_for_selector("#estop:enabled")
    drawn = "() => [...document.querySelectorAll('figure canvas')].filter(c => c.width > 200).length === 3"
    page.wait_for_function(drawn)
    assert page.locator("figcaption").all_inner_texts() == ["Head", "Left wrist", "Right wrist"]
    assert page.locator("#mapping tr").count() > 10
    assert TOKEN not in page.url
    assert all(url.startswith((address, "blob:", "data:")) for url in asked), "something came from elsewhere"


def test_the_desk_shows_the_scene_card(desk) -> None:
    page = desk()
    page.wait_for_selector("#scene-steps li:text('Place the apple')")
    assert page.locator("#scene-steps li").last.inner_text() == "Then: put the apple into the bowl."
    page.wait_for_function("() => document.querySelector('#scene-picture').naturalWidth >= 480")


def test_the_page_fits_a_phone(desk) -> None:
    page = desk(size={"width": 360, "height": 740})
    page.wait_for_selector("#link:text('Connected')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_wrong_token_is_asked_for_again(open_page, address: str) -> None:
    page = open_page(f"{address}#token=guess")
    page.wait_for_selector("#pairing[open]")
    page.wait_for_selector("#link:text('Refused')")
    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    page.wait_for_selector("#link:text('Connected')")


def test_hand_gripper_base_lift_and_head_follow(operator: Operator) -> None:
    lift = operator.served.state()["lift"]
    assert any(operator.leads("right", by) for by in (0.08, -0.08, 0.08, -0.08)), "the arm never follows"
    assert operator.served.state()["hands"]["left"]["ghost"] is None
    operator.engage("right")
    operator.reads("#headline-text", "Right hand moves")

    operator.grip("right", 1.0)
    operator.press("right", "trigger", 0.6)
    operator.until(lambda s: abs((s["hands"]["right"]["gripper"] or 0.0) - 0.6) < 0.05, "the gripper opens a little")

    def head_turns() -> bool:
        operator.let_go("right")
        operator.pose("head", [0.0, 1.6, 0.0], [0.0, 0.0, 0.0, 1.0])
        operator.engage("right")
        before = operator.served.state()["head"][0]
        operator.pose("head", [0.0, 1.6, 0.0], [0.0, 0.1494, 0.0, 0.9888])  # 0.3 rad to the left
        operator.page.wait_for_timeout(800)
        return abs(operator.served.state()["head"][0] - before - 0.3) < 0.05

    assert any(head_turns() for _ in range(4)), "the head does not turn with the headset"
    operator.pose("head", [0.0, 1.6, 0.0], [0.0, 0.0, 0.0, 1.0])

    operator.act("stick", "left", 0, -1)
    operator.until(lambda s: s["base"]["twist"][0] > 0.1, "the base drives ahead")
    operator.act("stick", "left", 0, 0)
    operator.until(lambda s: abs(s["base"]["twist"][0]) < 0.01, "the base stops")
    operator.act("stick", "right", -1, 0)
    operator.until(lambda s: s["base"]["twist"][2] > 0.1, "the base turns left")
    operator.act("stick", "right", 0, -1)
    operator.until(lambda s: s["lift"] > lift + 0.02, "the lift rises")
    operator.act("stick", "right", 0, 0)
    operator.let_go("right")
    assert operator.page.evaluate("quest.pulses.map(p => p.hand)").count("right") >= 2  # engaged, let go


def test_both_eyes_see_the_camera(operator: Operator) -> None:
    def both_see() -> bool:
        view = np.asarray(Image.open(io.BytesIO(operator.page.screenshot())).convert("RGB"), dtype=int)
        yellow = (view[..., 0] > 180) & (view[..., 1] > 140) & (view[..., 2] < 90)
        middle = EYES["width"] // 2
        return min(yellow[:, :middle].sum(), yellow[:, middle:].sum()) > 20

    until(both_see, 30, "both eyes see the camera's yellow disc")


def test_episodes_from_headset_and_desk(operator: Operator, desk) -> None:
    first = operator.served.state()["episode"]["index"]
    operator.act("tap", "right", "a-button")
    operator.until(lambda s: s["episode"]["state"] == "COUNTDOWN", "counts down")
    operator.until(lambda s: s["episode"]["state"] == "RECORDING", "records")
    operator.act("tap", "right", "a-button")
    operator.until(lambda s: (s["prompt"] or {}).get("kind") == "save", "asks before saving")
    operator.act("tap", "right", "a-button")
    operator.until(lambda s: s["episode"]["state"] == "SAVED", "saved")

    page = desk()
    page.click("#start:enabled")
    page.wait_for_selector("#discard:enabled")
    page.click("#discard")
    page.wait_for_selector("#prompt:visible >> text=Keep it")
    page.click("#cancel")
    page.wait_for_selector("#prompt", state="hidden")
    assert operator.served.state()["episode"]["state"] in ("COUNTDOWN", "RECORDING")
    operator.act("tap", "left", "x-button")  # the second person asks back, the first confirms
    operator.until(lambda s: (s["prompt"] or {}).get("kind") == "discard", "asks before discarding")
    page.wait_for_selector("#prompt:visible")
    page.click("#confirm")
    operator.until(lambda s: s["episode"]["state"] == "DISCARDED", "discarded")
    assert operator.served.state()["episode"]["index"] == first + 2


@pytest.mark.parametrize("way", ["both clicks", "gesture", "desk"])
def test_stop_latches_until_reset(operator: Operator, desk, way: str) -> None:
    operator.engage("left")
    page = desk()
    if way == "both clicks":
        for hand in ("left", "right"):
            operator.press(hand, "thumbstick")
    elif way == "gesture":
        for button in ("squeeze", "trigger", "a-button"):
            operator.press("right", button)
    else:
        page.click("#estop")
    operator.until(lambda s: s["session"] == "estop" and not s["hands"]["left"]["engaged"], "everything stops", 3)
    operator.act("rest")
    page.wait_for_selector("#headline-text:text('Emergency stop')")
    operator.press("left", "squeeze")
    operator.page.wait_for_timeout(400)
    assert not operator.served.state()["hands"]["left"]["engaged"]
    operator.press("left", "squeeze", 0)
    page.click("#reset")
    page.click("#reset-no")
    assert operator.served.state()["session"] == "estop"
    page.click("#reset")
    page.click("#reset-yes")
    operator.until(lambda s: s["session"] == "ready", "ready again")
    operator.engage("left")


def test_a_hand_out_of_sight_lets_go_and_asks_for_a_fresh_grip(operator: Operator) -> None:
    operator.engage("right")
    operator.page.evaluate("quest.seen.right = false")
    operator.until(lambda s: not s["hands"]["right"]["engaged"], "lets go", 2)
    operator.reads("#warnings", "Right hand is not seen")
    operator.place("right", [0.6, 1.3, -0.2])  # it comes back elsewhere
    operator.page.evaluate("quest.seen.right = true")
    operator.until(lambda s: s["hands"]["right"]["tracked"], "seen again")
    operator.page.wait_for_timeout(400)
    assert not operator.served.state()["hands"]["right"]["engaged"], "a grip that was never opened engaged again"
    operator.let_go("right")
    operator.engage("right")


BREAKS = {
    "menu": ("quest.device.updateVisibilityState('visible-blurred')", "quest.device.updateVisibilityState('visible')"),
    "recentre": ("quest.device.recenter()", "0"),
    "hands": ("quest.device.primaryInputMode = 'hand'", "quest.device.primaryInputMode = 'controller'"),
    "controller off": (
        "quest.device.controllers.right.connected = false",
        "quest.device.controllers.right.connected = true",
    ),
}


@pytest.mark.parametrize("event", BREAKS)
def test_what_breaks_the_poses_lets_go(operator: Operator, event: str) -> None:
    happens, is_over = BREAKS[event]
    operator.engage("right")
    operator.page.evaluate(happens)
    operator.until(lambda s: not s["hands"]["right"]["engaged"], f"lets go on {event}", 2)
    if event == "menu":
        operator.reads("#warnings", "menu is open")
    operator.page.evaluate(is_over)
    operator.page.wait_for_timeout(500)
    assert not operator.served.state()["hands"]["right"]["engaged"]
    operator.let_go("right")
    operator.until(lambda s: s["session"] == "ready" and s["sticks"]["neutral"], "ready again")
    operator.engage("right")


def test_bare_hands_drive(operator: Operator) -> None:
    operator.page.evaluate("quest.device.primaryInputMode = 'hand'")
    operator.until(lambda s: s["hands"]["right"]["tracked"] and s["session"] == "ready", "hands are seen")
    operator.page.wait_for_function("() => quest.session.inputSources[0].hand !== null")
    operator.page.wait_for_timeout(300)

    def answer(hand) -> bool:
        return hand["engaged"] or refused(hand)

    def grips() -> bool:
        operator.page.evaluate("quest.fists.right = 0")
        operator.until(lambda s: not s["hands"]["right"]["engaged"], "an open hand lets go")
        operator.page.evaluate("quest.fists.right = 1")
        answered = operator.until(lambda s: answer(s["hands"]["right"]), "a fist is answered")
        if not answered["hands"]["right"]["engaged"]:
            seen.append(answered["hands"]["right"])
            return False
        for pinch in (1, 0, 1):  # sweeps through wherever the gripper is
            operator.page.evaluate(f"quest.device.hands.right.updatePinchValue({pinch})")
            operator.page.wait_for_timeout(500)
        seen.append(operator.served.state()["hands"]["right"])
        return (seen[-1]["gripper"] or 0.0) > 0.8

    seen: list[dict] = []
    assert any(grips() for _ in range(6)), f"a pinch does not close the gripper: {seen}"
    operator.page.evaluate("quest.fists.right = 0")
    operator.until(lambda s: not s["hands"]["right"]["engaged"], "an open hand lets go")


def test_passthrough(open_page, served: Served, address: str) -> None:
    person = Operator(open_page(f"{address}#token={TOKEN}", headset=True), served)
    person.enter("#enter-ar")
    assert person.page.evaluate("quest.session.environmentBlendMode") != "opaque"
    person.page.evaluate("quest.session.end()")
    person.until(lambda s: not s["operator"], "leaving gives the robot up")
    person.page.wait_for_selector("#enter-vr:enabled")


def test_a_cut_connection_holds_and_comes_back(operator: Operator, wire: Wire) -> None:
    operator.engage("right")
    wire.cut()
    operator.until(lambda s: not s["hands"]["right"]["engaged"], "lets go", 2)
    operator.until(lambda s: s["session"] == "ready" and s["operator"], "connected again", 6)
    operator.page.wait_for_timeout(300)
    assert not operator.served.state()["hands"]["right"]["engaged"], "engaged again without a fresh grip"
    operator.let_go("right")
    operator.engage("right")


def test_a_stalled_connection_holds_and_the_page_says_so(operator: Operator, wire: Wire) -> None:
    operator.engage("right")
    wire.stalled.set()
    operator.reads("#headline-text", "Robot silent")
    operator.until(lambda s: not s["hands"]["right"]["engaged"], "lets go", 2)
    operator.act("move", "right", [0.3, 0.2, 0.0], 200)
    wire.stalled.clear()
    operator.until(lambda s: s["session"] == "ready", "frames come again", 6)
    assert not operator.served.state()["hands"]["right"]["engaged"]
    operator.let_go("right")
    operator.engage("right")


def test_a_second_headset_only_watches_until_the_first_leaves(
    operator: Operator, open_page, served: Served, address: str
) -> None:
    other = open_page(f"{address}#token={TOKEN}", headset=True)
    other.wait_for_selector("#enter-vr:enabled")
    other.click("#enter-vr")
    Operator(other, served).reads("#warnings", "you only watch")
    operator.engage("right")
    before = served.state()["counters"]["rejected"].get("observer", 0)
    other.evaluate("quest.press('left', 'squeeze', 1)")
    other.wait_for_timeout(500)
    state = served.state()
    assert state["hands"]["right"]["engaged"]
    assert not state["hands"]["left"]["engaged"]
    assert state["counters"]["rejected"].get("observer", 0) == before, "a watching page sends frames"
    operator.page.evaluate("quest.session.end()")
    other.evaluate("quest.press('left', 'squeeze', 0)")
    Operator(other, served).reads("#role", "You drive", 10)
    other.close()


def test_pictures_flow_and_their_way_is_timed(operator: Operator) -> None:
    state = operator.until(lambda s: s["latency"]["rtt_ms"] is not None, "the round trip is known")
    assert state["counters"]["frames"] > 10
    page = operator.page
    page.wait_for_function("() => /[0-9] ms/.test(document.getElementById('trip').textContent)")
    page.wait_for_function("() => document.querySelectorAll('#video dd').length === 3")
    page.wait_for_function("() => /[0-9] ms/.test(document.querySelector('#video dd').textContent)")


def test_the_doctor_examines(desk) -> None:
    page = desk()
    page.wait_for_selector("#link:text('Connected')")
    page.click("a:text('Doctor')")
    page.wait_for_selector("#again:visible", timeout=20_000)
    checks = {
        item.locator(".name").inner_text(): (item.get_attribute("data-tone"), item.locator(".fix").inner_text())
        for item in page.locator(".checks li").all()
    }
    for name in ("Secure page", "Socket", "Lost", "Pictures"):
        assert checks[name][0] == "ok", f"{name}: {checks[name]}"
    assert {"Certificate", "Round trip", "Jitter", "Frame rate of this page", "Robot is heard"} <= checks.keys()
    assert all(fix for tone, fix in checks.values() if tone in ("warn", "danger")), "something fails without a cure"


def test_a_killed_server_comes_back(operator: Operator) -> None:
    operator.engage("right")
    operator.served.kill()
    operator.reads("#headline-text", "Not connected")
    operator.page.wait_for_selector("#start:disabled")
    operator.served.start()
    operator.until(lambda s: s["session"] == "ready" and s["operator"], "connected again", 15)
    assert not operator.served.state()["hands"]["right"]["engaged"]
    operator.let_go("right")
    operator.engage("right")
