"""The views for RViz and Foxglove show topics that the running stack really has, with the types they expect."""

import json
import time
from pathlib import Path

import pytest
import rclpy
import yaml
from bytemini_core.domain import private_domain

from bytemini_bringup.processes import Processes
from bytemini_bringup.stack import options, stack

CONFIG = Path(__file__).parents[1] / "config"
RVIZ_TYPES = {
    "RobotModel": "std_msgs/msg/String",
    "Odometry": "nav_msgs/msg/Odometry",
    "Wrench": "geometry_msgs/msg/WrenchStamped",
    "Image": "sensor_msgs/msg/Image",
}


def rviz_topics():
    config = yaml.safe_load((CONFIG / "bytemini.rviz").read_text())
    for display in config["Visualization Manager"]["Displays"]:
        topic = display.get("Topic") or display.get("Description Topic")
        if topic:
            yield topic["Value"], RVIZ_TYPES[display["Class"].split("/")[1]]


def foxglove():
    return json.loads((CONFIG / "bytemini.foxglove.json").read_text())


def foxglove_paths(value):
    """Everything in a panel's settings that names a topic: "/topic" or "/topic.field.field"."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "topics":
                yield from item
            else:
                yield from foxglove_paths(item)
    elif isinstance(value, list):
        for item in value:
            yield from foxglove_paths(item)
    elif isinstance(value, str) and value.startswith("/"):
        yield value


def leaves(layout):
    if isinstance(layout, str):
        yield layout
    else:
        yield from leaves(layout["first"])
        yield from leaves(layout["second"])


def test_every_panel_of_the_foxglove_layout_has_settings():
    layout = foxglove()
    assert sorted(leaves(layout["layout"])) == sorted(layout["configById"])


def test_foxglove_fields_exist_in_their_messages():
    import importlib

    kinds = {
        "/wbc/status": "bytemini_msgs.msg.WbcStatus",
        "/policy/task_status": "bytemini_msgs.msg.TaskStatus",
        "/policy/action_chunk": "bytemini_msgs.msg.ActionChunk",
        "/wrench/left": "geometry_msgs.msg.WrenchStamped",
        "/wrench/right": "geometry_msgs.msg.WrenchStamped",
    }
    for path in foxglove_paths(foxglove()["configById"]):
        topic, *fields = path.split(".")
        if fields:
            module, name = kinds[topic].rsplit(".", 1)
            message = getattr(importlib.import_module(module), name)()
            for field in fields:
                message = getattr(message, field)


@pytest.mark.e2e
def test_every_topic_shown_is_there(tmp_path):
    wanted = dict(rviz_topics())
    wanted |= {path.split(".")[0]: None for path in foxglove_paths(foxglove()["configById"])}
    with private_domain() as domain:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain)
        node = rclpy.create_node("looker", context=context, start_parameter_services=False)
        try:
            with Processes(stack(options()), tmp_path, environment={"ROS_DOMAIN_ID": str(domain)}) as processes:
                deadline = time.monotonic() + 60.0
                while True:
                    processes.check()
                    there = dict(node.get_topic_names_and_types())
                    missing = sorted(set(wanted) - set(there))
                    if not missing:
                        break
                    assert time.monotonic() < deadline, f"nobody publishes {', '.join(missing)}"
                    time.sleep(0.2)
        finally:
            node.destroy_node()
            context.try_shutdown()
    for topic, kind in wanted.items():
        if kind is not None:
            assert there[topic] == [kind], topic
