import dataclasses

import numpy as np
import pytest
from bytemini_core.types import JointCommand
from bytemini_description.robot import load_robot
from bytemini_sim.tasks import make_task
from bytemini_sim.world import World


@pytest.fixture(scope="session", params=["v1", "v2"])
def robot(request):
    return load_robot(request.param)


@pytest.fixture(scope="session")
def v1():
    return load_robot("v1")


@pytest.fixture
def scene():
    return make_task("pick_place").sample(10, "put the apple into the basket")


@pytest.fixture
def world(v1, scene):
    return World(v1, scene, cameras=())


@pytest.fixture
def command():
    """Builds a command: the robot's own gains, home, and gravity feed-forward read from the simulator."""

    def build(world, position=None, velocity=None, twist=(0.0, 0.0, 0.0), **changes):
        robot = world.robot
        n = len(robot.joint_names)
        values = JointCommand(
            stamp=world.time,
            names=robot.joint_names,
            position=robot.home if position is None else position,
            velocity=np.zeros(n) if velocity is None else velocity,
            stiffness=robot.stiffness,
            damping=robot.damping,
            effort=gravity(world),
            base_twist=np.array(twist),
        )
        return dataclasses.replace(values, **changes)

    return build


def gravity(world):
    return np.array([world.data.qfrc_bias[int(world.model.joint(name).dofadr[0])] for name in world.robot.joint_names])
