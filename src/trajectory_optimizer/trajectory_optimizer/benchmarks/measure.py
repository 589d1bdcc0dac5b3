"""Run methods over the same chunks and measure them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trajectory_optimizer.benchmarks.methods import Method, Ours
from trajectory_optimizer.benchmarks.world import TICK, CleanPath, Setting, arrivals
from trajectory_optimizer.metrics import derivatives, jerk_rms, lag_and_error

Array = NDArray[np.float64]

SETTLING = 2.0
"""s at the start that are not measured: every method starts at rest beside a path in motion."""


@dataclass
class Outcome:
    """One method in one setting over all seeds.

    `jerk_ratio`: RMS jerk over that of the clean path. `lag`: s. `error`: rad, RMS. `velocity_step`,
    `acceleration_step`: largest change from one 5 ms sample to the next. `update`, `sample`: s of wall time each;
    `update_cpu`: s of processor time, which other processes on the machine do not lengthen.
    `seam`: (3,) largest step of position, velocity, acceleration at a splice, where the method knows it.
    """

    jerk_ratio: float
    lag: float
    error: float
    velocity_step: float
    acceleration_step: float
    update: Array
    update_cpu: Array
    sample: Array
    seam: Array | None
    traces: list[Array] = field(default_factory=list)


def run(make: Callable[[Setting], Method], setting: Setting, seeds: range, duration: float) -> Outcome:
    """Measure one method in one setting; every method sees the same chunks for a seed."""
    jerk, clean_jerk, lags, errors, steps = [], [], [], [], []
    updates: list[float] = []
    processor: list[float] = []
    samples: list[float] = []
    seams: list[Array] = []
    traces: list[Array] = []
    times = np.arange(round(duration / TICK), dtype=np.float64) * TICK
    first = round(SETTLING / TICK)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        path = CleanPath(rng)
        queue = list(arrivals(path, setting, duration, rng))
        method = make(setting)
        method.start(path(np.zeros(1))[0])
        positions = np.empty((len(times), path(np.zeros(1)).shape[1]))
        gc.collect()
        gc.disable()
        for i, now in enumerate(times.tolist()):
            if isinstance(method, Ours):
                method.observe(now)
            while queue and queue[0].time <= now + 1e-9:
                arrival = queue.pop(0)
                if isinstance(method, Ours):
                    method.prepare(arrival)
                begun, busy = time.perf_counter(), time.thread_time()
                method.take(arrival, now)
                busy, taken = time.thread_time() - busy, time.perf_counter() - begun
                if now >= SETTLING:
                    updates.append(taken)
                    processor.append(busy)
            begun = time.perf_counter()
            positions[i] = method.step(now)
            if now >= SETTLING:
                samples.append(time.perf_counter() - begun)
        gc.enable()
        clean = path(times)
        lag, error = lag_and_error(positions[first:], clean[first:], TICK)
        lags.append(lag)
        errors.append(error)
        jerk.append(jerk_rms(positions[first:], TICK))
        clean_jerk.append(jerk_rms(clean[first:], TICK))
        velocity, acceleration, _ = derivatives(positions[first:], TICK)
        steps.append((np.abs(np.diff(velocity, axis=0)).max(), np.abs(np.diff(acceleration, axis=0)).max()))
        if isinstance(method, Ours):
            seams.append(method.seam)
        traces.append(positions)
    return Outcome(
        jerk_ratio=float(np.sqrt(np.mean(np.square(jerk)) / np.mean(np.square(clean_jerk)))),
        lag=float(np.mean(lags)),
        error=float(np.sqrt(np.mean(np.square(errors)))),
        velocity_step=float(max(s[0] for s in steps)),
        acceleration_step=float(max(s[1] for s in steps)),
        update=np.array(updates),
        update_cpu=np.array(processor),
        sample=np.array(samples),
        seam=np.max(seams, axis=0) if seams else None,
        traces=traces,
    )
