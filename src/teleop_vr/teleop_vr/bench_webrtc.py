"""`python -m teleop_vr.bench_webrtc`: pictures by WebRTC (aiortc) beside JPEG over a TLS socket, which the page gets.

Both ends in one process and event loop, on loopback, 30 pictures a second of each camera: the time from a picture to
the same picture decoded, processor time of both ends, and how late a task of 90 Hz in that loop is, as the headset's
frames would be. The pictures carry their number as black and white squares. WebRTC needs `pip install aiortc==1.16.0`,
which nothing else here does.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.errors import UserError
from numpy.typing import NDArray

RATE = 30
"""Pictures of each camera a second."""

_BITS, _SQUARE = 16, 16
_SETTLING = 5.0  # s until figures count: WebRTC's bit rate and buffer have to find themselves

Picture = NDArray[np.uint8]


@dataclass(slots=True)
class Traffic:
    """Numbered pictures on their way. `delays`: (when seen, s, how long after it was made, s)."""

    images: list[Picture]
    made: dict[int, float] = field(default_factory=dict)
    delays: list[tuple[float, float]] = field(default_factory=list)

    def make(self, number: int) -> Picture:
        """A picture with its number on it."""
        number %= 1 << _BITS
        picture = self.images[number % len(self.images)].copy()
        for bit in range(_BITS):
            picture[:_SQUARE, bit * _SQUARE : (bit + 1) * _SQUARE] = 255 * (number >> bit & 1)
        self.made[number] = time.monotonic()
        return picture

    def see(self, picture: Picture) -> None:
        """Note a picture that was decoded; one whose number cannot be read is none of ours."""
        squares = picture[4 : _SQUARE - 4, : _BITS * _SQUARE].mean(axis=(0, 2)).reshape(_BITS, _SQUARE)[:, 4:-4]
        number = sum(1 << bit for bit, value in enumerate(squares.mean(axis=1)) if value > 127)
        if (made := self.made.get(number)) is not None:
            now = time.monotonic()
            self.delays.append((now, now - made))


async def webrtc(traffic: Traffic, cameras: int, codec: str) -> Callable[[], Awaitable[None]]:
    """Begin to send and to receive by aiortc; what ends it."""
    import aiortc
    import av

    class Camera(aiortc.VideoStreamTrack):  # type: ignore[misc]
        def __init__(self, first: int) -> None:
            super().__init__()
            self._first, self._count, self._began = first, 0, time.monotonic()

        async def recv(self) -> Any:
            self._count += 1
            await asyncio.sleep(max(0.0, self._began + self._count / RATE - time.monotonic()))
            frame = av.VideoFrame.from_ndarray(traffic.make(self._first + self._count), format="rgb24")
            frame.pts, frame.time_base = self._count * 90_000 // RATE, Fraction(1, 90_000)
            return frame

    sender, receiver = aiortc.RTCPeerConnection(), aiortc.RTCPeerConnection()
    taking: list[asyncio.Task[None]] = []

    async def take(track: Any) -> None:
        while True:
            traffic.see((await track.recv()).to_ndarray(format="rgb24"))

    receiver.on("track", lambda track: taking.append(asyncio.create_task(take(track))))
    known = [c for c in aiortc.RTCRtpSender.getCapabilities("video").codecs if c.mimeType == f"video/{codec}"]
    for camera in range(cameras):
        sender.addTransceiver(Camera(10_000 * camera), "sendonly").setCodecPreferences(known)
    await sender.setLocalDescription(await sender.createOffer())
    await receiver.setRemoteDescription(sender.localDescription)
    await receiver.setLocalDescription(await receiver.createAnswer())
    await sender.setRemoteDescription(receiver.localDescription)

    async def end() -> None:
        for task in taking:
            task.cancel()
        await sender.close()
        await receiver.close()

    return end


async def jpeg(traffic: Traffic, cameras: int, quality: int = 80) -> Callable[[], Awaitable[None]]:
    """Begin to send and to receive JPEG over a socket with TLS, encoded in a thread of its own; what ends it."""
    from aiohttp import ClientSession, TCPConnector, web
    from bytemini_core.web import certificate
    from PIL import Image

    from teleop_vr.video import encode

    folder = tempfile.TemporaryDirectory()
    tls = certificate(Path(folder.name))
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(tls.chain, tls.key)
    loop, ended = asyncio.get_running_loop(), threading.Event()

    def film(socket: web.WebSocketResponse) -> None:
        began, count = time.monotonic(), 0
        while not ended.wait(max(0.0, began + count / RATE - time.monotonic())):
            count += 1
            for camera in range(cameras):
                data = encode(traffic.make(10_000 * camera + count), quality)
                asyncio.run_coroutine_threadsafe(socket.send_bytes(data), loop)

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        threading.Thread(target=film, args=(socket,), daemon=True).start()
        async for _ in socket:
            pass
        return socket

    async def take(socket: Any) -> None:
        async for message in socket:
            traffic.see(np.asarray(Image.open(io.BytesIO(message.data))))

    application = web.Application()
    application.router.add_get("/", serve)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=own).start()
    trust = ssl.create_default_context(cafile=str(tls.chain))
    session = ClientSession(connector=TCPConnector(ssl=trust))
    socket = await session.ws_connect(f"https://localhost:{runner.addresses[0][1]}/")
    taking = asyncio.create_task(take(socket))

    async def end() -> None:
        ended.set()
        taking.cancel()
        await session.close()
        await runner.cleanup()
        folder.cleanup()

    return end


async def measure(
    begin: Callable[[], Awaitable[Callable[[], Awaitable[None]]]], traffic: Traffic, seconds: float
) -> Any:
    """Figures of one way, over so many seconds after it has settled."""
    end = await begin()
    await asyncio.sleep(_SETTLING)
    began, busy, late = time.monotonic(), time.process_time(), []
    while (now := time.monotonic()) < began + seconds:
        await asyncio.sleep(1.0 / 90.0)
        late.append(time.monotonic() - now - 1.0 / 90.0)
    busy = time.process_time() - busy
    delays = [delay for when, delay in traffic.delays if when > began]
    await end()
    if not delays:
        raise UserError("no picture came")
    return {
        "delay_ms": {f"p{p}": round(1e3 * float(np.percentile(delays, p)), 1) for p in (50, 95, 99)},
        "pictures_per_second": round(len(delays) / seconds, 1),
        "processor_ms_a_picture": round(1e3 * busy / len(delays), 2),
        "late_ms": {f"p{p}": round(1e3 * float(np.percentile(late, p)), 1) for p in (50, 99)},
    }


def _images(size: int) -> list[Picture]:
    from bytemini_description.robot import load_robot
    from bytemini_sim.tasks import make_task
    from bytemini_sim.world import World

    from teleop_vr.rig import Rig

    model = load_robot("v1")
    world = World(model, make_task("pick_place").sample(0), cameras=("head",), image_size=(size, size))
    rig, images = Rig(model, world), []
    for _ in range(30):
        rig.run(1.0 / RATE)
        images.append(world.images()["head"])
    return images


def main() -> int:
    """Measure every way with one and with three cameras, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m teleop_vr.bench_webrtc", description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each way (default: %(default)s)")
    parser.add_argument("--size", type=int, default=480, help="of the pictures, px (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        import aiortc  # noqa: F401
    except ImportError as error:
        raise SystemExit("aiortc is not installed: pip install aiortc==1.16.0") from error
    images = _images(arguments.size)
    for cameras in (1, 3):
        for name, way in (
            ("JPEG", jpeg),
            ("VP8", partial(webrtc, codec="VP8")),
            ("H264", partial(webrtc, codec="H264")),
        ):
            traffic = Traffic(images)
            found = asyncio.run(measure(partial(way, traffic, cameras), traffic, arguments.seconds))
            print(json.dumps({"way": name, "cameras": cameras, **found}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
