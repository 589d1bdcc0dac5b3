"""MuJoCo world of the ByteMini robot: physics, cameras, scenes, tasks and scoring. Pure library, no ROS."""

import os


def _import_mujoco() -> None:
    """Import mujoco without OpenGL: it loads a platform's library on import, and fails where that is not installed.

    Physics needs none; `rendering` loads it when the first picture is asked for, and then says what is missing.
    """
    platform = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disable"
    try:
        import mujoco  # noqa: F401
    finally:
        if platform is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = platform


_import_mujoco()
