"""The model itself: layout, limits, symmetry, what differs between the versions, and the door for bad input."""

import time
from dataclasses import FrozenInstanceError
from xml.etree import ElementTree

import bytemini_description.robot as module
import numpy as np
import pytest
import yaml
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import (
    BASE_COLUMNS,
    SIDES,
    VERSIONS,
    RobotDescriptionError,
    build_robot,
    expand_urdf,
    load_robot,
    share_directory,
)
from hypothesis import given
from hypothesis import strategies as st

ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_yaw", "wrist_pitch", "wrist_roll")
CONFIG = share_directory() / "config" / "robot.yaml"


def arm(side):
    return tuple(f"{side}_{joint}_joint" for joint in ARM)


def test_twenty_two_actuated_degrees_of_freedom_nineteen_for_the_policy(robot):
    assert robot.joint_names == (
        *("lift_joint", "head_yaw_joint", "head_pitch_joint"),
        *arm("left"),
        "left_gripper_joint",
        *arm("right"),
        "right_gripper_joint",
    )
    assert len(robot.joint_names) + len(robot.base_velocity) == 22
    assert robot.policy_columns == (
        *arm("left"),
        *arm("right"),
        "left_gripper_joint",
        "right_gripper_joint",
        *BASE_COLUMNS,
    )
    assert len(robot.policy_columns) == 19
    assert robot.arm_joints("left") == arm("left")
    assert robot.arm_joints("right") == arm("right")
    assert robot.gripper_joint("right") == "right_gripper_joint"


def test_arrays_have_one_entry_per_joint_and_cannot_be_written(robot):
    for name in ("lower", "upper", "velocity", "effort", "acceleration", "jerk", "home", "stiffness", "damping"):
        array = getattr(robot, name)
        assert array.shape == (19,)
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    with pytest.raises(FrozenInstanceError):
        robot.version = "v3"
    assert (robot.lower <= robot.home).all()
    assert (robot.home <= robot.upper).all()
    assert (robot.base_policy_velocity <= robot.base_velocity).all()


def test_limits_come_from_the_urdf(robot):
    changed = robot.urdf.replace('upper="2.53"', 'upper="2.40"')
    elbow = robot.indices(["left_elbow_joint"])
    assert robot.upper[elbow] == 2.53
    assert build_robot(robot.version, changed, CONFIG).upper[elbow] == 2.40


def test_indices_follow_names_and_refuse_strangers(robot):
    assert robot.indices(["right_gripper_joint", "lift_joint"]).tolist() == [18, 0]
    with pytest.raises(KeyError, match="left_gripper_mimic_joint is not an actuated joint"):
        robot.indices(["left_gripper_mimic_joint"])
    with pytest.raises(ValueError, match="side is 'middle'"):
        robot.arm_joints("middle")


@given(st.lists(st.floats(-3.0, 3.0), min_size=19, max_size=19))
def test_clamp_wrist_keeps_direction_and_everything_else(position):
    robot = load_robot("v1")
    position = np.array(position)
    before = position.copy()
    clamped = robot.clamp_wrist(position)
    assert (position == before).all()
    others = np.ones(19, dtype=bool)
    for side in SIDES:
        wrist = robot.indices([f"{side}_wrist_pitch_joint", f"{side}_wrist_roll_joint"])
        others[wrist] = False
        assert np.hypot(*clamped[wrist]) <= robot.wrist_tilt_limit * (1 + 1e-12)
        assert np.cross([*clamped[wrist], 0], [*position[wrist], 0])[2] == pytest.approx(0.0, abs=1e-12)
        if np.hypot(*position[wrist]) <= robot.wrist_tilt_limit:
            np.testing.assert_allclose(clamped[wrist], position[wrist], atol=1e-15)
    assert (clamped[others] == position[others]).all()


def test_equal_joint_values_give_mirrored_poses(robot, kinematics, random_position):
    mirror = np.diag([1.0, -1.0, 1.0, 1.0])
    left = robot.indices([*robot.arm_joints("left"), robot.gripper_joint("left")])
    right = robot.indices([*robot.arm_joints("right"), robot.gripper_joint("right")])
    for _ in range(200):
        position = random_position()
        base = np.random.default_rng(0).uniform(-2, 2, 3)
        mirrored = position.copy()
        mirrored[left], mirrored[right] = position[right], position[left]
        yaw = robot.indices(["head_yaw_joint"])
        mirrored[yaw] = -position[yaw]
        opposite = base * [1.0, -1.0, -1.0]
        for frame in ("hand_link", "tcp", "wrist_camera_link", "forearm_link"):
            here = kinematics.forward(f"left_{frame}", position, base)
            there = kinematics.forward(f"right_{frame}", mirrored, opposite)
            np.testing.assert_allclose(there, mirror @ here @ mirror, atol=1e-12)
        head = kinematics.forward("head_camera_link", position, base)
        there = kinematics.forward("head_camera_link", mirrored, opposite)
        np.testing.assert_allclose(there, mirror @ head @ mirror, atol=1e-12)
        gravity, other = kinematics.gravity(position), kinematics.gravity(mirrored)
        np.testing.assert_allclose(other[right], gravity[left], atol=1e-9)
    for values in (robot.lower, robot.upper, robot.velocity, robot.effort, robot.stiffness):
        assert (values[left] == values[right]).all()


def test_jacobian_is_the_derivative_of_forward(kinematics, random_position):
    step = 1e-6
    for frame in ("left_tcp", "right_wrist_camera_optical_frame", "head_camera_link", "left_finger_b_link"):
        position, base = random_position(), np.array([0.3, -1.2, 0.8])
        jacobian = kinematics.jacobian(frame, position, base)
        assert jacobian.shape == (6, 22)
        numeric = np.zeros((6, 22))
        pose = kinematics.forward(frame, position, base)
        cosine, sine = np.cos(base[2]), np.sin(base[2])
        turns = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        for column in range(22):
            moved, moved_base = position.copy(), base.copy()
            if column < 3:
                moved_base = base + step * turns[:, column]
            else:
                moved[column - 3] += step
            difference = (kinematics.forward(frame, moved, moved_base) - pose) / step
            spin = difference[:3, :3] @ pose[:3, :3].T
            numeric[:, column] = [*difference[:3, 3], spin[2, 1], spin[0, 2], spin[1, 0]]
        np.testing.assert_allclose(jacobian, numeric, atol=2e-5)


def test_unknown_frame_is_named(kinematics):
    with pytest.raises(KeyError, match="the robot has no frame nose"):
        kinematics.forward("nose", np.zeros(19))


def test_optical_frames_look_along_the_body_frames_x(robot, kinematics):
    for camera in ("head", "left_wrist", "right_wrist"):
        body = kinematics.forward(f"{camera}_camera_link", robot.home)
        optical = kinematics.forward(f"{camera}_camera_optical_frame", robot.home)
        np.testing.assert_allclose(optical[:3, 2], body[:3, 0], atol=1e-9)
        np.testing.assert_allclose(optical[:3, 0], -body[:3, 1], atol=1e-9)


def test_cameras_see_what_they_are_for(robot, kinematics):
    """At home the head sees both hands, and each wrist camera sees its grasp centre."""
    for camera, points in (
        ("head", ("left_tcp", "right_tcp")),
        ("left_wrist", ("left_tcp",)),
        ("right_wrist", ("right_tcp",)),
    ):
        view = np.linalg.inv(kinematics.forward(f"{camera}_camera_optical_frame", robot.home))
        half = np.tan(np.radians(robot.cameras[camera]["fovy"]) / 2.0)
        for point in points:
            x, y, z = (view @ kinematics.forward(point, robot.home))[:3, 3]
            assert z > 0.05
            assert abs(y) < half * z
            assert abs(x) < half * z  # square images


def test_inertias_are_positive_definite_and_possible(robot):
    for link in ElementTree.fromstring(robot.urdf).findall("link"):
        inertia = link.find("inertial/inertia")
        if inertia is None:
            continue
        xx, yy, zz, xy, xz, yz = (float(inertia.get(key)) for key in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz"))
        moments = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        assert moments[0] > 0.0, link.get("name")
        assert moments[0] + moments[1] >= moments[2], link.get("name")
        mass = float(link.find("inertial/mass").get("value"))
        assert np.sqrt(moments[2] / mass) < 0.5, link.get("name")
    total = sum(float(mass.get("value")) for mass in ElementTree.fromstring(robot.urdf).iter("mass"))
    assert total == pytest.approx(100.28)


def test_static_torques_at_full_reach_fit_the_stated_payloads(robot, kinematics):
    """The elbow carries the payload at full reach with about half of its torque left for motion."""
    position = robot.home.copy()
    position[3:] = 0.0
    position[robot.indices(["left_shoulder_pitch_joint"])] = np.pi / 2
    elbow = int(robot.indices(["left_elbow_joint"])[0])
    load = kinematics.jacobian("left_tcp", position)[2, 3 + elbow] * robot.payload * 9.81
    torque = kinematics.gravity(position)[elbow] + load
    assert torque / robot.effort[elbow] == pytest.approx({"v1": 0.56, "v2": 0.48}[robot.version], abs=0.03)


def test_versions_differ_as_the_reports_say():
    v1, v2 = load_robot("v1"), load_robot("v2")
    elbow = v1.indices(["left_elbow_joint", "right_elbow_joint"])
    assert v1.effort[elbow].tolist() == [17.0, 17.0]
    assert v2.effort[elbow].tolist() == [35.0, 35.0]
    assert (v1.payload, v2.payload) == (1.4, 3.15)
    sizes, screens = {}, {}
    for robot in (v1, v2):
        root = ElementTree.fromstring(robot.urdf)
        shapes = {item.get("name"): (link.get("name"), item) for link in root.iter("link") for item in link}
        box = shapes["chassis"][1].find("geometry/box").get("size")
        sizes[robot.version] = [float(value) for value in box.split()[:2]]
        screens[robot.version] = next(shapes[name][0] for name in ("screen", "monitor") if name in shapes)
    assert sizes == {"v1": [0.72, 0.50], "v2": [0.65, 0.45]}
    assert screens == {"v1": "base_link", "v2": "torso_link"}
    same = np.ones(19, dtype=bool)
    same[elbow] = False
    assert (v1.effort[same] == v2.effort[same]).all()
    assert (v1.home == v2.home).all()


def test_loading_is_cached_and_quick():
    assert load_robot("v1") is load_robot("v1")
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        load_robot.__wrapped__("v1")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.15


def test_visuals_stay_cheap_to_render(robot):
    assert robot.urdf.count("<visual") < 90
    assert robot.urdf.count("<collision") <= 30
    assert "<mesh" not in robot.urdf


def test_unknown_version_and_hardware_are_refused():
    with pytest.raises(RobotDescriptionError, match="robot version is 'v3', expected v1 or v2"):
        load_robot("v3")
    with pytest.raises(RobotDescriptionError, match="hardware is 'wood', expected mock or gazebo or real"):
        expand_urdf("v1", "wood")
    assert issubclass(RobotDescriptionError, ValueError)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("<robot", "no element found|unclosed token"),
        ('<robot xmlns:xacro="http://www.ros.org/wiki/xacro"><xacro:arm/></robot>', "arm"),
        ('<robot xmlns:xacro="http://www.ros.org/wiki/xacro"><link name="${lenght}"/></robot>', "lenght"),
        ('<robot xmlns:xacro="http://www.ros.org/wiki/xacro"><xacro:include filename="no.xacro"/></robot>', "no.xacro"),
    ],
)
def test_malformed_xacro_is_one_clear_error(tmp_path, text, word):
    path = tmp_path / "bad.urdf.xacro"
    path.write_text(text)
    with pytest.raises(RobotDescriptionError, match=word) as caught:
        expand_urdf("v1", path=path)
    message = str(caught.value)
    assert str(path) in message
    assert "mend the file" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("keys", "value", "word"),
    [
        (("joints", "elbow", "jerk"), None, "joints.elbow.jerk is None, expected a number"),
        (("joints", "elbow"), "fast", "joints.elbow.acceleration is missing"),
        (("joints", "elbow", "home"), 3.0, "joints.elbow.home is 3.0, expected within"),
        (("joints", "elbow", "stiffness"), -1.0, "joints.elbow.stiffness is -1.0"),
        (("base", "velocity"), [1.0], "base.velocity is .*expected three numbers"),
        (("base", "jerk"), [1.0, 0.0, 1.0], "base.jerk is .*expected positive"),
        (("policy_columns",), ["left_thumb"], "policy_columns holds left_thumb"),
        (("policy_columns",), ["base/x", "base/x"], "policy_columns holds a name twice"),
        (("policy_columns",), 19, "policy_columns is 19, expected a list"),
        (("cameras",), [], "cameras is .*expected a mapping"),
        (("wrist_tilt_limit",), float("nan"), "wrist_tilt_limit is nan"),
        (("versions",), {}, "versions.v1.payload is missing"),
    ],
)
def test_malformed_config_is_one_clear_error(tmp_path, keys, value, word):
    root = yaml.safe_load(CONFIG.read_text())
    node = root
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(root))
    with pytest.raises(RobotDescriptionError, match=word) as caught:
        build_robot("v1", load_robot("v1").urdf, path)
    assert str(path) in str(caught.value)


def test_unreadable_config_is_one_clear_error(tmp_path):
    path = tmp_path / "robot.yaml"
    for content in (None, b"joints: [", b"\xff\xfe\x00", b""):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(RobotDescriptionError, match=r"robot\.yaml") as caught:
            build_robot("v1", load_robot("v1").urdf, path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "word"),
    [
        ("", "joint a has no usable 'limit'"),
        ('<limit lower="0" upper="x" velocity="1" effort="1"/>', "joint a has no usable"),
        ('<limit lower="2" upper="1" velocity="1" effort="1"/>', "joint a has limits"),
        ('<limit lower="0" upper="1" velocity="0" effort="1"/>', "joint a has limits"),
    ],
)
def test_malformed_limits_are_one_clear_error(limit, word):
    with pytest.raises(RobotDescriptionError, match=word):
        build_robot("v1", f'<robot><joint name="a" type="revolute">{limit}</joint></robot>', CONFIG)


@pytest.mark.parametrize(("urdf", "word"), [("<robot", "not XML"), ("<robot/>", "no actuated joint")])
def test_malformed_urdf_is_one_clear_error(urdf, word):
    with pytest.raises(RobotDescriptionError, match=word):
        build_robot("v1", urdf, CONFIG)


def test_data_is_found_from_an_installed_prefix(tmp_path, monkeypatch):
    source = share_directory()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "lib" / "bytemini_description" / "robot.py"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    monkeypatch.setattr(module.sys, "prefix", str(tmp_path / "nowhere"))
    with pytest.raises(RobotDescriptionError, match=r"source install/setup\.bash"):
        share_directory()
    share = tmp_path / "prefix" / "share" / "bytemini_description"
    share.mkdir(parents=True)
    for folder in ("urdf", "config"):
        (share / folder).symlink_to(source / folder)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'other'}:{tmp_path / 'prefix'}")
    assert share_directory() == share
    assert load_robot.__wrapped__("v2").version == "v2"
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    monkeypatch.setattr(module.sys, "prefix", str(tmp_path / "prefix"))
    assert share_directory() == share


def test_both_versions_are_listed():
    assert [Kinematics(load_robot(version)).model.nv for version in VERSIONS] == [24, 24]
