"""Our walk through Qwen2.5-VL's layers against that of transformers."""

import pytest
import torch
from gr3.backbone import Backbone, load_qwen
from gr3.config import toy

IMAGE_TOKEN, START, END = 60, 61, 62


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(3)
    backbone = Backbone(toy()).eval()
    config = backbone.qwen.config
    config.image_token_id, config.vision_start_token_id, config.vision_end_token_id = IMAGE_TOKEN, START, END
    return backbone, backbone.qwen


def pixels(backbone, pictures):
    """Pictures as transformers' processor hands them over: rows of patches in merged order."""
    x = (pictures.permute(0, 3, 1, 2).float() / 255 - backbone.mean) / backbone.std
    p, m = backbone.config.vision.patch, backbone.config.vision.merge
    rows = []
    for picture in x:
        h, w = picture.shape[1] // p, picture.shape[2] // p
        for block_row in range(h // m):
            for block_column in range(w // m):
                for i in range(m):
                    for j in range(m):
                        top, left = (block_row * m + i) * p, (block_column * m + j) * p
                        patch = picture[:, top : top + p, left : left + p]
                        rows.append(patch[:, None].expand(-1, 2, -1, -1).reshape(-1))
    return torch.stack(rows), torch.tensor([[1, h, w]] * len(pictures))


def test_hidden_states_and_cache_equal_those_of_transformers(pair, inputs):
    backbone, qwen = pair
    (images, text, _), _ = inputs(backbone.config, batch=1)
    text = text % 50  # none of the special tokens
    tokens = backbone.image_tokens
    ids = [piece for n in tokens for piece in (START, *[IMAGE_TOKEN] * n, END)] + text[0].tolist()
    values, grid = pixels(backbone, torch.cat(images))
    kinds = torch.tensor([[int(i == IMAGE_TOKEN) for i in ids]])
    with torch.no_grad():
        theirs = qwen(
            input_ids=torch.tensor([ids]),
            mm_token_type_ids=kinds,
            pixel_values=values,
            image_grid_thw=grid,
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            use_cache=True,
        )
        x = torch.cat([backbone.embed_images(images, torch.tensor([START, END])), backbone.embed(text)], dim=1)
        start = backbone.text_start
        positions = torch.cat([backbone.image_positions, start + torch.arange(text.shape[1]).expand(3, -1)], dim=1)
        n = len(ids)
        mask = torch.ones(n, n, dtype=torch.bool).tril()[None, None]
        hidden, cache = backbone.read(x, positions, mask)
    torch.testing.assert_close(hidden, theirs.last_hidden_state, atol=2e-5, rtol=1e-4)
    layers = backbone.config.text.layers
    assert len(cache) == layers // 2
    for i, (k, v) in enumerate(cache):
        layer = theirs.past_key_values.layers[layers // 2 + i]
        torch.testing.assert_close(k, layer.keys, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(v, layer.values, atol=2e-5, rtol=1e-4)


def test_positions_are_those_of_transformers(pair):
    backbone, qwen = pair
    ids = [piece for n in backbone.image_tokens for piece in (START, *[IMAGE_TOKEN] * n, END)] + [1, 2, 3]
    grid = torch.tensor([[1, h * 2, w * 2] for h, w in backbone.grids])
    kinds = torch.tensor([[int(i == IMAGE_TOKEN) for i in ids]])
    theirs, _ = qwen.get_rope_index(torch.tensor([ids]), mm_token_type_ids=kinds, image_grid_thw=grid)
    torch.testing.assert_close(backbone.image_positions, theirs[:, 0, :-3])
    assert theirs[:, 0, -3].tolist() == [backbone.text_start] * 3


def test_pretrained_weights_load_and_wrong_ones_are_refused(pair, tmp_path):
    from transformers import Qwen2_5_VLForConditionalGeneration

    _backbone, qwen = pair
    whole = Qwen2_5_VLForConditionalGeneration(qwen.config)
    whole.save_pretrained(tmp_path / "qwen")
    other = Backbone(toy())
    load_qwen(other, tmp_path / "qwen")
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(other.qwen.state_dict()[name], tensor)
    with pytest.raises(ValueError, match="does not fit this configuration"):
        load_qwen(Backbone(toy(vocabulary=65)), tmp_path / "qwen")
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        load_qwen(other, tmp_path)
