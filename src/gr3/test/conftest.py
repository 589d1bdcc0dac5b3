"""What the tests of GR-3 share: small models, made-up shards, one thread."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bytemini_core.types import CAMERAS
from bytemini_description.robot import load_robot
from gr3.config import toy
from gr3.layout import HORIZON, ActionLayout
from gr3.model import GR3
from gr3.views import TINY_VIEWS

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def robot():
    return load_robot("v1")


@pytest.fixture(scope="session")
def layout(robot):
    return ActionLayout.of(robot)


def _awake(model):
    """Random weights also where training begins at zero, so that nothing is hidden behind a closed gate."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.dit.parameters():
        if not parameter.any():
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def model():
    torch.manual_seed(0)
    return _awake(GR3(toy()))


def _inputs(config, batch=2, seed=0):
    """(images, text, text mask), (state, actions, noise)."""
    g = torch.Generator().manual_seed(seed)
    images = [
        torch.randint(0, 256, (batch, *view.size, 3), generator=g, dtype=torch.uint8) for view in config.views.values()
    ]
    text = torch.randint(0, config.text.vocabulary, (batch, config.text_length), generator=g)
    mask = torch.arange(config.text_length) < torch.randint(1, config.text_length + 1, (batch, 1), generator=g)
    rows = (batch, config.action.horizon, config.columns)
    return (images, text, mask), (
        torch.randn(batch, config.state, generator=g),
        torch.randn(rows, generator=g),
        torch.randn(rows, generator=g),
    )


def _small(vocabulary):
    """The toy with the views and the horizon of real data."""
    config = toy(vocabulary, views=TINY_VIEWS)
    return dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, patch=8, window=32),
        action=dataclasses.replace(config.action, horizon=HORIZON),
        text_length=28,
    )


THINGS = [
    {"name": name, "category": category, "color": color, "size": [0.05, 0.05, 0.05], "container": name == "bowl"}
    for name, category, color in (
        ("apple", "fruit", "red"),
        ("mug", "kitchenware", "blue"),
        ("sponge", "household", "yellow"),
        ("bowl", "container", "blue"),
    )
]


def _write_shards(root: Path, layout, shards=3, frames=12):
    """A data set of noise in the right format."""
    rng = np.random.default_rng(0)
    (root / "demos").mkdir(parents=True)
    (root / "recipe.json").write_text(json.dumps({"robot": "v1"}))
    for kind in ("demos", "stills"):
        for index in range(shards):
            folder = root / kind / f"{index:05d}"
            folder.mkdir(parents=True)
            arrays = {
                **{name: rng.integers(0, 256, (frames, *TINY_VIEWS[name].size, 3), dtype=np.uint8) for name in CAMERAS},
                "state": rng.normal(size=(frames, len(layout.state_names))).astype(np.float32),
                "actions": rng.normal(size=(frames, HORIZON, len(layout.columns))).astype(np.float32),
                "phase": np.zeros(frames, dtype=np.int8),
                "episode": np.repeat(np.arange(2, dtype=np.int32), frames // 2),
                "places": rng.uniform(-0.3, 0.6, (frames, 8, 3)).astype(np.float32),
                "points": rng.uniform(-0.2, 1.2, (frames, 3, 8, 2)).astype(np.float32),
            }
            arrays["actions"][..., -1] = 0.0
            for name, array in arrays.items():
                np.save(folder / f"{name}.npy", array)
            episodes = [
                {
                    "seed": 2 * index + i,
                    "instruction": f"put the {THINGS[i]['name']} into the bowl",
                    "valid": True,
                    "target": THINGS[i]["name"],
                    "destination": "bowl",
                    "look": "random",
                    "phrases": [["fruit", "apple"]],
                    "things": [THINGS[i], THINGS[3]],
                }
                for i in range(2)
            ]
            meta = {
                "format": "gr3-shard/2",
                "kind": kind,
                "frames": frames,
                "views": {name: {"crop": v.crop, "size": v.size} for name, v in TINY_VIEWS.items()},
                "episodes": episodes,
            }
            (folder / "meta.json").write_text(json.dumps(meta))
    return root


@pytest.fixture(scope="session")
def awake():
    return _awake


@pytest.fixture(scope="session")
def inputs():
    return _inputs


@pytest.fixture(scope="session")
def write_shards():
    return _write_shards


@pytest.fixture(scope="session")
def small():
    return _small


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, layout):
    """A checkpoint folder of the toy with random weights."""
    from gr3.dataset import Normalisation, corpus
    from gr3.export import write
    from gr3.text import Text

    text = Text.build(corpus([]))
    torch.manual_seed(4)
    model = _awake(GR3(_small(text.size), text.marks))
    states, columns = len(layout.state_names), len(layout.columns)
    norm = Normalisation(
        np.zeros(states, np.float32),
        np.ones(states, np.float32),
        np.zeros((HORIZON, columns), np.float32),
        np.full((HORIZON, columns), 0.02, np.float32),
    )
    record = {
        "robot": "v1",
        "columns": layout.columns,
        "state_names": layout.state_names,
        "normalisation": norm.to_dict(),
    }
    folder = tmp_path_factory.mktemp("checkpoint") / "toy"
    difference = write(model, text, record, folder, "toy", {"random": True})
    return folder, model, difference
