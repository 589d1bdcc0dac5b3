"""A node that is given nonsense does not start, and names it."""

import pytest
import rclpy
from bytemini_core.node import _refuse_unknown_parameters, parameter
from rclpy.node import Node
from rclpy.parameter import Parameter


@pytest.fixture
def make():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=101)
    nodes = []

    def node(**given):
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        nodes.append(Node("some", context=context, parameter_overrides=overrides, start_parameter_services=False))
        return nodes[-1]

    yield node
    for one in nodes:
        one.destroy_node()
    context.try_shutdown()


def test_values_out_of_range_or_of_another_kind_are_refused_by_name(make):
    for value in (11.0, -1.0, "fast", float("nan")):
        with pytest.raises(ValueError, match=r"parameter speed of some: expected a float from 0\.0 to 10\.0"):
            parameter(make(speed=value), "speed", 1.0, "m/s", bounds=(0.0, 10.0))
    with pytest.raises(ValueError, match="parameter zones of some: expected a list of numbers"):
        parameter(make(zones="here"), "zones", [0.0], "m")


def test_lists_of_numbers_are_parameters_too(make):
    assert list(parameter(make(), "zones", [0.0], "m")) == [0.0]
    assert list(parameter(make(zones=[1.0, 2.0]), "zones", [0.0], "m")) == [1.0, 2.0]


def test_a_parameter_that_the_node_does_not_have_is_refused_with_the_one_that_was_meant(make):
    node = make(spede=2.0, use_sim_time=True)
    parameter(node, "speed", 1.0, "m/s")
    with pytest.raises(ValueError, match=r"some has no parameter spede, did you mean speed\?"):
        _refuse_unknown_parameters(node)
    _refuse_unknown_parameters(make(use_sim_time=True))
