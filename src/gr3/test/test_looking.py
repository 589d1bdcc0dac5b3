"""What comes before training proper: naming what is seen, and heads that look from words to what is alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gr3.config import VisionConfig, toy
from gr3.dataset import Mixture, Shards, Source, corpus, normalisation_of
from gr3.looking import learn, match, pictures, tower_of
from gr3.model import GR3
from gr3.recipes import RECIPES
from gr3.text import Text
from gr3.views import TINY_VIEWS

from gr3 import talk

EYE = VisionConfig(
    depth=1, hidden=16, intermediate=24, heads=2, patch=4, merge=2, window=8, full_attention=(0,), stem=(8, 16)
)


@pytest.fixture
def parts(tmp_path, write_shards, layout):
    root = write_shards(tmp_path, layout)
    demos, stills = Shards(root / "demos"), Shards(root / "stills")
    text = Text.build(corpus([*demos.episodes, *stills.episodes]))
    torch.manual_seed(0)
    model = GR3(replace(toy(text.size, views=TINY_VIEWS), vision=EYE), text.marks)
    mixture = Mixture(robot=4, stills=2, conversations=1)
    norm = normalisation_of(demos, layout)
    return model, Source(demos, stills, text, layout, norm, mixture, 28, model.backbone.grids)


def test_cells_are_named_by_what_is_there(parts):
    model, source = parts
    things = [{"name": "apple", "container": False}, {"name": "bowl", "container": True}]
    points = np.full((3, 2, 2), np.nan, dtype=np.float32)
    points[0] = [[0.25, 0.25], [0.75, 0.75]]
    batch = source.batch(0, 0)
    assert batch.names.shape == (6, sum(h * w for h, w in model.backbone.grids), source.text.size)
    rows, columns = source.cells[0]
    names = source._names([talk.Scene(things, np.zeros((2, 3), np.float32), points)])[0, : rows * columns]
    middles = talk.cells(rows, columns)
    apple = int(np.argmin(np.abs(middles - 0.25).sum(1)))
    assert names[apple, source.text.ids("apple")[0]] > 0
    assert set(np.round(names.sum(1), 5)) <= {0.0, 1.0}


def test_naming_moves_the_tower_only_and_the_heads_are_set(parts):
    model, source = parts
    config = replace(RECIPES["gr3-tiny"], looking=2, processes=1)
    before = {name: p.clone() for name, p in model.backbone.named_parameters()}
    learn(model, source, config, 0, bf16=False)
    moved = {name for name, p in model.backbone.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert moved <= set(tower_of(model))
    match(model, source, seed=0, number=40)
    q = "qwen.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(dict(model.backbone.named_parameters())[q], before[q])
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_another_tower_learns_to_say_what_the_one_before_it_said(parts, monkeypatch):
    monkeypatch.setattr("gr3.looking.PER_PROCESS", 2)
    monkeypatch.setattr("gr3.looking._FROM_WRISTS", 4)
    model, source = parts
    config = replace(RECIPES["gr3-tiny"], looking=120, processes=1)
    torch.manual_seed(1)
    other = GR3(replace(model.config, vision=replace(EYE, hidden=32)), source.text.marks)
    spots = {name: p for name, p in model.state_dict().items() if "spots" in name or "embed" in name}
    other.load_state_dict(spots, strict=False)
    images = source.demos.take("left_wrist", np.arange(6))
    with torch.no_grad():
        said = model.backbone.see(torch.from_numpy(images), 1)
        first = other.backbone.see(torch.from_numpy(images), 1)
    learn(other, source, config, 0, bf16=False, before=model.backbone)
    with torch.no_grad():
        last = other.backbone.see(torch.from_numpy(images), 1)
    assert (last - said).square().mean() < 0.5 * (first - said).square().mean()


def test_pictures_are_a_function_of_the_seed(parts):
    _, source = parts
    first, again = (pictures(source, np.random.default_rng(3), 8) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
