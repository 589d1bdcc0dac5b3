"""`python -m gr3.chats`: still scenes of the simulator as a vision-language set in a standard format."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from bytemini_core.errors import UserError

from gr3 import talk
from gr3.dataset import DatasetError, Shards


def chat(path: str, talks: Sequence[talk.Talk]) -> dict[str, object]:
    """One picture's conversations as messages, the picture with the first question."""
    messages: list[dict[str, object]] = []
    for i, item in enumerate(talks):
        content: list[dict[str, str]] = [{"type": "image", "image": path}] if i == 0 else []
        messages.append({"role": "user", "content": [*content, {"type": "text", "text": item.question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": item.answer}]})
    return {"messages": messages}


def write(stills: Shards, folder: Path, number: int, seed: int = 0) -> Path:
    """Write `number` pictures and a `chats.jsonl`: captions, grounded captions, grounding, naming, counting, referring.

    Returns:
        The path of the JSON lines.
    """
    from PIL import Image

    rng = np.random.default_rng(seed)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    names = sorted({str(thing["name"]) for episode in stills.episodes for thing in episode["things"]})
    path = folder / "chats.jsonl"
    with path.open("w", encoding="utf-8") as lines:
        for frame in range(min(number, len(stills))):
            which = np.array([frame])
            episode = stills.episodes[stills.episode_index[frame]]
            known = len(episode["things"])
            places, points = stills.take("places", which)[0, :known], stills.take("points", which)[0, :, :known]
            scene = talk.Scene(episode["things"], places, points, episode["phrases"])
            talks = [talk.caption(scene, grounded=False), talk.caption(scene, grounded=True)]
            if not talk.is_ambiguous(scene, episode["target"]):
                talks.append(talk.plan(scene, episode["target"], episode["destination"]))
            talks += talk.dense(scene, names, 6, rng)
            picture = f"pictures/{frame:06d}.png"
            Image.fromarray(stills.take("head", which)[0]).save(folder / picture)
            lines.write(json.dumps(chat(picture, talks)) + "\n")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Write a vision-language set (JSON lines and pictures) from still scenes made by gr3.generate."""
    parser = argparse.ArgumentParser(prog="gr3.chats", description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder of shards (python -m gr3.generate)")
    parser.add_argument("folder", type=Path, help="where chats.jsonl and pictures/ go")
    parser.add_argument("--number", type=int, default=1000)
    options = parser.parse_args(argv)
    try:
        print(write(Shards(options.data / "stills"), options.folder, options.number))
    except DatasetError as error:
        raise UserError(str(error)) from None
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
