"""Velocities from which the limits can always be kept, in discrete time and in closed form.

The controller moves its commanded state by q[k+1] = q[k] + v[k+1] dt with |v[k+1] - v[k]| <= a dt. A velocity is
*viable* when, after this tick has moved by v dt, braking by a dt a tick comes to rest inside the position limits. With
m = floor(v / (a dt)) further moving ticks the path is

    D(v) = sum_{i=0..m} (v - i a dt) dt = (m + 1) v dt - a dt^2 m (m + 1) / 2,

continuous, increasing and piecewise linear in v; `stopping_speed` is its exact inverse. From a viable (q, v) the braked
velocity v - a dt is viable again, so the box of `velocity_box` is never empty and the position limit is never crossed
(viability in the sense of Del Prete, "Joint position and velocity bounds in discrete-time acceleration/torque control
of robot manipulators", RA-L 2018; the continuous sqrt(2 a s) overshoots in discrete time).
"""

from __future__ import annotations

import numpy as np
from bytemini_core.types import Array


def stopping_speed(distance: Array, acceleration: Array, dt: float) -> Array:
    """Largest speed that can still stop within `distance` (m or rad, broadcast with `acceleration`), 0 beyond it."""
    unit = acceleration * (dt * dt)
    distance = np.maximum(distance, 0.0)
    m = np.floor(0.5 * (np.sqrt(1.0 + 8.0 * distance / unit) - 1.0))
    return (distance + 0.5 * unit * m * (m + 1.0)) / ((m + 1.0) * dt)


def stopping_distance(speed: float, acceleration: float, dt: float) -> float:
    """Path D(speed) until rest, this tick's included: the inverse of `stopping_speed`."""
    step = acceleration * dt
    m = speed // step
    return (m + 1.0) * dt * (speed - 0.5 * step * m)


def velocity_box(
    position: Array,
    velocity: Array,
    lower: Array,
    upper: Array,
    max_velocity: Array,
    max_acceleration: Array,
    dt: float,
) -> tuple[Array, Array]:
    """Velocities (lowest, highest) of the next tick that keep position, velocity and acceleration limits for ever.

    A velocity limit below the present speed (a change of owner) is approached with the acceleration limit.

    Args:
        position: (n,) commanded, inside its limits.
        velocity: (n,) commanded.
        lower: (n,) position limits.
        upper: (n,) position limits.
        max_velocity: (n,) speed limits.
        max_acceleration: (n,) acceleration limits.
        dt: tick (s).
    """
    change = max_acceleration * dt
    slowest = velocity - change
    fastest = velocity + change
    reach = stopping_speed(
        np.concatenate((upper - position, position - lower)), np.concatenate((max_acceleration, max_acceleration)), dt
    )
    n = len(position)
    high = np.minimum(np.minimum(np.maximum(max_velocity, slowest), reach[:n]), fastest)
    low = np.maximum(np.maximum(np.minimum(-max_velocity, fastest), -reach[n:]), slowest)
    return np.minimum(low, high), np.maximum(low, high)
