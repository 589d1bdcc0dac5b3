"""The first inference, which is slower than all others, before anybody waits for it."""

from __future__ import annotations

import time

import numpy as np
from bytemini_core.types import Observation, Policy, RobotState
from bytemini_description.robot import RobotModel

from gr3_policy_node.inference import BatchPolicy
from gr3_policy_node.protocol import noise_shape

TIMES = 2
"""Inferences: the first allocates, the second shows what is left of that."""


def warm_up(policy: Policy, robot: RobotModel) -> float:
    """Infer from a made-up observation: the robot at home, grey pictures.

    A policy that is privileged, or says `scripted` in its metadata's `extra`, is left alone: it reads a scene that
    nobody can make up, or plays what nobody need prepare. Where the policy takes noise it gets some and is not reset,
    so that its own random numbers begin where they would have.

    Returns:
        Seconds of the slowest inference, 0 where there was none.

    Raises:
        ValueError: the policy refuses what it says it needs, or its chunk is not what it says it emits.
    """
    metadata = policy.metadata
    if metadata.privileged or metadata.extra.get("scripted", False):
        return 0.0
    zeros = np.zeros(len(robot.joint_names))
    state = RobotState(0, robot.joint_names, robot.home, zeros, zeros)
    grey = np.full((*metadata.image_size, 3), 127, dtype=np.uint8)
    observation = Observation(0, "put the apple into the basket", state, dict.fromkeys(metadata.cameras, grey))
    shape = (metadata.horizon, len(metadata.columns))
    drawn = noise_shape(metadata)
    noise = None if drawn is None else np.zeros(drawn, dtype=np.float32)
    slowest = 0.0
    if noise is None:
        policy.reset()
    for _ in range(TIMES):
        begun = time.perf_counter()
        chunk = policy.infer(observation, None, noise)
        slowest = max(slowest, time.perf_counter() - begun)
        if chunk.horizon and (chunk.values.shape != shape or chunk.names != metadata.columns):
            raise ValueError(
                f"{metadata.name} emits {chunk.values.shape[0]} rows of {', '.join(chunk.names)}, but says "
                f"{metadata.horizon} of {', '.join(metadata.columns)}"
            )
    if isinstance(policy, BatchPolicy):
        policy.infer_batch([observation] * 2, [None] * 2, [noise] * 2)
    if noise is None:
        policy.reset()
    return slowest
