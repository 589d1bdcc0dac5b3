"""Statistics of features, per episode and over all: what a learner normalises with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)

MOST_PICTURES = 40
"""Pictures of an episode that its statistics are made of: about so many, evenly spread."""
STRIDE = 4
"""Every so-many-th pixel counts, both ways."""

Stats = dict[str, NDArray[np.float64]]


def array_stats(values: NDArray[Any]) -> Stats:
    """Statistics of (n, d) numbers over n: each (d,), `count` (1,)."""
    values = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    found = {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)], dtype=np.float64),
    }
    found.update(zip(QUANTILES, np.quantile(values, list(QUANTILES.values()), axis=0), strict=True))
    return found


class PictureStats:
    """Statistics of pictures per channel in [0, 1], from histograms: memory does not grow with the episode."""

    def __init__(self) -> None:
        self._histogram = np.zeros((3, 256), dtype=np.int64)
        self._seen = 0
        self._every = 1

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Take an (H, W, 3) picture into account, or leave it out, so that long episodes cost no more than short."""
        if self._seen % self._every == 0:
            small = picture[::STRIDE, ::STRIDE]
            for channel in range(3):
                self._histogram[channel] += np.bincount(small[..., channel].ravel(), minlength=256)
            if self._seen // self._every >= MOST_PICTURES:
                self._every *= 2
        self._seen += 1

    def result(self) -> Stats:
        """Statistics as lerobot keeps them for pictures: (3, 1, 1) each."""
        levels = np.arange(256) / 255.0
        count = self._histogram.sum(1)
        if not count.all():
            raise ValueError("no picture was added")
        mean = self._histogram @ levels / count
        variance = self._histogram @ levels**2 / count - mean**2
        cumulated = np.cumsum(self._histogram, axis=1) / count[:, None]
        found = {
            "min": levels[(self._histogram > 0).argmax(1)],
            "max": levels[255 - (self._histogram[:, ::-1] > 0).argmax(1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(variance, 0.0)),
            **{name: levels[(cumulated >= q).argmax(1)] for name, q in QUANTILES.items()},
        }
        stats = {name: value.reshape(3, 1, 1) for name, value in found.items()}
        stats["count"] = np.array([self._seen], dtype=np.float64)
        return stats


def combine(parts: Sequence[Stats]) -> Stats:
    """Statistics of all from those of the parts; quantiles as their weighted mean, which is what lerobot does."""
    counts = np.array([float(part["count"][0]) for part in parts])
    weights = counts / counts.sum()

    def weighted(name: str) -> NDArray[np.float64]:
        return np.asarray(np.tensordot(weights, np.stack([part[name] for part in parts]), 1))

    mean = weighted("mean")
    spread = np.stack([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(np.tensordot(weights, spread, 1)),
        "count": np.array([counts.sum()]),
        **{name: weighted(name) for name in QUANTILES},
    }


def as_lists(stats: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """For JSON and parquet; counts are whole numbers."""
    return {name: [int(v) for v in value] if name == "count" else value.tolist() for name, value in stats.items()}
