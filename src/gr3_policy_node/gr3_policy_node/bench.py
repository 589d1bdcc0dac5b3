"""`./bytemini bench policy`: what an inference costs, what the wire adds, what batching gives."""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bytemini_core.errors import UserError
from bytemini_core.types import ActionChunk, Observation, Policy, PolicyMetadata, RobotState
from bytemini_description.robot import RobotModel, load_robot
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rich.progress import Progress

BUNDLED = "gr3-tiny"
CAMERAS = ("head", "left_wrist", "right_wrist")
SIZE = (224, 224)
CLIENTS = 8

PATIENCE = 30.0
"""Seconds: a benchmark waits, a robot would not."""


class Stub:
    """A policy that costs nothing: what is left of a request's time is the wire's."""

    def __init__(self, robot: RobotModel) -> None:
        self.metadata = PolicyMetadata("stub", robot.policy_columns, 16, 0.1, CAMERAS, SIZE)
        self._values = np.zeros((16, len(robot.policy_columns)), dtype=np.float32)

    def reset(self) -> None:
        """Nothing to forget."""

    def infer(
        self,
        observation: Observation,
        prefix: NDArray[np.float32] | None = None,  # noqa: ARG002
        noise: NDArray[np.float32] | None = None,  # noqa: ARG002
    ) -> ActionChunk:
        """Stay."""
        k = len(self._values)
        return ActionChunk(
            observation.stamp,
            0,
            self.metadata.columns,
            0.1,
            self._values,
            np.zeros(k, dtype=np.int8),
            np.ones(k, dtype=np.float32),
        )


def bundled() -> Path | None:
    """The folder of the checkpoint that comes with the stack, None while there is none."""
    try:
        folder = Path(str(files("gr3") / "checkpoints" / BUNDLED))
    except ModuleNotFoundError:
        return None
    return folder if (folder / "policy.json").is_file() else None


def make(folder: Path | None, robot: RobotModel, threads: int) -> Policy:
    """The checkpoint in a folder, on the CPU; the stub for None."""
    if folder is None:
        return Stub(robot)
    from gr3.deploy import load_policy

    policy: Policy = load_policy(folder, robot=robot, threads=threads, provider="cpu")
    return policy


def observations(robot: RobotModel, metadata: PolicyMetadata, count: int = 16) -> list[Observation]:
    """Observations of noise: what is seen must not matter to the time."""
    random = np.random.default_rng(0)
    zeros = np.zeros(len(robot.joint_names))
    return [
        Observation(
            i,
            "put the apple into the basket",
            RobotState(i, robot.joint_names, robot.home, zeros, zeros),
            {camera: random.integers(0, 255, (*metadata.image_size, 3), dtype=np.uint8) for camera in metadata.cameras},
        )
        for i in range(count)
    ]


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    p50, p99 = np.percentile(np.asarray(seconds) * 1000.0, (50, 99))
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


def time_inference(policy: Policy, seen: Sequence[Observation], count: int, progress: Progress) -> list[float]:
    """Seconds of each of `count` inferences in this process, after those that warm up."""
    policy.reset()
    for observation in seen[:3]:
        policy.infer(observation)
    out = []
    for i in progress.track(range(count), description=f"inference of {policy.metadata.name}"):
        begun = time.perf_counter()
        policy.infer(seen[i % len(seen)])
        out.append(time.perf_counter() - begun)
    return out


def _serve(folder: Path | None, threads: int, batch: int, address: Any, stop: Event) -> None:
    from gr3_policy_node.server import ServerOptions, served

    robot = load_robot("v1")
    options = ServerOptions(port=0, batch=batch)
    with served(lambda: make(folder, robot, threads), robot, options) as (_, url):
        address.send(url)
        stop.wait()


@contextlib.contextmanager
def server(folder: Path | None, threads: int, batch: int) -> Iterator[str]:
    """A server in a process of its own; its address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    stop = context.Event()
    process = context.Process(target=_serve, args=(folder, threads, batch, theirs, stop), daemon=True)
    process.start()
    try:
        if not ours.poll(60.0):
            raise RuntimeError("the server did not come up within 60 s")
        yield ours.recv()
    finally:
        stop.set()
        process.join(timeout=10.0)
        process.kill()


def time_wire(url: str, robot: RobotModel, seen: Sequence[Observation], count: int, progress: Progress) -> list[float]:
    """Seconds of each of `count` requests by one client."""
    from gr3_policy_node.remote import connect

    policy = connect(url, robot, deadline=PATIENCE)
    try:
        return time_inference(policy, seen, count, progress)
    finally:
        policy.close()


def throughput(url: str, robot: RobotModel, seen: Sequence[Observation], seconds: float) -> float:
    """Answers per second to `CLIENTS` clients that ask again as soon as they are answered."""
    from gr3_policy_node.remote import connect

    def drive(client: int) -> int:
        policy = connect(url, robot, deadline=PATIENCE)
        answered = 0
        try:
            policy.infer(seen[client])
            begin.wait()
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                policy.infer(seen[(client + answered) % len(seen)])
                answered += 1
        except BaseException:
            begin.abort()  # the others must not wait for this one
            raise
        finally:
            policy.close()
        return answered

    begin = threading.Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(drive, range(CLIENTS))) / seconds


def measure(
    folder: Path | None, threads: int, count: int, seconds: float, rounds: int, progress: Progress
) -> dict[str, Any]:
    """Every number; None, with `reason`, for what needs a checkpoint where there is none."""
    robot = load_robot("v1")
    policy = None if folder is None else make(folder, robot, threads)
    stub = make(None, robot, threads)
    seen = observations(robot, stub.metadata)
    inside = time_inference(stub, seen, count, progress)
    with server(None, threads, 1) as url:
        outside = time_wire(url, robot, seen, count, progress)
    overhead = statistics.median(outside) - statistics.median(inside)
    result: dict[str, Any] = {
        "onnx_ms": None,
        "websocket_overhead_ms": round(1000.0 * overhead, 3),
        "websocket_overhead_p99_ms": percentiles(outside)["p99"],
        "batched_speedup": None,
        "checkpoint_mib": None,
    }
    if folder is None or policy is None:
        return result | {
            "reason": f"there is no checkpoint {BUNDLED} in this tree yet: name a folder with --checkpoint, "
            "for example one of 'python -m gr3.export --random FOLDER'"
        }
    seen = observations(robot, policy.metadata)
    result["checkpoint"] = policy.metadata.name
    result["provider"] = policy.metadata.extra.get("provider")
    result["onnx_ms"] = percentiles(time_inference(policy, seen, count, progress)) | {"threads": threads}
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    result["checkpoint_mib"] = round(size / 2**20, 2)
    del policy
    rates: dict[int, list[float]] = {1: [], CLIENTS: []}
    with server(folder, threads, 1) as serial, server(folder, threads, CLIENTS) as batched:
        for _ in progress.track(range(rounds), description=f"{CLIENTS} clients, serial and batched in turn"):
            rates[1].append(throughput(serial, robot, seen, seconds))
            rates[CLIENTS].append(throughput(batched, robot, seen, seconds))
    per_second = {batch: statistics.median(values) for batch, values in rates.items()}
    result["batched_speedup"] = round(per_second[CLIENTS] / per_second[1], 2)
    result["chunks_per_second"] = {"serial": round(per_second[1], 1), "batched": round(per_second[CLIENTS], 1)}
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """What an inference of the bundled checkpoint costs, what the websocket adds, what batching gives."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    parser = argparse.ArgumentParser(prog="bytemini bench policy", description=main.__doc__)
    parser.add_argument("--checkpoint", type=Path, help=f"a checkpoint's folder (default: the bundled {BUNDLED})")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of one inference (default: %(default)s)")
    parser.add_argument("--count", type=int, default=200, help="inferences per measurement (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="per throughput (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="throughputs, whose median counts (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    options = parser.parse_args(argv)
    if options.threads < 1 or options.count < 10 or options.seconds <= 0 or options.rounds < 1:
        parser.error("--threads, --rounds: at least 1; --count: at least 10; --seconds: above 0")
    console = Console()
    folder = options.checkpoint or bundled()
    try:
        with Progress(console=console, transient=True) as progress:
            result = measure(folder, options.threads, options.count, options.seconds, options.rounds, progress)
    except ValueError as error:
        raise UserError(str(error)) from error
    table = Table(title="policy: inference, wire, batches", show_header=False)
    for key, value in result.items():
        table.add_row(key, "not measured" if value is None else json.dumps(value).strip('"{}'))
    console.print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0
