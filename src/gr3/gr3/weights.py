"""The weights of a checkpoint's graphs, as a model to go on training with.

A checkpoint holds ONNX graphs, in which a parameter may have lost its name and may lie transposed. Where each of its
numbers has gone is found out by exporting the same model with its numbers numbered.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from gr3.deploy import GRAPHS
from gr3.export import READOUT, TOLERANCE, compare, graphs
from gr3.model import GR3

_FIRST = 4096
"""The first parameter's number: smaller whole numbers are constants of the graphs."""
_EXACT = 2**24
"""Whole numbers up to this one are exact in float32."""


def fill(model: GR3, checkpoint: Path) -> None:
    """Give a model, of the checkpoint's configuration, the weights that a checkpoint holds.

    Args:
        model: its parameters that the checkpoint does not have (`READOUT` is missing) stay as they are.
        checkpoint: folder of a checkpoint in float32.

    Raises:
        ValueError: the checkpoint is of another model, of another precision or of another version of the export; the
            model's parameters mean nothing then.
    """
    parameters = dict(model.named_parameters())
    total = sum(p.numel() for p in parameters.values())
    if _FIRST + total > _EXACT:
        raise ValueError(f"a model of {total} parameters cannot be read back from its graphs: begin with its run")
    held = np.concatenate([p.detach().reshape(-1).numpy() for p in parameters.values()])
    _assign(parameters, torch.arange(_FIRST, _FIRST + total, dtype=torch.float32))
    with tempfile.TemporaryDirectory() as place:
        graphs(model, Path(place))
        for graph in GRAPHS:
            for numbers, values in _pairs(Path(place) / graph, checkpoint / graph):
                if numbers.size and (numbers >= _FIRST).all() and (numbers == np.rint(numbers)).all():
                    held[numbers.astype(np.int64).reshape(-1) - _FIRST] = values.reshape(-1)
    _assign(parameters, torch.from_numpy(held))
    if (checkpoint / READOUT).is_file():
        with np.load(checkpoint / READOUT) as rest, torch.no_grad():
            for name in rest:
                parameters[name].copy_(torch.from_numpy(rest[name]))
    difference = compare(model.eval(), checkpoint)
    model.train()
    if not difference <= TOLERANCE["float32"]:
        raise ValueError(f"{checkpoint} differs by {difference:.3g} from what was read of it: it is of another version")


def _pairs(numbered: Path, other: Path) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """What both graphs have at the same place: equal parameters share a name, so names do not say which is which.

    Raises:
        ValueError: the graphs differ in more than numbers.
    """
    first, second = _uses(numbered), _uses(other)
    if [kind for kind, _ in first] != [kind for kind, _ in second]:
        raise ValueError(f"{other} is of another model, or of another version of the export")
    for (kind, held), (_, found) in zip(first, second, strict=True):
        for one, its in zip(held, found, strict=True):
            if one is not None:
                if its is None or its.shape != one.shape:
                    raise ValueError(f"{other} is of another model: a {kind} in it has no numbers {one.shape}")
                yield one, its


def _uses(path: Path) -> list[tuple[str, list[NDArray[np.float32] | None]]]:
    """Per node its kind and the float numbers that it is given, None for what is computed."""
    graph = onnx.load(path).graph
    items = (item for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT)
    held = {item.name: numpy_helper.to_array(item) for item in items}
    nodes = []
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in held:  # a second name of equal numbers
            held[node.output[0]] = held[node.input[0]]
        else:
            nodes.append((node.op_type, [held.get(name) for name in node.input]))
    return nodes


def _assign(parameters: dict[str, torch.nn.Parameter], numbers: torch.Tensor) -> None:
    first = 0
    with torch.no_grad():
        for p in parameters.values():
            p.copy_(numbers[first : first + p.numel()].view_as(p))
            first += p.numel()
