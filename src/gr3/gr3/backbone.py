"""Qwen2.5-VL as GR-3 uses it: every picture of one known size, many queries per picture, the KV cache as a result.

Weights and layers are those of `transformers`; only the walk through them is our own. Theirs handles pictures of any
size through loops over lengths that are only known when it runs; ours handles a batch at once and can be exported.
`test_backbone.py` holds both to the same numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from gr3.config import ModelConfig, VisionConfig

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)

KV = tuple[Tensor, Tensor]
"""Keys (after rotation) and values of one layer, each (B, kv heads, tokens, head width)."""


def qwen_config(config: ModelConfig) -> Qwen2_5_VLConfig:
    """The configuration that `transformers` wants for these sizes."""
    vision, text = config.vision, config.text
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": text.vocabulary,
            "hidden_size": text.hidden,
            "intermediate_size": text.intermediate,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": text.theta, "mrope_section": list(text.mrope)},
            "tie_word_embeddings": text.tied,
        },
        vision_config={
            "depth": vision.depth,
            "hidden_size": vision.hidden,
            "intermediate_size": vision.intermediate,
            "num_heads": vision.heads,
            "patch_size": vision.patch,
            "spatial_merge_size": vision.merge,
            "window_size": vision.window,
            "fullatt_block_indexes": list(vision.full_attention),
            "out_hidden_size": text.hidden,
        },
        tie_word_embeddings=text.tied,
    )


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of (..., head width); cos and sin broadcast against it."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of (B, heads, n, w) queries to (B, kv heads, m, w); (B, n, heads w). `mask`: True where allowed."""
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # On a CPU attention in bfloat16 is slower than in float32; what is around it is faster.
        with torch.autocast("cpu", enabled=False):
            out = functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)
    else:
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


class Residual(nn.Module):
    """A convolution beside its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same."""
        out: Tensor = x + self.layers(x)
        return out


class PatchStem(nn.Module):
    """Convolutions in the place of the linear patch embedding, each shrinking the picture (`VisionConfig.stem`)."""

    def __init__(self, widths: tuple[int, ...], hidden: int, residual: bool = False, first: int = 2) -> None:
        """`first`: stride of the first layer; `residual`: with one more convolution at each size but the first."""
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in widths:
            stride = first if before == 3 else 2
            layers += [
                nn.Conv2d(before, width, 2 * stride - 1, stride=stride, padding=stride - 1),
                nn.GroupNorm(1, width),
                nn.SiLU(),
            ]
            if residual and before > 3:
                layers.append(Residual(width))
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, hidden, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, hidden, H / patch, W / patch)."""
        patches: Tensor = self.layers(pictures)
        return patches


def _waves(grid: tuple[int, int], hidden: int) -> Tensor:
    """(h, w, hidden) sines and cosines of where in the picture: where learned positions begin."""
    h, w = grid
    frequencies = np.pi * 2.0 ** np.linspace(-1, 3, hidden // 4)
    rows = np.broadcast_to(((np.arange(h) + 0.5) / h)[:, None, None] * frequencies, (h, w, hidden // 4))
    columns = np.broadcast_to(((np.arange(w) + 0.5) / w)[:, None] * frequencies, (h, w, hidden // 4))
    waves = np.concatenate([f(part) for part in (rows, columns) for f in (np.sin, np.cos)], axis=-1)
    return torch.tensor(waves, dtype=torch.float32)


class Backbone(nn.Module):
    """Qwen2.5-VL over fixed views.

    `image_tokens`: per camera, tokens that its picture becomes. The order within a sequence: per camera a begin mark,
    its picture, an end mark; then text.
    """

    mean: Tensor
    std: Tensor
    frequencies: Tensor
    image_positions: Tensor
    picture_tokens: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.qwen: Any = Qwen2_5_VLModel(qwen_config(config))
        vision = config.vision
        self.stem = (
            PatchStem(vision.stem, vision.hidden, vision.stem_residual, vision.stem_first) if vision.stem else None
        )
        self.places, self.spots = nn.ParameterDict(), nn.ParameterDict()
        if self.stem is not None:
            self.qwen.visual.patch_embed = nn.Identity()
            for size in dict.fromkeys(view.size for view in config.views.values()):
                grid = (size[0] // vision.patch, size[1] // vision.patch)
                self.places[_size_key(size)] = nn.Parameter(0.5 * _waves(grid, vision.hidden))
                merged = (grid[0] // vision.merge, grid[1] // vision.merge)
                self.spots[_size_key(size)] = nn.Parameter(0.6 * _waves(merged, config.text.hidden).flatten(0, 1))
            self._start_from_scratch()
        self.head = None if config.text.tied else nn.Linear(config.text.hidden, config.text.vocabulary, bias=False)
        unit = vision.patch * vision.merge
        self.grids = [(view.size[0] // unit, view.size[1] // unit) for view in config.views.values()]
        self.image_tokens: list[int] = [h * w for h, w in self.grids]
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(1, 3, 1, 1), persistent=False)
        width = config.text.hidden // config.text.heads
        frequencies = 1.0 / (config.text.theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width))
        self.register_buffer("frequencies", frequencies, persistent=False)
        positions, end = self._image_positions()
        self.register_buffer("image_positions", positions, persistent=False)
        starts = [sum(self.image_tokens[:i]) + 2 * i + 1 for i in range(len(self.grids))]
        pictures = torch.cat([start + torch.arange(n) for start, n in zip(starts, self.image_tokens, strict=True)])
        self.register_buffer("picture_tokens", pictures, persistent=False)
        self.text_start = end
        for view, (size, grid) in enumerate(
            zip((v.size for v in config.views.values()), self._patch_grids(), strict=True)
        ):
            del size
            cos, sin, window = _vision_geometry(grid, vision)
            self.register_buffer(f"vision_cos_{view}", cos, persistent=False)
            self.register_buffer(f"vision_sin_{view}", sin, persistent=False)
            self.register_buffer(f"vision_window_{view}", window, persistent=False)

    def _start_from_scratch(self) -> None:
        """Weights of the size that small widths want; Qwen's own (0.02 for all) are for a width of thousands."""
        depth = {"visual": self.config.vision.depth, "language_model": self.config.text.layers}
        for name, module in self.qwen.named_modules():
            if isinstance(module, nn.Linear):
                last = name.endswith(("o_proj", "down_proj", "attn.proj"))
                scale = (2 * depth[name.split(".")[0]]) ** -0.5 if last else 1.0
                nn.init.normal_(module.weight, std=scale * module.in_features**-0.5)
        nn.init.normal_(self.qwen.language_model.embed_tokens.weight, std=self.config.text.hidden**-0.5)

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the text: all pictures with their marks."""
        return int(sum(self.image_tokens) + 2 * len(self.image_tokens))

    def _patch_grids(self) -> list[tuple[int, int]]:
        m = self.config.vision.merge
        return [(h * m, w * m) for h, w in self.grids]

    # -- seeing -------------------------------------------------------------------------------------------------------

    def patches(self, pictures: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 pictures as (B, patches, hidden), in Qwen's order: merged blocks of patches together."""
        vision = self.config.vision
        x: Any = pictures.permute(0, 3, 1, 2).to(self.mean.dtype) / 255.0
        x = (x - self.mean) / self.std
        b, _, height, width = x.shape
        p, m = vision.patch, vision.merge
        h, w = height // p, width // p
        if self.stem is not None:
            place = self.places[_size_key((height, width))]
            x = self.stem(x) + place.permute(2, 0, 1)
            x = x.view(b, vision.hidden, h // m, m, w // m, m)
            patches: Tensor = x.permute(0, 2, 4, 3, 5, 1).reshape(b, h * w, vision.hidden)
            return patches
        # Qwen sees a picture as a film of two equal frames.
        x = x.view(b, 3, h // m, m, p, w // m, m, p).permute(0, 2, 5, 3, 6, 1, 4, 7)
        x = x.reshape(b * h * w, 3, 1, p, p).expand(-1, -1, 2, -1, -1)
        embedded: Tensor = self.qwen.visual.patch_embed(x.reshape(b * h * w, -1))
        return embedded.view(b, h * w, vision.hidden)

    def see(self, pictures: Tensor, view: int) -> Tensor:
        """(B, H, W, 3) uint8 pictures of a view as (B, tokens, text hidden)."""
        visual = self.qwen.visual
        cos, sin = getattr(self, f"vision_cos_{view}"), getattr(self, f"vision_sin_{view}")
        window = getattr(self, f"vision_window_{view}")
        x = self.patches(pictures)
        b, n, hidden = x.shape
        heads = self.config.vision.heads
        for i, block in enumerate(visual.blocks):
            y = block.norm1(x)
            q, k, v = block.attn.qkv(y).view(b, n, 3, heads, hidden // heads).permute(2, 0, 3, 1, 4).unbind(0)
            mask = None if i in self.config.vision.full_attention else window
            x = x + block.attn.proj(attend(rotate(q, cos, sin), rotate(k, cos, sin), v, mask))
            x = x + block.mlp(block.norm2(x))
        unit = self.config.vision.merge**2
        merged = visual.merger.ln_q(x).view(b, n // unit, unit * hidden)
        tokens: Tensor = visual.merger.mlp(merged)
        if self.stem is not None:
            # What is seen and where it is, of equal weight; pretrained weights know it from the patches.
            tokens = _unit(tokens) + self.spots[_size_key((pictures.shape[1], pictures.shape[2]))]
        return tokens

    def embed_images(self, images: list[Tensor], marks: Tensor) -> Tensor:
        """Pictures per camera as (B, prefix tokens, hidden); `marks`: (2,) ids of the begin and end mark."""
        embedded = self.qwen.language_model.embed_tokens(marks)
        parts: list[Tensor] = []
        for tokens in self._see_all(images):
            b = tokens.shape[0]
            parts += [embedded[0].expand(b, 1, -1), tokens, embedded[1].expand(b, 1, -1)]
        return torch.cat(parts, dim=1)

    def _see_all(self, images: list[Tensor]) -> list[Tensor]:
        """Pictures of equal size go through the tower together."""
        out: list[Tensor | None] = [None] * len(images)
        sizes = [view.size for view in self.config.views.values()]
        for size in dict.fromkeys(sizes):
            which = [i for i, other in enumerate(sizes) if other == size]
            tokens = self.see(torch.cat([images[i] for i in which]), which[0])
            for i, part in zip(which, tokens.view(len(which), -1, *tokens.shape[1:]).unbind(0), strict=True):
                out[i] = part
        return [part for part in out if part is not None]

    # -- reading ------------------------------------------------------------------------------------------------------

    def _image_positions(self) -> tuple[Tensor, int]:
        """(3, prefix tokens) time, height, width position of all before the text, and where the text goes on."""
        columns: list[tuple[int, int, int]] = []
        at = 0
        for h, w in self.grids:
            columns.append((at, at, at))
            columns += [(at + 1, at + 1 + i, at + 1 + j) for i in range(h) for j in range(w)]
            at += 1 + max(h, w)
            columns.append((at, at, at))
            at += 1
        return torch.tensor(columns).T.contiguous(), at

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine (..., tokens, head width) of (3, ..., tokens) positions: multimodal rotary embedding."""
        angles = positions[..., None].to(self.frequencies.dtype) * self.frequencies
        parts = torch.split(angles, list(self.config.text.mrope), dim=-1)
        mixed = torch.cat([part[i % 3] for i, part in enumerate(parts)], dim=-1)
        mixed = torch.cat((mixed, mixed), dim=-1)
        return mixed.cos(), mixed.sin()

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of token ids."""
        embedded: Tensor = self.qwen.language_model.embed_tokens(ids)
        return embedded

    def read(self, x: Tensor, positions: Tensor, mask: Tensor, need_hidden: bool = True) -> tuple[Tensor, list[KV]]:
        """The language model over embedded tokens.

        Args:
            x: (B, n, hidden).
            positions: (3, n) or (3, B, n).
            mask: (B or 1, 1, n, n) bool, True where a row may see a column.
            need_hidden: whether the last layer's output is wanted; without it only its keys and values are made.

        Returns:
            (B, n, hidden) after the final norm, and keys and values of the layers of the latter half.
        """
        text = self.config.text
        b, n, _ = x.shape
        width = text.hidden // text.heads
        cos, sin = self.rotation(positions)
        if cos.dim() == 3:
            cos, sin = cos[:, None], sin[:, None]
        cache: list[KV] = []
        layers = self.qwen.language_model.layers
        for i, layer in enumerate(layers):
            y = layer.input_layernorm(x)
            attention = layer.self_attn
            k = rotate(attention.k_proj(y).view(b, n, text.kv_heads, width).transpose(1, 2), cos, sin)
            v = attention.v_proj(y).view(b, n, text.kv_heads, width).transpose(1, 2)
            if i >= text.layers // 2:
                cache.append((k, v))
            if i == text.layers - 1 and not need_hidden:
                return x, cache
            q = rotate(attention.q_proj(y).view(b, n, text.heads, width).transpose(1, 2), cos, sin)
            x = x + attention.o_proj(attend(q, k, v, mask))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self.qwen.language_model.norm(x), cache

    def names(self, tokens: Tensor, view: int | None = None) -> Tensor:
        """How much pictures' tokens, as the language model gets them, look like each word: logits (..., vocabulary).

        `tokens`: of one view, or of all.
        """
        if self.stem is not None:
            views = list(self.config.views.values())
            shown = views if view is None else [views[view]]
            tokens = tokens - torch.cat([self.spots[_size_key(v.size)] for v in shown])
        return functional.linear(_unit(tokens), self.qwen.language_model.embed_tokens.weight)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits of (..., hidden)."""
        if self.head is not None:
            own: Tensor = self.head(hidden)
            return own
        return functional.linear(hidden, self.qwen.language_model.embed_tokens.weight)


def _unit(x: Tensor) -> Tensor:
    """Of unit root mean square along the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def _size_key(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _vision_geometry(grid: tuple[int, int], vision: VisionConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Of a grid of patches in Qwen's order: cosine, sine (patches, head width), and which sees which (windows)."""
    h, w = grid
    m = vision.merge
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")

    def ordered(x: Tensor) -> Tensor:
        return x.view(h // m, m, w // m, m).permute(0, 2, 1, 3).reshape(-1)

    rows, columns = ordered(rows), ordered(columns)
    width = vision.hidden // vision.heads
    spatial = width // 2
    frequencies = 1.0 / (1e4 ** (torch.arange(0, spatial, 2, dtype=torch.float32) / spatial))
    angles = torch.cat([rows[:, None] * frequencies, columns[:, None] * frequencies], dim=-1)
    angles = torch.cat((angles, angles), dim=-1)
    side = vision.window // vision.patch  # patches along a window
    window = (rows // side) * (w // side + 1) + columns // side
    return angles.cos(), angles.sin(), window[:, None] == window[None, :]


def load_qwen(backbone: Backbone, folder: Path) -> None:
    """Load pretrained Qwen2.5-VL weights from a local folder of `transformers`.

    Raises:
        ValueError: the folder holds no Qwen2.5-VL model, or one of other sizes.
    """
    from transformers import Qwen2_5_VLForConditionalGeneration

    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json: expected a downloaded Qwen2.5-VL model (transformers format)")
    loaded: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, local_files_only=True)
    wanted = {name: tuple(t.shape) for name, t in backbone.qwen.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in loaded.model.state_dict().items()}
    wrong = [name for name, shape in wanted.items() if found.get(name) != shape]
    if wrong:
        raise ValueError(
            f"{folder} does not fit this configuration in {len(wrong)} tensors, first {wrong[0]}: "
            f"{found.get(wrong[0])}, expected {wanted[wrong[0]]}"
        )
    backbone.qwen.load_state_dict(loaded.model.state_dict())
    if backbone.head is not None:
        backbone.head.load_state_dict(loaded.lm_head.state_dict())
