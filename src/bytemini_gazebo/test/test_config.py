"""Bridge, controllers and robot description name the same things."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from bytemini_core.types import CAMERAS, OBSERVATION_PERIOD, SIDES
from bytemini_description.robot import expand_urdf
from bytemini_gazebo.sdf import STEP, WORLD
from bytemini_sim.model import PhysicsConfig

CONFIG = Path(__file__).parents[1] / "config"


@pytest.fixture(scope="module")
def bridge():
    lines = yaml.safe_load((CONFIG / "bridge.yaml").read_text())
    return {line["gz_topic_name"]: line for line in lines}


@pytest.fixture(scope="module")
def controllers():
    return yaml.safe_load((CONFIG / "controllers.yaml").read_text())


def test_the_effort_controller_takes_every_joint_in_order(robot, controllers):
    assert controllers["effort_controller"]["ros__parameters"]["joints"] == list(robot.joint_names)
    urdf = ElementTree.fromstring(expand_urdf(robot.version, "gazebo"))
    offered = {
        joint.get("name")
        for joint in urdf.findall("ros2_control/joint")
        if any(interface.get("name") == "effort" for interface in joint.findall("command_interface"))
    }
    assert offered == set(robot.joint_names)


def test_every_controller_has_a_type_and_is_configured(controllers):
    manager = controllers["controller_manager"]["ros__parameters"]
    named = {name for name, value in manager.items() if isinstance(value, dict)}
    assert named == set(controllers) - {"controller_manager"}
    assert all(manager[name]["type"].split("/")[0].endswith(("_broadcaster", "_controllers")) for name in named)


def test_updates_physics_and_control_ticks_fit_into_one_another(controllers):
    update = 1.0 / controllers["controller_manager"]["ros__parameters"]["update_rate"]
    tick = PhysicsConfig().tick / 1e9
    for long, short in ((update, STEP), (tick, update), (OBSERVATION_PERIOD, tick)):
        assert long / short == pytest.approx(round(long / short))


def test_robot_in_gazebo_starts_at_home_and_followers_are_only_seen(robot):
    urdf = ElementTree.fromstring(expand_urdf(robot.version, "gazebo"))
    start, followers = {}, []
    for joint in urdf.findall("ros2_control/joint"):
        value = joint.find("state_interface[@name='position']/param[@name='initial_value']")
        if value is not None:
            start[joint.get("name")] = float(value.text)
        else:
            followers.append(joint.get("name"))
            assert joint.find("command_interface") is None
    np.testing.assert_allclose([start[name] for name in robot.joint_names], robot.home)
    mimics = {joint.get("name") for joint in urdf.findall("joint") if joint.find("mimic") is not None}
    assert set(followers) == mimics == {f"{side}_gripper_mimic_joint" for side in SIDES}


def test_sensors_see_what_the_cameras_of_the_other_simulator_see(robot, parsed):
    sdf = parsed(expand_urdf(robot.version, "gazebo", camera_width="320", camera_height="240"), ".urdf")
    sensors = {sensor.get("name"): sensor for sensor in sdf.iter("sensor")}
    assert {name for name, s in sensors.items() if s.get("type") == "rgbd_camera"} == set(CAMERAS)
    for name in CAMERAS:
        camera = sensors[name].find("camera")
        width, height = (int(camera.find(f"image/{side}").text) for side in ("width", "height"))
        assert (width, height) == (320, 240)
        focal = width / 2 / np.tan(float(camera.find("horizontal_fov").text) / 2)
        assert focal == pytest.approx(height / 2 / np.tan(np.radians(robot.cameras[name]["fovy"]) / 2), rel=1e-6)
        near, far = (float(camera.find(f"depth_camera/clip/{side}").text) for side in ("near", "far"))
        assert (near, far) == (robot.cameras[name]["near"], robot.cameras[name]["far"])
    assert {name for name, s in sensors.items() if s.get("type") == "force_torque"} == {f"{s}_wrench" for s in SIDES}


def test_the_bridge_carries_every_sensor_and_plugin_of_the_robot(robot, parsed, bridge):
    sdf = parsed(expand_urdf(robot.version, "gazebo"), ".urdf")
    spoken = {}
    for sensor in sdf.iter("sensor"):
        topic = sensor.find("topic").text
        if sensor.get("type") == "rgbd_camera":
            spoken |= {
                f"{topic}/image": "gz.msgs.Image",
                f"{topic}/depth_image": "gz.msgs.Image",
                f"{topic}/camera_info": "gz.msgs.CameraInfo",
            }
        else:
            spoken[topic] = "gz.msgs.Wrench"
    plugins = {plugin.get("name"): plugin for plugin in sdf.iter("plugin")}
    spoken[plugins["gz::sim::systems::OdometryPublisher"].find("odom_topic").text] = "gz.msgs.Odometry"
    heard = {plugins["gz::sim::systems::VelocityControl"].find("topic").text: "gz.msgs.Twist"}
    spoken |= {"/clock": "gz.msgs.Clock", f"/world/{WORLD}/dynamic_pose/info": "gz.msgs.Pose_V"}
    ways = {
        direction: {name: line["gz_type_name"] for name, line in bridge.items() if line["direction"] == direction}
        for direction in ("GZ_TO_ROS", "ROS_TO_GZ")
    }
    assert ways == {"GZ_TO_ROS": spoken, "ROS_TO_GZ": heard}


def test_bridged_messages_are_of_types_that_exist(bridge):
    import importlib

    for line in bridge.values():
        package, kind, name = line["ros_type_name"].split("/")
        assert hasattr(importlib.import_module(f"{package}.{kind}"), name), line
