"""The picture of a seam: position, velocity, acceleration and jerk, ours and peers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trajectory_optimizer.benchmarks.measure import Outcome
from trajectory_optimizer.benchmarks.world import TICK, CleanPath
from trajectory_optimizer.metrics import derivatives

WINDOW = (9.7, 11.3)
"""s; chunks arrive at 10.1, 10.6 and 11.1 s."""
COLUMN = 0
COLORS = {"linear": "#b0b0b0", "ensembling": "#e0a030", "ruckig": "#4080c0", "ours": "#c03030"}


def plot_seam(file: Path, outcomes: dict[str, Outcome], seed: int) -> None:
    """Write a PNG of one column around three seams of the first path."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    first, last = (round(t / TICK) for t in WINDOW)
    times = np.arange(first, last) * TICK
    clean = CleanPath(np.random.default_rng(seed))
    margin = np.arange(first - 3, last) * TICK
    figure, axes = plt.subplots(4, 1, figsize=(9, 9), sharex=True)
    curves = {name: o.traces[0][first - 3 : last, COLUMN : COLUMN + 1] for name, o in outcomes.items()}
    truth = clean(margin)[:, COLUMN : COLUMN + 1]
    for name, curve in {**curves, "clean path": truth}.items():
        look = {"color": "black", "lw": 1.0, "ls": "--"} if name == "clean path" else {"color": COLORS[name], "lw": 1.2}
        velocity, acceleration, jerk = derivatives(curve, TICK)
        rows = (curve[3:], velocity[2:], acceleration[1:], jerk)
        for axis, values in zip(axes, rows, strict=True):
            axis.plot(times, values[:, 0], label=name, zorder=3 if name == "ours" else 2, **look)
    # Peers may be orders of magnitude larger: the scale is that of the clean path.
    truths = derivatives(truth, TICK)
    spans = (np.ptp(truth), *(float(np.abs(v).max()) for v in truths))
    for axis, span, label in zip(
        axes, spans, ("position, rad", "velocity, rad/s", "acceleration, rad/s²", "jerk, rad/s³"), strict=True
    ):
        middle = float(truth.mean()) if label.startswith("position") else 0.0
        reach = 0.75 * span + 0.03 if label.startswith("position") else 2.0 * span
        axis.set_ylim(middle - reach, middle + reach)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        for seam in (10.1, 10.6, 11.1):
            axis.axvline(seam, color="black", lw=0.6, alpha=0.5)
    axes[0].legend(ncols=5, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.25))
    axes[-1].set_xlabel("s; a chunk arrives at each vertical line")
    figure.tight_layout()
    figure.savefig(file, dpi=80)
    plt.close(figure)
