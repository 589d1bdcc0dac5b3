"""The inference thread: order, agreement with the task under way, and what happens when the policy breaks."""

import queue
import time

import numpy as np
import pytest
from bytemini_core.types import ActionChunk, Observation, PolicyMetadata, RobotState, TaskStatus
from gr3_policy_node.worker import PolicyWorker, Task


class Scripted:
    """A policy that says what it is told to, and notes what it saw."""

    def __init__(self, status=TaskStatus.ONGOING, error=None):
        self.metadata = PolicyMetadata("scripted", ("a",), 2, 0.1)
        self.status, self.error = status, error
        self.seen, self.resets = [], 0

    def reset(self):
        self.resets += 1

    def infer(self, observation, prefix=None, noise=None):
        if self.error:
            raise self.error
        self.seen.append((observation.stamp, observation.instruction))
        status = np.full(2, int(self.status), dtype=np.int8)
        return ActionChunk(observation.stamp, 0, ("a",), 0.1, np.zeros((2, 1)), status, np.ones(2))


def observation(stamp):
    return Observation(stamp, "", RobotState(stamp, ("a",), *[np.zeros(1)] * 3))


@pytest.fixture
def make():
    workers = []

    def build(policy, answer_all=True):
        steps = queue.Queue()
        worker = PolicyWorker(policy, time.perf_counter, steps.put, answer_all)
        workers.append(worker)
        return worker, steps

    yield build
    for worker in workers:
        worker.stop()


def test_idle_observations_get_empty_chunks_and_tasks_get_numbered_ones(make):
    policy = Scripted()
    worker, steps = make(policy)
    worker.submit(observation(1))
    worker.start(Task("do it", 10.0, 3))
    for stamp in (2, 3):
        worker.submit(observation(stamp))
    idle, first, second = (steps.get(timeout=5) for _ in range(3))
    assert (idle.task, idle.chunk.horizon, idle.chunk.stamp) == (None, 0, 1)
    assert (first.chunk.sequence, second.chunk.sequence) == (0, 1)
    assert first.chunk.instruction == "do it"
    assert policy.seen == [(2, "do it"), (3, "do it")]
    assert policy.resets == 1


@pytest.mark.parametrize(("answer_all", "horizons"), [(True, [2, 1, 2]), (False, [2, 2])])
def test_a_policy_that_executes_two_rows_is_asked_at_every_second_observation(make, answer_all, horizons):
    """In lock step every observation is answered all the same."""
    policy = Scripted()
    policy.metadata = PolicyMetadata("scripted", ("a",), 2, 0.1, extra={"execute": 2})
    worker, steps = make(policy, answer_all)
    worker.start(Task("do it", 10.0, 3))
    stamps = [100_000_000 * i for i in range(3)]
    out = []
    for stamp in stamps:
        worker.submit(observation(stamp))
        if answer_all or stamp != stamps[1]:
            out.append(steps.get(timeout=5).chunk)
        else:
            with pytest.raises(queue.Empty):
                steps.get(timeout=0.3)
    assert [chunk.horizon for chunk in out] == horizons
    assert [chunk.sequence for chunk in out] == list(range(len(out)))
    assert [stamp for stamp, _ in policy.seen] == [stamps[0], stamps[2]]


def test_a_task_ends_by_agreement_and_the_policy_rests(make):
    policy = Scripted(TaskStatus.TERMINATED)
    worker, steps = make(policy)
    worker.start(Task("do it", 10.0, 2))
    for stamp in range(4):
        worker.submit(observation(stamp))
    out = [steps.get(timeout=5) for _ in range(4)]
    assert [step.verdict and step.verdict.status for step in out] == [None, "TERMINATED", None, None]
    assert [step.chunk.horizon for step in out] == [2, 2, 0, 0]


def test_a_policy_that_breaks_ends_its_task_with_the_reason(make):
    worker, steps = make(Scripted(error=ValueError("no head image")))
    worker.start(Task("do it", 10.0, 3))
    worker.submit(observation(1))
    step = steps.get(timeout=5)
    assert step.verdict.status == "FAULTED"
    assert "no head image" in step.verdict.message
    assert step.chunk.horizon == 0


def test_an_ended_task_is_dropped_before_its_next_observation(make):
    policy = Scripted()
    worker, steps = make(policy)
    task = Task("do it", 10.0, 3)
    worker.start(task)
    worker.end(task)
    worker.submit(observation(1))
    assert steps.get(timeout=5).task is None
    assert policy.seen == []


def test_in_real_time_the_newest_observation_wins_and_idle_ones_are_left(make):
    class Slow(Scripted):
        def infer(self, observation, prefix=None, noise=None):
            time.sleep(0.1)
            return super().infer(observation)

    policy = Slow()
    worker, steps = make(policy, answer_all=False)
    worker.submit(observation(0))
    worker.start(Task("do it", 10.0, 3))
    worker.submit(observation(1))
    time.sleep(0.05)
    for stamp in range(2, 9):
        worker.submit(observation(stamp))
    assert [steps.get(timeout=5).chunk.stamp for _ in range(2)] == [1, 8]
    assert steps.empty()
