"""ROS node of the trajectory optimizer: chunks in, a reference for every robot state out.

In real time a chunk is taken when it arrives; in lock step when it is due (`trajectory_optimizer.schedule`). Everything
that decides is in `trajectory_optimizer.optimizer`.
"""

from __future__ import annotations

import sys
from collections import deque

from bytemini_core.diagnostics import Health, Level, Meter, Reporter
from bytemini_core.node import parameter, run_node
from bytemini_core.ros import (
    LATCHED_QOS,
    StateSubscription,
    action_chunk,
    command_qos,
    reference_message,
    to_time,
)
from bytemini_core.types import NANOSECONDS, OBSERVATION_PERIOD, ActionChunk, RobotState
from bytemini_description.robot import VERSIONS, load_robot
from rclpy.node import Node

from bytemini_msgs.msg import ActionChunk as ActionChunkMsg
from bytemini_msgs.msg import ChunkReport as ChunkReportMsg
from bytemini_msgs.msg import WbcStatus as WbcStatusMsg
from bytemini_msgs.msg import WholeBodyReference as WholeBodyReferenceMsg
from trajectory_optimizer.config import TrajectoryConfig
from trajectory_optimizer.optimizer import TrajectoryOptimizer
from trajectory_optimizer.report import ChunkReport
from trajectory_optimizer.schedule import ChunkSchedule

TICK = NANOSECONDS // 200
"""Nanoseconds between two robot states."""


class TrajectoryOptimizerNode(Node):
    """Action chunks and robot states in, whole-body references and chunk reports out."""

    def __init__(self) -> None:
        super().__init__("trajectory_optimizer")
        version = parameter(self, "robot", "v1", "version of the robot", choices=VERSIONS)
        lockstep = parameter(self, "lockstep", False, "take chunks when they are due in simulated time, wait for them")
        period = parameter(
            self, "observation_period", OBSERVATION_PERIOD, "s between observations, in lock step", bounds=(0.005, 10.0)
        )
        latency = parameter(self, "latency", 0.05, "s from observation to chunk, in lock step", bounds=(0.0, 2.0))
        self._optimizer = TrajectoryOptimizer(load_robot(version), TrajectoryConfig())
        self._schedule = ChunkSchedule(period, latency) if lockstep else None
        self._states: deque[RobotState] = deque()

        qos = command_qos(lockstep)
        self._references = self.create_publisher(WholeBodyReferenceMsg, "wbc/reference", qos)
        self._reports = self.create_publisher(ChunkReportMsg, "trajectory/chunk_report", 10)
        self._subscription = StateSubscription(self, lockstep, self._on_state, self._refuse)
        self.create_subscription(ActionChunkMsg, "policy/action_chunk", self._on_chunk, qos)
        self._anew = False
        if not lockstep:  # there the simulator is reset between two tasks, which tells the same
            self.create_subscription(WbcStatusMsg, "wbc/mode", self._on_mode, LATCHED_QOS)
        self._chunks, self._sent, self._refusals = Meter(), Meter(), 0
        self._refused, self._delay = "", float("nan")
        self._reporter = Reporter(self, self._report)

    def _refuse(self, reason: str) -> None:
        self.get_logger().warning(f"refused: {reason}", throttle_duration_sec=1.0)

    def _on_mode(self, _: WbcStatusMsg) -> None:
        """Another owner, or none: what was planned for the last one is void."""
        self._anew = True

    def _on_state(self, state: RobotState) -> None:
        self._states.append(state)
        self._answer()

    def _on_chunk(self, message: ActionChunkMsg) -> None:
        try:
            chunk = action_chunk(message)
        except ValueError as error:
            self._refuse(str(error))
            return
        if self._schedule is None:
            self._take(chunk, self.get_clock().now().nanoseconds)
        else:
            self._schedule.add(chunk)
            self._answer()

    def _report(self) -> dict[str, Health]:
        refused, self._refused = self._refused, ""
        rate, solve, longest = self._chunks.take()
        values = {
            "reference_rate": self._sent.take()[0],
            "chunk_rate": rate,
            "solve_ms": 1e3 * solve,
            "longest_solve_ms": 1e3 * longest,
            "delay_actions": self._delay,
            "refused_chunks": self._refusals,
        }
        message = f"a chunk was refused: {refused}" if refused else ""
        return {"": Health(Level.WARN if refused else Level.OK, message, values)}

    def _answer(self) -> None:
        """Answer every state for which the chunks that are due have come, in order."""
        while self._states:
            state = self._states[0]
            now = state.stamp
            # At the start, and when the robot was out of sight, it may be anywhere: every plan is void.
            begins = self._optimizer.lost(state)
            if self._anew:
                self._optimizer.reset(state)
                self._anew = False
            if begins and self._schedule is not None:
                self._schedule.restart(now)
            chunks = [] if self._schedule is None else self._schedule.take(now)
            if chunks is None:
                return
            self._states.popleft()
            self._optimizer.observe(state)
            for chunk in chunks:
                self._take(chunk, now)
            # One tick ahead: the controller finds the reference waiting when the state comes and answers at once.
            for stamp in (*((now,) if begins else ()), now + TICK):
                self._references.publish(reference_message(self._optimizer.sample(stamp)))
                self._sent.add()

    def _take(self, chunk: ActionChunk, now: int) -> None:
        report = self._optimizer.add_chunk(chunk, now)
        self._chunks.add(report.solve_time)
        if report.accepted:
            self._delay = float(report.delay_actions)
        else:
            self._refusals, self._refused = self._refusals + 1, report.reason
            self._refuse(f"chunk {chunk.sequence} of {chunk.policy}: {report.reason}")
        self._reports.publish(chunk_report_message(report))


def chunk_report_message(report: ChunkReport) -> ChunkReportMsg:
    """A report as bytemini_msgs/ChunkReport: the fields of both have the same names."""
    message = ChunkReportMsg()
    message.header.stamp = to_time(report.stamp)
    for name in message.get_fields_and_field_types():
        if name != "header":
            setattr(message, name, getattr(report, name))
    return message


def main() -> int:
    """Console entry."""
    return run_node(TrajectoryOptimizerNode)


if __name__ == "__main__":
    sys.exit(main())
