"""Chunks of the expert, recorded in episodes and given to every method again: the motion without the robot's answer.

The path to compare with is what the expert meant in hindsight: the quintic spline through the first row of each of its
chunks, ten a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bytemini_core.types import NANOSECONDS, ActionChunk, Array, RobotState, WholeBodyReference
from bytemini_description.robot import RobotModel, load_robot
from rich import box
from rich.table import Table
from scipy.interpolate import make_interp_spline
from trajectory_optimizer.benchmarks.peers import OPTIMIZERS
from trajectory_optimizer.metrics import derivatives, jerk_rms, lag_and_error
from trajectory_optimizer.optimizer import TrajectoryOptimizer
from trajectory_optimizer.report import ChunkReport

from bytemini_sim.episode import RolloutOptions
from bytemini_sim.expert import PickPlaceExpert
from bytemini_sim.inproc import InprocRunner

LATENCY = 0.1
"""s from observation to arrival of a recorded chunk."""
TICK = 5_000_000
SETTLING = 1.0
"""s at the start that are not measured: the path begins at rest, the spline's end does not know it."""


@dataclass
class Recording:
    """What one episode's optimiser was given: states at every tick, chunks with the stamps of their arrival."""

    states: list[RobotState] = field(default_factory=list)
    chunks: list[tuple[int, ActionChunk]] = field(default_factory=list)


class _Recorder:
    """This stack's optimiser, writing down what it is given."""

    def __init__(self, robot: RobotModel) -> None:
        self._inner = TrajectoryOptimizer(robot)
        self.recording = Recording()

    def reset(self, state: RobotState) -> None:
        self._inner.reset(state)

    def observe(self, state: RobotState) -> None:
        self.recording.states.append(state)
        self._inner.observe(state)

    def add_chunk(self, chunk: ActionChunk, now: int) -> ChunkReport:
        self.recording.chunks.append((now, chunk))
        return self._inner.add_chunk(chunk, now)

    def sample(self, now: int) -> WholeBodyReference:
        return self._inner.sample(now)


def record(seed: int, noise: float) -> Recording:
    """The chunks of one episode of the expert."""
    robot = load_robot("v1")
    recorder = _Recorder(robot)
    runner = InprocRunner(
        RolloutOptions(latency=LATENCY, cameras=False, outside=False),
        policy=PickPlaceExpert(robot, noise_scale=noise, seed=seed),
        make_optimizer=lambda _: recorder,
    )
    runner.run(seed)
    runner.close()
    return recorder.recording


def replay(recording: Recording, method: str, joints: Sequence[str]) -> Array:
    """(T, joints) positions that a method makes of recorded chunks, one per recorded state."""
    optimizer = OPTIMIZERS[method](load_robot("v1"))
    optimizer.reset(recording.states[0])
    queue = list(recording.chunks)
    positions = np.empty((len(recording.states), len(joints)))
    for i, state in enumerate(recording.states):
        optimizer.observe(state)
        while queue and queue[0][0] <= state.stamp:
            optimizer.add_chunk(queue[0][1], queue.pop(0)[0])
        reference = optimizer.sample(state.stamp)
        positions[i] = reference.position[[reference.names.index(name) for name in joints]]
    return positions


def meant(recording: Recording, joints: Sequence[str]) -> tuple[Array, slice]:
    """(T, joints) what the expert meant at each recorded state, and the ticks for which that is known."""
    chunks = [chunk for _, chunk in recording.chunks if chunk.horizon]
    columns = [chunks[0].names.index(name) for name in joints]
    due = np.array([chunk.stamp / NANOSECONDS + chunk.dt for chunk in chunks])
    spline = make_interp_spline(due, np.array([chunk.values[0, columns] for chunk in chunks], dtype=np.float64), k=5)
    times = np.array([state.stamp / NANOSECONDS for state in recording.states])
    known = slice(int(np.searchsorted(times, max(SETTLING, due[0]))), int(np.searchsorted(times, due[-1])))
    return np.asarray(spline(np.clip(times, due[0], due[-1]))), known


def compare(methods: Sequence[str], seeds: int, noise: float) -> list[dict[str, Any]]:
    """What was meant, then one row per method; numbers as in `_measure`, over all seeds."""
    joints = [name for side in ("left", "right") for name in load_robot("v1").arm_joints(side)]
    recordings = [record(seed, noise) for seed in range(seeds)]
    truths = [meant(recording, joints) for recording in recordings]
    clean = [truth[known] for truth, known in truths]
    lines = {"meant": _measure(clean, clean)}
    for method in methods:
        moved = [replay(recording, method, joints) for recording in recordings]
        lines[method] = _measure([mine[known] for mine, (_, known) in zip(moved, truths, strict=True)], clean)
    expert = "noisy" if noise else "clean"
    return [{"expert": expert, "method": name, "episodes": seeds, **line} for name, line in lines.items()]


def _measure(moved: Sequence[Array], clean: Sequence[Array]) -> dict[str, float]:
    """RMS jerk (rad/s^3), lag and error against `clean`, largest steps of velocity and acceleration over a tick."""
    tick = TICK / NANOSECONDS
    pairs = [lag_and_error(mine, path, tick) for mine, path in zip(moved, clean, strict=True)]
    rates = [derivatives(mine, tick) for mine in moved]
    return {
        "rms_jerk": float(np.sqrt(np.mean([jerk_rms(mine, tick) ** 2 for mine in moved]))),
        "lag_ms": 1e3 * float(np.mean([lag for lag, _ in pairs])),
        "error_mrad": 1e3 * float(np.sqrt(np.mean([error**2 for _, error in pairs]))),
        "velocity_step": max(float(np.abs(np.diff(rate[0], axis=0)).max()) for rate in rates),
        "acceleration_step": max(float(np.abs(np.diff(rate[1], axis=0)).max()) for rate in rates),
    }


def table(lines: Sequence[dict[str, Any]]) -> Table:
    """The rows for the terminal."""
    title = f"the expert's chunks, recorded, {1e3 * LATENCY:.0f} ms late; arm joints"
    made = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("expert", "method", "RMS jerk", "lag ms", "error mrad", "step v", "step a"):
        made.add_column(heading, justify="left" if heading in ("expert", "method") else "right", no_wrap=True)
    for line in lines:
        made.add_row(
            line["expert"],
            line["method"],
            f"{line['rms_jerk']:.1f}",
            f"{line['lag_ms']:.1f}",
            f"{line['error_mrad']:.1f}",
            f"{line['velocity_step']:.3f}",
            f"{line['acceleration_step']:.2f}",
        )
    made.caption = (
        f"{lines[0]['episodes']} episodes each; meant: spline through the first rows of all chunks; "
        "step v, a: largest change from one 5 ms sample to the next"
    )
    return made
