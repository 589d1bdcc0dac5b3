"""How places look: the room of the basic setting, four rooms for evaluation only, and random ones for training.

GR-3 report, section 5.1: evaluated "in four different real world environments that are unseen during training: a
checkout counter, a meeting room, a desk, and a break room". No look that training draws comes near one of them: table
tops have other patterns, and table and wall keep a distance in colour.
"""

from __future__ import annotations

import numpy as np

from bytemini_sim.catalogue import Color
from bytemini_sim.scene import Look

UNSEEN = {
    "checkout counter": Look(
        name="checkout counter",
        table=(0.20, 0.21, 0.23),
        table_grain=(0.55, 0.56, 0.58),
        table_legs=(0.62, 0.64, 0.66),
        floor=((0.82, 0.82, 0.80), (0.74, 0.74, 0.72)),
        sky=((0.92, 0.94, 0.96), (0.75, 0.78, 0.82)),
        light=1.25,
        tint=(0.96, 1.0, 1.06),
        pattern="belt",
        wall=(0.80, 0.20, 0.18),
    ),
    "meeting room": Look(
        name="meeting room",
        table=(0.86, 0.87, 0.90),
        table_grain=(0.99, 0.99, 1.0),
        table_legs=(0.15, 0.15, 0.16),
        floor=((0.16, 0.22, 0.36), (0.13, 0.19, 0.32)),
        sky=((0.70, 0.76, 0.84), (0.50, 0.56, 0.64)),
        light=1.05,
        pattern="gloss",
        wall=(0.36, 0.46, 0.58),
    ),
    "desk": Look(
        name="desk",
        table=(0.30, 0.17, 0.09),
        table_grain=(0.16, 0.08, 0.04),
        table_legs=(0.10, 0.10, 0.10),
        floor=((0.50, 0.38, 0.26), (0.44, 0.33, 0.22)),
        sky=((0.60, 0.52, 0.42), (0.34, 0.29, 0.24)),
        light=0.75,
        tint=(1.08, 0.98, 0.82),
        pattern="planks",
        wall=(0.70, 0.62, 0.46),
    ),
    "break room": Look(
        name="break room",
        table=(0.42, 0.72, 0.62),
        table_grain=(0.92, 0.94, 0.88),
        table_legs=(0.85, 0.85, 0.82),
        floor=((0.66, 0.52, 0.44), (0.58, 0.44, 0.36)),
        sky=((0.98, 0.94, 0.80), (0.80, 0.74, 0.60)),
        light=1.15,
        tint=(1.05, 1.0, 0.92),
        pattern="tiles",
        wall=(0.95, 0.80, 0.30),
    ),
}
"""The four environments of the setting "unseen_environments"."""

TRAINING_PATTERNS = ("wood", "plain", "speckle")
COLOR_DISTANCE = 0.18
"""Training tables and walls differ at least this much (Euclidean, linear RGB) from every unseen one's."""


def training_look(rng: np.random.Generator) -> Look:
    """A random room of the training namespace."""
    table = _color(rng, [look.table for look in UNSEEN.values()])
    shade = float(rng.uniform(0.6, 1.25))
    floor = _color(rng, [])
    sky = _color(rng, [])
    wall = _color(rng, [look.wall for look in UNSEEN.values() if look.wall is not None])
    return Look(
        name="random",
        table=table,
        table_grain=_scaled(table, shade),
        table_legs=_color(rng, []),
        floor=(floor, _scaled(floor, float(rng.uniform(0.75, 0.98)))),
        sky=(sky, _scaled(sky, 0.7)),
        light=float(rng.uniform(0.65, 1.35)),
        tint=_triple(1.0 + rng.uniform(-0.12, 0.12, 3)),
        pattern=TRAINING_PATTERNS[int(rng.integers(len(TRAINING_PATTERNS)))],
        wall=wall if rng.random() < 0.5 else None,
    )


def _triple(values: np.ndarray) -> Color:
    return float(values[0]), float(values[1]), float(values[2])


def _scaled(color: Color, by: float) -> Color:
    return _triple(np.clip(np.asarray(color) * by, 0.0, 1.0))


def _color(rng: np.random.Generator, away_from: list[Color]) -> Color:
    """A random colour, at least `COLOR_DISTANCE` from others: half greys and woods, half anything."""
    while True:
        if rng.random() < 0.5:
            color = np.clip(rng.uniform(0.1, 0.95) * np.array([1.0, 0.9, 0.8]) ** rng.uniform(-0.4, 2.0), 0.0, 1.0)
        else:
            color = rng.uniform(0.05, 0.95, 3)
        if all(np.linalg.norm(color - np.asarray(other)) >= COLOR_DISTANCE for other in away_from):
            return _triple(color)
