"""mink and pink on the benchmark's path: the same robot, bodies, tasks, weights and pairs as ours.

Both are optional (`pip install mink==1.3.0 pin-pink==4.4.0`); they solve with DAQP, which is their fastest. Two 6D
tasks (1.0 position, 0.3 rotation, gain 1), posture 0.03, position and velocity limits, and the pairs. Neither has what
else our tick does: acceleration limits, environment rows, manipulability, gaze, admittance.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from bytemini_core.types import Array
from bytemini_description.robot import RobotModel

from wbc_controller.benchmarks.path import Target
from wbc_controller.problem import Pair
from wbc_controller.shapes import Box, Capsule

POSITION, ROTATION, POSTURE, DISTANCE, DT = 1.0, 0.3, 0.03, 0.05, 0.005
HANDS = ("left_tcp", "right_tcp")


class Peer(Protocol):
    """A controller on the path: moves its own robot."""

    name: str

    def step(self, targets: Sequence[Target]) -> tuple[Array, float]:
        """One tick: q (base x, y, yaw, joints) after it, and the seconds that solving took."""


def _bodies(pairs: Sequence[Pair]) -> list[Capsule | Box]:
    found: dict[str, Capsule | Box] = {}
    for pair in pairs:
        found[pair.first.name], found[pair.second.name] = pair.first, pair.second
    return list(found.values())


def upright(body: Capsule) -> tuple[Array, Array, float]:
    """Rotation whose z axis is the capsule's, its centre and its length."""
    along = body.end - body.start
    length = float(np.linalg.norm(along))
    z = along / length if length > 1e-9 else np.array((0.0, 0.0, 1.0))
    x = np.cross((0.0, 1.0, 0.0) if abs(z[1]) < 0.9 else (1.0, 0.0, 0.0), z)
    x /= np.linalg.norm(x)
    return np.column_stack((x, np.cross(z, x), z)), (body.start + body.end) / 2, length


class Pink:
    """pink's differential inverse kinematics with its self-collision barrier."""

    name = "pink"

    def __init__(self, robot: RobotModel, pairs: Sequence[Pair]) -> None:
        import coal
        import pink
        import pinocchio as pin
        from pink.barriers import SelfCollisionBarrier

        self._pin, self._pink, self._robot = pin, pink, robot
        full = pin.buildModelFromXML(robot.urdf, pin.JointModelPlanar())
        held = [full.getJointId(n) for n in full.names if "gripper" in n]
        model = pin.buildReducedModel(full, held, pin.neutral(full))
        model.velocityLimit[:3] = robot.base_velocity
        self._joints = [n for n in robot.joint_names if model.existJointName(n)]
        q = pin.neutral(model)
        self._index = np.array([model.joints[model.getJointId(n)].idx_q for n in self._joints])
        self._into = robot.indices(self._joints)
        q[self._index] = robot.home[self._into]
        geometry = pin.GeometryModel()
        for body in _bodies(pairs):
            frame = model.getFrameId(body.link)
            if isinstance(body, Capsule):
                rotation, centre, length = upright(body)
                shape = coal.Capsule(body.radius, length)
            else:
                rotation, centre, shape = body.rotation, body.centre, coal.Box(*(2.0 * body.half))
            place = model.frames[frame].placement * pin.SE3(rotation, centre)
            geometry.addGeometryObject(
                pin.GeometryObject(body.name, model.frames[frame].parentJoint, frame, place, shape)
            )
        for pair in pairs:
            ids = [geometry.getGeometryId(body.name) for body in (pair.first, pair.second)]
            geometry.addCollisionPair(pin.CollisionPair(*ids))
        self._configuration = pink.Configuration(
            model, model.createData(), q, collision_model=geometry, collision_data=geometry.createData()
        )
        self._tasks = [pink.FrameTask(h, position_cost=POSITION, orientation_cost=ROTATION, gain=1.0) for h in HANDS]
        posture = pink.PostureTask(cost=POSTURE, gain=DT * 0.5)
        posture.set_target(q)
        self._all = [*self._tasks, posture]
        self._barriers = [
            SelfCollisionBarrier(n_collision_pairs=len(pairs), gain=20.0, safe_displacement_gain=0.0, d_min=DISTANCE)
        ]

    def step(self, targets: Sequence[Target]) -> tuple[Array, float]:
        """See `Peer`."""
        for task, target in zip(self._tasks, targets, strict=True):
            task.set_target(self._pin.SE3(target.rotation, target.position))
        begun = time.perf_counter()
        velocity = self._pink.solve_ik(
            self._configuration, self._all, DT, solver="daqp", barriers=self._barriers, safety_break=False
        )
        spent = time.perf_counter() - begun
        self._configuration.integrate_inplace(velocity, DT)
        q = self._configuration.q
        joints = self._robot.home.copy()
        joints[self._into] = q[self._index]
        return np.concatenate((q[:2], [np.arctan2(q[3], q[2])], joints)), spent


class Mink:
    """mink's differential inverse kinematics with its collision avoidance limit."""

    name = "mink"

    def __init__(self, robot: RobotModel, pairs: Sequence[Pair]) -> None:
        import mink
        import mujoco

        self._mink, self._robot = mink, robot
        spec = mujoco.MjSpec.from_string(robot.urdf)
        for geom in list(spec.geoms):
            spec.delete(geom)
        for equality in list(spec.equalities):
            spec.delete(equality)
        for joint in list(spec.joints):
            if "gripper" in joint.name:
                spec.delete(joint)
        base = spec.body("base_link")
        moves: list[tuple[str, Any, tuple[int, int, int]]] = [
            ("base/x", mujoco.mjtJoint.mjJNT_SLIDE, (1, 0, 0)),
            ("base/y", mujoco.mjtJoint.mjJNT_SLIDE, (0, 1, 0)),
            ("base/yaw", mujoco.mjtJoint.mjJNT_HINGE, (0, 0, 1)),
        ]
        for name, kind, axis in moves:
            base.add_joint(name=name, type=kind, axis=axis)
        for body in _bodies(pairs):
            owner = spec.body(body.link)
            quaternion = np.zeros(4)
            if isinstance(body, Capsule):
                rotation, centre, length = upright(body)
                mujoco.mju_mat2Quat(quaternion, rotation.ravel())
                owner.add_geom(
                    name=body.name,
                    type=mujoco.mjtGeom.mjGEOM_CAPSULE,
                    size=(body.radius, max(length / 2, 1e-6), 0),
                    pos=centre,
                    quat=quaternion,
                )
            else:
                mujoco.mju_mat2Quat(quaternion, body.rotation.ravel())
                owner.add_geom(
                    name=body.name, type=mujoco.mjtGeom.mjGEOM_BOX, size=body.half, pos=body.centre, quat=quaternion
                )
        model = spec.compile()
        self._configuration = mink.Configuration(model)
        names = [model.joint(i).name for i in range(model.njnt)]
        self._order = [names.index(n) for n in ("base/x", "base/y", "base/yaw")]
        joints = [n for n in robot.joint_names if n in names]
        self._index, self._into = np.array([model.joint(n).qposadr[0] for n in joints]), robot.indices(joints)
        q = np.zeros(model.nq)
        q[self._index] = robot.home[self._into]
        self._configuration.update(q)
        self._tasks = [
            mink.FrameTask(h, "body", position_cost=POSITION, orientation_cost=ROTATION, gain=1.0) for h in HANDS
        ]
        posture = mink.PostureTask(model, cost=POSTURE, gain=DT * 0.5)
        posture.set_target(q)
        self._all = [*self._tasks, posture]
        limits = dict(zip(("base/x", "base/y", "base/yaw"), robot.base_velocity, strict=True))
        limits |= {n: robot.velocity[i] for n, i in zip(joints, self._into, strict=True)}
        self._limits = [
            mink.ConfigurationLimit(model),
            mink.VelocityLimit(model, limits),
            mink.CollisionAvoidanceLimit(
                model,
                [([pair.first.name], [pair.second.name]) for pair in pairs],
                gain=0.1,
                minimum_distance_from_collisions=DISTANCE,
                collision_detection_distance=DISTANCE + 0.3,
            ),
        ]

    def step(self, targets: Sequence[Target]) -> tuple[Array, float]:
        """See `Peer`."""
        mink = self._mink
        for task, target in zip(self._tasks, targets, strict=True):
            rotation = mink.SO3.from_matrix(target.rotation)
            task.set_target(mink.SE3.from_rotation_and_translation(rotation, target.position))
        begun = time.perf_counter()
        velocity = mink.solve_ik(
            self._configuration, self._all, DT, solver="daqp", limits=self._limits, safety_break=False
        )
        spent = time.perf_counter() - begun
        self._configuration.integrate_inplace(velocity, DT)
        q = self._configuration.q
        joints = self._robot.home.copy()
        joints[self._into] = q[self._index]
        return np.concatenate((q[self._order], joints)), spent
