"""A policy that needs no checkpoint: what it says shows what it was asked."""

import threading
import time

import numpy as np
import pytest
from bytemini_core.types import ActionChunk, PolicyMetadata, TaskStatus
from bytemini_description.robot import load_robot

ROBOT = load_robot("v1")
SIZE = (8, 6)
HORIZON = 4


class Echo:
    """Each row is the state's first number, the mean of the head's image and the length of the words; else zero."""

    def __init__(self, **extra):
        self.metadata = PolicyMetadata(
            "echo", ROBOT.policy_columns, HORIZON, 0.1, ("head", "left_wrist"), SIZE, extra=extra
        )
        self.resets = 0
        self.threads = set()
        self.prefix = self.noise = None
        self.delay = 0.0

    def reset(self):
        self.resets += 1

    def infer(self, observation, prefix=None, noise=None):
        self.threads.add(threading.current_thread().name)
        time.sleep(self.delay)
        if observation.instruction == "break":
            raise RuntimeError("a wire came loose")
        if observation.instruction == "refuse":
            raise ValueError("I see no apple")
        self.prefix, self.noise = prefix, noise
        return self.chunk(observation)

    def chunk(self, observation):
        values = np.zeros((HORIZON, len(self.metadata.columns)), dtype=np.float32)
        values[:, 0] = observation.state.position[0]
        values[:, 1] = observation.images["head"].mean()
        values[:, 2] = len(observation.instruction)
        values[:, 3] = self.resets
        status = np.full(HORIZON, int(TaskStatus.ONGOING), dtype=np.int8)
        return ActionChunk(
            observation.stamp, 0, self.metadata.columns, 0.1, values, status, np.full(HORIZON, 0.75), policy="echo"
        )


class BatchEcho(Echo):
    def __init__(self, **extra):
        super().__init__(**extra)
        self.batches = []

    def infer_batch(self, observations, prefixes, noises):
        self.batches.append(len(observations))
        time.sleep(self.delay)
        return [self.infer(o, p, n) for o, p, n in zip(observations, prefixes, noises, strict=True)]


def request(value=0.5, prompt="put it there", **more):
    state = np.zeros(19)
    state[0] = value
    images = {camera: np.full((*SIZE, 3), 7, dtype=np.uint8) for camera in ("head", "left_wrist")}
    return {"observation/state": state, "images": images, "prompt": prompt, **more}


@pytest.fixture(scope="session")
def robot():
    return ROBOT


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture(scope="session")
def make_request():
    return request


@pytest.fixture(scope="session")
def policies():
    """The two kinds, as classes."""
    return Echo, BatchEcho
