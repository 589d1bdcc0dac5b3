"""A person in an emulated headset shows a task without a robot: poses and the camera's pictures reach whoever asks."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from bytemini_core.web import certificate
from bytemini_description.robot import load_robot
from PIL import Image
from playwright.sync_api import Browser
from teleop_vr.demo import IdealRobot
from teleop_vr.person import HeadsetPicture
from teleop_vr.protocol import HeadsetFrame
from teleop_vr.retarget import RetargetConfig
from teleop_vr.service import Service

from .operating import TOKEN, until

pytestmark = pytest.mark.e2e


class Collector:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.frames: list[tuple[HeadsetFrame, int]] = []
        self.pictures: list[tuple[HeadsetPicture, int]] = []

    def moved(self, frame: HeadsetFrame, stamp: int) -> None:
        self.frames.append((frame, stamp))

    def saw(self, picture: HeadsetPicture, stamp: int) -> None:
        self.pictures.append((picture, stamp))


@pytest.fixture
def person(chromium: Browser) -> Iterator[tuple[Collector, str]]:
    assert chromium.is_connected()
    model, collector = load_robot("v1"), Collector()
    service = Service(
        model, IdealRobot(model), RetargetConfig(), port=0, token=TOKEN, tls=certificate(), person=collector
    )
    service.start()
    yield collector, f"https://localhost:{service.server.port}/#token={TOKEN}"
    service.stop()


def test_head_hands_and_camera_arrive(open_page, person) -> None:
    collector, address = person
    page = open_page(address, headset=True)
    page.wait_for_selector("#enter-ar:enabled", timeout=60_000)
    for what, position in (("head", [0, 1.6, 0]), ("left", [-0.2, 1.1, -0.4]), ("right", [0.2, 1.1, -0.4])):
        page.evaluate("([what, rest]) => quest.place(what, rest)", [what, position])
    page.click("#enter-ar")

    def there() -> bool:
        page.wait_for_timeout(100)  # lets the browser's driver speak
        return len(collector.pictures) >= 10 and len(collector.frames) >= 10

    until(there, 60, "pictures and frames")
    page.wait_for_selector("#headline-text:text('Show the task')", timeout=60_000)
    picture, _ = collector.pictures[-1]
    with Image.open(io.BytesIO(picture.jpeg)) as image:
        assert image.size == (picture.width, picture.height)
        darkest, brightest = image.convert("L").getextrema()
        assert brightest - darkest > 30, "the test camera's picture is not blank"
    frame, _ = collector.frames[-1]
    assert frame.left.tracked
    assert frame.right.tracked
    page.evaluate("quest.session.end()")
    page.wait_for_function("() => !document.querySelector('#enter-ar').disabled", timeout=60_000)
