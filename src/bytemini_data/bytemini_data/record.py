"""`./bytemini record`: fill a dataset by a plan, with teleoperation or with a policy in the simulator."""

from __future__ import annotations

import argparse
from pathlib import Path

from bytemini_core.errors import UserError


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what of it is for teleoperation."""
    parser = argparse.ArgumentParser(
        prog="bytemini record",
        description=main.__doc__,
        epilog="Without --policy, options of ./bytemini teleop go as well: --operator ann, --human, --sim none ... "
        "Interrupted, it goes on where it was when given the same folder again.",
    )
    parser.add_argument("--plan", type=Path, required=True, help="what to record, in which proportions (YAML)")
    parser.add_argument("--out", type=Path, required=True, help="the dataset's folder, new or to be added to")
    parser.add_argument("--policy", default=None, help="record this policy in the simulator instead of teleoperation")
    parser.add_argument("--robot", default="v1", choices=("v1", "v2"), help="default: v1")
    parser.add_argument("--image-size", type=int, default=224, help="pixels, in simulation (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that simulate, with --policy (default: 1)")
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        help="with --policy expert: push it off course, to show recovery; 1 is a few cm (default: 0)",
    )
    parser.add_argument(
        "--keep-failures", action="store_true", help="with --policy: also keep episodes that did not succeed"
    )
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.policy is not None:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return arguments, rest


def main(argv: list[str]) -> int:
    """Record episodes by a plan that says what is needed next: with teleoperation, or a policy in the simulator."""
    arguments, rest = parse(argv)
    from bytemini_data.plan import load_plan

    plan = load_plan(arguments.plan)
    if arguments.policy is None:
        from teleop_vr.command import main as teleoperate

        shared = ["--robot", arguments.robot, "--image-size", str(arguments.image_size)]
        return int(teleoperate(["--record", str(arguments.plan), "--dataset", str(arguments.out), *shared, *rest]))
    if not 1 <= arguments.jobs <= 64:
        raise UserError(f"--jobs is {arguments.jobs}, expected 1 to 64")
    if arguments.image_size % 2 or not 32 <= arguments.image_size <= 1024:
        raise UserError(f"--image-size is {arguments.image_size}, expected an even number from 32 to 1024")
    if not 0.0 <= arguments.noise <= 3.0 or (arguments.noise and arguments.policy != "expert"):
        raise UserError(f"--noise is {arguments.noise}, expected 0 to 3, and only with --policy expert")
    from gr3_policy_node.backends import policies

    if arguments.policy not in policies():
        raise UserError(f"--policy is {arguments.policy!r}, expected {' or '.join(policies())}")
    return _simulate(arguments, plan)


def _simulate(arguments: argparse.Namespace, plan) -> int:  # type: ignore[no-untyped-def]
    from tqdm import tqdm

    from bytemini_data.expert import Collection, Options

    options = Options(arguments.policy, arguments.robot, arguments.image_size, arguments.noise, arguments.keep_failures)
    collection = Collection(plan, arguments.out, options)
    try:
        if str(collection.writer.recovery):
            print(f"{arguments.out}: {collection.writer.recovery}")
        done = plan.episodes - max(0, plan.episodes - collection.scheduler.total)
        with tqdm(total=plan.episodes, initial=done, unit="episode", desc=plan.name) as bar:
            collection.run(arguments.jobs, lambda text: bar.write(text), lambda: bar.update() and None)
        writer, scheduler = collection.writer, collection.scheduler
        print(
            f"{writer.episodes} episodes, {writer.frames} frames at {writer.schema.fps} Hz in {arguments.out}; "
            f"{collection.rejected} rejected; total variation to the plan {scheduler.distance():.3f}"
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error
    finally:
        collection.close()
    return 0
