"""A person with an emulated headset takes an object from the simulator's table, lifts it, and drives with it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bytemini_core.types import Array
from bytemini_sim.grasp import hand_rotation
from playwright.sync_api import Browser
from teleop_vr.poses import from_webxr, to_webxr

from .operating import TOKEN, Operator, Served, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
THING = "red block"


class Watcher:
    """What a person sees: where hands and things are."""

    def __init__(self, truth: Path) -> None:
        self._truth = truth

    def look(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._truth.read_text())
        return found

    def hand(self, side: str) -> Array:
        """(4, 4) of a hand's grasp centre in odom."""
        return np.array(self.look()["hands"][side])

    def thing(self) -> Array:
        return np.array(self.look()["objects"][THING])


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("physics") / "truth.json"


@pytest.fixture(scope="module")
def served(chromium: Browser, truth: Path) -> Iterator[Served]:
    assert chromium.is_connected()
    script = str(Path(__file__).with_name("physics.py"))
    command = [script, "--thing", THING, "--truth", str(truth), "--port", "{port}", "--token", TOKEN]
    server = Served(command, truth.with_name("log.txt"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


def rotation_vector(rotation: Array) -> Array:
    """Axis times angle of a rotation matrix (3, 3)."""
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    size = float(np.linalg.norm(axis))
    angle = float(np.arctan2(size, np.trace(rotation) - 1.0))
    return axis / size * angle if size > 1e-9 else np.zeros(3)


def turned(vector: Array, orientation: Array) -> Array:
    """Quaternion (x, y, z, w) after a turn by axis times angle, both in the same axes."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-9:
        return orientation
    x, y, z = vector / angle * np.sin(angle / 2.0)
    w = np.cos(angle / 2.0)
    ox, oy, oz, ow = orientation
    made = np.array(
        [
            w * ox + x * ow + y * oz - z * oy,
            w * oy - x * oz + y * ow + z * ox,
            w * oz + x * oy - y * ox + z * ow,
            w * ow - x * ox - y * oy - z * oz,
        ]
    )
    return made / np.linalg.norm(made)


def bounded(vector: Array, most: float) -> Array:
    size = float(np.linalg.norm(vector))
    return vector if size <= most else vector / size * most


def steer(operator: Operator, watcher: Watcher, grip: Array, goal: Array, close: float, within: float) -> Array:
    """Move the right controller, looking, until the hand is where it is wanted; where the controller is then.

    `grip` (7,): the controller in REP-103 axes. `goal` (4, 4): the hand's grasp centre in odom. `close`: m.
    """
    end = time.monotonic() + within
    while True:
        hand = watcher.hand("right")
        way, turn = goal[:3, 3] - hand[:3, 3], rotation_vector(goal[:3, :3] @ hand[:3, :3].T)
        if np.linalg.norm(way) < close and np.linalg.norm(turn) < 0.1:
            return grip
        if not operator.served.state()["hands"]["right"][
            "engaged"
        ]:  # a busy machine kept the page's frames back: grip anew
            operator.let_go("right")
            operator.engage("right")
        assert time.monotonic() < end, f"the hand is still {way.round(3)} m and {turn.round(2)} rad away"
        grip = np.concatenate((grip[:3] + bounded(0.2 * way, 0.02), turned(bounded(0.2 * turn, 0.06), grip[3:])))
        wire = to_webxr(grip).tolist()
        operator.pose("right", wire[:3], wire[3:])
        time.sleep(0.04)


def still(watcher: Watcher) -> bool:
    """Whether the right hand stands, over a fifth of a second that the simulator lived."""
    first = watcher.look()
    until(lambda: watcher.look()["time"] > first["time"] + 0.2, 8, "simulated time goes on")
    return bool(np.abs(watcher.hand("right") - np.array(first["hands"]["right"])).max() < 0.002)


def test_takes_lifts_and_drives_away(open_page, served: Served, truth: Path) -> None:
    operator = Operator(open_page(served.address, headset=True), served)
    watcher = Watcher(truth)
    operator.enter()
    began = watcher.look()
    start = np.array(operator.act("where", "right") + operator.act("turned", "right"))
    operator.engage("right")
    held = watcher.hand("right")
    operator.page.wait_for_timeout(300)
    assert np.linalg.norm(watcher.hand("right")[:3, 3] - held[:3, 3]) < 0.005, "engaging moved the hand"

    pose = watcher.thing()
    rotation = hand_rotation(np.array(0.2), np.radians(42.0))
    goal = np.eye(4)
    goal[:3, :3], goal[:3, 3] = rotation, pose[:3] + 0.12 * rotation[:, 2]

    operator.grip("right", 0.0)
    grip = steer(operator, watcher, from_webxr(start), goal, 0.02, 40)
    goal[:3, 3] = pose[:3]
    grip = steer(operator, watcher, grip, goal, 0.012, 30)
    assert np.linalg.norm(watcher.thing()[:3] - pose[:3]) < 0.02, "the approach pushed the object"
    operator.grip("right", 1.0)
    goal[2, 3] += 0.12
    steer(operator, watcher, grip, goal, 0.03, 30)
    assert watcher.thing()[2] > pose[2] + 0.05, "the object was not lifted"

    operator.act("stick", "right", 0, -1)
    until(lambda: watcher.look()["lift"] > began["lift"] + 0.03, 8, "the lift rises")
    operator.act("stick", "right", 0, 0)
    operator.act("stick", "left", 0, 1)
    until(lambda: watcher.look()["base"][0] < began["base"][0] - 0.15, 8, "the base drives back")
    operator.act("stick", "left", 0, 0)
    until(lambda: still(watcher), 8, "the robot stands still")
    assert watcher.thing()[2] > pose[2] + 0.05, "the object fell"

    operator.let_go("right")
    before, base = watcher.hand("right")[:3, 3], np.array(watcher.look()["base"])
    operator.press("right", "trigger", 0.0)
    operator.page.wait_for_timeout(500)
    hand, rolled = watcher.hand("right")[:3, 3], np.array(watcher.look()["base"]) - base
    assert np.linalg.norm(watcher.thing()[:3] - hand) < 0.04, "the gripper opened though the hand was not engaged"
    moved = hand[:2] - before[:2] - rolled[:2]
    assert np.linalg.norm(moved) < 0.01, f"the arm moved by itself: {moved.round(3)} m"
