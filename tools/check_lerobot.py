"""Reads a dataset with the real lerobot loader and with ours, and compares; run by check_lerobot.sh."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

# torchvision's compiled half is built for CUDA and does not load here; its Python half needs these names to exist.
_OPERATORS = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from bytemini_data.lerobot import Dataset, DatasetWriter, Feature, Schema  # noqa: E402
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402

CODEC_ERROR = 3.0
"""Mean difference of a decoded picture from the one written, of 255: what H.264 at this quality may lose."""

LOADER_ERROR = 2.0
"""Mean difference between both loaders' pictures, of 255: two ways from YUV to RGB round differently."""


def write_known(root: Path, fps: int = 10) -> dict[tuple[int, int], np.ndarray]:
    """Write a small dataset with every type of feature; the head's pictures by episode and frame."""
    cameras = [f"observation.images.{name}" for name in ("head", "left_wrist", "right_wrist")]
    features = {name: Feature("video", (96, 128, 3)) for name in cameras}
    features["observation.state"] = Feature("float32", (5,), ("a", "b", "c", "base/x", "base/y"))
    features["observation.valid"] = Feature("bool", (3,), ("x", "y", "z"))
    features["action"] = Feature("float32", (5,))
    features["task_status"] = Feature("int64")
    features["embodiment"] = Feature("string")
    features["next.done"] = Feature("bool")
    features["quality"] = Feature("float32")
    known = {}
    rows, columns = np.mgrid[0:96, 0:128]
    with DatasetWriter(root, Schema(fps, features, "bytemini", {"operator": "string", "success": "bool"})) as writer:
        for episode in range(3):
            with writer.begin(f"put thing {episode % 2} into the basket") as building:
                for frame in range(20 + episode):
                    wave = 128 + 90 * np.sin(rows / 17 + frame / 3) * np.cos(columns / 23 + episode)
                    picture = np.stack([wave, wave * 0.7 + 30, 255 - wave], -1).clip(0, 255).astype(np.uint8)
                    known[episode, frame] = picture
                    building.add(
                        {
                            **dict.fromkeys(cameras, picture),
                            "observation.state": np.arange(5) + frame,
                            "observation.valid": [True, frame % 2 == 0, False],
                            "action": np.full(5, frame + 1),
                            "task_status": 1 if frame > 17 else 0,
                            "embodiment": "robot",
                            "next.done": frame == 19 + episode,
                            "quality": 0.5,
                        }
                    )
                writer.commit(building.finish(), {"operator": "nobody", "success": True})
    return known


class Check:
    """Counts what holds and says what does not."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.passed = 0

    def __call__(self, what: str, holds: bool, detail: object = "") -> None:
        """Take one outcome down."""
        if holds:
            self.passed += 1
        else:
            self.failed.append(f"{what}: {detail}")


def rate(count: int, take, seconds: float = 6.0) -> float:
    """Samples per second of `take(i)`, each giving `count`, after one to warm up."""
    take(0)
    begun, taken = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        take(taken + 1)
        taken += 1
    return taken * count / (time.perf_counter() - begun)


def main() -> int:
    """Compare, print, and exit 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", help="dataset to read (default: one written for the purpose)")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    parser.add_argument(
        "--batch", type=int, default=8, help="samples per batch, of the throughput (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=0.0, help="of measuring throughput; 0 for none")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        known: dict[tuple[int, int], np.ndarray] = {}
        root = arguments.root
        if root is None:
            root = Path(folder) / "known"
            known = write_known(root)
        return compare(root.resolve(), known, arguments)


def compare(root: Path, known: dict[tuple[int, int], np.ndarray], arguments: argparse.Namespace) -> int:
    """Everything that is compared."""
    check = Check()
    mine = Dataset(root)
    step = 1 / mine.fps
    deltas = {"action": [i * step for i in range(4)], "observation.state": [-step, 0.0]}
    if mine.cameras:
        deltas[mine.cameras[0]] = [-step, 0.0]
    deltas = {name: times for name, times in deltas.items() if name in mine.schema.features}
    mine = Dataset(root, deltas)
    theirs = LeRobotDataset("bytemini/check", root=root, delta_timestamps=deltas, video_backend="pyav")
    check("number of frames", len(theirs) == len(mine), f"{len(theirs)}, expected {len(mine)}")
    check("number of episodes", theirs.num_episodes == len(mine.rows), f"{theirs.num_episodes}")
    rng = np.random.default_rng(0)
    ends = [frame for e in range(len(mine.rows)) for frame in (mine.span(e)[0], mine.span(e)[-1])]
    chosen = sorted({*ends[:20], *rng.integers(0, len(mine), 60).tolist()})
    loader_error = codec_error = 0.0
    for index in chosen:
        ours, other = mine[index], theirs[index]
        check(f"task of frame {index}", other["task"] == ours["task"], f"{other['task']!r}, expected {ours['task']!r}")
        for name, feature in mine.schema.features.items():
            if name not in other:
                check(f"feature {name}", False, "the real loader does not return it")
            elif feature.dtype == "video":
                picture = other[name].numpy() * 255.0
                picture = np.moveaxis(picture, -3, -1)
                loader_error = max(loader_error, float(np.abs(picture - ours[name].astype(float)).mean()))
                episode = mine.episode_of(index)
                if known and name == mine.cameras[0]:
                    original = known[episode, index - mine.span(episode)[0]].astype(float)
                    codec_error = max(codec_error, float(np.abs(picture[-1] - original).mean()))
            elif feature.dtype == "string":
                check(f"{name} of frame {index}", other[name] == ours[name], other[name])
            else:
                same = np.array_equal(np.asarray(other[name]), np.asarray(ours[name]))
                check(f"{name} of frame {index}", same, f"{other[name]}, expected {ours[name]}")
        for name in deltas:
            same = np.array_equal(np.asarray(other[f"{name}_is_pad"]), ours[f"{name}_is_pad"])
            check(f"{name}_is_pad of frame {index}", same, other[f"{name}_is_pad"])
    check("pictures of both loaders", loader_error <= LOADER_ERROR, f"mean difference {loader_error:.2f} of 255")
    check("pictures against those written", codec_error <= CODEC_ERROR, f"mean difference {codec_error:.2f} of 255")
    loader = torch.utils.data.DataLoader(theirs, batch_size=4, num_workers=2, shuffle=True)
    batch = next(iter(loader))
    check("batch of a DataLoader", batch["action"].shape[:2] == (4, 4), tuple(batch["action"].shape))
    some = LeRobotDataset("bytemini/check", root=root, episodes=[len(mine.rows) - 1], video_backend="pyav")
    check("a single episode", len(some) == mine.rows[-1].length, f"{len(some)}, expected {mine.rows[-1].length}")
    figures: dict[str, object] = {
        "frames": len(mine),
        "checks": check.passed + len(check.failed),
        "failed": len(check.failed),
        "loader_error": round(loader_error, 3),
        "codec_error": round(codec_error, 3) if known else None,
    }
    if arguments.seconds:
        figures |= throughput(root, arguments.batch, arguments.seconds)
    for text in check.failed[:20]:
        print("FAILED", text, file=sys.stderr)
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 1 if check.failed else 0


def throughput(root: Path, size: int, seconds: float) -> dict[str, float]:
    """Samples per second in one process each: random frames, chunks of 16 actions, all cameras, collated.

    Taken in turns, three times each, so that what else the machine does meets both; the medians count. `loader`: ours
    as it comes (uint8 pictures); `loader_float`: with the conversion to float32 CHW in [0, 1] that lerobot does.
    """
    torch.set_num_threads(1)
    mine = Dataset(root)
    deltas = {"action": [i / mine.fps for i in range(16)]}
    mine = Dataset(root, deltas)
    theirs = LeRobotDataset("bytemini/check", root=root, delta_timestamps=deltas, video_backend="pyav")
    indices = np.random.default_rng(1).integers(0, len(mine), (4096, size))

    def ours(i: int) -> None:
        mine.batch(indices[i % len(indices)])

    def ours_float(i: int) -> None:
        batch = mine.batch(indices[i % len(indices)])
        for name in mine.cameras:
            torch.from_numpy(batch[name]).permute(0, 3, 1, 2).contiguous().float().div_(255)

    def lerobot(i: int) -> None:
        torch.utils.data.default_collate([theirs[int(j)] for j in indices[i % len(indices)]])

    rates: dict[str, list[float]] = {"loader": [], "loader_float": [], "lerobot": []}
    for _ in range(3):
        for name, take in (("loader", ours), ("loader_float", ours_float), ("lerobot", lerobot)):
            rates[name].append(rate(size, take, seconds))
    return {f"{name}_samples_per_s": round(float(np.median(found)), 1) for name, found in rates.items()}


if __name__ == "__main__":
    sys.exit(main())
