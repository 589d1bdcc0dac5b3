"""How often a policy is asked while it does a task, and what the robot does in between.

A policy without memory that waits for a moment (fingers close, a thing is let go) and is asked at every picture begins
its wait anew each time, and never goes on. So it may say how many rows of a chunk are to be executed before it is asked
again (GR-3 and its peers execute a part of each chunk); until then the robot carries on with the chunk it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from bytemini_core.types import NANOSECONDS, ActionChunk, Array, Observation, Policy, PolicyMetadata
from numpy.typing import NDArray

from gr3_policy_node.delay import reanchor
from gr3_policy_node.session import TaskSession, Verdict


def rows_to_execute(metadata: PolicyMetadata) -> int:
    """Rows of a chunk before the next inference: `PolicyMetadata.extra["execute"]`, 1 where a policy says nothing.

    Raises:
        ValueError: that is no number of rows that its chunks have.
    """
    rows = metadata.extra.get("execute", 1)
    if isinstance(rows, bool) or not isinstance(rows, int) or not 1 <= rows <= metadata.horizon:
        raise ValueError(f"{metadata.name} wants {rows!r} rows executed, expected 1 to its horizon, {metadata.horizon}")
    return rows


class Pace:
    """One task of a policy: asks it when it is due, goes on with its last chunk in between, numbers what is sent."""

    def __init__(self, policy: Policy, session: TaskSession, clock: Callable[[], float]) -> None:
        """Begin.

        Args:
            policy: that does the task.
            session: which judges its word.
            clock: seconds, for the inference time.

        Raises:
            ValueError: see `rows_to_execute`.
        """
        self._policy, self._session, self._clock = policy, session, clock
        rows = rows_to_execute(policy.metadata)
        # Half a row less, because cameras keep their own time. One row: at every picture, however often they come.
        self._wait = round((rows - 0.5) * policy.metadata.dt * NANOSECONDS) if rows > 1 else 0
        self._sent = 0
        self._last: tuple[ActionChunk, Array] | None = None

    def due(self, stamp: int) -> bool:
        """Whether the policy is to be asked about an observation of this stamp (nanoseconds)."""
        return self._last is None or stamp - self._last[0].stamp >= self._wait

    def ask(
        self, observation: Observation, prefix: NDArray[np.float32] | None = None
    ) -> tuple[ActionChunk, Verdict | None]:
        """What the policy says, numbered within the task and timed; and the verdict, if the task ends with it."""
        begun = self._clock()
        inferred = self._policy.infer(observation, prefix)
        chunk = ActionChunk(
            stamp=observation.stamp,
            sequence=self._sent,
            names=inferred.names,
            dt=inferred.dt,
            values=inferred.values,
            task_status=inferred.task_status,
            confidence=inferred.confidence,
            instruction=self._session.instruction,
            policy=self._policy.metadata.name,
            inference_time=self._clock() - begun,
        )
        self._sent += 1
        self._last = chunk, observation.state.base_pose
        return chunk, self._session.judge(chunk)

    def go_on(self, observation: Observation) -> ActionChunk:
        """What is left of the last chunk, as one of this observation: the same motion, no new word of the policy."""
        if self._last is None:
            raise RuntimeError("the policy was not asked yet: nothing to go on with")
        chunk, base = self._last
        # The last row stays: a chunk without rows would be the wish to stop.
        past = min(round((observation.stamp - chunk.stamp) / (chunk.dt * NANOSECONDS)), chunk.horizon - 1)
        past = max(past, 0)
        rows = reanchor(chunk.values[past:].astype(np.float64), chunk.names, base, observation.state.base_pose)
        self._sent += 1
        return replace(
            chunk,
            stamp=observation.stamp,
            sequence=self._sent - 1,
            values=rows.astype(np.float32),
            task_status=chunk.task_status[past:],
            confidence=chunk.confidence[past:],
        )
