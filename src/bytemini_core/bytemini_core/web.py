"""A local web server beside a node: pages, requests and sockets over TLS on one port, in a thread of its own.

Browsers give WebXR, clipboard and the like to secure pages only, and from a secure page only secure sockets open; and
every origin has to be approved by hand where the certificate is our own. So everything is on one port, key and
certificate are made at the first run with this machine's addresses in it, outside the repository, and a token keeps out
whoever was not shown the address. Nothing is fetched from elsewhere.

Threads: handlers and endpoints are called in the server's thread and must not block. `Client.send`, `Client.offer`,
`Client.close` and `Server.stop` may be called from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import fcntl
import hmac
import ipaddress
import json
import logging
import os
import secrets
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

WRONG_TOKEN, WRONG_PROTOCOL, TOO_MUCH, SHUTTING_DOWN = 4001, 4002, 4003, 4004
"""Codes with which a socket is closed (RFC 6455 leaves 4000 to 4999 to applications)."""

VALID_FOR = datetime.timedelta(days=397)
"""How long a certificate is made for: browsers refuse those of more than 398 days."""

RENEW_BEFORE = datetime.timedelta(days=14)

_SIOCGIFADDR = 0x8915
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".wasm": "application/wasm",
}
_HEADERS = {
    # A page that was changed must not be mixed with one from the cache, and may load nothing from elsewhere.
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self' wss:; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebError(RuntimeError):
    """The server cannot start; the message says what was wrong and what to do."""


def settings_folder() -> Path:
    """Where key, certificate and token are kept: `$XDG_CONFIG_HOME/bytemini/web`, else below `~/.config`."""
    base = os.environ.get("XDG_CONFIG_HOME")
    try:
        return (Path(base) if base else Path.home() / ".config") / "bytemini" / "web"
    except RuntimeError as error:
        raise WebError("no home folder to keep the TLS key in: set XDG_CONFIG_HOME to a private folder") from error


def addresses() -> tuple[str, ...]:
    """The IPv4 addresses of this machine's interfaces, those other machines can reach first."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an IPv4 address
                reply = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found.append(socket.inet_ntoa(reply[20:24]))
    return tuple(sorted(dict.fromkeys(found), key=lambda a: (a.startswith("127."), a.startswith("172.17."))))


def host_names() -> tuple[str, ...]:
    """The names and addresses under which a browser may reach this machine."""
    name = socket.gethostname()
    return tuple(dict.fromkeys(("localhost", name, f"{name.split('.')[0]}.local", *addresses(), "127.0.0.1", "::1")))


@dataclass(frozen=True, slots=True)
class Certificate:
    """A key and its self-signed certificate on disk, and what the certificate says."""

    key: Path
    chain: Path
    names: tuple[str, ...]
    expires: datetime.datetime
    fingerprint: str

    @staticmethod
    def read(folder: Path) -> Certificate | None:
        """The certificate in a folder, None where there is none that can be read."""
        key, chain = folder / "key.pem", folder / "certificate.pem"
        try:
            certificate = x509.load_pem_x509_certificate(chain.read_bytes())
            serialization.load_pem_private_key(key.read_bytes(), password=None)
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
            return None
        names = (
            *extension.get_values_for_type(x509.DNSName),
            *map(str, extension.get_values_for_type(x509.IPAddress)),
        )
        digest = certificate.fingerprint(hashes.SHA256()).hex(":")
        return Certificate(key, chain, names, certificate.not_valid_after_utc, digest)


def certificate(folder: Path | None = None, names: Sequence[str] = ()) -> Certificate:
    """The key and certificate of this machine: those of the last run, or new ones.

    New ones are made where there are none, where they are about to expire, and where this machine has an address that
    the old certificate does not hold; the old one's names are kept, so that to and fro between two networks costs one
    approval in the browser and no more.

    Args:
        folder: where they are kept; None for `settings_folder`.
        names: further names or addresses to hold, beside this machine's own.

    Raises:
        WebError: the folder cannot be written.
    """
    folder = folder or settings_folder()
    wanted = tuple(dict.fromkeys((*host_names(), *names)))
    known = Certificate.read(folder)
    now = datetime.datetime.now(datetime.UTC)
    if known is not None and known.expires - now > RENEW_BEFORE and set(wanted) <= set(known.names):
        return known
    try:
        _make_certificate(folder, tuple(dict.fromkeys((*wanted, *(known.names if known else ())))), now)
    except OSError as error:
        raise WebError(f"cannot keep a TLS key in {folder}: {error.strerror}; set XDG_CONFIG_HOME elsewhere") from error
    made = Certificate.read(folder)
    assert made is not None
    return made


def _make_certificate(folder: Path, names: tuple[str, ...], now: datetime.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ByteMini on {socket.gethostname()}"[:64])])
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # a headset's clock may lag
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_private(folder / "key.pem", secret)
    _write_private(folder / "certificate.pem", signed.public_bytes(serialization.Encoding.PEM))


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that nobody else may read, whole or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)


def pairing_token(folder: Path | None = None) -> str:
    """The secret in the address that is shown to whoever may connect: made once, kept so that bookmarks stay good.

    Raises:
        WebError: the folder cannot be written.
    """
    path = (folder or settings_folder()) / "token"
    try:
        if path.exists() and len(known := path.read_text(encoding="ascii").strip()) >= 12:
            return known
        token = secrets.token_urlsafe(12)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private(path, token.encode("ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise WebError(f"cannot keep a token in {path}: {error}; remove the file or set XDG_CONFIG_HOME") from error
    return token


class Client:
    """One socket. What it is sent waits in a short queue of its own: a slow reader delays nobody but itself.

    `number`: counts the server's clients from 1. `remote`: its address. `query`: of the address it came by.
    """

    FIFO = 256
    """Messages that may wait; a client that reads slower is closed."""

    def __init__(self, number: int, remote: str, query: Mapping[str, str], loop: asyncio.AbstractEventLoop) -> None:
        self.number, self.remote, self.query = number, remote, dict(query)
        self._loop = loop
        self._lock = threading.Lock()
        self._fifo: deque[str | bytes] = deque()
        self._latest: dict[str, str | bytes] = {}
        self._closing: tuple[int, str] | None = None
        self._wake = asyncio.Event()

    def send(self, message: str | bytes | Mapping[str, Any]) -> None:
        """Queue a message, in order and without loss; a mapping goes as JSON."""
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        with self._lock:
            if self._closing is not None:
                return
            full = len(self._fifo) >= self.FIFO
            if not full:
                self._fifo.append(text)
        if full:
            self.close(TOO_MUCH, f"{self.FIFO} messages wait unread", "reload the page; look at the network")
        else:
            self._notify()

    def offer(self, key: str, message: str | bytes) -> None:
        """Queue a message that takes the place of an unsent one of the same key: only the newest is worth sending."""
        with self._lock:
            if self._closing is not None:
                return
            # At the end again: of two keys that are always waiting neither starves the other.
            self._latest.pop(key, None)
            self._latest[key] = message
        self._notify()

    def close(self, code: int, reason: str, fix: str = "") -> None:
        """Say why, then close the socket with `code`; what still waits is dropped."""
        with self._lock:
            if self._closing is not None:
                return
            self._fifo.clear()
            self._latest.clear()
            self._fifo.append(json.dumps({"type": "refused", "code": code, "reason": reason, "fix": fix}))
            self._closing = (code, reason)
        self._notify()

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing is not None

    def _notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to read
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _write(self, socket_: web.WebSocketResponse) -> None:
        """Write what waits until the socket is closed."""
        with contextlib.suppress(ConnectionError):  # the reader went away: the reading side ends the connection
            while not socket_.closed:
                await self._wake.wait()
                self._wake.clear()
                while (message := self._next()) is not None:
                    await (socket_.send_str(message) if isinstance(message, str) else socket_.send_bytes(message))
                if self._closing is not None:
                    code, reason = self._closing
                    await socket_.close(code=code, message=reason.encode()[:120])

    def _next(self) -> str | bytes | None:
        with self._lock:
            if self._fifo:
                return self._fifo.popleft()
            for key in self._latest:
                return self._latest.pop(key)
            return None


class Endpoint(Protocol):
    """What answers a path's sockets. All three are called in the server's thread."""

    def opened(self, client: Client) -> None:
        """A socket with the right token was opened."""

    def received(self, client: Client, message: str | bytes) -> None:
        """A message came."""

    def closed(self, client: Client) -> None:
        """The socket is gone; nothing can be sent any more."""


class Echo:
    """Sends everything straight back: what a page measures jitter with."""

    def opened(self, client: Client) -> None:
        """Nothing to do."""

    def received(self, client: Client, message: str | bytes) -> None:
        """Send it back."""
        client.send(message)

    def closed(self, client: Client) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Route:
    """A request and what answers it. `public`: without the token."""

    method: str
    path: str
    handler: Handler
    public: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """What a server serves.

    `name`: of the service, for logs. `pages`: folder whose files are served below "/", `index.html` for "/" itself.
    `routes`: requests. `sockets`: path to endpoint. `largest`: bytes of a message from a client.
    """

    name: str
    pages: Path | None = None
    routes: tuple[Route, ...] = ()
    sockets: Mapping[str, Endpoint] = field(default_factory=dict)
    largest: int = 4096


class Server:
    """Serves a site over TLS until it is stopped. Also a context manager."""

    def __init__(
        self,
        site: Site,
        port: int,
        token: str,
        tls: Certificate,
        host: str = "0.0.0.0",
    ) -> None:
        """Prepare.

        Args:
            site: what to serve.
            port: the TCP port; 0 for any free one, which `port` tells after `start`.
            token: what a request and a socket have to know.
            tls: key and certificate, from `certificate`.
            host: the address to listen at; "0.0.0.0" for all.
        """
        self.site, self.port, self.token, self.tls, self.host = site, port, token, tls, host
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._clients: dict[Client, web.WebSocketResponse] = {}
        self._count = 0
        self._log = logging.getLogger(f"bytemini.web.{site.name}")
        self._done: asyncio.Event | None = None

    def url(self, host: str | None = None) -> str:
        """The address of the first page, with the token where servers do not see it."""
        listening = () if self.host == "0.0.0.0" else (self.host,)
        return f"https://{host or (*listening, *addresses(), 'localhost')[0]}:{self.port}/#token={self.token}"

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; returns when connections are taken.

        Raises:
            WebError: the port is taken or not allowed, or the key does not fit.
        """
        started = threading.Event()
        failure: list[BaseException] = []

        def serve() -> None:
            asyncio.set_event_loop(self._loop)
            try:
                self._loop.run_until_complete(self._serve(started))
            except (OSError, ValueError) as error:
                failure.append(error)
                started.set()
            finally:
                self._loop.close()

        self._thread = threading.Thread(target=serve, name=f"web-{self.site.name}", daemon=True)
        self._thread.start()
        started.wait()
        if failure:
            self._thread.join()
            raise WebError(
                f"cannot serve {self.site.name} at {self.host}:{self.port}: {failure[0]}; choose another port, or stop "
                "what uses it"
            ) from failure[0]

    def stop(self) -> None:
        """Close every socket, then the port; returns when both are done."""
        if self._thread is None or not self._thread.is_alive():
            return
        if self._done is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(timeout=5.0)

    async def _serve(self, started: threading.Event) -> None:
        self._done = asyncio.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.tls.chain, self.tls.key)
        context.set_alpn_protocols(["http/1.1"])
        application = web.Application(middlewares=[self._guard])
        self._public = {route.path for route in self.site.routes if route.public}
        for route in self.site.routes:
            application.router.add_route(route.method, route.path, route.handler)
        for path, endpoint in self.site.sockets.items():
            application.router.add_get(path, self._socket_handler(endpoint))
        self._protected = {route.path for route in self.site.routes if not route.public}
        application.router.add_get("/{file:.*}", self._page)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            listener = web.TCPSite(runner, self.host, self.port, ssl_context=context)
            await listener.start()
            self.port = runner.addresses[0][1]
            started.set()
            await self._done.wait()
            for client, socket_ in list(self._clients.items()):
                client.close(SHUTTING_DOWN, f"{self.site.name} is shutting down", "start it again, then reload")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(_until_closed(socket_), 0.5)
        finally:
            await runner.cleanup()

    def knows_token(self, request: web.Request) -> bool:
        """Whether a request carries the token, in its header or its query."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.query.get("token", "")
        return hmac.compare_digest(given.encode(), self.token.encode())

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else ""
        if path in self._protected and not self.knows_token(request):
            fix = "open the address that the server printed, with its token"
            return web.json_response({"error": "wrong or missing token", "fix": fix}, status=401, headers=_HEADERS)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            return web.json_response({"error": error.reason}, status=error.status, headers=_HEADERS)
        except (ValueError, KeyError, TypeError) as error:
            self._log.warning("%s %s: %s", request.method, request.path, error)
            return web.json_response({"error": str(error)}, status=400, headers=_HEADERS)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _page(self, request: web.Request) -> web.StreamResponse:
        if self.site.pages is None:
            raise web.HTTPNotFound
        parts = (request.match_info["file"] or "index.html").split("/")
        path = self.site.pages.joinpath(*parts)  # not resolved: an installed file may be a link into the source tree
        if (
            any(not part or part.startswith(".") or "\\" in part or "\0" in part for part in parts)
            or not path.is_file()
        ):
            raise web.HTTPNotFound
        kind = _TYPES.get(path.suffix, "application/octet-stream")
        return web.FileResponse(path, headers={**_HEADERS, "Content-Type": kind})

    def _socket_handler(self, endpoint: Endpoint) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            socket_ = web.WebSocketResponse(compress=False, max_msg_size=self.site.largest, timeout=1.0)
            await socket_.prepare(request)
            self._count += 1
            client = Client(self._count, request.remote or "", request.query, self._loop)
            self._clients[client] = socket_
            writer = asyncio.create_task(client._write(socket_))
            admitted = self.knows_token(request)
            try:
                if admitted:
                    endpoint.opened(client)
                else:
                    client.close(WRONG_TOKEN, "wrong or missing token", "open the address that the server printed")
                async for message in socket_:
                    if admitted and message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                        endpoint.received(client, message.data)
            finally:
                del self._clients[client]
                if admitted:
                    endpoint.closed(client)
                if not client.closing:
                    client.close(1000, "")
                    writer.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await writer  # it may be in the middle of the closing handshake
            return socket_

        return handle


async def _until_closed(socket_: web.WebSocketResponse) -> None:
    while not socket_.closed:
        await asyncio.sleep(0.01)
