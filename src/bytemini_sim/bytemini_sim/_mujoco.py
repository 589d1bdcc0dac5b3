"""MuJoCo, imported without OpenGL.

`import mujoco` loads a platform's OpenGL library and fails where that is not installed. Physics needs none; `rendering`
loads it when the first picture is asked for, and then says what is missing.
"""

import os

_platform = os.environ.get("MUJOCO_GL")
os.environ["MUJOCO_GL"] = "disable"
try:
    import mujoco as mujoco
finally:
    if _platform is None:
        del os.environ["MUJOCO_GL"]
    else:
        os.environ["MUJOCO_GL"] = _platform
