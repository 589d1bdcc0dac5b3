"""One thread that owns a policy and answers requests, together where the policy can.

A policy may offer `infer_batch(observations, prefixes, noises) -> chunks`: then requests that wait at the same time are
answered by one call (openpi issues #399 and #765 ask for it). Such a policy keeps nothing between two calls, so that
any number of clients may share it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from bytemini_core.types import ActionChunk, Observation, Policy
from numpy.typing import NDArray

from gr3_policy_node.protocol import Request

GATHER_SECONDS = 0.002
"""How long the first of a batch waits for clients that are connected but have not asked yet."""


@runtime_checkable
class BatchPolicy(Protocol):
    """A policy that answers several observations with one call, and keeps nothing between calls."""

    def infer_batch(
        self,
        observations: Sequence[Observation],
        prefixes: Sequence[NDArray[np.float32] | None],
        noises: Sequence[NDArray[np.float32] | None],
    ) -> Sequence[ActionChunk]:
        """One chunk per observation, in order; all three sequences have one length."""


class DeadlineError(TimeoutError):
    """An answer came, or would have come, too late."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A chunk with what it cost: seconds waited and inferred, requests answered by the same call."""

    chunk: ActionChunk
    waited: float
    inferred: float
    batch: int
    phase: str


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    request: Request
    future: Future[Answer]
    asked: float
    due: float


class InferenceQueue:
    """Answers requests in the order in which they came.

    Thread contract: `submit` may be called from any thread and never waits; the policy is touched by the queue's own
    thread alone. A request whose deadline has passed before its turn is refused without an inference.
    """

    def __init__(
        self,
        policy: Policy,
        most: int = 8,
        clients: Callable[[], int] = lambda: 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the thread.

        Args:
            policy: what answers.
            most: requests that one call may answer, >= 1.
            clients: how many may be asking: with fewer requests than that, the first waits `GATHER_SECONDS` for more.
            clock: seconds.
        """
        self._policy = policy
        self._batching = policy if isinstance(policy, BatchPolicy) and most > 1 else None
        self._most = most if self._batching is not None else 1
        self._clients = clients
        self._clock = clock
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def submit(self, request: Request, deadline: float | None = None) -> Future[Answer]:
        """Ask; the future holds the answer, DeadlineError, ValueError (the request's fault) or what the policy raised.

        Args:
            request: what to answer.
            deadline: seconds from now in which the answer is of use; None for whenever.
        """
        now = self._clock()
        job = _Job(request, Future(), now, now + deadline if deadline is not None else float("inf"))
        self._jobs.put(job)
        return job.future

    def stop(self) -> None:
        """End the thread once the inference under way is done; what still waits is cancelled."""
        self._jobs.put(None)
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, ended = self._gather(job)
            self._serve(batch)
            if ended:
                break
        while True:
            try:
                rest = self._jobs.get_nowait()
            except queue.Empty:
                return
            if rest is not None:
                rest.future.cancel()

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        """The first job and those to answer with it; whether the end was asked for."""
        batch, until = [first], self._clock() + GATHER_SECONDS
        wanted = min(self._most, max(self._clients(), 1))
        while len(batch) < self._most:
            left = until - self._clock() if len(batch) < wanted else 0.0
            try:
                job = self._jobs.get(timeout=left) if left > 0.0 else self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _serve(self, batch: list[_Job]) -> None:
        jobs = []
        for job in batch:
            now = self._clock()
            if now > job.due:
                waited = f"{1000 * (now - job.asked):.0f} ms"
                job.future.set_exception(DeadlineError(f"the deadline passed after {waited} of waiting for its turn"))
            elif job.future.set_running_or_notify_cancel():
                jobs.append(job)
        if len(jobs) > 1 and self._batching is not None:
            try:
                self._answer(jobs, self._infer_together)
            except Exception:  # one of them is bad, perhaps: ask each alone, so that only that one hears of it
                pass
            else:
                return
        for job in jobs:
            try:
                self._answer([job], self._infer_alone)
            except Exception as error:  # whatever broke in the policy is the client's to hear, and the thread lives on
                job.future.set_exception(error)

    def _answer(self, jobs: list[_Job], infer: Callable[[list[_Job]], Sequence[ActionChunk]]) -> None:
        begun = self._clock()
        chunks = infer(jobs)
        inferred = self._clock() - begun
        phase = str(getattr(self._policy, "phase", ""))
        for job, chunk in zip(jobs, chunks, strict=True):
            job.future.set_result(Answer(chunk, begun - job.asked, inferred, len(jobs), phase))

    def _infer_together(self, jobs: list[_Job]) -> Sequence[ActionChunk]:
        assert self._batching is not None
        requests = [job.request for job in jobs]
        chunks = self._batching.infer_batch(
            [request.observation for request in requests],
            [request.prefix for request in requests],
            [request.noise for request in requests],
        )
        if len(chunks) != len(jobs):
            raise ValueError(f"the policy answered {len(jobs)} observations with {len(chunks)} chunks")
        return chunks

    def _infer_alone(self, jobs: list[_Job]) -> Sequence[ActionChunk]:
        request = jobs[0].request
        if request.reset:
            self._policy.reset()
        return [self._policy.infer(request.observation, request.prefix, request.noise)]
