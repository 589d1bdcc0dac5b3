"""Limits hold for every sequence of chunks, however adversarial.

The suite runs a few hundred sequences; `python test/test_limits_property.py 100000` runs the whole campaign.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
from bytemini_core.types import ActionChunk, RobotState
from bytemini_description.robot import RobotModel, load_robot
from trajectory_optimizer.optimizer import TrajectoryConfig, TrajectoryOptimizer

TICK = 5_000_000
SLACK = 1e-9
CHUNKS = 12
KINDS = ("uniform", "zig-zag", "constant", "walk", "ramp", "teleport", "sine", "hold", "one row", "500 rows")


def _rows(rng: np.random.Generator, kind: str, here: np.ndarray, lower: np.ndarray, upper: np.ndarray, dt: float):
    n = len(here)
    k = {"one row": 1, "500 rows": 500}.get(kind) or int(rng.choice([2, 5, 16, 50]))
    i = np.arange(k)[:, None]
    rows = {
        "uniform": lambda: rng.uniform(lower, upper, (k, n)),
        "zig-zag": lambda: np.where(i % 2, lower, upper) * rng.uniform(0.0, 1.0),
        "constant": lambda: np.repeat(rng.uniform(lower, upper, (1, n)), k, axis=0),
        "walk": lambda: here + np.cumsum(rng.normal(0.0, 0.03, (k, n)), axis=0),
        "ramp": lambda: here + rng.normal(0.0, 0.05, n) + (i + 1) * rng.normal(0.0, 0.05, n),
        "teleport": lambda: np.where(i < k // 2, here, rng.uniform(lower, upper, n)),
        "sine": lambda: here + 0.4 * np.sin((i + 1) * dt * rng.uniform(1.0, 15.0, n)),
        "hold": lambda: here + np.zeros((k, n)),
        "one row": lambda: here + rng.normal(0.0, 0.2, (1, n)),
        "500 rows": lambda: here + 0.5 * np.sin((i + 1) * dt * rng.uniform(0.5, 5.0, n)),
    }[kind]()
    if kind in ("uniform", "zig-zag", "constant") and rng.random() < 0.8:
        rows[0] = here  # else most would be refused at the door
    return np.clip(rows, lower, upper)


class Campaign:
    """One optimiser, sequence after sequence, everything it streams compared with the robot's own limits."""

    def __init__(self, robot: RobotModel, seed: int, fraction: float) -> None:
        self.robot, self.rng = robot, np.random.default_rng(seed)
        self.optimizer = TrajectoryOptimizer(robot, TrajectoryConfig(limit_fraction=fraction))
        self.accepted = self.refused = 0
        self.jump = np.zeros(3)
        columns = robot.policy_columns
        joints = [name for name in columns if name in robot.joint_names]
        at = robot.indices(joints)
        self.lower = np.array([*robot.lower[at], -0.5, -0.5, -0.8])
        self.upper = np.array([*robot.upper[at], 0.5, 0.5, 0.8])

    def sequence(self) -> None:
        """A dozen chunks from a fresh start."""
        robot, rng, optimizer = self.robot, self.rng, self.optimizer
        zero = np.zeros(len(robot.joint_names))
        now, number = int(rng.integers(0, 10**9)), 0
        low, high = robot.lower, robot.upper
        start = robot.clamp_wrist(np.clip(robot.home + rng.normal(0.0, 0.3, len(low)), low, high))
        pose = rng.normal(0.0, 1.0, 3)
        optimizer.reset(RobotState(now, robot.joint_names, start, zero, zero, pose))
        dt = float(rng.choice([1.0 / 30.0, 0.1, 0.02]))
        self._before = None
        for _ in range(CHUNKS):
            for _ in range(int(rng.choice([1, 4, 20, 60, 300], p=[0.2, 0.25, 0.3, 0.2, 0.05]))):
                now += TICK
                self.check(now)
                base = optimizer.sample(now).base
                assert base is not None
                assert base.pose is not None
                pose = base.pose
                optimizer.observe(RobotState(now, robot.joint_names, start, zero, zero, pose, base.twist))
            held = optimizer.sample(now)
            at = dict(zip(held.names, held.position, strict=True))
            here = np.array([at.get(name, 0.0) for name in robot.policy_columns])
            rows = _rows(rng, str(rng.choice(KINDS)), here, self.lower, self.upper, dt)
            if rng.random() < 0.03:
                rows = rows[:0]
            status = np.zeros(len(rows))
            if len(rows) and rng.random() < 0.05:
                status[int(rng.integers(len(rows))) :] = rng.choice([-1, 1])
            number = max(number + int(rng.choice([1, 0, -1, 5], p=[0.9, 0.03, 0.03, 0.04])), 0)
            stamp = max(now - int(rng.choice([0, 10, 20, 60])) * TICK, 0)
            stamp += int(rng.integers(0, TICK)) if rng.random() < 0.3 and stamp < now else 0
            chunk = ActionChunk(stamp, number, robot.policy_columns, dt, rows, status, np.ones(len(rows)))
            report = optimizer.add_chunk(chunk, now)
            self.accepted += report.accepted
            self.refused += not report.accepted
            if report.accepted:
                jump = (report.splice_position_jump, report.splice_velocity_jump, report.splice_acceleration_jump)
                self.jump = np.maximum(self.jump, jump)
            if rng.random() < 0.02:
                optimizer.brake(now, "test")
        self.now = now

    def check(self, now: int) -> None:
        """What is streamed for `now` is within the robot's own limits."""
        robot, sample = self.robot, self.optimizer.sample(now)
        at = robot.indices(sample.names)
        q = np.array(robot.home)
        q[at] = sample.position
        assert (q >= robot.lower - SLACK).all(), f"{sample.names[int(np.argmin(sample.position))]} below its limit"
        assert (q <= robot.upper + SLACK).all(), "above a limit"
        assert np.abs(robot.clamp_wrist(q) - q).max() <= SLACK, "a wrist beyond its disc"
        assert (np.abs(sample.velocity) <= robot.velocity[at] * (1 + SLACK)).all(), "too fast"
        assert (np.abs(sample.acceleration) <= robot.acceleration[at] * (1 + SLACK)).all(), "accelerates too hard"
        assert sample.base is not None
        assert (np.abs(sample.base.twist) <= robot.base_policy_velocity * (1 + SLACK)).all(), "base too fast"
        before, self._before = self._before, (now, sample)
        if before is not None and before[0] == now - TICK:
            # Both hold at every instant, hence for means over a tick.
            change = np.abs(sample.acceleration - before[1].acceleration) / (TICK * 1e-9)
            assert (change <= robot.jerk[at] * (1 + SLACK)).all(), "jerks too hard"
            change = np.abs(sample.base.twist - before[1].base.twist) / (TICK * 1e-9)
            assert (change <= robot.base_acceleration * (1 + SLACK)).all(), "base accelerates too hard"


@pytest.mark.parametrize("fraction", [0.95, 1.0])
def test_no_sequence_of_chunks_breaks_a_limit(robot, fraction):
    campaign = Campaign(robot, seed=int(fraction * 100), fraction=fraction)
    for _ in range(40):
        campaign.sequence()
    assert campaign.accepted > 200
    assert (campaign.jump < (1e-12, 1e-12, 1e-10)).all(), campaign.jump


def test_after_any_sequence_a_plain_chunk_is_followed(robot):
    campaign = Campaign(robot, seed=5, fraction=1.0)
    optimizer = campaign.optimizer
    middle = 0.5 * (robot.lower + robot.upper)
    zero = np.zeros(len(robot.joint_names))
    for _ in range(15):
        campaign.sequence()
        now = campaign.now
        optimizer.brake(now, "over")
        for _ in range(400):
            now += TICK
            optimizer.observe(RobotState(now, robot.joint_names, middle, zero, zero, optimizer.sample(now).base.pose))
        assert optimizer.settled(now), "whatever was asked, it stops"
        held = optimizer.sample(now)
        here = dict(zip(held.names, held.position, strict=True))
        joints = [name for name in robot.policy_columns if name in here]
        wanted = {n: here[n] + np.clip(middle[robot.joint_names.index(n)] - here[n], -0.1, 0.1) for n in joints}
        goal = np.array([wanted.get(name, 0.0) for name in robot.policy_columns])
        start = np.array([here.get(name, 0.0) for name in robot.policy_columns])
        rows = start + np.linspace(0.0, 1.0, 17)[1:, None] * (goal - start)
        report = optimizer.add_chunk(
            ActionChunk(now, 10**6, robot.policy_columns, 0.1, rows, np.zeros(16), np.ones(16)), now
        )
        assert report.accepted, report.reason
        for _ in range(600):
            now += TICK
            optimizer.observe(RobotState(now, robot.joint_names, middle, zero, zero, optimizer.sample(now).base.pose))
        end = optimizer.sample(now)
        assert dict(zip(end.names, end.position, strict=True)) == pytest.approx(wanted, abs=1e-3)


def main() -> None:
    """So many sequences, from the command line."""
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    campaign = Campaign(load_robot("v1"), seed, 1.0)
    for done in range(1, total + 1):
        campaign.sequence()
        if done % max(total // 10, 1) == 0:
            print(f"{done} sequences, {campaign.accepted} chunks, {campaign.refused} refused, jumps {campaign.jump}")


if __name__ == "__main__":
    main()
