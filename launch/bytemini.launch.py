"""`ros2 launch bytemini_bringup bytemini.launch.py`: the stack that `bytemini_bringup.stack` describes."""

from collections.abc import Callable

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from bytemini_bringup.processes import installed
from bytemini_bringup.stack import OPTIONS, Process, environment, options, stack


def _actions(context: LaunchContext) -> list:
    values = options(**{option.name: LaunchConfiguration(option.name).perform(context) for option in OPTIONS})
    around = [SetEnvironmentVariable(name, value) for name, value in environment(values).items()]
    return [*around, *_from(stack(values), values["namespace"])]


def _from(processes: tuple[Process, ...], namespace: str) -> list:
    """Start processes up to the first that others have to wait for; when that is ready, the rest."""
    actions: list = []
    for index, process in enumerate(processes):
        package, executable = installed(process)
        node = Node(
            name=process.name,
            namespace=namespace,
            package=package,
            executable=executable,
            parameters=[dict(process.parameters)],
            arguments=list(process.arguments),
            output="screen",
        )
        actions += [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=_after(process)))]
        if process.ready is not None and processes[index + 1 :]:
            waiter = Node(
                name=f"wait_for_{process.name}",
                namespace=namespace,
                package="bytemini_bringup",
                executable="wait_ready",
                arguments=[process.ready.kind, process.ready.name],
                output="screen",
            )
            rest = _when_ready(process, processes[index + 1 :], namespace)
            return [*actions, waiter, RegisterEventHandler(OnProcessExit(target_action=waiter, on_exit=rest))]
    return actions


def _when_ready(
    process: Process, rest: tuple[Process, ...], namespace: str
) -> Callable[[ProcessExited, LaunchContext], list]:
    """Go on with the rest of the stack, or end it where the process never became ready."""

    def go_on(event: ProcessExited, _: LaunchContext) -> list:
        if event.returncode == 0:
            return _from(rest, namespace)
        return [EmitEvent(event=Shutdown(reason=f"{process.name} did not become ready ({process.ready})"))]

    return go_on


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
