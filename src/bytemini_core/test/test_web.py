"""The local web server, spoken to over TLS by an independent client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import stat
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="./bytemini setup installs aiohttp")
import aiohttp
import websockets
from aiohttp import web
from bytemini_core.web import (
    SHUTTING_DOWN,
    TOO_MUCH,
    WRONG_TOKEN,
    Certificate,
    Client,
    Echo,
    Route,
    Server,
    Site,
    WebError,
    certificate,
    pairing_token,
)
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket

TOKEN = "a-token-of-the-test"


class Collector:
    """Keeps what happens, and sends what it is told."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.clients: list[Client] = []
        self.gone = 0

    def opened(self, client: Client) -> None:
        self.clients.append(client)
        client.send({"type": "welcome"})

    def received(self, client: Client, message: str | bytes) -> None:
        self.messages.append(message)
        if message == "flood":
            for _ in range(Client.FIFO + 1):
                client.send("x")
        if message == "newest":
            for i in range(1000):
                client.offer("picture", str(i))
            client.send("end")

    def closed(self, client: Client) -> None:
        self.gone += 1


async def hello(request: web.Request) -> web.StreamResponse:
    return web.json_response({"hello": request.query.get("name", "")})


async def broken(_: web.Request) -> web.StreamResponse:
    raise ValueError("the name is empty, expected a word")


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def server(tmp_path: Path, collector: Collector):
    pages = tmp_path / "pages"
    (pages / "sub").mkdir(parents=True)
    (pages / "index.html").write_text("<p>start</p>")
    (pages / "sub" / "main.mjs").write_text("export {}")
    (pages / ".hidden").write_text("secret")
    (tmp_path / "outside.txt").write_text("secret")
    routes = (
        Route("GET", "/api/hello", hello),
        Route("GET", "/api/open", hello, public=True),
        Route("POST", "/api/broken", broken),
    )
    site = Site("test", pages, routes, {"/ws": collector, "/echo": Echo()})
    with Server(site, 0, TOKEN, certificate(tmp_path / "tls"), host="127.0.0.1") as server:
        yield server


def client(server: Server, script):
    """Run `script(session, base address)` with a client that trusts this server's certificate and no other."""

    async def run():
        trust = ssl.create_default_context(cafile=str(server.tls.chain))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
            return await asyncio.wait_for(script(session, f"https://localhost:{server.port}"), 20)

    return asyncio.run(run())


def sockets(server: Server, script, paths: tuple[str, ...], token: str = TOKEN):
    """Run `script(*sockets)` with a socket for each path, by another implementation of WebSocket than the server's."""

    async def run():
        trust = ssl.create_default_context(cafile=str(server.tls.chain))
        async with contextlib.AsyncExitStack() as stack:
            opened = [
                await stack.enter_async_context(
                    connect_socket(f"wss://localhost:{server.port}{path}?token={token}", ssl=trust, compression=None)
                )
                for path in paths
            ]
            return await asyncio.wait_for(script(*opened), 20)

    return asyncio.run(run())


async def ending(socket: ClientConnection) -> int:
    """The code with which the server closes the socket."""
    with contextlib.suppress(websockets.ConnectionClosed):
        async for _ in socket:
            pass
    assert socket.close_code is not None
    return socket.close_code


def test_pages_are_served_and_nothing_beside_them(server: Server) -> None:
    async def script(session, base):
        seen = {}
        for path in ("/", "/sub/main.mjs", "/.hidden", "/sub", "/nothing", "/%2e%2e/outside.txt", "/..%2foutside.txt"):
            async with session.get(base + path) as answer:
                seen[path] = (answer.status, answer.content_type)
        return seen

    seen = client(server, script)
    assert seen.pop("/") == (200, "text/html")
    assert seen.pop("/sub/main.mjs") == (200, "text/javascript")
    assert {status for status, _ in seen.values()} == {404}


def test_requests_need_the_token_unless_public(server: Server) -> None:
    async def script(session, base):
        seen = []
        for path, headers in (
            ("/api/hello?name=a", {}),
            ("/api/hello?name=a", {"Authorization": "Bearer wrong"}),
            ("/api/hello?name=a", {"Authorization": f"Bearer {TOKEN}"}),
            (f"/api/hello?name=a&token={TOKEN}", {}),
            ("/api/open", {}),
        ):
            async with session.get(base + path, headers=headers) as answer:
                seen.append((answer.status, await answer.json()))
        async with session.post(f"{base}/api/broken?token={TOKEN}") as answer:
            seen.append((answer.status, await answer.json()))
        return seen

    seen = client(server, script)
    assert [status for status, _ in seen] == [401, 401, 200, 200, 200, 400]
    assert seen[2][1] == {"hello": "a"}
    assert "expected a word" in seen[5][1]["error"]


def test_a_socket_without_the_token_is_told_why(server: Server, collector: Collector) -> None:
    async def script(socket):
        return json.loads(await socket.recv()), await ending(socket)

    said, code = sockets(server, script, ("/ws",), token="nonsense")
    assert said["code"] == code == WRONG_TOKEN
    assert said["fix"]
    assert not collector.clients
    assert not collector.messages


def test_of_one_key_only_the_newest_is_sent_and_order_is_kept_else(server: Server) -> None:
    async def script(socket):
        await socket.recv()
        await socket.send("newest")
        return [await socket.recv(), await socket.recv()]

    assert sockets(server, script, ("/ws",)) == ["end", "999"]


def test_a_reader_that_falls_behind_is_closed_and_the_others_stay(server: Server, collector: Collector) -> None:
    async def script(slow, other):
        await slow.recv()
        await slow.send("flood")
        refused, code = json.loads(await slow.recv()), await ending(slow)
        await other.send(b"still there")
        return refused, code, await other.recv()

    refused, code, echoed = sockets(server, script, ("/ws", "/echo"))
    assert refused["code"] == code == TOO_MUCH
    assert echoed == b"still there"
    assert collector.gone == 1


def test_a_message_that_is_too_large_ends_only_its_own_socket(server: Server) -> None:
    async def script(socket, other):
        await socket.send(bytes(5000))
        code = await ending(socket)
        await other.send("still there")
        return code, await other.recv()

    assert sockets(server, script, ("/ws", "/echo")) == (1009, "still there")


def test_stopping_tells_the_clients(server: Server) -> None:
    async def script(socket):
        await socket.recv()
        stopping = asyncio.get_running_loop().run_in_executor(None, server.stop)
        said, code = json.loads(await socket.recv()), await ending(socket)
        await stopping
        return said["code"], code

    assert sockets(server, script, ("/ws",)) == (SHUTTING_DOWN, SHUTTING_DOWN)


def test_a_taken_port_is_said_in_one_line(server: Server) -> None:
    with pytest.raises(WebError, match="choose another port"):
        Server(Site("second"), server.port, TOKEN, server.tls, host="127.0.0.1").start()


def test_key_and_token_are_private_and_kept(tmp_path: Path) -> None:
    first = certificate(tmp_path)
    assert certificate(tmp_path) == first
    assert {"localhost", "127.0.0.1", "::1"} <= {n.replace("0:0:0:0:0:0:0:1", "::1") for n in first.names}
    assert pairing_token(tmp_path) == pairing_token(tmp_path)
    for name in ("key.pem", "token"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_new_address_makes_a_new_certificate_that_keeps_the_old_names(tmp_path: Path) -> None:
    first = certificate(tmp_path, ["203.0.113.1"])
    second = certificate(tmp_path, ["203.0.113.2"])
    assert second.fingerprint != first.fingerprint
    assert {"203.0.113.1", "203.0.113.2"} <= set(second.names)
    assert certificate(tmp_path, ["203.0.113.1"]) == second


def test_a_broken_certificate_is_replaced(tmp_path: Path) -> None:
    certificate(tmp_path)
    (tmp_path / "key.pem").write_text("not a key")
    assert Certificate.read(tmp_path) is None
    assert certificate(tmp_path).names
