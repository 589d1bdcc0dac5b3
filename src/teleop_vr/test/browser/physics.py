"""The page's server with a robot in the MuJoCo simulator, in one process: real controller, real physics, no ROS.

What the simulator knows is written to a file, for a test to look at and to steer by as a person would by eye.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import queue
import threading
import time
from pathlib import Path

import mujoco
from bytemini_core.types import CAMERAS, NANOSECONDS, SIDES, Mode, WholeBodyReference
from bytemini_core.web import certificate
from bytemini_description.robot import load_robot
from bytemini_sim.tasks import make_task
from bytemini_sim.world import World
from teleop_vr.demo import IdealRobot
from teleop_vr.poses import from_matrix
from teleop_vr.retarget import RetargetConfig
from teleop_vr.service import Service
from wbc_controller.config import WbcConfig
from wbc_controller.controller import WholeBodyController

from teleop_vr import inputs

BEFORE_THE_RIGHT_HAND = (0.52, -0.2)
OUT_OF_THE_WAY = (0.66, 0.35)
"""Where the object lies, and a bowl, m in odom."""

LOOK_PERIOD = 8
"""Control ticks between two of what is said to the test."""
PICTURE_PAUSE = 0.1
"""s between two pictures of each camera, beside what drawing them takes."""


class Simulated:
    """A robot before a table with one object on it."""

    def __init__(self, thing: str, size: tuple[int, int]) -> None:
        self.model = load_robot("v1")
        scene = make_task("pick_place").sample(0, f"put the {thing} into the bowl")
        (item,) = (placed for placed in scene.objects if placed.name == thing)
        (bowl,) = scene.containers
        item = dataclasses.replace(item, position=(*BEFORE_THE_RIGHT_HAND, item.position[2]), yaw=0.0)
        bowl = dataclasses.replace(bowl, position=(*OUT_OF_THE_WAY, bowl.position[2]))
        scene = dataclasses.replace(scene, objects=(item,), containers=(bowl,))
        self.world = World(self.model, scene, image_size=size)
        self._controller = WholeBodyController(self.model, WbcConfig())
        self._reference: WholeBodyReference | None = None
        self._recorder = IdealRobot(self.model)
        self._asked: list[tuple[Mode, bool]] = []
        self._lock = threading.Lock()
        self._instants: queue.SimpleQueue[mujoco.MjData] = queue.SimpleQueue()
        self._drawn = threading.Event()
        self._drawn.set()

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
        """Pass it to a recorder that only says so."""
        self._recorder.record(command, confirmed, success)

    def run(self, service: Service, truth: Path, track: Path | None) -> None:
        """Live, in real time as far as the machine can; where the hands are goes to `track`, tick by tick."""
        due, tick = time.monotonic(), 0
        dt = self.world.physics.tick / NANOSECONDS
        while True:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + dt, time.monotonic() - 0.02)
            with self._lock:
                asked, self._asked = self._asked, []
            for mode, reset in asked:
                self._controller.request_mode(mode, reset)
            state = self.world.state()
            command = self._controller.update(state.stamp / NANOSECONDS, state, self._reference)
            self.world.step(command.joint)
            service.hear(inputs.Measured(self.world.state()))
            service.hear(inputs.Commanded(command.joint.names, command.joint.position))
            status = command.status
            service.hear(inputs.Controller(status.mode, status.reason, status.active, status.sacrificed))
            if tick % LOOK_PERIOD == 0:
                self._tell(truth)
                service.hear(self._recorder._recorder())
                if self._drawn.is_set():
                    self._drawn.clear()
                    self._instants.put(self.world.freeze())
            if track is not None:
                hands = [from_matrix(self.world.frame(f"{side}_tcp")) for side in SIDES]
                with track.open("a") as file:
                    file.write(" ".join(map(str, (time.time(), *hands[0], *hands[1]))) + "\n")
            tick += 1

    def film(self, service: Service) -> None:
        """Take pictures of the instants that `run` hands over, in a thread of its own: drawing takes long."""
        while True:
            for camera, image in self.world.images(self._instants.get()).items():
                service.see(camera, image)
            time.sleep(PICTURE_PAUSE)
            self._drawn.set()

    def _tell(self, truth: Path) -> None:
        scene, state = self.world.scene_state(), self.world.state()
        said = {
            "time": self.world.time / NANOSECONDS,
            "hands": {side: self.world.frame(f"{side}_tcp").tolist() for side in ("left", "right")},
            "objects": {item.name: item.pose.tolist() for item in scene.objects},
            "base": state.base_pose.tolist(),
            "lift": float(state.position[0]),
        }
        new = truth.with_suffix(".new")
        new.write_text(json.dumps(said))
        new.replace(truth)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--thing", required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--track", type=Path, help="file for time (s since 1970) and hands (14) of every tick")
    parser.add_argument("--size", type=int, default=96, help="height of the pictures, px")
    arguments = parser.parse_args()
    robot = Simulated(arguments.thing, (arguments.size, arguments.size * 4 // 3))
    assert set(robot.world.cameras) == set(CAMERAS)
    service = Service(
        robot.model,
        robot,
        RetargetConfig(),
        port=arguments.port,
        token=arguments.token,
        tls=certificate(),
        host="127.0.0.1",
    )
    service.start()
    threading.Thread(target=robot.film, args=(service,), daemon=True).start()
    robot.run(service, arguments.truth, arguments.track)


if __name__ == "__main__":
    main()
