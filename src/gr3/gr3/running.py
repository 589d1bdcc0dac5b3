"""A training run computed by torch: read it, say what it is, and let it drive as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gr3.deploy import FORMAT, CheckpointError, Networks
from gr3.model import GR3, STEPS, Prefix
from gr3.text import Text
from gr3.train import build, is_checkpoint, record_of


@dataclass(frozen=True)
class Run:
    """The last save of a run: the model, its tokenizer, `training.json`, the steps done."""

    model: GR3
    text: Text
    record: dict[str, Any]
    steps: int


def read_run(folder: Path, live: bool = False) -> Run:
    """The last save of a run; `live`: the last weights instead of their moving average.

    Raises:
        CheckpointError: the folder is no run, or it is damaged.
    """
    if is_checkpoint(folder):
        raise CheckpointError(f"{folder} is a checkpoint already, expected the folder of a training run")
    try:
        record = record_of(folder)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    try:
        text = Text.load(folder / "tokenizer.json")
        model = build(record, text)
        saved = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)
        model.load_state_dict(saved["model" if live else "average"])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from None
    return Run(model.eval(), text, record, int(saved["step"]))


def description(
    model: GR3, record: Mapping[str, Any], name: str, precision: str = "float32", noise: float = 1.0, execute: int = 1
) -> dict[str, Any]:
    """What a policy's user must know of it: `policy.json` of a checkpoint, less the digests.

    Args:
        model: whose it is.
        record: of the run.
        name: what the policy calls itself.
        precision: of its arithmetic.
        noise: scale of a task's initial noise.
        execute: rows of a chunk to be executed before it is asked again.
    """
    config, columns = model.config, list(record["columns"])
    return {
        "format": FORMAT,
        "name": name,
        "robot": record["robot"],
        "columns": columns,
        "policy_columns": columns[: columns.index("left_hand/x")],
        "state_names": list(record["state_names"]),
        "horizon": config.action.horizon,
        "dt": 0.1,
        "cameras": list(config.cameras),
        "image_size": [224, 224],
        "views": {camera: asdict(view) for camera, view in config.views.items()},
        "text_length": config.text_length,
        "task_status": config.action.task_status,
        "normalisation": record["normalisation"],
        "steps": STEPS,
        "noise": noise,
        "execute": execute,
        "precision": precision,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def as_policy(folder: Path, threads: int, provider: str) -> tuple[dict[str, Any], Text, Networks]:
    """What `gr3.deploy.Gr3Policy` is made of; `threads` of the whole process.

    Raises:
        CheckpointError: see `read_run`; or there is no CUDA.
    """
    if provider == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("this torch finds no CUDA; choose cpu")
    device = "cuda" if provider != "cpu" and torch.cuda.is_available() else "cpu"
    torch.set_num_threads(threads)
    run = read_run(folder)
    model = run.model.to(device)
    networks = Networks(
        f"torch {device}",
        _Run(PrefixGraph(model), [*PREFIX_INPUTS, *(f"image_{camera}" for camera in model.config.cameras)], device),
        _Run(DenoiseGraph(model), DENOISE_INPUTS, device),
    )
    return description(model, run.record, folder.name), run.text, networks


PREFIX_INPUTS = ("text", "text_mask")
"""Names of the prefix's inputs, before those of the pictures."""
PREFIX_OUTPUTS = ("keys", "values", "seen")
DENOISE_INPUTS = (*PREFIX_OUTPUTS, "state", "noise", "committed", "committed_mask")


class PrefixGraph(nn.Module):
    """Pictures and text to the latter half's keys and values."""

    def __init__(self, model: GR3) -> None:
        super().__init__()
        self.model = model

    def forward(self, text: Tensor, text_mask: Tensor, *images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values (B, layers, heads, m, width), and which of the m may be looked at (B, m)."""
        prefix = self.model.prefix(list(images), text, text_mask)
        keys = torch.stack([k for k, _ in prefix.cache], dim=1)
        values = torch.stack([v for _, v in prefix.cache], dim=1)
        return keys, values, prefix.seen


class DenoiseGraph(nn.Module):
    """All Euler steps."""

    def __init__(self, model: GR3) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        keys: Tensor,
        values: Tensor,
        seen: Tensor,
        state: Tensor,
        noise: Tensor,
        committed: Tensor,
        committed_mask: Tensor,
    ) -> Tensor:
        """Normalised actions (B, k, columns)."""
        cache = list(zip(keys.unbind(1), values.unbind(1), strict=True))
        actions: Tensor = self.model.sample(Prefix(cache, seen), state, noise, committed, committed_mask)
        return actions


class _Run:
    """A network that is called as onnxruntime calls one."""

    def __init__(self, network: nn.Module, inputs: Sequence[str], device: str) -> None:
        self._network, self._inputs, self._device = network.eval(), inputs, device

    def run(self, outputs: None, feed: Mapping[str, Any]) -> list[Any]:  # noqa: ARG002 (all of them)
        with torch.inference_mode():
            found = self._network(*(torch.from_numpy(feed[name]).to(self._device) for name in self._inputs))
        return [item.cpu().numpy() for item in ((found,) if isinstance(found, Tensor) else found)]
