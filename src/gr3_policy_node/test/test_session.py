import numpy as np
import pytest
from bytemini_core.types import NANOSECONDS, ActionChunk, TaskStatus
from gr3_policy_node.session import FIRST_LOOK, SECOND_THOUGHT, TaskSession

ONGOING, TERMINATED, INVALID = TaskStatus.ONGOING, TaskStatus.TERMINATED, TaskStatus.INVALID


def chunk(seconds, status, confidence=1.0):
    return ActionChunk(
        stamp=round(seconds * NANOSECONDS),
        sequence=0,
        names=("a",),
        dt=0.1,
        values=np.zeros((2, 1)),
        task_status=np.full(2, int(status), dtype=np.int8),
        confidence=np.full(2, confidence),
        policy="test",
        inference_time=0.01,
    )


def judge(words, **options):
    session = TaskSession("do it", 0, **{"time_limit": 10.0, **options})
    return [getattr(session.judge(chunk(0.1 * i, *word)), "status", None) for i, word in enumerate(words)]


def test_one_wrong_word_ends_nothing():
    assert judge([(ONGOING,), (TERMINATED,), (ONGOING,), (INVALID,), (TERMINATED,), (TERMINATED,)]) == [None] * 6


@pytest.mark.parametrize("word", [TERMINATED, INVALID])
def test_agreement_ends_the_task(word):
    assert judge([(ONGOING,), (word,), (word,), (word,)]) == [None, None, None, word.name]


def test_a_refusal_in_the_middle_of_the_work_has_to_last():
    working, patient = [(ONGOING,)] * round(10 * FIRST_LOOK), {"time_limit": 60.0}
    almost = [(INVALID,)] * round(10 * SECOND_THOUGHT)
    assert not any(judge([*working, *almost, (ONGOING,), *almost], **patient))
    assert judge([*working, *almost, (INVALID,)], **patient)[-2:] == [None, "INVALID"]
    assert judge([*working, *[(TERMINATED,)] * 3], **patient)[-1] == "TERMINATED"


def test_words_without_confidence_do_not_count():
    assert judge([(TERMINATED, 0.4)] * 5) == [None] * 5


def test_time_is_up_at_the_limit():
    assert judge([(ONGOING,)] * 4, time_limit=0.2) == [None, None, "TIMED_OUT", "TIMED_OUT"]


@pytest.mark.parametrize(
    ("instruction", "limit", "agreement"),
    [("", 1.0, 1), ("  ", 1.0, 1), ("do", 0.0, 1), ("do", float("nan"), 1), ("do", 1.0, 0)],
)
def test_nonsense_is_refused(instruction, limit, agreement):
    with pytest.raises(ValueError, match=r"expected|empty"):
        TaskSession(instruction, 0, limit, agreement)
