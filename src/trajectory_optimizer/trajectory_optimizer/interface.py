"""What a rollout asks of whatever makes references of chunks: this package's optimiser, or a peer beside it."""

from __future__ import annotations

from typing import Protocol

from bytemini_core.types import ActionChunk, RobotState, WholeBodyReference

from trajectory_optimizer.report import ChunkReport


class ChunkOptimizer(Protocol):
    """What a rollout asks of whatever makes chunks into references; see `TrajectoryOptimizer`."""

    def reset(self, state: RobotState) -> None:
        """Hold where `state` is."""

    def observe(self, state: RobotState) -> None:
        """Record odometry, at every control tick."""

    def add_chunk(self, chunk: ActionChunk, now: int) -> ChunkReport:
        """Take in a chunk at `now` ns."""

    def sample(self, now: int) -> WholeBodyReference:
        """The reference for `now` ns, called in order of time."""
