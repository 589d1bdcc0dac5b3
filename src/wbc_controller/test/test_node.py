"""What the node's parameters do to its controller; how it talks is tested with the whole stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import rclpy
from bytemini_core.domain import private_domain
from rclpy.parameter import Parameter
from wbc_controller.node import WbcNode

Make = Callable[..., WbcNode]


@pytest.fixture
def make() -> Iterator[Make]:
    nodes: list[WbcNode] = []

    def node(*given: str) -> WbcNode:
        words = [word for one in given for word in ("-p", one)]
        rclpy.init(args=["--ros-args", *words])
        nodes.append(WbcNode())
        return nodes[-1]

    with private_domain():
        yield node
        for one in nodes:
            one.destroy_node()
        rclpy.try_shutdown()


def test_hands_yield_as_the_parameters_say(make: Make) -> None:
    node = make("compliance:=sensor", "admittance.damping:=[160.0, 160.0, 60.0, 12.0, 12.0, 12.0]", "grip_force:=20.0")
    config = node._controller.config
    assert config.compliance is not None
    assert config.compliance.sensor
    assert config.compliance.damping == (160.0, 160.0, 60.0, 12.0, 12.0, 12.0)
    assert config.grip_force == 20.0


@pytest.mark.parametrize(
    "wrong", ["admittance.inertia:=[1.0, 2.0]", "admittance.stiffness:=[-1.0, 0.0, 0.0, 0.0, 0.0, 0.0]"]
)
def test_an_admittance_that_makes_no_sense_is_refused_by_name(make: Make, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong.split(":")[0].removeprefix("admittance.")):
        make("compliance:=observer", wrong)


def test_loads_and_weights_change_together_or_not_at_all(make: Make) -> None:
    node = make("load.left:=1.0")
    controller = node._controller
    assert controller._loads == (1.0, 0.0)
    good = [Parameter("load.right", value=3.0), Parameter("weights.leeway", value=0.0)]
    assert node.set_parameters_atomically(good).successful
    assert controller._loads == (1.0, 3.0)
    bad = [Parameter("load.left", value=2.0), Parameter("weights.posture", value=0.0)]
    assert not node.set_parameters_atomically(bad).successful
    assert controller._loads == (1.0, 3.0)
