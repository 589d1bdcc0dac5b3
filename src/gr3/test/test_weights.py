"""A checkpoint's weights, read back out of its graphs."""

import shutil

import pytest
import torch
from gr3.export import READOUT
from gr3.model import GR3
from gr3.weights import fill


def _like(model):
    torch.manual_seed(9)
    return GR3(model.config, tuple(model.marks.tolist()))


def test_every_parameter_comes_back_to_the_bit(checkpoint):
    folder, model, _ = checkpoint
    found = _like(model)
    fill(found, folder)
    wanted = dict(model.named_parameters())
    assert [name for name, p in found.named_parameters() if not torch.equal(p, wanted[name])] == []


def test_without_its_readout_only_what_generates_words_is_missing(checkpoint, tmp_path):
    folder, model, _ = checkpoint
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / READOUT).unlink()
    found = _like(model)
    fill(found, tmp_path / "copy")
    wanted = dict(model.named_parameters())
    other = [name for name, p in found.named_parameters() if not torch.equal(p, wanted[name])]
    last = f"layers.{model.config.text.layers - 1}."
    assert other
    assert all(last in name and not any(k in name for k in ("k_proj", "v_proj")) for name in other)


def test_weights_of_another_model_are_refused(checkpoint, model):
    folder, _, _ = checkpoint
    with pytest.raises(ValueError, match="another model"):
        fill(_like(model), folder)
