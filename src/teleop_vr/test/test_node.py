"""Simulator, controller and teleoperation as processes: a headset drives the robot, is stopped, and goes away."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import rclpy
from bytemini_core.domain import private_domain
from bytemini_core.executor import StreamExecutor
from bytemini_core.ros import SENSOR_QOS
from bytemini_core.web import certificate
from sensor_msgs.msg import JointState
from teleop_vr.command import _wait
from teleop_vr.journal import replay

from bytemini_bringup.processes import Processes
from bytemini_bringup.stack import options, stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PORT = 8493


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    values = options(teleop=True, teleop_port=PORT, cameras=False)
    kept = ("bytemini_sim", "wbc_controller", "teleop_vr")
    processes = [p for p in stack(values) if p.name in kept]
    journal = tmp_path / "run.jsonl.gz"
    processes[-1].parameters.update(token=wire.token, journal=str(journal))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    chain = certificate().chain
    with private_domain(), Processes(processes, tmp_path / "logs", environment=dict(os.environ)) as started:
        _wait(PORT, started.check)
        yield chain, journal


class Ear:
    """Hears the joints."""

    def __init__(self) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("ear", context=self._context)
        self._executor = StreamExecutor(context=self._context)
        self._executor.add_node(self._node)
        self.joints: dict[str, float] = {}
        self._node.create_subscription(
            JointState, "joint_states", lambda m: self.joints.update(zip(m.name, m.position, strict=True)), SENSOR_QOS
        )

    def listen(self, seconds: float, until_heard: bool = False) -> dict[str, float]:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (until_heard and self.joints):
            self._executor.spin_once(timeout_sec=0.05)
        return dict(self.joints)

    def close(self) -> None:
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)


def test_the_robot_is_driven_stopped_and_left(running, wire):
    chain, journal = running
    ear = Ear()
    lifted, stopped = {}, {}

    async def script(page):
        before = ear.listen(60.0, until_heard=True)
        await page.until(lambda: page.state.get("session") == "ready", 40.0)
        page.headset.right.stick = (1.0, 0.0)  # up
        await page.until(lambda: page.state["mode"] == "TELEOP" and page.state["lift"] > 0.2, 40.0)
        page.headset.right.stick = (0.0, 0.0)
        lifted.update(ear.listen(1.0))
        assert lifted["lift_joint"] > before["lift_joint"] + 0.02
        await wire.engage(page)
        await page.until(lambda: page.state["latency"]["command_ms"] is not None, 20.0)
        assert 0.0 < page.state["latency"]["command_ms"] < 1000.0
        await page.say(type="command", id=1, command="estop")
        await page.until(lambda: page.state["mode"] == "ESTOP", 20.0)
        stopped.update(ear.listen(0.5))
        await page.say(type="command", id=2, command="reset", confirmed=True)
        await page.until(lambda: page.state["mode"] == "HOLD", 20.0)
        await wire.engage(page)  # from here the socket is simply dropped

    try:
        wire.pages(chain, PORT, script)
        still = ear.listen(1.5)
        after = ear.listen(1.0)
        arm = [name for name in after if name.startswith("left_") and "gripper" not in name]
        assert max(abs(after[name] - still[name]) for name in arm) < 5e-3, "the robot moved by itself"
    finally:
        ear.close()
    assert replay(journal).different is None
