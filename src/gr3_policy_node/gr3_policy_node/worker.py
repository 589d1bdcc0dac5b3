"""Inference beside the node: one thread owns the policy and the task, so that no callback waits for either."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from bytemini_core.types import ActionChunk, Array, Observation, Policy, TaskStatus
from numpy.typing import NDArray

from gr3_policy_node.pace import Pace, rows_to_execute
from gr3_policy_node.session import TaskSession, Verdict


@dataclass(frozen=True, eq=False)
class Task:
    """What the operator asked for; two that read alike are still two tasks."""

    instruction: str
    time_limit: float
    agreement: int


@dataclass(frozen=True)
class Step:
    """What one observation led to. `verdict` is set by the step that ends the task; `task` None while idle.

    `base`: (x, y, yaw) in odom at the observation.
    """

    chunk: ActionChunk
    base: Array
    task: Task | None
    verdict: Verdict | None
    elapsed: float
    chunks: int
    mean_inference_time: float
    phase: str


class PolicyWorker:
    """Takes observations, gives steps, in the order of the observations.

    Thread contract: the public methods may be called from any thread and never wait for an inference; `on_step` is
    called from the worker's own thread, which alone touches the policy. A task begins and ends between two
    observations, never within one. `answer_all` (lock step) answers every observation: with an empty chunk while idle,
    and with what is left of the last chunk where the policy need not be asked (`gr3_policy_node.pace`). Otherwise the
    newest observation replaces those that still wait, and those two kinds are left unanswered.
    """

    def __init__(
        self,
        policy: Policy,
        clock: Callable[[], float],
        on_step: Callable[[Step], None],
        answer_all: bool,
        committed: Callable[[Observation], NDArray[np.float32] | None] = lambda _: None,
    ) -> None:
        """Start the thread.

        Args:
            policy: what infers.
            clock: seconds, for the inference time.
            on_step: takes the steps.
            answer_all: see above.
            committed: actions that will be executed before the chunk of an observation arrives, None for none; called
                from the worker's thread when the inference begins.

        Raises:
            ValueError: the policy's metadata make no sense.
        """
        rows_to_execute(policy.metadata)
        self._policy = policy
        self._clock = clock
        self._on_step = on_step
        self._answer_all = answer_all
        self._committed = committed
        self._queue: queue.SimpleQueue[Observation | Task | None] = queue.SimpleQueue()
        self._task: Task | None = None
        self._doing: tuple[TaskSession, Pace] | None = None
        self._ended: Task | None = None
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def start(self, task: Task) -> None:
        """Begin `task` with the next observation; one under way is dropped."""
        self._queue.put(task)

    def end(self, task: Task) -> None:
        """Drop `task` before its next observation, if it is the latest."""
        self._ended = task

    def submit(self, observation: Observation) -> None:
        """Hand over an observation; its instruction is filled in here."""
        self._queue.put(observation)

    def stop(self) -> None:
        """End the thread once the inference under way is done."""
        self._queue.put(None)
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, Task):
                self._policy.reset()
                self._task, self._doing = item, None
            elif self._answer_all or self._queue.empty():
                step = self._step(item)
                if step is not None:
                    self._on_step(step)

    def _step(self, observation: Observation) -> Step | None:
        if self._task is self._ended:
            self._task = None
        task = self._task
        if task is None:
            if not self._answer_all:
                return None
            idle = empty_chunk(observation, self._policy)
            return Step(idle, observation.state.base_pose, None, None, 0.0, 0, 0.0, "")
        if self._doing is None:
            session = TaskSession(task.instruction, observation.stamp, task.time_limit, task.agreement)
            self._doing = session, Pace(self._policy, session, self._clock)
        session, pace = self._doing
        observation = replace(observation, instruction=task.instruction)
        verdict: Verdict | None = None
        try:
            if pace.due(observation.stamp):
                chunk, verdict = pace.ask(observation, self._committed(observation))
            elif self._answer_all:
                chunk = pace.go_on(observation)
            else:
                return None
        except Exception as error:
            # Whatever broke in a policy, this thread lives on: the task ends, the robot settles, the reason is told.
            traceback.print_exc()
            reason = f"the policy failed: {type(error).__name__}: {error}"
            chunk, verdict = empty_chunk(observation, self._policy), Verdict("FAULTED", reason)
        if verdict is not None:
            self._task = None
        return Step(
            chunk=chunk,
            base=observation.state.base_pose,
            task=task,
            verdict=verdict,
            elapsed=session.elapsed(observation.stamp),
            chunks=session.chunks,
            mean_inference_time=session.inference_time / max(session.chunks, 1),
            phase=getattr(self._policy, "phase", ""),
        )


def empty_chunk(observation: Observation, policy: Policy) -> ActionChunk:
    """A policy's word that it is alive and wants no motion."""
    columns = policy.metadata.columns
    return ActionChunk(
        stamp=observation.stamp,
        sequence=0,
        names=columns,
        dt=policy.metadata.dt,
        values=np.zeros((0, len(columns)), dtype=np.float32),
        task_status=np.zeros(0, dtype=np.int8),
        confidence=np.zeros(0, dtype=np.float32),
        policy=policy.metadata.name,
    )


def row_status(chunk: ActionChunk) -> tuple[TaskStatus, float]:
    """Task status and confidence of the chunk's first row, which is the row of now; ONGOING, 0 when it has none."""
    if not chunk.horizon:
        return TaskStatus.ONGOING, 0.0
    return TaskStatus(int(chunk.task_status[0])), float(chunk.confidence[0])
