"""The coupled range of the ByteWrist: pitch^2 + roll^2 < 0.7^2, kept in discrete time.

The disc is convex, so a wrist can brake to rest inside it if and only if braking along its present direction does:
(q, v) is viable when the stop point q + D(|v|) v/|v| lies in the disc (D of `viability`, with the smaller of the two
acceleration limits, available in every direction). Braking along the line keeps the stop point, hence viability.
"""

from __future__ import annotations

import math

import numpy as np

from .viability import stopping_distance, stopping_speed

_HALVINGS = 20


def limit_wrist(
    position: tuple[float, float],
    velocity: tuple[float, float],
    wanted: tuple[float, float],
    low: tuple[float, float],
    high: tuple[float, float],
    radius: float,
    acceleration: float,
    dt: float,
) -> tuple[float, float]:
    """Velocity nearest in spirit to `wanted` that keeps the disc for ever and lies in the box [low, high].

    A velocity that is not viable is first turned so that its stop point slides along the rim; where the acceleration
    limit forbids that, the largest viable step from full braking towards it is taken.

    Args:
        position: (pitch, roll), inside the disc.
        velocity: of the last tick.
        wanted: inside the box.
        low: lowest velocities (viability box of the joints).
        high: highest velocities.
        radius: of the disc (rad).
        acceleration: limit common to both joints (rad/s^2).
        dt: tick (s).
    """

    def stop_point(v: tuple[float, float]) -> tuple[float, float]:
        speed = math.hypot(*v)
        if speed == 0.0:
            return position
        scale = stopping_distance(speed, acceleration, dt) / speed
        return position[0] + scale * v[0], position[1] + scale * v[1]

    def viable(v: tuple[float, float]) -> bool:
        return math.hypot(*stop_point(v)) <= radius

    if viable(wanted):
        return wanted
    stop = stop_point(wanted)
    shrink = radius / math.hypot(*stop)
    slide = (stop[0] * shrink - position[0], stop[1] * shrink - position[1])
    length = math.hypot(*slide)
    aim = (0.0, 0.0)
    if length > 0.0:
        scale = float(stopping_speed(np.asarray(length), np.asarray(acceleration), dt)) / length
        aim = (min(max(scale * slide[0], low[0]), high[0]), min(max(scale * slide[1], low[1]), high[1]))
    if viable(aim):
        return aim
    speed = math.hypot(*velocity)
    braked = max(0.0, 1.0 - acceleration * dt / speed) if speed > 0.0 else 0.0
    brake = (velocity[0] * braked, velocity[1] * braked)
    share, unsafe = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (share + unsafe)
        if viable((brake[0] + middle * (aim[0] - brake[0]), brake[1] + middle * (aim[1] - brake[1]))):
            share = middle
        else:
            unsafe = middle
    return brake[0] + share * (aim[0] - brake[0]), brake[1] + share * (aim[1] - brake[1])
