"""The one place where plain types become messages and messages become plain types, and the table of QoS profiles.

Reading a message builds the plain type, whose constructor refuses bad content: a node that converts at the door needs
no other check for shapes and finite numbers.
"""

from __future__ import annotations

import array
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, TransformStamped, Twist, TwistStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState

from bytemini_core.join import StampJoin
from bytemini_core.types import (
    NANOSECONDS,
    ActionChunk,
    Array,
    BaseReference,
    HandReference,
    JointCommand,
    Mode,
    PowerState,
    RobotState,
    SceneObject,
    SceneState,
    WbcStatus,
    WholeBodyReference,
)
from bytemini_msgs.msg import ActionChunk as ActionChunkMsg
from bytemini_msgs.msg import HandReference as HandReferenceMsg
from bytemini_msgs.msg import JointCommand as JointCommandMsg
from bytemini_msgs.msg import PowerState as PowerStateMsg
from bytemini_msgs.msg import SceneObject as SceneObjectMsg
from bytemini_msgs.msg import SceneState as SceneStateMsg
from bytemini_msgs.msg import WbcStatus as WbcStatusMsg
from bytemini_msgs.msg import WholeBodyReference as WholeBodyReferenceMsg

SENSOR_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Images and fast state: the newest counts, a lost one is not sent again."""

COMMAND_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""References and commands."""

LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""Description, mode, task: whoever comes later still gets the last one."""

LOCKSTEP_QOS = QoSProfile(
    depth=400, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""Everything that a stage waits for in lock step: nothing may be lost, not even what was sent before it was found. Two
seconds of ticks: who only listens, nobody waits for, and a crowded machine may not let it run for that long."""

LOCKSTEP_IMAGE_QOS = QoSProfile(
    depth=20, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""The same two seconds of pictures."""


def sensor_qos(lockstep: bool) -> QoSProfile:
    """The profile of state: best effort in real time, reliable in lock step."""
    return LOCKSTEP_QOS if lockstep else SENSOR_QOS


def image_qos(lockstep: bool) -> QoSProfile:
    """The profile of images: as of state, but not as many are kept."""
    return LOCKSTEP_IMAGE_QOS if lockstep else SENSOR_QOS


def command_qos(lockstep: bool) -> QoSProfile:
    """The profile of chunks, references and commands."""
    return LOCKSTEP_QOS if lockstep else COMMAND_QOS


def to_time(stamp: int) -> Time:
    """Nanoseconds to builtin_interfaces/Time."""
    seconds, nanoseconds = divmod(stamp, NANOSECONDS)
    return Time(sec=seconds, nanosec=nanoseconds)


def from_time(time: Time) -> int:
    """builtin_interfaces/Time to nanoseconds."""
    return int(time.sec) * NANOSECONDS + int(time.nanosec)


def stamp_of(message: Any) -> int:
    """The stamp of a message with a header, nanoseconds."""
    return from_time(message.header.stamp)


def stamp_of_bytes(cdr: bytes) -> int:
    """The stamp of a serialised message that begins with a header or a time, nanoseconds, without reading the rest."""
    # After 4 bytes of encapsulation: seconds and nanoseconds, little-endian on every machine that runs this.
    seconds, nanoseconds = struct.unpack_from("<iI", cdr, 4)
    return int(seconds * NANOSECONDS + nanoseconds)


def _doubles(values: Array) -> array.array[float]:
    # array.array is what rosidl stores: handing it over spares a check of every element
    return array.array("d", np.ascontiguousarray(values, dtype=np.float64).tobytes())


def joint_state_message(state: RobotState) -> JointState:
    """The joints of a state as sensor_msgs/JointState."""
    message = JointState(
        name=list(state.names),
        position=_doubles(state.position),
        velocity=_doubles(state.velocity),
        effort=_doubles(state.effort),
    )
    message.header.stamp = to_time(state.stamp)
    return message


def odometry_message(state: RobotState) -> Odometry:
    """The base of a state as nav_msgs/Odometry, from odom to base_footprint."""
    message = Odometry(child_frame_id="base_footprint")
    message.header.frame_id = "odom"
    message.header.stamp = to_time(state.stamp)
    x, y, yaw = state.base_pose.tolist()
    position, orientation = message.pose.pose.position, message.pose.pose.orientation
    position.x, position.y = x, y
    orientation.z, orientation.w = float(np.sin(yaw / 2)), float(np.cos(yaw / 2))
    _set_planar(message.twist.twist, state.base_twist)
    return message


def odometry_transform(odometry: Odometry) -> TransformStamped:
    """The transform from odom to base_footprint that an odometry message tells, for /tf."""
    transform = TransformStamped(header=odometry.header, child_frame_id=odometry.child_frame_id)
    position, translation = odometry.pose.pose.position, transform.transform.translation
    translation.x, translation.y, translation.z = position.x, position.y, position.z
    transform.transform.rotation = odometry.pose.pose.orientation
    return transform


def robot_state(joints: JointState, odometry: Odometry) -> RobotState:
    """The state that two messages of one stamp tell.

    Raises:
        ValueError: lengths or numbers are wrong.
    """
    orientation, position = odometry.pose.pose.orientation, odometry.pose.pose.position
    yaw = 2.0 * np.arctan2(orientation.z, orientation.w)
    return RobotState(
        stamp=stamp_of(joints),
        names=tuple(joints.name),
        position=np.array(joints.position),
        velocity=np.array(joints.velocity),
        effort=np.array(joints.effort),
        base_pose=np.array([position.x, position.y, np.arctan2(np.sin(yaw), np.cos(yaw))]),
        base_twist=_planar(odometry.twist.twist),
    )


def joint_command_message(command: JointCommand) -> JointCommandMsg:
    """The joints of a command."""
    message = JointCommandMsg(
        names=list(command.names),
        position=_doubles(command.position),
        velocity=_doubles(command.velocity),
        stiffness=_doubles(command.stiffness),
        damping=_doubles(command.damping),
        effort=_doubles(command.effort),
    )
    message.header.stamp = to_time(command.stamp)
    return message


def base_twist_message(command: JointCommand) -> TwistStamped:
    """The base of a command, for /cmd_vel."""
    message = TwistStamped()
    message.header.stamp = to_time(command.stamp)
    message.header.frame_id = "base_footprint"
    _set_planar(message.twist, command.base_twist)
    return message


def joint_command(joints: JointCommandMsg, base: TwistStamped) -> JointCommand:
    """The command that two messages of one stamp tell.

    Raises:
        ValueError: lengths or numbers are wrong.
    """
    return JointCommand(
        stamp=stamp_of(joints),
        names=tuple(joints.names),
        position=np.array(joints.position),
        velocity=np.array(joints.velocity),
        stiffness=np.array(joints.stiffness),
        damping=np.array(joints.damping),
        effort=np.array(joints.effort),
        base_twist=_planar(base.twist),
    )


def chunk_message(chunk: ActionChunk) -> ActionChunkMsg:
    """A chunk as bytemini_msgs/ActionChunk."""
    message = ActionChunkMsg(
        sequence=chunk.sequence,
        names=list(chunk.names),
        dt=chunk.dt,
        rows=chunk.horizon,
        data=array.array("f", np.ascontiguousarray(chunk.values).tobytes()),
        task_status=array.array("b", chunk.task_status.tobytes()),
        confidence=array.array("f", chunk.confidence.tobytes()),
        instruction=chunk.instruction,
        policy=chunk.policy,
        inference_time=chunk.inference_time,
    )
    message.header.stamp = to_time(chunk.stamp)
    return message


def action_chunk(message: ActionChunkMsg) -> ActionChunk:
    """A chunk from bytemini_msgs/ActionChunk.

    Raises:
        ValueError: lengths, names or numbers are wrong.
    """
    data = np.array(message.data, dtype=np.float32)
    if data.size != message.rows * len(message.names):
        raise ValueError(
            f"ActionChunk.data has {data.size} numbers, expected {message.rows} rows x {len(message.names)} names"
        )
    return ActionChunk(
        stamp=stamp_of(message),
        sequence=int(message.sequence),
        names=tuple(message.names),
        dt=message.dt,
        values=data.reshape(message.rows, len(message.names)),
        task_status=np.array(message.task_status, dtype=np.int8),
        confidence=np.array(message.confidence, dtype=np.float32),
        instruction=message.instruction,
        policy=message.policy,
        inference_time=message.inference_time,
    )


def reference_message(reference: WholeBodyReference) -> WholeBodyReferenceMsg:
    """A reference as bytemini_msgs/WholeBodyReference."""
    message = WholeBodyReferenceMsg(
        source=reference.source.value,
        names=list(reference.names),
        position=_doubles(reference.position),
        velocity=_doubles(reference.velocity),
        acceleration=_doubles(reference.acceleration),
        has_base=reference.base is not None,
    )
    message.header.stamp = to_time(reference.stamp)
    message.header.frame_id = "odom"
    if reference.base is not None:
        _set_planar(message.base_twist, reference.base.twist)
        if reference.base.pose is not None:
            message.has_base_pose = True
            message.base_pose.x, message.base_pose.y, message.base_pose.theta = reference.base.pose.tolist()
    message.hands = [_hand_message(hand) for hand in reference.hands]
    return message


def whole_body_reference(message: WholeBodyReferenceMsg) -> WholeBodyReference:
    """A reference from bytemini_msgs/WholeBodyReference.

    Raises:
        ValueError: lengths, names, source or numbers are wrong.
    """
    base = None
    if message.has_base:
        pose = message.base_pose
        base = BaseReference(
            pose=np.array([pose.x, pose.y, pose.theta]) if message.has_base_pose else None,
            twist=_planar(message.base_twist),
        )
    return WholeBodyReference(
        stamp=stamp_of(message),
        source=Mode(message.source),
        names=tuple(message.names),
        position=np.array(message.position),
        velocity=np.array(message.velocity),
        acceleration=np.array(message.acceleration),
        base=base,
        hands=tuple(_hand(hand) for hand in message.hands),
    )


def wbc_status_message(status: WbcStatus) -> WbcStatusMsg:
    """The controller's status as bytemini_msgs/WbcStatus."""
    message = WbcStatusMsg(
        mode=status.mode.value,
        reason=status.reason,
        active=list(status.active),
        sacrificed=list(status.sacrificed),
        solve_time=status.solve_time,
        refused=status.refused,
    )
    message.header.stamp = to_time(status.stamp)
    return message


def power_message(power: PowerState) -> PowerStateMsg:
    """What the robot has left to give, as bytemini_msgs/PowerState."""
    message = PowerStateMsg(
        charge=power.charge,
        power=power.power,
        current=power.current,
        names=list(power.names),
        temperature=_doubles(power.temperature),
    )
    message.header.stamp = to_time(power.stamp)
    return message


def power_state(message: PowerStateMsg) -> PowerState:
    """What the robot has left to give, from bytemini_msgs/PowerState.

    Raises:
        ValueError: lengths, names or numbers are wrong.
    """
    return PowerState(
        stamp=stamp_of(message),
        charge=message.charge,
        power=message.power,
        current=message.current,
        names=tuple(message.names),
        temperature=np.array(message.temperature),
    )


def scene_message(scene: SceneState) -> SceneStateMsg:
    """Ground truth as bytemini_msgs/SceneState."""
    message = SceneStateMsg(table_height=scene.table_height)
    message.header.stamp = to_time(scene.stamp)
    message.header.frame_id = "odom"
    for item in scene.objects:
        entry = SceneObjectMsg(
            name=item.name, category=item.category, color=item.color, shape=item.shape, container=item.container
        )
        _set_pose(entry.pose, item.pose)
        entry.size.x, entry.size.y, entry.size.z = item.size.tolist()
        message.objects.append(entry)
    return message


def scene_state(message: SceneStateMsg) -> SceneState:
    """Ground truth from bytemini_msgs/SceneState."""
    return SceneState(
        stamp=stamp_of(message),
        objects=tuple(
            SceneObject(
                name=item.name,
                category=item.category,
                color=item.color,
                shape=item.shape,
                pose=_pose(item.pose),
                size=np.array([item.size.x, item.size.y, item.size.z]),
                container=item.container,
            )
            for item in message.objects
        ),
        table_height=message.table_height,
    )


def image_message(image: NDArray[np.uint8], stamp: int, frame: str) -> Image:
    """An RGB picture (H, W, 3) as sensor_msgs/Image (rgb8)."""
    height, width, _ = image.shape
    message = Image(
        height=height,
        width=width,
        encoding="rgb8",
        step=width * 3,
        data=array.array("B", np.ascontiguousarray(image).tobytes()),
    )
    message.header.stamp = to_time(stamp)
    message.header.frame_id = frame
    return message


def depth_message(depth: NDArray[np.float32], stamp: int, frame: str) -> Image:
    """A depth picture (H, W) in metres as sensor_msgs/Image in 16UC1 millimetres, as RealSense cameras send it."""
    height, width = depth.shape
    millimetres = np.clip(np.nan_to_num(depth, posinf=0.0) * 1000.0, 0, 65535).astype("<u2")
    message = Image(
        height=height, width=width, encoding="16UC1", step=width * 2, data=array.array("B", millimetres.tobytes())
    )
    message.header.stamp = to_time(stamp)
    message.header.frame_id = frame
    return message


def image_array(message: Image) -> NDArray[np.uint8]:
    """The RGB picture (H, W, 3) of a sensor_msgs/Image: a read-only view of the message's memory, no copy.

    Raises:
        ValueError: the encoding is not rgb8, or the size does not fit the data.
    """
    if message.encoding != "rgb8":
        raise ValueError(f"image is encoded as {message.encoding!r}, expected 'rgb8'")
    flat = np.frombuffer(message.data, dtype=np.uint8)
    if flat.size != message.height * message.width * 3:
        raise ValueError(f"image has {flat.size} bytes, expected {message.height} x {message.width} x 3")
    return flat.reshape(message.height, message.width, 3)


class StateSubscription:
    """Calls back with a RobotState once /joint_states and /odom of one stamp are there."""

    def __init__(
        self,
        node: Node,
        lockstep: bool,
        callback: Callable[[RobotState], None],
        on_refused: Callable[[str], None],
    ):
        """Subscribe.

        Args:
            node: the node that listens.
            lockstep: whether nothing may be lost.
            callback: takes the state.
            on_refused: takes the reason when a message is malformed.
        """
        self._join = StampJoin(("joints", "odometry"))
        self._callback, self._on_refused = callback, on_refused
        qos = sensor_qos(lockstep)
        node.create_subscription(JointState, "joint_states", lambda m: self._add("joints", m), qos)
        node.create_subscription(Odometry, "odom", lambda m: self._add("odometry", m), qos)

    def _add(self, name: str, message: Any) -> None:
        both: Mapping[str, Any] | None = self._join.add(name, stamp_of(message), message)
        if both is None:
            return
        try:
            state = robot_state(both["joints"], both["odometry"])
        except ValueError as error:
            self._on_refused(str(error))
            return
        self._callback(state)


def _planar(twist: Twist) -> Array:
    return np.array([twist.linear.x, twist.linear.y, twist.angular.z])


def _set_planar(twist: Twist, values: Array) -> None:
    twist.linear.x, twist.linear.y, twist.angular.z = values.tolist()


def _pose(pose: Pose) -> Array:
    p, q = pose.position, pose.orientation
    return np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])


def _set_pose(pose: Pose, values: Array) -> None:
    p, q = pose.position, pose.orientation
    p.x, p.y, p.z, q.x, q.y, q.z, q.w = values.tolist()


def _hand_message(hand: HandReference) -> HandReferenceMsg:
    message = HandReferenceMsg(frame=hand.frame, stiffness=hand.stiffness)
    _set_pose(message.pose, hand.pose)
    for target, values in (
        (message.twist.linear, hand.twist[:3]),
        (message.twist.angular, hand.twist[3:]),
        (message.wrench.force, hand.wrench[:3]),
        (message.wrench.torque, hand.wrench[3:]),
    ):
        target.x, target.y, target.z = values.tolist()
    return message


def _hand(message: HandReferenceMsg) -> HandReference:
    linear, angular = message.twist.linear, message.twist.angular
    force, torque = message.wrench.force, message.wrench.torque
    return HandReference(
        frame=message.frame,
        pose=_pose(message.pose),
        twist=np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]),
        wrench=np.array([force.x, force.y, force.z, torque.x, torque.y, torque.z]),
        stiffness=np.array(message.stiffness),
    )
