"""`ros2 launch bytemini_bringup teleop.launch.py`: the stack with the headset's page; `sim:=none` on the robot."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource


def generate_launch_description() -> LaunchDescription:
    """The whole stack with `teleop` switched on; every other argument is passed through."""
    whole = PythonLaunchDescriptionSource(str(Path(__file__).with_name("bytemini.launch.py")))
    return LaunchDescription([IncludeLaunchDescription(whole, launch_arguments={"teleop": "true"}.items())])
