"""The ByteMini inside a robosuite task, stepped by check_robosuite.py, in robosuite's own environment.

Task, objects, arena and success code are robosuite's own and untouched. Ours are the robot with its drives, the time
step and the integrator. Commands and states go over the inherited socket whose number is the only argument.
"""

from __future__ import annotations

import math
import sys
import xml.etree.ElementTree as ET
from collections import OrderedDict
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import robosuite
from robosuite import macros
from robosuite.models.robots.manipulators.manipulator_model import ManipulatorModel
from robosuite.robots import ROBOT_CLASS_MAPPING, FixedBaseRobot
from robosuite.robots.robot import Robot
from robosuite.utils.placement_samplers import UniformRandomSampler

ARMS = ("right", "left")
SETUP: dict[str, Any] = {}
"""What check_robosuite.py says about the robot, see `Bench.__init__` there."""


class ByteMini(ManipulatorModel):
    """The robot as robosuite's models are: hands and their joints are part of it."""

    arms = list(ARMS)  # noqa: RUF012 (their interface)
    arm_type = "bimanual"
    default_base = "NullMount"
    default_gripper = dict.fromkeys(ARMS)
    default_controller_config = dict.fromkeys(ARMS)
    top_offset = np.array((0.0, 0.0, 1.5))
    _horizontal_radius = 0.45
    _eef_name = {"right": "right_hand_link", "left": "left_hand_link"}  # noqa: RUF012 (their interface)

    def __init__(self, idn: int = 0):
        super().__init__(SETUP["mjcf"], idn=idn)

    @property
    def base_xpos_offset(self) -> dict[str, Any]:
        """Where it stands: before a table as far from its edge as at home."""
        return {"table": lambda length: (-SETUP["edge"] - length / 2, 0.0, 0.0)}

    @property
    def init_qpos(self) -> np.ndarray:
        """Home, in the order of its joints in the model."""
        prefix = self.naming_prefix
        return np.array([SETUP["posture"].get(name.removeprefix(prefix), 0.0) for name in self.joints])


class _Nothing:
    """Stands where robosuite expects its own controllers; this robot brings its own."""

    def update_state(self) -> None:
        """Nothing."""

    def reset(self) -> None:
        """Nothing."""


class ByteMiniRobot(FixedBaseRobot):
    """Drives as those of the robot: K (q_d - q) + D (dq_d - dq) + tau; body twist within the platform's limits."""

    def _load_controller(self) -> None:
        self.composite_controller = _Nothing()
        self._twist = np.zeros(3)

    def setup_references(self) -> None:
        """Addresses of joints and actuators."""
        Robot.setup_references(self)  # their parts of a robot (torso, hands) are not ours
        model, prefix = self.sim.model, self.robot_model.naming_prefix
        self.q = [model.get_joint_qpos_addr(prefix + name) for name in SETUP["joints"]]
        self.v = [model.get_joint_qvel_addr(prefix + name) for name in SETUP["joints"]]
        self.u = [model.actuator_name2id(prefix + name) for name in SETUP["actuators"]]
        self.base_q = [model.get_joint_qpos_addr(prefix + name) for name in SETUP["base_joints"]]
        self.base_v = [model.get_joint_qvel_addr(prefix + name) for name in SETUP["base_joints"]]
        self.base_u = [model.actuator_name2id(prefix + name) for name in SETUP["base_actuators"]]
        self.base_gain = -np.array(model.actuator_biasprm[self.base_u, 2])

    def setup_observables(self) -> OrderedDict[str, Any]:
        """None: the stack's own state is asked for instead."""
        return OrderedDict()

    def visualize(self, vis_settings: dict[str, bool]) -> None:
        """Nothing to mark."""

    @property
    def action_limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Targets, rates and feed-forward of the joints, and the base's twist: any."""
        bound = np.full(3 * len(SETUP["joints"]) + 3, np.inf)
        return -bound, bound

    def control(self, action: np.ndarray, policy_step: bool = False) -> None:  # noqa: ARG002 (their interface)
        """One physics step of the drives."""
        data, n = self.sim.data, len(SETUP["joints"])
        target, rate, effort = action[:n], action[n : 2 * n], action[2 * n : 3 * n]
        data.ctrl[self.u] = SETUP["stiffness"] * target + SETUP["damping"] * rate + effort
        change = np.clip(action[3 * n :], -SETUP["base_most"], SETUP["base_most"]) - self._twist
        self._twist += np.clip(change, -SETUP["base_step"], SETUP["base_step"])
        vx, vy, wz = self._twist
        c, s = math.cos(data.qpos[self.base_q[2]]), math.sin(data.qpos[self.base_q[2]])
        data.ctrl[self.base_u] = self.base_gain * np.array([c * vx - s * vy, s * vx + c * vy, wz])


def make(task: str, seed: int, turn: float) -> Any:
    """Their task with our robot; the object where they would put it, turned by no more than `turn` (rad)."""
    placement = UniformRandomSampler(
        name="ObjectSampler",
        x_range=[-0.03, 0.03],
        y_range=[-0.03, 0.03],
        rotation=(np.pi - turn, np.pi + turn),
        ensure_object_boundary_in_range=False,
        ensure_valid_placement=True,
        reference_pos=np.array((0.0, 0.0, 0.8)),
        rng=np.random.default_rng(seed),
    )
    environment = robosuite.make(
        task,
        robots="ByteMini",
        placement_initializer=placement,
        controller_configs={},
        gripper_types=None,
        initialization_noise=None,
        use_camera_obs=False,
        use_object_obs=False,
        has_offscreen_renderer=False,
        control_freq=round(1.0 / SETUP["period"]),
        horizon=10**6,
        seed=seed,
    )
    environment.set_xml_processor(_implicit)
    environment.reset()
    return environment


def _implicit(xml: str) -> str:
    """Integrate the drives' damping implicitly, as the robot's model is made for."""
    root = ET.fromstring(xml)
    root.find("option").set("integrator", "implicitfast")  # type: ignore[union-attr]
    return ET.tostring(root, encoding="unicode")


def observe(environment: Any) -> dict[str, Any]:
    """What the robot measures, where the handles are, and what robosuite says of the task."""
    robot, data, model = environment.robots[0], environment.sim.data, environment.sim.model
    yaw = data.qpos[robot.base_q[2]]
    vx, vy, wz = data.qvel[robot.base_v]
    c, s = math.cos(yaw), math.sin(yaw)
    prefix = robot.robot_model.naming_prefix
    root = data.get_body_xpos(robot.robot_model.root_body) - [*data.qpos[robot.base_q[:2]], 0.0]
    fingers = {arm: [[f"{prefix}{arm}_finger_{f}_link_pad"] for f in "ab"] for arm in ARMS}
    handles = {"right": environment.pot.handle0_geoms, "left": environment.pot.handle1_geoms}
    return {
        "position": np.array(data.qpos[robot.q]),
        "velocity": np.array(data.qvel[robot.v]),
        "effort": np.array(data.actuator_force[robot.u]),
        "base_pose": np.array(data.qpos[robot.base_q]),
        "base_twist": np.array([c * vx + s * vy, c * vy - s * vx, wz]),
        "handles": {"right": environment._handle0_xpos - root, "left": environment._handle1_xpos - root},
        "pot": np.array(data.body_xpos[environment.pot_body_id]) - root,
        "table": float(data.site_xpos[environment.table_top_id][2]),
        "grasped": {arm: bool(environment._check_grasp(fingers[arm], handles[arm])) for arm in ARMS},
        "success": bool(environment._check_success()),
        "mass": float(model.body_mass[environment.pot_body_id]),
    }


def main() -> None:
    """Answer ("setup", ...), ("reset", task, seed, turn), ("step", action) until the other end is closed."""
    pipe = Connection(int(sys.argv[1]))
    environment: Any = None
    while True:
        try:
            word, *rest = pipe.recv()
        except EOFError:
            return
        if word == "setup":
            SETUP.update(rest[0])
            macros.SIMULATION_TIMESTEP = SETUP["timestep"]
            ROBOT_CLASS_MAPPING["ByteMini"] = ByteMiniRobot
            pipe.send(robosuite.__version__)
        elif word == "reset":
            environment = make(*rest)
            pipe.send(observe(environment))
        else:
            environment.step(rest[0])
            pipe.send(observe(environment))


if __name__ == "__main__":
    main()
