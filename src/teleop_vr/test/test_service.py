"""The service over TLS: two pages, pictures, a lost socket, a killed server, a doctor."""

from __future__ import annotations

import asyncio
import contextlib
import json
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
from teleop_vr.simulated import SimulatedHeadset
from teleop_vr.video import IN_FLIGHT, Video
from websockets.asyncio.client import ClientConnection, connect

from teleop_vr import inputs

TOKEN = "the-token-of-the-test"


@pytest.fixture
def service(tmp_path: Path):
    model = load_robot("v1")
    robot, ended = IdealRobot(model), threading.Event()
    tls = certificate(tmp_path / "tls")
    service = Service(
        model,
        robot,
        RetargetConfig(),
        port=0,
        token=TOKEN,
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


class Page:
    """A page as far as the wire goes: answers pictures, keeps the newest state, sends frames."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.headset = socket, SimulatedHeadset()
        self.state: dict = {}
        self.at = 0.0
        self.messages: list[dict] = []
        self.pictures: list[tuple] = []
        self.code: int | None = None

    async def listen(self) -> None:
        with contextlib.suppress(Exception):
            async for message in self.socket:
                if isinstance(message, bytes):
                    head = PICTURE.unpack_from(message)
                    self.pictures.append((head, message[PICTURE.size :]))
                    await self.say(type="shown", camera=head[1], sequence=head[4], held_ms=1.0)
                    continue
                said = json.loads(message)
                if said["type"] == "state":
                    self.state, self.at = said, time.monotonic()
                else:
                    self.messages.append(said)
        self.code = self.socket.close_code

    async def say(self, **message) -> None:
        await self.socket.send(json.dumps(message))

    async def until(self, condition, seconds: float = 10.0, frames: bool = True) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.state, self.messages)
            if frames:
                self.headset.echo = self.state.get("t", 0.0)
                self.headset.held = time.monotonic() - self.at if self.at else 0.0
                await self.socket.send(self.headset.frame(1 / 72))
            await asyncio.sleep(1 / 72)

    def engaged(self, side: str = "left") -> bool:
        return bool(self.state.get("hands", {}).get(side, {}).get("engaged"))


def pages(service: Service, script, wants: tuple[str, ...] = ("operator",)):
    async def run():
        trust = ssl.create_default_context(cafile=str(service.server.tls.chain))
        url = f"wss://localhost:{service.server.port}/ws?token={TOKEN}"
        async with contextlib.AsyncExitStack() as stack:
            opened, listening = [], []
            for i, want in enumerate(wants):
                page = Page(await stack.enter_async_context(connect(url, ssl=trust, compression=None)))
                listening.append(asyncio.create_task(page.listen()))
                await page.say(type="hello", protocol=1, client=f"page {i}", want=want)
                await page.until(lambda p=page: any(m["type"] == "welcome" for m in p.messages), frames=False)
                opened.append(page)
            try:
                return await asyncio.wait_for(script(*opened), 40)
            finally:
                for task in listening:
                    task.cancel()

    return asyncio.run(run())


async def engage(page: Page) -> None:
    await page.until(lambda: page.state.get("session") == "ready")
    for _ in range(5):
        page.headset.left.squeeze = 0.0
        await page.until(lambda: page.state["sticks"]["neutral"])
        page.headset.left.squeeze = 1.0
        with contextlib.suppress(AssertionError):
            await page.until(page.engaged, 2.0)
            return
        page.headset.left.squeeze = 0.0
        await asyncio.sleep(0.1)
    raise AssertionError(page.state)


def test_a_page_engages_moves_and_loses_its_socket(service):
    service, robot, journal = service

    async def script(page: Page):
        await engage(page)
        before = robot._position.copy()
        page.headset.left.pose[2] += 0.03
        await page.until(lambda: np.abs(robot._position - before).max() > 0.02)
        assert page.state["echo"]["sequence"] > 0
        assert page.state["latency"]["rtt_ms"] is not None
        await page.socket.close()

    pages(service, script)
    deadline = time.monotonic() + 5.0
    while robot._controller.mode is not Mode.HOLD and time.monotonic() < deadline:
        time.sleep(0.01)
    assert robot._controller.mode is Mode.HOLD

    async def again(page: Page):
        assert page.messages[0]["role"] == "operator"
        await engage(page)  # connecting anew is a fresh act, and works

    pages(service, again)
    service.stop()
    from teleop_vr.journal import replay

    found = replay(journal)
    assert found.different is None
    assert found.references > 5


def test_a_second_page_watches_until_the_first_lets_go(service):
    service, robot, _ = service

    async def script(first: Page, second: Page):
        assert [p.messages[0]["role"] for p in (first, second)] == ["operator", "observer"]
        await engage(first)
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

    pages(service, script, ("operator", "operator"))


def test_an_episode_is_started_and_saved_from_the_desk(service):
    service, _, _ = service

    async def script(desk: Page):
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

    assert pages(service, script, ("observer",)) == [True, True, True]


def test_pictures_come_with_their_latency(service):
    service, _, _ = service

    async def script(page: Page):
        for number in range(10):
            service.see("head", drawing("head", number))
            await page.until(lambda n=number: len(page.pictures) > n, frames=False)
        await page.until(lambda: "head" in page.state.get("latency", {}).get("video_ms", {}), frames=False)
        return page

    page = pages(service, script, ("observer",))
    head, jpeg = page.pictures[-1]
    assert head[:3] == (PICTURE_MAGIC, 0, 0)
    assert (head[5], head[6]) == (224, 224)
    assert jpeg[:2] == b"\xff\xd8"
    assert 0.0 < page.state["latency"]["video_ms"]["head"] < 5000.0


def test_a_stopped_server_says_so(service):
    service, robot, _ = service

    async def script(page: Page):
        await engage(page)
        stopping = asyncio.get_running_loop().run_in_executor(None, service.stop)
        await page.until(lambda: page.code is not None, frames=False)
        await stopping
        return page.code, [m for m in page.messages if m["type"] == "refused"]

    code, refused = pages(service, script)
    assert code == 4004
    assert refused[0]["fix"]
    time.sleep(0.1)
    assert robot._controller.mode is Mode.HOLD


def test_the_doctor_says_what_to_do(service):
    service, _, _ = service
    import aiohttp

    async def script(_: Page):
        trust = ssl.create_default_context(cafile=str(service.server.tls.chain))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
            base = f"https://localhost:{service.server.port}"
            async with session.get(f"{base}/api/doctor") as refused:
                assert refused.status == 401
            async with session.get(f"{base}/api/doctor?token={TOKEN}") as answer:
                return await answer.json()

    doctor = pages(service, script, ("observer",))
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
