"""Pinocchio, MuJoCo and Gazebo's own parser read the same robot out of the URDF."""

import shutil
import subprocess
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
from bytemini_description.robot import HARDWARE, SIDES, expand_urdf

LINKS = ("base_link", "torso_link", "head_link", *(f"{side}_{link}" for side in SIDES for link in ("hand_link", "tcp")))
CAMERAS = ("head", "left_wrist", "right_wrist")
FRAMES = (
    *LINKS,
    *(f"{camera}_camera_link" for camera in CAMERAS),
    *(f"{camera}_camera_optical_frame" for camera in CAMERAS),
    *(f"{side}_finger_{finger}_link" for side in SIDES for finger in "ab"),
)
MIMICS = tuple(f"{side}_gripper_mimic_joint" for side in SIDES)


def urdf_joints(robot):
    return {joint.get("name"): joint for joint in ElementTree.fromstring(robot.urdf).findall("joint")}


def moving_masses(robot):
    """Mass by the joint that moves it ("" for the base): what readers that merge fixed joints see."""
    joints = urdf_joints(robot)
    by_child = {joint.find("child").get("link"): joint for joint in joints.values()}
    masses = {}
    for link in ElementTree.fromstring(robot.urdf).findall("link"):
        name = link.get("name")
        while name in by_child and by_child[name].get("type") == "fixed":
            name = by_child[name].find("parent").get("link")
        carrier = by_child[name].get("name") if name in by_child else ""
        mass = link.find("inertial/mass")
        masses[carrier] = masses.get(carrier, 0.0) + (0.0 if mass is None else float(mass.get("value")))
    return masses


def test_pinocchio_reads_names_masses_and_limits(robot, kinematics):
    model = kinematics.model
    assert set(model.names[2:]) == {*robot.joint_names, *MIMICS}
    for carrier, mass in moving_masses(robot).items():
        joint = model.getJointId(carrier) if carrier else 1
        assert model.inertias[joint].mass == pytest.approx(mass), carrier
    q = [model.joints[model.getJointId(name)].idx_q for name in robot.joint_names]
    v = kinematics.velocity_columns[3:]
    np.testing.assert_allclose(model.lowerPositionLimit[q], robot.lower)
    np.testing.assert_allclose(model.upperPositionLimit[q], robot.upper)
    np.testing.assert_allclose(model.upperVelocityLimit[v], robot.velocity)
    np.testing.assert_allclose(model.upperEffortLimit[v], robot.effort)


def test_mujoco_reads_names_masses_and_limits(robot, mujoco_robot):
    model = mujoco_robot.model
    names = {model.joint(i).name for i in range(model.njnt)}
    assert names == {*robot.joint_names, *MIMICS, "base_x", "base_y", "base_yaw"}
    assert model.nv - len(MIMICS) == 22
    for i, name in enumerate(robot.joint_names):
        joint = model.joint(name)
        np.testing.assert_allclose(joint.range, [robot.lower[i], robot.upper[i]])
        np.testing.assert_allclose(model.jnt_actfrcrange[joint.id], [-robot.effort[i], robot.effort[i]])
    for link in ElementTree.fromstring(robot.urdf).findall("link"):
        mass = link.find("inertial/mass")
        expected = 0.0 if mass is None else float(mass.get("value"))
        assert model.body(link.get("name")).mass[0] == pytest.approx(expected), link.get("name")
    assert model.neq == len(MIMICS)
    assert (model.eq_type == int(mujoco.mjtEq.mjEQ_JOINT)).all()


@pytest.mark.parametrize("hardware", HARDWARE)
def test_gazebo_reads_names_masses_and_limits(robot, hardware, tmp_path):
    if shutil.which("ign") is None:
        pytest.skip("Gazebo's parser is not installed: apt-get install ignition-tools libsdformat-dev sdformat-sdf")
    path = tmp_path / "robot.urdf"
    path.write_text(expand_urdf(robot.version, hardware))
    done = subprocess.run(["ign", "sdf", "-p", str(path)], capture_output=True, text=True, timeout=60, check=True)
    assert "Error" not in done.stderr.replace("Library error", "")
    assert "Warning" not in done.stderr
    sdf = ElementTree.fromstring(done.stdout).find("model")
    joints = {joint.get("name"): joint for joint in sdf.findall("joint") if joint.get("type") != "fixed"}
    assert set(joints) == {*robot.joint_names, *MIMICS}
    for i, name in enumerate(robot.joint_names):
        limit = {item.tag: float(item.text) for item in joints[name].find("axis/limit") if item.text}
        assert limit["lower"] == pytest.approx(robot.lower[i]), name
        assert limit["upper"] == pytest.approx(robot.upper[i]), name
        assert limit["velocity"] == pytest.approx(robot.velocity[i]), name
        assert limit["effort"] == pytest.approx(robot.effort[i]), name
    carriers = {joint.find("child").text: name for name, joint in joints.items()}
    masses = {
        carriers.get(link.get("name"), ""): float(link.find("inertial/mass").text) for link in sdf.findall("link")
    }
    assert masses == pytest.approx(moving_masses(robot))
    sensors = {sensor.get("name") for sensor in sdf.iter("sensor")}
    assert sensors == ({*CAMERAS, "left_wrench", "right_wrench"} if hardware == "gazebo" else set())


def test_pinocchio_and_mujoco_agree_on_forward_kinematics(kinematics, mujoco_robot, random_position):
    rng = np.random.default_rng(3)
    worst = 0.0
    for _ in range(1000):
        position, base = random_position(), rng.uniform(-3.0, 3.0, 3)
        mujoco_robot.set(position, base)
        for frame in FRAMES:
            difference = kinematics.forward(frame, position, base) - mujoco_robot.pose(frame)
            worst = max(worst, float(np.abs(difference).max()))
    assert worst < 1e-6


def test_pinocchio_and_mujoco_agree_on_gravity(robot, kinematics, mujoco_robot, random_position):
    columns = [int(mujoco_robot.model.joint(name).dofadr[0]) for name in robot.joint_names]
    fingers = [int(mujoco_robot.model.joint(name).dofadr[0]) for name in MIMICS]
    grippers = robot.indices([robot.gripper_joint(side) for side in SIDES])
    for _ in range(20):
        position = random_position()
        mujoco_robot.set(position)
        bias = mujoco_robot.data.qfrc_bias
        expected = bias[columns].copy()
        expected[grippers] += bias[fingers]
        np.testing.assert_allclose(kinematics.gravity(position), expected, atol=1e-9)


def test_gazebo_and_real_have_their_own_system():
    plugins = {
        hardware: ElementTree.fromstring(expand_urdf("v1", hardware)).find("ros2_control/hardware/plugin").text
        for hardware in HARDWARE
    }
    assert plugins == {
        "mock": "mock_components/GenericSystem",
        "gazebo": "gz_ros2_control/GazeboSimSystem",
        "real": "bytemini_hardware/ByteMiniSystem",
    }


def test_ros2_control_commands_every_actuated_joint(robot):
    joints = ElementTree.fromstring(robot.urdf).findall("ros2_control/joint")
    assert [joint.get("name") for joint in joints] == list(robot.joint_names)
    for joint in joints:
        assert [item.get("name") for item in joint.findall("command_interface")] == ["position", "velocity", "effort"]
        assert [item.get("name") for item in joint.findall("state_interface")] == ["position", "velocity", "effort"]
