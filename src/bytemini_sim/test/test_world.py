import dataclasses

import mujoco
import numpy as np
import pytest
from bytemini_core.types import JointCommand, RobotState
from bytemini_description.kinematics import Kinematics
from bytemini_sim.catalogue import load_catalogue
from bytemini_sim.model import PhysicsConfig, build_model
from bytemini_sim.scene import Placed, SceneSpec, Table
from bytemini_sim.tasks import make_task
from bytemini_sim.world import WRIST_LAG, PhysicsError, World


def gravity(world):
    """(19,) what gravity asks of each joint, by the simulator's own account."""
    return np.array([world.data.qfrc_bias[int(world.model.joint(name).dofadr[0])] for name in world.robot.joint_names])


def run(world, seconds, command=None):
    for _ in range(round(seconds * 1e9 / world.physics.tick)):
        world.step(command(world) if command else None)


def sway(world, command):
    t = world.time / 1e9
    position = world.robot.home.copy()
    position[world.robot.indices(world.robot.arm_joints("left"))[4:]] += 0.3 * np.sin(5 * t)
    return command(world, position, twist=(0.2, 0.1, 0.3 * np.sin(t)))


# -- determinism --------------------------------------------------------------------------------------------------


def test_the_same_commands_give_the_same_trajectory_to_the_bit(v1, scene, command):
    digests, poses = set(), []
    for _ in range(2):
        world = World(v1, scene, cameras=())
        run(world, 1.0, lambda w: sway(w, command))
        digests.add(world.digest())
        poses.append(world.object_poses())
    world.reset()
    run(world, 1.0, lambda w: sway(w, command))
    digests.add(world.digest())
    assert len(digests) == 1
    np.testing.assert_array_equal(*poses)


def test_another_seed_gives_another_trajectory(v1, scene):
    world = World(v1, scene, cameras=())
    run(world, 0.1)
    first = world.digest()
    world.reset(make_task("pick_place").sample(3))
    run(world, 0.1)
    assert world.digest() != first
    assert world.scene.seed == 3


def test_scene_does_not_depend_on_the_robot(robot, scene):
    world = World(robot, scene, cameras=())
    for placed, pose in zip(scene.placed, world.object_poses(), strict=True):
        assert np.linalg.norm(pose[:3] - placed.position) < 2e-3


# -- the model ----------------------------------------------------------------------------------------------------


def test_mass_and_joints_are_those_of_the_urdf(robot):
    empty = SceneSpec("test", "test", 0, "", "", "", (), ())
    model = build_model(robot, empty)
    kinematics = Kinematics(robot)
    np.testing.assert_allclose(model.body("base_footprint").subtreemass[0], 100.3, atol=0.1)
    assert model.nu == len(robot.joint_names) + 3
    for i, name in enumerate(robot.joint_names):
        np.testing.assert_allclose(model.joint(name).range, [robot.lower[i], robot.upper[i]])
        np.testing.assert_allclose(model.actuator(name).forcerange, [-robot.effort[i], robot.effort[i]])
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    frames = ("left_tcp", "right_tcp", "head_camera_optical_frame", "left_wrist_camera_optical_frame", "torso_link")
    for _ in range(50):
        q = rng.uniform(robot.lower, robot.upper)
        base = rng.uniform(-1, 1, 3)
        for name, value in zip(robot.joint_names, q, strict=True):
            data.joint(name).qpos = value
        for name, value in zip(("base_x_joint", "base_y_joint", "base_yaw_joint"), base, strict=True):
            data.joint(name).qpos = value
        mujoco.mj_kinematics(model, data)
        for frame in frames:
            expected = kinematics.forward(frame, q, base)
            np.testing.assert_allclose(data.body(frame).xpos, expected[:3, 3], atol=1e-6)
            np.testing.assert_allclose(data.body(frame).xmat.reshape(3, 3), expected[:3, :3], atol=1e-6)


def test_gravity_is_what_the_controller_believes(v1, world):
    position = world.state().position
    believed = Kinematics(v1).gravity(position)
    np.testing.assert_allclose(believed[3:10], gravity(world)[3:10], atol=1e-3)
    np.testing.assert_allclose(believed[11:18], gravity(world)[11:18], atol=1e-3)
    np.testing.assert_allclose(believed[:3], gravity(world)[:3], atol=1e-3)


def test_home_is_free_of_collisions(robot, scene):
    world = World(robot, scene, cameras=())
    model, data = world.model, world.data
    for contact in data.contact:
        names = [model.body(int(model.geom_bodyid[g])).name for g in contact.geom]
        assert any(name.startswith("item/") for name in names), names


# -- the driver ---------------------------------------------------------------------------------------------------


def test_before_any_command_the_driver_holds_home(world):
    run(world, 1.0)
    assert np.abs(world.state().position - world.robot.home).max() < 1e-4
    assert world.limits.total == 0
    assert world.time == 1_000_000_000
    assert world.state().stamp == world.time


def test_gravity_pulls_an_arm_that_nothing_holds(world, command):
    elbow = world.robot.indices(["left_elbow_joint"])[0]
    limp = command(world, stiffness=np.zeros(19), damping=np.full(19, 0.5), effort=np.zeros(19))
    run(world, 0.5, lambda _: limp)
    assert abs(world.state().position[elbow] - world.robot.home[elbow]) > 0.2


def test_effort_follows_the_law_of_the_actuators(world, command):
    position = world.robot.home.copy()
    position[3:10] += 0.1
    asked = command(world, position)
    world.step(asked)
    state = world.state()
    # Efforts are those of the last physics step, which began half a tick before this state.
    expected = asked.stiffness * (asked.position - state.position) - asked.damping * state.velocity + asked.effort
    expected = np.clip(expected, -world.robot.effort, world.robot.effort)
    np.testing.assert_allclose(state.effort[3:9], expected[3:9], atol=0.25 * np.abs(expected).max())
    run(world, 1.5, lambda w: command(w, position))
    state = world.state()
    np.testing.assert_allclose(state.position[3:10], position[3:10], atol=2e-3)


def test_efforts_are_clipped_and_counted(world, command):
    elbow = world.robot.indices(["left_elbow_joint"])[0]
    effort = np.zeros(19)
    effort[elbow] = 500.0
    world.step(command(world, effort=effort))
    assert world.state().effort[elbow] == pytest.approx(world.robot.effort[elbow])
    assert world.limits.effort == 1
    run(world, 0.02, lambda w: command(w, effort=effort))
    assert world.limits.effort == 1, "a lasting excess is one excess"


def test_speed_and_tilt_beyond_the_limits_are_counted(world, command):
    position = world.robot.home.copy()
    wrist = world.robot.indices(["left_wrist_pitch_joint", "left_wrist_roll_joint"])
    position[wrist] = 0.65  # each within its range, together outside the disc
    run(world, 1.0, lambda w: command(w, position))
    assert world.limits.tilt == 1
    assert world.limits.position == 0
    stiff = world.robot.stiffness * 20
    position = world.robot.home.copy()
    position[world.robot.indices(["right_wrist_yaw_joint"])] = 2.0
    run(world, 0.3, lambda w: command(w, position, stiffness=stiff, damping=np.full(19, 0.05)))
    assert world.limits.velocity >= 1


def test_without_a_command_the_last_targets_hold_and_the_base_brakes(world, command):
    position = world.robot.home.copy()
    position[world.robot.indices(["left_elbow_joint"])] -= 0.3
    run(world, 1.0, lambda w: command(w, position, twist=(-0.3, 0.0, 0.0)))
    assert world.state().base_twist[0] == pytest.approx(-0.3, abs=0.01)
    run(world, 1.0)
    state = world.state()
    assert np.abs(state.base_twist).max() < 1e-3
    np.testing.assert_allclose(state.position, position, atol=5e-3)


def test_joints_not_named_keep_their_last_command(world, command):
    full = command(world)
    world.step(full)
    one = JointCommand(
        world.time, ("head_yaw_joint",), *(np.array([v]) for v in (0.2, 0.0, 20.0, 0.8, 0.0)), base_twist=np.zeros(3)
    )
    run(world, 1.0, lambda _: one)
    expected = full.position.copy()
    expected[1] = 0.2
    np.testing.assert_allclose(world.state().position, expected, atol=5e-3)
    np.testing.assert_allclose(world.commanded, expected)


def test_an_unknown_joint_is_refused(world):
    bad = JointCommand(0, ("tail_joint",), *(np.zeros(1) for _ in range(5)))
    with pytest.raises(ValueError, match="tail_joint is not an actuated joint"):
        world.step(bad)


def test_the_base_obeys_its_acceleration_and_turns_its_twist(world, command):
    limit = world.robot.base_acceleration
    speeds = []
    for _ in range(100):
        world.step(command(world, twist=(5.0, 0.0, 0.0)))
        speeds.append(world.state().base_twist[0])
    assert max(speeds) <= world.robot.base_velocity[0] * 1.01
    assert np.diff(speeds).max() / 0.005 < limit[0] * 1.1
    world.reset()
    run(world, 2.0, lambda w: command(w, twist=(0.0, 0.0, 0.8)))
    run(world, 1.0, lambda w: command(w, twist=(0.0, 0.0, 0.0)))
    yaw = world.state().base_pose[2]
    assert 1.2 < yaw < 1.7
    run(world, 0.3, lambda w: command(w, twist=(-0.2, 0.1, 0.0)))  # both axes up to speed
    before = world.state().base_pose
    run(world, 0.6, lambda w: command(w, twist=(-0.2, 0.1, 0.0)))
    moved = world.state().base_pose[:2] - before[:2]
    direction = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]) @ [-0.2, 0.1]
    np.testing.assert_allclose(moved / np.linalg.norm(moved), direction / np.linalg.norm(direction), atol=0.02)
    np.testing.assert_allclose(world.state().base_twist, [-0.2, 0.1, 0.0], atol=0.01)


def test_the_wrist_lags_when_told_so(v1, scene, command):
    onset = {}
    for name, lag in (("wrist_yaw", 0.0), ("wrist_yaw", WRIST_LAG), ("elbow", 0.0), ("elbow", WRIST_LAG)):
        joint = v1.indices([f"left_{name}_joint"])[0]
        position = v1.home.copy()
        position[joint] += 0.2
        world = World(v1, scene, cameras=(), wrist_lag=lag)
        while abs(world.state().position[joint] - v1.home[joint]) < 0.03:
            world.step(command(world, position))
        onset[name, lag] = world.time / 1e9
        run(world, 1.0, lambda w, position=position: command(w, position))
        assert abs(world.state().position[joint] - position[joint]) < 5e-3
    assert onset["wrist_yaw", WRIST_LAG] - onset["wrist_yaw", 0.0] == pytest.approx(WRIST_LAG, abs=1e-9)
    assert onset["elbow", WRIST_LAG] == onset["elbow", 0.0]


def test_a_diverged_simulation_says_so(world):
    world.data.qvel[0] = np.nan
    with pytest.raises(PhysicsError, match="diverged"):
        world.step(None)


def test_a_step_that_flings_things_away_is_solved_again(v1, scene, monkeypatch):
    """As Newton's method does when it takes wrong contact forces for the solution."""
    sane, flung = World(v1, scene), World(v1, scene)
    run(sane, 0.1)
    run(flung, 0.1)
    solve = mujoco.mj_step2
    calls = []

    def wrong(model, data):
        solve(model, data)
        calls.append(model.opt.solver)
        if len(calls) == 1:
            data.qvel[-1] += 1e4

    monkeypatch.setattr(mujoco, "mj_step2", wrong)
    flung.step(None)
    monkeypatch.undo()
    sane.step(None)
    newton, conjugate = int(mujoco.mjtSolver.mjSOL_NEWTON), int(mujoco.mjtSolver.mjSOL_CG)
    assert calls == [newton, conjugate, newton]
    assert flung.data.time == sane.data.time
    np.testing.assert_allclose(flung.data.qpos, sane.data.qpos, atol=1e-5)
    np.testing.assert_allclose(flung.data.qvel, sane.data.qvel, atol=5e-3)


def test_bad_settings_are_refused(v1, scene):
    with pytest.raises(ValueError, match="no camera is called 'tail'"):
        World(v1, scene, cameras=("tail",))
    with pytest.raises(ValueError, match="wrist_lag"):
        World(v1, scene, wrist_lag=3.0)
    with pytest.raises(ValueError, match="timestep"):
        PhysicsConfig(timestep=0.1)


# -- contact ------------------------------------------------------------------------------------------------------


def test_wrists_feel_the_weight_of_the_hands(world):
    run(world, 0.2)
    for side, wrench in world.wrenches().items():
        down = world.frame(f"{side}_hand_link")[:3, :3].T @ [0, 0, -1]
        np.testing.assert_allclose(wrench[:3], 0.56 * 9.81 * down, atol=0.1)


@pytest.mark.parametrize("seed", range(8))
def test_things_lie_still(v1, seed):
    world = World(v1, make_task("pick_place").sample(seed), cameras=())
    before = world.object_poses()
    run(world, 2.0)
    assert np.linalg.norm(world.object_poses()[:, :3] - before[:, :3], axis=1).max() < 1e-3
    upright = 1 - 2 * (before[:, 3] ** 2 + before[:, 4] ** 2)
    assert upright.min() > 0.99


@pytest.mark.parametrize(("name", "mass"), [("red block", 0.08), ("red block", 0.5), ("apple", 0.16), ("coke", 0.5)])
def test_a_closed_hand_holds_what_it_holds(v1, command, name, mass):
    """Lift by 0.12 m and roll the wrist by 0.4 rad at 5 rad/s: the thing stays put in the hand."""
    home = v1.home.copy()
    home[v1.indices(["left_shoulder_roll_joint", "left_shoulder_yaw_joint"])] = 0.0
    robot = dataclasses.replace(v1, home=home)
    item = dataclasses.replace(load_catalogue().object(name), mass=mass)
    nothing = SceneSpec("test", "test", 0, "", "", "", (), ())
    tcp = World(robot, nothing, cameras=()).frame("left_tcp")[:3, 3]
    pedestal = Table(x=tcp[0], y=tcp[1], depth=0.05, width=0.05, height=tcp[2] - item.size[2] / 2, thickness=0.01)
    placed = Placed(item, (tcp[0], tcp[1], tcp[2] + 5e-4), 0.0)
    world = World(robot, dataclasses.replace(nothing, objects=(placed,), table=pedestal), cameras=())
    gripper, lift, roll = robot.indices(["left_gripper_joint", "lift_joint", "left_wrist_roll_joint"])

    def reference(w):
        t = w.time / 1e9
        position, velocity = home.copy(), np.zeros(19)
        position[gripper] = max(-0.03, home[gripper] - 0.12 * t)
        position[lift] += 0.12 * np.clip(t - 0.8, 0, 1)
        if t > 1.2:
            position[roll], velocity[roll] = 0.4 * np.sin(5 * (t - 1.2)), 2.0 * np.cos(5 * (t - 1.2))
        return command(w, position, velocity)

    def in_hand():
        hand = world.frame("left_hand_link")
        return hand[:3, :3].T @ (world.object_poses()[0, :3] - hand[:3, 3])

    run(world, 0.8, reference)
    start = in_hand()
    worst = 0.0
    while world.time < 3_500_000_000:
        world.step(reference(world))
        worst = max(worst, float(np.linalg.norm(in_hand() - start)))
    assert worst < 3e-3
    assert world.object_poses()[0, 2] > pedestal.height + item.size[2] / 2 + 0.08
    fingers = [world.data.joint(f"left_gripper{m}_joint").qpos[0] for m in ("", "_mimic")]
    assert abs(fingers[0] - fingers[1]) < 1e-3, "the mimic finger follows"


def test_only_neighbours_may_touch(world):
    """Hands through each other or into the chassis are contacts; links that overlap by construction are not."""
    model = world.model
    excluded = {frozenset(model.body(b).name for b in divmod(int(s), 65536)) for s in model.exclude_signature}
    expected = {frozenset(("torso_link", "head_link"))}
    for side in ("left", "right"):
        expected |= {
            frozenset(("torso_link", f"{side}_shoulder_roll_link")),
            frozenset((f"{side}_forearm_link", f"{side}_hand_link")),
            frozenset((f"{side}_finger_a_link", f"{side}_finger_b_link")),
        }
    assert excluded == expected
    shaped = {model.body(int(model.geom_bodyid[g])).name for g in range(model.ngeom) if model.geom_contype[g]}
    assert {"base_link", "torso_link", "left_hand_link", "right_forearm_link", "left_finger_a_link"} <= shaped


def test_a_world_that_follows_another_sees_the_same(v1):
    """Postures, objects, contacts and the robot's measurements of a world that is stepped, in one that only follows."""
    scene = make_task("pick_place").sample(3)
    leader, follower = World(v1, scene, cameras=()), World(v1, scene, cameras=())
    home = v1.home.copy()
    for tick in range(100):
        home[v1.indices(["left_shoulder_pitch_joint"])] += 0.002 * np.sin(tick / 20)
        command = JointCommand(
            leader.time, v1.joint_names, home, np.zeros(19), v1.stiffness, v1.damping, leader.data.qfrc_bias[leader._v],
            np.array([0.05, 0.0, 0.1]),
        )  # fmt: skip
        leader.step(command)
        state = leader.state()
        shuffled = RobotState(
            0, state.names[::-1], state.position[::-1], state.velocity[::-1], state.effort[::-1], state.base_pose
        )
        follower.follow(shuffled, leader.object_poses(), command)
    np.testing.assert_allclose(follower.state().position, leader.state().position)
    np.testing.assert_allclose(follower.object_poses(), leader.object_poses())
    np.testing.assert_allclose(follower.frame("left_tcp"), leader.frame("left_tcp"), atol=1e-9)
    assert follower.time == leader.time
    assert follower.limits.position == leader.limits.position == 0

    def touching(world):
        names = [(world.model.geom(c.geom1).name, world.model.geom(c.geom2).name) for c in world.data.contact]
        return {names[i] for i in range(len(names)) if world.data.contact[i].dist < 0}

    assert touching(follower) == touching(leader)
    with pytest.raises(ValueError, match="cannot be followed"):
        follower.follow(state, leader.object_poses()[:-1], None)
