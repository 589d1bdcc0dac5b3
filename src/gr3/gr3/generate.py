"""`python -m gr3.generate`: make training data from the simulator."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bytemini_core.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Make demonstrations and still scenes for training; resumes where it was stopped."""
    parser = argparse.ArgumentParser(prog="gr3.generate", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="where the shards go (outside the repository)")
    parser.add_argument("--episodes", type=int, default=2048, help="demonstrations, in shards of 32")
    parser.add_argument("--stills", type=int, default=8192, help="still scenes, in shards of 512")
    parser.add_argument(
        "--corrections",
        type=int,
        default=0,
        help="episodes in which --policy and the expert take turns, in shards of 32",
    )
    parser.add_argument("--policy", type=Path, help="checkpoint that takes turns with the expert")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--views", choices=("tiny", "full"), default="tiny", help="size of model the pictures are for")
    parser.add_argument("--from-lerobot", type=Path, help="add this dataset's episodes instead of simulating")
    parser.add_argument("--from-chats", type=Path, help="add this vision-language set (JSON lines) instead")
    options = parser.parse_args(argv)
    if options.processes < 1 or min(options.episodes, options.stills, options.corrections) < 0:
        raise UserError("--processes must be at least 1, --episodes, --stills and --corrections at least 0")
    if (options.corrections > 0) != (options.policy is not None):
        raise UserError("--corrections N and --policy CHECKPOINT belong together: whose episodes are to be corrected?")

    from tqdm import tqdm

    from gr3.demos import SHARD, STILLS, Recipe, generate
    from gr3.deploy import CheckpointError
    from gr3.shards import missing

    recipe = Recipe(views=options.views)
    options.folder.mkdir(parents=True, exist_ok=True)
    written = options.folder / "recipe.json"
    if written.exists() and json.loads(written.read_text(encoding="utf-8")) != asdict(recipe):
        raise UserError(f"{written} was made by another recipe: take another folder, or delete this one")
    written.write_text(json.dumps(asdict(recipe)), encoding="utf-8")
    if options.from_lerobot or options.from_chats:
        from bytemini_description.robot import load_robot

        from gr3.imports import import_chats, import_lerobot
        from gr3.views import VIEWS

        try:
            if options.from_lerobot:
                added = import_lerobot(
                    options.from_lerobot, options.folder, load_robot(recipe.robot), views=VIEWS[recipe.views]
                )
            else:
                added = import_chats(options.from_chats, options.folder, VIEWS[recipe.views])
        except ValueError as error:
            raise UserError(str(error)) from None
        print(f"{added} samples added to {options.folder}")
        return 0
    # Some of both soon, so that training can begin before all are made.
    for kind, count, size in (
        ("stills", options.stills, STILLS),
        ("demos", options.episodes, SHARD),
        ("corrections", options.corrections, SHARD),
    ):
        shards = range(-(-count // size))
        there = len(shards) - len(missing(options.folder, kind, shards))
        made = generate(options.folder, kind, shards, recipe, options.processes, options.policy)
        try:
            for _ in tqdm(made, initial=there, total=len(shards), desc=kind, unit="shard"):
                pass
        except CheckpointError as error:
            raise UserError(str(error)) from None
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
