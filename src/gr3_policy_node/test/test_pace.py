"""A policy is asked as often as it wants to be; in between the motion is the one it asked for."""

import itertools

import numpy as np
import pytest
from bytemini_core.types import NANOSECONDS, ActionChunk, Observation, PolicyMetadata, RobotState, TaskStatus
from gr3_policy_node.pace import Pace, rows_to_execute
from gr3_policy_node.session import TaskSession

COLUMNS = ("left_elbow_joint", "base/x", "base/y", "base/yaw")
HORIZON = 6


class Driving:
    """Plans straight on, and counts how often it is asked."""

    def __init__(self, execute, status=TaskStatus.ONGOING):
        self.metadata = PolicyMetadata("driving", COLUMNS, HORIZON, 0.1, extra={"execute": execute})
        self.status, self.asked = status, []

    def reset(self):
        pass

    def infer(self, observation, prefix=None, noise=None):
        self.asked.append(observation.stamp)
        steps = np.arange(1, HORIZON + 1)[:, None]
        values = steps * np.array([0.01, 0.05, 0.0, 0.1])
        status = np.full(HORIZON, int(self.status), dtype=np.int8)
        return ActionChunk(observation.stamp, 0, COLUMNS, 0.1, values.astype(np.float32), status, np.ones(HORIZON))


def observe(tick, base=(0.0, 0.0, 0.0)):
    stamp = round(0.1 * tick * NANOSECONDS)
    zero = np.zeros(1)
    return Observation(stamp, "drive", RobotState(stamp, ("left_elbow_joint",), zero, zero, zero, np.array(base)))


def paced(policy):
    return Pace(policy, TaskSession("drive", 0, 60.0), itertools.count().__next__)


def run(pace, ticks):
    return [pace.ask(observe(i))[0] if pace.due(observe(i).stamp) else pace.go_on(observe(i)) for i in range(ticks)]


@pytest.mark.parametrize(("execute", "asked"), [(1, [0, 1, 2, 3, 4, 5, 6, 7, 8]), (4, [0, 4, 8]), (6, [0, 6])])
def test_it_is_asked_when_so_many_rows_were_executed(execute, asked):
    policy = Driving(execute)
    chunks = run(paced(policy), 9)
    assert policy.asked == [round(0.1 * i * NANOSECONDS) for i in asked]
    assert [chunk.sequence for chunk in chunks] == list(range(9))
    assert [chunk.stamp for chunk in chunks] == [observe(i).stamp for i in range(9)]


def test_cameras_that_keep_their_own_time_do_not_cost_a_picture():
    pace = paced(Driving(4))
    pace.ask(observe(0))
    assert not pace.due(round(0.33 * NANOSECONDS))
    assert pace.due(round(0.37 * NANOSECONDS))


def test_in_between_the_robot_is_to_be_where_the_chunk_said():
    """Whatever the base has done meanwhile: rows of one instant mean one place in odom."""
    pace = paced(Driving(4))
    chunk, _ = pace.ask(observe(0, (2.0, 1.0, 0.5)))
    base = (2.04, 1.07, 0.8)
    rest = pace.go_on(observe(2, base))
    assert rest.horizon == HORIZON - 2
    np.testing.assert_allclose(rest.values[:, 0], chunk.values[2:, 0])

    def in_odom(rows, x, y, yaw):
        c, s = np.cos(yaw), np.sin(yaw)
        return np.column_stack([(x, y) + rows[:, 1:3] @ np.array([[c, s], [-s, c]]), rows[:, 3] + yaw])

    np.testing.assert_allclose(in_odom(rest.values, *base), in_odom(chunk.values[2:], 2.0, 1.0, 0.5), atol=1e-6)


def test_what_is_gone_on_with_is_no_new_word():
    """An end needs three inferences that agree, not one whose rows do."""
    policy = Driving(4, TaskStatus.TERMINATED)
    pace, verdicts = paced(policy), []
    for i in range(9):
        if pace.due(observe(i).stamp):
            verdicts.append(pace.ask(observe(i))[1])
        else:
            pace.go_on(observe(i))
    assert [verdict and verdict.status for verdict in verdicts] == [None, None, "TERMINATED"]


def test_a_chunk_that_is_over_keeps_its_last_row():
    pace = paced(Driving(4))
    chunk, _ = pace.ask(observe(0))
    rest = pace.go_on(observe(20))
    np.testing.assert_allclose(rest.values, chunk.values[-1:])


@pytest.mark.parametrize("execute", [0, 7, -1, 1.5, "4", True])
def test_a_number_of_rows_that_makes_no_sense_is_refused(execute):
    with pytest.raises(ValueError, match="expected 1 to its horizon, 6"):
        rows_to_execute(Driving(execute).metadata)
