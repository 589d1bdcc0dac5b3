"""Episodes over processes: each from its seed alone, so that who runs it and when changes nothing.

A crash of an episode, even of its whole process, costs that episode and is recorded with its trace; the rest goes on.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from bytemini_sim.episode import RolloutOptions
from bytemini_sim.evaluation.records import Record, crash, record_of

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from bytemini_sim.inproc import InprocRunner

HANG_SECONDS = 900.0
"""An episode that takes longer than this (wall clock, s) is given up and its process ended."""

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Job:
    """One episode to run: `options` name suite, setting, policy and robot."""

    options: RolloutOptions
    seed: int


class Episodes:
    """Runs jobs in this process; keeps what is loaded for the next one."""

    def __init__(self) -> None:
        self._runners: dict[RolloutOptions, InprocRunner] = {}

    def run(self, job: Job) -> Record:
        """One episode; whatever goes wrong in it becomes its record."""
        from bytemini_sim.inproc import InprocRunner

        begun = time.perf_counter()
        try:
            if job.options not in self._runners:
                self._runners[job.options] = InprocRunner(job.options)
            return record_of(self._runners[job.options].run(job.seed))
        except Exception as error:
            self._runners.pop(job.options, None)  # its state is not to be trusted
            message = f"{type(error).__name__}: {error}".splitlines()[0]
            seconds = time.perf_counter() - begun
            return crash(job.options.setting, job.seed, "", message, traceback.format_exc(), seconds)


def run_all(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, Record]]:
    """Run jobs, in the order given, on some processes; yields each as it is done.

    Args:
        jobs: what to run.
        processes: how many at a time; 1 runs them here.
    """
    if processes == 1:
        here = Episodes()
        for job in jobs:
            yield job, here.run(job)
        return
    waiting = list(reversed(jobs))
    workers = [_Worker() for _ in range(min(processes, len(jobs)))]
    try:
        for worker in workers:
            if waiting:
                worker.give(waiting.pop())
        while any(worker.job for worker in workers):
            wait([worker.pipe for worker in workers if worker.job], timeout=5.0)
            for worker in workers:
                done = worker.take()
                if done is not None:
                    yield done
                if worker.job is None and waiting:
                    worker.give(waiting.pop())
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that runs one job after the other; a new one takes its place where it dies."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self._begun = 0.0
        self._start()

    def _start(self) -> None:
        before = {name: os.environ.get(name) for name in _ONE_THREAD}
        os.environ.update(_ONE_THREAD)  # inherited: one thread per process, processes share the cores
        try:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self._last_words = tempfile.NamedTemporaryFile(prefix="bytemini-", suffix=".trace")  # noqa: SIM115 - `end`
            last_words = self._last_words.name
            self._process: SpawnProcess = context.Process(target=_serve, args=(theirs, last_words), daemon=True)
            self._process.start()
            theirs.close()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def give(self, job: Job) -> None:
        """Begin a job."""
        self.job, self._begun = job, time.monotonic()
        self.pipe.send(job)

    def take(self) -> tuple[Job, Record] | None:
        """The job under way and its record, if it is over."""
        job = self.job
        if job is None:
            return None
        seconds = time.monotonic() - self._begun
        why, trace = "", ""
        if self.pipe.poll():
            try:
                record: Record = self.pipe.recv()
                self.job = None
                return job, record
            except (EOFError, OSError):
                self._process.join(5.0)
                why = f"the process ended with exit code {self._process.exitcode}"
                trace = Path(self._last_words.name).read_text(encoding="utf-8", errors="replace")
        elif seconds > HANG_SECONDS:
            why = f"no result after {HANG_SECONDS:.0f} s"
        if not why:
            return None
        self.job = None
        self.end()
        self._start()
        return job, crash(job.options.setting, job.seed, "", why, trace, seconds)

    def end(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(5.0)
        self.pipe.close()
        self._last_words.close()


def _serve(pipe: Connection, last_words: str) -> None:
    """A worker's life; where native code ends it, the file `last_words` says where in Python each thread was."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    episodes = Episodes()
    with Path(last_words).open("w", encoding="utf-8") as trace:
        faulthandler.enable(trace)
        while True:
            try:
                job: Job = pipe.recv()
            except EOFError:
                return
            pipe.send(episodes.run(job))
