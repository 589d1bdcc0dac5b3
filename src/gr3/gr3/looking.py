"""Before the rest: learn to tell things apart, then where words look for them.

A model from scratch reads long before it sees: its language model cannot ask pictures for a thing while all things look
alike to it. The vision tower alone learns to name what it sees (GR-3 report, section 3.2: grounding) many times faster
than the whole. What it has learned then says how words and pictures are alike, and one group of attention heads of the
first layer begins with that instead of at random.

A trained model can be given another tower: beside learning names it learns to say what the tower before it said, so
that what reads it finds what it knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist
from bytemini_core.types import CAMERAS
from numpy.typing import NDArray
from torch import Tensor, nn

from gr3.dataset import Source, augment
from gr3.model import GR3

if TYPE_CHECKING:
    from gr3.backbone import Backbone
    from gr3.recipes import TrainConfig

PER_PROCESS = 32
"""Pictures per step and process."""
_RATE = 3e-3
_SHARPNESS = 7.0
"""How much more a word's own thing attracts than others, in logits, when the matching heads begin."""
_FROM_WRISTS = 8
"""Pictures per wrist, step and process that a tower learns from the one before it."""


def tower_of(model: GR3) -> dict[str, nn.Parameter]:
    """What sees: the vision tower, its stem and what its patches know of where they are."""
    named = model.backbone.named_parameters()
    return {name: p for name, p in named if name.startswith(("stem", "places", "qwen.visual"))}


def pictures(source: Source, rng: np.random.Generator, number: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(number, H, W, 3) pictures of the head and (number, cells, vocabulary) the words for what their cells show.

    Half of them mirrored: a thing is the same thing in a mirror.
    """
    stills = number * 5 // 8 if source.stills is not None else 0
    parts = [source.seen(source.demos, rng.integers(source.last, size=number - stills))]
    if source.stills is not None:
        parts.append(source.seen(source.stills, rng.integers(len(source.stills), size=stills)))
    shown = augment(np.concatenate([images for images, _ in parts]), rng)
    rows, columns = source.cells[0]
    names = np.concatenate([names for _, names in parts])[:, : rows * columns]
    grid = names.reshape(number, rows, columns, -1)
    mirrored = rng.random(number) < 0.5
    shown[mirrored] = shown[mirrored][:, :, ::-1]
    grid[mirrored] = grid[mirrored][:, :, ::-1]
    return shown, names


def learn(
    model: GR3, source: Source, config: TrainConfig, rank: int, bf16: bool, before: Backbone | None = None
) -> None:
    """Train the vision tower to name what it sees, in `config.looking` steps of its own; all processes alike.

    Args:
        model: the model; nothing but its tower changes.
        source: where pictures come from.
        config: of the run.
        rank: of this process.
        bf16: whether to compute in bfloat16.
        before: with another tower, which is imitated: in the head's pictures less and less, for it is to be surpassed
            in naming; in the wrists', which nobody names, to the end.
    """
    backbone = model.backbone
    tower = tower_of(model)
    inner = [p for name, p in tower.items() if ".blocks." in name and p.dim() == 2]
    rest = [p for name, p in tower.items() if not (".blocks." in name and p.dim() == 2)]
    rates = ((torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=config.weight_decay), _RATE),)
    muon = torch.optim.Muon(inner, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")
    device = next(model.parameters()).device
    for step in range(config.looking):
        done = step / config.looking
        share = min(1.0, (step + 1) / 100) * min(1.0, (1.0 - done) / 0.3)
        for optimizer, rate in (*rates, (muon, 2 * _RATE)):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
        rng = np.random.default_rng([config.seed, 40_013, step, rank])
        shown, names = pictures(source, rng, PER_PROCESS)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            tokens = backbone.see(torch.from_numpy(np.ascontiguousarray(shown)).to(device), 0)
            logits = backbone.names(tokens, 0).float()
            strange = (
                _strangeness(backbone, before, source, rng, (shown, tokens), 1.0 - done) if before is not None else 0.0
            )
        target = torch.from_numpy(names).to(device)
        nothing = target[..., source.text.pad] > 0.5
        something = (target.sum(-1) > 0) & ~nothing
        error = -(target * logits.log_softmax(-1)).sum(-1)
        loss = error[something].sum() / something.sum().clamp(min=1)
        loss = loss + 0.3 * error[nothing].sum() / nothing.sum().clamp(min=1) + strange
        model.zero_grad()
        torch.autograd.backward(loss, inputs=list(tower.values()))
        if config.processes > 1:
            for p in tower.values():
                if p.grad is not None:  # the places of other cameras' pictures have none, in no process
                    dist.all_reduce(p.grad)
                    p.grad /= config.processes
        nn.utils.clip_grad_norm_(list(tower.values()), config.clip)
        for optimizer, _ in (*rates, (muon, 0.0)):
            optimizer.step()
        if rank == 0 and (step + 1) % 20 == 0:
            print(
                f"\rlooking: step {step + 1} of {config.looking}  names {float(loss.detach()):.3f}   ",
                end="",
                flush=True,
            )
    model.zero_grad()


def _strangeness(
    backbone: Backbone,
    before: Backbone,
    source: Source,
    rng: np.random.Generator,
    seen: tuple[NDArray[np.uint8], Tensor],
    weight: float,
) -> Tensor:
    """How differently two towers see, as a mean square: the head's pictures `seen`, times `weight`, and the wrists'."""
    shown, tokens = seen
    device = tokens.device
    with torch.no_grad():
        was = before.see(torch.from_numpy(np.ascontiguousarray(shown)).to(device), 0)
    error = weight * (tokens.float() - was.float()).square().mean()
    wrists = range(1, len(CAMERAS))
    frames = rng.integers(source.last, size=_FROM_WRISTS)
    for view in wrists:
        pictures = torch.from_numpy(augment(source.demos.take(CAMERAS[view], frames), rng)).to(device)
        with torch.no_grad():
            was = before.see(pictures, view)
        error = error + (backbone.see(pictures, view).float() - was.float()).square().mean() / len(wrists)
    return error


@torch.no_grad()
def match(model: GR3, source: Source, seed: int, number: int = 600) -> None:
    """Let the first group of heads of the first layer look from a word to what is alike.

    Queries of words and keys of what shows them are brought onto the directions in which they go together most, in
    those dimensions that the rotation by position turns slowly.
    """
    backbone = model.backbone
    rng = np.random.default_rng([seed, 40_014])
    shown, names = pictures(source, rng, number)
    content = torch.cat([backbone.see(torch.from_numpy(part.copy()), 0) for part in np.array_split(shown, 20)])
    tokens = _unit(content).flatten(0, 1)
    target = torch.from_numpy(names).flatten(0, 1)
    words = [w for w in range(target.shape[1]) if w != source.text.pad and int((target[:, w] > 0.3).sum()) >= 3]
    if not words:
        return
    shows = torch.stack([tokens[target[:, w] > 0.3].mean(0) for w in words])
    says = _unit(backbone.qwen.language_model.embed_tokens.weight[words])
    middle_k, middle_q = tokens.mean(0), says.mean(0)
    u, s, v = torch.linalg.svd((says - middle_q).T @ (shows - middle_k) / len(words))
    text = backbone.config.text
    width, group = text.hidden // text.heads, text.heads // text.kv_heads
    half = width // 2
    first = 3 * half // 8
    dims = [*range(first, half), *range(half + first, width)]
    n = min(len(dims), int((s > 1e-6).sum()))
    dims, even = dims[:n], s[:n].clamp(min=0.02 * float(s[0])) ** -0.25
    to_q, to_k = (u[:, :n] * even).T, (v[:n].T * even).T
    alike = ((says - middle_q) @ to_q.T) @ ((shows - middle_k) @ to_k.T).T / width**0.5
    own, others = alike.diag().mean(), (alike.sum() - alike.diag().sum()) / max(alike.numel() - len(words), 1)
    scale = (_SHARPNESS / (own - others).clamp(min=1e-3)).sqrt()
    layer = backbone.qwen.language_model.layers[0]
    gain = layer.input_layernorm.weight
    for linear, heads, to, middle in (
        (layer.self_attn.q_proj, range(group), to_q, middle_q),
        (layer.self_attn.k_proj, range(1), to_k, middle_k),
    ):
        for head in heads:
            weight, bias = torch.zeros(width, text.hidden), torch.zeros(width)
            weight[dims], bias[dims] = scale * to / gain, -(scale * to) @ middle
            linear.weight[head * width : (head + 1) * width] = weight.to(linear.weight)
            linear.bias[head * width : (head + 1) * width] = bias.to(linear.bias)


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
