"""The page in a headless browser, its server, and a robot that only talks."""

import asyncio
import contextlib
import json
import time

import aiohttp
import numpy as np
import pytest

pytest.importorskip("bytemini_msgs.msg", reason="the workspace is not built: ./bytemini setup")
from browser import CHROMIUM, Page
from bytemini_core.executor import StreamExecutor
from bytemini_core.types import Mode
from bytemini_description.kinematics import Kinematics
from bytemini_panel.node import PATIENCE, PanelNode
from bytemini_panel.requests import Run
from PIL import Image as Picture
from rclpy.parameter import Parameter
from robot import Spinner, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install --no-install-recommends chromium"),
]


@pytest.fixture(scope="module")
def panel(robot, tmp_path_factory):
    assert robot.talking
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))

    class AnyPort(PanelNode):
        def declare_parameter(self, name, value=None, *rest, **more):
            self._parameter_overrides.setdefault("port", Parameter("port", value=0))
            self._parameter_overrides.setdefault("host", Parameter("host", value="127.0.0.1"))
            return super().declare_parameter(name, value, *rest, **more)

    node = AnyPort()
    spinner = Spinner(node, StreamExecutor())
    until(node._set_mode.service_is_ready)
    until(node._tasks.server_is_ready)
    yield node
    spinner.stop()
    node.destroy_node()
    patch.undo()


@pytest.fixture
def page(panel):
    tab = Page()
    tab.open(panel.server.url())
    tab.until("window.panel && panel.state && panel.cameras.length === 3 && panel.cameras.every(c => c.count > 2)", 40)
    yield tab
    assert tab.errors == []
    tab.close()


@pytest.fixture(autouse=True)
def calm(robot):
    robot.talking = robot.seeing = True
    robot.finish.clear()
    robot.request(Mode.HOLD)
    yield
    robot.finish.set()
    robot.request(Mode.HOLD)
    time.sleep(0.2)


def text(page, selector):
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def test_everything_is_live(page, tmp_path):
    assert text(page, "#mode-name") == "HOLD"
    page.until("document.querySelector('tr[data-node=wbc_controller]') !== null")
    assert "0.4 ms" in text(page, "tr[data-node=wbc_controller]")
    assert page.evaluate("document.body.classList.contains('lost')") is False
    page.until("panel.state.points.last.force_left_n.includes(5)")
    rates = page.evaluate("panel.state.topics")
    assert rates["joint_states"] > 10
    # The picture of the robot is one: many colours where the canvas is.
    box = page.evaluate("(b => [b.x, b.y, b.right, b.bottom])(document.querySelector('#pose').getBoundingClientRect())")
    page.screenshot(tmp_path / "page.png")
    pixels = np.asarray(Picture.open(tmp_path / "page.png").convert("L").crop([round(v) for v in box]))
    assert len(np.unique(pixels)) > 60
    assert np.std(pixels) > 8


def test_the_pose_is_the_robots(page, robot):
    kinematics = Kinematics(robot.robot)
    rng = np.random.default_rng(1)
    for _ in range(3):
        joints = rng.uniform(robot.robot.lower, robot.robot.upper)
        named = json.dumps(dict(zip(robot.robot.joint_names, joints.tolist(), strict=True)))
        base = [0.5, -0.3, 1.1]
        for frame in ("left_tcp", "right_tcp", "head_camera_optical_frame"):
            shown = page.evaluate(f"Array.from(panel.forward(panel.view.figure, {named}, {base})['{frame}'])")
            expected = kinematics.forward(frame, joints, np.array(base))
            np.testing.assert_allclose(np.array(shown).reshape(4, 4).T, expected, atol=1e-5)
    page.until(f"Math.abs(panel.view.base[0] - {robot.base[0]}) < 1e-6")


def test_a_task_from_the_words_to_its_end(page, robot):
    page.write("#instruction", "put the apple into the basket")
    page.write("#limit", "30")
    page.click("#go")
    page.until("document.querySelector('#task-status').textContent === 'ONGOING'")
    page.until("document.querySelector('#task-numbers').textContent.includes('25 % done')")
    assert robot.tasks[-1] == ("put the apple into the basket", 30.0)
    assert page.evaluate("document.querySelector('#bar').value") == pytest.approx(0.25)
    robot.finish.set()
    page.until("document.querySelector('#task-status').textContent === 'TERMINATED'")
    assert "the policy says so" in text(page, "#task-text")


def test_a_task_can_be_cancelled_and_refused(page, robot):
    page.write("#instruction", "put the apple into the basket")
    page.click("#go")
    page.until("!document.querySelector('#cancel').disabled")
    page.click("#cancel")
    page.until("document.querySelector('#task-status').textContent === 'PREEMPTED'")
    page.write("#instruction", "ride the unicorn")
    page.click("#go")
    page.until("document.querySelector('#note').textContent.includes('refuses this task')")
    count = len(robot.tasks)
    page.write("#instruction", " ")
    page.click("#go")
    page.until("document.querySelector('#note').textContent.includes('instruction is empty')")
    assert len(robot.tasks) == count


def test_a_task_that_is_taken_after_its_time_is_taken_back(panel, robot):
    answers = []
    robot.slow = PATIENCE + 1.0
    panel.request(Run("slow down"), lambda *answer: answers.append(answer))
    until(lambda: answers)
    assert answers == [(False, "the policy does not answer")]
    until(lambda: "slow down" in robot.cancelled)
    robot.slow = 0.0


def test_one_press_stops_and_only_a_confirmed_reset_releases(page, robot):
    robot.stops.clear()
    robot.request(Mode.POLICY)
    page.until("document.querySelector('#mode-name').textContent === 'POLICY'")
    page.click("#estop")
    until(lambda: robot.modes.mode is Mode.ESTOP, 5)
    page.until("document.querySelector('#mode-name').textContent === 'STOPPED'")
    assert robot.stops[0] is True
    assert page.evaluate("document.querySelector('#go').disabled")
    page.click("#hold")
    page.until("document.querySelector('#note').textContent.includes('latched')")
    assert robot.modes.mode is Mode.ESTOP
    page.click("#reset")
    page.until("document.querySelector('#sure').open")
    page.click("#sure button[value=no]")
    time.sleep(0.5)
    assert robot.modes.mode is Mode.ESTOP
    page.click("#reset")
    page.until("document.querySelector('#sure').open")
    page.click("#reset-yes")
    until(lambda: robot.modes.mode is Mode.HOLD, 5)
    assert robot.stops[-1] is False  # the latched topic does not stop a controller that starts later
    page.until("document.querySelector('#mode-name').textContent === 'HOLD' && !document.querySelector('#go').disabled")
    assert "Find out who pressed it" in text(page, "#fault-list")


def test_what_is_old_says_so(page, robot):
    robot.seeing = False
    page.until("document.querySelectorAll('figure.stale').length === 3")
    assert "no new picture for" in text(page, "figure.stale .old")
    robot.seeing = True
    page.until("document.querySelectorAll('figure.stale').length === 0")
    robot.request(Mode.POLICY)
    page.until("document.querySelector('#mode-name').textContent === 'POLICY'")
    robot.talking = False
    page.until("document.querySelector('#mode-reason').textContent.includes('was POLICY')")
    assert text(page, "#mode-name") == "–"
    page.until("panel.state.topics.joint_states === 0")


def test_words_of_nodes_are_words_and_never_markup(page, robot):
    bad = "<img src=x onerror=alert(1)>"
    robot.health.append((bad, 2, bad, {bad: bad}))
    page.until("document.querySelector('#fault-list').textContent.includes('onerror')")
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    robot.health.pop()


def test_on_a_phone_nothing_is_cut_off_and_stop_is_at_hand(panel, robot):
    tab = Page(390, 844, phone=True)
    try:
        tab.open(panel.server.url())
        tab.until("window.panel && panel.state && panel.cameras.length === 3", 40)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        for y in (0, 2000):
            tab.evaluate(f"window.scrollTo(0, {y})")
            top, bottom, width = tab.evaluate(
                "(b => [b.top, b.bottom, b.width])(document.querySelector('#estop').getBoundingClientRect())"
            )
            assert top > 0
            assert bottom <= 844
            assert bottom - top >= 60
            assert width > 300
        robot.stops.clear()
        spot = {"x": 195, "y": (top + bottom) / 2}
        tab.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[spot])
        tab.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        until(lambda: True in robot.stops, 5)
        assert tab.errors == []
    finally:
        tab.close()


def test_without_the_token_nothing_is_shown_or_done(panel, robot):
    robot.stops.clear()
    port = panel.server.port

    async def attempt():
        async with aiohttp.ClientSession() as session:
            for token in ("", "wrong", panel.server.token[:-1]):
                for method, path in (("post", "estop"), ("get", "state")):
                    request = getattr(session, method)
                    headers = {"Authorization": f"Bearer {token}"}
                    async with request(f"https://127.0.0.1:{port}/api/{path}", ssl=False, headers=headers) as answer:
                        assert answer.status == 401
                async with session.ws_connect(f"wss://127.0.0.1:{port}/ws?token={token}", ssl=False) as socket:
                    with contextlib.suppress(ConnectionError):  # it may be closed already
                        await socket.send_str('{"type": "estop"}')
                    assert (await socket.receive_json())["type"] == "refused"
                    assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE

    asyncio.run(attempt())
    tab = Page()
    try:
        tab.open(f"https://127.0.0.1:{port}/#token=wrong")
        tab.until("document.querySelector('#link').textContent === 'wrong token'")
        assert "token" in text(tab, "#note")
        assert tab.evaluate("document.querySelectorAll('figure').length") == 0
    finally:
        tab.close()
    time.sleep(0.3)
    assert robot.stops == []


def test_what_is_no_request_is_refused_and_nothing_moves(panel, robot):
    robot.stops.clear()
    tasks, mode = len(robot.tasks), robot.modes.mode
    bad = [
        "",
        "[]",
        "{}",
        '{"type": "reset", "id": 5}',
        '{"type": "run", "id": 5, "instruction": ""}',
        "\x00",
        "9" * 3000,
    ]

    async def attempt():
        async with aiohttp.ClientSession() as session:
            url = f"wss://127.0.0.1:{panel.server.port}/ws?token={panel.server.token}"
            async with session.ws_connect(url, ssl=False) as socket:
                for message in bad:
                    await socket.send_str(message)
                await socket.send_bytes(b"\x00\xff")
                answers = []
                while len(answers) < len(bad) + 1:
                    received = await socket.receive(timeout=10)
                    if received.type == aiohttp.WSMsgType.TEXT and (told := received.json())["type"] == "answer":
                        answers.append(told)
                await socket.send_str("9" * 10_000)  # more than is ever read
                while (await socket.receive(timeout=10)).type not in (
                    aiohttp.WSMsgType.CLOSE,
                    aiohttp.WSMsgType.CLOSED,
                ):
                    pass
                return answers

    answers = asyncio.run(attempt())
    assert all(not answer["ok"] and answer["text"] for answer in answers)
    time.sleep(0.3)
    assert (robot.stops, len(robot.tasks), robot.modes.mode) == ([], tasks, mode)


def test_a_page_whose_server_is_gone_says_so_and_comes_back(panel):
    tab = Page()
    try:
        tab.open(panel.server.url())
        tab.until("window.panel && panel.state !== null && !document.body.classList.contains('lost')", 40)
        tab.call("Network.enable")
        offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        for client in list(panel._watchers):
            client.close(4004, "gone")
        tab.call("Network.emulateNetworkConditions", offline=True, **offline)
        tab.until("document.body.classList.contains('lost')")
        tab.click("#estop")
        tab.until("document.querySelector('#note').textContent.includes('hardware stop')")
        tab.call("Network.emulateNetworkConditions", offline=False, **offline)
        tab.until("!document.body.classList.contains('lost')", 30)
    finally:
        tab.close()
