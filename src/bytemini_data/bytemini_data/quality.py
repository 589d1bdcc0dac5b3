"""How good an episode is: measured from what the dataset holds, so that the same check can be run again at any time.

GR-3 report, section 3.2: post-collection quality checks filter out invalid and low-quality data. Here every measure
is a number with two bounds, and the verdict says which were passed: *warn* is for an operator to look at, *fail* for
leaving an episode out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from bytemini_core.types import CAMERAS, SIDES, Array
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray

from bytemini_data.features import (
    ACTION,
    EMBODIMENT,
    HANDS,
    HEAD,
    MASKS,
    OFFSET,
    STATE,
    VALID,
    VELOCITY,
    Embodiment,
)

PASS, WARN, FAIL = "pass", "warn", "fail"


@dataclass(frozen=True)
class Bound:
    """From which value on a measure warns and fails. `says` names it, with the unit; infinite for never."""

    says: str
    warn: float
    fail: float = math.inf


BOUNDS: dict[str, Bound] = {
    "not_finite": Bound("numbers that are not finite", 0.5, 0.5),
    "no_instruction": Bound("episodes without an instruction", 0.5, 0.5),
    "too_short": Bound("seconds short of a useful episode", 1e-9, 0.5),
    "drops": Bound("share of frames without a camera's picture", 1e-9, 0.05),
    "gap": Bound("s without a camera's picture", 0.15, 1.0),
    "skew": Bound("s that a camera's pictures are off the head's, in the median", 0.02, 0.1),
    "blank": Bound("share of pictures that are one colour", 0.02, 0.2),
    "frozen": Bound("s in which a camera shows the same picture while the robot moves", 0.5, 2.0),
    "still_start": Bound("s of standing still at the start", 1.5, 10.0),
    "still_end": Bound("s of standing still at the end", 2.5, 10.0),
    "saturation": Bound("share of frames with a joint commanded to its limit", 0.05, 0.5),
    "speeding": Bound("share of frames with a joint beyond its velocity limit", 1e-9, 0.05),
    "jerk": Bound("times the jerk limit, at the dataset's rate, RMS of the worst joint", 0.5, 2.0),
    "tracking": Bound("share of frames without joints, or without any hand", 1e-9, 0.1),
    "hands_unseen": Bound("share of frames in which the head camera sees neither hand", 0.3, 0.9),
    "mismatch": Bound("rad or m between what was commanded and what followed, RMS of the worst arm joint", 0.1, 0.4),
    "length": Bound("times as long, or as short, as the middle episode", 2.0, 6.0),
}
"""Every measure; larger is worse. The bounds of motion suit a careful operator and the scripted expert."""

SHORTEST = 1.0
"""Seconds that an episode should have at least."""
STILL = 0.01
"""A joint or base slower than this (rad/s, m/s) stands still."""
BLANK = 2.0
"""A picture whose brightness spreads less than this (of 255) shows nothing."""
SAME = 0.15
"""Pictures whose brightness differs less than this (of 255, in the mean) are the same."""
MOST_PICTURES = 60
"""Pictures looked at per camera and episode."""
AT_LIMIT = 1e-3
"""rad or m from a limit within which a joint is at it."""
MOVING = 0.05
"""Joints faster than this (rad/s, m/s) should show in pictures."""


class Pictures(Protocol):
    """Gives pictures of an episode: (n, H, W, 3) uint8 for a camera and frame numbers."""

    def __call__(self, camera: str, frames: Sequence[int]) -> NDArray[np.uint8]:
        """Decode."""


@dataclass(frozen=True)
class Quality:
    """The outcome: `verdict` pass, warn or fail; `reasons` in words; `measures` by the names of `BOUNDS`."""

    verdict: str
    reasons: tuple[str, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """1 for a pass, a quarter less per warning, 0 for a fail: a weight for learners."""
        return 0.0 if self.verdict == FAIL else max(0.25, 1.0 - 0.25 * len(self.reasons))

    def as_dict(self) -> dict[str, Any]:
        """For an episode's `quality` field."""
        return asdict(self)


def measure(
    columns: Mapping[str, NDArray[Any]],
    fps: int,
    task: str,
    robot: RobotModel,
    pictures: Pictures | None = None,
    usual_length: float | None = None,
) -> dict[str, float]:
    """Every measure of one episode.

    Args:
        columns: features to (n, d) or (n,) values, as `Dataset.column` of the episode's frames.
        fps: frames per second.
        task: the instruction.
        robot: whose limits count.
        pictures: gives pictures; None leaves out what needs them.
        usual_length: seconds of the middle episode; None if there is none to compare with.
    """
    found = dict.fromkeys(BOUNDS, 0.0)
    n = len(columns[STATE])
    numbers = [np.asarray(v) for v in columns.values() if np.asarray(v).dtype.kind == "f"]
    found["not_finite"] = float(sum(np.count_nonzero(~np.isfinite(v)) for v in numbers))
    if found["not_finite"]:
        return found
    found["no_instruction"] = float(not task.strip())
    found["too_short"] = max(0.0, SHORTEST - n / fps)
    if usual_length:
        found["length"] = max(n / fps / usual_length, usual_length * fps / n)
    valid = np.asarray(columns[VALID], dtype=bool)
    person = str(np.asarray(columns[EMBODIMENT])[0]) == Embodiment.HUMAN
    expected = ("head",) if person else CAMERAS
    for camera in expected:
        missing = ~valid[:, MASKS.index(camera)]
        found["drops"] = max(found["drops"], float(missing.mean()))
        found["gap"] = max(found["gap"], _longest(missing) / fps)
        offsets = np.asarray(columns[OFFSET])[~missing, CAMERAS.index(camera)]
        if len(offsets):
            found["skew"] = max(found["skew"], abs(float(np.median(offsets))))
    hands = valid[:, [MASKS.index(f"{side}_hand") for side in SIDES]]
    lost = ~hands.any(1) if person else ~valid[:, MASKS.index("joints")]
    found["tracking"] = float(lost.mean())
    found["hands_unseen"] = float(_unseen(columns, hands, robot).mean())
    moving = dict.fromkeys(CAMERAS, np.zeros(n, dtype=bool))
    if not person:
        found |= _motion(columns, fps, robot)
        moving = _moving(np.abs(np.asarray(columns[VELOCITY])), robot)
    if pictures is not None:
        found |= _look(pictures, valid, moving, fps, expected)
    return found


def judge(measures: Mapping[str, float]) -> Quality:
    """The verdict on an episode from its measures."""
    verdict, reasons = PASS, []
    for name, bound in BOUNDS.items():
        value = measures[name]
        if value >= bound.warn:
            verdict = FAIL if value >= bound.fail or verdict == FAIL else WARN
            grade = "fail" if value >= bound.fail else "warn"
            reasons.append(f"{grade}: {name} {value:.3g} {bound.says} (from {min(bound.warn, bound.fail):.3g} on)")
    rounded = {name: float(f"{value:.6g}") for name, value in measures.items()}
    return Quality(verdict, tuple(reasons), rounded)


def _motion(columns: Mapping[str, NDArray[Any]], fps: int, robot: RobotModel) -> dict[str, float]:
    """What concerns joints and base of a robot."""
    n = len(robot.joint_names)
    state, action = (np.asarray(columns[name], dtype=np.float64) for name in (STATE, ACTION))
    velocity = np.asarray(columns[VELOCITY], dtype=np.float64)
    still = np.abs(velocity).max(1) < STILL
    starts = np.flatnonzero(~still)
    first = int(starts[0]) if len(starts) else len(still)
    last = len(still) - 1 - int(starts[-1]) if len(starts) else len(still)
    grippers = [robot.joint_names.index(robot.gripper_joint(side)) for side in SIDES]
    others = np.setdiff1d(np.arange(n), grippers)  # a gripper closed on a thing is at its limit on purpose
    near = np.minimum(action[:, :n] - robot.lower, robot.upper - action[:, :n])
    # The head looks where it was sent, and may have been sent to its limit for good.
    moves = np.ptp(action[:, :n], axis=0) > AT_LIMIT
    limited = [i for i in others if moves[i]]
    found = {"still_start": first / fps, "still_end": last / fps}
    found["saturation"] = float((near[:, limited] < AT_LIMIT).any(1).mean()) if limited else 0.0
    found["speeding"] = float((np.abs(velocity[:, :n]) > 1.05 * robot.velocity).any(1).mean())
    if len(action) > 3:
        jerk = np.diff(action[:, others], 3, axis=0) * fps**3
        found["jerk"] = float(np.sqrt((jerk**2).mean(0) / robot.jerk[others] ** 2).max())
    if len(action) > 1:
        arms = [i for i in others if robot.joint_names[i].startswith(SIDES)]
        error = state[1:, arms] - action[:-1, arms]
        found["mismatch"] = float(np.sqrt((error**2).mean(0)).max())
    return found


def _moving(speed: Array, robot: RobotModel) -> dict[str, NDArray[np.bool_]]:
    """Per camera, (n,) whether what carries it moves; the head camera looks at both arms and sees them move."""
    joints = robot.joint_names
    carried = {camera: [i for i, name in enumerate(joints) if not name.startswith(SIDES)] for camera in CAMERAS}
    for side in SIDES:
        carried[f"{side}_wrist"] += robot.indices(robot.arm_joints(side)).tolist()
    carried["head"] = list(range(len(joints)))
    base = list(range(len(joints), speed.shape[1]))
    return {camera: speed[:, [*columns, *base]].max(1) > MOVING for camera, columns in carried.items()}


def _unseen(columns: Mapping[str, NDArray[Any]], hands: NDArray[np.bool_], robot: RobotModel) -> NDArray[np.bool_]:
    """(n,) whether no hand that is known is within the head camera's picture (taken to be square)."""
    poses = np.asarray(columns[HANDS], dtype=np.float64).reshape(len(hands), len(SIDES), 7)
    head = np.asarray(columns[HEAD], dtype=np.float64)
    slope = math.tan(math.radians(robot.cameras["head"]["fovy"]) / 2)
    seen = np.zeros(len(hands), dtype=bool)
    for side in range(len(SIDES)):
        x, y, z = _into(head, poses[:, side, :3]).T
        within = (z > 0) & (np.abs(x) < slope * z) & (np.abs(y) < slope * z)
        seen |= within & hands[:, side]
    return ~seen & hands.any(1)


def _into(frame: Array, points: Array) -> Array:
    """(n, 3) points in frames given by (n, 7) poses."""
    from scipy.spatial.transform import Rotation

    norm = np.linalg.norm(frame[:, 3:], axis=1, keepdims=True)
    quaternion = np.where(norm > 0, frame[:, 3:], [0.0, 0.0, 0.0, 1.0])
    return np.asarray(Rotation.from_quat(quaternion).inv().apply(points - frame[:, :3]))


def _look(
    pictures: Pictures,
    valid: NDArray[np.bool_],
    moving: Mapping[str, NDArray[np.bool_]],
    fps: int,
    cameras: Sequence[str],
) -> dict[str, float]:
    """What only pictures tell."""
    found = {"blank": 0.0, "frozen": 0.0}
    for camera in cameras:
        there = np.flatnonzero(valid[:, MASKS.index(camera)])
        if not len(there):
            continue
        chosen = there[np.unique(np.linspace(0, len(there) - 1, min(len(there), MOST_PICTURES)).astype(int))]
        grey = pictures(camera, chosen.tolist())[:, ::4, ::4].mean(-1)
        found["blank"] = max(found["blank"], float((grey.std((1, 2)) < BLANK).mean()))
        same = np.abs(np.diff(grey, axis=0)).mean((1, 2)) < SAME
        spans = np.diff(chosen)
        moved = np.array([moving[camera][a:b].any() for a, b in pairwise(chosen.tolist())], dtype=bool)
        longest = run = 0
        for frozen, span in zip(same & moved, spans.tolist(), strict=True):
            run = run + span if frozen else 0
            longest = max(longest, run)
        found["frozen"] = max(found["frozen"], longest / fps)
    return found


def _longest(flags: NDArray[np.bool_]) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(int), [0]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))
