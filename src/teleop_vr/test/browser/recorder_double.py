"""A recorder that records nothing: its service and status, for tests of who commands it."""

from __future__ import annotations

import contextlib

import rclpy
from bytemini_core.ros import LATCHED_QOS
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from bytemini_msgs.msg import EpisodeStatus
from bytemini_msgs.srv import EpisodeCommand

COUNTDOWN = 1.0
PERIOD = 0.1


class RecorderDouble(Node):
    """Counts down, records, saves and discards on command."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self._status = EpisodeStatus(state=EpisodeStatus.IDLE, task="fold the towel", dataset="nowhere")
        self._publisher = self.create_publisher(EpisodeStatus, "recorder/status", LATCHED_QOS)
        self.create_service(EpisodeCommand, "recorder/command", self._command)
        self.create_timer(PERIOD, self._go_on)

    def _command(self, request: EpisodeCommand.Request, response: EpisodeCommand.Response) -> EpisodeCommand.Response:
        status, command = self._status, request.command
        running = status.state in (EpisodeStatus.COUNTDOWN, EpisodeStatus.RECORDING)
        response.ok = running != (command == request.START) and (command != request.DISCARD or request.confirmed)
        if response.ok and command == request.START:
            status.state, status.countdown, status.duration = EpisodeStatus.COUNTDOWN, COUNTDOWN, 0.0
            status.episode += 1
        elif response.ok and command == request.SAVE:
            status.state, status.quality = EpisodeStatus.SAVED, "pass" if request.success else "fail"
            status.saved += 1
        elif response.ok:
            status.state = EpisodeStatus.DISCARDED if command == request.DISCARD else EpisodeStatus.ABORTED
        response.message = status.state if response.ok else f"refused: {command} in {status.state}"
        self._publisher.publish(status)
        return response

    def _go_on(self) -> None:
        status = self._status
        if status.state == EpisodeStatus.COUNTDOWN:
            status.countdown = max(0.0, status.countdown - PERIOD)
            if status.countdown == 0.0:
                status.state = EpisodeStatus.RECORDING
        elif status.state == EpisodeStatus.RECORDING:
            status.duration += PERIOD
        self._publisher.publish(status)


def main() -> None:
    """Serve until stopped."""
    rclpy.init()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(RecorderDouble())


if __name__ == "__main__":
    main()
