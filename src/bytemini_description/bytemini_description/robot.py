"""One robot for the whole stack: the expanded URDF and `config/robot.yaml` as plain numbers.

Names, frames, masses and the limits of position, velocity and effort come from the URDF and are repeated nowhere;
`config/robot.yaml` adds what a URDF cannot say.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from bytemini_description.bytewrist import project_to_disc

PACKAGE = "bytemini_description"
VERSIONS = ("v1", "v2")
HARDWARE = ("mock", "gazebo", "real")
SIDES = ("left", "right")
BASE_COLUMNS = ("base/x", "base/y", "base/yaw")

Array = NDArray[np.float64]


class RobotDescriptionError(ValueError):
    """The description is missing or malformed; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True, eq=False)
class RobotModel:
    """A ByteMini in numbers. Arrays are read-only and follow `joint_names`; units are SI, radians.

    Attributes:
        version: "v1" or "v2".
        urdf: the expanded URDF.
        joint_names: the 19 actuated joints: lift, head yaw and pitch, left arm and gripper, right arm and gripper.
        lower, upper: (19,) position limits, from the URDF.
        velocity, effort: (19,) limits, from the URDF.
        acceleration, jerk: (19,) limits.
        home: (19,) rest posture.
        stiffness, damping: (19,) gains of the actuators' PD law.
        armature: (19,) reflected rotor inertia.
        base_velocity, base_acceleration, base_jerk, base_policy_velocity, base_effort: (3,) limits of vx, vy, wz.
        base_armature: inertia of the base's drives, kg and kg m^2.
        policy_columns: the 19 columns of a policy's rollout.
        wrist_tilt_limit: radius of the disc that (pitch, roll) of each wrist stays in.
        payload: what one arm carries, kg.
        cameras: per camera fovy (deg), near and far (m).
        contact: per kind of surface the sliding, torsional and rolling friction.
    """

    version: str
    urdf: str = field(repr=False)
    joint_names: tuple[str, ...]
    lower: Array
    upper: Array
    velocity: Array
    effort: Array
    acceleration: Array
    jerk: Array
    home: Array
    stiffness: Array
    damping: Array
    armature: Array
    base_velocity: Array
    base_acceleration: Array
    base_jerk: Array
    base_policy_velocity: Array
    base_effort: Array
    base_armature: float
    policy_columns: tuple[str, ...]
    wrist_tilt_limit: float
    payload: float
    cameras: Mapping[str, Mapping[str, float]]
    contact: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
        object.__setattr__(self, "_index", {name: i for i, name in enumerate(self.joint_names)})
        pairs = [[f"{side}_wrist_{axis}_joint" for axis in ("pitch", "roll")] for side in SIDES]
        object.__setattr__(self, "_wrists", np.array([self.indices(pair) for pair in pairs]))

    def indices(self, names: Iterable[str]) -> NDArray[np.intp]:
        """Where `names` are in `joint_names`.

        Raises:
            KeyError: a name is not an actuated joint.
        """
        index: dict[str, int] = self._index  # type: ignore[attr-defined]
        try:
            return np.array([index[name] for name in names], dtype=np.intp)
        except KeyError as error:
            raise KeyError(
                f"{error.args[0]} is not an actuated joint, expected one of {', '.join(self.joint_names)}"
            ) from None

    def arm_joints(self, side: str) -> tuple[str, ...]:
        """The 7 joints of the "left" or "right" arm, from the shoulder to the wrist."""
        start = self.joint_names.index(f"{_checked_side(side)}_shoulder_pitch_joint")
        return self.joint_names[start : start + 7]

    def gripper_joint(self, side: str) -> str:
        """The gripper joint of the "left" or "right" hand."""
        return f"{_checked_side(side)}_gripper_joint"

    def clamp_wrist(self, position: ArrayLike) -> Array:
        """A copy of `position` (19,) with (pitch, roll) of each wrist brought radially into the disc."""
        clamped = np.array(position, dtype=np.float64)
        wrists: NDArray[np.intp] = self._wrists  # type: ignore[attr-defined]
        clamped[wrists] = project_to_disc(clamped[wrists], self.wrist_tilt_limit)
        return clamped


def share_directory() -> Path:
    """Where `urdf/` and `config/` are: the source tree, or else an installed prefix.

    Raises:
        RobotDescriptionError: in none of them.
    """
    prefixes = [entry for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    candidates = [Path(__file__).resolve().parent.parent]
    candidates += [Path(prefix) / "share" / PACKAGE for prefix in (*prefixes, sys.prefix)]
    for candidate in candidates:
        if (candidate / "urdf" / "bytemini.urdf.xacro").is_file():
            return candidate
    raise RobotDescriptionError(
        f"urdf/bytemini.urdf.xacro of {PACKAGE} is in none of {', '.join(map(str, candidates))}: "
        "source install/setup.bash, or build the workspace"
    )


def expand_urdf(version: str, hardware: str = "mock", path: Path | None = None, **arguments: str) -> str:
    """Expand the xacro.

    Args:
        version: "v1" or "v2".
        hardware: which ros2_control system the joints belong to: "mock", "gazebo" or "real".
        path: the xacro file; None for the package's own.
        arguments: further xacro arguments.

    Raises:
        RobotDescriptionError: unknown version or hardware, or a file that does not expand.
    """
    _expect("robot version", version, VERSIONS)
    _expect("hardware", hardware, HARDWARE)
    path = path or share_directory() / "urdf" / "bytemini.urdf.xacro"
    # Imported here: it costs 50 ms, and who has the URDF already does not need it.
    import xacro

    try:
        document = xacro.process_file(str(path), mappings={"version": version, "hardware": hardware, **arguments})
    except Exception as error:  # xacro raises whatever the expressions in the file raise
        raise RobotDescriptionError(
            f"{path} does not expand: {' '.join(str(error).split())}; mend the file or check it out again"
        ) from error
    text: str = document.toxml()
    return text


@functools.cache
def load_robot(version: str) -> RobotModel:
    """The robot of that version ("v1" or "v2"), read once per process.

    Raises:
        RobotDescriptionError: unknown version, or a description that is missing or malformed.
    """
    _expect("robot version", version, VERSIONS)
    share = share_directory()
    return build_robot(version, expand_urdf(version), share / "config" / "robot.yaml")


def build_robot(version: str, urdf: str, config: Path) -> RobotModel:
    """Put a URDF and a configuration file together.

    Args:
        version: which of the configuration's `versions` it is.
        urdf: the expanded URDF.
        config: path of the configuration.

    Raises:
        RobotDescriptionError: either is malformed, or they do not fit each other.
    """
    limits = _read_limits(urdf)
    names = tuple(limits)
    reader = _Config(config)
    per_joint = {
        key: np.array([reader.number("joints", _stem(name), key) for name in names])
        for key in ("acceleration", "jerk", "home", "stiffness", "damping", "armature")
    }
    lower, upper, velocity, effort = np.array(list(limits.values())).T
    outside = (per_joint["home"] < lower) | (per_joint["home"] > upper)
    if outside.any():
        worst = int(np.argmax(outside))
        raise RobotDescriptionError(
            f"{config}: joints.{_stem(names[worst])}.home is {per_joint['home'][worst]}, expected within the URDF's "
            f"[{lower[worst]}, {upper[worst]}]; mend either"
        )
    columns = tuple(reader.strings("policy_columns"))
    unknown = [column for column in columns if column not in (*names, *BASE_COLUMNS)]
    if unknown or len(set(columns)) != len(columns):
        raise RobotDescriptionError(
            f"{config}: policy_columns holds {', '.join(unknown) or 'a name twice'}, "
            f"expected each actuated joint or {', '.join(BASE_COLUMNS)} at most once; mend the file"
        )
    return RobotModel(
        version=version,
        urdf=urdf,
        joint_names=names,
        lower=np.ascontiguousarray(lower),
        upper=np.ascontiguousarray(upper),
        velocity=np.ascontiguousarray(velocity),
        effort=np.ascontiguousarray(effort),
        base_velocity=reader.vector("base", "velocity"),
        base_acceleration=reader.vector("base", "acceleration"),
        base_jerk=reader.vector("base", "jerk"),
        base_policy_velocity=reader.vector("base", "policy_velocity"),
        base_effort=reader.vector("base", "effort"),
        base_armature=reader.number("base", "armature"),
        policy_columns=columns,
        wrist_tilt_limit=reader.number("wrist_tilt_limit"),
        payload=reader.number("versions", version, "payload"),
        cameras={
            camera: {key: reader.number("cameras", camera, key) for key in ("fovy", "near", "far")}
            for camera in reader.mapping("cameras")
        },
        contact={kind: tuple(reader.vector("contact", kind).tolist()) for kind in reader.mapping("contact")},
        **per_joint,
    )


def _expect(what: str, value: str, expected: tuple[str, ...]) -> None:
    if value not in expected:
        raise RobotDescriptionError(f"{what} is {value!r}, expected {' or '.join(expected)}")


def _checked_side(side: str) -> str:
    if side not in SIDES:
        raise ValueError(f"side is {side!r}, expected left or right")
    return side


def _stem(joint: str) -> str:
    """`left_elbow_joint` -> `elbow`: both sides share one entry of the configuration."""
    return joint.removeprefix("left_").removeprefix("right_").removesuffix("_joint")


def _read_limits(urdf: str) -> dict[str, tuple[float, float, float, float]]:
    """Actuated joints in document order: lower, upper, velocity, effort."""
    try:
        root = ElementTree.fromstring(urdf)
    except ElementTree.ParseError as error:
        raise RobotDescriptionError(f"the URDF is not XML: {error}; expand it again from the xacro") from error
    limits = {}
    for joint in root.findall("joint"):
        name, kind = joint.get("name", ""), joint.get("type")
        if kind == "fixed" or joint.find("mimic") is not None:
            continue
        limit = joint.find("limit")
        try:
            if limit is None:
                raise KeyError("limit")
            values = tuple(float(limit.attrib[key]) for key in ("lower", "upper", "velocity", "effort"))
        except (KeyError, ValueError) as error:
            raise RobotDescriptionError(
                f"the URDF's joint {name} has no usable {error}: expected <limit> with numbers for lower, upper, "
                "velocity and effort; mend it in urdf/"
            ) from error
        if not all(map(math.isfinite, values)) or values[0] > values[1] or min(values[2:]) <= 0:
            raise RobotDescriptionError(
                f"the URDF's joint {name} has limits {values}, expected finite lower <= upper and positive velocity "
                "and effort; mend it in urdf/"
            )
        limits[name] = (values[0], values[1], values[2], values[3])
    if not limits:
        raise RobotDescriptionError("the URDF has no actuated joint; expand it again from urdf/bytemini.urdf.xacro")
    return limits


class _Config:
    """`robot.yaml` with the door where bad content is refused."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.root = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RobotDescriptionError(
                f"{path} cannot be read: {' '.join(str(error).split())}; mend the file or check it out again"
            ) from error

    def get(self, *keys: str) -> Any:
        node = self.root
        for key in keys:
            if not isinstance(node, dict) or key not in node:
                raise RobotDescriptionError(f"{self.path}: {'.'.join(keys)} is missing; add it")
            node = node[key]
        return node

    def number(self, *keys: str) -> float:
        value = self.get(*keys)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise RobotDescriptionError(f"{self.path}: {'.'.join(keys)} is {value!r}, expected a number of at least 0")
        return float(value)

    def vector(self, *keys: str) -> Array:
        value = self.get(*keys)
        if not isinstance(value, list) or len(value) != 3 or not all(isinstance(v, (int, float)) for v in value):
            raise RobotDescriptionError(f"{self.path}: {'.'.join(keys)} is {value!r}, expected three numbers")
        if not all(math.isfinite(v) and v > 0 for v in value):
            raise RobotDescriptionError(f"{self.path}: {'.'.join(keys)} is {value!r}, expected positive numbers")
        return np.array(value, dtype=np.float64)

    def strings(self, *keys: str) -> list[str]:
        value = self.get(*keys)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise RobotDescriptionError(f"{self.path}: {'.'.join(keys)} is {value!r}, expected a list of names")
        return value

    def mapping(self, *keys: str) -> dict[str, Any]:
        value = self.get(*keys)
        if not isinstance(value, dict):
            raise RobotDescriptionError(f"{self.path}: {'.'.join(keys)} is {value!r}, expected a mapping")
        return value
