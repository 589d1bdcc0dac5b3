"""What the body can do: reach a table, fold the elbow, stand at home without touching itself."""

import numpy as np
import pinocchio as pin
import pytest

TABLE_HEIGHT = 0.72
GRASP_HEIGHT = 0.02  # of the tool centre point above the table
GRID = [(x, y) for x in np.linspace(0.35, 0.75, 5) for y in np.linspace(-0.45, 0.0, 4)]  # right hand, mirrored for left
APPROACHES = np.radians([30.0, 45.0, 60.0])  # below the horizontal


def reach(robot, kinematics, side, target, direction, collides, rng, starts=25, iterations=80):
    """A posture with the tool centre point at `target` and the fingers along `direction`, using arm and lift.

    Damped least squares on position and direction; how the hand is turned about the direction is free.
    """
    moving = robot.indices(["lift_joint", *robot.arm_joints(side)])
    for start in range(starts):
        position = robot.home.copy()
        if start:
            position[moving] = rng.uniform(robot.lower[moving], robot.upper[moving])
            position[moving[0]] = rng.uniform(0.0, 0.25)
        for _ in range(iterations):
            pose = kinematics.forward(f"{side}_tcp", position)
            fingers = -pose[:3, 2]
            error = np.concatenate([target - pose[:3, 3], 0.3 * np.cross(fingers, direction)])
            aligned = fingers @ direction > 0.0
            if np.abs(error).max() < 1e-4 and aligned:
                break
            jacobian = kinematics.jacobian(f"{side}_tcp", position)[:, 3 + moving]
            jacobian[3:] *= 0.3
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-3 * np.eye(6), error)
            position[moving] += np.clip(step, -0.3, 0.3)
            position = robot.clamp_wrist(np.clip(position, robot.lower, robot.upper))
        else:
            continue
        if not collides(position):
            return position
    return None


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_hand_reaches_every_point_of_a_table(robot, kinematics, mujoco_robot, side):
    rng = np.random.default_rng(0)

    def collides(position):
        mujoco_robot.set(position)
        return bool(mujoco_robot.contacts())

    reached = dict.fromkeys(APPROACHES, 0)
    unreached = []
    for x, y in GRID:
        target = np.array([x, y if side == "right" else -y, TABLE_HEIGHT + GRASP_HEIGHT])
        shoulder = kinematics.forward(f"{side}_shoulder_roll_link", robot.home)[:3, 3]
        headings = (0.0, np.arctan2(*(target - shoulder)[1::-1]))  # straight ahead, or along the arm
        hit = False
        for angle in APPROACHES:
            directions = [np.array([np.cos(h), np.sin(h), -np.tan(angle)]) * np.cos(angle) for h in headings]
            found = any(reach(robot, kinematics, side, target, d, collides, rng) is not None for d in directions)
            reached[angle] += found
            hit |= found
        if not hit:
            unreached.append(tuple(target.round(2).tolist()))
    assert not unreached
    # The wrist's disc costs the far edge as the approach steepens; less than this is a change of the robot.
    assert [reached[angle] >= least for angle, least in zip(APPROACHES, (20, 18, 16), strict=True)] == [True] * 3


def test_elbow_adducts_to_the_stated_angle_and_the_hands_meet(robot, kinematics):
    elbows = robot.indices(["left_elbow_joint", "right_elbow_joint"])
    assert np.allclose(robot.upper[elbows], 2.53)
    position = np.zeros(19)
    position[elbows] = 2.53
    shoulder = kinematics.forward("left_shoulder_roll_link", position)[:3, 3]
    wrist = kinematics.forward("left_wrist_yaw_link", position)[:3, 3]
    assert np.linalg.norm(wrist - shoulder) == pytest.approx(0.174, abs=0.001)
    # Both grasp centres at one point in front of the chest, the fingers forwards and inwards.
    rng = np.random.default_rng(1)
    target = np.array([0.45, 0.0, robot.home[0] + 0.95 - 0.25])
    for side, s in (("left", 1.0), ("right", -1.0)):
        direction = np.array([np.sqrt(0.5), -s * np.sqrt(0.5), 0.0])
        assert reach(robot, kinematics, side, target, direction, lambda _: False, rng) is not None


def test_no_self_collision_at_home(robot, kinematics, mujoco_robot):
    mujoco_robot.set(robot.home)
    assert mujoco_robot.contacts() == []
    assert _pinocchio_collisions(robot, kinematics, robot.home) == []


@pytest.mark.parametrize("lift", [0.0, 0.4])
def test_zero_posture_touches_nothing(robot, mujoco_robot, lift):
    position = np.zeros(19)
    position[0] = lift
    position[robot.indices(["left_gripper_joint", "right_gripper_joint"])] = 0.0425
    mujoco_robot.set(position)
    assert mujoco_robot.contacts() == []


def test_wrist_disc_is_free_of_contact(robot, mujoco_robot):
    for angle in np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False):
        position = robot.home.copy()
        for side in ("left", "right"):
            wrist = robot.indices([f"{side}_wrist_pitch_joint", f"{side}_wrist_roll_joint"])
            position[wrist] = robot.wrist_tilt_limit * np.array([np.cos(angle), np.sin(angle)])
        mujoco_robot.set(position)
        assert mujoco_robot.contacts() == []


def test_a_hand_in_the_chest_is_a_collision(robot, kinematics, mujoco_robot):
    position = robot.home.copy()
    position[robot.indices(["left_elbow_joint"])] = 2.4
    position[robot.indices(["left_shoulder_yaw_joint"])] = 1.3
    position[robot.indices(["left_shoulder_roll_joint"])] = 0.0
    mujoco_robot.set(position)
    assert mujoco_robot.contacts()
    assert _pinocchio_collisions(robot, kinematics, position)


def _pinocchio_collisions(robot, kinematics, position):
    shapes = pin.buildGeomFromUrdfString(kinematics.model, robot.urdf, pin.GeometryType.COLLISION)
    objects = shapes.geometryObjects
    for i, first in enumerate(objects):
        for j in range(i + 1, len(objects)):
            a, b = first.parentJoint, objects[j].parentJoint
            if a != b and kinematics.model.parents[a] != b and kinematics.model.parents[b] != a:
                shapes.addCollisionPair(pin.CollisionPair(i, j))
    data = shapes.createData()
    q = kinematics.configuration(position)
    pin.computeCollisions(kinematics.model, kinematics.data, shapes, data, q, False)
    return [
        (objects[pair.first].name, objects[pair.second].name)
        for pair, result in zip(shapes.collisionPairs, data.collisionResults, strict=True)
        if result.isCollision()
    ]
