"""The recorder as a process over DDS: it records what is published, obeys, and loses nothing saved to a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("bytemini_msgs.msg", reason="the workspace is not built: ./bytemini setup")
import rclpy
from bytemini_core.domain import private_domain
from bytemini_core.ros import LATCHED_QOS, SENSOR_QOS
from bytemini_data.fake_stack import messages
from bytemini_data.lerobot import Dataset
from bytemini_data.recorder.topics import IMAGE_TOPICS, TOPICS
from bytemini_description.robot import load_robot
from sensor_msgs.msg import Image

from bytemini_msgs.msg import EpisodeStatus
from bytemini_msgs.srv import EpisodeCommand

pytestmark = pytest.mark.e2e

PLAN = """
episodes: 10
actions: {put: {words: "put the {object} into the bowl"}}
objects: [apple, pear]
"""
SIZE = (64, 192)


class Bench:
    """A recorder in a process of its own, and a stack that is not there."""

    def __init__(self, folder, domain):
        (folder / "plan.yaml").write_text(PLAN)
        self.root = folder / "set"
        self.environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("test_recorder", context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.status = []
        self.node.create_subscription(EpisodeStatus, "recorder/status", self.status.append, LATCHED_QOS)
        self.client = self.node.create_client(EpisodeCommand, "recorder/command")
        kinds = {**TOPICS, **dict.fromkeys(IMAGE_TOPICS.values(), Image)}
        self.publishers = {topic: self.node.create_publisher(kind, topic, SENSOR_QOS) for topic, kind in kinds.items()}
        self.stream = list(messages(load_robot("v1"), 3.0, 10**9, rate=10, size=SIZE))
        self.start()

    def start(self):
        parameters = {
            "dataset": self.root, "plan": self.root.parent / "plan.yaml", "fps": 10, "countdown": 0.2,
            "operator": "ann", "image_height": SIZE[0], "image_width": SIZE[1], "reserve_gib": 0.01,
        }  # fmt: skip
        ros = [item for name, value in parameters.items() for item in ("-p", f"{name}:={value}")]
        command = [sys.executable, "-m", "bytemini_data.recorder.node", "--ros-args", *ros]
        self.process = subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, text=True)
        self.wait(60, lambda: self.client.service_is_ready() and bool(self.status))

    def close(self):
        self.process.kill()
        self.process.wait()
        self.node.destroy_node()
        self.context.try_shutdown()

    def wait(self, seconds, until):
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, [status.state for status in self.status]
            self.executor.spin_once(timeout_sec=0.05)

    def command(self, word, **more):
        future = self.client.call_async(EpisodeCommand.Request(command=word, **more))
        self.wait(20, future.done)
        return future.result()

    def reach(self, state):
        self.wait(30, lambda: self.status[-1].state == state)

    def play(self):
        """Publish the stream in real time."""
        begin = time.monotonic()
        for topic, cdr, stamp in self.stream:
            while (left := begin + (stamp - 10**9) / 1e9 - time.monotonic()) > 0:
                self.executor.spin_once(timeout_sec=left)
            self.publishers[topic].publish(cdr)


@pytest.fixture
def bench(tmp_path):
    with private_domain() as domain:
        made = Bench(tmp_path, domain)
        yield made
        made.close()


def test_record_save_discard_and_a_kill(bench):
    assert bench.status[-1].state == "IDLE"
    card = json.loads(bench.status[-1].scene_card)
    assert card["instruction"] == bench.status[-1].task
    assert bench.command("start").ok
    bench.reach("RECORDING")
    bench.play()
    refused = bench.command("discard")
    assert not refused.ok
    assert "confirmed" in refused.message
    assert bench.command("save", success=True).ok
    bench.reach("SAVED")
    assert bench.status[-1].saved == 1
    assert bench.status[-1].quality in ("pass", "warn")
    assert bench.command("start").ok
    bench.reach("RECORDING")
    bench.process.send_signal(signal.SIGKILL)
    bench.process.wait()
    bench.status.clear()
    time.sleep(1.0)
    bench.start()
    bench.wait(30, lambda: bench.status[-1].saved == 1)
    assert any("removed 1 torn episode" in text for text in bench.status[-1].warnings)
    bench.process.send_signal(signal.SIGINT)
    _, told = bench.process.communicate(timeout=20)
    assert "Traceback" not in told
    data = Dataset(bench.root)
    assert 25 <= len(data) <= 31
    assert data.rows[0].fields["operator"] == "ann"
    assert data.rows[0].fields["success"]
