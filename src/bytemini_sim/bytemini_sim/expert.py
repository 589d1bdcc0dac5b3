"""The scripted expert: simulation only, it reads the scene's ground truth.

Closed loop at the policy's rate: every call compares the measured posture and the objects' poses with the plan in
force, and plans again only where they disagree (the object moved, the grasp failed or was lost, the arm was pushed
away). So a call costs a look-up and a few comparisons; a plan costs 0.1 to 0.3 s, once or twice in an episode.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from bytemini_core.types import (
    NANOSECONDS,
    SIDES,
    ActionChunk,
    Array,
    Observation,
    PolicyMetadata,
    SceneObject,
    SceneState,
    TaskStatus,
)
from numpy.typing import NDArray

from bytemini_sim.clearance import inside_of
from bytemini_sim.grammar import plain, resolve, things_in
from bytemini_sim.ik import quaternion_matrix
from bytemini_sim.motion import Limits, Trajectory
from bytemini_sim.planner import Held, Mover, Pick, Place, Planner, below, room_of

if TYPE_CHECKING:
    from bytemini_description.robot import RobotModel

HORIZON = 16
DT = 0.1

SQUEEZE = 0.008
"""How far inside an object's surface each finger is sent (m): with the gripper's stiffness, 20 N."""
MOVED = 0.008
"""An object this far (m) from where the plan saw it is planned for again."""
STILL = 0.003
"""An object that moves less than this (m) between two observations has come to rest."""
TURNED = np.radians(10.0)
MISSED = 0.010
"""Fingers this much closer (m) than the object is wide have not got it."""
LOST = 0.035
"""An object this far (m) from where it was in the hand has been lost."""
PUSHED = 0.25
"""An arm joint this far (rad) from the plan has been pushed: plan again from where it is."""
AT_HOME = 0.1
"""An arm whose joints are within this (rad) of home is at home, or of where it rests, at rest."""
ASIDE = {"shoulder_roll_joint": 0.7, "shoulder_yaw_joint": 0.0}
"""Where arms that are otherwise at home hide nothing on the table from the head camera (rad)."""
GLANCE = (0.2, 1.2)
"""So long (s), by chance, nothing moves when the view is clear: who learns from it may need a moment, and has then come
to rest."""
STARTED = 0.002
"""A robot within this (rad, m) of where a plan starts from rest has not begun it: so long the plan waits for it."""
ATTEMPTS = 6
"""Grasps begun before giving up."""
PICKS = 8
"""Grasps whose delivery is planned before a plan has failed."""
LOOKS = 5
"""Plans that may fail before giving up."""

_INSTRUCTION = re.compile(
    r"^\s*(?:please\s+)?(?:put|place|move|drop)\s+(?P<object>.+)\s+(?:in|into|inside|onto|on)\s+(?P<container>.+?)[\s.!]*$",
    re.IGNORECASE,
)

_REACHING = ("clear", "look", "approach", "descend")
_CARRYING = ("transfer", "lower")
_FREE = ("approach", "transfer", "home")


def parse_instruction(instruction: str) -> tuple[str, str] | None:
    """The object's and the container's names of "put the A into the B", lower case without articles, or None."""
    match = _INSTRUCTION.match(instruction)
    if match is None:
        return None
    return plain(match["object"]), plain(match["container"])


def find(scene: SceneState, name: str, container: bool) -> SceneObject | None:
    """The object or container that a phrase means, see `grammar.resolve`."""
    meant = resolve(name, things_in(scene, container))
    return scene.find(meant) if meant is not None else None


def aside(robot: RobotModel, side: str) -> Array:
    """The posture (7,) of an arm beside the head camera's view."""
    names = robot.arm_joints(side)
    posture = robot.home[robot.indices(names)].copy()
    for joint, angle in ASIDE.items():
        posture[names.index(f"{side}_{joint}")] = angle
    return np.asarray(posture)


class PickPlaceExpert:
    """Puts a named object into a named container. A `Policy` (bytemini_core.types); privileged, simulation only.

    Attributes:
        phase: what it is doing, for display: "clear", "look", "approach", "descend", "close", "lift", "transfer",
            "lower", "release", "retreat", "home", "recover", "done", "invalid", "stuck", or "" before the first
            observation.
        trouble: why it refused or is stuck, "" otherwise.
        attempts: grasps begun in this task.
        goal: names of the object and the container to serve, whatever the instruction says; None: as it says.
        intended: the last chunk without injected noise: from where the noise has left the robot back to the plan. The
            label of choice for imitation; to look takes no time in it, for how long that takes is not to be seen.
    """

    def __init__(
        self, robot: RobotModel, *, noise_scale: float = 0.0, seed: int = 0, clears_view: bool = False
    ) -> None:
        """Prepare for a robot.

        Args:
            robot: the robot model.
            noise_scale: 0 for clean motion; 1 pushes arms and base off course on most of the free ways, by a few
                centimetres at the hand, so that demonstrations show recovery.
            seed: of the noise.
            clears_view: its arms rest beside the head camera's view instead of at home, where they hide one thing in
                five, and where they are at home it begins by moving them there. Itself it knows what is there; who is
                to learn from it has to see it.

        Raises:
            ValueError: `noise_scale` is negative or not finite.
        """
        if not (np.isfinite(noise_scale) and noise_scale >= 0):
            raise ValueError(f"noise_scale is {noise_scale}, expected a number of at least 0")
        self._robot = robot
        self._clears_view = clears_view
        self._planner = Planner(robot, {side: aside(robot, side) for side in SIDES} if clears_view else None)
        self._noise_scale = noise_scale
        self._seed = seed
        self.goal: tuple[str, str] | None = None
        arms = [name for side in SIDES for name in robot.arm_joints(side)]
        self._joints = [*arms, *(robot.gripper_joint(side) for side in SIDES)]
        index = robot.indices(self._joints)
        self._lower, self._upper = robot.lower[index], robot.upper[index]
        self._columns = (*self._joints, "base/x", "base/y", "base/yaw")
        if self._columns != tuple(robot.policy_columns):
            raise ValueError(f"the robot's policy columns are {robot.policy_columns}, the expert emits {self._columns}")
        self._limits = Limits(
            velocity=np.concatenate([0.55 * robot.velocity[index], 0.85 * robot.base_policy_velocity]),
            acceleration=np.concatenate([0.5 * robot.acceleration[index], 0.6 * robot.base_acceleration]),
            jerk=np.concatenate([0.6 * robot.jerk[index], 0.6 * robot.base_jerk]),
        )
        self._arm = {"left": slice(0, 7), "right": slice(7, 14)}
        self._grip = {"left": 14, "right": 15}
        self.reset()

    @property
    def metadata(self) -> PolicyMetadata:
        """19 columns, k = 16 rows of 0.1 s, no cameras, privileged."""
        return PolicyMetadata(
            name="expert",
            columns=self._columns,
            horizon=HORIZON,
            dt=DT,
            privileged=True,
            extra={"simulation_only": True},
        )

    def reset(self) -> None:
        """Forget the task; the noise starts over from its seed."""
        self.phase = ""
        self.trouble = ""
        self.attempts = 0
        self.intended: ActionChunk | None = None
        self._task = ""
        self._meant: tuple[SceneObject | None, ...] | None = None
        self._sequence = 0
        self._motion: Trajectory | None = None
        self._frozen: Array | None = None
        self._pick: Pick | None = None
        self._place: Place | None = None
        self._held: Held | None = None
        self._checked: set[str] = set()
        self._avoid: set[tuple[int, int]] = set()
        self._seen: dict[str, Array] = {}
        self._before = np.zeros(3)
        self._retry_at = 0.0
        self._looks = 0
        self._rng = np.random.default_rng(self._seed)
        self._bumps: list[tuple[float, float, Array]] = []
        self._next_bump = 0.0

    # -- the policy ---------------------------------------------------------------------------------------------------

    def infer(
        self,
        observation: Observation,
        prefix: NDArray[np.float32] | None = None,  # noqa: ARG002 (plans continue themselves)
        noise: NDArray[np.float32] | None = None,  # noqa: ARG002 (nothing generative)
    ) -> ActionChunk:
        """Compare with the plan, plan again where needed, and say the next 1.6 s.

        Raises:
            ValueError: the observation has no scene.
        """
        started = time.perf_counter()
        if observation.scene is None:
            raise ValueError("the scripted expert needs Observation.scene (simulation only); use a policy that looks")
        if observation.instruction != self._task or not self.phase:
            self.reset()
            self._task, self.phase = observation.instruction, "approach"
        now = observation.stamp / NANOSECONDS
        measured = self._measure(observation)
        self._think(now, observation, measured)
        chunk = self._chunk(now, observation, measured, time.perf_counter() - started)
        self._sequence += 1
        return chunk

    def at_rest(self, stamp: int) -> bool:
        """Whether the motion in force is over at a stamp (ns)."""
        return self._motion is None or stamp / NANOSECONDS >= self._motion.end

    def rest(self) -> None:
        """Consider the task done, and rest where the motion in force ends."""
        if self.phase != "done":
            self.phase, self.trouble = "done", ""
            self._frozen = self._motion.goal if self._motion is not None else self._frozen

    def _measure(self, observation: Observation) -> Array:
        state = observation.state
        at = {name: i for i, name in enumerate(state.names)}
        joints = state.position[[at[name] for name in self._joints]]
        return np.concatenate([joints, state.base_pose])

    def _lift_position(self, observation: Observation) -> float:
        return float(observation.state.position[observation.state.names.index("lift_joint")])

    # -- deciding -----------------------------------------------------------------------------------------------------

    def _think(self, now: float, observation: Observation, measured: Array) -> None:
        scene = observation.scene
        assert scene is not None
        if self.phase in ("invalid", "done"):
            return
        names = self.goal or parse_instruction(observation.instruction)
        if self.goal is not None:
            self._meant = tuple(scene.find(name) for name in self.goal)
        elif names is not None and self._meant is None:
            # Found out once: what is largest stays so, but what is leftmost changes while it is carried.
            self._meant = tuple(find(scene, name, container=k == 1) for k, name in enumerate(names))
        target, container = (scene.find(item.name) if item else None for item in self._meant or (None, None))
        if names is None or target is None or container is None:
            self._refuse(names, target, measured)
            return
        lift = self._lift_position(observation)
        if self._motion is None:
            begun = Trajectory(now, measured)
            if self._clears_view:
                self._clear_view(begun)
            if self.is_inside(target, container):
                self._leave(begun, scene, lift)
            else:
                self._plan(begun, scene, target, container, lift)
        elif self.phase == "stuck" and now >= self._retry_at:
            self._begin(now, scene, target, container, measured, lift)
        elif self.phase != "stuck":
            self._watch(now, scene, target, container, measured, lift)
        if self.phase not in ("stuck", "done") and self._motion is not None:
            self.phase = self._motion.phase(now)

    def _refuse(self, names: tuple[str, str] | None, target: SceneObject | None, measured: Array) -> None:
        self.phase = "invalid"
        self._frozen = measured
        if names is None:
            self.trouble = f"{self._task!r} is not of the form 'put the A into the B'"
        elif target is None:
            self.trouble = f"there is no {names[0]} here"
        else:
            self.trouble = f"there is no {names[1]} here"

    def _watch(
        self, now: float, scene: SceneState, target: SceneObject, container: SceneObject, measured: Array, lift: float
    ) -> None:
        """Compare the world with the plan in force and act on what is different."""
        motion, pick = self._motion, self._pick
        assert motion is not None
        self.phase = motion.phase(now)
        if pick is None:  # it was brought in before, there is only the way home
            if now >= motion.end + 0.1:
                self.phase, self._frozen = "done", motion.goal
            return
        if not motion.velocity.any() and np.abs(measured - motion.start).max() < STARTED:
            motion.begin_at(now)  # the first chunk is still on its way
        planned = motion.sample(np.array([now - 0.05]))[0] + self._offset(np.array([now - 0.05]))[0]
        pushed = np.abs(planned - measured)[:14].max() > PUSHED or np.abs(planned - measured)[16:18].max() > 0.08
        if self.phase in _REACHING:
            still = np.linalg.norm(target.pose[:3] - self._before) < STILL
            self._before = np.array(target.pose[:3])
            touching = now > motion.when("descend") - 0.15
            if pushed:
                self._begin(now, scene, target, container, measured, lift)
            elif still and not touching and self._has_moved(target):
                if self.phase == "descend":  # most likely the hand itself did it
                    self._recover(now, scene, target, container, measured, lift)
                else:
                    self._begin(now, scene, target, container, measured, lift, moving=True)
            return
        side = pick.side
        opening = float(measured[self._grip[side]])
        rotation, tcp = self._tcp(side, measured, lift)
        if "close" not in self._checked and now >= motion.when("close") + 0.08:
            self._checked.add("close")
            if opening < max(pick.width / 2 - MISSED, 0.003):
                self._recover(now, scene, target, container, measured, lift)
                return
        held = Held.measure(target, rotation, tcp)
        if "lift" not in self._checked and now >= motion.when("lift") - 0.12:
            self._checked.add("lift")
            slipped = float(np.linalg.norm(held.offset - pick.held.offset))
            if slipped > LOST or opening < 0.003:
                self._recover(now, scene, target, container, measured, lift)
                return
            if slipped > 0.004 or np.abs(held.rotation - pick.held.rotation).max() > 0.08:
                self._carry(scene, container, held, motion.goal_after("lift"), lift, opening)
            self._held = held
            return
        if self.phase in _CARRYING or (self.phase == "lift" and "lift" in self._checked):
            assert self._held is not None
            if np.linalg.norm(held.offset - self._held.offset) > LOST:
                self._recover(now, scene, target, container, measured, lift)
            return
        if now >= motion.end + 0.1:
            if self.is_inside(target, container):
                self.phase = "done"
                self._frozen = motion.goal
            else:
                self._begin(now, scene, target, container, measured, lift)

    def _has_moved(self, item: SceneObject) -> bool:
        pose = self._seen[item.name]
        if np.linalg.norm(item.pose[:3] - pose[:3]) > MOVED:
            return True
        if item.shape == "sphere":
            return False
        between = quaternion_matrix(pose[3:]).T @ quaternion_matrix(item.pose[3:])
        return bool(np.arccos(np.clip((np.trace(between) - 1) / 2, -1, 1)) > TURNED)

    @staticmethod
    def is_inside(item: SceneObject, container: SceneObject) -> bool:
        """Whether an object's centre is between a container's walls and its lowest point below the rim."""
        rotation = quaternion_matrix(container.pose[3:])
        local = rotation.T @ (item.pose[:3] - container.pose[:3])
        lowest = below(Held(item, np.zeros(3), quaternion_matrix(item.pose[3:])), np.eye(3))
        rim = container.size[2] / 2
        return inside_of(container).holds(local) and -rim < local[2] and float(local[2] - lowest) < rim - 0.01

    def _tcp(self, side: str, measured: Array, lift: float) -> tuple[Array, Array]:
        """The tcp's rotation (3, 3) and position (3,) in the scene."""
        rotation, position = self._planner.arms[side].forward(measured[self._arm[side]], lift)["tcp"]
        yaw = measured[18]
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
        return turn @ rotation, turn @ position + [measured[16], measured[17], 0.0]

    # -- planning -----------------------------------------------------------------------------------------------------

    def _present(self, now: float, measured: Array, moving: bool) -> tuple[Array, Array]:
        """Where a new plan starts: on the plan in force, so that nothing jumps, or else where the robot is."""
        assert self._motion is not None
        if not moving:
            start = measured.copy()  # a gripper that squeezes goes on squeezing
            start[14:16] = self._motion.sample(np.array([now]))[0][14:16]
            return start, np.zeros_like(start)
        return self._motion.sample(np.array([now]))[0], self._motion.rate(now)

    def _begin(
        self,
        now: float,
        scene: SceneState,
        target: SceneObject,
        container: SceneObject,
        measured: Array,
        lift: float,
        moving: bool = False,
    ) -> None:
        """Plan the whole task from here."""
        start, velocity = self._present(now, measured, moving)
        self._plan(Trajectory(now, start, velocity), scene, target, container, lift)

    def _recover(
        self, now: float, scene: SceneState, target: SceneObject, container: SceneObject, measured: Array, lift: float
    ) -> None:
        """A grasp failed: let go, back out, and take another one."""
        assert self._pick is not None
        self._avoid.add(self._pick.key)
        start, velocity = self._present(now, measured, moving=True)
        motion = Trajectory(now, start, velocity)
        side = self._pick.side
        back = self._planner.back_off(side, motion.goal[self._arm[side]], motion.goal[16:], lift)
        path = np.repeat(motion.goal[None], len(back), axis=0)
        path[:, self._arm[side]] = back
        path[:, self._grip[side]] = np.minimum(
            np.linspace(path[0, self._grip[side]], 3 * self._planner.open[side], len(back)), self._planner.open[side]
        )
        motion.append("recover", path, self._limits, at_least=0.8)
        self._plan(motion, scene, target, container, lift)

    def _clear_view(self, motion: Trajectory) -> None:
        """Where both arms are at home, move them out of the head camera's view and look."""
        path = np.stack([motion.goal, motion.goal])
        for side in SIDES:
            arm = self._arm[side]
            if np.abs(motion.goal[arm] - self._robot.home[self._robot.indices(self._joints[arm])]).max() > AT_HOME:
                return
            path[1, arm] = self._planner.rest[side]
        motion.append("clear", path, self._limits)
        motion.append("look", path[[1, 1]], self._limits, at_least=float(self._rng.uniform(*GLANCE)))

    def _leave(self, motion: Trajectory, scene: SceneState, lift: float) -> None:
        """Go to rest, out of the container first, from what has been done already."""
        room = room_of(scene, None, lift)
        for side in SIDES:
            arm, grip, rest = self._arm[side], self._grip[side], self._planner.rest[side]
            if np.abs(motion.goal[arm] - rest).max() < AT_HOME:
                continue
            out = self._planner.back_off(side, motion.goal[arm], motion.goal[16:], lift)
            mover, base = Mover(side, self._planner.open[side]), motion.goal[16:]
            way = self._planner.way(mover, out[-1], rest, base, base, room)
            for phase, joints in (("retreat", out), ("home", way if way is not None else np.stack([out[-1], rest]))):
                path = np.repeat(motion.goal[None], len(joints), axis=0)
                path[:, arm] = joints
                path[:, grip] = np.linspace(path[0, grip], self._planner.open[side], len(joints))
                motion.append(phase, path, self._limits, at_least=0.5)
        self._motion, self._pick = motion, None
        if not motion.segments:
            self.phase, self._frozen = "done", motion.goal

    def _plan(
        self, motion: Trajectory, scene: SceneState, target: SceneObject, container: SceneObject, lift: float
    ) -> None:
        goal = motion.goal
        arms = {side: goal[self._arm[side]] for side in SIDES}
        self._seen = {item.name: np.array(item.pose) for item in scene.objects}
        self._before = np.array(target.pose[:3])
        self._checked = set()
        self._held = None
        self._pick = self._place = None
        self._motion = motion
        if self.attempts >= ATTEMPTS:
            self._give_up(motion, f"the {target.name} was not brought in after {ATTEMPTS} attempts", again=False)
            return
        tried: set[tuple[str, tuple[int, int], bytes]] = set()
        for pick in self._planner.picks(scene, target, arms, goal[16:], lift, frozenset(self._avoid)):
            alike = (pick.side, pick.key, pick.base.tobytes())
            if alike in tried:
                continue
            tried.add(alike)
            place = self._planner.place(
                scene, container, pick.held, pick.side, pick.lift[-1], pick.base, lift, pick.width / 2
            )
            if place is not None:
                self._pick, self._place = pick, place
                self.attempts += 1
                self._reach(motion, pick)
                self._deliver(motion, pick.side, place)
                self.phase, self.trouble = "approach", ""
                return
            if len(tried) >= PICKS:
                break
        if self._avoid:
            self._avoid.clear()  # better an approach that failed once than none
        why = "no grasp of" if not tried else "no way to bring in"
        self._give_up(motion, f"{why} the {target.name} is free and within reach")

    def _give_up(self, motion: Trajectory, why: str, again: bool = True) -> None:
        """Rest, and look again in a while a few times: things may move."""
        self.trouble = why
        self.phase = "stuck"
        self._looks += 1
        self._retry_at = motion.end + 2.0 if again and self._looks < LOOKS else np.inf

    def _reach(self, motion: Trajectory, pick: Pick) -> None:
        arm, grip, limits = self._arm[pick.side], self._grip[pick.side], self._limits
        idle = "right" if pick.side == "left" else "left"

        def path(joints: Array) -> Array:
            knots = np.repeat(motion.goal[None], len(joints), axis=0)
            knots[:, arm] = joints
            return knots

        way = path(pick.approach)
        s = np.linspace(0.0, 1.0, len(way))[:, None]
        rest = np.append(self._planner.rest[idle], self._planner.open[idle])
        idle_columns = [*range(self._arm[idle].start, self._arm[idle].stop), self._grip[idle]]
        way[:, idle_columns] += s * (rest - way[:, idle_columns])
        way[:, 16:] += s * (pick.base - way[:, 16:])
        way[:, grip] += s[:, 0] * (pick.opening - way[:, grip])
        motion.append("approach", way, limits, at_least=1.2)
        motion.append("descend", path(pick.descend), limits, at_least=0.8, overlap=0.12)
        closed = np.repeat(motion.goal[None], 2, axis=0)
        closed[1, grip] = max(pick.width / 2 - SQUEEZE, 0.0)
        motion.append("close", closed, limits, at_least=0.4, overlap=-0.12)
        motion.append("lift", path(pick.lift), limits, at_least=0.7, overlap=-0.2)

    def _deliver(self, motion: Trajectory, side: str, place: Place) -> None:
        arm, grip, limits = self._arm[side], self._grip[side], self._limits

        def path(joints: Array) -> Array:
            knots = np.repeat(motion.goal[None], len(joints), axis=0)
            knots[:, arm] = joints
            return knots

        way = path(place.transfer)
        way[:, 16:] = place.base
        motion.append("transfer", way, limits, at_least=1.0)
        motion.append("lower", path(place.lower), limits, at_least=0.5, overlap=0.25)
        opened = np.repeat(motion.goal[None], 2, axis=0)
        opened[1, grip] = place.opening
        motion.append("release", opened, limits, at_least=0.3, overlap=-0.15)
        motion.append("retreat", path(place.retreat), limits, at_least=0.5, overlap=-0.1)
        way = path(place.home)
        way[:, grip] = np.linspace(way[0, grip], self._planner.open[side], len(way))
        motion.append("home", way, limits, at_least=1.0, overlap=0.25)

    def _carry(
        self,
        scene: SceneState,
        container: SceneObject,
        held: Held,
        goal: Array,
        lift: float,
        opening: float,
    ) -> None:
        """Plan the delivery again for the way the object really lies in the hand; keep the old plan if that fails."""
        assert self._pick is not None
        assert self._motion is not None
        side = self._pick.side
        place = self._planner.place(scene, container, held, side, goal[self._arm[side]], goal[16:], lift, opening)
        if place is None:
            return
        self._place = place
        self._motion.keep({"clear", "look", "recover", "approach", "descend", "close", "lift"})
        self._deliver(self._motion, side, place)

    # -- saying -------------------------------------------------------------------------------------------------------

    def _chunk(self, now: float, observation: Observation, measured: Array, seconds: float) -> ActionChunk:
        times: Array = now + DT * np.arange(1, HORIZON + 1, dtype=np.float64)
        status = {"invalid": TaskStatus.INVALID, "done": TaskStatus.TERMINATED}.get(self.phase, TaskStatus.ONGOING)
        if self._frozen is not None:
            clean = executed = np.repeat(self._frozen[None], HORIZON, axis=0)
        else:
            assert self._motion is not None
            plan = self._motion.sample(times)
            self._inject(now)
            executed = plan + self._offset(times)
            fade = 1.0 - np.arange(1, HORIZON + 1)[:, None] / 6.0
            looking = max(self._motion.when("look") - now, 0.0) if self.phase == "look" else 0.0
            meant = self._motion.sample(times + looking)
            clean = meant + np.clip(fade, 0.0, 1.0) ** 2 * self._offset(np.array([now]))
        base, frozen = measured[16:], self._frozen is not None
        chunk = ActionChunk(
            stamp=observation.stamp,
            sequence=self._sequence,
            names=self._columns,
            dt=DT,
            values=self._values(executed, base, frozen),
            task_status=np.full(HORIZON, int(status), dtype=np.int8),
            confidence=np.ones(HORIZON, dtype=np.float32),
            instruction=observation.instruction,
            policy="expert",
            inference_time=seconds,
        )
        self.intended = replace(chunk, values=self._values(clean, base, frozen))
        return chunk

    def _values(self, rows: Array, base: Array, frozen: bool) -> NDArray[np.float32]:
        values = rows.copy()
        if not frozen:  # a robot that is refused or done is left exactly as it is
            values[:, :16] = np.clip(values[:, :16], self._lower, self._upper)
            for start in (5, 12):
                tilt = np.hypot(values[:, start], values[:, start + 1])
                limit = self._robot.wrist_tilt_limit - 1e-3
                values[:, start : start + 2] *= np.minimum(1.0, limit / np.maximum(tilt, 1e-9))[:, None]
        shift = values[:, 16:18] - base[:2]
        c, s = np.cos(base[2]), np.sin(base[2])
        values[:, 16] = c * shift[:, 0] + s * shift[:, 1]
        values[:, 17] = -s * shift[:, 0] + c * shift[:, 1]
        values[:, 18] = (values[:, 18] - base[2] + np.pi) % (2 * np.pi) - np.pi
        return values.astype(np.float32)

    # -- noise --------------------------------------------------------------------------------------------------------

    def _inject(self, now: float) -> None:
        """Now and then push the plan aside for a second, only where there is room: on the free ways."""
        if self._noise_scale == 0.0 or now < self._next_bump:
            return
        length = float(self._rng.uniform(0.5, 0.8))
        amplitude = self._rng.normal(size=19) * np.repeat([0.035, 0.0, 0.012, 0.02], [14, 2, 2, 1]) * self._noise_scale
        assert self._motion is not None
        if self._pick is not None:
            amplitude[self._arm["right" if self._pick.side == "left" else "left"]] = 0.0
        within = [
            segment
            for segment in self._motion.segments
            if segment.phase in _FREE and segment.start <= now + DT and now + length <= segment.end - 0.1
        ]
        if within:
            self._bumps.append((now + 0.05, length, amplitude))
            self._next_bump = now + length + float(self._rng.uniform(0.3, 1.5))

    def _offset(self, times: Array) -> Array:
        """Injected displacement (m, 19) at times (m,)."""
        total = np.zeros((len(times), 19))
        for start, length, amplitude in self._bumps:
            u = np.clip((times - start) / length, 0.0, 1.0)
            total += np.sin(np.pi * u)[:, None] ** 2 * amplitude
        return total
