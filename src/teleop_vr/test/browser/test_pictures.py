"""Makes the README's pictures: the desk, a phone and the headset, none of them empty.

`BYTEMINI_PICTURES=src/teleop_vr/doc ./bytemini test src/teleop_vr/test/browser/test_pictures.py` renews the README's.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from bytemini_core.types import SIDES
from PIL import Image
from playwright.sync_api import Browser, Page
from teleop_vr.protocol import VERSION
from teleop_vr.simulated import SimulatedHeadset

from .operating import TOKEN, Operator, Served

FOLDER = os.environ.get("BYTEMINI_PICTURES", "")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="makes the README's pictures: set BYTEMINI_PICTURES to a folder for them"),
]
EYE = {"width": 1000, "height": 580}
"""px of the headset's picture: one eye."""


@pytest.fixture(scope="module")
def served(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    assert chromium.is_connected()
    folder = tmp_path_factory.mktemp("pictures")
    script = str(Path(__file__).with_name("physics.py"))
    truth = str(folder / "truth.json")
    command = [script, "--thing", "red block", "--truth", truth, "--size", "300", "--port", "{port}", "--token", TOKEN]
    server = Served(command, folder / "log.txt")
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Wearer:
    """Someone in a headset elsewhere, who leads both hands in circles: not in a browser, which has enough to draw."""

    def __init__(self, served: Served) -> None:
        self._url = f"https://127.0.0.1:{served.port}/ws?token={TOKEN}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._wear()), daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=10)

    async def _wear(self) -> None:
        headset = SimulatedHeadset()
        centre = {side: headset.hand(side).pose.copy() for side in SIDES}
        async with aiohttp.ClientSession() as session, session.ws_connect(self._url, ssl=False) as socket:
            await socket.send_json({"type": "hello", "protocol": VERSION, "client": "Ada (Quest)", "want": "operator"})
            begun = time.monotonic()
            while not self._ended.is_set():
                for side in SIDES:
                    angle = 2.0 * headset.time + (side == "left")
                    hand = headset.hand(side)
                    hand.pose = centre[side] + np.array([0.0, 0.04 * np.sin(angle), 0.04 * np.cos(angle), 0, 0, 0, 0])
                    hand.squeeze = float((time.monotonic() - begun) % 3.0 > 0.3)  # again and again, were it refused
                await socket.send_bytes(headset.frame(1 / 60))
                await asyncio.sleep(1 / 60)


def take(page: Page, name: str, folder: Path, **how) -> None:
    """A picture of a page, small; it must show something."""
    shot = Image.open(io.BytesIO(page.screenshot(**how))).convert("RGB")
    shown = np.asarray(shot, dtype=float)
    assert shown.std() > 15, f"{name} is all but empty"
    shot.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=8).save(folder / f"{name}.png", optimize=True)


def test_pictures(open_page, served: Served) -> None:
    folder = Path(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    address = served.address
    desk = open_page(address, size={"width": 1360, "height": 850})
    desk.wait_for_selector("#link:text('Connected')")
    with Wearer(served):
        desk.click("#start:enabled")
        desk.wait_for_selector("#episode-state:text('Recording')")
        desk.wait_for_timeout(2500)
        take(desk, "desk", folder)
        desk.set_viewport_size({"width": 390, "height": 780})
        desk.wait_for_timeout(1500)
        take(desk, "phone", folder)
    desk.close()

    person = Operator(open_page(address, headset=True, size=EYE), served)
    person.page.evaluate("Object.assign(quest.device, { stereoEnabled: false, fovy: 1.25 })")
    person.enter()
    for hand, x in (("left", -0.24), ("right", 0.24)):
        person.place(hand, [x, 1.32, -0.5])
    reach(person)
    person.page.wait_for_timeout(600)
    take(person.page, "headset", folder)
    person.act("tap", "right", "a-button", 400)
    person.until(lambda s: s["prompt"], "asks")
    person.page.wait_for_timeout(700)
    take(person.page, "headset_save", folder)


def reach(person: Operator) -> None:
    """Both hands drive the robot, a little away from where they began."""
    for hand, by in (("right", [0.06, -0.08, -0.1]), ("left", [-0.03, 0.05, -0.05])):
        person.let_go(hand)
        person.engage(hand)
        person.act("move", hand, by, 400)
