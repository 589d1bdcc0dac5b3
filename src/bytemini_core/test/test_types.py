import numpy as np
import pytest
from bytemini_core.types import ActionChunk, HandReference, JointCommand, Mode, RobotState, WholeBodyReference


def chunk(**changes):
    fields = {
        "stamp": 0,
        "sequence": 0,
        "names": ("a", "b"),
        "dt": 0.1,
        "values": np.zeros((3, 2)),
        "task_status": np.zeros(3),
        "confidence": np.ones(3),
    }
    return ActionChunk(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"names": ("a", "a")}, "more than once"),
        ({"values": np.zeros((3, 3))}, r"expected \(k, 2\)"),
        ({"values": np.array([[0, 0], [0, np.nan], [0, 0]])}, "not finite at row 1, column b"),
        ({"dt": 0.0}, "positive"),
        ({"dt": np.inf}, "positive"),
        ({"task_status": np.zeros(2)}, "3 rows"),
        ({"task_status": np.array([0, 2, 0])}, "expected -1, 0 or 1"),
    ],
)
def test_a_bad_chunk_is_refused_with_the_reason(changes, reason):
    with pytest.raises(ValueError, match=reason):
        chunk(**changes)


def test_an_empty_chunk_is_a_sign_of_life():
    empty = chunk(values=np.zeros((0, 2)), task_status=np.zeros(0), confidence=np.zeros(0))
    assert empty.horizon == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_get_in_nowhere(bad):
    with pytest.raises(ValueError, match="not finite"):
        RobotState(0, ("a",), np.array([bad]), np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="not finite"):
        WholeBodyReference(0, Mode.POLICY, ("a",), np.zeros(1), np.array([bad]), np.zeros(1))
    with pytest.raises(ValueError, match="not finite"):
        JointCommand(0, ("a",), *[np.zeros(1)] * 4, effort=np.array([bad]))
    with pytest.raises(ValueError, match="not finite"):
        HandReference("left_tcp", np.array([bad, 0, 0, 0, 0, 0, 1]))


def test_a_hand_needs_a_unit_quaternion():
    with pytest.raises(ValueError, match="norm 2"):
        HandReference("left_tcp", np.array([0, 0, 0, 0, 0, 0, 2.0]))
