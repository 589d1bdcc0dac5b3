"""One picture per episode: how every joint moved against its limits, and what the policy said meanwhile.

Positions, velocities and jerks are drawn as fractions of their limits, so that seven joints share a panel and a look
tells whether anything came near: the hatched zones beyond +-1 must stay empty. Colours are those of Okabe and Ito,
distinct for colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from bytemini_core.types import NANOSECONDS, Array, Mode, TaskStatus
from numpy.typing import NDArray

from bytemini_sim.results.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg

COLORS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
"""Okabe and Ito's palette without its yellow, which does not show on white."""

SIZE = (16.0, 12.0)
DPI = 100
MOST_POINTS = 1200
"""Points drawn per line; beyond that each bin of ticks is drawn by its lowest and highest value."""

_MOST_LINES = 60
_MARKERS = ("v", "D", "s", "^", "P")
_EVENT_COLOR = "#D55E00"
_STATUS_COLORS = {TaskStatus.ONGOING: "#56B4E9", TaskStatus.TERMINATED: "#009E73", TaskStatus.INVALID: "#D55E00"}


class Limits(Protocol):
    """What `bytemini_description.robot.RobotModel` says of the limits: (19,) per joint, (3,) for the base."""

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Order of the joints."""

    @property
    def lower(self) -> Array:
        """Lower position limits."""

    @property
    def upper(self) -> Array:
        """Upper position limits."""

    @property
    def velocity(self) -> Array:
        """Velocity limits."""

    @property
    def jerk(self) -> Array:
        """Jerk limits."""

    @property
    def base_velocity(self) -> Array:
        """Limits of vx, vy, wz."""

    @property
    def base_jerk(self) -> Array:
        """Limits of their second derivatives."""


def _envelope(time: Array, values: Array, points: int = MOST_POINTS) -> tuple[Array, Array]:
    """Thin (T,) samples to at most about `points`, keeping every extreme: each bin gives its minimum and maximum."""
    if len(time) <= points:
        return time, values
    width = -(-2 * len(time) // points)
    starts = np.arange(0, len(time), width)
    thin = np.empty(2 * len(starts))
    thin[0::2] = np.minimum.reduceat(values, starts)
    thin[1::2] = np.maximum.reduceat(values, starts)
    return np.repeat(time[starts], 2), thin


def _runs(codes: NDArray[Any]) -> list[tuple[int, int, int]]:
    """(first, last + 1, code) of each stretch of equal codes."""
    if not len(codes):
        return []
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    return [(a, b, int(codes[a])) for a, b in pairwise(edges)]


def _short(joint: str) -> str:
    """Name of a joint within its panel: "left_wrist_yaw_joint" is "wrist yaw"."""
    return joint.removeprefix("left_").removeprefix("right_").removesuffix("_joint").replace("_", " ")


def _clip(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def plot_episode(
    trajectory: Trajectory, robot: Limits, path: str | Path, title: str, subtitle: str = "", success: bool | None = None
) -> None:
    """Draw one episode into a PNG (1600 x 1200, under 300 KB).

    Args:
        trajectory: the episode; may be short or empty.
        robot: whose limits to draw against.
        path: of the PNG.
        title: the instruction.
        subtitle: a second, smaller line (task, policy, seed, reason of failure).
        success: a coloured word beside the title; None for none.

    Raises:
        ValueError: the robot lacks a joint of the trajectory.
    """
    if missing := set(trajectory.names) - set(robot.joint_names):
        raise ValueError(f"the robot has no {', '.join(sorted(missing))}: is the trajectory of another robot?")
    # No pyplot: its global state is not safe in threads, and it would look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    figure.text(0.012, 0.974, _clip(title, 95), fontsize=17, weight="bold", va="center")
    figure.text(0.012, 0.944, _clip(subtitle, 190), fontsize=11, va="center", color="#444444")
    if success is not None:
        word, color = ("SUCCESS", "#00714F") if success else ("FAILED", "#B03A00")
        figure.text(0.988, 0.974, word, fontsize=17, weight="bold", va="center", ha="right", color=color)
    grid = figure.add_gridspec(
        6, 3, height_ratios=(3.2, 3.2, 2.2, 2.2, 1.6, 2.6), left=0.068, right=0.988, top=0.885, bottom=0.042,
        hspace=0.36, wspace=0.11,
    )  # fmt: skip
    panels = _Panels(trajectory, robot)
    axes = [[figure.add_subplot(grid[row, column]) for column in range(3)] for row in range(4)]
    for cell, text in zip(axes[0], ("measured position", "measured velocity", "jerk of the command"), strict=True):
        cell.annotate(
            f"{text}, as a part of its {'range' if 'position' in text else 'limit'}", (0, 1),
            xytext=(0, 24), xycoords="axes fraction", textcoords="offset points", fontsize=12, weight="bold",
        )  # fmt: skip
    joints = trajectory.names
    for row, side in enumerate(("left", "right")):
        panels.joints(axes[row], [n for n in joints if n.startswith(f"{side}_") and "gripper" not in n], f"{side} arm")
    rest = [n for n in joints if "gripper" in n or not n.startswith(("left_", "right_"))]
    panels.joints(axes[2], rest, "grippers, lift\nand head")
    panels.base(axes[3])
    status = figure.add_subplot(grid[4, :])
    panels.status(status)
    phases = figure.add_subplot(grid[5, :])
    panels.phases(phases)
    for cell in (*axes[0], *axes[1], *axes[2], *axes[3], status):
        panels.background(cell)
    for cell in (*axes[0], *axes[1], *axes[2], *axes[3], status, phases):
        cell.set_xlim(0.0, panels.end)
        cell.tick_params(axis="x", labelsize=9, length=3)
        cell.spines[["top", "right"]].set_visible(False)
    status.tick_params(labelbottom=False)
    phases.set_xlabel("simulated time, s", fontsize=10)
    _write(canvas, Path(path))


class _Panels:
    """Draws the panels of one trajectory."""

    def __init__(self, trajectory: Trajectory, robot: Limits) -> None:
        self.trajectory = trajectory
        self.time = trajectory.time
        self.end = float(self.time[-1]) if len(trajectory) > 1 else 1.0
        order = [robot.joint_names.index(name) for name in trajectory.names]
        lower, upper = robot.lower[order], robot.upper[order]
        self.robot = robot
        self.values = (
            (2 * trajectory.position - lower - upper) / (upper - lower),
            trajectory.velocity / robot.velocity[order],
            trajectory.jerk() / robot.jerk[order],
        )

    def joints(self, row: list[Axes], names: Sequence[str], label: str) -> None:
        """Position, velocity and jerk of a group of joints."""
        columns = [self.trajectory.names.index(name) for name in names]
        both = len({_short(name) for name in names}) < len(names)
        labels = [_short(name) if not both or "gripper" not in name else _side(name) for name in names]
        for axes, values in zip(row, self.values, strict=True):
            self._lines(axes, values[:, columns], labels)
            self._limited(axes, values[:, columns])
        row[0].set_ylabel(label, fontsize=11, weight="bold")
        _legend(row[0])

    def base(self, row: list[Axes]) -> None:
        """Displacement since the start, and the commanded twist with its second difference, the jerk."""
        pose = self.trajectory.base_pose
        twist = self.trajectory.base_twist
        tick = float(np.median(np.diff(self.time))) if len(self.time) > 1 else 1.0
        jerk = np.zeros_like(twist)
        if len(twist) > 2:
            jerk[2:] = np.diff(twist, n=2, axis=0) / tick**2 / self.robot.base_jerk
        displacement = pose - pose[:1]
        self._lines(row[0], displacement, ("x, m", "y, m", "yaw, rad"))
        reach = max(0.1, 1.15 * float(np.abs(displacement).max(initial=0.0)))
        row[0].set_ylim(-reach, reach)
        for axes, values in zip(row[1:], (twist / self.robot.base_velocity, jerk), strict=True):
            self._lines(axes, values, ("x", "y", "yaw"))
            self._limited(axes, values)
        row[0].set_ylabel("base", fontsize=11, weight="bold")
        _legend(row[0])
        for axes, text in zip(row, ("moved since the start", "commanded velocity", "jerk of that"), strict=True):
            _note(axes, text, "left")

    def status(self, axes: Axes) -> None:
        """Task status as colour, its confidence as a line, events as marks above."""
        statuses = self.trajectory.task_status
        for first, last, code in _runs(statuses):
            color = _STATUS_COLORS[TaskStatus(code)]
            axes.axvspan(self._at(first), self._at(last), ymax=0.82, color=color, alpha=0.35, lw=0)
        axes.step(*_envelope(self.time, self.trajectory.confidence.astype(np.float64)), "k", where="post", lw=1.5)
        axes.set_ylim(0, 1.28)
        axes.set_yticks([0, 0.5, 1])
        axes.set_ylabel("task status", fontsize=11, weight="bold")
        axes.plot([], [], "k", lw=1.5, label="confidence")
        for status in TaskStatus:
            if (statuses == status).any():
                axes.fill_between([], [], color=_STATUS_COLORS[status], alpha=0.35, lw=0, label=status.name.lower())
        kinds = list(dict.fromkeys(event.kind for event in self.trajectory.events))
        for kind, marker in zip(kinds, _MARKERS * (1 + len(kinds) // len(_MARKERS)), strict=False):
            times = self._event_times(kind)
            label = f"{kind} ({len(times)})"
            axes.plot(times, np.full(len(times), 1.14), marker, color=_EVENT_COLOR, ms=7, label=label, clip_on=False)
        _legend(axes)

    def phases(self, axes: Axes) -> None:
        """What was being done when: a bar per phase, and one per mode other than POLICY."""
        trajectory = self.trajectory
        rows: dict[str, list[tuple[float, float]]] = {}
        colors: dict[str, str] = {}
        for first, last, code in _runs(trajectory.phase):
            if name := trajectory.phases[code]:
                rows.setdefault(name, []).append((self._at(first), self._at(last) - self._at(first)))
                colors[name] = COLORS[4]
        modes = tuple(Mode)
        for first, last, code in _runs(trajectory.mode):
            if modes[code] is not Mode.POLICY:
                name = f"mode {modes[code].value}"
                rows.setdefault(name, []).append((self._at(first), self._at(last) - self._at(first)))
                colors[name] = COLORS[0]
        for row, (name, spans) in enumerate(rows.items()):
            axes.broken_barh(spans, (row - 0.38, 0.76), facecolors=colors[name], lw=0)
        axes.set_yticks(range(len(rows)), [_clip(name, 16) for name in rows], fontsize=8)
        axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
        axes.grid(axis="x", color="#DDDDDD", lw=0.8)
        axes.set_axisbelow(True)
        axes.set_title("phases", loc="left", fontsize=11, weight="bold", pad=3)

    def background(self, axes: Axes) -> None:
        """Bands that change with the phase, and a line at each event."""
        runs = _runs(self.trajectory.phase)
        for first, last, _ in runs[1::2]:
            axes.axvspan(self._at(first), self._at(last), color="#000000", alpha=0.06, lw=0, zorder=0)
        for event in self.trajectory.events[:_MOST_LINES]:
            axes.axvline(self._seconds(event.stamp), color="#333333", ls=":", lw=1.2, zorder=1)

    def _lines(self, axes: Axes, values: Array, labels: Sequence[str]) -> None:
        for column, label in enumerate(labels):
            color, style = COLORS[column % len(COLORS)], ("-", "--")[column // len(COLORS)]
            axes.plot(*_envelope(self.time, values[:, column]), style, color=color, lw=1.1, label=label)

    def _limited(self, axes: Axes, values: Array) -> None:
        """Axis of a fraction of a limit: hatched beyond it, cut at twice of it, the peak in words."""
        peak = float(np.abs(values).max(initial=0.0))
        reach = min(2.0, max(1.15, 1.05 * peak))
        axes.set_ylim(-reach, reach)
        axes.set_yticks([-1, -0.5, 0, 0.5, 1] if reach < 1.6 else [-1, 0, 1])
        axes.tick_params(axis="y", labelsize=9, length=3)
        for low, high in ((1.0, reach), (-reach, -1.0)):
            axes.axhspan(low, high, facecolor="#F6D5C3", edgecolor="#D8A88E", hatch="////", lw=0, zorder=0)
        axes.axhline(0.0, color="#999999", lw=0.6, zorder=0)
        # What rests against a stop is a hair beyond it: only what the words would show is called a violation.
        words = f"peak {peak:.2f}" if peak < 10 else f"peak {peak:.0f}"
        _note(axes, words, "right", "#B03A00" if round(peak, 2) > 1 else "#333333")

    def _at(self, tick: int) -> float:
        return float(self.time[tick]) if tick < len(self.time) else self.end

    def _seconds(self, stamp: int) -> float:
        start = int(self.trajectory.stamp[0]) if len(self.trajectory) else 0
        return (stamp - start) / NANOSECONDS

    def _event_times(self, kind: str) -> list[float]:
        return [self._seconds(event.stamp) for event in self.trajectory.events if event.kind == kind]


def _side(name: str) -> str:
    return f"{name.split('_')[0]} {_short(name)}"


def _legend(axes: Axes) -> None:
    """One line above the panel, where it hides nothing."""
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(-0.01, 0.985), ncols=9, fontsize=9, frameon=False, borderpad=0.2,
        handlelength=1.4, handletextpad=0.4, columnspacing=1.0,
    )  # fmt: skip
    for line in legend.get_lines():
        if line.get_linestyle() != "None":
            line.set_linewidth(2.5)


def _note(axes: Axes, text: str, side: str, color: str = "#333333") -> None:
    box = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    x = 0.006 if side == "left" else 0.994
    axes.text(x, 0.97, text, transform=axes.transAxes, fontsize=9, ha=side, va="top", color=color, bbox=box)


def _write(canvas: FigureCanvasAgg, path: Path) -> None:
    """Render, reduce to a palette (a third of the bytes, no visible loss on flat colours), and replace `path`."""
    from PIL import Image

    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels).convert("RGB").quantize(96, dither=Image.Dither.NONE)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        picture.save(temporary, format="PNG", optimize=True)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
