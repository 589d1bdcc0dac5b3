"""A checkpoint folder as a policy: onnxruntime and numpy, no torch. And a training run, which needs it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from bytemini_core.types import ActionChunk, Observation, PolicyMetadata, TaskStatus
from bytemini_description.robot import RobotModel, load_robot
from numpy.typing import NDArray

from gr3.layout import ActionLayout, ChunkCodec
from gr3.text import Text
from gr3.views import View

FORMAT = "gr3-policy/2"
GRAPHS = ("prefix.onnx", "denoise.onnx")
"""Files of the two networks in a checkpoint."""
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

Rows = NDArray[np.float32]


class Graph(Protocol):
    """One of the two networks, as onnxruntime calls it."""

    def run(self, outputs: None, feed: Mapping[str, Any]) -> Sequence[Any]:
        """Its outputs, in the order in which it names them."""
        ...


@dataclass(frozen=True)
class Networks:
    """What computes: pictures and words to the KV cache, noise to actions; `provider`: on what."""

    provider: str
    prefix: Graph
    denoise: Graph


class CheckpointError(ValueError):
    """A checkpoint is incomplete, damaged or made for another robot; the message names the mismatch."""


def load_policy(
    folder: Path | str,
    robot: RobotModel | None = None,
    *,
    threads: int = 2,
    provider: str = "auto",
    seed: int = 0,
    name: str | None = None,
) -> Gr3Policy:
    """Load a checkpoint.

    Args:
        folder: holds policy.json, tokenizer.json, prefix.onnx and denoise.onnx; or a training run, which torch then
            computes.
        robot: the robot it shall drive; None for the one it was trained with.
        threads: CPU threads of one inference.
        provider: "cpu", "cuda", or "auto" for cuda where there is one.
        seed: of the initial noise.
        name: what the policy calls itself; None for what the checkpoint says.

    Raises:
        CheckpointError: something is missing, damaged, or does not fit the robot; says what.
    """
    folder = Path(folder)
    if provider not in ("auto", *PROVIDERS):
        raise CheckpointError(f"the provider is {provider!r}, expected auto, {' or '.join(PROVIDERS)}")
    if (folder / "last.pt").is_file() and not (folder / "policy.json").is_file():
        try:
            from gr3.running import as_policy
        except ModuleNotFoundError as error:
            raise CheckpointError(
                f"{folder} is a training run, which needs {error.name} to run: ./bytemini export makes a checkpoint of "
                "it that does not, or .venv/bin/pip install -r requirements/train.txt"
            ) from None
        policy, text, networks = as_policy(folder, threads, provider)
    else:
        policy, text = read_checkpoint(folder), _tokenizer(folder)
        networks = _sessions(folder, threads, provider)
    return Gr3Policy(folder, policy, text, networks, robot, threads, seed, name)


class Gr3Policy:
    """A `Policy` (bytemini_core.types) that looks and reads: pictures, words and joint positions in, chunks out.

    The initial noise is drawn once per task (`reset`) and kept, so that successive chunks of a task stay in one mode of
    what the model has learned; the checkpoint says its scale, see `export`. Otherwise nothing is remembered. Not
    thread-safe.

    Attributes:
        provider: what computes: an onnxruntime provider, or torch and its device.
        timings: milliseconds of the last call: "preprocess", "prefix", "denoise".
    """

    def __init__(
        self,
        folder: Path,
        policy: Mapping[str, Any],
        text: Text,
        networks: Networks,
        robot: RobotModel | None,
        threads: int,
        seed: int,
        name: str | None,
    ) -> None:
        self._robot = robot or load_robot(policy["robot"])
        self._codec = ChunkCodec(self._robot)
        _check_robot(policy, self._codec.layout, folder)
        self._text, self._networks = text, networks
        self.provider = networks.provider
        self._views = {camera: View(tuple(v["crop"]), tuple(v["size"])) for camera, v in policy["views"].items()}
        self._size = tuple(policy["image_size"])
        self._length = int(policy["text_length"])
        self._has_status = bool(policy["task_status"])
        self._norm = {key: np.asarray(value, dtype=np.float32) for key, value in policy["normalisation"].items()}
        self._horizon = int(policy["horizon"])
        layout = self._codec.layout
        self._shape = (self._horizon, len(layout.columns))
        for key, shape in (
            ("state_mean", (len(layout.state_names),)),
            ("state_std", (len(layout.state_names),)),
            ("action_mean", self._shape),
            ("action_std", self._shape),
        ):
            if self._norm.get(key, np.zeros(0)).shape != shape:
                raise CheckpointError(f"{folder}: the normalisation's {key} is missing or not of shape {shape}")
        noise = policy.get("noise", 1.0)
        if not isinstance(noise, int | float) or not 0.0 <= noise <= 1.0:
            raise CheckpointError(f"{folder}: the scale of the noise is {noise!r}, expected 0 to 1")
        execute = policy.get("execute", 1)
        if not isinstance(execute, int) or not 1 <= execute <= self._horizon:
            raise CheckpointError(f"{folder}: {execute!r} rows are to be executed, expected 1 to {self._horizon}")
        self._rng, self._spread = np.random.default_rng(seed), np.float32(noise)
        self.timings: dict[str, float] = {}
        self._metadata = PolicyMetadata(
            name=name or str(policy["name"]),
            columns=layout.policy,
            horizon=self._horizon,
            dt=float(policy["dt"]),
            cameras=tuple(policy["cameras"]),
            image_size=(self._size[0], self._size[1]),
            extra={
                "task_status": self._has_status,
                "provider": networks.provider,
                "threads": threads,
                "precision": policy["precision"],
                "parameters": policy["parameters"],
                "noise_shape": list(self._shape),
                "prefix": True,
                "execute": execute,
            },
        )
        self.reset()

    @property
    def metadata(self) -> PolicyMetadata:
        """What it needs and what it emits."""
        return self._metadata

    def reset(self) -> None:
        """Draw the next task's initial noise."""
        self._noise = self._spread * self._rng.standard_normal(self._shape, dtype=np.float32)

    def infer(self, observation: Observation, prefix: Rows | None = None, noise: Rows | None = None) -> ActionChunk:
        """Predict a chunk; see `infer_batch`."""
        return self.infer_batch([observation], [prefix], [noise])[0]

    def infer_batch(
        self,
        observations: Sequence[Observation],
        prefixes: Sequence[Rows | None] | None = None,
        noises: Sequence[Rows | None] | None = None,
    ) -> list[ActionChunk]:
        """Predict a chunk for each of several observations, in one run of the model.

        Args:
            observations: with the cameras and the picture size that `metadata` names.
            prefixes: per observation (m, columns) rows already committed to execution, m < horizon, base columns
                relative to the base at the observation; None for none.
            noises: per observation the initial noise, (horizon, columns) or as wide as the model's own rows; None for
                this task's.

        Raises:
            ValueError: a camera is missing, a picture has another size, the state lacks joints, the instruction is
                empty or too long, a prefix or noise has another shape.
        """
        begun = time.perf_counter()
        n = len(observations)
        prefixes, noises = prefixes or [None] * n, noises or [None] * n
        if len(prefixes) != n or len(noises) != n:
            raise ValueError(f"{n} observations, {len(prefixes)} prefixes and {len(noises)} noises: expected as many")
        norm = self._norm
        tokens = [self._text.instruction(o.instruction, self._length) for o in observations]
        feed: dict[str, Any] = {
            "text": np.stack([ids for ids, _ in tokens]),
            "text_mask": np.stack([mask for _, mask in tokens]),
        }
        for camera, view in self._views.items():
            feed[f"image_{camera}"] = np.stack([view.of(self._picture(o, camera)) for o in observations])
        state = np.stack([self._codec.state(o.state) for o in observations])
        committed = np.zeros((n, *self._shape), dtype=np.float32)
        given = np.zeros((n, self._horizon), dtype=bool)
        for i, rows in enumerate(prefixes):
            if rows is not None and len(rows):
                encoded = self._codec.encode(observations[i].state, self._checked_prefix(rows), TaskStatus.ONGOING)
                committed[i, : len(rows)] = (encoded - norm["action_mean"][: len(rows)]) / norm["action_std"][
                    : len(rows)
                ]
                given[i, : len(rows)] = True
        noise = np.stack([self._filled(x) for x in noises])
        prepared = time.perf_counter()
        keys, values, seen = self._networks.prefix.run(None, feed)
        read = time.perf_counter()
        (actions,) = self._networks.denoise.run(
            None,
            {
                "keys": keys,
                "values": values,
                "seen": seen,
                "state": (state - norm["state_mean"]) / norm["state_std"],
                "noise": noise,
                "committed": committed,
                "committed_mask": given,
            },
        )
        done = time.perf_counter()
        self.timings = {
            "preprocess": 1000 * (prepared - begun),
            "prefix": 1000 * (read - prepared),
            "denoise": 1000 * (done - read),
        }
        rows_of = actions * norm["action_std"] + norm["action_mean"]
        return [
            self._chunk(o, rows, bool(m.any()), done - begun)
            for o, rows, m in zip(observations, rows_of, given, strict=True)
        ]

    def _picture(self, observation: Observation, camera: str) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] | None = observation.images.get(camera)
        if picture is None:
            there = ", ".join(observation.images) or "none"
            raise ValueError(
                f"the observation has no picture of {camera} (it has {there}); this policy needs "
                f"{', '.join(self._metadata.cameras)}"
            )
        if picture.shape != (*self._size, 3) or picture.dtype != np.uint8:
            raise ValueError(
                f"the picture of {camera} is {picture.dtype} {picture.shape}, expected uint8 {(*self._size, 3)}"
            )
        return picture

    def _checked_prefix(self, rows: Rows) -> Rows:
        rows = np.asarray(rows, dtype=np.float32)
        width = len(self._metadata.columns)
        if rows.ndim != 2 or rows.shape[1] != width or not 0 < len(rows) < self._horizon:
            raise ValueError(f"the prefix has shape {rows.shape}, expected (m, {width}) with m < {self._horizon}")
        if not np.isfinite(rows).all():
            raise ValueError("the prefix holds numbers that are not finite")
        return rows

    def _filled(self, noise: Rows | None) -> Rows:
        if noise is None:
            return self._noise
        noise = np.asarray(noise, dtype=np.float32)
        width = len(self._metadata.columns)
        if noise.shape not in ((self._horizon, width), self._shape) or not np.isfinite(noise).all():
            raise ValueError(
                f"the noise has shape {noise.shape} or is not finite, expected {self._shape} or "
                f"{(self._horizon, width)}"
            )
        whole = self._noise.copy()
        whole[:, : noise.shape[1]] = noise
        return whole

    def _chunk(self, observation: Observation, rows: Rows, committed: bool, seconds: float) -> ActionChunk:
        values, status, confidence = self._codec.decode(observation.state, rows)
        if status[0] == TaskStatus.ONGOING and not committed:  # rows that are being executed keep their times
            values = self._codec.without_wait(observation.state, values, self._metadata.extra["execute"])
        if not self._has_status:
            status, confidence = np.zeros_like(status), np.ones_like(confidence)
        return ActionChunk(
            stamp=observation.stamp,
            sequence=0,
            names=self._metadata.columns,
            dt=self._metadata.dt,
            values=values,
            task_status=status,
            confidence=confidence,
            instruction=observation.instruction,
            policy=self._metadata.name,
            inference_time=seconds,
        )


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """`policy.json` of a checkpoint whose files are all there and those that it was made with.

    Raises:
        CheckpointError: they are not; says which.
    """
    path = folder / "policy.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no policy.json: it is no checkpoint; ./bytemini export makes one")
    try:
        policy: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON: {error}") from None
    if not isinstance(policy, dict) or policy.get("format") != FORMAT:
        found = policy.get("format") if isinstance(policy, dict) else type(policy).__name__
        raise CheckpointError(f"{path} is of format {found!r}, expected {FORMAT!r}")
    needed = {
        "name",
        "robot",
        "columns",
        "policy_columns",
        "state_names",
        "horizon",
        "dt",
        "cameras",
        "image_size",
        "views",
        "text_length",
        "task_status",
        "normalisation",
        "precision",
        "parameters",
        "digests",
    }
    missing = sorted(needed - policy.keys())
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}")
    for name in ("tokenizer.json", *GRAPHS):
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{folder} has no {name}: the checkpoint is incomplete")
        if hashlib.sha256(file.read_bytes()).hexdigest() != policy["digests"].get(name):
            raise CheckpointError(f"{file} is not the file that this checkpoint was made with (digest differs)")
    return policy


def _check_robot(policy: Mapping[str, Any], layout: ActionLayout, folder: Path) -> None:
    """Names and their order, never only their number."""
    for key, wanted in (
        ("policy_columns", layout.policy),
        ("columns", layout.columns),
        ("state_names", layout.state_names),
    ):
        found = tuple(policy[key])
        if found != wanted:
            first = next((i for i, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), None)
            detail = (
                f"{len(found)} instead of {len(wanted)}"
                if first is None
                else f"entry {first} is {found[first]!r}, the robot's is {wanted[first]!r}"
            )
            raise CheckpointError(f"{folder} was trained for another robot: its {key} differ ({detail})")
    if set(policy["views"]) != set(policy["cameras"]):
        raise CheckpointError(
            f"{folder}: views of {', '.join(policy['views'])}, cameras {', '.join(policy['cameras'])}"
        )


def _tokenizer(folder: Path) -> Text:
    try:
        return Text.load(folder / "tokenizer.json")
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def _sessions(folder: Path, threads: int, provider: str) -> Networks:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    chosen = PROVIDERS[
        "cuda" if provider == "auto" and PROVIDERS["cuda"] in available else provider if provider != "auto" else "cpu"
    ]
    if chosen not in available:
        raise CheckpointError(
            f"this onnxruntime has no {chosen} (it has {', '.join(available)}); install onnxruntime-gpu, or choose cpu"
        )
    graphs: list[Graph] = []
    for name in GRAPHS:
        together = _session(folder / name, threads, chosen)
        alone = _session(folder / name, 1, chosen) if threads > 1 and chosen == PROVIDERS["cpu"] else None
        graphs.append(together if alone is None else SideBySide(together, alone, threads))
    return Networks(together.get_providers()[0], *graphs)


def _session(path: Path, threads: int, provider: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait would take the cores of physics and control.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # onnxruntime's own classes share no public base
        raise CheckpointError(f"{path} does not load: {error}") from None


class SideBySide:
    """A network on several threads of a processor: one observation on all of them, of several each part on its own.

    The threads of one small inference wait for one another most of the time; those of several do not.
    """

    def __init__(self, together: Graph, alone: Graph, threads: int) -> None:
        """`together` computes on all `threads` at once, `alone` on the one that calls it."""
        self._together, self._alone, self._threads = together, alone, threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="inference")

    def run(self, outputs: None, feed: Mapping[str, Any]) -> Sequence[Any]:
        """The network's outputs."""
        n = len(next(iter(feed.values())))
        if n == 1:
            return self._together.run(outputs, feed)
        edges = np.linspace(0, n, min(n, self._threads) + 1).astype(int)
        parts = [{key: value[a:b] for key, value in feed.items()} for a, b in pairwise(edges)]
        found = list(self._pool.map(lambda part: self._alone.run(outputs, part), parts))
        return [np.concatenate(same) for same in zip(*found, strict=True)]
