"""`ros2 launch bytemini_bringup bytemini.launch.py`: the stack that `bytemini_bringup.stack` describes."""

import time
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

from bytemini_bringup.processes import Restarts, installed
from bytemini_bringup.stack import APART, OPTIONS, Process, environment, options, stack


def _actions(context: LaunchContext) -> list:
    values = options(**{option.name: LaunchConfiguration(option.name).perform(context) for option in OPTIONS})
    around = [SetEnvironmentVariable(name, value) for name, value in environment(values).items()]
    return [*around, *_BringUp(values["namespace"]).of(stack(values))]


class _BringUp:
    """Starts processes part by part; once all are there, starts again what ends by itself."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._complete = False
        self._restarts = Restarts()

    def of(self, processes: tuple[Process, ...]) -> list:
        """Start processes up to the first that others have to wait for; when that is ready, the rest."""
        actions: list = []
        for index, process in enumerate(processes):
            actions += self._node(process)
            if process.ready is not None:
                waiter = Node(
                    name=f"wait_for_{process.name}",
                    namespace=self._namespace,
                    package="bytemini_bringup",
                    executable="wait_ready",
                    arguments=[process.ready.kind, process.ready.name],
                    output="screen",
                )
                rest = self._when_ready(process, processes[index + 1 :])
                return [*actions, waiter, RegisterEventHandler(OnProcessExit(target_action=waiter, on_exit=rest))]
        self._complete = True
        return actions

    def _node(self, process: Process) -> list:
        package, executable = installed(process)
        node = Node(
            name=process.name,
            namespace=self._namespace,
            package=package,
            executable=executable,
            parameters=[*process.files, dict(process.parameters)],
            remappings=[(f"/{topic}", topic) for topic in APART] if self._namespace else None,
            arguments=list(process.arguments),
            additional_env=dict(process.environment),
            output="screen",
            # All is down three seconds after Ctrl-C, whoever hangs.
            sigterm_timeout="2.0",
            sigkill_timeout="1.0",
        )
        return [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=self._after(process)))]

    def _when_ready(
        self, process: Process, rest: tuple[Process, ...]
    ) -> Callable[[ProcessExited, LaunchContext], list]:
        """Go on with the rest of the stack, or end it where the process never became ready."""

        def go_on(event: ProcessExited, _: LaunchContext) -> list:
            if event.returncode == 0:
                return self.of(rest)
            return [EmitEvent(event=Shutdown(reason=f"{process.name} did not become ready ({process.ready})"))]

        return go_on

    def _after(self, process: Process) -> Callable[[ProcessExited, LaunchContext], list]:
        """Start it again, or end the stack and say why: without one of its processes it is not the stack."""

        def gone(event: ProcessExited, context: LaunchContext) -> list:
            if context.is_shutdown or (process.once and event.returncode == 0):
                return []
            if self._complete and self._restarts.allow(process, event.returncode, time.monotonic()):
                return self._node(process)
            return [EmitEvent(event=Shutdown(reason=f"{process.name} ended with status {event.returncode}"))]

        return gone


def generate_launch_description() -> LaunchDescription:
    """Declare every option as a launch argument, then start the processes."""
    arguments = [
        DeclareLaunchArgument(
            option.name,
            default_value=str(option.default).lower() if isinstance(option.default, bool) else str(option.default),
            description=option.description,
            choices=list(option.words) or None,
        )
        for option in OPTIONS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_actions)])
