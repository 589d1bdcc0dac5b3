"""`./bytemini data`: check, report, replay, convert and merge datasets."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from bytemini_core.errors import UserError


def main(argv: list[str]) -> int:
    """Check, mend, report, replay, convert and merge datasets."""
    parser = argparse.ArgumentParser(prog="bytemini data", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="read every file, measure every episode again, say what is wrong")
    check.add_argument("root", type=Path, metavar="DIR")
    check.add_argument("--json", type=Path, default=None, help="also write the outcome to this file")
    check.add_argument("--repair", action="store_true", help="say how damage would be mended; with --yes, mend it")
    check.add_argument("--yes", action="store_true", help="with --repair: do it")
    report = commands.add_parser("report", help="one HTML page: distributions, coverage, pictures, worst episodes")
    report.add_argument("root", type=Path, metavar="DIR")
    report.add_argument("--plan", type=Path, default=None, help="show how far this plan is covered")
    report.add_argument("--out", type=Path, default=None, help="the page (default: DIR/report.html)")
    replay = commands.add_parser(
        "replay", help="drive the simulator from recorded episodes, tell the error of the state"
    )
    replay.add_argument("root", type=Path, metavar="DIR")
    replay.add_argument(
        "--episode", type=int, action="append", default=None, help="which; may be given again (default: 0)"
    )
    replay.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    convert = commands.add_parser("convert", help="make a dataset of native recordings (rosbag2 MCAP)")
    convert.add_argument("bags", type=Path, nargs="+", metavar="BAG")
    convert.add_argument("--out", type=Path, required=True, help="the dataset's folder, new or to be added to")
    convert.add_argument("--fps", type=int, default=10, help="frames per second (default: %(default)s)")
    convert.add_argument(
        "--size", type=int, nargs=2, default=None, metavar=("HEIGHT", "WIDTH"), help="(default: as kept)"
    )
    convert.add_argument("--robot", default="v1", choices=("v1", "v2"), help="default: v1")
    convert.add_argument("--task", default="", help="the instruction, where a recording does not know it")
    convert.add_argument("--failed", action="store_true", help="the task was not done in them")
    merge = commands.add_parser("merge", help="copy several datasets into a new one")
    merge.add_argument("roots", type=Path, nargs="+", metavar="DIR")
    merge.add_argument("--out", type=Path, required=True, help="a new folder")
    human = commands.add_parser("human", help="make a dataset of a person's head video and hand poses")
    human.add_argument("takes", type=Path, nargs="+", metavar="TAKE", help="folder with head.mp4 and hands.jsonl")
    human.add_argument("--out", type=Path, required=True, help="the dataset's folder, new or to be added to")
    human.add_argument("--fps", type=int, default=10, help="frames per second (default: %(default)s)")
    human.add_argument("--size", type=int, nargs=2, default=(224, 224), metavar=("HEIGHT", "WIDTH"))
    human.add_argument("--robot", default="v1", choices=("v1", "v2"), help="whose dataset it goes into (default: v1)")
    human.add_argument("--task", default="", help="the instruction, where a take does not say it")
    arguments = parser.parse_args(argv)
    return int(_COMMANDS[arguments.command](arguments))


def _check(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from bytemini_data.check import check, examine, repair, summary
    from bytemini_data.lerobot.schema import read_info

    root = arguments.root
    if arguments.yes and not arguments.repair:
        raise UserError("--yes means something only with --repair")
    if arguments.repair:
        source, damage = examine(root)
        for line in damage.lines():
            print(line)
        if damage.any and not arguments.yes:
            print("nothing was changed: give --yes to do this")
            return 1
        if damage.any:
            old = repair(root, source, damage)
            print(f"mended; the original is {old}" if old else "mended")
    total = read_info(root).episodes
    with tqdm(total=total, unit="episode", disable=None) as bar:
        checked = check(root, lambda: bar.update() and None)
    found = summary(checked)
    for item in found["worst"]:
        print(f"episode {item['episode']}: {'; '.join(item['reasons'])}")
    print(
        f"{root}: {found['episodes']} episodes, {found['frames']} frames: "
        f"{found['pass']} pass, {found['warn']} warn, {found['fail']} fail"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 1 if found["fail"] else 0


def _report(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from bytemini_data.check import check
    from bytemini_data.lerobot.schema import read_info
    from bytemini_data.plan import load_plan
    from bytemini_data.report import make_report

    plan = load_plan(arguments.plan) if arguments.plan else None
    with tqdm(total=read_info(arguments.root).episodes, unit="episode", disable=None) as bar:
        checked = check(arguments.root, lambda: bar.update() and None)
    if not checked:
        raise UserError(f"{arguments.root} holds no episode: nothing to report")
    out = arguments.out or arguments.root / "report.html"
    out.write_text(make_report(arguments.root, checked, plan), encoding="utf-8")
    print(f"report in {out}")
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    from bytemini_data.replay import replay

    found = []
    for episode in arguments.episode or [0]:
        try:
            outcome = replay(arguments.root, episode)
        except ValueError as error:
            raise UserError(str(error)) from error
        found.append(dataclasses.asdict(outcome))
        print(
            f"episode {episode}: {'succeeds' if outcome.success else 'fails'} (recorded: "
            f"{'success' if outcome.recorded_success else 'failure'}); over {outcome.frames} frames arms are off by "
            f"{1000 * outcome.arm_rms:.1f} mrad RMS, {1000 * outcome.arm_max:.1f} at most, "
            f"the base by {1000 * outcome.base_rms:.1f} mm RMS"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from bytemini_description.robot import load_robot
    from tqdm import tqdm

    from bytemini_data.convert import convert, describe, picture_size
    from bytemini_data.episode import open_writer
    from bytemini_data.features import Layout

    _check_fps(arguments.fps)
    described = [describe(bag, arguments.task) for bag in arguments.bags]
    size = _even(arguments.size) if arguments.size else picture_size(arguments.bags[0])
    layout = Layout(load_robot(arguments.robot), size, arguments.fps)
    with open_writer(arguments.out, layout) as writer:
        for recording in tqdm(described, unit="recording", disable=None):
            index, quality = convert(recording, layout, writer, not arguments.failed)
            print(f"{recording.folder}: episode {index}, {quality.verdict} {'; '.join(quality.reasons)}".rstrip())
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from bytemini_data.copy import merge
    from bytemini_data.lerobot.schema import read_info

    total = sum(read_info(root).episodes for root in arguments.roots)
    with tqdm(total=total, unit="episode", disable=None) as bar:
        count = merge(arguments.roots, arguments.out, lambda: bar.update() and None)
    print(f"{count} episodes in {arguments.out}")
    return 0


def _human(arguments: argparse.Namespace) -> int:
    from bytemini_description.robot import load_robot
    from tqdm import tqdm

    from bytemini_data.episode import open_writer
    from bytemini_data.features import Layout
    from bytemini_data.human import import_take, read_take

    _check_fps(arguments.fps)
    takes = [read_take(folder, arguments.task) for folder in arguments.takes]
    layout = Layout(load_robot(arguments.robot), _even(arguments.size), arguments.fps)
    with open_writer(arguments.out, layout) as writer:
        for take in tqdm(takes, unit="take", disable=None):
            index, quality = import_take(take, layout, writer)
            print(f"{take.folder}: episode {index}, {quality.verdict} {'; '.join(quality.reasons)}".rstrip())
    return 0


def _check_fps(fps: int) -> None:
    if not 1 <= fps <= 100:
        raise UserError(f"--fps is {fps}, expected 1 to 100")


def _even(size: tuple[int, int]) -> tuple[int, int]:
    height, width = size
    if height % 2 or width % 2 or not (16 <= height <= 4096 and 16 <= width <= 4096):
        raise UserError(f"--size is {height} {width}, expected even numbers from 16 to 4096")
    return height, width


_COMMANDS = {
    "check": _check,
    "report": _report,
    "replay": _replay,
    "convert": _convert,
    "merge": _merge,
    "human": _human,
}
