"""Plain twins of the messages in `bytemini_msgs`: what the cores pass to one another.

Nothing here knows of ROS, wall clocks or threads. Stamps are integer nanoseconds of the clock in force (simulated or
real), and are the time of *measurement* (states, images, chunks) or the time something is *for* (references,
commands). Units are SI, angles radians, axes REP-103; quaternions are (x, y, z, w).

Every type refuses bad content when it is built (`ValueError` with what was wrong and what was expected), so that a
value of one of these types can be trusted: right shapes, finite numbers, unique names.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIDES = ("left", "right")
CAMERAS = ("head", "left_wrist", "right_wrist")
BASE_COLUMNS = ("base/x", "base/y", "base/yaw")
"""Columns of an `ActionChunk` that displace the base: m, m, rad in the base frame at the chunk's stamp."""

NANOSECONDS = 1_000_000_000

OBSERVATION_PERIOD = 0.1
"""Seconds between the observations that a policy is asked with, where nothing else is said."""


class TaskStatus(IntEnum):
    """The task status a policy predicts beside its actions (GR-3 report, section 3.1)."""

    INVALID = -1
    ONGOING = 0
    TERMINATED = 1


class Mode(StrEnum):
    """Who owns the robot. `HOLD` at start and after any fault; `ESTOP` is latched until an explicit reset."""

    HOLD = "HOLD"
    TELEOP = "TELEOP"
    POLICY = "POLICY"
    ESTOP = "ESTOP"


def _vector(owner: str, name: str, value: object, length: int) -> Array:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != (length,):
        raise ValueError(f"{owner}.{name} has shape {array.shape}, expected ({length},)")
    # The scalar product is finite only if every number is (and it costs a quarter of asking each): else ask each.
    if not math.isfinite(array.dot(array)) and not np.isfinite(array).all():
        index = int(np.argmin(np.isfinite(array)))
        raise ValueError(f"{owner}.{name} holds a number that is not finite at index {index}")
    return array


@functools.lru_cache(maxsize=256)
def _checked_names(owner: str, names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{owner}.names holds {', '.join(twice)} more than once")
    return names


def _unique(owner: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return _checked_names(owner, tuple(names))


@dataclass(frozen=True, slots=True)
class RobotState:
    """What the robot measures at one instant (proprioception).

    `names`, `position`, `velocity`, `effort`: the n joints of /joint_states (rad or m, their rate, Nm or N).
    `base_pose`: (x, y, yaw) of base_footprint in odom. `base_twist`: (vx, vy, wz) in base_footprint.
    """

    stamp: int
    names: tuple[str, ...]
    position: Array
    velocity: Array
    effort: Array
    base_pose: Array = field(default_factory=lambda: np.zeros(3))
    base_twist: Array = field(default_factory=lambda: np.zeros(3))

    def __post_init__(self) -> None:
        n = len(_unique("RobotState", self.names))
        for name, length in (("position", n), ("velocity", n), ("effort", n), ("base_pose", 3), ("base_twist", 3)):
            object.__setattr__(self, name, _vector("RobotState", name, getattr(self, name), length))


@dataclass(frozen=True, slots=True)
class ActionChunk:
    """k future targets predicted from one observation (GR-3 report, section 2: a_{t:t+k}).

    Row i is where the columns should be at `stamp` + (i + 1) * `dt`; `stamp` is the time of the observation.
    `names`: one per column: joint names (rad, m), `BASE_COLUMNS`, or Cartesian columns (`left_hand/x` ...).
    The consumer goes by name, never by position. k = 0 is a policy's word that it is alive and wants no motion.
    `task_status`, `confidence`: (k,), the predicted status of each row and its confidence in [0, 1].
    `inference_time`: seconds the policy took. `sequence` counts the chunks of one task from 0.
    """

    stamp: int
    sequence: int
    names: tuple[str, ...]
    dt: float
    values: NDArray[np.float32]
    task_status: NDArray[np.int8]
    confidence: NDArray[np.float32]
    instruction: str = ""
    policy: str = ""
    inference_time: float = 0.0

    def __post_init__(self) -> None:
        names = _unique("ActionChunk", self.names)
        values = np.asarray(self.values, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != len(names):
            raise ValueError(f"ActionChunk.values has shape {values.shape}, expected (k, {len(names)})")
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(f"ActionChunk.values is not finite at row {row}, column {names[column]}")
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise ValueError(f"ActionChunk.dt is {self.dt}, expected a positive number of seconds")
        status = np.asarray(self.task_status, dtype=np.int8)
        confidence = np.asarray(self.confidence, dtype=np.float32)
        if status.shape != (len(values),) or confidence.shape != (len(values),):
            raise ValueError(
                f"ActionChunk has {len(values)} rows, {status.shape} task_status and {confidence.shape} confidence"
            )
        if not np.isin(status, [int(s) for s in TaskStatus]).all():
            raise ValueError(f"ActionChunk.task_status holds {sorted(set(status.tolist()))}, expected -1, 0 or 1")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "task_status", status)
        object.__setattr__(self, "confidence", confidence)

    @property
    def horizon(self) -> int:
        """Number of rows k."""
        return len(self.values)


@dataclass(frozen=True, slots=True)
class HandReference:
    """A Cartesian target of one hand: `frame` ("left_tcp", "right_tcp") in odom.

    `pose`: (x, y, z, qx, qy, qz, qw). `twist`: (vx, vy, vz, wx, wy, wz) in odom axes. `wrench`: the force and torque
    (N, Nm, odom axes) the hand should exert, 0 for none. `stiffness`: (6,) N/m and Nm/rad, 0 where the controller's own
    holds.
    """

    frame: str
    pose: Array
    twist: Array = field(default_factory=lambda: np.zeros(6))
    wrench: Array = field(default_factory=lambda: np.zeros(6))
    stiffness: Array = field(default_factory=lambda: np.zeros(6))

    def __post_init__(self) -> None:
        for name, length in (("pose", 7), ("twist", 6), ("wrench", 6), ("stiffness", 6)):
            object.__setattr__(self, name, _vector("HandReference", name, getattr(self, name), length))
        norm = float(np.linalg.norm(self.pose[3:]))
        if abs(norm - 1.0) > 1e-3:
            raise ValueError(f"HandReference.pose of {self.frame} has a quaternion of norm {norm:.4f}, expected 1")


@dataclass(frozen=True, slots=True)
class BaseReference:
    """Where the base should be: `pose` (x, y, yaw) in odom, `twist` (vx, vy, wz) in base_footprint, feed-forward.

    A reference that steers by twist alone (teleoperation) has `pose` None.
    """

    pose: Array | None
    twist: Array

    def __post_init__(self) -> None:
        if self.pose is not None:
            object.__setattr__(self, "pose", _vector("BaseReference", "pose", self.pose, 3))
        object.__setattr__(self, "twist", _vector("BaseReference", "twist", self.twist, 3))


@dataclass(frozen=True, slots=True)
class WholeBodyReference:
    """What the whole body should do at `stamp`: any mixture of joint, base and hand targets.

    `source` is the mode the sender speaks for (`Mode.POLICY`, `Mode.TELEOP`); the WBC takes it only from the owner.
    Joints not named keep their last target. Nothing named, no base and no hands: hold.
    """

    stamp: int
    source: Mode
    names: tuple[str, ...] = ()
    position: Array = field(default_factory=lambda: np.zeros(0))
    velocity: Array = field(default_factory=lambda: np.zeros(0))
    acceleration: Array = field(default_factory=lambda: np.zeros(0))
    base: BaseReference | None = None
    hands: tuple[HandReference, ...] = ()

    def __post_init__(self) -> None:
        n = len(_unique("WholeBodyReference", self.names))
        for name in ("position", "velocity", "acceleration"):
            object.__setattr__(self, name, _vector("WholeBodyReference", name, getattr(self, name), n))


@dataclass(frozen=True, slots=True)
class JointCommand:
    """What the quasi-direct-drive actuators take: effort = stiffness (position - q) + damping (velocity - dq) + effort.

    All (n,) in the order of `names`: rad or m, their rates, Nm/rad or N/m, Nm s/rad or N s/m, Nm or N.
    `base_twist`: (vx, vy, wz) in base_footprint, what /cmd_vel carries. `stamp`: of the state it answers.
    """

    stamp: int
    names: tuple[str, ...]
    position: Array
    velocity: Array
    stiffness: Array
    damping: Array
    effort: Array
    base_twist: Array = field(default_factory=lambda: np.zeros(3))

    def __post_init__(self) -> None:
        n = len(_unique("JointCommand", self.names))
        for name in ("position", "velocity", "stiffness", "damping", "effort"):
            object.__setattr__(self, name, _vector("JointCommand", name, getattr(self, name), n))
        object.__setattr__(self, "base_twist", _vector("JointCommand", "base_twist", self.base_twist, 3))


@dataclass(frozen=True, slots=True)
class WbcStatus:
    """What the whole-body controller says of itself at each tick.

    `reason`: why it is in this mode ("" when nothing is wrong). `active`: constraints that bound this tick's motion.
    `sacrificed`: tasks that yielded. `refused`: inputs refused since the start.
    """

    stamp: int
    mode: Mode
    reason: str = ""
    active: tuple[str, ...] = ()
    sacrificed: tuple[str, ...] = ()
    solve_time: float = 0.0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class PowerState:
    """What a robot has left to give.

    `charge`: of the battery (percent). `power` (W), `current` (A): drawn from it. `names`, `temperature`: joints and
    the temperatures of their actuators (degrees Celsius).
    """

    stamp: int
    charge: float
    power: float
    current: float
    names: tuple[str, ...] = ()
    temperature: Array = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        n = len(_unique("PowerState", self.names))
        object.__setattr__(self, "temperature", _vector("PowerState", "temperature", self.temperature, n))
        _vector("PowerState", "charge, power, current", (self.charge, self.power, self.current), 3)


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One thing on the table, as the simulator knows it (privileged: no policy that looks may use it).

    `pose`: (x, y, z, qx, qy, qz, qw) of its frame in odom. `size`: (3,) edge lengths (m) of its bounding box, in its
    frame, which is centred on its frame. `shape`: "box", "cylinder", "sphere", "ellipsoid", "capsule" or "compound".
    `container`: objects can be put into it; then `size` is its outer box, open at +z.
    """

    name: str
    category: str
    color: str
    shape: str
    pose: Array
    size: Array
    container: bool = False


@dataclass(frozen=True, slots=True)
class SceneState:
    """Ground truth of the scene at `stamp`: simulation only."""

    stamp: int
    objects: tuple[SceneObject, ...]
    table_height: float

    def find(self, name: str) -> SceneObject | None:
        """The object called `name`, or None."""
        return next((item for item in self.objects if item.name == name), None)


@dataclass(frozen=True, slots=True)
class Observation:
    """What a policy infers from.

    `images`: camera name (`CAMERAS`) to RGB (H, W, 3) uint8, taken at `stamp`; empty for a policy that does not look.
    `scene`: ground truth for scripted experts in simulation, None otherwise.
    """

    stamp: int
    instruction: str
    state: RobotState
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    scene: SceneState | None = None


@dataclass(frozen=True, slots=True)
class PolicyMetadata:
    """What a policy says of itself. `cameras`: the views it needs. `privileged`: it reads the simulator's truth."""

    name: str
    columns: tuple[str, ...]
    horizon: int
    dt: float
    cameras: tuple[str, ...] = ()
    image_size: tuple[int, int] = (224, 224)
    privileged: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


class Policy(Protocol):
    """Anything that turns an observation into a chunk: learned, exported, scripted, replayed or remote."""

    @property
    def metadata(self) -> PolicyMetadata:
        """What it needs and what it emits; constant."""

    def reset(self) -> None:
        """Forget the last task; called before the first `infer` of every task."""

    def infer(
        self,
        observation: Observation,
        prefix: NDArray[np.float32] | None = None,
        noise: NDArray[np.float32] | None = None,
    ) -> ActionChunk:
        """Predict a chunk.

        Args:
            observation: what is known at its stamp.
            prefix: (m, columns) rows already committed to execution, to be continued; None for none.
            noise: (horizon, columns) initial noise of a generative policy; None to draw it.

        Raises:
            ValueError: the observation lacks what `metadata` says the policy needs.
        """
