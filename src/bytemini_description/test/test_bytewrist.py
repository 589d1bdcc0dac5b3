"""The wrist's transmission against itself, against differentiation, and against the report's numbers."""

import math

import numpy as np
import pytest
from bytemini_description.bytewrist import WristOutOfRangeError
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import load_robot
from hypothesis import given
from hypothesis import strategies as st

from bytemini_description import bytewrist

LIMIT = load_robot("v1").wrist_tilt_limit


@st.composite
def poses(draw, limit=LIMIT):
    tilt, direction = draw(st.floats(0.0, limit)), draw(st.floats(-math.pi, math.pi))
    return np.array([draw(st.floats(-7.0, 7.0)), tilt * math.cos(direction), tilt * math.sin(direction)])


def random_poses(count, seed=0):
    rng = np.random.default_rng(seed)
    tilt, direction = LIMIT * np.sqrt(rng.random(count)), rng.uniform(-math.pi, math.pi, count)
    return np.stack([rng.uniform(-2.0, 2.0, count), tilt * np.cos(direction), tilt * np.sin(direction)], axis=1)


def test_home():
    np.testing.assert_allclose(bytewrist.inverse(np.zeros(3)), bytewrist.HOME_MOTORS, atol=1e-12)
    np.testing.assert_allclose(bytewrist.forward(bytewrist.HOME_MOTORS), np.zeros(3), atol=1e-12)


def test_table_1_satisfies_equation_1():
    assert math.degrees(bytewrist.THETA0) == pytest.approx(45.0)
    assert pytest.approx(bytewrist.H / math.cos(bytewrist.THETA0), abs=1e-5) == bytewrist.RL + bytewrist.L2
    assert pytest.approx(bytewrist.R2) == bytewrist.RL + bytewrist.L1


def test_forward_of_inverse_is_the_identity_on_thousands_of_poses():
    angles = random_poses(4000)
    motors = bytewrist.inverse(angles)
    back = np.array([bytewrist.forward(row) for row in motors])
    assert np.abs(back - angles).max() < 1e-10
    # How far the motors turn beyond the common yaw, which sizes them.
    excursion = np.abs(motors - angles[:, :1] - bytewrist.HOME_MOTORS).max()
    assert 1.0 < excursion <= 1.10


@given(poses())
def test_forward_of_inverse_is_the_identity_for_any_yaw_and_guess(angles):
    motors = bytewrist.inverse(angles)
    np.testing.assert_allclose(bytewrist.forward(motors), angles, atol=1e-9)
    np.testing.assert_allclose(bytewrist.forward(motors, guess=angles + 0.05), angles, atol=1e-9)


def test_closed_inverse_satisfies_the_reports_equations_2_to_4():
    """The hinges P4 to P6 built from the motors and the report's phi are where the platform carries them."""
    for angles in random_poses(200, seed=4):
        motors = bytewrist.inverse(angles)
        home = np.array(bytewrist.HOME_MOTORS)
        carried = bytewrist.rotation(angles) @ np.stack([-np.sin(home), np.cos(home), np.zeros(3)])  # (7), (8), (11)
        sine = carried[2] / math.sin(bytewrist.THETA0)  # third row of (2)
        cosine = -carried[0] * np.sin(motors) + carried[1] * np.cos(motors)
        np.testing.assert_allclose(sine**2 + cosine**2, 1.0, atol=1e-9)
        built = np.stack(
            [
                -cosine * np.sin(motors) + sine * math.cos(bytewrist.THETA0) * np.cos(motors),
                cosine * np.cos(motors) + sine * math.cos(bytewrist.THETA0) * np.sin(motors),
                sine * math.sin(bytewrist.THETA0),
            ]
        )
        np.testing.assert_allclose(built, carried, atol=1e-9)
        np.testing.assert_allclose(built.T @ built - np.eye(3), -0.5 * (1 - np.eye(3)), atol=1e-9)  # (4)


def test_jacobian_is_the_derivative_of_forward():
    step = 1e-6
    worst_condition = 0.0
    for angles in random_poses(300, seed=1):
        motors, jacobian = bytewrist.inverse(angles), bytewrist.jacobian(angles)
        numeric = np.stack(
            [
                (bytewrist.forward(motors + step * unit) - bytewrist.forward(motors - step * unit)) / (2 * step)
                for unit in np.eye(3)
            ],
            axis=1,
        )
        np.testing.assert_allclose(jacobian, numeric, atol=1e-6)
        worst_condition = max(worst_condition, float(np.linalg.cond(jacobian)))
    assert worst_condition < 3.9


def test_efforts_do_the_same_work_on_both_sides():
    rng = np.random.default_rng(2)
    for angles in random_poses(50, seed=2):
        efforts, rates = rng.normal(size=3), rng.normal(size=3)
        torques = bytewrist.motor_efforts(angles, efforts)
        assert torques @ rates == pytest.approx(efforts @ (bytewrist.jacobian(angles) @ rates))
        np.testing.assert_allclose(bytewrist.joint_efforts(angles, torques), efforts, atol=1e-12)


def test_torque_gain_at_home():
    """Yaw adds three motors; pitch has the square root of 3 and roll 2 of one motor's torque."""
    np.testing.assert_allclose(bytewrist.joint_efforts(np.zeros(3), [1.0, 1.0, 1.0]), [3.0, 0.0, 0.0], atol=1e-12)
    gains = np.abs(np.linalg.inv(bytewrist.jacobian(np.zeros(3)))).max(axis=0)
    peak_pitch = bytewrist.joint_efforts(np.zeros(3), [0.0, -1.0, 1.0])[1]
    peak_roll = bytewrist.joint_efforts(np.zeros(3), [1.0, -0.5, -0.5])[2]
    assert peak_pitch == pytest.approx(math.sqrt(3.0))
    assert peak_roll == pytest.approx(1.5)
    assert (gains > 0.8).all()


def test_the_linkages_cease_to_close_at_0_786_in_the_worst_direction():
    edges = []
    for direction in np.linspace(-math.pi, math.pi, 361):
        low, high = 0.0, 1.2
        for _ in range(30):
            tilt = (low + high) / 2
            try:
                bytewrist.inverse([0.4, tilt * math.cos(direction), tilt * math.sin(direction)])
                low = tilt
            except WristOutOfRangeError:
                high = tilt
        edges.append(low)
    assert min(edges) == pytest.approx(0.786, abs=1e-3)
    assert min(edges) == pytest.approx(bytewrist.TILT_EXISTENCE, abs=1e-6)
    assert max(edges) > 0.95
    assert min(edges) - LIMIT > math.radians(4.5)


def test_out_of_range_is_refused_with_what_to_do():
    with pytest.raises(WristOutOfRangeError, match=r"tilt of 1\.131 rad in this direction, expected less than 0\.785"):
        bytewrist.inverse([0.0, 0.8, 0.8])
    with pytest.raises(WristOutOfRangeError):
        bytewrist.inverse([0.0, float("nan"), 0.0])
    for motors in (bytewrist.HOME_MOTORS + np.array([2.5, -2.5, 0.3]), [float("nan"), 0.0, 0.0]):
        with pytest.raises(WristOutOfRangeError, match="no attitude"):
            bytewrist.forward(motors)
    assert issubclass(WristOutOfRangeError, ValueError)


@given(poses(limit=3.0))
def test_clamp_projects_radially_and_leaves_yaw(angles):
    clamped = bytewrist.clamp(angles, LIMIT)
    assert clamped[0] == angles[0]
    assert math.hypot(*clamped[1:]) <= LIMIT * (1 + 1e-12)
    assert clamped[1] * angles[2] == pytest.approx(clamped[2] * angles[1], abs=1e-12)
    bytewrist.inverse(clamped)


def test_joint_values_of_the_urdf_are_the_reports_angles():
    """Turning the wrist in the URDF turns the hand by the report's R, seen in its frame (z towards the fingers)."""
    robot = load_robot("v1")
    kinematics = Kinematics(robot)
    flip = np.diag([1.0, -1.0, -1.0])
    for side in ("left", "right"):
        wrist = robot.indices([f"{side}_wrist_{axis}_joint" for axis in ("yaw", "pitch", "roll")])
        for joints in random_poses(20, seed=5):
            position = robot.home.copy()
            position[wrist] = joints
            forearm = kinematics.forward(f"{side}_forearm_link", position)[:3, :3]
            turned = flip @ forearm.T @ kinematics.forward(f"{side}_hand_link", position)[:3, :3] @ flip
            angles = bytewrist.from_joints(side, joints)
            np.testing.assert_allclose(turned, bytewrist.rotation(angles), atol=1e-12)
            np.testing.assert_allclose(bytewrist.to_joints(side, angles), joints)
    with pytest.raises(ValueError, match="side is 'both'"):
        bytewrist.from_joints("both", np.zeros(3))
