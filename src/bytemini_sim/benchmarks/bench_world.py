"""Where the time of the world goes: physics, the rest of a tick, scoring, pictures, loading a scene.

    python benchmarks/bench_world.py [--robot v1|v2] [--json FILE]

Best of several repeats, one process; the physics step has the table, six objects and a container.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
from bytemini_core.types import JointCommand
from bytemini_description.robot import load_robot
from bytemini_sim.scoring import Scorer
from bytemini_sim.tasks import make_task
from bytemini_sim.world import World


def best(function: Callable[[], object], calls: int, repeats: int = 10) -> float:
    """Seconds per call, of the fastest of `repeats` rounds."""
    fastest = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        fastest = min(fastest, (time.perf_counter() - start) / calls)
    return float(fastest)


def measure(version: str) -> dict[str, float]:
    """All numbers for one robot."""
    robot = load_robot(version)
    task = make_task("pick_place")
    world = World(robot, task.sample(0))
    zeros = np.zeros(len(robot.joint_names))
    effort = np.array([world.data.qfrc_bias[int(world.model.joint(n).dofadr[0])] for n in robot.joint_names])
    command = JointCommand(0, robot.joint_names, robot.home, zeros, robot.stiffness, robot.damping, effort)
    scorer = Scorer(world)

    def physics() -> None:
        mujoco.mj_step2(world.model, world.data)
        mujoco.mj_step1(world.model, world.data)

    def tick() -> None:
        world.step(command)
        scorer.update()

    seeds = iter(range(1, 10_000))
    step = best(physics, 400)
    numbers = {
        "physics_realtime_factor": world.physics.timestep / step,
        "world_realtime_factor": world.physics.tick * 1e-9 / best(lambda: world.step(command), 200),
        "scored_realtime_factor": world.physics.tick * 1e-9 / best(tick, 200),
        "state_us": 1e6 * best(world.state, 200),
        "scene_state_us": 1e6 * best(world.scene_state, 200),
        "camera_sets_per_second": 1.0 / best(world.images, 10),
        "camera_sets_with_depth_per_second": 1.0 / best(world.images_and_depth, 10),
        "sample_ms": 1e3 * best(lambda: task.sample(next(seeds)), 20, 3),
    }
    numbers["load_scene_ms"] = 1e3 * best(lambda: world.reset(task.sample(next(seeds))), 5) - numbers["sample_ms"]
    world.close()
    return numbers


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robot", choices=("v1", "v2"), default="v1")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    numbers = measure(options.robot)
    for name, value in numbers.items():
        print(f"{name:36s}{value:10.1f}")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
