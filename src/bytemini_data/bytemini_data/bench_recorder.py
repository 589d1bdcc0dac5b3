"""`./bytemini bench recorder`: does it keep up, does it lose anything when killed, how fast are its datasets read."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.errors import UserError
from bytemini_core.types import CAMERAS, NANOSECONDS

PLAN = """
name: benchmark
episodes: 100000
actions: {swing: "swing both arms"}
"""

KEYS = (
    "minutes",
    "dropped",
    "unaccounted",
    "writer_lag_s",
    "rss_growth_mib",
    "kills",
    "lost_episodes",
    "loader_samples_per_s",
    "lerobot_samples_per_s",
)

SETTLING = 20.0
"""Seconds of the recording after which memory counts: pools and caches have filled by then."""

TELEOPERATED = ("bytemini_sim", "wbc_controller")
"""What runs beside the recorder: what moves the robot while a person leads it."""

WARM_UP = 20.0
"""Seconds that the stack has to come up before the recording starts."""


def main(argv: list[str]) -> int:
    """Record three 640 x 480 cameras and 200 Hz state beside the simulator, kill the recorder, read against lerobot."""
    parser = argparse.ArgumentParser(prog="bytemini bench recorder", description=main.__doc__)
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    parser.add_argument("--minutes", type=float, default=10.0, help="of recording; 0 for none (default: %(default)g)")
    parser.add_argument("--kills", type=int, default=50, help="of the recorder; 0 for none (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="per loader and round; 0 for none (default: 6)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills (default: 0)")
    parser.add_argument("--keep", type=Path, default=None, help="leave the recorded dataset in this new folder")
    parser.add_argument("--dataset", type=Path, default=None, help="read this dataset instead of the recorded one")
    arguments = parser.parse_args(argv)
    if arguments.keep is not None and arguments.keep.exists():
        raise UserError(f"{arguments.keep} exists already: give a new folder")
    figures: dict[str, Any] = dict.fromkeys(KEYS)
    reasons: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bytemini-recorder-") as name:
        folder = Path(name)
        root = arguments.keep or folder / "set"
        parts: list[tuple[str, bool, Callable[[], dict[str, Any]]]] = [
            ("recording", arguments.minutes > 0, lambda: recording(root, folder, arguments.minutes)),
            ("kills", arguments.kills > 0, lambda: kills(folder / "killed", arguments.kills, arguments.seed)),
            ("loaders", arguments.seconds > 0, lambda: loaders(arguments.dataset or root, arguments.seconds)),
        ]
        for what, wanted, run in parts:
            if not wanted:
                reasons[what] = "left out by the command line"
                continue
            try:
                figures |= run()
            except (UserError, RuntimeError, OSError) as error:
                reasons[what] = " ".join(str(error).split())
    figures["reasons"] = reasons
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


# Recording beside the running simulator


def recording(root: Path, folder: Path, minutes: float) -> dict[str, Any]:
    """Record for so long beside the stack in real time; everything but the stand-in for the cameras on two cores."""
    import rclpy
    from bytemini_core.domain import private_domain
    from bytemini_core.ros import LATCHED_QOS

    from bytemini_bringup.processes import Processes
    from bytemini_bringup.stack import options, stack
    from bytemini_bringup.transport import PROFILES, large_images
    from bytemini_msgs.msg import EpisodeStatus
    from bytemini_msgs.srv import EpisodeCommand

    (folder / "plan.yaml").write_text(PLAN, encoding="utf-8")
    processes = [p for p in stack(options(cameras=False)) if p.name in TELEOPERATED]
    with private_domain():
        os.environ[PROFILES] = large_images()
        environment = dict(os.environ)
        every = os.sched_getaffinity(0)
        with _two_cores() as cores, Processes(processes, folder / "logs", environment=environment):
            python = [sys.executable, "-m"]
            player = [*python, "bytemini_data.camera_player", "--sim-time", "--out", str(folder / "sent.json")]
            parameters = {
                "dataset": root, "plan": folder / "plan.yaml", "countdown": 0.1, "use_sim_time": True,
                "set_up_scene": False, "longest": 36000.0, "keep_failed": True, "loss": 60.0,
            }  # fmt: skip
            ros = [
                item
                for k, v in parameters.items()
                for item in ("-p", f"{k}:={str(v).lower() if isinstance(v, bool) else v}")
            ]
            recorder = [*python, "bytemini_data.bench_recorder", str(folder / "samples.jsonl"), "--ros-args", *ros]
            with _running(player, environment, every), _running(recorder, environment, cores):
                rclpy.init()
                node = rclpy.create_node("bench_recorder")
                state: list[str] = []
                warnings: list[str] = []

                def hear(message: EpisodeStatus) -> None:
                    state.append(message.state)
                    warnings[:] = message.warnings

                node.create_subscription(EpisodeStatus, "recorder/status", hear, LATCHED_QOS)
                client = node.create_client(EpisodeCommand, "recorder/command")

                def wait(seconds: float, until: Callable[[], bool] = lambda: False) -> None:
                    end = time.monotonic() + seconds
                    while time.monotonic() < end and not until():
                        rclpy.spin_once(node, timeout_sec=0.2)

                def command(word: str, **more: Any) -> None:
                    future = client.call_async(EpisodeCommand.Request(command=word, **more))
                    wait(20.0, future.done)
                    if not future.done() or not future.result().ok:
                        raise RuntimeError(f"{word}: {future.result().message if future.done() else 'no answer'}")

                try:
                    wait(WARM_UP + 40.0, client.service_is_ready)
                    wait(WARM_UP)
                    command("start")
                    wait(10.0, lambda: state[-1:] == ["RECORDING"])
                    wait(60.0 * minutes, lambda: state[-1:] != ["RECORDING"])
                    command("save", success=True)
                    wait(120.0, lambda: state[-1:] in (["SAVED"], ["ABORTED"]))
                    wait(1.0)
                    if state[-1:] != ["SAVED"]:
                        raise RuntimeError(f"the recorder is {state[-1]}: {'; '.join(warnings)}")
                finally:
                    node.destroy_node()
                    rclpy.try_shutdown()
    late = json.loads((folder / "sent.json").read_text(encoding="utf-8"))["late"]
    found = {**_samples(folder / "samples.jsonl"), **account(root, late)}
    # Of the simulator, whose clock stamps everything: 1 if the machine let it keep up.
    found["realtime_factor"] = round(found["minutes"] * 60 / found.pop("wall_s"), 2)
    return found


def account(root: Path, late: Collection[int] = ()) -> dict[str, Any]:
    """What a recording of marked pictures lost, and whether it knows: every missing number must be a counted drop.

    Numbers run on in the pictures of each camera; a number that is left out between two frames never arrived.

    Args:
        root: the dataset.
        late: numbers of pictures that were never sent, since their sender was late.
    """
    from bytemini_data.camera_player import read_mark
    from bytemini_data.features import IMAGE, MASKS, VALID
    from bytemini_data.lerobot import Dataset

    dataset = Dataset(root, threads=2)
    if not len(dataset):
        raise RuntimeError("the recording was not saved: see its warnings")
    valid = dataset.column(VALID)
    drops = json.loads(dataset.rows[-1].fields["drops"])
    numbers = {camera: np.full(len(dataset), -1) for camera in CAMERAS}
    for first in range(0, len(dataset), 64):
        frames = range(first, min(first + 64, len(dataset)))
        batch = dataset.batch(frames)
        for camera in CAMERAS:
            for i, frame in enumerate(frames):
                if valid[frame, MASKS.index(camera)]:
                    numbers[camera][frame] = read_mark(batch[f"{IMAGE}{camera}"][i])
    unaccounted = unsent = 0
    for camera in CAMERAS:
        there = numbers[camera][numbers[camera] >= 0]
        missing = int((np.diff(there) - 1).sum())
        unsent += len((set(range(there[0], there[-1])) - set(there.tolist())) & set(late))
        edges = int((numbers[camera][0] < 0) + (numbers[camera][-1] < 0))
        unaccounted += max(0, abs(missing - drops[camera]) - edges)
    states = int((~valid[:, MASKS.index("joints")]).sum())
    return {
        "minutes": round(len(dataset) / dataset.fps / 60, 2),
        "frames": len(dataset),
        "dropped": sum(drops.values()),
        "dropped_before_they_were_sent": unsent,
        "dropped_states": states,
        "unaccounted": unaccounted,
    }


def _samples(path: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["recording"]]
    later = [row for row in rows if row["time"] >= rows[0]["time"] + SETTLING] or rows
    cpu = (rows[-1]["cpu"] - rows[0]["cpu"]) / max(rows[-1]["time"] - rows[0]["time"], 1e-9)
    return {
        "writer_lag_s": round(float(np.percentile([row["lag"] for row in later], 99)), 3),
        "writer_lag_max_s": round(max(row["lag"] for row in later), 3),
        "overflow": rows[-1]["overflow"],
        "wall_s": rows[-1]["time"] - rows[0]["time"] + 1.0,
        "rss_growth_mib": round(max(row["rss"] for row in later) - later[0]["rss"], 1),
        "recorder_cores": round(cpu, 2),
    }


@contextmanager
def _two_cores() -> Iterator[set[int]]:
    """Bind this process, and so what it starts, to two cores."""
    before = os.sched_getaffinity(0)
    two = set(sorted(before)[:2])
    os.sched_setaffinity(0, two)
    try:
        yield two
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _running(command: list[str], environment: dict[str, str], cores: set[int]) -> Iterator[None]:
    """A process on these cores that is interrupted at the end."""
    process = subprocess.Popen(command, env=environment)
    os.sched_setaffinity(process.pid, cores)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def watched_node() -> int:
    """The recorder's node in this process, writing down once a second how it keeps up (argv: file, ROS arguments)."""
    import resource

    from bytemini_core.node import run_node

    from bytemini_data.recorder.node import RecorderNode
    from bytemini_data.recorder.session import State

    path = Path(sys.argv.pop(1))
    page = os.sysconf("SC_PAGE_SIZE")
    stream = path.open("w", buffering=1, encoding="utf-8")

    def look(node: RecorderNode) -> None:
        recorder = node.recorder
        usage = resource.getrusage(resource.RUSAGE_SELF)
        now = node.get_clock().now().nanoseconds
        row = {
            "time": time.monotonic(),
            "recording": recorder.session.state is State.RECORDING and recorder.lag(now) > 0,
            "lag": recorder.lag(now),
            "overflow": sum(recorder.load.overflow.values()),
            "rss": int(Path("/proc/self/statm").read_text().split()[1]) * page / 2**20,
            "cpu": usage.ru_utime + usage.ru_stime,
        }
        stream.write(json.dumps(row) + "\n")

    def make() -> RecorderNode:
        from rclpy.clock import Clock, ClockType

        node = RecorderNode()
        node.create_timer(1.0, lambda: look(node), clock=Clock(clock_type=ClockType.STEADY_TIME))
        return node

    return run_node(make)


# Kills


def kills(root: Path, count: int, seed: int) -> dict[str, Any]:
    """Kill -9 a recorder at random moments; what it had called saved must be there, whole, each time."""
    from tqdm import tqdm

    from bytemini_data.lerobot import Dataset, DatasetWriter

    rng = np.random.default_rng(seed)
    context = multiprocessing.get_context("fork")
    saved = lost = 0
    for _ in tqdm(range(count), desc="kills", disable=None):
        mine, other = context.Pipe(duplex=False)
        process = context.Process(target=_record_on, args=(root, other))
        process.start()
        other.close()
        if not mine.poll(120):
            process.kill()
            raise RuntimeError("the recorder to be killed did not come up within 120 s")
        time.sleep(float(rng.uniform(0.0, 3.0)))
        process.kill()
        process.join()
        told = saved
        try:
            while mine.poll(0):
                told = mine.recv()
        except EOFError:
            pass
        try:
            with DatasetWriter(root) as writer:
                present = writer.episodes
            dataset = Dataset(root)
            # The last ones are those that a kill could have touched.
            tail = dataset.span(max(0, present - 3)).start if present else 0
            if len(dataset) > tail:
                dataset.batch(range(tail, len(dataset)))
        except UserError as error:
            print(f"after a kill: {error}", file=sys.stderr)
            present = 0
        lost += max(0, told - present)
        saved = present
    dataset = Dataset(root, threads=2)
    for first in range(0, len(dataset), 64):
        dataset.batch(range(first, min(first + 64, len(dataset))))
    return {"kills": count, "lost_episodes": lost, "episodes_after_kills": saved}


def _record_on(root: Path, pipe: Any) -> None:
    """Record one short episode after the other until killed; tell how many are saved."""
    import yaml
    from bytemini_description.robot import load_robot

    from bytemini_data.fake_stack import messages
    from bytemini_data.features import Layout
    from bytemini_data.plan import parse_plan
    from bytemini_data.recorder.recorder import Recorder, Settings
    from bytemini_data.recorder.session import Limits

    robot, size = load_robot("v1"), (64, 192)
    limits = Limits(countdown=0.0, reserve=1)
    recorder = Recorder(root, Layout(robot, size, 10), parse_plan(yaml.safe_load(PLAN)), Settings(limits=limits))
    stream = list(messages(robot, 1.5, NANOSECONDS, size=size))
    pipe.send(recorder.writer.episodes)
    now = 0.0
    while True:
        recorder.drain()
        now += 10.0
        recorder.command("start", now, "nobody")
        recorder.tick(now)
        for topic, cdr, stamp in stream:
            recorder.receive(topic, cdr, stamp, stamp, now)
            if len(cdr) > 10_000:
                recorder.drain()  # as slowly as it can work: nothing is to overflow here
        recorder.command("save", now + 2.0, success=True)
        recorder.drain()
        pipe.send(recorder.writer.episodes)


# Loaders


def loaders(root: Path, seconds: float) -> dict[str, Any]:
    """Samples per second of our loader and of lerobot's, on the same dataset, in turns."""
    from bytemini_core.commands import workspace

    script = workspace() / "tools" / "check_lerobot.sh"
    if not (root / "meta" / "info.json").is_file():
        raise UserError(f"{root} is no dataset: record one (--minutes) or give one (--dataset)")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        command = [str(script), str(root), "--seconds", str(seconds), "--json", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not out.is_file():
            raise UserError(f"{script} failed: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}")
        found = json.loads(out.read_text(encoding="utf-8"))
    if found["failed"]:
        raise UserError(
            f"the real lerobot loader reads {root} otherwise in {found['failed']} of {found['checks']} checks"
        )
    return {key: found[key] for key in found if key.endswith("_samples_per_s")}


if __name__ == "__main__":
    sys.exit(watched_node())
