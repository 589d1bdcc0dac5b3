"""The flight recorder against a robot that only talks."""

import json
import time

import pytest
import yaml

pytest.importorskip("bytemini_msgs.msg", reason="the workspace is not built: ./bytemini setup")
from bytemini_core.executor import StreamExecutor
from bytemini_core.ros import stamp_of
from bytemini_core.types import Mode
from bytemini_panel.recorder_node import TOPICS, FlightRecorder
from bytemini_panel.run_folder import RUN
from mcap.reader import make_reader
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message
from robot import Spinner, until
from std_srvs.srv import Trigger

from bytemini_msgs.msg import WbcStatus

pytestmark = pytest.mark.e2e


@pytest.fixture
def recorder(robot, tmp_path, monkeypatch):
    monkeypatch.setenv(RUN, "a-run")
    robot.talking = robot.seeing = True
    robot.request(Mode.HOLD)
    given = {"out": str(tmp_path), "seconds": 4.0, "recordings": 3}

    class Given(FlightRecorder):
        def declare_parameter(self, name, value=None, *rest, **more):
            for key, setting in given.items():
                self._parameter_overrides.setdefault(key, Parameter(key, value=setting))
            return super().declare_parameter(name, value, *rest, **more)

    node = Given()
    spinner = Spinner(node, StreamExecutor())
    yield tmp_path / "a-run"
    spinner.stop()
    node.destroy_node()
    robot.request(Mode.HOLD)


def recordings(run):
    return sorted(path.parent for path in run.glob("faults/*/fault.json"))


def read(folder):
    with next(folder.glob("*.mcap")).open("rb") as stream:
        reader = make_reader(stream)
        return [(channel.topic, message) for _, channel, message in reader.iter_messages()]


def test_a_fault_leaves_the_seconds_before_and_after_it(recorder, robot):
    robot.request(Mode.POLICY)
    time.sleep(3.0)
    robot.fault("reference is stale: 0.2 s old")
    until(lambda: recordings(recorder), 20)
    (folder,) = recordings(recorder)
    assert folder.name == "001-reference-is-stale-0-2-s-old"
    story = json.loads((folder / "fault.json").read_text())
    assert story["run"] == "a-run"
    assert story["reasons"][0]["source"] == "wbc_controller"
    assert "headset fell silent" in story["reasons"][0]["fix"]
    assert yaml.safe_load((folder / "metadata.yaml").read_text())
    messages = read(folder)
    topics = {topic for topic, _ in messages}
    assert {"/joint_states", "/odom", "/wbc/status", "/wbc/mode", "/joint_command", "/wrench/left"} <= topics
    assert {f"/camera/{c}/color/image_raw/compressed" for c in ("head", "left_wrist", "right_wrist")} <= topics
    statuses = [deserialize_message(m.data, WbcStatus) for topic, m in messages if topic == "/wbc/status"]
    modes = [status.mode for status in statuses]
    assert modes[0] == "POLICY"
    assert modes[-1] == "HOLD"
    turn = modes.index("HOLD")
    assert stamp_of(statuses[turn]) - stamp_of(statuses[0]) > 1.4e9
    assert stamp_of(statuses[-1]) - stamp_of(statuses[turn]) > 1.4e9


def test_the_run_folder_tells_nodes_parameters_versions_and_log(recorder, robot):
    until(lambda: (recorder / "parameters.yaml").exists(), 20)
    until(lambda: "/talking_robot" in json.loads((recorder / "run.json").read_text())["nodes"], 20)
    until(lambda: "/talking_robot" in (yaml.safe_load((recorder / "parameters.yaml").read_text()) or {}), 20)

    def lines():
        return [json.loads(line) for line in (recorder / "log.jsonl").read_text().splitlines()]

    robot.get_logger().warning('a line with "quotes"')
    until(lambda: any(line["text"] == 'a line with "quotes"' and line["level"] == "warn" for line in lines()), 20)
    assert all(line["run"] == "a-run" for line in lines())


def test_what_was_logged_before_the_recorder_was_up_is_kept(robot, request):
    robot.get_logger().warning("said before")
    run = request.getfixturevalue("recorder")
    until(lambda: "said before" in (run / "log.jsonl").read_text(), 20)


def test_a_recording_on_request_and_no_more_than_wanted(recorder, robot):
    client = robot.create_client(Trigger, "flight_recorder/save")
    assert client.wait_for_service(10)

    def save():
        future = client.call_async(Trigger.Request())
        until(future.done)
        return future.result()

    for count in (1, 2, 3):
        assert save().success
        until(lambda count=count: len(recordings(recorder)) == count, 20)
    refused = save()
    assert not refused.success
    assert "3 recordings" in refused.message
    robot.destroy_client(client)


def test_what_is_recorded_is_what_the_stack_says():
    assert {"joint_states", "joint_command", "wbc/reference", "wbc/mode", "policy/action_chunk", "/rosout"} <= set(
        TOPICS
    )
