"""Console entry `gazebo_server`: write a task's world, and become Gazebo's server running it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import rclpy
from bytemini_core.node import parameter
from bytemini_description.robot import VERSIONS, load_robot
from bytemini_sim.tasks import make_task
from rclpy.node import Node

from bytemini_gazebo.sdf import world_sdf


def command_line(world: Path, gui: bool) -> list[str]:
    """Gazebo's own command: run at once, without a window or a display unless `gui`."""
    return ["gz", "sim", "-r", "-v", "2", *([] if gui else ["-s", "--headless-rendering"]), str(world)]


def main() -> int:
    """Read the node's parameters, write the world, and give the process to Gazebo."""
    rclpy.init()
    node = Node("gazebo")
    try:
        version = parameter(node, "robot", "v1", "version of the robot", choices=VERSIONS)
        task = parameter(node, "task", "pick_place", "task whose scene is set up")
        setting = parameter(node, "setting", "basic", "setting of the task")
        seed = parameter(node, "seed", 0, "seed of the scene", bounds=(0, 2**31 - 1))
        instruction = parameter(node, "instruction", "", "what to do; '' to draw it from the seed")
        gui = parameter(node, "gui", False, "open Gazebo's window")
        text = world_sdf(load_robot(version), make_task(task, setting).sample(seed, instruction or None))
    except ValueError as error:
        print(f"gazebo_server: {error}", file=sys.stderr)
        return 2
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    command = command_line(Path(tempfile.gettempdir()) / f"bytemini-{os.getpid()}.sdf", gui)
    if shutil.which(command[0]) is None:
        print("gazebo_server: there is no 'gz' here: install Gazebo Harmonic (ros-jazzy-ros-gz)", file=sys.stderr)
        return 2
    Path(command[-1]).write_text(text, encoding="utf-8")
    os.execvp(command[0], command)
    return 1  # never reached: this process is Gazebo now


if __name__ == "__main__":
    sys.exit(main())
