"""The driver's law, its manners without commands, and that it is stable where it is computed: outside the physics."""

import dataclasses

import numpy as np
import pytest
from bytemini_core.types import JointCommand, RobotState
from bytemini_description.robot import load_robot
from bytemini_gazebo.driver import GazeboDriver
from bytemini_sim.model import PhysicsConfig
from bytemini_sim.tasks import make_task
from bytemini_sim.world import World
from hypothesis import given, settings
from hypothesis import strategies as st


def at_home(robot, stamp=0):
    zero = np.zeros(len(robot.home))
    return RobotState(stamp, robot.joint_names, robot.home, zero, zero)


def command(robot, stamp=0, **changes):
    zero = np.zeros(len(robot.home))
    return dataclasses.replace(
        JointCommand(stamp, robot.joint_names, robot.home, zero, robot.stiffness, robot.damping, zero), **changes
    )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_effort_is_the_actuators_law_within_their_limits(seed):
    robot = load_robot("v1")
    rng = np.random.default_rng(seed)
    state = dataclasses.replace(
        at_home(robot), position=robot.home + rng.normal(0, 0.3, 19), velocity=rng.normal(0, 1.0, 19)
    )
    order = rng.permutation(19)
    position, velocity, feed = robot.home + rng.normal(0, 0.3, 19), rng.normal(0, 1.0, 19), rng.normal(0, 5.0, 19)
    driver = GazeboDriver(robot)
    driver.take(
        JointCommand(
            0, tuple(robot.joint_names[i] for i in order), position[order], velocity[order],
            robot.stiffness[order], robot.damping[order], feed[order],
        )
    )  # fmt: skip
    law = robot.stiffness * (position - state.position) + robot.damping * (velocity - state.velocity) + feed
    np.testing.assert_allclose(driver.effort(state), np.clip(law, -robot.effort, robot.effort))


def test_holds_when_no_command_comes_any_more(robot):
    driver = GazeboDriver(robot)
    driver.take(command(robot, velocity=np.full(19, 0.1), base_twist=np.array([0.3, 0.0, 0.2])))
    moving = driver.effort(at_home(robot, 50_000_000))
    holding = driver.effort(at_home(robot, 150_000_000))
    np.testing.assert_allclose(moving - holding, np.clip(0.1 * robot.damping, -robot.effort, robot.effort))
    twists = np.array([driver.twist(5_000_000 * i) for i in range(400)])
    assert np.abs(np.diff(twists, axis=0)).max() <= (robot.base_acceleration * 0.005 + 1e-12).max()
    assert twists[19, 0] > 0.0
    np.testing.assert_array_equal(twists[-1], 0.0)


def test_refuses_what_it_does_not_know(robot):
    driver = GazeboDriver(robot)
    with pytest.raises(KeyError):
        driver.take(dataclasses.replace(command(robot), names=("knee_joint", *robot.joint_names[1:])))
    with pytest.raises(ValueError, match="the state names"):
        driver.effort(dataclasses.replace(at_home(robot), names=robot.joint_names[::-1]))


def test_stable_and_accurate_where_each_effort_comes_one_update_late(robot):
    """The effort crosses two processes: held for an update of 2.5 ms, one update old."""
    world = World(robot, make_task("pick_place").sample(0), cameras=(), physics=PhysicsConfig(substeps=1))
    reference = World(robot, make_task("pick_place").sample(0), cameras=(), physics=PhysicsConfig(substeps=1))
    driver, zero = GazeboDriver(robot), np.zeros(19)
    late = driver.effort(world.state())
    errors = []
    for tick in range(1200):
        if tick % 2 == 0:
            swing = np.where(robot.velocity > 1.0, 0.12, 0.004) * (1.0 - np.cos(tick / 100))
            rate = np.where(robot.velocity > 1.0, 0.12, 0.004) * np.sin(tick / 100) * 4.0
            position = robot.clamp_wrist(np.clip(robot.home - swing, robot.lower, robot.upper))
            gravity = reference.data.qfrc_bias[reference._v].copy()
            wanted = command(robot, stamp=world.time, position=position, velocity=-rate, effort=gravity)
            driver.take(wanted)
        torque = driver.effort(world.state())
        world.step(dataclasses.replace(wanted, stiffness=zero, damping=zero, effort=late))
        late = torque
        reference.step(wanted)
        errors.append(np.abs(world.state().position - reference.state().position))
    arms = robot.indices([name for side in ("left", "right") for name in robot.arm_joints(side)])
    assert np.max(errors, axis=0)[arms].max() < 0.02
    assert np.abs(world.state().velocity - reference.state().velocity)[arms].max() < 0.05
