"""`ros2 launch bytemini_bringup bytemini.launch.py`: the stack that `bytemini_bringup.stack` describes."""

from collections.abc import Callable

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from bytemini_bringup.processes import installed
from bytemini_bringup.stack import OPTIONS, Process, options, stack


def _actions(context: LaunchContext) -> list:
    values = options(**{option.name: LaunchConfiguration(option.name).perform(context) for option in OPTIONS})
    actions = []
    for process in stack(values):
        package, executable = installed(process)
        node = Node(
            name=process.name,
            namespace=values["namespace"],
            package=package,
            executable=executable,
            parameters=[dict(process.parameters)],
            arguments=list(process.arguments),
            output="screen",
        )
        actions += [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=_after(process)))]
    return actions


def _after(process: Process) -> Callable[[ProcessExited, LaunchContext], list]:
    """Without one of its processes the stack is not the stack: end it and say which."""

    def gone(event: ProcessExited, _: LaunchContext) -> list:
        if process.once and event.returncode == 0:
            return []
        return [EmitEvent(event=Shutdown(reason=f"{process.name} ended with status {event.returncode}"))]

    return gone


def generate_launch_description() -> LaunchDescription:
    """Declare every option as a launch argument, then start the processes."""
    arguments = [
        DeclareLaunchArgument(
            option.name,
            default_value=str(option.default).lower() if isinstance(option.default, bool) else str(option.default),
            description=option.description,
            choices=list(option.choices) or None,
        )
        for option in OPTIONS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_actions)])
