"""Fuzz of the whole controller: wild hand and joint targets, jumping obstacles; every limit is watched.

    python -m wbc_controller.benchmarks.fuzz --ticks 1000000

Every half second of simulated time the target changes: out of reach, upside down, through singularities, a hundred
times too fast, joints anywhere within their limits, the base anywhere; obstacles jump, onto the robot too. Joints and
base do what they are told. A failure is a tick whose solver failed, whose command is not finite, or after which the
mode is not the owner's.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np
from bytemini_core.types import NANOSECONDS, BaseReference, HandReference, Mode, RobotState, WholeBodyReference
from bytemini_description.robot import RobotModel, load_robot

from wbc_controller.config import WbcConfig
from wbc_controller.controller import WholeBodyController
from wbc_controller.horizon import Preview
from wbc_controller.model import robot_problem
from wbc_controller.proximity import ITEM
from wbc_controller.solver import make_solver

_CHANGE = 100  # ticks


def wild_reference(robot: RobotModel, rng: np.random.Generator, base: np.ndarray) -> dict[str, Any]:
    """What the reference asks for until the next change."""
    names: tuple[str, ...] = ()
    position = velocity = np.zeros(0)
    hands: list[tuple[str, np.ndarray, np.ndarray]] = []
    pick = rng.integers(0, 4)
    if pick in (0, 1):
        names = robot.joint_names if pick == 0 else tuple(rng.permutation(robot.joint_names)[: rng.integers(1, 19)])
        index = robot.indices(names)
        position = rng.uniform(robot.lower[index], robot.upper[index])
        velocity = rng.normal(size=len(names)) * rng.choice((0.0, 1.0, 100.0))
    if pick in (1, 2, 3):
        for frame in ("left_tcp", "right_tcp")[: rng.integers(1, 3)]:
            quaternion = rng.normal(size=4)
            place = np.concatenate((base[:2], [1.0])) + rng.normal(size=3) * rng.choice((0.2, 0.6, 3.0))
            twist = rng.normal(size=6) * rng.choice((0.0, 1.0, 100.0))
            hands.append((frame, np.concatenate((place, quaternion / np.linalg.norm(quaternion))), twist))
    pose = base + rng.normal(size=3) if rng.random() < 0.5 else None
    steer = BaseReference(pose, 2.0 * rng.normal(size=3)) if rng.random() < 0.6 else None
    return {
        "names": names,
        "position": position,
        "velocity": velocity,
        "acceleration": np.zeros(len(names)),
        "hands": tuple(HandReference(*hand) for hand in hands),
        "base": steer,
    }


def _obstacles(rng: np.random.Generator, base: np.ndarray) -> np.ndarray:
    items = np.zeros((rng.integers(0, 7), ITEM))
    for item in items:
        basis, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        item[:9] = basis.ravel()
        item[9:12] = np.concatenate((base[:2], [0.9])) + rng.normal(size=3) * 0.6
        item[12:15] = rng.uniform(0.02, 0.5, 3)
        item[15] = rng.uniform(0.0, 0.05)
    return items


def run_fuzz(robot: RobotModel, ticks: int, seed: int, preview: Preview | None = None) -> dict[str, Any]:
    """Run `ticks`: failures, position violations, and the largest velocity and acceleration over their limits.

    `nearest_mm`: smallest distance that two bodies of the robot had (`test_model.py` holds distances against coal).
    """
    rng = np.random.default_rng(seed)
    controller = WholeBodyController(robot, WbcConfig(max_jump=1e6, max_base_jump=1e6, hand_jump=1e6, preview=preview))
    dt = controller.config.period
    bodies, _ = make_solver(robot_problem(robot, dt))
    zero = np.zeros(19)
    q, base, velocity = robot.home.copy(), np.zeros(3), np.zeros(22)
    fastest = np.concatenate((robot.base_velocity, robot.velocity))
    hardest = np.concatenate((robot.base_acceleration, robot.acceleration))
    wrists = [robot.indices((f"{side}_wrist_pitch_joint", f"{side}_wrist_roll_joint")) for side in ("left", "right")]
    failures = violations = 0
    most, nearest = np.zeros(2), np.inf
    wild: dict[str, Any] = {}
    for k in range(ticks):
        stamp = round(k * dt * NANOSECONDS)
        if k % _CHANGE == 0:
            wild = wild_reference(robot, rng, base)
            controller.set_environment(_obstacles(rng, base))
        state = RobotState(stamp, robot.joint_names, q, zero, zero, base)
        reference = WholeBodyReference(stamp, Mode.TELEOP, **wild) if k else None
        command = controller.update(k * dt, state, reference)
        if k == 0:
            controller.request_mode(Mode.TELEOP)
        elif command.status.mode is not Mode.TELEOP or controller.failures:
            failures += 1
            controller.request_mode(Mode.TELEOP)
        joint = command.joint
        moved = np.concatenate((joint.base_twist, (joint.position - q) / dt)) if k else velocity
        failures += not np.isfinite(moved).all()
        tilt = max(float(np.hypot(*joint.position[wrist])) for wrist in wrists)
        inside = (joint.position >= robot.lower).all() and (joint.position <= robot.upper).all()
        violations += not inside or tilt >= robot.wrist_tilt_limit
        most = np.maximum(most, (np.max(np.abs(moved) / fastest), np.max(np.abs(moved - velocity) / dt / hardest)))
        velocity, q = moved, joint.position
        nearest = min(nearest, bodies.nearest(np.concatenate((base, q))))
        cos, sin = np.cos(base[2]), np.sin(base[2])
        vx, vy, wz = joint.base_twist
        base = base + dt * np.array((cos * vx - sin * vy, sin * vx + cos * vy, wz))
    return {
        "ticks": ticks,
        "failures": int(failures),
        "position_violations": int(violations),
        "max_velocity_ratio": float(most[0]),
        "max_acceleration_ratio": float(most[1]),
        "nearest_mm": 1e3 * nearest,
    }


def main(argv: list[str]) -> int:
    """Fuzz the whole-body controller."""
    parser = argparse.ArgumentParser(prog="fuzz", description=main.__doc__)
    parser.add_argument("--ticks", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--robot", choices=("v1", "v2"), default="v1", help="default: %(default)s")
    parser.add_argument("--preview", action="store_true", help="plan ahead")
    arguments = parser.parse_args(argv)
    preview = Preview() if arguments.preview else None
    result = run_fuzz(load_robot(arguments.robot), arguments.ticks, arguments.seed, preview)
    print(json.dumps(result))
    good = result["failures"] == 0 and result["position_violations"] == 0 and result["nearest_mm"] > 0.0
    bounded = max(result["max_velocity_ratio"], result["max_acceleration_ratio"]) <= 1.0 + 1e-7
    return 0 if good and bounded else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
