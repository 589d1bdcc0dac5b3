"""The launch file says the same as the description of the stack."""

import importlib.util
from pathlib import Path

import pytest

from bytemini_bringup.stack import OPTIONS

pytest.importorskip("launch", reason="launch is not installed: it comes with a ROS distribution, not as a wheel")
pytest.importorskip("launch_ros", reason="launch_ros is not installed: it comes with a ROS distribution")


def test_every_option_is_a_launch_argument_with_its_default_and_choices():
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument
    from launch.utilities import perform_substitutions

    path = Path(__file__).parents[1] / "bytemini.launch.py"
    spec = importlib.util.spec_from_file_location("bytemini_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    declared = {
        e.name: e for e in module.generate_launch_description().entities if isinstance(e, DeclareLaunchArgument)
    }
    assert set(declared) == {option.name for option in OPTIONS}
    for option in OPTIONS:
        default = perform_substitutions(LaunchContext(), declared[option.name].default_value)
        assert option.parse(default) == option.default
        assert tuple(declared[option.name].choices or ()) == option.words
