"""Headless pictures of a MuJoCo model: colour and depth, in software, as fast as it goes."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bytemini_sim._mujoco import mujoco
from bytemini_sim.model import HIDDEN_GROUP, ROBOT_GROUP, SCENE_GROUP

_HOW_TO_MEND = (
    "install the Debian packages libegl1 libgl1-mesa-dri libgles2, or set MUJOCO_GL=osmesa with the package libosmesa6"
)


_PLATFORMS = ("egl", "osmesa")


class RenderError(RuntimeError):
    """Nothing can be drawn on this machine; the message says what to install or set."""


class Renderer:
    """Draws one model at one picture size. Not to be shared between threads.

    Args:
        model: what to draw; its `vis.quality` decides how finely.
        width, height: picture size, pixels, at most the model's offscreen buffer.

    Raises:
        RenderError: no usable OpenGL (EGL or OSMesa).
        ValueError: the size does not fit the offscreen buffer.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        limits = model.vis.global_
        if not (1 <= width <= limits.offwidth and 1 <= height <= limits.offheight):
            raise ValueError(f"picture of {width}x{height}, expected at most {limits.offwidth}x{limits.offheight}")
        self._model = model
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._gl = _make_current(width, height)
        shadows = model.vis.quality.shadowsize > 0
        try:
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
            self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR  # keeps the precision of far distances
        except mujoco.FatalError as error:
            raise RenderError(f"OpenGL cannot draw here ({error}): {_HOW_TO_MEND}") from None
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 100)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_HAZE] = False
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[[ROBOT_GROUP, SCENE_GROUP]] = 1
        self._option.geomgroup[HIDDEN_GROUP] = 0
        self._option.sitegroup[:] = 0
        self._perturb = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._row = np.empty((height, width, 3), np.uint8)
        self._depth = np.empty((height, width), np.float32)

    def render(
        self, data: mujoco.MjData, cameras: Sequence[int], depth: bool = False
    ) -> list[tuple[NDArray[np.uint8], NDArray[np.float32] | None]]:
        """Draw the state in `data` (whose kinematics must be up to date) through each camera.

        Args:
            data: state of the model.
            cameras: camera ids.
            depth: also read depth.

        Returns:
            Per camera: (H, W, 3) uint8 RGB, and (H, W) float32 distance along the view axis in metres, or None.
        """
        self._gl.make_current()
        # Another renderer's buffer may be bound: all share one OpenGL context.
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        pictures = []
        for i, camera in enumerate(cameras):
            self._camera.fixedcamid = camera
            if i == 0:
                mujoco.mjv_updateScene(
                    self._model,
                    data,
                    self._option,
                    self._perturb,
                    self._camera,
                    mujoco.mjtCatBit.mjCAT_ALL.value,
                    self._scene,
                )
            else:  # the same scene from elsewhere
                mujoco.mjv_updateCamera(self._model, data, self._camera, self._scene)
            mujoco.mjr_render(self._rect, self._scene, self._context)
            mujoco.mjr_readPixels(self._row, self._depth if depth else None, self._rect, self._context)
            # OpenGL's rows go upwards.
            pictures.append((np.ascontiguousarray(self._row[::-1]), self._metres() if depth else None))
        return pictures

    def _metres(self) -> NDArray[np.float32]:
        extent = self._model.stat.extent
        near, far = self._model.vis.map.znear * extent, self._model.vis.map.zfar * extent
        # The buffer holds 1 at the near plane and 0 at the far plane.
        distance = near * far / (near + self._depth[::-1] * (far - near))
        return np.ascontiguousarray(distance, dtype=np.float32)

    def close(self) -> None:
        """Free what OpenGL holds."""
        with contextlib.suppress(Exception):
            self._gl.make_current()
            self._context.free()


def renderer_name() -> str:
    """What draws here, as the driver calls itself: pictures of different ones are not the same.

    Raises:
        RenderError: no usable OpenGL.
    """
    _make_current(16, 16)
    library = importlib.import_module("OpenGL.GL")
    return f"{(os.environ.get('MUJOCO_GL') or 'egl').lower()}, {library.glGetString(library.GL_RENDERER).decode()}"


_shared: Any = None


def _make_current(width: int, height: int) -> Any:
    """The process's one OpenGL context; making one costs far more than a scene's resources in it."""
    global _shared
    if _shared is None:
        platform = (os.environ.get("MUJOCO_GL") or "egl").lower()
        if platform not in _PLATFORMS:
            raise RenderError(f"MUJOCO_GL is {platform!r}, expected {' or '.join(_PLATFORMS)} (drawing is headless)")
        try:
            # Not mujoco.gl_context: that decides when mujoco is first imported, by whomever.
            _shared = importlib.import_module(f"mujoco.{platform}").GLContext(width, height)
            _shared.make_current()
        except Exception as error:  # whatever the platform's loader raises
            reason = " ".join(str(error).split()) or type(error).__name__
            _shared = None
            raise RenderError(f"no OpenGL with MUJOCO_GL={platform} ({reason}): {_HOW_TO_MEND}") from None
    _shared.make_current()
    return _shared
