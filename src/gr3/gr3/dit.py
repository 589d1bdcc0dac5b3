"""The action diffusion transformer of GR-3 (report, section 2): flow prediction conditioned on the VLM's KV cache."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gr3.backbone import KV, attend, rotate
from gr3.config import ModelConfig


def time_features(time: Tensor, width: int) -> Tensor:
    """(..., width) sines and cosines of flow times (...) in [0, 1]."""
    half = width // 2
    frequencies = torch.exp(-math.log(1e4) * torch.arange(half, device=time.device, dtype=time.dtype) / half)
    angles = 1000.0 * time[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class RMSNorm(nn.Module):
    """Root mean square normalisation over the last axis; in plain operations, which every exporter knows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) of unit root mean square, times the weights."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


class Linear(nn.Module):
    """A linear layer, with RMSNorm after it where the configuration says so (GR-3 report, section 2)."""

    def __init__(self, inputs: int, outputs: int, norm: bool, groups: int = 1) -> None:
        """`groups`: heads; each is normalised for itself."""
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.groups = groups
        self.norm = RMSNorm(outputs // groups) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        y: Tensor = self.linear(x)
        if self.norm is None:
            return y
        heads = y.view(*y.shape[:-1], self.groups, y.shape[-1] // self.groups)
        normed: Tensor = self.norm(heads)
        return normed.flatten(-2)


class Block(nn.Module):
    """Attention to the VLM's layer and to the tokens so far, then feed-forward; time through adaptive layer norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        action, text = config.action, config.text
        self.heads, self.kv_heads = text.heads, text.kv_heads
        self.width = text.hidden // text.heads
        d = action.hidden
        self.q = Linear(d, self.heads * self.width, action.norm, self.heads)
        self.k = Linear(d, self.kv_heads * self.width, action.norm, self.kv_heads)
        self.v = Linear(d, self.kv_heads * self.width, action.norm, self.kv_heads)
        self.o = Linear(self.heads * self.width, d, action.norm)
        self.up = Linear(d, action.intermediate, action.norm)
        self.down = Linear(action.intermediate, d, action.norm)
        self.plain = nn.LayerNorm(d, elementwise_affine=False)
        self.modulation = nn.Linear(d, 6 * d)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, time: Tensor, cos: Tensor, sin: Tensor, memory: KV, mask: Tensor) -> Tensor:
        """One block.

        Args:
            x: (B, n, d) tokens: the state, then the actions.
            time: (B, n, d) embedded flow time of each token.
            cos: (n, width) rotation of the tokens' positions, with `sin`.
            sin: see `cos`.
            memory: keys and values (B, kv heads, m, width) of this block's VLM layer.
            mask: (B, 1, n, m + n), True where a token may look.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(functional.silu(time)).chunk(6, dim=-1)
        b, n, _ = x.shape
        y = self.plain(x) * (1 + scale1) + shift1
        q = rotate(self.q(y).view(b, n, self.heads, self.width).transpose(1, 2), cos, sin)
        k = rotate(self.k(y).view(b, n, self.kv_heads, self.width).transpose(1, 2), cos, sin)
        v = self.v(y).view(b, n, self.kv_heads, self.width).transpose(1, 2)
        k, v = torch.cat([memory[0], k], dim=2), torch.cat([memory[1], v], dim=2)
        x = x + gate1 * self.o(attend(q, k, v, mask))
        y = self.plain(x) * (1 + scale2) + shift2
        fed: Tensor = self.down(functional.gelu(self.up(y), approximate="tanh"))
        out: Tensor = x + gate2 * fed
        return out


class ActionDiT(nn.Module):
    """Velocity of the flow at noisy actions. Layer i attends to layer L/2 + i of the VLM."""

    causal: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        d = config.action.hidden
        self.state = nn.Sequential(nn.Linear(config.state, d), nn.SiLU(), nn.Linear(d, d))
        self.action = nn.Linear(config.columns, d)
        self.time = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.text.layers // 2))
        self.plain = nn.LayerNorm(d, elementwise_affine=False)
        self.last = nn.Linear(d, 2 * d)
        self.out = nn.Linear(d, config.columns)
        for layer in (self.last, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        n = config.action.horizon + 1
        self.register_buffer("causal", torch.ones(n, n, dtype=torch.bool).tril(), persistent=False)

    def forward(
        self, noisy: Tensor, time: Tensor, state: Tensor, memory: list[KV], seen: Tensor, cos: Tensor, sin: Tensor
    ) -> Tensor:
        """The velocity, at several noisy versions of the same actions at once: R draws, which do not see each other.

        What the draws share, the memory above all, is there once: so many noise levels per reading of the pictures are
        cheap in training. In use R is 1.

        Args:
            noisy: (B, R, k, columns) a^tau.
            time: (B, R, k) flow time tau of each action token: 1 for one that is already committed.
            state: (B, state) normalised.
            memory: per block, the VLM's keys and values (B, kv heads, m, width).
            seen: (B, m) which of the m may be looked at (the rest is padding).
            cos: (k + 1, width) rotation of the tokens' positions, with `sin`.
            sin: see `cos`.

        Returns:
            (B, R, k, columns).
        """
        b, r, k, _ = noisy.shape
        # The residual stream stays as exact as what comes in, also where autocast makes the layers less so.
        known = self.state(state)[:, None, None].expand(-1, r, -1, -1)
        x = torch.cat([known, self.action(noisy)], dim=2).to(noisy.dtype).flatten(1, 2)
        # The state is no noisy thing: its time is that of clean data.
        full = torch.cat([torch.ones_like(time[..., :1]), time], dim=2)
        t = self.time(time_features(full, self.config.action.hidden)).flatten(1, 2)
        n = x.shape[1]
        own = self.causal
        if r > 1:
            own = torch.kron(torch.eye(r, dtype=torch.uint8, device=x.device), own.to(torch.uint8)).bool()
        mask = torch.cat([seen[:, None, None, :].expand(-1, 1, n, -1), own.expand(b, 1, n, n)], dim=-1)
        if r > 1:
            cos, sin = cos.repeat(r, 1), sin.repeat(r, 1)
        for block, layer in zip(self.blocks, memory, strict=True):
            x = block(x, t, cos, sin, layer, mask)
        shift, scale = self.last(functional.silu(t)).chunk(2, dim=-1)
        x = self.plain(x) * (1 + scale) + shift
        velocity: Tensor = self.out(x.unflatten(1, (r, k + 1))[:, :, 1:])
        return velocity
