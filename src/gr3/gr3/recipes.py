"""What a training run is, as typed data; the recipes of this repository and their ablations."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from gr3.dataset import Mixture


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Every field can be given on the command line (`--learning-rate 1e-4`).

    `data`, `out`: folders of shards and of the run. `size`: "tiny" or "full". `backbone`: folder of pretrained
    Qwen2.5-VL weights, "" to start from scratch. `init`: folder of another run of the same model, or of a
    checkpoint, with whose (averaged) weights, words and normalisation this one begins, "" for none; its vision
    tower may be of another shape than this one's, which then learns anew in `looking` steps. `demos`, `stills`:
    shards to use, 0 for all. `robot_batch`, `stills_batch`: samples per step of all processes together. `taus`:
    noise levels per reading of the pictures. `decay`: share of the steps over which the learning rate falls to zero
    at the end. `committed`: share of samples whose first rows are given, for continuing what is already being
    executed. `invalid`, `corrected`, `blind`: shares of samples, as `Mixture` has them. `cotraining`,
    `task_status`, `norm`: off for the ablations. `bf16`: autocast, on a GPU and on processors that have it. `blur`:
    of location tokens (`Text.blur`). `muon`: Muon for the layers' matrices, at `muon_rate` times the learning rate.
    `looking`: steps in which the vision tower alone learns to name things, before the others (`gr3.looking`).
    `acting`: steps after `steps` in which the DiT alone learns, from what the VLM, which no longer changes, reads:
    with `acting_batch` samples of demonstrations and `acting_taus` noise levels each. `minutes`: stop after so
    many, 0 for never.
    """

    data: str = ""
    out: str = ""
    size: str = "tiny"
    backbone: str = ""
    init: str = ""
    demos: int = 0
    stills: int = 0
    validation: int = 1
    steps: int = 9_000
    robot_batch: int = 20
    stills_batch: int = 12
    conversations: int = 6
    taus: int = 4
    learning_rate: float = 1e-3
    warmup: int = 200
    decay: float = 0.25
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.999
    committed: float = 0.2
    invalid: float = Mixture.invalid
    corrected: float = Mixture.corrected
    blind: float = Mixture.blind
    seed: int = 0
    processes: int = 2
    device: str = "cpu"
    bf16: bool = True
    blur: float = 1.0
    muon: bool = True
    muon_rate: float = 2.0
    looking: int = 1500
    acting: int = 4000
    acting_batch: int = 64
    acting_taus: int = 8
    save_every: int = 100
    validate_every: int = 500
    minutes: float = 0.0
    cotraining: bool = True
    task_status: bool = True
    norm: bool = True

    def mixture(self) -> Mixture:
        """What a batch of one process is made of."""
        return Mixture(
            robot=self.robot_batch // self.processes,
            stills=self.stills_batch // self.processes if self.cotraining else 0,
            conversations=self.conversations if self.cotraining else 0,
            invalid=self.invalid if self.task_status else 0.0,
            corrected=self.corrected,
            blind=self.blind,
            status=4.0 if self.task_status else 0.0,
        )

    def acting_alone(self) -> TrainConfig:
        """The last stage as a run of its own."""
        return replace(self, steps=self.acting, robot_batch=self.acting_batch, taus=self.acting_taus, cotraining=False)


_TINY = TrainConfig()
RECIPES: Mapping[str, TrainConfig] = {
    "gr3-tiny": _TINY,
    "gr3-tiny-without-norm": replace(_TINY, norm=False),
    "gr3-tiny-without-status": replace(_TINY, task_status=False),
    "gr3-tiny-without-cotraining": replace(_TINY, cotraining=False),
    "gr3-full": replace(
        _TINY,
        size="full",
        learning_rate=5e-5,
        weight_decay=1e-4,
        ema=0.9999,
        device="cuda",
        warmup=1000,
        muon=False,
        looking=0,
        acting=0,
        processes=1,
        robot_batch=16,
        stills_batch=8,
    ),
}
"""`gr3-tiny-without-*`: the ablations of the GR-3 report (section 5) with the same budget."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """One option per field; absent ones keep the recipe's value."""
    for item in fields(TrainConfig):
        name = "--" + item.name.replace("_", "-")
        kind: Any = type(getattr(_TINY, item.name))
        if kind is bool:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=None)
        else:
            parser.add_argument(name, type=kind, default=None)


def configure(recipe: str, options: argparse.Namespace) -> TrainConfig:
    """The recipe with the command line's changes.

    Raises:
        ValueError: no such recipe, or numbers that do not go together.
    """
    if recipe not in RECIPES:
        raise ValueError(f"there is no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    changes = {f.name: getattr(options, f.name) for f in fields(TrainConfig) if getattr(options, f.name) is not None}
    config = replace(RECIPES[recipe], **changes)
    if not config.data or not config.out:
        raise ValueError(
            "say where the data is (--data FOLDER, of ./bytemini record or python -m gr3.generate) "
            "and where the run goes (--out FOLDER)"
        )
    if config.size not in ("tiny", "full"):
        raise ValueError(f"--size is {config.size!r}, expected tiny or full")
    for name in ("decay", "committed", "invalid", "corrected", "blind"):
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ValueError(f"--{name} is {getattr(config, name)}, expected a share from 0 to 1")
    for name in ("robot_batch", "stills_batch", "acting_batch"):
        if getattr(config, name) % config.processes:
            raise ValueError(
                f"--{name.replace('_', '-')} {getattr(config, name)} does not split evenly over "
                f"{config.processes} processes"
            )
    return config
