from __future__ import annotations

import numpy as np
import pytest
from trajectory_optimizer.optimizer import TrajectoryOptimizer

MS = 1_000_000
TICK = 5 * MS


@pytest.fixture
def optimizer(robot, state):
    made = TrajectoryOptimizer(robot)
    made.reset(state())
    return made


def run(optimizer, state, start, ticks):
    """Let `ticks` pass from `start` ns; the robot follows its base reference exactly. Returns the references."""
    references = []
    for n in range(1, ticks + 1):
        now = start + n * TICK
        reference = optimizer.sample(now)
        references.append(reference)
        optimizer.observe(state(now, tuple(reference.base.pose)))
    return references


def ramp(home, rows, rate=0.3, dt=0.1, columns=range(14)):
    """A chunk that moves the given columns at `rate` per second."""
    values = np.repeat(home[None, :], rows, axis=0)
    for column in columns:
        values[:, column] += rate * dt * (np.arange(rows) + 1)
    return values


def test_before_reset_every_call_says_what_to_do(robot):
    with pytest.raises(RuntimeError, match="reset"):
        TrajectoryOptimizer(robot).settled(0)


def test_holds_where_it_was_reset(optimizer, robot, home):
    reference = optimizer.sample(TICK)
    held = dict(zip(reference.names, reference.position, strict=True))
    for name, value in zip(robot.policy_columns[:16], home[:16], strict=True):
        assert held[name] == pytest.approx(value, abs=2e-6)
    assert reference.velocity == pytest.approx(0.0, abs=1e-12)
    assert optimizer.settled(TICK)


def test_follows_a_chunk_and_rests_at_its_end(optimizer, state, make_chunk, home):
    report = optimizer.add_chunk(make_chunk(ramp(home, 10)), 0)
    assert report.accepted, report.reason
    references = run(optimizer, state, 0, 600)
    end = dict(zip(references[-1].names, references[-1].position, strict=True))
    goal = dict(zip(optimizer.robot.policy_columns, ramp(home, 10)[-1], strict=True))
    for name, value in end.items():
        assert value == pytest.approx(goal[name], abs=2e-3), name
    assert optimizer.settled(600 * TICK)


def test_the_base_moves_from_its_pose_at_the_stamp(robot, state, make_chunk, home):
    optimizer = TrajectoryOptimizer(robot)
    optimizer.reset(state(0, (1.0, 2.0, np.pi / 2)))
    rows = np.repeat(home[None, :], 16, axis=0)
    rows[:, 16] = 0.02 * (np.arange(16) + 1)  # 0.2 m/s forward, which is +y of odom here
    assert optimizer.add_chunk(make_chunk(rows), 0).accepted
    references = run(optimizer, state, 0, 800)
    assert references[-1].base.pose == pytest.approx([1.0, 2.32, np.pi / 2], abs=2e-3)
    fastest = max(references, key=lambda r: np.abs(r.base.twist).max())
    assert np.argmax(np.abs(fastest.base.twist)) == 0, "forward in the base's own frame"


def test_an_empty_chunk_settles(optimizer, state, make_chunk, home):
    optimizer.add_chunk(make_chunk(ramp(home, 16)), 0)
    run(optimizer, state, 0, 60)
    assert optimizer.add_chunk(make_chunk(np.zeros((0, 19)), 290 * MS, 1), 300 * MS).accepted
    assert not optimizer.settled(300 * MS)
    run(optimizer, state, 300 * MS, 160)
    assert optimizer.settled(1100 * MS)


def test_brake_stops_within_limits_and_refuses_what_was_seen_before(optimizer, state, make_chunk, home, robot):
    optimizer.add_chunk(make_chunk(ramp(home, 16, rate=0.8)), 0)
    run(optimizer, state, 0, 100)
    optimizer.brake(500 * MS, "task switch")
    refused = optimizer.add_chunk(make_chunk(ramp(home, 16), 450 * MS, 1), 520 * MS)
    assert not refused.accepted
    assert "task switch" in refused.reason
    references = run(optimizer, state, 500 * MS, 160)
    assert optimizer.settled(1300 * MS)
    limit = robot.acceleration[list(robot.indices(references[0].names))]
    assert all((np.abs(r.acceleration) <= limit).all() for r in references)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"stamp": 10_000 * MS}, "future"),
        ({"names": tuple("abcdefghijklmnopqrs")}, "unknown columns"),
        ({"rows": 9.0}, "out of limits"),
        ({"rows": 1.6}, "too far"),
    ],
)
def test_refusals_say_why(optimizer, make_chunk, home, change, why):
    rows = np.repeat(home[None, :], 4, axis=0)
    change = dict(change)
    rows[:, 0] = change.pop("rows", rows[0, 0])
    report = optimizer.add_chunk(make_chunk(rows, **change), 100 * MS)
    assert not report.accepted
    assert why in report.reason
    assert optimizer.settled(200 * MS)


def test_stale_duplicate_and_reordered_chunks_are_refused(optimizer, state, make_chunk, home):
    rows = np.repeat(home[None, :], 4, axis=0)
    assert optimizer.add_chunk(make_chunk(rows, 0, 5), 0).accepted
    run(optimizer, state, 0, 400)
    assert "stale" in optimizer.add_chunk(make_chunk(rows, 100 * MS, 6), 2000 * MS).reason
    assert "duplicate" in optimizer.add_chunk(make_chunk(rows, 1900 * MS, 5), 2000 * MS).reason
    assert optimizer.add_chunk(make_chunk(rows, 1950 * MS, 7), 2000 * MS).accepted
    assert "not newer" in optimizer.add_chunk(make_chunk(rows, 1900 * MS, 8), 2000 * MS).reason


def test_rows_after_the_task_is_said_to_be_over_are_not_executed(optimizer, state, make_chunk, home):
    rows = ramp(home, 16)
    status = np.where(np.arange(16) < 5, 0, 1)
    optimizer.add_chunk(make_chunk(rows, status=status), 0)
    end = run(optimizer, state, 0, 500)[-1]
    assert end.position[end.names.index("left_elbow_joint")] == pytest.approx(rows[5, 3], abs=2e-3)


def test_invalid_moves_nothing(optimizer, make_chunk, home):
    optimizer.add_chunk(make_chunk(ramp(home, 16), status=-np.ones(16)), 0)
    assert optimizer.settled(TICK)


def test_resumes_after_starvation_without_a_jump(optimizer, state, make_chunk, home):
    optimizer.add_chunk(make_chunk(ramp(home, 5)), 0)
    references = run(optimizer, state, 0, 300)
    at = dict(zip(references[-1].names, references[-1].position, strict=True))
    here = np.array([at.get(name, 0.0) for name in optimizer.robot.policy_columns])
    report = optimizer.add_chunk(make_chunk(ramp(here, 16), 1300 * MS, 1), 1500 * MS)
    assert report.accepted
    assert report.delay_actions == pytest.approx(0.0, abs=1e-6), (
        "at rest nothing has been consumed, however late the chunk"
    )
    references += run(optimizer, state, 1500 * MS, 100)
    steps = np.diff([r.position for r in references], axis=0)
    assert np.abs(steps).max() < 0.01


def test_same_chunks_same_motion(robot, state, make_chunk, home):
    runs = []
    for _ in range(2):
        optimizer = TrajectoryOptimizer(robot)
        optimizer.reset(state())
        optimizer.add_chunk(make_chunk(ramp(home, 16)), 0)
        runs.append(np.array([r.position for r in run(optimizer, state, 0, 200)]))
    assert (runs[0] == runs[1]).all()


LEFT = (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("later", "base"), [(0.6, LEFT), (-5.0, LEFT), (0.005, (1.0, 0.0, 0.0)), (0.005, (0.0, 0.0, 0.5))]
)
def test_a_robot_that_was_out_of_sight_is_held_where_it_is_found(robot, state, make_chunk, home, later, base):
    """Silence, a clock that was set back, a leap of odometry: what was planned for the old place is void."""
    optimizer = TrajectoryOptimizer(robot)
    start = 10_000_000_000
    optimizer.reset(state(start))
    assert optimizer.add_chunk(make_chunk(ramp(home, 16), start, 0), start).accepted
    optimizer.observe(state(start + 5_000_000))
    found = start + 5_000_000 + round(later * 1e9)
    assert optimizer.lost(state(found, base))
    optimizer.observe(state(found, base))
    held = optimizer.sample(found)
    np.testing.assert_allclose(held.base.pose, base)
    np.testing.assert_allclose(held.velocity, 0.0, atol=1e-12)
    assert not optimizer.lost(state(found + 5_000_000, base))
