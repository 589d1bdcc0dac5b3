"""Shards: folders of `.npy` files and a `meta.json`, complete or absent; what training reads, wherever it came from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gr3.views import View

FORMAT = "gr3-shard/2"
"""What `meta.json` of a shard says of itself."""
THINGS = 8
"""Most things (objects and containers) a scene holds: rows of the label arrays."""

PHASES = (
    "",
    "approach",
    "descend",
    "close",
    "lift",
    "transfer",
    "lower",
    "release",
    "retreat",
    "home",
    "recover",
    "done",
    "invalid",
    "stuck",
    "clear",
    "look",
)
"""What the expert says it is doing, in the order of the numbers that shards keep."""
BEGINNING = tuple(PHASES.index(phase) for phase in ("", "look", "approach"))
"""Where an instruction can still turn out to be impossible: everything is in view and nothing has been touched."""


def shard_folder(root: Path, kind: str, index: int) -> Path:
    """Where a shard of a kind ("demos" or "stills") lies."""
    return root / kind / f"{index:05d}"


def missing(root: Path, kind: str, shards: Sequence[int]) -> list[int]:
    """Those of some shards that have not been made: the last file of a shard is `meta.json`."""
    return [i for i in shards if not (shard_folder(root, kind, i) / "meta.json").exists()]


@dataclass
class Shard:
    """Frames under construction. `views`: what they show of each camera; `episodes`: what is known about each."""

    views: dict[str, View]
    frames: list[dict[str, Any]]
    episodes: list[dict[str, Any]]

    def write(self, folder: Path, kind: str) -> None:
        """Write, complete or not at all."""
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for key in self.frames[0]:
            np.save(temporary / f"{key}.npy", np.stack([frame[key] for frame in self.frames]))
        meta = {
            "format": FORMAT,
            "kind": kind,
            "frames": len(self.frames),
            "views": {name: {"crop": view.crop, "size": view.size} for name, view in self.views.items()},
            "episodes": self.episodes,
        }
        (temporary / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
