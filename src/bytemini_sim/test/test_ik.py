"""The closed-form arm against Pinocchio, on both sides and both versions."""

import numpy as np
import pytest
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import load_robot
from bytemini_sim.ik import Arm, from_rotation_vector, quaternion_matrix, rotation_vector
from hypothesis import given, settings
from hypothesis import strategies as st


def postures(arm: Arm, count: int, seed: int) -> np.ndarray:
    """Random postures inside limits and disc, on the branch the solution takes: the elbow below the shoulder's axis."""
    rng = np.random.default_rng(seed)
    q = rng.uniform(arm.lower, arm.upper, (count, 7))
    q[:, 1] = rng.uniform(arm.lower[1], 1.5, count)
    tilt = 0.69 * np.sqrt(rng.random(count))
    turn = rng.uniform(0, 2 * np.pi, count)
    q[:, 5], q[:, 6] = tilt * np.cos(turn), tilt * np.sin(turn)
    return q


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_forward_agrees_with_pinocchio(version, side):
    robot = load_robot(version)
    arm, kinematics = Arm(robot, side), Kinematics(robot)
    index = robot.indices(robot.arm_joints(side))
    for q in postures(arm, 50, seed=1):
        full = robot.home.copy()
        full[index] = q
        expected = kinematics.forward(f"{side}_tcp", full, np.zeros(3))
        rotation, position = arm.forward(q, lift=full[0])["tcp"]
        np.testing.assert_allclose(position, expected[:3, 3], atol=1e-9)
        np.testing.assert_allclose(rotation, expected[:3, :3], atol=1e-9)


@pytest.mark.parametrize("side", ["left", "right"])
def test_inverse_returns_to_every_posture_and_pose(side):
    robot = load_robot("v1")
    arm = Arm(robot, side)
    q = postures(arm, 2000, seed=2)
    rotation, position = arm.forward(q, 0.15)["tcp"]
    found, valid = arm.inverse(rotation, position, arm.swivel(q), 0.15)
    assert valid.all()
    np.testing.assert_allclose(found, q, atol=1e-6)
    # Any other swivel that is valid reaches the same pose.
    found, valid = arm.inverse(rotation[:, None], position[:, None], np.linspace(-1, 2, 7), 0.15)
    back = arm.forward(found, 0.15)["tcp"]
    assert valid.sum() > 1000
    np.testing.assert_allclose(back[1][valid], np.broadcast_to(position[:, None], back[1].shape)[valid], atol=1e-9)
    np.testing.assert_allclose(back[0][valid], np.broadcast_to(rotation[:, None], back[0].shape)[valid], atol=1e-9)


def test_inverse_respects_limits_and_the_disc_with_margins():
    robot = load_robot("v1")
    arm = Arm(robot, "left", margin=0.03, tilt_margin=0.03)
    rng = np.random.default_rng(3)
    q = postures(arm, 500, seed=3)
    rotation, position = arm.forward(q, 0.15)["tcp"]
    found, valid = arm.inverse(rotation[:, None], position[:, None], rng.uniform(-3, 3, (500, 8)), 0.15)
    index = robot.indices(robot.arm_joints("left"))
    assert (found[valid] >= robot.lower[index] + 0.03).all()
    assert (found[valid] <= robot.upper[index] - 0.03).all()
    assert np.hypot(found[valid][:, 5], found[valid][:, 6]).max() < robot.wrist_tilt_limit - 0.03
    assert not valid.all()


def test_out_of_reach_is_refused_and_finite():
    arm = Arm(load_robot("v1"), "right")
    q, valid = arm.inverse(np.eye(3), np.array([3.0, 0.0, 1.0]), np.zeros(4), 0.15)
    assert not valid.any()
    assert np.isfinite(q).all()


def test_equal_joints_give_mirrored_hands():
    robot = load_robot("v1")
    left, right = Arm(robot, "left"), Arm(robot, "right")
    q = postures(left, 20, seed=4)
    mirror = np.diag([1.0, -1.0, 1.0])
    a, b = left.forward(q)["tcp"], right.forward(q)["tcp"]
    np.testing.assert_allclose(a[1] * [1, -1, 1], b[1], atol=1e-12)
    np.testing.assert_allclose(mirror @ a[0] @ mirror, b[0], atol=1e-12)
    np.testing.assert_allclose(left.swivel(q), right.swivel(q), atol=1e-9)


def test_an_arm_that_is_not_srs_is_refused():
    robot = load_robot("v1")

    class Bent:
        urdf = robot.urdf.replace('<origin xyz="0 0 -0.27"/>', '<origin xyz="0.01 0 -0.27"/>')
        lower, upper, wrist_tilt_limit = robot.lower, robot.upper, robot.wrist_tilt_limit
        indices = robot.indices

    if Bent.urdf == robot.urdf:
        import re

        Bent.urdf = re.sub(
            r'(left_wrist_yaw_joint.*?<origin[^>]*xyz=")0', r"\g<1>0.01", robot.urdf, count=1, flags=re.S
        )
    with pytest.raises(ValueError, match="S-R-S"):
        Arm(Bent(), "left")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1.7, 1.7), min_size=3, max_size=3))
def test_rotation_vectors_round_trip(vector):
    vector = np.array(vector)
    matrix = from_rotation_vector(vector)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotation_vector(matrix), vector, atol=1e-6)
    half = np.linalg.norm(vector) / 2
    axis = vector / max(np.linalg.norm(vector), 1e-12)
    np.testing.assert_allclose(quaternion_matrix(np.append(np.sin(half) * axis, np.cos(half))), matrix, atol=1e-9)
