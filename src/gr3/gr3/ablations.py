"""`python -m gr3.ablations`: the ablations of the GR-3 report (section 5), each with the same budget, as one table.

Goes on where it was stopped: finished runs and finished rollouts are kept.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bytemini_core.errors import UserError

from gr3 import export, rollouts, train
from gr3.recipes import RECIPES

ABLATED = tuple(name for name in RECIPES if name.startswith("gr3-tiny"))
"""The whole recipe first."""

OFFLINE: Mapping[str, tuple[str, str]] = {
    "arm_mm": ("hands off (mm)", "{:.1f}"),
    "status": ("status right", "{:.2f}"),
    "refused": ("impossible refused", "{:.2f}"),
    "present": ("presence right", "{:.2f}"),
    "place_mm": ("target off (mm)", "{:.1f}"),
}
"""Of `validation.jsonl`: on demonstrations that were held out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train the whole recipe and each ablation with one budget; print what came of them."""
    parser = argparse.ArgumentParser(prog="gr3.ablations", description=main.__doc__)
    parser.add_argument("data", type=Path, help="of python -m gr3.generate")
    parser.add_argument("out", type=Path, help="folder for the runs")
    parser.add_argument("--looking", type=int, default=800, help="steps of the vision tower alone (default: 800)")
    parser.add_argument("--steps", type=int, default=1200, help="steps of the whole model (default: 1200)")
    parser.add_argument("--acting", type=int, default=1200, help="steps of the DiT alone (default: 1200)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=20, help="rollouts of each on Basic (default: 20)")
    parser.add_argument("--execute", type=int, default=1, help="rows executed before the next inference (default: 1)")
    options = parser.parse_args(argv)
    if options.episodes < 0:
        raise UserError(f"--episodes is {options.episodes}, expected 0 or more")
    for recipe in ABLATED:
        run = options.out / recipe
        if not (run / "done").is_file():
            print(f"{recipe}: training", flush=True)
            train.main([
                "--recipe", recipe, "--data", str(options.data), "--out", str(run),
                "--looking", str(options.looking), "--steps", str(options.steps), "--acting", str(options.acting),
                "--processes", str(options.processes), "--save-every", "50",
            ])  # fmt: skip
            (run / "done").touch()
    rows = {recipe: measured(options.out / recipe) for recipe in ABLATED}
    if options.episodes:
        jobs = [(options.out / recipe, options.episodes, options.execute) for recipe in ABLATED]
        with multiprocessing.get_context("spawn").Pool(min(options.processes, len(jobs))) as pool:
            for recipe, driven in zip(ABLATED, pool.starmap(rolled_out, jobs, chunksize=1), strict=True):
                rows[recipe] |= driven
    print(table(rows, options.episodes))
    return 0


def measured(run: Path) -> dict[str, Any]:
    """The last validation of a run."""
    lines = (run / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def rolled_out(run: Path, episodes: int, execute: int) -> dict[str, Any]:
    """Instruction following and success of a run on Basic."""
    written = run / f"rollouts-{episodes}-{execute}.json"
    if not written.is_file():
        export.export_run(run, run / "checkpoint", run.name, use=export.Use(noise=0.0, execute=execute))
        rollouts.main([str(run / "checkpoint"), "--episodes", str(episodes), "--json", str(written)])
    found: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
    return found


def table(rows: Mapping[str, Mapping[str, Any]], episodes: int) -> str:
    """Markdown: a line per recipe; a dash where an ablation has nothing to measure."""
    head = ["recipe", *(words for words, _ in OFFLINE.values())]
    if episodes:
        head += ["follows", "success"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for recipe, row in rows.items():
        cells = [recipe.removeprefix("gr3-tiny-") if recipe != "gr3-tiny" else "whole"]
        for key, (_, form) in OFFLINE.items():
            value = row.get(key, math.nan)
            without = not RECIPES[recipe].task_status and key in ("status", "refused")
            cells.append("-" if without or math.isnan(value) else form.format(value))
        for key in ("instruction_following", "success") if episodes else ():
            cells.append(f"{row[key]['count']} of {row['episodes']}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
