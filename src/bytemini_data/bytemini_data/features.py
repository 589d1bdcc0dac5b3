"""What a ByteMini dataset holds per frame and per episode, for robots and people alike.

Names follow LeRobot. A frame at time t holds what was seen and measured at t; `action` is where the robot should be
one frame later, in the same numbers as `observation.state`, so that row i of a policy's chunk (due at t + (i + 1) dt)
is `action` i frames after t. Base targets are absolute (odom): a policy's base columns are relative to the base pose
at its stamp, and `policy_chunk` makes them so.

People (GR-3 report, section 3.3) have hands and a head but no joints: their numbers of joints are 0 and marked invalid,
wrist views are blank and marked missing. Hand and head poses of either embodiment are in one fixed frame (odom, or the
headset's floor), so that a learner may put both in the head's frame.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from bytemini_core.types import BASE_COLUMNS, CAMERAS, SIDES, Array, Mode, RobotState, TaskStatus
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray

from bytemini_data.lerobot.schema import Feature, Schema

IMAGE = "observation.images."
STATE = "observation.state"
VELOCITY = "observation.velocity"
EFFORT = "observation.effort"
WRENCH = "observation.wrench"
HANDS = "observation.hands"
HEAD = "observation.head"
VALID = "observation.valid"
OFFSET = "observation.camera_offset"
ACTION = "action"
TWIST = "action.base_twist"
TASK_STATUS = "task_status"
INTERVENTION = "intervention"
RETRY = "retry_keyframe"
EMBODIMENT = "embodiment"
MODE = "mode"
QUALITY = "quality"
SUCCESS = "next.success"
DONE = "next.done"

POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
AXES = ("x", "y", "z")
ODOM = ("odom/x", "odom/y", "odom/yaw")
MASKS = ("joints", "left_hand", "right_hand", *CAMERAS)
"""Numbers of `observation.valid`: whether joints, hands and pictures of this frame are real."""

EPISODE_FIELDS: dict[str, str] = {
    "success": "bool",
    "embodiment": "string",
    "operator": "string",
    "verdict": "string",
    "quality": "string",
    "configuration": "string",
    "card": "string",
    "source": "string",
    "drops": "string",
}
"""Fields of an episode: the judgement of the task; who; the verdict on its quality and the measures behind it (JSON);
the plan's configuration (JSON, "" for none); the scene card (JSON); its origin; frames dropped per camera (JSON)."""

HEAD_FRAME = "head_camera_optical_frame"


class Embodiment(StrEnum):
    """Whose motion it is."""

    ROBOT = "robot"
    HUMAN = "human"


@dataclass(frozen=True)
class Moment:
    """What is known of one frame, before it becomes numbers in columns.

    Attributes:
        images: camera to RGB (H, W, 3) uint8; a camera that is missing is marked so.
        state: joints and base; None for a person.
        target: (22,) joints in the robot's order, then x, y, yaw in odom: where to be one frame later.
        base_twist: (3,) commanded vx, vy, wz in base_footprint.
        wrenches: side to (6,) force and torque on the wrist.
        hands: side to pose (7,) in the fixed frame; None to take them from the state.
        head: (7,) pose of the head camera in the fixed frame; None to take it from the state.
        offsets: camera to seconds by which its picture was taken after the frame's time.
    """

    images: Mapping[str, NDArray[np.uint8]]
    state: RobotState | None = None
    target: Array | None = None
    base_twist: Array = field(default_factory=lambda: np.zeros(3))
    wrenches: Mapping[str, Array] = field(default_factory=dict)
    hands: Mapping[str, Array] | None = None
    head: Array | None = None
    offsets: Mapping[str, float] = field(default_factory=dict)
    task_status: TaskStatus = TaskStatus.ONGOING
    mode: str = Mode.HOLD.value
    intervention: bool = False
    retry: bool = False


class Layout:
    """Turns moments of a robot, or of a person beside it, into frames of a dataset."""

    def __init__(self, robot: RobotModel, image_size: tuple[int, int], fps: int) -> None:
        """Prepare. `image_size`: (height, width), both even; `fps`: frames per second."""
        self.robot = robot
        self.image_size = image_size
        self.fps = fps

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the numbers of `observation.state` and `action`."""
        return (*self.robot.joint_names, *ODOM)

    @cached_property
    def schema(self) -> Schema:
        """The dataset's."""
        joints, columns = self.robot.joint_names, self.columns
        height, width = self.image_size
        features = {f"{IMAGE}{camera}": Feature("video", (height, width, 3)) for camera in CAMERAS}
        vectors: dict[str, Sequence[str]] = {
            STATE: columns,
            VELOCITY: (*joints, "base/vx", "base/vy", "base/wz"),
            EFFORT: joints,
            WRENCH: [f"{side}_{kind}/{axis}" for side in SIDES for kind in ("force", "torque") for axis in AXES],
            HANDS: [f"{side}_hand/{part}" for side in SIDES for part in POSE],
            HEAD: [f"head/{part}" for part in POSE],
            OFFSET: CAMERAS,
            ACTION: columns,
            TWIST: ("base/vx", "base/vy", "base/wz"),
        }
        features |= {name: Feature("float32", (len(names),), tuple(names)) for name, names in vectors.items()}
        features[VALID] = Feature("bool", (len(MASKS),), MASKS)
        features[TASK_STATUS] = Feature("int64")
        features |= {name: Feature("bool") for name in (INTERVENTION, RETRY, SUCCESS, DONE)}
        features |= {name: Feature("string") for name in (EMBODIMENT, MODE)}
        features[QUALITY] = Feature("float32")
        return Schema(self.fps, features, f"bytemini_{self.robot.version}", EPISODE_FIELDS)

    @cached_property
    def _kinematics(self) -> Kinematics:
        return Kinematics(self.robot)

    def frame(self, moment: Moment) -> dict[str, Any]:
        """The frame of a moment. Quality, success and done are the episode's: see `conclude`.

        Raises:
            ValueError: a joint is missing, or a picture has another size.
        """
        state, robot = moment.state, self.robot
        n = len(robot.joint_names)
        frame: dict[str, Any] = {
            STATE: np.zeros(n + 3),
            VELOCITY: np.zeros(n + 3),
            EFFORT: np.zeros(n),
            ACTION: np.zeros(n + 3),
        }
        hands, head = moment.hands or {}, moment.head
        if state is not None:
            order = _order(state.names, robot.joint_names)
            position = state.position[order]
            frame[STATE] = np.concatenate((position, state.base_pose))
            frame[VELOCITY] = np.concatenate((state.velocity[order], state.base_twist))
            frame[EFFORT] = state.effort[order]
            frame[ACTION] = frame[STATE] if moment.target is None else moment.target
            if moment.hands is None:
                hands = {s: _pose(self._kinematics.forward(f"{s}_tcp", position, state.base_pose)) for s in SIDES}
            if head is None:
                head = _pose(self._kinematics.forward(HEAD_FRAME, position, state.base_pose))
        nowhere = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
        frame[HANDS] = np.concatenate([hands.get(side, nowhere) for side in SIDES])
        frame[HEAD] = nowhere if head is None else head
        frame[WRENCH] = np.concatenate([moment.wrenches.get(side, np.zeros(6)) for side in SIDES])
        frame[TWIST] = moment.base_twist
        blank = np.zeros((*self.image_size, 3), dtype=np.uint8)
        for camera in CAMERAS:
            frame[f"{IMAGE}{camera}"] = moment.images.get(camera, blank)
        seen = [camera in moment.images for camera in CAMERAS]
        frame[VALID] = np.array([state is not None, *(side in hands for side in SIDES), *seen])
        frame[OFFSET] = np.array([moment.offsets.get(camera, 0.0) for camera in CAMERAS])
        frame[TASK_STATUS] = int(moment.task_status)
        frame[INTERVENTION], frame[RETRY] = moment.intervention, moment.retry
        frame[EMBODIMENT] = (Embodiment.HUMAN if state is None else Embodiment.ROBOT).value
        frame[MODE] = moment.mode
        frame[QUALITY], frame[SUCCESS], frame[DONE] = 0.0, False, False
        return frame

    def modality(self) -> dict[str, Any]:
        """meta/modality.json: where the parts of state and action are, as Isaac-GR00T's tools read it."""
        joints = self.robot.joint_names
        parts: dict[str, tuple[int, int]] = {}
        for side in SIDES:
            arm = self.robot.indices(self.robot.arm_joints(side))
            gripper = joints.index(self.robot.gripper_joint(side))
            parts[f"{side}_arm"] = (int(arm[0]), int(arm[-1]) + 1)
            parts[f"{side}_gripper"] = (gripper, gripper + 1)
        torso = [i for i, name in enumerate(joints) if not name.startswith(SIDES)]
        parts["lift_and_head"] = (torso[0], torso[-1] + 1)
        parts["base"] = (len(joints), len(joints) + 3)
        spans = {name: {"start": start, "end": end} for name, (start, end) in parts.items()}
        return {
            "state": {name: {**span, "original_key": STATE} for name, span in spans.items()},
            "action": {name: {**span, "original_key": ACTION} for name, span in spans.items()},
            "video": {camera: {"original_key": f"{IMAGE}{camera}"} for camera in CAMERAS},
            "annotation": {"human.task_description": {"original_key": "task_index"}},
        }


def conclude(columns: dict[str, NDArray[Any]], success: bool, quality: float) -> None:
    """Fill in what is known only when an episode has ended, in place: `quality` in [0, 1], success, the last frame."""
    columns[QUALITY] = np.full_like(columns[QUALITY], quality)
    columns[SUCCESS] = np.zeros_like(columns[SUCCESS])
    columns[DONE] = np.zeros_like(columns[DONE])
    columns[SUCCESS][-1] = success
    columns[DONE][-1] = True


def policy_chunk(
    state: NDArray[Any], actions: NDArray[Any], names: Sequence[str], columns: Sequence[str]
) -> NDArray[np.float32]:
    """What a policy should emit: actions in its columns, the base relative to where it stands.

    Args:
        state: (22,) `observation.state` of the frame that the policy sees.
        actions: (k, 22) `action` from that frame on.
        names: of the numbers of both.
        columns: the policy's, e.g. `RobotModel.policy_columns`; base columns are `BASE_COLUMNS`.

    Returns:
        (k, len(columns)).

    Raises:
        ValueError: a column is none of the names.
    """
    place = {name: i for i, name in enumerate(names)}
    x, y, yaw = (place[name] for name in ODOM)
    dx, dy = actions[:, x] - state[x], actions[:, y] - state[y]
    cos, sin = np.cos(state[yaw]), np.sin(state[yaw])
    turn = actions[:, yaw] - state[yaw]
    base = dict(
        zip(
            BASE_COLUMNS,
            (cos * dx + sin * dy, cos * dy - sin * dx, np.arctan2(np.sin(turn), np.cos(turn))),
            strict=True,
        )
    )
    if unknown := [name for name in columns if name not in base and name not in place]:
        raise ValueError(f"the dataset has no column {unknown[0]!r}, expected {', '.join((*names, *BASE_COLUMNS))}")
    chosen = [base[name] if name in base else actions[:, place[name]] for name in columns]
    return np.stack(chosen, axis=1).astype(np.float32)


def as_json(value: Any) -> str:
    """One line of JSON, for a field of an episode."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)


def _order(names: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    place = {name: i for i, name in enumerate(names)}
    if missing := [name for name in wanted if name not in place]:
        raise ValueError(f"the state lacks joint {missing[0]}")
    return [place[name] for name in wanted]


def _pose(matrix: Array) -> Array:
    """(7,) x, y, z, qx, qy, qz, qw of a 4x4 transform; qw not negative."""
    from scipy.spatial.transform import Rotation

    quaternion = Rotation.from_matrix(matrix[:3, :3]).as_quat(canonical=True)
    return np.concatenate((matrix[:3, 3], quaternion))
