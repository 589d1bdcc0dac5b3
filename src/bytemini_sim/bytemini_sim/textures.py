"""Pictures on surfaces, drawn by a few formulas: table tops and the patterns of objects."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from bytemini_core.types import Array
from numpy.typing import NDArray

from bytemini_sim.catalogue import Color

_TOP = 256
_FACE = 32


@lru_cache(maxsize=16)
def table_top(pattern: str, first: Color, second: Color) -> NDArray[np.uint8]:
    """(256, 256, 3) picture of a table's top; its rows run along the table's width.

    Args:
        pattern: one of `scene.TABLE_PATTERNS`.
        first: the surface's main colour, linear RGB.
        second: the colour of grain, speckles, joints.

    Raises:
        ValueError: there is no such pattern.
    """
    rng = np.random.default_rng(7)
    v, u = np.meshgrid(np.linspace(0, 1, _TOP), np.linspace(0, 1, _TOP), indexing="ij")
    match pattern:
        case "wood":
            mix = _grain(rng, u, v, (5, 11, 19, 31))
        case "plain":
            mix = np.zeros_like(u)
        case "speckle":
            mix = (rng.random(u.shape) < 0.12).astype(float)
        case "belt":  # ribs across, and a rail on either side
            mix = np.where(np.sin(2 * np.pi * 24 * v) > 0.3, 0.55, 0.0)
            mix[(u < 0.06) | (u > 0.94)] = 1.0
        case "gloss":  # the light of a window on a smooth top
            mix = np.exp(-(((u - 0.6) / 0.25) ** 2) - ((v - 0.35) / 0.3) ** 2)
        case "planks":
            mix = 0.6 * _grain(rng, u, v, (7, 17, 37))
            mix[(v * 6) % 1 < 0.03] = 1.0
        case "tiles":
            mix = ((u * 6).astype(int) + (v * 10).astype(int)) % 2 * 1.0
        case _:
            raise ValueError(f"no table top is called {pattern!r}")
    return _mixed(mix, first, second)


def _grain(rng: np.random.Generator, u: Array, v: Array, frequencies: tuple[int, ...]) -> Array:
    """Soft grain along the width, about 0.5."""
    phases = rng.uniform(0, 2 * np.pi, len(frequencies))
    wave = sum(
        rng.uniform(0.3, 1.0) * np.sin(2 * np.pi * (f * u + rng.uniform(-0.4, 0.4) * np.sin(2 * np.pi * v + p)) + p)
        for f, p in zip(frequencies, phases, strict=True)
    )
    return np.asarray(0.5 + 0.18 * wave + 0.04 * rng.standard_normal((1, u.shape[1])))


@lru_cache(maxsize=64)
def surface(pattern: str, first: Color, second: Color) -> NDArray[np.uint8]:
    """(192, 32, 3) six faces of a cube, one below the other, for what a thing wears.

    Args:
        pattern: one of `catalogue.PATTERNS`.
        first: main colour, linear RGB.
        second: colour of the pattern.
    """
    v, u = np.meshgrid(np.arange(_FACE), np.arange(_FACE), indexing="ij")
    match pattern:
        case "stripes":
            face = (u // 8) % 2
        case "checker":
            face = (u // 8 + v // 8) % 2
        case "dots":
            face = ((u % 16 - 7.5) ** 2 + (v % 16 - 7.5) ** 2 < 20).astype(int)
        case _:
            raise ValueError(f"no pattern is called {pattern!r}")
    return _mixed(np.tile(face.astype(float), (6, 1)), first, second)


def _mixed(mix: Array, first: Color, second: Color) -> NDArray[np.uint8]:
    share = np.clip(mix, 0.0, 1.0)[..., None]
    picture = (1 - share) * np.asarray(first) + share * np.asarray(second)
    pixels: NDArray[np.uint8] = (255 * np.clip(picture, 0, 1)).astype(np.uint8)
    return pixels
