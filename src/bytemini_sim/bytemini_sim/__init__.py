"""MuJoCo world of the ByteMini robot: physics, cameras, scenes, tasks and scoring. Pure library, no ROS."""

import os

# mujoco looks for a display when it is first imported, unless told that there is none.
os.environ.setdefault("MUJOCO_GL", "egl")
