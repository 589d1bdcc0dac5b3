"""The two losses of GR-3 on one batch (report, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gr3.dataset import Batch
from gr3.model import GR3, Prefix, naming_loss, next_token_loss, said_loss
from gr3.recipes import TrainConfig


def losses(
    model: GR3, batch: Batch, config: TrainConfig, generator: torch.Generator, blur: Tensor | None = None
) -> dict[str, Tensor]:
    """Both losses of GR-3 on one batch; `loss` is their sum (GR-3 report, section 3.2). `blur`: see `Text.blur`."""
    device = next(model.parameters()).device
    images = [torch.from_numpy(batch.images[name]).to(device) for name in model.config.cameras]
    text, mask = torch.from_numpy(batch.text).to(device), torch.from_numpy(batch.text_mask).to(device)
    found: dict[str, Tensor] = {}
    if batch.segments.shape[1]:
        segments, labels = torch.from_numpy(batch.segments).to(device), torch.from_numpy(batch.labels).to(device)
        text_labels = torch.from_numpy(batch.text_labels).to(device)
        prefix, answers = model.prefix_and_answers(images, text, mask, segments)
        found["next_token"] = next_token_loss(answers.answers, labels, blur)
        found["instruction"] = said_loss(answers.said, text_labels, blur)
        if batch.names.shape[1]:
            found["names"] = naming_loss(answers.names, torch.from_numpy(batch.names).to(device))
    else:
        prefix = model.prefix(images, text, mask)
    r = len(batch.state)
    prefix = Prefix([(k[:r], v[:r]) for k, v in prefix.cache], prefix.seen[:r])
    state, actions = torch.from_numpy(batch.state).to(device), torch.from_numpy(batch.actions).to(device)
    weight = torch.from_numpy(batch.weight).to(device)
    shape = (config.taus, *actions.shape)
    noise = torch.randn(shape, generator=generator).to(device)
    time_ = torch.rand(shape[:2], generator=generator).to(device)
    given = torch.randint(1, 6, shape[:2], generator=generator)
    given = given * (torch.rand(shape[:2], generator=generator) < config.committed)
    # What must not be done cannot have begun: an invalid sample has nothing committed.
    given = given.to(device) * (weight[:, 0] > 0)
    found["flow"] = model.flow_loss(prefix, state, actions, weight, noise, time_, given)
    found["loss"] = found["flow"] + sum(found[name] for name in ("next_token", "instruction", "names") if name in found)
    return found


class LossStep(nn.Module):
    """`losses` as a forward pass, which is what DistributedDataParallel hooks into."""

    blur: Tensor

    def __init__(self, model: GR3, blur: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("blur", blur, persistent=False)

    def forward(self, batch: Batch, config: TrainConfig, generator: torch.Generator) -> dict[str, Tensor]:
        """See `losses`."""
        return losses(self.model, batch, config, generator, self.blur)
