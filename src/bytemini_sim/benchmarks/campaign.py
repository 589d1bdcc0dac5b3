"""The scripted expert in every suite and setting, and the table of the README: python benchmarks/campaign.py.

Goes on with what its folder holds, so it may be stopped at any time; `--table` only prints what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from bytemini_sim.evaluation.command import main as evaluate
from bytemini_sim.tasks import evaluation_settings

SUITES = ("bin_picking", "table_bussing", "bimanual", "pick_place")


def table(out: Path) -> str:
    """Markdown: a row for every report in a folder; intervals are Wilson's, 95 %."""
    lines = [
        "| suite | setting | success | 95 % | follows | things brought | limit violations |",
        "|---|---|---|---|---|---|---|",
    ]
    for suite in SUITES:
        for setting in evaluation_settings(suite):
            report = out / f"{suite}-{setting}" / "report.json"
            if not report.exists():
                continue
            row = json.loads(report.read_text(encoding="utf-8"))["settings"][setting]
            low, high = (100 * bound for bound in row["success_ci95"])
            brought = f"{row['goals_done']}/{row['goals']}" if row["goals"] > row["episodes"] else "-"
            lines.append(
                f"| {suite} | {setting} | {row['successes']}/{row['episodes']} | {low:.1f} to {high:.1f} % | "
                f"{row['instruction_following']}/{row['episodes']} | {brought} | {row['limit_violations']} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Run what is missing and print the table."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="campaign", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/campaign"), help="default: %(default)s")
    parser.add_argument("--episodes", type=int, default=100, help="of each setting (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20000, help="of the first (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=cores, help="processes (default: all cores, %(default)s)")
    parser.add_argument("--table", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    for suite in () if arguments.table else SUITES:
        for setting in evaluation_settings(suite):
            out = arguments.out / f"{suite}-{setting}"
            words = ["--suite", suite, "--setting", setting, "--episodes", str(arguments.episodes)]
            words += ["--seed", str(arguments.seed), "--jobs", str(arguments.jobs), "--out", str(out)]
            code = evaluate([*words, "--resume"] if out.exists() else words)
            if code:
                return code
    print(table(arguments.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
