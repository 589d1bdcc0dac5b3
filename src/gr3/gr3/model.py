"""GR-3: the VLM backbone and the action DiT as one model; its losses and its sampling (GR-3 report, sections 2, 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gr3.backbone import KV, Backbone
from gr3.config import ModelConfig
from gr3.dit import ActionDiT

STEPS = 5
"""Euler steps of the sampler: delta tau 0.2 (GR-3 report, section 3.1)."""

IGNORE = -100
"""Label of a token that is not to be predicted."""


@dataclass
class Prefix:
    """What is computed once per observation. `cache`: KV of the latter-half layers; `seen`: (B, m) not padding."""

    cache: list[KV]
    seen: Tensor

    def repeat(self, times: int) -> Prefix:
        """Each sample `times` times, in a row."""
        cache = [(k.repeat_interleave(times, 0), v.repeat_interleave(times, 0)) for k, v in self.cache]
        return Prefix(cache, self.seen.repeat_interleave(times, 0))


@dataclass
class Answers:
    """What the model says: logits of the token after each, of the instruction and of conversations.

    `said`: (B, n, vocabulary). `answers`: (B, N, Q, vocabulary). `names`: (B, picture tokens, vocabulary) what each
    token of the pictures shows, before it is read.
    """

    said: Tensor
    answers: Tensor
    names: Tensor


class GR3(nn.Module):
    """The model.

    `marks`: ids of the tokens that stand before and after a picture.
    """

    marks: Tensor
    action_cos: Tensor
    action_sin: Tensor

    def __init__(self, config: ModelConfig, marks: tuple[int, int] = (0, 1)) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.dit = ActionDiT(config)
        self.register_buffer("marks", torch.tensor(marks), persistent=False)
        start = self.backbone.text_start + config.text_length
        positions = torch.arange(start, start + config.action.horizon + 1).expand(3, -1)
        cos, sin = self.backbone.rotation(positions)
        self.register_buffer("action_cos", cos, persistent=False)
        self.register_buffer("action_sin", sin, persistent=False)

    # -- prefix -------------------------------------------------------------------------------------------------------

    def prefix(self, images: list[Tensor], text: Tensor, text_mask: Tensor) -> Prefix:
        """The VLM over pictures and instruction.

        Args:
            images: per camera (B, H, W, 3) uint8.
            text: (B, text_length) token ids, padded on the right.
            text_mask: (B, text_length) bool, False for padding.
        """
        prefix, _, _ = self._read(images, text, text_mask, None)
        return prefix

    def prefix_and_answers(
        self, images: list[Tensor], text: Tensor, text_mask: Tensor, segments: Tensor
    ) -> tuple[Prefix, Answers]:
        """The same, and beside it next-token logits of many short conversations about the same pictures.

        Every conversation sees the pictures and itself, neither the instruction nor the other conversations, exactly as
        if it were alone: so the pictures are read once for all.

        Args:
            images: per camera (B, H, W, 3) uint8.
            text: (B, n) token ids of the instruction; what the model should say to it may follow.
            text_mask: (B, n) bool, True for the instruction only: nothing sees what follows it.
            segments: (B, N, Q) token ids of N conversations of at most Q tokens.

        Returns:
            The prefix, and what the model says.
        """
        prefix, hidden, pictures = self._read(images, text, text_mask, segments)
        assert hidden is not None
        said = hidden[:, : text.shape[1]]
        answers = hidden[:, text.shape[1] :].reshape(*segments.shape, -1)
        backbone = self.backbone
        names = backbone.names(pictures[:, backbone.picture_tokens])
        return prefix, Answers(backbone.logits(said), backbone.logits(answers), names)

    def _read(
        self, images: list[Tensor], text: Tensor, text_mask: Tensor, segments: Tensor | None
    ) -> tuple[Prefix, Tensor | None, Tensor]:
        """The prefix; the last layer's output from the text on, if wanted; the pictures as they are read."""
        backbone = self.backbone
        b, length = text.shape
        p = backbone.prefix_tokens
        pictures = backbone.embed_images(images, self.marks)
        x = torch.cat([pictures, backbone.embed(text)], dim=1)
        device = text.device
        start = backbone.text_start
        positions = [backbone.image_positions, start + torch.arange(length, device=device).expand(3, -1)]
        seen = torch.cat([torch.ones(b, p, dtype=torch.bool, device=device), text_mask], dim=1)
        if segments is None:
            causal = torch.ones(p + length, p + length, dtype=torch.bool, device=device).tril()
            mask = causal[None, None] & seen[:, None, None, :]
            _, cache = backbone.read(x, torch.cat(positions, dim=1), mask, need_hidden=False)
            return Prefix(cache, seen), None, pictures
        _, n, q = segments.shape
        x = torch.cat([x, backbone.embed(segments.reshape(b, n * q))], dim=1)
        positions.append(start + torch.arange(q, device=device).repeat(n).expand(3, -1))
        total = p + length + n * q
        # Which part a token belongs to: pictures 0, instruction 1, conversations 2...
        part = torch.cat(
            [
                torch.zeros(p, dtype=torch.long, device=device),
                torch.ones(length, dtype=torch.long, device=device),
                2 + torch.arange(n, device=device).repeat_interleave(q),
            ]
        )
        causal = torch.ones(total, total, dtype=torch.bool, device=device).tril()
        causal &= (part[None, :] == 0) | (part[:, None] == part[None, :])
        padded = torch.cat([seen, torch.ones(b, n * q, dtype=torch.bool, device=device)], dim=1)
        hidden, cache = backbone.read(x, torch.cat(positions, dim=1), causal[None, None] & padded[:, None, None, :])
        m = p + length
        return Prefix([(k[:, :, :m], v[:, :, :m]) for k, v in cache], seen), hidden[:, p:], pictures

    # -- flow ---------------------------------------------------------------------------------------------------------

    def velocity(self, prefix: Prefix, state: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """v_theta at noisy actions (B, k, columns) and per-token times (B, k)."""
        return self._velocity(prefix, state, noisy[:, None], time[:, None])[:, 0]

    def _velocity(self, prefix: Prefix, state: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """The same at R draws each, (B, R, k, columns) and (B, R, k)."""
        velocity: Tensor = self.dit(noisy, time, state, prefix.cache, prefix.seen, self.action_cos, self.action_sin)
        return velocity

    def sample(
        self,
        prefix: Prefix,
        state: Tensor,
        noise: Tensor,
        committed: Tensor | None = None,
        committed_mask: Tensor | None = None,
        steps: int = STEPS,
    ) -> Tensor:
        """Integrate the flow from noise (tau = 0) to actions (tau = 1) with the Euler method.

        Args:
            prefix: from `prefix`; computed once, whatever the number of steps.
            state: (B, state).
            noise: (B, k, columns) a^0.
            committed: (B, k, columns) rows that are already on their way to execution, normalised.
            committed_mask: (B, k) bool, which rows those are: the first few. They keep their values and have time 1, as
                in training, so that the rest continues them.
            steps: of 1 / steps each.

        Returns:
            (B, k, columns) normalised actions.
        """
        x = noise
        for i in range(steps):
            time = torch.full(x.shape[:2], i / steps, dtype=x.dtype, device=x.device)
            if committed is not None and committed_mask is not None:
                x = torch.where(committed_mask[..., None], committed, x)
                time = torch.where(committed_mask, torch.ones_like(time), time)
            x = x + self.velocity(prefix, state, x, time) / steps
        if committed is not None and committed_mask is not None:
            x = torch.where(committed_mask[..., None], committed, x)
        return x

    def flow_loss(
        self,
        prefix: Prefix,
        state: Tensor,
        actions: Tensor,
        weight: Tensor,
        noise: Tensor,
        time: Tensor,
        committed: Tensor,
    ) -> Tensor:
        """Flow-matching loss (GR-3 report, equation 2) for several noise levels per reading of the pictures.

        Args:
            prefix: of B samples.
            state: (B, state).
            actions: (B, k, columns) a_t, normalised.
            weight: (B, columns) 0 for columns that this sample does not supervise.
            noise: (R, B, k, columns) epsilon.
            time: (R, B) tau.
            committed: (R, B) how many of the first rows are given (0 to k - 1): their time is 1 and they have no loss.

        Returns:
            The weighted mean of |v - (a - epsilon)|^2.
        """
        rows = torch.arange(noise.shape[2], device=actions.device)
        given = rows < committed[..., None]
        tau = torch.where(given, torch.ones_like(time)[..., None], time[..., None])
        noisy = (1 - tau[..., None]) * noise + tau[..., None] * actions
        target = actions - noise
        v = self._velocity(prefix, state, noisy.transpose(0, 1), tau.transpose(0, 1)).transpose(0, 1)
        w = weight[None, :, None, :] * (~given)[..., None]
        # Columns that are not supervised may hold anything: they must not reach the loss even as 0 * nan.
        error = torch.where(w > 0, v - target, torch.zeros_like(v)) ** 2
        return (w * error).sum() / w.sum().clamp(min=1.0)


def next_token_loss(logits: Tensor, labels: Tensor, blur: Tensor | None = None) -> Tensor:
    """Cross entropy of the token after each.

    Args:
        logits: (..., Q, vocabulary).
        labels: (..., Q) the tokens themselves, `IGNORE` where not to be predicted.
        blur: (labels, vocabulary) per label, what is also nearly right (`Text.blur`).
    """
    return said_loss(logits[..., :-1, :], labels[..., 1:], blur)


def said_loss(logits: Tensor, labels: Tensor, blur: Tensor | None = None) -> Tensor:
    """Cross entropy of what is said at each token itself, not after it; see `next_token_loss`."""
    logits, labels = logits.flatten(0, -2), labels.flatten()
    logits, labels = logits[labels != IGNORE].float(), labels[labels != IGNORE]
    if not len(labels):
        return logits.sum() * 0.0
    return functional.cross_entropy(logits, labels if blur is None else blur[labels])


def naming_loss(logits: Tensor, names: Tensor) -> Tensor:
    """Cross entropy of what the pictures' tokens show, (B, n, vocabulary) each; targets are zero where unknown."""
    known = names.sum(-1) > 0
    if not known.any():
        return logits.sum() * 0.0
    return functional.cross_entropy(logits[known].float(), names[known])
