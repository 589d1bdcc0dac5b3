"""The simulated robot and its surroundings: what the robot's driver, its cameras and its room are on a real one."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bytemini_core.types import CAMERAS, NANOSECONDS, SIDES, Array, JointCommand, RobotState, SceneObject, SceneState
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray

from bytemini_sim._mujoco import mujoco
from bytemini_sim.model import BASE_JOINTS, OUTSIDE_CAMERA, PhysicsConfig, build_model
from bytemini_sim.rendering import Renderer
from bytemini_sim.scene import SceneSpec

_SETTLE_SECONDS = 0.4
_POSITION_TOLERANCE = 2e-3
_VELOCITY_TOLERANCE = 1.02
_TILT_TOLERANCE = 5e-3
_JUMP = 20.0
"""A step in which a velocity (rad/s, m/s) changes by more is solved again. A hard knock may do that too; either solver
serves it."""
WRIST_LAG = 0.06
"""Delay from command to motion of the wrist, s (ByteWrist report)."""


class PhysicsError(RuntimeError):
    """The simulation diverged: numbers are no longer finite."""


@dataclass(frozen=True, slots=True)
class LimitCounts:
    """How often a limit was crossed (beginnings, not ticks), over all joints, since the reset.

    `position`: measured, beyond the URDF's range by 2e-3 (rad, m). `velocity`: measured, above the limit by 2 % at two
    ticks in a row, so that the snap of a finger whose grip slips (nobody asked for it, 5 ms) is not counted.
    `tilt`: a wrist's (pitch, roll) outside its disc by 5e-3 rad. `effort`: commanded above the limit (the actuator
    clips it), grippers excepted, which squeeze at their limit by design.
    """

    position: int = 0
    velocity: int = 0
    tilt: int = 0
    effort: int = 0

    @property
    def total(self) -> int:
        """All of them together."""
        return self.position + self.velocity + self.tilt + self.effort


class World:
    """A robot in a scene. The world frame is odom.

    Args:
        robot: from `bytemini_description.robot.load_robot`.
        scene: from `Task.sample`.
        cameras: names of the cameras that `images` draws; () needs no OpenGL at all.
        image_size: (height, width) of their pictures.
        physics: time steps.
        wrist_lag: delay of the wrist actuators' commands, s; 0 for none, `WRIST_LAG` for the reported one.
        pretty: draw `images` for people (shadows, multisampling): ten times slower.

    Raises:
        ValueError: an unknown camera or a bad time.
    """

    def __init__(
        self,
        robot: RobotModel,
        scene: SceneSpec,
        *,
        cameras: Sequence[str] = CAMERAS,
        image_size: tuple[int, int] = (224, 224),
        physics: PhysicsConfig | None = None,
        wrist_lag: float = 0.0,
        pretty: bool = False,
    ) -> None:
        unknown = [name for name in cameras if name not in (*CAMERAS, OUTSIDE_CAMERA)]
        if unknown:
            raise ValueError(f"no camera is called {unknown[0]!r}; there are {', '.join((*CAMERAS, OUTSIDE_CAMERA))}")
        if not 0.0 <= wrist_lag <= 0.5:
            raise ValueError(f"wrist_lag is {wrist_lag} s, expected 0 to 0.5")
        self.robot = robot
        self.physics = physics or PhysicsConfig()
        self.cameras = tuple(cameras)
        self.image_size = image_size
        self._pretty = pretty
        self._lag_ticks = round(wrist_lag * NANOSECONDS / self.physics.tick)
        self._renderers: dict[tuple[int, int, bool], Renderer] = {}
        self._pretty_model: mujoco.MjModel | None = None
        self._load(scene)

    # -- life -----------------------------------------------------------------------------------------------------

    def reset(self, scene: SceneSpec | None = None) -> None:
        """Back to the start of the episode, at rest at home, time 0; or to the start of another scene.

        The start is computed once per scene, so that every reset gives bit-identical episodes.
        """
        if scene is not None and scene != self.scene:
            self._load(scene)
            return
        mujoco.mj_setState(self.model, self.data, self._start, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(self.model, self.data)
        self._start_episode()

    def close(self) -> None:
        """Free what the pictures need."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _load(self, scene: SceneSpec) -> None:
        self.close()
        self._pretty_model = None
        self.scene = scene
        self.model = model = build_model(self.robot, scene, self.physics, self._pretty)
        self.data = mujoco.MjData(model)
        self._frozen: mujoco.MjData | None = None
        joints = [model.joint(name) for name in self.robot.joint_names]
        self._q = np.array([int(j.qposadr[0]) for j in joints])
        self._v = np.array([int(j.dofadr[0]) for j in joints])
        self._u = np.array([model.actuator(name).id for name in self.robot.joint_names])
        self._base_q = np.array([int(model.joint(name).qposadr[0]) for name in BASE_JOINTS])
        self._base_v = np.array([int(model.joint(name).dofadr[0]) for name in BASE_JOINTS])
        self._base_u = np.array([model.actuator(name).id for name in BASE_JOINTS])
        self._yaw = int(self._base_q[2])
        self._base_gain = (-model.actuator_biasprm[self._base_u, 2]).tolist()
        self._base_most = self.robot.base_velocity.tolist()
        self._base_step = (self.robot.base_acceleration * self.physics.timestep).tolist()
        wrists = [[f"{side}_wrist_{axis}_joint" for axis in ("yaw", "pitch", "roll")] for side in SIDES]
        self._lagged = self.robot.indices(wrists[0] + wrists[1])
        self._tilt = [self.robot.indices(names[1:]).tolist() for names in wrists]
        self._set_limits()
        adr = np.array([int(model.joint(f"item/{name}").qposadr[0]) for name in scene.names()], dtype=np.intp)
        self._pose = adr[:, None] + np.array([0, 1, 2, 4, 5, 6, 3])  # MuJoCo's quaternions begin with w
        sensors = [[model.sensor(f"{side}_{kind}") for kind in ("force", "torque")] for side in SIDES]
        self._wrench = np.array([[int(s.adr[0]) + k for s in pair for k in range(3)] for pair in sensors])
        self._command_index: dict[tuple[str, ...], NDArray[np.intp]] = {
            self.robot.joint_names: np.arange(len(self.robot.joint_names))
        }
        self._settle()

    def _set_limits(self) -> None:
        """What counts as within limits: rows of position, velocity and asked effort."""
        robot = self.robot
        velocity, effort = robot.velocity * _VELOCITY_TOLERANCE, robot.effort.copy()
        effort[robot.indices([robot.gripper_joint(side) for side in SIDES])] = np.inf
        self._least = np.array([robot.lower - _POSITION_TOLERANCE, -velocity, -effort])
        self._most = np.array([robot.upper + _POSITION_TOLERANCE, velocity, effort])
        self._most_tilt = robot.wrist_tilt_limit + _TILT_TOLERANCE

    def _settle(self) -> None:
        """Let things come to rest on the table while the driver holds the robot at home."""
        data, model = self.data, self.model
        mujoco.mj_resetData(model, data)
        data.qpos[self._q] = self.robot.home
        for side in SIDES:
            finger = int(model.joint(f"{side}_gripper_mimic_joint").qposadr[0])
            data.qpos[finger] = data.qpos[self._q[self.robot.indices([self.robot.gripper_joint(side)])[0]]]
        mujoco.mj_forward(model, data)
        self._start_episode()
        for _ in range(round(_SETTLE_SECONDS * NANOSECONDS / self.physics.tick)):
            self.step(None)
        data.time = 0.0
        self._start = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, self._start, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(model, data)
        self._start_episode()

    def _start_episode(self) -> None:
        """The driver's state before any command: brakes hold the posture, gravity included."""
        n = len(self._q)
        self._ticks = 0
        self._target = self.robot.home.copy()
        self._rate = np.zeros(n)
        self._stiffness = self.robot.stiffness.copy()
        self._damping = self.robot.damping.copy()
        self._effort = self.data.qfrc_bias[self._v].copy()
        self._twist = [0.0, 0.0, 0.0]
        self._servo_twist = [0.0, 0.0, 0.0]
        self._lag = deque(self._drive()[:, self._lagged] for _ in range(self._lag_ticks))
        self._watched = np.zeros((3, n))
        self._outside = np.zeros((3, n), dtype=bool)
        self._fast = np.zeros(n, dtype=bool)
        self._tilted = np.zeros(len(SIDES), dtype=bool)
        self._counts = np.zeros(4, dtype=np.int64)
        self._hash = hashlib.blake2b(digest_size=16)

    # -- time -----------------------------------------------------------------------------------------------------

    @property
    def time(self) -> int:
        """Simulated time since the reset, ns."""
        return self._ticks * self.physics.tick

    def step(self, command: JointCommand | None) -> None:
        """Advance one control tick.

        Args:
            command: gains, targets and feed-forward; joints it does not name keep their last. None (none came): the
                driver holds the last targets at zero velocity and brakes the base.

        Raises:
            ValueError: the command names a joint the robot has not.
            PhysicsError: the simulation diverged.
        """
        model, data = self.model, self.data
        self._take(command)
        drive = self._drive()
        if self._lag_ticks:
            self._lag.append(drive[:, self._lagged])
            drive[:, self._lagged] = self._lag.popleft()
        target, rate, stiffness, damping, effort = drive
        model.actuator_biasprm[self._u, 1] = -stiffness
        model.actuator_biasprm[self._u, 2] = -damping
        control = stiffness * target + damping * rate + effort
        data.ctrl[self._u] = control
        self._asked = control - stiffness * data.qpos[self._q] - damping * data.qvel[self._v]
        for _ in range(self.physics.substeps):
            self._drive_base()
            before = data.time, data.qpos.copy(), data.qvel.copy(), data.qacc_warmstart.copy()
            # Positions, contacts and poses are left up to date, so that whoever looks sees this instant's.
            mujoco.mj_step2(model, data)
            mujoco.mj_step1(model, data)
            if not (np.abs(data.qvel - before[2]) < _JUMP).all():
                self._solve_again(*before)
        self._ticks += 1
        self._watch()

    def _solve_again(self, time: float, position: Array, velocity: Array, warmstart: Array) -> None:
        """The last physics step once more, with the solver by conjugate gradients in place of Newton's.

        Newton's method rarely takes a wrong contact force for the solution (MuJoCo says that the objective of its line
        search is not convex), and what touches is flung away. Conjugate gradients need ten times as many iterations.

        Raises:
            PhysicsError: they do not find finite velocities either.
        """
        model, data = self.model, self.data
        data.time, data.qpos[:], data.qvel[:], data.qacc_warmstart[:] = time, position, velocity, warmstart
        solver, model.opt.solver = model.opt.solver, int(mujoco.mjtSolver.mjSOL_CG)
        mujoco.mj_step1(model, data)
        mujoco.mj_step2(model, data)
        model.opt.solver = solver
        if not math.isfinite(data.qpos.sum() + data.qvel.sum()):
            raise PhysicsError(f"the simulation diverged at {self.time / NANOSECONDS:.3f} s; use a smaller timestep")
        mujoco.mj_step1(model, data)

    def follow(self, state: RobotState, objects: Array, command: JointCommand | None) -> None:
        """Stand where another simulator's robot and objects stand after one control tick, in place of `step`.

        No physics of this world takes place: contacts and distances are those of the new posture, velocities of the
        objects the differences to the last one. So whatever watches a world (scoring) can watch another simulator.

        Args:
            state: the other robot's joints (any order, all of them) and base; its stamp is not looked at.
            objects: (n, 7) poses (x, y, z, qx, qy, qz, qw) in odom, in the order of `SceneSpec.placed`.
            command: what its driver was told in this tick; None for nothing.

        Raises:
            ValueError: a joint is missing or unknown, or the objects are not those of the scene.
        """
        model, data = self.model, self.data
        if set(state.names) != set(self.robot.joint_names) or objects.shape != self._pose.shape:
            raise ValueError(
                f"a state of {len(state.names)} joints and {objects.shape} poses cannot be followed, expected the "
                f"{len(self._q)} joints of the robot and {self._pose.shape}"
            )
        self._take(command)
        before = data.qpos.copy()
        order = np.array([state.names.index(name) for name in self.robot.joint_names])
        data.qpos[self._q] = state.position[order]
        for side in SIDES:
            follower = int(model.joint(f"{side}_gripper_mimic_joint").qposadr[0])
            data.qpos[follower] = state.position[state.names.index(self.robot.gripper_joint(side))]
        data.qpos[self._base_q] = state.base_pose
        data.qpos[self._pose] = objects
        mujoco.mj_differentiatePos(model, data.qvel, self.physics.tick / NANOSECONDS, before, data.qpos)
        data.qvel[self._v] = state.velocity[order]
        target, rate, stiffness, damping, effort = self._drive()
        position, velocity = data.qpos[self._q], data.qvel[self._v]
        self._asked = stiffness * (target - position) + damping * (rate - velocity) + effort
        mujoco.mj_forward(model, data)
        self._ticks += 1
        self._watch()

    def _drive(self) -> Array:
        """(5, 19) what the driver gives to the actuators: target, rate, stiffness, damping, feed-forward."""
        return np.array([self._target, self._rate, self._stiffness, self._damping, self._effort])

    def _take(self, command: JointCommand | None) -> None:
        if command is None:
            self._rate[:] = 0.0
            self._twist = [0.0, 0.0, 0.0]
            return
        index = self._command_index.get(command.names)
        if index is None:
            try:
                index = self.robot.indices(command.names)
            except KeyError as error:
                raise ValueError(f"the joint command cannot be executed: {error.args[0]}") from None
            self._command_index[command.names] = index
        self._target[index] = command.position
        self._rate[index] = command.velocity
        self._stiffness[index] = command.stiffness
        self._damping[index] = command.damping
        self._effort[index] = command.effort
        self._twist = command.base_twist.tolist()

    def _drive_base(self) -> None:
        """One physics step of the platform's drives: body twist within limits, turned into the world by this yaw.

        Plain floats: a few numbers at every physics step.
        """
        servo = self._servo_twist
        for i, (wanted, most, step) in enumerate(zip(self._twist, self._base_most, self._base_step, strict=True)):
            change = min(max(wanted, -most), most) - servo[i]
            servo[i] += min(max(change, -step), step)
        vx, vy, wz = servo
        yaw = self.data.qpos[self._yaw]
        c, s = math.cos(yaw), math.sin(yaw)
        gx, gy, gz = self._base_gain
        self.data.ctrl[self._base_u] = (gx * (c * vx - s * vy), gy * (s * vx + c * vy), gz * wz)

    def _watch(self) -> None:
        """Count crossings of limits, hash the trajectory."""
        data = self.data
        self._watched[0] = q = data.qpos[self._q]
        self._watched[1] = data.qvel[self._v]
        self._watched[2] = self._asked
        outside = (self._watched < self._least) | (self._watched > self._most)
        fast = outside[1].copy()
        outside[1] &= self._fast
        self._fast = fast
        tilted = np.array([math.hypot(q[a], q[b]) > self._most_tilt for a, b in self._tilt])
        if outside.any() or tilted.any():
            position, velocity, effort = (outside & ~self._outside).sum(axis=1)
            self._counts += (position, velocity, (tilted & ~self._tilted).sum(), effort)
        self._outside, self._tilted = outside, tilted
        self._hash.update(data.qpos)
        self._hash.update(data.qvel)

    # -- what can be known ----------------------------------------------------------------------------------------

    def state(self) -> RobotState:
        """What the robot measures now."""
        data = self.data
        pose = data.qpos[self._base_q]
        vx, vy, wz = data.qvel[self._base_v]
        c, s = np.cos(pose[2]), np.sin(pose[2])
        return RobotState(
            stamp=self.time,
            names=self.robot.joint_names,
            position=data.qpos[self._q],
            velocity=data.qvel[self._v],
            effort=data.actuator_force[self._u],
            base_pose=pose,
            base_twist=np.array([c * vx + s * vy, c * vy - s * vx, wz]),
        )

    def scene_state(self) -> SceneState:
        """Ground truth: what lies where, in the order of `SceneSpec.placed`."""
        poses = self.object_poses()
        return SceneState(
            stamp=self.time,
            objects=tuple(
                SceneObject(
                    name=placed.name,
                    category=placed.item.category,
                    color=placed.item.color,
                    shape=placed.item.shape,
                    pose=pose,
                    size=np.array(placed.item.size),
                    container=placed.item.container,
                )
                for placed, pose in zip(self.scene.placed, poses, strict=True)
            ),
            table_height=self.scene.table.height,
        )

    def object_poses(self) -> Array:
        """(n, 7) poses (x, y, z, qx, qy, qz, qw) in odom, in the order of `SceneSpec.placed`."""
        poses: Array = self.data.qpos[self._pose]
        return poses

    def frame(self, name: str) -> Array:
        """4x4 pose in odom of a link of the URDF (`left_tcp`, `head_camera_optical_frame` ...).

        Raises:
            KeyError: there is no such link.
        """
        body = self.data.body(name)
        pose = np.eye(4)
        pose[:3, :3] = body.xmat.reshape(3, 3)
        pose[:3, 3] = body.xpos
        return pose

    def wrenches(self) -> dict[str, Array]:
        """Per side the (6,) force (N) and torque (Nm) that hand and load exert on the wrist, in hand_link's axes.

        At rest: the weight of hand, fingers and load.
        """
        readings = -self.data.sensordata[self._wrench]
        return dict(zip(SIDES, readings, strict=True))

    @property
    def commanded(self) -> Array:
        """(19,) positions the driver steers to, in the order of `robot.joint_names`; the last commanded ones."""
        return self._target.copy()

    @property
    def limits(self) -> LimitCounts:
        """Limits crossed since the reset."""
        return LimitCounts(*(int(n) for n in self._counts))

    def digest(self) -> str:
        """Hash of the trajectory so far (positions and velocities of everything at every tick), hexadecimal.

        Equal for equal scenes and commands on one machine and build, to the bit.
        """
        return self._hash.hexdigest()

    # -- pictures -------------------------------------------------------------------------------------------------

    def freeze(self) -> mujoco.MjData:
        """A copy of this instant, to draw from in another thread while the world goes on; valid until the next call."""
        if self._frozen is None:
            self._frozen = mujoco.MjData(self.model)
        mujoco.mj_copyData(self._frozen, self.model, self.data)
        return self._frozen

    def images(self, instant: mujoco.MjData | None = None) -> dict[str, NDArray[np.uint8]]:
        """Camera name to (H, W, 3) RGB, for the cameras of this world.

        Args:
            instant: from `freeze`; None for now. The same for the other pictures.

        Raises:
            RenderError: no OpenGL on this machine.
        """
        pictures = self._draw(self.cameras, self.image_size, self._pretty, depth=False, instant=instant)
        return {name: picture[0] for name, picture in zip(self.cameras, pictures, strict=True)}

    def images_and_depth(
        self, instant: mujoco.MjData | None = None
    ) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """Like `images`, with the aligned (H, W) depth along the view axis in metres."""
        pictures = self._draw(self.cameras, self.image_size, self._pretty, depth=True, instant=instant)
        return {
            name: (rgb, depth) for name, (rgb, depth) in zip(self.cameras, pictures, strict=True) if depth is not None
        }

    def depth(self) -> dict[str, NDArray[np.float32]]:
        """Camera name to (H, W) depth along the view axis in metres."""
        return {name: depth for name, (_, depth) in self.images_and_depth().items()}

    def photograph(
        self,
        camera: str = OUTSIDE_CAMERA,
        size: tuple[int, int] = (480, 640),
        pretty: bool = True,
        instant: mujoco.MjData | None = None,
    ) -> NDArray[np.uint8]:
        """(H, W, 3) RGB from any camera, `size` = (height, width); for people, not for policies."""
        return self._draw((camera,), size, pretty, depth=False, instant=instant)[0][0]

    def intrinsics(self, camera: str) -> Array:
        """(3, 3) pinhole matrix of a camera's pictures of `image_size`."""
        height, width = self.image_size
        focal = height / 2 / np.tan(np.radians(self.model.camera(camera).fovy[0]) / 2)
        return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])

    def _draw(
        self,
        cameras: Sequence[str],
        size: tuple[int, int],
        pretty: bool,
        depth: bool,
        instant: mujoco.MjData | None,
    ) -> list[tuple[NDArray[np.uint8], NDArray[np.float32] | None]]:
        if not cameras:
            return []
        key = (*size, pretty)
        if key not in self._renderers:
            model = self.model
            if pretty != self._pretty:
                if self._pretty_model is None:
                    self._pretty_model = build_model(self.robot, self.scene, self.physics, pretty)
                model = self._pretty_model
            self._renderers[key] = Renderer(model, width=size[1], height=size[0])
        data = self.data if instant is None else instant
        return self._renderers[key].render(data, [self.model.camera(name).id for name in cameras], depth)
