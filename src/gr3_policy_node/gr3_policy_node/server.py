"""A policy for others: the openpi protocol over websockets.

On connecting the server sends its metadata; then the client sends one observation at a time and gets one answer each,
chunk or error. The wire is openpi's, so that its client works unmodified; what its server lacks is mended on this side:
inference never runs on the event loop (a blocked loop loses every client to the keep-alive, openpi issue #717),
requests carry deadlines, clients that ask together are answered together, messages are bounded, and a bad request is
refused in words while the connection lives on.

Errors are text frames, which openpi's client raises as RuntimeError: `request: ..` for what the client can mend and
`deadline: ..`, after which the connection is good; `policy: ..` and `protocol: ..`, after which it closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import http
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from bytemini_core.types import Policy, PolicyMetadata
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from gr3_policy_node.backends import described
from gr3_policy_node.codec import pack, unpack
from gr3_policy_node.inference import BatchPolicy, DeadlineError, InferenceQueue
from gr3_policy_node.protocol import announcement, noise_shape, parse_request, reply
from gr3_policy_node.warmup import warm_up

PORT = 8000

CLOSE_SECONDS = 2.0
"""How long a client may take to say goodbye."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to serve.

    `token`: what clients must bring as `Authorization: Api-Key TOKEN`, "" for none. `most_bytes`: of one message.
    `deadline`: seconds for requests that state none, None for whenever. `most_clients`: connections at one time.
    `batch`: requests that one inference may answer. `seed`: of the noise that is drawn for clients of a shared policy.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    token: str = ""
    most_bytes: int = 16 * 2**20
    deadline: float | None = None
    most_clients: int = 16
    batch: int = 8
    seed: int = 0


class PolicyServer:
    """Serves one policy to several clients.

    A policy that offers `infer_batch`, or says `stateless` in its metadata's `extra`, keeps nothing between two calls
    and is shared; of any other, each client gets an instance of its own, so that no client's task disturbs another's.
    """

    def __init__(self, make_policy: Callable[[], Policy], robot: RobotModel, options: ServerOptions) -> None:
        """Load the policy and warm it up, so that no client ever waits for that.

        Args:
            make_policy: makes one more instance.
            robot: whose joints the state holds.
            options: how to serve.

        Raises:
            ValueError: the policy cannot be served, with the reason.
        """
        self._make_policy = make_policy
        self._options = options
        self._joints = robot.joint_names
        policy = make_policy()
        self.metadata: PolicyMetadata = policy.metadata
        if self.metadata.privileged:
            raise ValueError(
                f"{self.metadata.name} reads the simulator's truth, which no client can send: serve another"
            )
        self.warm_up_seconds = warm_up(policy, robot)
        self.description = described(policy)
        self._stateless = isinstance(policy, BatchPolicy) or bool(self.metadata.extra.get("stateless", False))
        self._spare: Policy | None = policy
        self._random = np.random.default_rng(options.seed)
        self._clients = 0
        self._shared: InferenceQueue | None = None
        if self._stateless:
            self._shared = InferenceQueue(policy, options.batch, lambda: self._clients)
        self._greeting = pack(announcement(self.metadata, self._joints, options.most_bytes))

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Server]:
        """Accept clients within this context.

        Raises:
            OSError: the port is taken, or the host is none of this machine's.
        """
        options = self._options
        try:
            async with serve(
                self._serve,
                options.host,
                options.port,
                compression=None,
                max_size=options.most_bytes,
                close_timeout=CLOSE_SECONDS,
                process_request=self._on_request,
                server_header=None,
            ) as server:
                yield server
        finally:
            if self._shared is not None:
                await asyncio.to_thread(self._shared.stop)

    def _on_request(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        token = self._options.token
        if token and not hmac.compare_digest(
            request.headers.get("Authorization", "").encode(), f"Api-Key {token}".encode()
        ):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "expected 'Authorization: Api-Key TOKEN'\n")
        if self._clients >= self._options.most_clients:
            return connection.respond(
                http.HTTPStatus.SERVICE_UNAVAILABLE, f"there are {self._clients} clients already, try again later\n"
            )
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        self._clients += 1
        try:
            async with self._inference() as inference:
                await connection.send(self._greeting)
                await self._converse(connection, inference)
        except ConnectionClosed:
            pass  # the client's way to say goodbye
        finally:
            self._clients -= 1

    @contextlib.asynccontextmanager
    async def _inference(self) -> AsyncIterator[InferenceQueue]:
        """What answers one client."""
        if self._shared is not None:
            yield self._shared
            return
        policy, self._spare = self._spare, None
        if policy is None:
            policy = await asyncio.to_thread(self._make_policy)
        policy.reset()
        own = InferenceQueue(policy)
        try:
            yield own
        finally:
            await asyncio.to_thread(own.stop)

    async def _converse(self, connection: ServerConnection, inference: InferenceQueue) -> None:
        previous: dict[str, float] = {}
        shape = noise_shape(self.metadata) if self._shared is not None else None
        # A shared policy cannot keep one task's noise: it is drawn here, once per task of each client.
        noise = self._draw(shape)
        async for data in connection:
            begun = time.perf_counter()
            if isinstance(data, str):
                await self._end(connection, "protocol: this is a text frame, expected msgpack in a binary frame")
                return
            try:
                message = unpack(data)
            except ValueError as error:
                await self._end(connection, f"protocol: {error}")
                return
            try:
                request = parse_request(message, self.metadata, self._joints, time.time_ns())
                deadline = request.deadline if request.deadline is not None else self._options.deadline
                if request.reset:
                    noise = self._draw(shape)
                if shape is not None:
                    drawn = noise if request.noise is None else request.noise
                    request = replace(request, noise=drawn)
                if self._shared is not None:
                    request = replace(request, reset=False)  # one client's new task is no other's
                # The inference itself cannot be stopped; its answer is dropped when it comes too late.
                future = asyncio.wrap_future(inference.submit(request, deadline))
                future.add_done_callback(lambda done: done.cancelled() or done.exception())
                answer = await asyncio.wait_for(asyncio.shield(future), deadline)
            except (DeadlineError, TimeoutError) as error:
                limit = "" if deadline is None else f" of {1000 * deadline:g} ms"
                await connection.send(f"deadline: {error or 'the inference took longer than the deadline'}{limit}")
                continue
            except ValueError as error:
                await connection.send(f"request: {error}")
                continue
            except Exception as error:  # whatever broke in a policy ends this connection, not the server
                await self._end(connection, f"policy: {type(error).__name__}: {error}")
                return
            timing = {
                "infer_ms": 1000.0 * answer.inferred,
                "queue_ms": 1000.0 * answer.waited,
                "batch": answer.batch,
                **previous,
            }
            await connection.send(pack(reply(answer.chunk, answer.phase, timing, 1000.0 * answer.inferred)))
            previous = {"prev_total_ms": 1000.0 * (time.perf_counter() - begun)}

    def _draw(self, shape: tuple[int, int] | None) -> NDArray[np.float32] | None:
        return None if shape is None else self._random.standard_normal(shape, dtype=np.float32)

    @staticmethod
    async def _end(connection: ServerConnection, reason: str) -> None:
        await connection.send(reason)
        await connection.close(1011, reason.partition(":")[0])


@contextlib.contextmanager
def served(
    make_policy: Callable[[], Policy], robot: RobotModel, options: ServerOptions | None = None
) -> Iterator[tuple[PolicyServer, str]]:
    """A server in a thread of its own: itself and its address.

    Raises:
        ValueError: the policy cannot be served.
        OSError: it cannot listen there.
    """
    server = PolicyServer(make_policy, robot, options or ServerOptions(port=0))
    loop = asyncio.new_event_loop()
    ready, done = threading.Event(), asyncio.Event()
    outcome: list[str | BaseException] = []

    async def run() -> None:
        try:
            async with server.listening() as listening:
                host, port = listening.sockets[0].getsockname()[:2]
                outcome.append(f"ws://{host}:{port}")
                ready.set()
                await done.wait()
        except OSError as error:
            outcome.append(error)
            ready.set()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), name="server", daemon=True)
    thread.start()
    ready.wait()
    address = outcome[0]
    try:
        if isinstance(address, BaseException):
            raise address
        yield server, address
    finally:
        if not isinstance(address, BaseException):
            loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()
