"""Hands that yield: an admittance at each hand (`admittance`), driven by the wrench on it.

The hand's target moves by x (position m, rotation vector rad, odom axes) and

    M x'' + D x' + s(K (x + d)) = F + F_wanted

with F the external wrench on the hand, d how far the drives' own springs already gave way (measured less commanded hand
pose), so that the whole hand renders K; F_wanted the wrench it is asked to exert: at rest without a spring F is its
opposite. s saturates the spring at the force limit: what pushes harder moves the
hand away at no more force.

The wrench comes from a sensor in the wrist, or from a momentum observer over the joints' efforts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pinocchio as pin
from bytemini_core.types import SIDES, Array, RobotState
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel

from .problem import GRAVITY
from .tree import Tree

_BASE = 3
_DAMPED = 1e-4 * np.eye(6)  # least squares of the wrench: m^2


@dataclass(frozen=True, slots=True)
class Compliance:
    """How both hands yield: three linear (N/m, N s/m, kg, N, m), three angular (Nm/rad, ...) values each.

    `stiffness` holds where a reference asks for none of its own; 0 is no spring. `force_limit`: most that the spring
    pushes back with, and of a wrench that is asked for. `deadband`: wrench that moves nothing (the observer's noise and
    the drives' friction). `observer`: its gain (1/s). `sensor`: the wrench is measured in the wrists, and has to come
    with every state; else it is observed. The damping is what keeps a contact quiet: behind a stiff surface stand the
    drives' springs, about 1500 N/m at the hand, answered one observer's time constant late, so that less than
    1500 / `observer` rings.
    """

    stiffness: tuple[float, ...] = (400.0, 400.0, 400.0, 20.0, 20.0, 20.0)
    damping: tuple[float, ...] = (160.0, 160.0, 160.0, 7.0, 7.0, 7.0)
    inertia: tuple[float, ...] = (4.0, 4.0, 4.0, 0.15, 0.15, 0.15)
    force_limit: tuple[float, ...] = (60.0, 60.0, 60.0, 10.0, 10.0, 10.0)
    deadband: tuple[float, ...] = (0.5, 0.5, 0.5, 0.1, 0.1, 0.1)
    observer: float = 40.0
    sensor: bool = False

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name == "sensor":
                continue
            values = np.atleast_1d(np.asarray(getattr(self, item.name), dtype=np.float64))
            least = 0.0 if item.name in ("stiffness", "deadband") else 1e-9
            if (
                len(values) != (1 if item.name == "observer" else 6)
                or not (np.isfinite(values) & (values >= least)).all()
            ):
                raise ValueError(
                    f"compliance.{item.name} is {getattr(self, item.name)!r}, expected "
                    f"{'a number' if item.name == 'observer' else 'six numbers'}, "
                    f"{'at least 0' if least == 0.0 else 'above 0'}"
                )


class WrenchObserver:
    """External wrench on each hand from the joints' efforts: a generalised-momentum observer.

    With p = M(q) q', p' = tau + C' q' - g + tau_ext, the residual r = K (p - integral(tau + C' q' - g + r)) follows
    tau_ext with the time constant 1 / K (De Luca et al., "Collision detection and safe reaction with the DLR-III
    lightweight manipulator arm", IROS 2006). A wrench on the hand is tau_ext = J' F, solved by damped least squares.
    """

    def __init__(self, robot: RobotModel, kinematics: Kinematics, gain: float, dt: float) -> None:
        self._robot, self._kinematics, self._gain, self._dt = robot, kinematics, gain, dt
        self._columns = kinematics.velocity_columns
        self._model, self._data = kinematics.model, kinematics.model.createData()
        armature = np.zeros(self._model.nv)
        armature[self._columns] = np.concatenate((np.full(_BASE, robot.base_armature), robot.armature))
        self._armature = armature
        self._integral: Array | None = None
        self._residual = np.zeros(self._model.nv)

    def reset(self) -> None:
        """Forget what was observed."""
        self._integral = None
        self._residual[:] = 0.0

    def update(self, state: RobotState) -> Array:
        """External effort (19,) on the joints, from the state of this tick (in the robot's joint order)."""
        q = self._kinematics.configuration(state.position, state.base_pose)
        v, tau = np.zeros(self._model.nv), np.zeros(self._model.nv)
        v[self._columns] = np.concatenate((state.base_twist, state.velocity))
        tau[self._columns[_BASE:]] = state.effort
        mass = pin.crba(self._model, self._data, q)
        momentum = mass @ v + self._armature * v
        coriolis = pin.computeCoriolisMatrix(self._model, self._data, q, v).T @ v
        gravity = pin.computeGeneralizedGravity(self._model, self._data, q)
        if self._integral is None:
            self._integral = momentum.copy()
        self._integral += self._dt * (tau + coriolis - gravity + self._residual)
        self._residual = self._gain * (momentum - self._integral)
        external: Array = self._residual[self._columns[_BASE:]]
        return external

    @staticmethod
    def wrench(jacobian: Array, external: Array) -> Array:
        """Wrench (6,) at a point whose arm's Jacobian is (6, k), from the external efforts (k,) of that arm."""
        solution = np.linalg.solve(jacobian @ jacobian.T + _DAMPED, jacobian @ external)
        return np.asarray(solution, dtype=np.float64)


class WristSensor:
    """External wrench on each hand from a sensor between wrist and hand, less the hand's and its load's own weight.

    Inertial forces of the hand (below 1 N at 1 m/s^2) stay in it.
    """

    def __init__(self, robot: RobotModel) -> None:
        tree = Tree(robot.urdf)
        self._weight: dict[str, tuple[float, Array]] = {}
        for side in SIDES:
            hand = f"{side}_hand_link"
            mass, moment = 0.0, np.zeros(3)
            for link in tree.links.values():
                chain = tree.chain(link.name)
                names = [tree.root, *(joint.child for joint in chain)]
                if hand not in names:
                    continue
                place, centre = np.eye(3), np.zeros(3)
                for joint in chain[names.index(hand) :]:  # fingers closed: they open to both sides alike
                    centre = centre + place @ joint.translation
                    place = place @ joint.rotation
                mass += link.mass
                moment += link.mass * (centre + place @ link.centre)
            self._weight[side] = (mass, moment)

    def wrench(self, side: str, reading: Array, hand: Array, point: Array, load: float) -> Array:
        """Wrench (6,) of the surroundings on a hand, about `point`, in odom axes.

        Args:
            side: of the robot.
            reading: (6,) force and torque that hand and load exert on the wrist, in hand_link's axes at its origin.
            hand: (4, 4) pose of hand_link in odom.
            point: (3,) in odom; a load hangs there.
            load: kg that the hand carries.
        """
        mass, moment = self._weight[side]
        force, torque = hand[:3, :3] @ reading[:3], hand[:3, :3] @ reading[3:]
        down = np.array((0.0, 0.0, -GRAVITY))
        lever = point - hand[:3, 3]
        external = force - (mass + load) * down
        torque = torque - np.cross(hand[:3, :3] @ moment, down) - np.cross(lever, load * down)
        return np.concatenate((external, torque - np.cross(lever, external)))
