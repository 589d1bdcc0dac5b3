"""The service with a robot of thought: the whole-body controller drives a body that does at once what it is told.

For the page and for trying a headset: no ROS, no physics. Cameras show a synthetic picture with the time in it.
"""

from __future__ import annotations

import argparse
import json
import logging
import threading
import time

import numpy as np
from bytemini_core.errors import UserError
from bytemini_core.types import CAMERAS, Array, Mode, RobotState, WholeBodyReference
from bytemini_core.web import WebError, certificate, pairing_token
from bytemini_data.card import Place, SceneCard
from bytemini_description.robot import RobotModel, load_robot
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from wbc_controller.controller import WholeBodyController

from teleop_vr import inputs
from teleop_vr.address import show
from teleop_vr.retarget import RetargetConfig
from teleop_vr.service import Service

_PLACES = (
    Place("apple", "object", 0.5, -0.15),
    Place("pear", "other", 0.6, 0.02),
    Place("bowl", "destination", 0.55, 0.22),
)


class IdealRobot:
    """Joints and base that are where they are commanded to be, at 200 Hz, and a recorder that only says so."""

    def __init__(self, model: RobotModel) -> None:
        self._model = model
        self._controller = WholeBodyController(model)
        self._position = model.home.copy()
        self._base = np.zeros(3)
        self._twist = np.zeros(3)
        self._reference: WholeBodyReference | None = None
        self._asked: list[tuple[Mode, bool]] = []
        card = SceneCard("put the apple into the bowl", _PLACES, "kitchen")
        self._card = json.dumps(card.as_dict())
        self._episode = inputs.Recorder(state="IDLE", task=card.instruction, dataset="(demo)")
        self._since = 0.0
        self._lock = threading.Lock()

    def lead(self, reference: WholeBodyReference) -> None:
        """Take a reference."""
        self._reference = reference

    def ask_mode(self, mode: Mode, reset: bool = False) -> None:
        """Take a request, which the next tick answers."""
        with self._lock:
            self._asked.append((mode, reset))

    def stop(self, stopped: bool) -> None:
        """Take the emergency stop."""
        if stopped:
            self.ask_mode(Mode.ESTOP)

    def record(self, command: str, confirmed: bool, success: bool) -> None:
        """Play the recorder."""
        state = {"start": "COUNTDOWN", "save": "SAVING", "discard": "DISCARDED", "abort": "ABORTED"}[command]
        if command == "discard" and not confirmed:
            return
        with self._lock:
            before = self._episode
            self._since = time.monotonic()
            self._episode = inputs.Recorder(
                state=state,
                index=before.index + (command == "start"),
                saved=before.saved,
                task=before.task,
                quality="pass" if success else "",
                dataset=before.dataset,
            )

    def _recorder(self) -> inputs.Recorder:
        with self._lock:
            now, at = time.monotonic() - self._since, self._episode
            state, countdown, duration, saved = at.state, 0.0, 0.0, at.saved
            if state == "COUNTDOWN":
                countdown = max(0.0, 3.0 - now)
                if countdown == 0.0:
                    state, self._since = "RECORDING", time.monotonic()
            elif state == "RECORDING":
                duration = now
            elif state == "SAVING" and now > 0.5:
                state, saved = "SAVED", saved + 1
            self._episode = inputs.Recorder(
                state, at.index, saved, countdown, duration, at.task, self._card, at.quality, (), at.dataset
            )
            return self._episode

    def run(self, service: Service, ended: threading.Event) -> None:
        """Live until `ended`."""
        dt = self._controller.config.period
        due, tick = time.monotonic(), 0
        while not ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + dt, time.monotonic() - 0.02)
            now = time.monotonic_ns()
            with self._lock:
                asked, self._asked = self._asked, []
            for mode, reset in asked:
                self._controller.request_mode(mode, reset)
            state = self._state(now)
            command = self._controller.update(now / 1e9, state, self._reference)
            self._follow(command.joint.position, command.joint.base_twist, dt)
            service.hear(inputs.Measured(self._state(now)))
            service.hear(inputs.Commanded(command.joint.names, command.joint.position))
            status = command.status
            service.hear(inputs.Controller(status.mode, status.reason, status.active, status.sacrificed))
            if tick % 20 == 0:
                service.hear(self._recorder())
            tick += 1

    def _follow(self, position: Array, twist: Array, dt: float) -> None:
        self._position, self._twist = position, twist
        cos, sin = np.cos(self._base[2]), np.sin(self._base[2])
        vx, vy, wz = twist
        self._base = self._base + dt * np.array((cos * vx - sin * vy, sin * vx + cos * vy, wz))

    def _state(self, now: int) -> RobotState:
        zero = np.zeros(len(self._position))
        return RobotState(now, self._model.joint_names, self._position, zero, zero, self._base, self._twist)


def drawing(camera: str, number: int, size: int = 224) -> NDArray[np.uint8]:
    """A synthetic picture: a grid, the camera's name, a counter and something that moves."""
    image = Image.new("RGB", (size, size), {"head": "#203040", "left_wrist": "#402030"}.get(camera, "#304020"))
    draw = ImageDraw.Draw(image)
    for at in range(0, size, size // 8):
        draw.line([(at, 0), (at, size)], fill="#506070")
        draw.line([(0, at), (size, at)], fill="#506070")
    x, y = (size // 2 + int(size * 0.35 * f(number / 10.0)) for f in (np.cos, np.sin))
    draw.ellipse([x - 12, y - 12, x + 12, y + 12], fill="#f0c020")
    draw.text((8, 8), f"{camera} {number}", fill="white")
    return np.asarray(image)


def _film(service: Service, ended: threading.Event) -> None:
    number = 0
    while not ended.wait(1.0 / 15.0):
        for camera in CAMERAS:
            service.see(camera, drawing(camera, number))
        number += 1


def main(argv: list[str] | None = None) -> int:
    """Serve the page with a robot of thought, until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m teleop_vr.demo", description=main.__doc__)
    parser.add_argument("--port", type=int, default=8443, help="port (default: %(default)s)")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen at (default: all)")
    parser.add_argument("--token", default="", help="pairing token (default: the kept one)")
    parser.add_argument("--robot", default="v1", choices=("v1", "v2"), help="version of the robot")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    model = load_robot(arguments.robot)
    robot, ended = IdealRobot(model), threading.Event()
    try:
        service = Service(
            model,
            robot,
            RetargetConfig(),
            port=arguments.port,
            token=arguments.token or pairing_token(),
            tls=certificate(),
            host=arguments.host,
        )
        service.start()
    except WebError as error:
        raise UserError(str(error)) from error
    film = threading.Thread(target=_film, args=(service, ended), daemon=True)
    film.start()
    show(service.server.url(), service.server.port)
    try:
        robot.run(service, ended)
    except KeyboardInterrupt:
        print("stopped")
    finally:
        ended.set()
        service.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
