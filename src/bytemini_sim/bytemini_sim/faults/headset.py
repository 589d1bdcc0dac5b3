"""A person with a headset, for faults that strike while somebody teleoperates: both hands wave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
import time
from typing import Any

from bytemini_core.types import SIDES

RATE = 72.0
"""Hz of a Quest's poses."""


class Headset(threading.Thread):
    """Connects to the headset's page, again where it is gone, engages and waves, until `stop`."""

    def __init__(self, port: int) -> None:
        """Prepare: it connects to that port of this machine when it is started."""
        super().__init__(name="headset", daemon=True)
        self._port = port
        self._over = threading.Event()

    def stop(self) -> None:
        """Take the headset off."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """See the class."""
        import aiohttp

        while not self._over.is_set():
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ConnectionError):
                asyncio.run(self._lead())
            time.sleep(0.2)

    async def _lead(self) -> None:
        import aiohttp
        from bytemini_core.web import certificate, pairing_token
        from teleop_vr.bench import moved_by, two_hands
        from teleop_vr.simulated import SimulatedHeadset

        headset = SimulatedHeadset()
        start = {side: headset.hand(side).pose.copy() for side in SIDES}
        newest: dict[str, Any] = {}
        trust = ssl.create_default_context(cafile=str(certificate().chain))
        url = f"wss://localhost:{self._port}/ws?token={pairing_token()}"
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session,
            session.ws_connect(url, timeout=aiohttp.ClientWSTimeout(ws_close=0.5)) as socket,
        ):
            await socket.send_json({"type": "hello", "protocol": 1, "client": "campaign", "want": "operator"})

            async def listen() -> None:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT and (said := json.loads(message.data))["type"] == "state":
                        newest.update(said, at=time.monotonic())

            listening = asyncio.create_task(listen())
            engaged_at = last = time.monotonic()
            while not self._over.is_set() and not listening.done():
                now = time.monotonic()
                engaged = bool(newest.get("hands")) and all(newest["hands"][side]["engaged"] for side in SIDES)
                ready = newest.get("session") in ("ready", "engaged")
                if not engaged:
                    engaged_at = now + 0.5
                for side, displacement in two_hands(max(0.0, now - engaged_at)).items():
                    hand = headset.hand(side)
                    hand.pose = moved_by(start[side], displacement) if engaged else start[side].copy()
                    hand.squeeze = 1.0 if ready and (engaged or now % 1.5 > 0.5) else 0.0
                headset.echo, headset.held = newest.get("t", 0.0), now - newest.get("at", now)
                await socket.send_bytes(headset.frame(max(now - last, 1e-4)))
                last = now
                await asyncio.sleep(1.0 / RATE)
            listening.cancel()
