"""The scripted expert, or a policy, in every suite and setting, and the tables of the READMEs: benchmarks/campaign.py.

Goes on with what its folder holds, so it may be stopped at any time; `--table` only prints what is there. `--json`
keeps the counts, those that `./bytemini gate` holds a policy to.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bytemini_core.types import TaskStatus
from bytemini_sim.evaluation.command import main as evaluate
from bytemini_sim.evaluation.records import write_json
from bytemini_sim.tasks import evaluation_settings

SUITES = ("bin_picking", "table_bussing", "bimanual", "pick_place")
EXPERT = "expert"
AT_ONCE = 5.0
"""s within which a refusal is one of what was seen, not of what went wrong on the way."""


def rows(out: Path, suites: Sequence[str]) -> list[tuple[str, str, dict[str, Any]]]:
    """Suite, setting and what `report.json` says of it, for every report in a folder."""
    found = []
    for suite in suites:
        for setting in evaluation_settings(suite):
            report = out / f"{suite}-{setting}" / "report.json"
            if report.exists():
                data = json.loads(report.read_text(encoding="utf-8"))
                refusals = [row["word_at"] for row in data["episodes"] if row["ended"] == TaskStatus.INVALID.name]
                row = data["settings"][setting] | {"refused": len(refusals), "seed": data["seed"]}
                row["refused_at_once"] = sum(at is not None and at < AT_ONCE for at in refusals)
                found.append((suite, setting, row))
    return found


def expert_table(found: Sequence[tuple[str, str, dict[str, Any]]]) -> str:
    """Markdown; intervals are Wilson's, 95 %."""
    lines = [
        "| suite | setting | success | 95 % | follows | things brought | limit violations |",
        "|---|---|---|---|---|---|---|",
    ]
    for suite, setting, row in found:
        brought = f"{row['goals_done']}/{row['goals']}" if row["goals"] > row["episodes"] else "-"
        lines.append(
            f"| {suite} | {setting} | {row['successes']}/{row['episodes']} | {_interval(row['success_ci95'], 1)} | "
            f"{row['instruction_following']}/{row['episodes']} | {brought} | {row['limit_violations']} |"
        )
    return "\n".join(lines)


def policy_table(found: Sequence[tuple[str, str, dict[str, Any]]]) -> str:
    """Markdown; intervals are Wilson's, 95 %; how often it said INVALID, and how often within `AT_ONCE`."""
    lines = [
        "| setting | follows | 95 % | success | 95 % | progress | refused | at once | limit violations |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for suite, setting, row in found:
        name = setting if suite == "pick_place" else f"{suite}, {setting}"
        lines.append(
            f"| {name} | {row['instruction_following']}/{row['episodes']} | "
            f"{_interval(row['instruction_following_ci95'])} | {row['successes']}/{row['episodes']} | "
            f"{_interval(row['success_ci95'])} | {row['progress']['mean']:.2f} | {row['refused']} | "
            f"{row['refused_at_once']} | {row['limit_violations']} |"
        )
    return "\n".join(lines)


def _interval(bounds: Sequence[float], digits: int = 0) -> str:
    return f"{100 * bounds[0]:.{digits}f} to {100 * bounds[1]:.{digits}f} %"


COUNTS = ("episodes", "seed", "successes", "instruction_following", "refused", "refused_at_once")


def main() -> int:
    """Run what is missing and print the table."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="campaign", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/campaign"), help="default: %(default)s")
    parser.add_argument("--episodes", type=int, default=100, help="of each setting (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20000, help="of the first (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=cores, help="processes (default: all cores, %(default)s)")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--policy", default=EXPERT, help="default: %(default)s")
    parser.add_argument("--suite", action="append", choices=SUITES, help="may be given again (default: all)")
    parser.add_argument("--no-video", action="store_true", help="reports without films: sooner done")
    parser.add_argument("--json", type=Path, help="keep the counts in this file, under the policy")
    arguments = parser.parse_args()
    suites = arguments.suite or SUITES
    for suite in () if arguments.table else suites:
        for setting in evaluation_settings(suite):
            out = arguments.out / f"{suite}-{setting}"
            words = ["--suite", suite, "--setting", setting, "--episodes", str(arguments.episodes)]
            words += ["--policy", arguments.policy, "--seed", str(arguments.seed), "--jobs", str(arguments.jobs)]
            words += ["--out", str(out), *["--no-video"] * arguments.no_video]
            code = evaluate([*words, "--resume"] if out.exists() else words)
            if code:
                return code
    found = rows(arguments.out, suites)
    print((expert_table if arguments.policy == EXPERT else policy_table)(found))
    if arguments.json:
        kept = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.exists() else {}
        counts = {f"{suite}/{setting}": {key: row[key] for key in COUNTS} for suite, setting, row in found}
        write_json(arguments.json, kept | {arguments.policy: counts})
    return 0


if __name__ == "__main__":
    sys.exit(main())
