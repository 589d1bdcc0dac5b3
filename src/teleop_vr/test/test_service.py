"""The service over TLS: two pages, pictures, a lost socket, a killed server, a doctor."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from bytemini_core.types import Mode
from bytemini_core.web import certificate
from bytemini_description.robot import load_robot
from teleop_vr.demo import IdealRobot, drawing
from teleop_vr.protocol import PICTURE, PICTURE_MAGIC
from teleop_vr.retarget import RetargetConfig
from teleop_vr.service import Service
from teleop_vr.video import IN_FLIGHT, Video

from teleop_vr import inputs


@pytest.fixture
def service(tmp_path: Path, wire):
    model = load_robot("v1")
    robot, ended = IdealRobot(model), threading.Event()
    tls = certificate(tmp_path / "tls")
    service = Service(
        model,
        robot,
        RetargetConfig(),
        port=0,
        token=wire.token,
        tls=tls,
        host="127.0.0.1",
        journal=tmp_path / "run.jsonl.gz",
    )
    service.start()
    thread = threading.Thread(target=robot.run, args=(service, ended), daemon=True)
    thread.start()
    yield service, robot, tmp_path / "run.jsonl.gz"
    ended.set()
    thread.join()
    service.stop()


def at(service: Service) -> tuple[Path, int]:
    return service.server.tls.chain, service.server.port


def test_a_page_engages_moves_and_loses_its_socket(service, wire):
    service, robot, journal = service

    async def script(page):
        await wire.engage(page)
        before = robot._position.copy()
        page.headset.left.pose[2] += 0.03
        await page.until(lambda: np.abs(robot._position - before).max() > 0.02)
        assert page.state["echo"]["sequence"] > 0
        assert page.state["latency"]["rtt_ms"] is not None
        await page.socket.close()

    wire.pages(*at(service), script)
    deadline = time.monotonic() + 5.0
    while robot._controller.mode is not Mode.HOLD and time.monotonic() < deadline:
        time.sleep(0.01)
    assert robot._controller.mode is Mode.HOLD

    async def again(page):
        assert page.role == "operator"
        await wire.engage(page)  # connecting anew is a fresh act, and works
        seen = page.headset.sequence + 20
        await page.until(lambda: page.state["echo"]["sequence"] >= seen)

    wire.pages(*at(service), again)
    service.stop()
    from teleop_vr.journal import replay

    found = replay(journal)
    assert found.different is None, found
    assert found.references > 5, found


def test_a_second_page_watches_until_the_first_lets_go(service, wire):
    service, robot, _ = service

    async def script(first, second):
        assert [first.role, second.role] == ["operator", "observer"]
        await wire.engage(first)
        await second.until(second.engaged, frames=False)
        await second.socket.send(second.headset.frame(0.01))
        await second.say(type="command", id=7, command="estop")
        await second.until(lambda: second.state["session"] == "estop", frames=False)
        assert robot._controller.mode is Mode.ESTOP
        await first.say(type="command", id=8, command="reset", confirmed=True)
        await first.until(lambda: first.state["session"] != "estop")
        await first.say(type="release")
        await first.until(lambda: first.state["role"] == "observer", frames=False)
        await second.say(type="claim")
        await second.until(lambda: second.state["role"] == "operator", frames=False)

    wire.pages(*at(service), script, ("operator", "operator"))


def test_an_episode_is_started_and_saved_from_the_desk(service, wire):
    service, _, _ = service

    async def script(desk):
        def episode(state):
            return lambda: desk.state.get("episode", {}).get("state") == state

        await desk.until(episode("IDLE"), frames=False)
        await desk.say(type="command", id=1, command="start")
        await desk.until(episode("RECORDING"), frames=False)
        await desk.say(type="command", id=2, command="save")
        await desk.until(lambda: desk.state["prompt"] is not None, frames=False)
        await desk.say(type="command", id=3, command="confirm")
        await desk.until(episode("SAVED"), frames=False)
        return [m["ok"] for m in desk.messages if m["type"] == "result"]

    assert wire.pages(*at(service), script, ("observer",)) == [True, True, True]


def test_pictures_come_with_their_latency(service, wire):
    service, _, _ = service

    async def script(page):
        for number in range(10):
            service.see("head", drawing("head", number))
            await page.until(lambda n=number: len(page.pictures) > n, frames=False)
        await page.until(lambda: "head" in page.state.get("latency", {}).get("video_ms", {}), frames=False)
        return page

    page = wire.pages(*at(service), script, ("observer",))
    head, jpeg = page.pictures[-1]
    assert head[:3] == (PICTURE_MAGIC, 0, 0)
    assert (head[5], head[6]) == (224, 224)
    assert jpeg[:2] == b"\xff\xd8"
    assert 0.0 < page.state["latency"]["video_ms"]["head"] < 5000.0


def test_a_stopped_server_says_so(service, wire):
    service, robot, _ = service

    async def script(page):
        await wire.engage(page)
        stopping = asyncio.get_running_loop().run_in_executor(None, service.stop)
        await page.until(lambda: page.code is not None, frames=False)
        await stopping
        return page.code, [m for m in page.messages if m["type"] == "refused"]

    code, refused = wire.pages(*at(service), script)
    assert code == 4004
    assert refused[0]["fix"]
    time.sleep(0.1)
    assert robot._controller.mode is Mode.HOLD


def test_the_doctor_says_what_to_do(service, wire):
    service, _, _ = service
    import aiohttp

    async def script(_):
        trust = ssl.create_default_context(cafile=str(service.server.tls.chain))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
            base = f"https://localhost:{service.server.port}"
            async with session.get(f"{base}/api/doctor") as refused:
                assert refused.status == 401
            async with session.get(f"{base}/api/doctor?token={wire.token}") as answer:
                return await answer.json()

    doctor = wire.pages(*at(service), script, ("observer",))
    assert doctor["tls"]["host_covered"]
    by_name = {check["name"]: check for check in doctor["checks"]}
    assert by_name["certificate names this host"]["ok"]
    assert not by_name["cameras send pictures"]["ok"]
    assert "camera/" in by_name["cameras send pictures"]["fix"]


class _Client:
    """A client whose outbox can be looked at."""

    number = 1

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def offer(self, _: str, message: bytes) -> None:
        self.sent.append(message)


def test_no_queue_of_pictures_grows_where_nobody_answers():
    video, client = Video(("head",)), _Client()
    video.start()
    try:
        video.watch(client)
        for number in range(50):
            video.offer(0, drawing("head", number, 32), time.monotonic())
            time.sleep(0.005)
        assert len(client.sent) <= IN_FLIGHT
        last = PICTURE.unpack_from(client.sent[-1])[4]
        video.shown(client, 0, last, None)
        deadline = time.monotonic() + 2.0
        while len(client.sent) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert PICTURE.unpack_from(client.sent[-1])[4] == 50  # the newest, not the next
        assert video.latency(1)["head"] > 0.0
    finally:
        video.stop()


def test_a_slow_link_gets_smaller_pictures():
    now = [0.0]
    video, client = Video(("head",), clock=lambda: now[0]), _Client()
    video.watch(client)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    sizes = []
    for number in range(1, 60):
        video.offer(0, noise, now[0])
        for viewer, camera, shot in video._due():
            from teleop_vr.video import QUALITIES, encode

            sizes.append(len(encode(shot.image, QUALITIES[viewer.quality])))
            now[0] += 0.3 if number < 40 else 0.02
            video.shown(client, camera, shot.sequence, None)
        now[0] += 0.1
    assert min(sizes) < 0.6 * sizes[0]
    assert sizes[-1] > min(sizes)


def test_nothing_heard_of_a_client_that_was_never_opened(service):
    service, _, _ = service
    service.hear(inputs.Binary(99, b"x"))
    service.hear(inputs.Text(99, "{}"))
    service.hear(inputs.Closed(99))
