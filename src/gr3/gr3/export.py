"""`./bytemini export`: a training run becomes a checkpoint folder that runs on onnxruntime alone."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bytemini_core.errors import UserError

from gr3.deploy import GRAPHS
from gr3.layout import HORIZON

if TYPE_CHECKING:
    from gr3.model import GR3

TOLERANCE = {"float32": 1e-4, "float16": 2e-2}
"""Largest difference to torch (normalised units) that an export may have."""
READOUT = "readout.npz"
"""File of the parameters that no network has, for training that begins with a checkpoint (`gr3.weights`)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Export a trained GR-3 model to ONNX, check it against torch, and write a checkpoint folder."""
    parser = argparse.ArgumentParser(prog="bytemini export", description=main.__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="folder of a training run")
    parser.add_argument("folder", type=Path, help="where the checkpoint goes")
    parser.add_argument("--name", default="gr3-tiny", help="what the policy is called")
    parser.add_argument("--live", action="store_true", help="the last weights instead of their moving average")
    parser.add_argument("--half", action="store_true", help="float16 weights and arithmetic")
    parser.add_argument(
        "--noise",
        type=float,
        default=1.0,
        help="scale of the initial noise in use: 1 draws one of the ways of doing a thing, 0 takes the middle one",
    )
    parser.add_argument(
        "--execute", type=int, default=1, help="rows of a chunk to execute before the next inference (default: 1)"
    )
    parser.add_argument("--random", action="store_true", help="random weights of the tiny size, for tests (no run)")
    options = parser.parse_args(argv)
    if options.random == (options.run is not None):
        raise UserError(
            "give the folder of a training run and the checkpoint's folder, or --random and only the latter"
        )
    if not 0.0 <= options.noise <= 1.0:
        raise UserError(f"--noise is {options.noise}, expected 0 to 1")
    if not 1 <= options.execute <= HORIZON:
        raise UserError(f"--execute is {options.execute}, expected 1 to {HORIZON}")
    try:
        import torch  # noqa: F401
    except ImportError:
        raise UserError("export needs PyTorch: .venv/bin/pip install -r requirements/train.txt") from None
    try:
        if options.random:
            difference = export_random(options.folder, options.name)
        else:
            how = Use(options.half, options.noise, options.execute)
            difference = export_run(options.run, options.folder, options.name, options.live, how)
    except ValueError as error:
        raise UserError(str(error)) from None
    size = sum(file.stat().st_size for file in options.folder.iterdir()) / 2**20
    print(f"{options.folder}: {size:.1f} MiB, differs from torch by at most {difference:.2g}")
    return 0


@dataclass(frozen=True)
class Use:
    """How a checkpoint is to be used.

    `half`: float16; `noise`: scale of a task's initial noise; `execute`: rows of a chunk before the next inference.
    """

    half: bool = False
    noise: float = 1.0
    execute: int = 1


AS_TRAINED = Use()


def export_run(run: Path, folder: Path, name: str, live: bool = False, use: Use = AS_TRAINED) -> float:
    """Export the last save of a run; the largest difference to torch.

    Raises:
        ValueError: the folder is no run, or the export differs from torch.
    """
    from gr3.running import read_run

    trained = read_run(run, live)
    about = {**trained.record, "steps_done": trained.steps}
    return write(trained.model, trained.text, trained.record, folder, name, about, use)


def export_random(folder: Path, name: str = "gr3-random") -> float:
    """A checkpoint with random weights of the tiny size: same shapes and speed, no sense."""
    import numpy as np
    import torch
    from bytemini_description.robot import load_robot

    from gr3.config import tiny
    from gr3.dataset import Normalisation, corpus
    from gr3.layout import ActionLayout
    from gr3.model import GR3
    from gr3.text import Text

    torch.manual_seed(0)
    layout = ActionLayout.of(load_robot("v1"))
    text = Text.build(corpus([]))
    model = GR3(tiny(text.size), text.marks)
    for parameter in model.dit.parameters():  # the zero gates would hide everything
        torch.nn.init.normal_(parameter, std=0.02)
    k, n, s = model.config.action.horizon, len(layout.columns), len(layout.state_names)
    norm = Normalisation(
        np.zeros(s, np.float32), np.ones(s, np.float32), np.zeros((k, n), np.float32), np.full((k, n), 0.01, np.float32)
    )
    record = {
        "robot": "v1",
        "columns": layout.columns,
        "state_names": layout.state_names,
        "normalisation": norm.to_dict(),
    }
    return write(model, text, record, folder, name, {"random": True})


def write(
    model: GR3,
    text: Any,
    record: Mapping[str, Any],
    folder: Path,
    name: str,
    about: Mapping[str, Any],
    use: Use = AS_TRAINED,
) -> float:
    """Write a checkpoint folder, all or nothing; the largest difference to torch.

    Raises:
        ValueError: the exported graphs differ from torch by more than `TOLERANCE`.
    """
    import numpy as np

    from gr3.running import description

    model.eval()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        new = Path(place) / "checkpoint"
        new.mkdir()
        graphs(model, new, use.half)
        if record.get("speaks", True):
            np.savez(new / READOUT, **{name: p.detach().numpy() for name, p in readout(model).items()})
        difference = compare(model, new)
        precision = "float16" if use.half else "float32"
        if not difference <= TOLERANCE[precision]:
            raise ValueError(
                f"the exported graphs differ from torch by {difference:.3g}, expected at most "
                f"{TOLERANCE[precision]:g}: nothing was written"
            )
        text.save(new / "tokenizer.json")
        shown = description(model, record, name, precision, use.noise, use.execute)
        policy = {**shown, "difference_to_torch": difference}
        policy["digests"] = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(new.iterdir())}
        (new / "policy.json").write_text(json.dumps(policy, indent=1), encoding="utf-8")
        about = {key: value for key, value in about.items() if key != "normalisation"}
        (new / "training.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    return difference


def example(model: GR3, batch: int, seed: int = 0) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Random inputs of both graphs: (text, text mask, pictures...) and (state, noise, committed, its mask)."""
    import torch

    config = model.config
    g = torch.Generator().manual_seed(seed)
    images = [
        torch.randint(0, 256, (batch, *view.size, 3), generator=g, dtype=torch.uint8) for view in config.views.values()
    ]
    text = torch.randint(0, config.text.vocabulary, (batch, config.text_length), generator=g)
    lengths = torch.randint(1, config.text_length + 1, (batch, 1), generator=g)
    mask = torch.arange(config.text_length) < lengths
    rows = (batch, config.action.horizon, config.columns)
    given = torch.arange(config.action.horizon) < torch.randint(0, 3, (batch, 1), generator=g)
    noise, committed = torch.randn(rows, generator=g), torch.randn(rows, generator=g)
    return (text, mask, *images), (torch.randn(batch, config.state, generator=g), noise, committed, given)


def readout(model: GR3) -> dict[str, Any]:
    """The parameters that no action depends on, by name: what generates words after the last keys and values."""
    import torch

    from gr3.running import DenoiseGraph, PrefixGraph

    first, second = example(model, 1)
    with torch.enable_grad():
        actions = DenoiseGraph(model)(*PrefixGraph(model)(*first), *second)
        named = dict(model.named_parameters())
        found = torch.autograd.grad(actions.sum(), [*named.values()], allow_unused=True)
    return {name: p for (name, p), grad in zip(named.items(), found, strict=True) if grad is None}


def graphs(model: GR3, folder: Path, half: bool = False) -> None:
    """Write prefix.onnx and denoise.onnx; the batch is dynamic in both."""
    import torch

    from gr3.running import DENOISE_INPUTS, PREFIX_INPUTS, PREFIX_OUTPUTS, DenoiseGraph, PrefixGraph

    prefix, denoise = PrefixGraph(model).eval(), DenoiseGraph(model).eval()
    first, second = example(model, 3)
    images = [f"image_{camera}" for camera in model.config.cameras]
    with torch.no_grad():
        memory = prefix(*first)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    for graph, inputs, names, outputs, file in (
        (
            prefix,
            first,
            [*PREFIX_INPUTS, *images],
            [*PREFIX_OUTPUTS],
            GRAPHS[0],
        ),
        (
            denoise,
            (*memory, *second),
            [*DENOISE_INPUTS],
            ["actions"],
            GRAPHS[1],
        ),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                inputs,
                str(folder / file),
                input_names=names,
                output_names=outputs,
                dynamic_axes={name: {0: "batch"} for name in (*names, *outputs)},
                opset_version=17,
                dynamo=False,  # the newer exporter takes a minute for the unrolled steps
            )
        if half:
            _to_half(folder / file)


def _to_half(path: Path) -> None:
    """Float16 inside; inputs and outputs stay float32, and so do the angles of flow times and positions.

    An angle of hundreds of radians has no meaning left in float16.
    """
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    graph = onnx.load(path)
    makers = {output: node for node in graph.graph.node for output in node.output}
    exact: set[str] = set()
    waiting = [(node, 0) for node in graph.graph.node if node.op_type in ("Cos", "Sin")]
    while waiting:
        node, depth = waiting.pop()
        exact.add(node.name)
        if depth < _ANGLE_DEPTH:
            waiting += [(makers[name], depth + 1) for name in node.input if name in makers]
    half = convert_float_to_float16(
        graph, keep_io_types=True, op_block_list=list(DEFAULT_OP_BLOCK_LIST), node_block_list=sorted(exact)
    )
    # The converter makes the same cast once for each reader.
    made: set[str] = set()
    nodes: list[Any] = []
    for node in half.graph.node:
        if not made.issuperset(node.output):
            made.update(node.output)
            node.name = f"{node.op_type}_{len(nodes)}"
            nodes.append(node)
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    onnx.save(half, path)


_ANGLE_DEPTH = 6
"""Operations between a time and the sine of its angle."""


def compare(model: GR3, folder: Path, seeds: Sequence[int] = (1, 2, 3)) -> float:
    """Largest difference of actions between torch and onnxruntime (CPU), normalised units, for random inputs."""
    import onnxruntime
    import torch

    from gr3.running import DenoiseGraph, PrefixGraph

    sessions = [onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"]) for file in GRAPHS]
    prefix, denoise = PrefixGraph(model).eval(), DenoiseGraph(model).eval()
    worst = 0.0
    for seed in seeds:
        first, second = example(model, 1 + seed % 3, seed)
        with torch.no_grad():
            wanted = denoise(*prefix(*first), *second)
        names = [item.name for item in sessions[0].get_inputs()]
        memory = sessions[0].run(None, {n: x.numpy() for n, x in zip(names, first, strict=True)})
        inputs = [*memory, *(x.numpy() for x in second)]
        names = [item.name for item in sessions[1].get_inputs()]
        (found,) = sessions[1].run(None, dict(zip(names, inputs, strict=True)))
        worst = max(worst, float(abs(torch.from_numpy(found) - wanted).max()))
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
