"""A headset and the real recorder as processes: episodes of the robot, and of a person without one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import os
import ssl
from pathlib import Path

import numpy as np
import pytest
from bytemini_core.domain import private_domain
from bytemini_core.web import certificate
from bytemini_data.features import HANDS, HEAD, MASKS, VALID
from bytemini_data.lerobot import Dataset
from PIL import Image
from teleop_vr.command import _wait
from teleop_vr.person import CAMERA, CAMERA_MAGIC
from websockets.asyncio.client import connect

from bytemini_bringup.processes import Processes
from bytemini_bringup.stack import environment, options, stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PORT = 8494
PLAN = """
episodes: 9
simulation: {task: pick_place}
actions: {put: {words: "put the {object} into the {destination}"}}
objects: [apple, orange]
destinations: [bowl]
"""
PATIENT = {"countdown": 0.2, "loss": 30.0, "reserve_gib": 0.01, "keep_failed": True}
"""The machine of a test may stand still for seconds: what comes late is no reason to end an episode."""


@contextlib.contextmanager
def recording(folder: Path, token: str, recorder=None, **chosen):
    """The stack that `./bytemini record` starts, but for what it does not need here."""
    (folder / "plan.yaml").write_text(PLAN)
    values = options(
        record=folder / "plan.yaml", dataset=folder / "set", teleop=True, teleop_port=PORT, image_size=64, **chosen
    )
    kept = ("bytemini_sim", "wbc_controller", "recorder", "teleop_vr")
    more = {"recorder": {**PATIENT, **(recorder or {})}, "teleop_vr": {"token": token}}
    processes = [
        dataclasses.replace(p, parameters={**p.parameters, **more.get(p.name, {})})
        for p in stack(values)
        if p.name in kept
    ]
    with private_domain():
        around = {**os.environ, **environment(values)}
        with Processes(processes, folder / "logs", environment=around) as started:
            _wait(PORT, started.check)
            yield certificate().chain, folder / "set"


async def press(page, side: str, button: int, until) -> None:
    """Tap a button until it had its effect: a frame that a busy machine held back is not taken."""
    for _ in range(10):
        hand = page.headset.hand(side)
        hand.buttons = 0
        seen = page.headset.sequence + 3
        await page.until(lambda n=seen: (page.state.get("echo") or {}).get("sequence", 0) >= n, 60.0)
        hand.buttons = 1 << button
        with contextlib.suppress(AssertionError):
            await page.until(until, 5.0)
            hand.buttons = 0
            return
    raise AssertionError((page.state, page.messages))


def episode(page) -> dict:
    return page.state.get("episode", {})


async def record_and_save(page, seconds: float) -> None:
    await press(page, "right", 4, lambda: episode(page)["state"] in ("COUNTDOWN", "RECORDING"))
    await page.until(lambda: episode(page)["state"] == "RECORDING" and episode(page)["duration"] > seconds, 60.0)
    await press(page, "right", 4, lambda: page.state["prompt"])
    await press(page, "right", 4, lambda: episode(page)["state"] in ("SAVING", "SAVED"))
    await page.until(lambda: episode(page)["state"] == "SAVED", 60.0)


def test_a_headset_records_saves_and_discards(tmp_path, monkeypatch, wire) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    cards = []

    async def script(page) -> None:
        await page.until(lambda: page.state.get("session") == "ready" and (episode(page)["scene_card"] or {}), 60.0)
        cards.append(episode(page)["scene_card"])
        page.headset.right.stick = (1.0, 0.0)  # up, until it moves
        await page.until(lambda: page.state["mode"] == "TELEOP", 60.0)
        await record_and_save(page, 1.5)
        page.headset.right.stick = (0.0, 0.0)
        assert episode(page)["saved"] == 1
        await page.until(lambda: (episode(page)["scene_card"] or {}).get("draw") == 1, 60.0)
        await press(page, "right", 4, lambda: episode(page)["state"] in ("COUNTDOWN", "RECORDING"))
        await page.until(lambda: episode(page)["state"] == "RECORDING", 60.0)
        await press(page, "left", 4, lambda: page.state["prompt"])
        await press(page, "left", 4, lambda: episode(page)["state"] == "DISCARDED")
        assert episode(page)["saved"] == 1

    with recording(tmp_path, wire.token) as (chain, root):
        wire.pages(chain, PORT, script)
    (card,) = cards
    assert len(card["places"]) >= 2, "the simulator has set a scene up"
    assert card["diagram"].startswith("<svg")
    assert card["steps"][-1] == f"Then: {card['instruction']}."
    data = Dataset(root)
    assert [row.index for row in data.rows] == [0]
    assert data.rows[0].tasks == (card["instruction"],)
    assert data.rows[0].fields["success"]
    assert len(data) >= 5
    assert (data.column("mode")[-3:] == "TELEOP").all()
    frame = data[len(data) // 2]
    assert frame["observation.images.head"].shape == (64, 64, 3)
    assert frame["observation.images.head"].std() > 5


def test_a_person_is_recorded_without_a_robot(tmp_path, monkeypatch, wire) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    async def film(page, chain: Path) -> None:
        """The headset's camera."""
        trust = ssl.create_default_context(cafile=str(chain))
        url = f"wss://localhost:{PORT}/ws/camera?token={wire.token}"
        async with connect(url, ssl=trust, compression=None) as socket:
            for number in range(1, 100000):
                picture = np.full((48, 192, 3), 90, dtype=np.uint8)
                picture[::4, : number % 192] = 150
                time = page.headset.time
                stream = io.BytesIO()
                Image.fromarray(picture).save(stream, "JPEG", quality=90)
                await socket.send(CAMERA.pack(CAMERA_MAGIC, number, time, 192, 48, 0) + stream.getvalue())
                await asyncio.sleep(1 / 30)

    async def script(page) -> None:
        page.headset.left.tracked = False
        filming = asyncio.create_task(film(page, certificate().chain))
        try:
            await page.until(lambda: page.state.get("session") == "ready" and episode(page)["state"] == "IDLE", 60.0)
            assert not any(warning["code"] == "robot" for warning in page.state["warnings"])
            await record_and_save(page, 1.5)
        finally:
            filming.cancel()

    small = {"fps": 10, "image_height": 48, "image_width": 192}
    with recording(tmp_path, wire.token, small, human=True) as (chain, root):
        wire.pages(chain, PORT, script)
    data = Dataset(root)
    assert data.rows[0].fields["embodiment"] == "human"
    valid = dict(zip(MASKS, data.column(VALID).T, strict=True))
    assert not valid["joints"].any()
    assert not valid["left_hand"].any()
    assert not valid["left_wrist"].any()
    assert valid["right_hand"].mean() > 0.5
    assert valid["head"].mean() > 0.5
    frame = data[int(np.flatnonzero(valid["right_hand"])[-1])]
    assert np.allclose(frame[HANDS][7:10], (0.4, -0.2, 1.1), atol=1e-5)
    assert np.allclose(frame[HEAD], (0.0, 0.0, 1.6, -0.5, 0.5, -0.5, 0.5), atol=1e-5)
    assert frame["observation.images.left_wrist"].max() < 8, "a wrist's view is blank"
    assert not frame["observation.state"].any()
