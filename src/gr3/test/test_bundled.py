"""The checkpoint that comes with the package: small, whole, looks and reads, and does an episode to its end."""

import json

import numpy as np
import pytest
from bytemini_core.types import Observation
from bytemini_description.robot import load_robot
from bytemini_sim.episode import RolloutOptions
from bytemini_sim.inproc import InprocRunner
from bytemini_sim.tasks import make_task
from bytemini_sim.world import World
from gr3.bundled import CHECKPOINTS, make_tiny

FOLDER = CHECKPOINTS / "gr3-tiny"


@pytest.fixture(scope="module")
def policy():
    return make_tiny(load_robot("v1"), seed=0)


def test_it_is_small_and_says_how_it_was_made():
    files = list(FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) < 40 * 2**20
    made = json.loads((FOLDER / "training.json").read_text(encoding="utf-8"))
    session = made["sessions"][-1]
    assert session["command"]
    assert len(session["data"]["demos"]["sha256"]) == 64
    assert isinstance(session["config"]["seed"], int)


def test_it_reads_and_looks(policy):
    """Other words, or other pictures, change what it does from the same posture."""
    world = World(load_robot("v1"), make_task("pick_place", "basic").sample(0), image_size=(224, 224))
    images, state = world.images(), world.state()
    scene = make_task("pick_place", "basic").sample(0)
    target, other = (thing.name for thing in scene.objects[:2])
    asked = [f"put the {name} into the {scene.destination}" for name in (target, other)]
    chunks = [policy.infer(Observation(0, words, state, images)) for words in asked]
    assert np.abs(chunks[0].values - chunks[1].values).max() > 1e-3
    dark = {name: np.zeros_like(picture) for name, picture in images.items()}
    blind = policy.infer(Observation(0, asked[0], state, dark))
    assert np.abs(chunks[0].values - blind.values).max() > 1e-3
    world.close()


def test_it_does_an_episode_to_its_end(policy):
    runner = InprocRunner(RolloutOptions(setting="invalid"), policy=policy)
    episode = runner.run(3)
    runner.close()
    assert episode.ended
    assert 0.0 <= episode.result.progress <= 1.0
    assert np.isfinite(episode.result.max_joint_jerk)
