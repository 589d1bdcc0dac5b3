"""What is recorded of the running stack, and how messages become the moment of a frame.

Pictures are kept as JPEG, everything else as the bytes that were on the wire. Frames are made of what is kept, never of
what came in, so that converting a recording later gives the same frames.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from bytemini_core.ros import image_array, robot_state
from bytemini_core.types import CAMERAS, NANOSECONDS, SIDES, Mode, RobotState, TaskStatus
from geometry_msgs.msg import PoseArray, TwistStamped, WrenchStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from PIL import Image as Picture
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState

from bytemini_data.features import Layout, Moment
from bytemini_data.recorder.match import Slot
from bytemini_msgs.msg import (
    ActionChunk,
    EpisodeStatus,
    JointCommand,
    SceneState,
    WbcStatus,
    WholeBodyReference,
)
from bytemini_msgs.msg import TaskStatus as TaskStatusMsg

JPEG_QUALITY = 92

IMAGE_TOPICS = {camera: f"camera/{camera}/color/image_raw" for camera in CAMERAS}
KEPT_IMAGES = {topic: f"{topic}/compressed" for topic in IMAGE_TOPICS.values()}
"""Topic of raw pictures to the topic under which they are kept."""

JOINTS, ODOMETRY, COMMAND, TWIST = "joint_states", "odom", "joint_command", "cmd_vel"
REFERENCE, STATUS, MODE = "wbc/reference", "policy/task_status", "wbc/status"
HANDS = "human/hands"
RECORDER = "recorder/status"

TOPICS: dict[str, type] = {
    JOINTS: JointState,
    ODOMETRY: Odometry,
    COMMAND: JointCommand,
    TWIST: TwistStamped,
    REFERENCE: WholeBodyReference,
    STATUS: TaskStatusMsg,
    MODE: WbcStatus,
    "policy/action_chunk": ActionChunk,
    "sim/scene_state": SceneState,
    **{f"wrench/{side}": WrenchStamped for side in SIDES},
}
"""What is recorded beside pictures of a robot: topic without its leading slash, type."""

HUMAN_TOPICS: dict[str, type] = {HANDS: PoseArray}
"""What is recorded of a person instead: head, left and right hand in the headset's floor frame, in this order; a hand
that is not seen has a quaternion of 0."""

NEEDED = {"robot": (IMAGE_TOPICS["head"], JOINTS, ODOMETRY), "human": (IMAGE_TOPICS["head"], HANDS)}
"""What an episode cannot do without, by embodiment."""


def topics_of(human: bool) -> dict[str, type]:
    """What is recorded of this embodiment, beside pictures."""
    return HUMAN_TOPICS if human else TOPICS


def cameras_of(human: bool) -> tuple[str, ...]:
    """Cameras of this embodiment, the master clock first."""
    return CAMERAS[:1] if human else CAMERAS


def keep(topic: str, cdr: bytes) -> tuple[str, bytes]:
    """Under which topic and as which bytes a message is kept.

    Raises:
        ValueError: a picture is not rgb8 or is malformed.
    """
    if topic not in KEPT_IMAGES:
        return topic, cdr
    raw = deserialize_message(cdr, Image)
    stream = io.BytesIO()
    Picture.fromarray(image_array(raw)).save(stream, "JPEG", quality=JPEG_QUALITY)
    message = CompressedImage(header=raw.header, format="rgb8; jpeg compressed rgb8")
    message.data.frombytes(stream.getvalue())
    return KEPT_IMAGES[topic], bytes(serialize_message(message))


def kept_type(topic: str) -> type:
    """The type of a topic that is kept."""
    kinds: dict[str, type] = {**TOPICS, **HUMAN_TOPICS, RECORDER: EpisodeStatus}
    compressed: type = CompressedImage
    return kinds.get(topic, compressed)


def type_name(kind: type) -> str:
    """What ROS calls a message class: pkg/msg/Type."""
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"


def stream_of(topic: str) -> str | None:
    """The matcher's name of a kept topic; None for one that frames are not made of."""
    for camera, raw in IMAGE_TOPICS.items():
        if topic == KEPT_IMAGES[raw]:
            return camera
    return topic if topic in (JOINTS, ODOMETRY, COMMAND, TWIST, REFERENCE, STATUS, MODE, HANDS, *_WRENCHES) else None


_WRENCHES = tuple(f"wrench/{side}" for side in SIDES)


def streams_of(human: bool) -> tuple[str, ...]:
    """Streams of this embodiment beside cameras."""
    return tuple(topic for topic in topics_of(human) if stream_of(topic))


def picture_of(cdr: bytes) -> NDArray[np.uint8]:
    """The RGB picture of a kept one.

    Raises:
        ValueError: it is no picture.
    """
    message = deserialize_message(cdr, CompressedImage)
    try:
        with Picture.open(io.BytesIO(bytes(message.data))) as picture:
            return np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise ValueError(f"a picture cannot be read: {error}") from None


@dataclass
class Converter:
    """Makes frames of slots; remembers what holds from one to the next.

    Words that come more rarely than frames (task status, mode) hold until the next.
    """

    layout: Layout
    human: bool = False

    def __post_init__(self) -> None:
        self._status = TaskStatus.ONGOING
        self._mode = Mode.HOLD.value
        self._was_policy = False
        self._target: NDArray[np.float64] | None = None

    def frame(self, slot: Slot) -> dict[str, Any]:
        """The frame of a slot.

        Raises:
            ValueError: a message holds what it should not.
        """
        picks = slot.picks
        images, offsets = {}, {}
        for camera in cameras_of(self.human):
            if camera in picks:
                stamp, cdr = picks[camera]
                images[camera] = self._sized(picture_of(cdr))
                offsets[camera] = (stamp - slot.stamp) / NANOSECONDS
        if self.human:
            return self.layout.frame(self._person(picks, images, offsets))
        return self.layout.frame(self._robot(picks, images, offsets))

    def _person(self, picks: Mapping[str, Any], images: Any, offsets: Any) -> Moment:
        poses: list[NDArray[np.float64] | None] = [None, None, None]
        if HANDS in picks:
            found = [_pose_array(pose) for pose in deserialize_message(picks[HANDS][1], PoseArray).poses]
            if len(found) != 3:
                raise ValueError(f"{HANDS} holds {len(found)} poses, expected head, left hand, right hand")
            poses = list(found)
        head, *hands = poses
        seen = {side: hand for side, hand in zip(SIDES, hands, strict=True) if hand is not None}
        return Moment(images, hands=seen, head=head, offsets=offsets, mode="")

    def _robot(self, picks: Mapping[str, Any], images: Any, offsets: Any) -> Moment:
        state = self._state(picks, "")
        after = self._state(picks, " next")
        if MODE in picks:
            self._mode = deserialize_message(picks[MODE][1], WbcStatus).mode
        if STATUS in picks:
            self._status = TaskStatus(deserialize_message(picks[STATUS][1], TaskStatusMsg).status)
        self._was_policy |= self._mode == Mode.POLICY
        twist = np.zeros(3)
        if TWIST in picks:
            message = deserialize_message(picks[TWIST][1], TwistStamped).twist
            twist = np.array([message.linear.x, message.linear.y, message.angular.z])
        wrenches = {}
        for side in SIDES:
            if f"wrench/{side}" in picks:
                wrench = deserialize_message(picks[f"wrench/{side}"][1], WrenchStamped).wrench
                parts = (wrench.force, wrench.torque)
                wrenches[side] = np.array([value for part in parts for value in (part.x, part.y, part.z)])
        return Moment(
            images,
            state,
            None if state is None else self._action(picks, state, after),
            twist,
            wrenches,
            offsets=offsets,
            task_status=self._status,
            mode=self._mode,
            # A person who takes over from a policy corrects it: lerobot's word for that is intervention.
            intervention=self._was_policy and self._mode == Mode.TELEOP,
        )

    def _state(self, picks: Mapping[str, Any], when: str) -> RobotState | None:
        if JOINTS + when not in picks or ODOMETRY + when not in picks:
            return None
        joints = deserialize_message(picks[JOINTS + when][1], JointState)
        return robot_state(joints, deserialize_message(picks[ODOMETRY + when][1], Odometry))

    def _action(self, picks: Mapping[str, Any], state: RobotState, after: RobotState | None) -> NDArray[np.float64]:
        """Where to be one frame later: joints as they will have been commanded, the base where it was sent or came."""
        names = self.layout.robot.joint_names
        place = {name: i for i, name in enumerate(state.names)}
        joints = np.array([state.position[place[name]] for name in names])
        base = (after or state).base_pose
        key = COMMAND + " next" if COMMAND + " next" in picks else COMMAND
        if key in picks:
            message = deserialize_message(picks[key][1], JointCommand)
            commanded = dict(zip(message.names, message.position, strict=True))
            joints = np.array([commanded.get(name, joints[i]) for i, name in enumerate(names)])
        elif self._target is not None:
            joints = self._target[: len(names)]
        if REFERENCE + " next" in picks:
            reference = deserialize_message(picks[REFERENCE + " next"][1], WholeBodyReference)
            if reference.has_base and reference.has_base_pose:
                base = np.array([reference.base_pose.x, reference.base_pose.y, reference.base_pose.theta])
        self._target = np.concatenate((joints, base))
        return self._target

    def _sized(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self.layout.image_size
        if picture.shape[:2] == (height, width):
            return picture
        return np.asarray(Picture.fromarray(picture).resize((width, height), Picture.Resampling.BILINEAR))


def _pose_array(pose: Any) -> NDArray[np.float64] | None:
    p, q = pose.position, pose.orientation
    values = np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])
    norm = float(np.linalg.norm(values[3:]))
    if not np.isfinite(values).all() or norm < 0.5:
        return None
    values[3:] /= norm
    return values
