"""Hands that yield: an admittance at each hand, driven by what the momentum observer says pushes it.

The hand's target moves by x (position m, rotation vector rad, odom axes) and

    M x'' + D x' + s(K (x + d)) = F + F_wanted

with F the external wrench on the hand, d how far the drives' own springs already gave way (measured less commanded hand
pose), so that the whole hand renders K; F_wanted the wrench it is asked to exert: at rest without a spring F is its
opposite. s saturates the spring at the force limit: what pushes harder moves the
hand away at no more force. Integrated implicitly,

    x'[k+1] = (M x'[k] + dt (F + F_wanted - s(K (x[k] + d)))) / (M + dt D + dt^2 K),    x[k+1] = x[k] + dt x'[k+1],

which is passive for every positive M, D, K and dt (implicit Euler dissipates).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pinocchio as pin
from bytemini_core.types import Array, RobotState
from bytemini_description.kinematics import Kinematics
from bytemini_description.robot import RobotModel

_BASE = 3
_REGULAR = 1e-4  # damped least squares of the wrench: m^2


@dataclass(frozen=True, slots=True)
class Compliance:
    """How both hands yield: three linear (N/m, N s/m, kg, N, m), three angular (Nm/rad, ...) values each.

    `stiffness` holds where a reference asks for none of its own; 0 is no spring. `force_limit`: most that the spring
    pushes back with. `deadband`: wrench that moves nothing (the observer's noise and the drives' friction). `observer`:
    its gain (1/s). The damping is what keeps a contact quiet: behind a stiff surface stand the drives' springs, about
    1500 N/m at the hand, answered one observer's time constant late, so that less than 1500 / `observer` rings.
    """

    stiffness: tuple[float, ...] = (400.0, 400.0, 400.0, 20.0, 20.0, 20.0)
    damping: tuple[float, ...] = (160.0, 160.0, 160.0, 7.0, 7.0, 7.0)
    inertia: tuple[float, ...] = (4.0, 4.0, 4.0, 0.15, 0.15, 0.15)
    force_limit: tuple[float, ...] = (60.0, 60.0, 60.0, 10.0, 10.0, 10.0)
    deadband: tuple[float, ...] = (0.5, 0.5, 0.5, 0.1, 0.1, 0.1)
    observer: float = 40.0

    def __post_init__(self) -> None:
        for item in fields(self):
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


class Admittance:
    """One hand's mass, damper and spring."""

    def __init__(self, compliance: Compliance, dt: float) -> None:
        self._own = np.array(compliance.stiffness)
        self._damping, self._inertia = np.array(compliance.damping), np.array(compliance.inertia)
        self._limit, self._deadband = np.array(compliance.force_limit), np.array(compliance.deadband)
        self._dt = dt
        self.offset, self.rate = np.zeros(6), np.zeros(6)

    def step(self, wrench: Array, wanted: Array, given: Array, stiffness: Array) -> None:
        """Advance one tick; all (6,), odom axes.

        Args:
            wrench: external, on the hand.
            wanted: to be exerted by the hand.
            given: how far the drives have given way already.
            stiffness: asked for; where it is 0, the controller's own holds, or no spring where a wrench is wanted.
        """
        dt = self._dt
        spring = np.where(stiffness > 0.0, stiffness, np.where(wanted != 0.0, 0.0, self._own))
        push = np.sign(wrench) * np.maximum(np.abs(wrench) - self._deadband, 0.0)
        back = np.clip(spring * (self.offset + given), -self._limit, self._limit)
        mass = self._inertia + dt * self._damping + dt * dt * spring
        self.rate = (self._inertia * self.rate + dt * (push + wanted - back)) / mass
        self.offset = self.offset + dt * self.rate


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
        momentum = np.triu(mass) @ v + np.triu(mass, 1).T @ v + self._armature * v
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
        solution = np.linalg.solve(jacobian @ jacobian.T + _REGULAR * np.eye(6), jacobian @ external)
        return np.asarray(solution, dtype=np.float64)
