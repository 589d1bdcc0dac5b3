"""The ByteMini and its controller in robosuite's TwoArmLift, judged by robosuite's own code; run by check_robosuite.sh.

robosuite 1.5 does not go with MuJoCo 4, so its half runs in an environment of its own (robosuite_world.py) and the
stack's half here: scripted targets, trajectory optimizer, whole-body controller, tick by tick.
"""

from __future__ import annotations

import argparse
import itertools
import json
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.types import (
    NANOSECONDS,
    OBSERVATION_PERIOD,
    SIDES,
    Array,
    Mode,
    Observation,
    RobotState,
    SceneObject,
    SceneState,
)
from bytemini_description.robot import RobotModel, load_robot
from bytemini_sim.bimanual_expert import SWIVELS, BimanualExpert
from bytemini_sim.expert import SQUEEZE
from bytemini_sim.grasp import hand_rotation
from bytemini_sim.model import BASE_JOINTS, PhysicsConfig, robot_mjcf
from bytemini_sim.motion import Trajectory
from bytemini_sim.planner import to_base
from bytemini_sim.results.report import wilson_interval
from bytemini_sim.scene import Table
from trajectory_optimizer.optimizer import TrajectoryOptimizer
from trajectory_optimizer.schedule import ChunkSchedule
from wbc_controller.config import WbcConfig
from wbc_controller.controller import WholeBodyController

TASK = "TwoArmLift"
TURN = float(np.radians(30.0))
"""How far the pot may be turned (rad). robosuite turns it by up to 60 degrees; beyond 30 to 45 no place on one side of
the table lets both arms reach."""
LIFT = 0.28
"""The lift's position (m): home is made for a table of 0.72 m, robosuite's is 0.80 m high."""
TILTS = np.radians([36.0, 40.0, 32.0])
SKEWS = np.radians([0.0, 8.0, -8.0, 16.0, -16.0, 24.0, -24.0])
"""How far below horizontal, and how far off the handles' direction, a hand may come (rad)."""
BAR_HALF = 0.010
OPENED = 0.024
"""The gripper joint (m) on the way in: between a handle and the pot is no room for a finger of a hand wide open."""
OVER = 0.06
"""From how far above (m) the hands come down on the handles: along their own line they would meet the handles' ends."""
RISE = 0.15
"""How far the pot is lifted (m); robosuite asks for 0.10."""
SECONDS = 25.0
HANDLES = {"right": "handle 0", "left": "handle 1"}
INSTRUCTION = "lift the pot"


class Bench:
    """robosuite's half as a process."""

    def __init__(self, python: str, robot: RobotModel, folder: Path):
        physics = PhysicsConfig()
        mjcf = folder / "bytemini.xml"
        mjcf.write_text(robot_mjcf(robot), encoding="utf-8")
        posture = dict(zip(robot.joint_names, robot.home.tolist(), strict=True)) | {"lift_joint": LIFT}
        for side in SIDES:
            posture[f"{side}_gripper_mimic_joint"] = posture[robot.gripper_joint(side)]
        ours, theirs = socket.socketpair()
        words = [python, str(Path(__file__).with_name("robosuite_world.py")), str(theirs.fileno())]
        self._process = subprocess.Popen(words, pass_fds=[theirs.fileno()])
        theirs.close()
        self._pipe = Connection(ours.detach())
        table = Table()
        setup = {
            "mjcf": str(mjcf),
            "edge": table.x - table.depth / 2,
            "posture": posture,
            "joints": robot.joint_names,
            "actuators": robot.joint_names,
            "base_joints": BASE_JOINTS,
            "base_actuators": BASE_JOINTS,
            "stiffness": robot.stiffness,
            "damping": robot.damping,
            "base_most": robot.base_velocity,
            "base_step": robot.base_acceleration * physics.timestep,
            "timestep": physics.timestep,
            "period": physics.tick / NANOSECONDS,
        }
        self.version = self.ask("setup", setup)

    def ask(self, *words: Any) -> Any:
        """Its answer.

        Raises:
            RuntimeError: it has ended.
        """
        try:
            self._pipe.send(words)
            return self._pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"robosuite's process ended with exit code {self._process.wait(10)}") from None

    def close(self) -> None:
        """End it."""
        self._pipe.close()
        self._process.wait(20)


class PotLifter(BimanualExpert):
    """Both hands to the pot's handles, and up; the base stands where both reach. A script, not a policy that looks."""

    def _planned(self, now: float, observation: Observation, measured: Array) -> Trajectory | None:
        scene, lift = observation.scene, self._lift_position(observation)
        assert scene is not None
        self._seen = {item.name: np.array(item.pose) for item in scene.objects}
        bars = {side: np.asarray(scene.objects[i].pose[:3]) for i, side in enumerate(HANDLES)}
        across = bars["left"] - bars["right"]
        along = float(np.arctan2(-across[0], across[1]))  # the bars' direction, as the robot sees it from its side
        over, up = np.array([0.0, 0.0, OVER]), np.array([0.0, 0.0, RISE])
        grasp = {side: bar + np.array([0.0, 0.0, 0.006]) for side, bar in bars.items()}
        for base in self._stands(grasp, along, lift):
            paths: dict[str, tuple[Array, Array, Array]] = {}
            for side, skew, tilt in itertools.product(SIDES, SKEWS, TILTS):
                if side in paths:
                    continue
                points = [grasp[side], grasp[side] + up]
                path = self._path(side, along + skew - base[2], tilt, grasp[side] + over, points, base, lift)
                if path is not None:
                    paths[side] = path
            if len(paths) == len(SIDES):
                return self._lifting(now, measured, scene, lift, base, paths)
        self.trouble = "no place to stand from which both hands reach the handles"
        return None

    def _stands(self, grasp: dict[str, Array], along: float, lift: float) -> list[Array]:
        """Base poses before the table's edge from which both hands reach, the least askew first."""
        axes = (np.linspace(-0.16, 0.08, 7), np.linspace(-0.4, 0.4, 11), np.radians(np.arange(-40.0, 41.0, 10.0)))
        stands = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=-1)
        swivels = SWIVELS[::2]
        worst = np.zeros(len(stands))
        for side in SIDES:
            least = np.full(len(stands), np.inf)
            for tilt, skew in itertools.product(TILTS, SKEWS):
                rotation = hand_rotation(np.array(along + skew), np.array(tilt))
                valid = np.ones((len(stands), len(swivels)), dtype=bool)
                for shift in (0.11 * rotation[:, 2] + [0.0, 0.0, OVER], np.zeros(3), np.array([0.0, 0.0, RISE])):
                    R, p = to_base(rotation[None], (grasp[side] + shift)[None], stands)
                    valid &= self._planner.arms[side].inverse(R[:, None], p[:, None], swivels, lift)[1]
                # Askew a hand meets the handle's ends; with one swivel only it is at the edge of its reach.
                cost = abs(skew) + 0.2 * abs(tilt - TILTS[0]) + 0.1 * np.maximum(3 - valid.sum(axis=1), 0)
                least = np.where(valid.any(axis=1), np.minimum(least, cost), least)
            worst = np.maximum(worst, least)
        best = np.argsort(worst, kind="stable")[:8]
        return [stands[i] for i in best if np.isfinite(worst[i])]

    def _lifting(
        self,
        now: float,
        measured: Array,
        scene: SceneState,
        lift: float,
        base: Array,
        paths: dict[str, tuple[Array, Array, Array]],
    ) -> Trajectory:
        motion = Trajectory(now, measured)
        opened = dict.fromkeys(SIDES, OPENED)
        reach = {side: self._clear_way(scene, motion, side, paths[side][0], base, lift) for side in SIDES}
        self._move(motion, "approach", reach, grips=opened, base=base, at_least=2.5)
        self._move(motion, "descend", {side: paths[side][1] for side in SIDES}, at_least=1.0)
        down, up = ({side: np.split(paths[side][2], 2)[k] for side in SIDES} for k in (0, 1))
        self._move(motion, "descend", down, at_least=1.5)
        closed = dict.fromkeys(SIDES, max(BAR_HALF - SQUEEZE, 0.0))
        self._move(motion, "close", {}, grips=closed, at_least=0.5, overlap=-0.1)
        self._move(motion, "lift", up, at_least=2.5, overlap=-0.3)
        return motion

    def _succeeded(self, scene: SceneState) -> bool:  # noqa: ARG002
        return True  # it has done what it can; robosuite judges


def state_of(robot: RobotModel, seen: dict[str, Any], stamp: int) -> RobotState:
    """What robosuite's half measured, as the stack takes it."""
    joints = (seen["position"], seen["velocity"], seen["effort"])
    return RobotState(stamp, robot.joint_names, *joints, seen["base_pose"], seen["base_twist"])


def scene_of(seen: dict[str, Any], stamp: int) -> SceneState:
    """The handles as things of a scene."""
    still = np.array([0.0, 0.0, 0.0, 1.0])
    bar = np.full(3, 2 * BAR_HALF)
    return SceneState(
        stamp,
        tuple(
            SceneObject(name, "handle", "grey", "box", np.concatenate([seen["handles"][side], still]), bar, False)
            for side, name in HANDLES.items()
        ),
        seen["table"],
    )


def episode(bench: Bench, robot: RobotModel, lifter: PotLifter, seed: int) -> dict[str, Any]:
    """One episode; what became of it by robosuite's word."""
    began = time.perf_counter()
    seen = bench.ask("reset", TASK, seed, TURN)
    lifter.reset()
    optimizer = TrajectoryOptimizer(robot)
    optimizer.reset(state_of(robot, seen, 0))
    controller = WholeBodyController(robot, WbcConfig())
    controller.request_mode(Mode.POLICY)
    schedule = ChunkSchedule(OBSERVATION_PERIOD, 0.05)
    tick, period = PhysicsConfig().tick, round(OBSERVATION_PERIOD * NANOSECONDS)
    start, grasped, now, since, held = seen["pot"], dict.fromkeys(HANDLES, False), 0, None, False
    upcoming = None
    while now < SECONDS * NANOSECONDS and not held:
        state = state_of(robot, seen, now)
        if now % period == 0:
            schedule.add(lifter.infer(Observation(now, INSTRUCTION, state, {}, scene_of(seen, now))))
            if lifter.phase in ("stuck", "invalid"):
                break
        optimizer.observe(state)
        for due in schedule.take(now) or ():
            optimizer.add_chunk(due, now)
        reference = upcoming or optimizer.sample(now)
        upcoming = optimizer.sample(now + tick)
        command = controller.update(now / NANOSECONDS, state, reference).joint
        order = [command.names.index(name) for name in robot.joint_names]
        parts = (command.position[order], command.velocity[order], command.effort[order], command.base_twist)
        seen = bench.ask("step", np.concatenate(parts))
        now += tick
        grasped = {side: grasped[side] or seen["grasped"][side] for side in grasped}
        since = (since or now) if seen["success"] else None
        held = since is not None and now - since >= NANOSECONDS  # a second, so that a throw does not count
    return {
        "seed": seed,
        "grasped": sum(grasped.values()),
        "success": bool(held),
        "risen_m": round(float(seen["pot"][2] - start[2]), 3),
        "pot_kg": round(seen["mass"], 2),
        "simulated_s": now / NANOSECONDS,
        "wall_s": round(time.perf_counter() - began, 1),
        "mode": controller.mode.value,
        "trouble": lifter.trouble,
    }


def main() -> int:
    """Lift robosuite's pot with both hands, some seeds; exit code 1 where one fails."""
    parser = argparse.ArgumentParser(prog="check_robosuite", description=main.__doc__)
    parser.add_argument("--python", required=True, help="of robosuite's environment")
    parser.add_argument("--episodes", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=None, help="also write the findings to this file")
    arguments = parser.parse_args()
    robot = load_robot("v1")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments.python, robot, Path(folder))
        try:
            lifter = PotLifter(robot)
            for seed in range(arguments.seed, arguments.seed + arguments.episodes):
                row = episode(bench, robot, lifter, seed)
                rows.append(row)
                print(", ".join(f"{key} {value}" for key, value in row.items() if value != ""), flush=True)
        finally:
            bench.close()
    done, held = sum(row["success"] for row in rows), sum(row["grasped"] for row in rows)
    low, high = wilson_interval(done, len(rows))
    print(
        f"robosuite {bench.version}, {TASK}: {done}/{len(rows)} lifted ({100 * low:.0f} to {100 * high:.0f} %), "
        f"{held}/{2 * len(rows)} handles grasped, by robosuite's own checks"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"robosuite": bench.version, "task": TASK, "episodes": rows}, indent=2))
    return 0 if done == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
