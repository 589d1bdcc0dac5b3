"""`python -m gr3.rollouts`: roll a checkpoint out on seeds of evaluation, for a look while it is being trained.

The numbers that count are those of `./bytemini eval`; this is the same loop for a folder instead of a policy's name.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from bytemini_core.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Roll a checkpoint folder out and print instruction following, success and refusals."""
    parser = argparse.ArgumentParser(prog="gr3.rollouts", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="checkpoint folder (./bytemini export)")
    parser.add_argument("--setting", default="basic")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the first episode; the others follow")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args(argv)

    from bytemini_sim.episode import RolloutOptions
    from bytemini_sim.inproc import InprocRunner
    from bytemini_sim.results.report import wilson_interval
    from tqdm import tqdm

    from gr3.deploy import CheckpointError, load_policy

    try:
        policy = load_policy(options.folder, threads=options.threads)
        runner = InprocRunner(RolloutOptions(setting=options.setting), policy=policy)
    except (CheckpointError, ValueError) as error:
        raise UserError(str(error)) from None
    rows = []
    for seed in tqdm(range(options.seed, options.seed + options.episodes), unit="episode"):
        result = runner.run(seed).result
        rows.append(
            {
                "seed": seed,
                "instruction": result.instruction,
                "instruction_following": bool(result.instruction_following),
                "success": bool(result.success),
                "progress": float(result.progress),
                "task_status": int(result.task_status),
                "seconds": result.sim_seconds,
                "failure": result.failure,
            }
        )
    runner.close()
    n = len(rows)
    report: dict[str, object] = {"folder": str(options.folder), "setting": options.setting, "episodes": n}
    for key, count in (
        ("instruction_following", sum(bool(row["instruction_following"]) for row in rows)),
        ("success", sum(bool(row["success"]) for row in rows)),
        ("said_invalid", sum(row["task_status"] == -1 for row in rows)),
    ):
        low, high = wilson_interval(count, n)
        report[key] = {"count": count, "share": count / n, "interval": [low, high]}
        print(f"{key}: {count}/{n} = {100 * count / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]")
    report["progress"] = sum(float(str(row["progress"])) for row in rows) / n
    print(f"mean progress {report['progress']:.2f}")
    if options.json:
        options.json.write_text(json.dumps({**report, "rows": rows}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
