"""Which processes run, with which parameters, under which conditions: once, as data.

`launch/bytemini.launch.py` turns it into `launch_ros` actions, `bytemini_bringup.processes` into plain processes where
no `ros2 launch` is installed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from bytemini_core.types import CAMERAS, OBSERVATION_PERIOD
from bytemini_description.robot import VERSIONS, expand_urdf, load_robot
from gr3_policy_node.backends import policies

from bytemini_bringup.ready import Ready
from bytemini_bringup.transport import PROFILES, commands, large_images

COMPLIANCE = ("none", "observer", "sensor")
SIMULATORS = ("mujoco", "gazebo", "none")
BOOLEANS = ("true", "false", "True", "False")
NONE = "none"
BUTTON = "button"
"""Name of the stop circuit that the button at `estop_port` is in."""


@dataclass(frozen=True)
class Option:
    """What whoever starts the stack may choose. The default fixes the type."""

    name: str
    default: Any
    description: str
    choices: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """What may be written for it; empty where that is not a list."""
        return BOOLEANS if isinstance(self.default, bool) else self.choices

    def parse(self, text: str) -> Any:
        """The value that `text` spells.

        Raises:
            ValueError: it does not spell one of this option's type and choices.
        """
        if self.choices and text not in self.choices:
            raise ValueError(f"{self.name} is {text!r}, expected {' or '.join(self.choices)}")
        if isinstance(self.default, bool):
            if text.lower() not in ("true", "false"):
                raise ValueError(f"{self.name} is {text!r}, expected true or false")
            return text.lower() == "true"
        try:
            return type(self.default)(text)
        except ValueError:
            raise ValueError(f"{self.name} is {text!r}, expected a {type(self.default).__name__}") from None


OPTIONS = (
    Option("sim", "mujoco", "what stands where the robot's driver and cameras will: a simulator, or none", SIMULATORS),
    Option("gui", False, "open the simulator's own window (Gazebo)"),
    Option("rviz", False, "open RViz, where it is installed"),
    Option("robot", "v1", "version of the robot", VERSIONS),
    Option(
        "policy", "expert", f"which policy serves RunTask: {', '.join(policies())}, a checkpoint's folder, ws://..."
    ),
    Option("task", "pick_place", "task whose scene the simulator sets up"),
    Option("setting", "basic", "setting of the task"),
    Option("seed", 0, "seed of the scene and of the policy"),
    Option("instruction", "", "what to do in the scene; empty: drawn from the seed"),
    Option("lockstep", False, "advance simulated time only when every stage has answered: deterministic, fast"),
    Option("cameras", True, "draw the three cameras in simulation; on a robot, open those with a serial number"),
    Option("head_serial", "", "serial number of the head's camera, on a robot"),
    Option("left_wrist_serial", "", "serial number of the left wrist's camera, on a robot"),
    Option("right_wrist_serial", "", "serial number of the right wrist's camera, on a robot"),
    Option("depth", False, "also publish aligned depth"),
    Option("compressed", False, "also publish the robot's cameras as JPEG, for slow links"),
    Option("outside", False, "also publish the view from outside, for videos"),
    Option("image_size", 224, "height and width of the pictures, pixels"),
    Option("preview", False, "let the controller plan 0.3 s ahead"),
    Option("compliance", "none", "what the hands yield to: nothing, joint efforts, wrist sensors", COMPLIANCE),
    Option("latency", 0.05, "s from observation to chunk, in lock step"),
    Option("wrist_lag", False, "simulate the wrist's reported 60 ms lag"),
    Option("panel", False, "serve the operator's page, and keep the last minute before every fault (not in lock step)"),
    Option("panel_port", 8444, "port of the operator's page"),
    Option("teleop", False, "serve the headset's page, and let an operator take the robot over (not in lock step)"),
    Option("teleop_port", 8443, "port of the headset's page"),
    Option("record", "", "record episodes by this plan (YAML): started, saved and discarded from page or headset"),
    Option("dataset", "", "folder of the dataset that is recorded, new or to be added to"),
    Option("operator", "", "who records, unless the headset's page says"),
    Option("human", False, "record a person's head and hands by the headset's page, with no robot"),
    Option("estop_port", NONE, "serial port of the emergency stop's button, /dev/serial/by-id/..., or none"),
    Option("namespace", "", "namespace of every node and topic, for several robots side by side"),
)
"""Every choice, in the order in which help lists them."""


@dataclass(frozen=True)
class Process:
    """One process of the stack.

    `arguments`: words for it, before ROS's own. `substitute`: our own package and executable where `package` is not
    installed (no ROS distribution). `once`: it does its work and ends; only an end with an error is a fault. `ready`:
    what shows that those that start after it can rely on it; None where they need not wait. `again`: while the stack
    runs it is started again when it dies; else the stack ends with it. `files`: of parameters, before `parameters`.
    `environment`: for it alone.
    """

    name: str
    package: str
    executable: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    substitute: tuple[str, str] | None = None
    once: bool = False
    ready: Ready | None = None
    again: bool = True
    files: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


COMMANDING = ("wbc_controller", "trajectory_optimizer", "estop_button")
"""Processes that no other one's death may hold up: see `config/commands.xml`."""

APART = ("clock", "tf", "tf_static")
"""Topics that are the whole machine's ("/clock"), unless the stack has a namespace: then every robot has its own."""


def options(**chosen: Any) -> dict[str, Any]:
    """Every option with its value: the default where none is chosen.

    Raises:
        ValueError: no option is called so, or the value is not among the choices.
    """
    values = {option.name: option.default for option in OPTIONS}
    for name, value in chosen.items():
        if name not in values:
            raise ValueError(f"the stack has no option {name!r}, expected one of {', '.join(values)}")
        option = next(option for option in OPTIONS if option.name == name)
        values[name] = option.parse(str(value))
    return values


def stack(values: Mapping[str, Any]) -> tuple[Process, ...]:
    """The processes of the stack for these `options`, in the order in which they start.

    Raises:
        ValueError: options that exclude one another.
    """
    button = values["estop_port"] != NONE
    if values["lockstep"] and (values["teleop"] or values["panel"] or values["record"] or button):
        raise ValueError(
            "teleop, panel, record or estop_port, and lockstep, exclude one another: a person lives in real time"
        )
    if values["human"]:
        return _without_robot(values)
    simulated = {"use_sim_time": values["sim"] != "none"}
    shared = {"robot": values["robot"], "lockstep": values["lockstep"], **simulated}

    def pick(*names: str) -> dict[str, Any]:
        return {name: values[name] for name in names}

    processes = [
        Process(
            name="robot_state_publisher",
            package="robot_state_publisher",
            executable="robot_state_publisher",
            parameters={"robot_description": _description(values), **simulated},
            substitute=("bytemini_description", "state_publisher"),
            ready=Ready("topic", "robot_description"),
        )
    ]
    scene = pick("task", "setting", "seed", "instruction")
    if values["sim"] == "mujoco":
        chosen = pick("cameras", "depth", "outside", "image_size", "wrist_lag")
        processes.append(
            # The simulator makes the time that the others use; it has no other clock than its own.
            Process(
                "bytemini_sim",
                "bytemini_sim",
                "sim_node",
                {**shared, **scene, **chosen, "use_sim_time": False},
                ready=Ready("service", "sim/run"),
            )
        )
    elif values["sim"] == "gazebo":
        processes += _gazebo(values, scene)
    if button:
        processes.append(
            Process(
                "estop_button",
                "wbc_controller",
                "estop_button_node",
                {"port": values["estop_port"], "circuit": BUTTON, **simulated},
                ready=Ready("topic", "stop_circuit"),
            )
        )
    processes += [
        Process(
            "wbc_controller",
            "wbc_controller",
            "wbc_node",
            {
                **shared,
                **pick("preview", "compliance"),
                # A simulated robot forgets with its world; a real one comes back as it was stopped.
                "keep_estop": values["sim"] == "none",
                **({"stop_circuits": [BUTTON]} if button else {}),
            },
            ready=Ready("hold", "wbc/mode"),
        ),
        *_cameras(values),
        Process("trajectory_optimizer", "trajectory_optimizer", "trajectory_node", {**shared, **pick("latency")}),
        Process(
            "gr3_policy",
            "gr3_policy_node",
            "policy_node",
            {**shared, **pick("policy", "seed")},
            ready=Ready("active", "gr3_policy"),
        ),
    ]
    if values["panel"]:
        page = {"robot": values["robot"], "port": values["panel_port"], **simulated}
        recorder = Process("flight_recorder", "bytemini_panel", "flight_recorder_node", simulated)
        processes = [recorder, *processes, Process("panel", "bytemini_panel", "panel_node", page)]
    if values["rviz"]:
        view = str(Path(get_package_share_directory("bytemini_bringup")) / "config" / "bytemini.rviz")
        processes.append(Process("rviz", "rviz2", "rviz2", simulated, arguments=("-d", view)))
    processes += _recorder(values)
    if values["teleop"]:
        page = {"robot": values["robot"], "port": values["teleop_port"], **simulated}
        processes.append(Process("teleop_vr", "teleop_vr", "teleop_node", page))
    config = Path(get_package_share_directory("bytemini_bringup")) / "config"
    own = str(config / f"{values['robot']}.yaml")
    udp = {} if values["lockstep"] or PROFILES in os.environ else {PROFILES: commands()}
    return tuple(
        replace(process, files=(own,), environment=udp if process.name in COMMANDING else {}) for process in processes
    )


def environment(values: Mapping[str, Any]) -> dict[str, str]:
    """What the processes of the stack find in their environment, beside what is there already.

    Recorded pictures must arrive: Fast DDS gets shared memory that they fit into, unless it was configured already.
    """
    if not values["record"] or PROFILES in os.environ:
        return {}
    return {PROFILES: large_images()}


def _recorder(values: Mapping[str, Any]) -> list[Process]:
    """The recorder, where a plan is given."""
    plan, dataset = values["record"], values["dataset"]
    if not plan:
        return []
    if not dataset:
        raise ValueError("record is given without dataset, the folder for the episodes")
    from bytemini_data.plan import load_plan

    load_plan(plan)  # one that is no good is refused before anything starts
    parameters = {
        "plan": str(Path(plan).absolute()),
        "dataset": str(Path(dataset).absolute()),
        **{name: values[name] for name in ("robot", "operator", "human")},
        "use_sim_time": values["sim"] != "none" and not values["human"],
    }
    if parameters["use_sim_time"]:  # what the simulator draws: no frame without a picture, no pixel made up
        size = values["image_size"]
        parameters |= {"fps": round(1.0 / OBSERVATION_PERIOD), "image_height": size, "image_width": size}
    return [Process("recorder", "bytemini_data", "recorder_node", parameters)]


def _without_robot(values: Mapping[str, Any]) -> tuple[Process, ...]:
    """A person, the page that hears the headset, and the recorder."""
    if not values["record"]:
        raise ValueError("human is given without record, the plan to record by")
    page = {"robot": values["robot"], "port": values["teleop_port"], "human": True}
    return (*_recorder(values), Process("teleop_vr", "teleop_vr", "teleop_node", page))


def _description(values: Mapping[str, Any]) -> str:
    """The robot as URDF, for whoever drives it."""
    if values["sim"] != "gazebo":
        return load_robot(values["robot"]).urdf
    return expand_urdf(
        values["robot"],
        "gazebo",
        gazebo_controllers=str(_gazebo_config("controllers.yaml")),
        camera_width=str(values["image_size"]),
        camera_height=str(values["image_size"]),
        # Pictures at the policy's own rate: their stamps are whole multiples of the control period.
        camera_rate=str(round(1.0 / OBSERVATION_PERIOD)),
    )


def _cameras(values: Mapping[str, Any]) -> list[Process]:
    """The robot's own cameras, those that have a serial number; simulators bring theirs."""
    serials = {f"{mount}_serial": values[f"{mount}_serial"] for mount in CAMERAS if values[f"{mount}_serial"]}
    if not serials or not values["cameras"]:
        return []
    if values["sim"] != "none":
        raise ValueError(f"{', '.join(serials)} given with sim:={values['sim']}: the robot's cameras need sim:=none")
    parameters = {**serials, "depth": values["depth"], "compressed": values["compressed"]}
    return [Process("cameras", "bytemini_cameras", "cameras_node", parameters, ready=Ready("active", "cameras"))]


def _gazebo_config(name: str) -> Path:
    return Path(get_package_share_directory("bytemini_gazebo")) / "config" / name


def _gazebo(values: Mapping[str, Any], scene: Mapping[str, Any]) -> list[Process]:
    """Gazebo's server with the scene, the robot spawned from its description, its controllers, bridge and driver."""
    if values["lockstep"] or values["namespace"] or values["outside"]:
        raise ValueError("Gazebo keeps its own time, one robot and no outside view: leave lockstep, namespace, outside")
    robot, clock = {"robot": values["robot"]}, {"use_sim_time": True}
    return [
        Process(
            "gazebo",
            "bytemini_gazebo",
            "gazebo_server",
            {**robot, **scene, "gui": values["gui"]},
            again=False,
        ),
        Process(
            "gazebo_bridge",
            "ros_gz_bridge",
            "parameter_bridge",
            {"config_file": str(_gazebo_config("bridge.yaml")), **clock},
            ready=Ready("topic", "/clock"),
        ),
        Process("gazebo_spawn", "ros_gz_sim", "create", {"topic": "robot_description", "name": "bytemini"}, once=True),
        Process(
            "gazebo_controllers",
            "controller_manager",
            "spawner",
            arguments=("joint_state_broadcaster", "effort_controller"),
            once=True,
            ready=Ready("topic", "joint_state_broadcaster/joint_states"),
        ),
        Process(
            "gazebo_driver",
            "bytemini_gazebo",
            "gazebo_driver",
            {**robot, **scene, **clock},
            ready=Ready("service", "sim/run"),
        ),
    ]
