"""A page as far as the wire goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from teleop_vr.protocol import PICTURE
from teleop_vr.simulated import SimulatedHeadset
from websockets.asyncio.client import ClientConnection, connect

TOKEN = "the-token-of-the-test"


class Page:
    """Answers pictures, keeps the newest state, sends frames."""

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

    @property
    def role(self) -> str:
        """Which role the welcome gave; other announcements may come before it."""
        return next(m["role"] for m in self.messages if m["type"] == "welcome")

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


def on_pages(chain: Path, port: int, script, wants: tuple[str, ...] = ("operator",), token: str = TOKEN):
    """Run `script(*pages)` with a page for each wanted role."""

    async def run():
        trust = ssl.create_default_context(cafile=str(chain))
        url = f"wss://localhost:{port}/ws?token={token}"
        async with contextlib.AsyncExitStack() as stack:
            opened, listening = [], []
            for i, want in enumerate(wants):
                page = Page(await stack.enter_async_context(connect(url, ssl=trust, compression=None)))
                listening.append(asyncio.create_task(page.listen()))
                await page.say(type="hello", protocol=1, client=f"page {i}", want=want)
                await page.until(lambda p=page: any(m["type"] == "welcome" for m in p.messages), frames=False)
                opened.append(page)
            try:
                return await asyncio.wait_for(script(*opened), 120)
            finally:
                for task in listening:
                    task.cancel()

    return asyncio.run(run())


async def engage(page: Page) -> None:
    await page.until(lambda: page.state.get("session") == "ready")
    for _ in range(10):
        page.headset.left.squeeze = 0.0
        seen = page.headset.sequence + 3  # the grip is seen open before it is closed
        await page.until(lambda n=seen: page.state["sticks"]["neutral"] and page.state["echo"]["sequence"] >= n)
        page.headset.left.squeeze = 1.0
        with contextlib.suppress(AssertionError):
            await page.until(page.engaged, 3.0)
            return
        page.headset.left.squeeze = 0.0
        await asyncio.sleep(0.1)
    raise AssertionError(page.state)


@pytest.fixture
def wire() -> SimpleNamespace:
    """`pages` runs a script with pages, `engage` closes a page's left clutch, `token` is what they know."""
    return SimpleNamespace(pages=on_pages, engage=engage, token=TOKEN)
