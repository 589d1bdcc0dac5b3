"""The session, its clock, its sockets and its pictures in one process: everything but where the robot is.

`Service.hear` takes what the robot says, a `Robot` is told what it should do. Threads: the web server's, the video's,
the clock's here, and the robot's; the session is behind one lock, and what follows from an input is carried out before
the next is taken, so that references leave in order.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from aiohttp import web
from bytemini_core.types import CAMERAS, Mode, WholeBodyReference
from bytemini_core.web import TOO_MUCH, Certificate, Client, Echo, Endpoint, Route, Server, Site, addresses
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray

from teleop_vr import inputs
from teleop_vr.intake import Reaction
from teleop_vr.journal import Journal
from teleop_vr.mapping import TABLE
from teleop_vr.person import LARGEST, PageClock, Person, parse_picture
from teleop_vr.protocol import VERSION, Refused
from teleop_vr.retarget import RetargetConfig
from teleop_vr.session import Outputs, Session
from teleop_vr.video import Video

TICK = 0.01
"""Seconds between two looks at the clock."""

STATE_PERIOD = 1.0 / 30.0
PING_PERIOD = 1.0


class Robot(Protocol):
    """Who carries out what a session decides. Called with the session locked: it must not block or call back."""

    def lead(self, reference: WholeBodyReference) -> None:
        """Send a reference to the controller."""

    def ask_mode(self, mode: Mode, reset: bool = False) -> None:
        """Ask the controller for a mode; `reset`: HOLD may leave an emergency stop."""

    def stop(self, stopped: bool) -> None:
        """Latch or release the emergency stop."""

    def record(self, command: str, confirmed: bool, success: bool) -> None:
        """Command the recorder."""


def pages() -> Path:
    """The folder of the page: the source tree's, or the installed one."""
    source = Path(__file__).resolve().parents[1] / "web"
    if source.is_dir():
        return source
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory("teleop_vr")) / "web"


class Stages:
    """Where the time goes from a frame's arrival to its reference: s, the last 4096 of each stage."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, stage: str, seconds: float) -> None:
        """Note one duration."""
        values = self._values.setdefault(stage, [])
        values.append(seconds)
        if len(values) > 4096:
            del values[:2048]

    def summary(self) -> dict[str, dict[str, float]]:
        """Stage to its p50 and p99, ms."""
        return {
            stage: {f"p{p}": round(1000 * float(np.percentile(values, p)), 3) for p in (50, 99)}
            for stage, values in self._values.items()
            if values
        }


class Service:
    """See the module."""

    def __init__(
        self,
        model: RobotModel,
        robot: Robot,
        config: RetargetConfig,
        *,
        port: int,
        token: str,
        tls: Certificate,
        toggle: bool = False,
        host: str = "0.0.0.0",
        journal: Path | None = None,
        person: Person | None = None,
    ) -> None:
        """Prepare; `start` listens.

        Args:
            model: the robot's model.
            robot: who carries out what is decided.
            config: of the retargeting.
            port: where to serve; 0 for any free one.
            token: what pages have to know.
            tls: key and certificate.
            toggle: both grips toggle, instead of each being held.
            host: the address to listen at.
            journal: file to write every input to; None for none.
            person: who takes what the operator shows, where there is no robot; None with a robot.

        Raises:
            OSError: the journal cannot be written.
        """
        self._model, self._robot = model, robot
        self._session = Session(model, config, toggle, alone=person is not None)
        self._person, self._page_clock = person, PageClock()
        self._journal = Journal(journal, model.version, config, toggle) if journal is not None else None
        self._lock = threading.Lock()
        self._clients: dict[int, Client] = {}
        self._ended = threading.Event()
        self._log = logging.getLogger("bytemini.teleop")
        self._notes, self._noted = 10.0, time.monotonic()
        self._said_rejected: dict[str, int] = {}
        self.stages, self.reaction = Stages(), Reaction()
        self.video = Video(CAMERAS)
        routes = (
            Route("GET", "/api/health", self._health, public=True),
            Route("GET", "/api/certificate", self._certificate, public=True),
            Route("GET", "/api/doctor", self._doctor),
            Route("GET", "/api/state", self._state),
        )
        sockets: dict[str, Endpoint] = {"/ws": self, "/ws/echo": Echo()}
        if person is not None:
            sockets["/ws/camera"] = _HeadsetCamera(self)
        site = Site("teleop", pages(), routes, sockets)
        if person is not None:
            site = dataclasses.replace(site, largest=LARGEST)
        self.server = Server(site, port, token, tls, host)
        self._clock = threading.Thread(target=self._keep_time, name="teleop-clock", daemon=True)

    def start(self) -> None:
        """Listen.

        Raises:
            WebError: the port is taken.
        """
        self.server.start()
        self.video.start()
        self._clock.start()

    def stop(self) -> None:
        """Stop listening; the robot is asked to hold if it was led."""
        self._ended.set()
        if self._clock.is_alive():
            self._clock.join(timeout=2.0)
        for number in list(self._clients):
            self.hear(inputs.Closed(number))
        self.video.stop()
        self.server.stop()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def hear(self, item: inputs.Input) -> None:
        """Take an input now, and carry out what follows."""
        arrived = time.perf_counter()
        with self._lock:
            now = time.monotonic_ns()
            waited = time.perf_counter()
            out = self._session.feed(now, item)
            if out.frame is not None and self._person is not None:
                self._person.moved(out.frame, self._page_clock.stamp(now, out.frame.time))
            decided = time.perf_counter()
            self._carry_out(out)
            done = time.perf_counter()
            if self._journal is not None:
                self._journal.add(now, item, out)
            if out.reference is not None and isinstance(item, inputs.Binary):
                self.stages.add("wait", waited - arrived)
                self.stages.add("session", decided - waited)
                self.stages.add("publish", done - decided)

    def _carry_out(self, out: Outputs) -> None:
        if out.reference is not None:
            self._robot.lead(out.reference)
        if out.estop is not None:
            self._robot.stop(out.estop)
        if out.mode is not None:
            self._robot.ask_mode(out.mode, reset=out.estop is False)
        for command in out.recorder:
            self._robot.record(*command)
        for number, message in out.messages:
            if message["type"] == "welcome":
                message = {**message, **self._welcome()}
            if message["type"] == "event" and number is None:
                self._log.log(getattr(logging, message["level"].upper(), logging.WARNING), "%s", message["text"])
            for client in [self._clients.get(number)] if number is not None else list(self._clients.values()):
                if client is not None:
                    client.send(message)
        for number, code, reason, fix in out.closes:
            if (client := self._clients.get(number)) is not None:
                client.close(code, reason, fix)

    def _welcome(self) -> dict[str, Any]:
        return {
            "protocol": VERSION,
            "robot": self._model.version,
            "human": self._person is not None,
            "cameras": []
            if self._person is not None
            else [
                {"id": i, "name": name, **({"eye": "both"} if name == "head" else {})} for i, name in enumerate(CAMERAS)
            ],
            "mapping": [dataclasses.asdict(row) for row in TABLE],
        }

    @property
    def operator(self) -> str:
        """What the operator calls itself; "" when nobody holds the robot."""
        return self._session.operators.name

    def see(self, camera: str, image: NDArray[np.uint8], captured: float | None = None) -> None:
        """Take a camera's picture (H, W, 3) RGB, taken at `captured` (s, steady); None for now."""
        self.video.offer(CAMERAS.index(camera), image, time.monotonic() if captured is None else captured)

    def film(self, data: bytes) -> None:
        """Take a picture of the headset's camera, as it came.

        Raises:
            Refused: it is none.
        """
        picture = parse_picture(data)
        with self._lock:
            stamp = self._page_clock.stamp(time.monotonic_ns(), picture.time)
        if self._person is not None:
            self._person.saw(picture, stamp)

    # Sockets

    def opened(self, client: Client) -> None:
        """A page connected."""
        self._clients[client.number] = client
        self.hear(inputs.Opened(client.number))
        self.video.watch(client)

    def received(self, client: Client, message: str | bytes) -> None:
        """A page spoke."""
        if isinstance(message, bytes):
            self.hear(inputs.Binary(client.number, message))
            return
        if message.startswith('{"type":"shown"') or message.startswith('{"type": "shown"'):
            self._shown(client, message)
            return
        if message.startswith('{"type":"log"'):
            self._note(client, message)
        self.hear(inputs.Text(client.number, message))

    def _note(self, client: Client, text: str) -> None:
        """Log what a page wants to be logged, two lines a second at most."""
        now = time.monotonic()
        self._notes = min(10.0, self._notes + 2.0 * (now - self._noted))
        self._noted = now
        if self._notes >= 1.0:
            self._notes -= 1.0
            self._log.info("page %d: %s", client.number, ascii(text[14:500]))

    def closed(self, client: Client) -> None:
        """A page is gone."""
        self._clients.pop(client.number, None)
        self.video.leave(client)
        self.hear(inputs.Closed(client.number))

    def _shown(self, client: Client, text: str) -> None:
        try:
            message = json.loads(text)
            camera, sequence = int(message["camera"]), int(message["sequence"])
        except (ValueError, KeyError, TypeError):
            with self._lock:
                self._session.rejected["field"] += 1
            return
        trip = self._session.delay.round_trip if client.number == self._session.operators.holder else None
        self.video.shown(client, camera, sequence, trip)

    # Time

    def _keep_time(self) -> None:
        due_state = due_ping = due_pictures = time.monotonic()
        number = 0
        while not self._ended.wait(TICK):
            now = time.monotonic()
            self.hear(inputs.Tick())
            if now >= due_state:
                due_state = max(due_state + STATE_PERIOD, now)
                self._tell()
            if now >= due_pictures:
                due_pictures = now + 0.25
                self.hear(inputs.Pictures(self.video.ages()))
                self._say_rejected()
            if now >= due_ping:
                due_ping, number = now + PING_PERIOD, number + 1
                for client in list(self._clients.values()):
                    client.send({"type": "ping", "id": number})

    def _tell(self) -> None:
        """Send everybody the state."""
        for number, client in list(self._clients.items()):
            client.offer("state", json.dumps(self.view(number)))

    def view(self, number: int) -> dict[str, Any]:
        """The state as a client sees it."""
        with self._lock:
            state = self._session.view(time.monotonic_ns(), number)
            age, reaction = self._session.delay.usual, self.reaction.usual
        state["latency"]["command_ms"] = None if age is None or reaction is None else round(1000 * (age + reaction), 1)
        state["latency"]["video_ms"] = self.video.latency(number)
        return state

    def _say_rejected(self) -> None:
        """Log what was refused since the last look, by reason."""
        with self._lock:
            rejected = dict(self._session.rejected)
        new = {reason: n - self._said_rejected.get(reason, 0) for reason, n in rejected.items()}
        if any(new.values()):
            self._said_rejected = rejected
            self._log.warning("refused: %s", ", ".join(f"{n} x {reason}" for reason, n in new.items() if n))

    # Requests

    async def _health(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True, "service": "teleop_vr", "protocol": VERSION})

    async def _certificate(self, _: web.Request) -> web.StreamResponse:
        headers = {"Content-Disposition": 'attachment; filename="bytemini.crt"'}
        content = self.server.tls.chain.read_bytes()
        return web.Response(body=content, content_type="application/x-x509-ca-cert", headers=headers)

    async def _state(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(self.view(0))

    async def _doctor(self, request: web.Request) -> web.StreamResponse:
        state = self.view(0)
        tls = self.server.tls
        host = (request.url.host or "").strip("[]")
        return web.json_response(
            {
                "tls": {
                    "names": list(tls.names),
                    "expires": tls.expires.isoformat(),
                    "fingerprint": tls.fingerprint,
                    "host": host,
                    "host_covered": host in tls.names,
                },
                "server": {"addresses": list(addresses()), "port": self.server.port},
                "stream": {**state["latency"], "rejected": state["counters"]["rejected"]},
                "cameras": {name: round(age, 2) for name, age in self.video.ages().items()},
                "stages_ms": self.stages.summary(),
                "checks": _checks(state, host, tls, self.video.ages()),
            }
        )


def _checks(state: dict[str, Any], host: str, tls: Certificate, ages: dict[str, float]) -> list[dict[str, Any]]:
    """What the doctor page shows: name, whether it is well, the value, and what to do about it."""
    latency = state["latency"]
    trip, jitter, rate = latency["rtt_ms"], latency["jitter_ms"], latency["frame_hz"]
    days = (tls.expires.timestamp() - time.time()) / 86400
    wifi = "use 5 or 6 GHz with 80 MHz, the server on a cable, power saving off (DTIM 1); or adb reverse over USB"
    found = [
        (
            "certificate names this host",
            host in tls.names,
            host,
            "restart the server: it adds this machine's addresses",
        ),
        ("certificate is valid", days > 0, f"{days:.0f} days", "restart the server: it makes a new one"),
        ("round trip below 40 ms", trip is None or trip < 40.0, trip, wifi),
        ("jitter below 8 ms", jitter is None or jitter < 8.0, jitter, wifi),
        (
            "headset sends 60 frames a second or more",
            rate is None or rate > 60.0,
            rate,
            "close other apps on the headset; lower the panels' size",
        ),
        (
            "robot is heard",
            not any(w["code"] == "robot" for w in state["warnings"]),
            state["mode"],
            "start the robot's driver or the simulator, and wbc_controller",
        ),
        (
            "cameras send pictures",
            bool(ages) and max(ages.values()) < 1.0,
            ", ".join(f"{name} {age:.1f} s" for name, age in ages.items()) or "none",
            "start the cameras; look at their topics camera/*/color/image_raw",
        ),
        ("a recorder runs", bool(state["episode"]["state"]), state["episode"]["state"], "start the recorder's node"),
    ]
    return [{"name": name, "ok": ok, "value": value, "fix": "" if ok else fix} for name, ok, value, fix in found]


class _HeadsetCamera:
    """The socket for pictures of the headset's camera; the page that came last films."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._films: Client | None = None

    def opened(self, client: Client) -> None:
        before, self._films = self._films, client
        if before is not None:
            before.close(TOO_MUCH, "another headset films", "leave the other headset's session")

    def received(self, client: Client, message: str | bytes) -> None:
        if client is not self._films or isinstance(message, str):
            return
        try:
            self._service.film(message)
        except Refused as error:
            client.close(TOO_MUCH, str(error), "reload the page")

    def closed(self, client: Client) -> None:
        if client is self._films:
            self._films = None
