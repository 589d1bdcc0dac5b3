"""`./bytemini train`: train a GR-3 model; stopped at any time it goes on from its last save along the same curve."""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bytemini_core.errors import UserError

from gr3.export import READOUT
from gr3.recipes import RECIPES, TrainConfig, add_options, configure

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gr3.dataset import Normalisation, Source
    from gr3.model import GR3
    from gr3.text import Text


def main(argv: Sequence[str] | None = None) -> int:
    """Train a GR-3 model on demonstrations (python -m gr3.generate makes them)."""
    parser = argparse.ArgumentParser(prog="bytemini train", description=main.__doc__)
    parser.add_argument("--recipe", default="gr3-tiny", help=", ".join(RECIPES))
    add_options(parser)
    options = parser.parse_args(argv)
    try:
        config = configure(options.recipe, options)
    except ValueError as error:
        raise UserError(str(error)) from None
    try:
        import torch.multiprocessing as mp
    except ImportError:
        raise UserError("training needs PyTorch: .venv/bin/pip install -r requirements/train.txt") from None
    from gr3.dataset import DatasetError

    try:
        config = imported(config)
        prepare(config)
    except (DatasetError, ValueError) as error:
        raise UserError(str(error)) from None
    if config.processes == 1:
        work(0, config, 0)
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mp.spawn(work, args=(config, port), nprocs=config.processes)  # type: ignore[attr-defined, no-untyped-call]
    return 0


def imported(config: TrainConfig) -> TrainConfig:
    """The recipe with shards where it names a recorded dataset, made of it below `out` at first use.

    Recorded episodes come without still scenes: there is nothing to train vision and language with beside them.

    Raises:
        ValueError: the dataset is not one that the model can learn from.
    """
    from gr3.imports import is_lerobot, shards_of

    root, out = Path(config.data), Path(config.out)
    if not is_lerobot(root):
        return config
    out.mkdir(parents=True, exist_ok=True)
    print(f"{root} is a LeRobotDataset: its episodes become shards in {out / 'shards'}; no co-training")
    return replace(config, data=str(shards_of(root, out / "shards", config.size)), cotraining=False)


# -- the run's folder -------------------------------------------------------------------------------------------------


def prepare(config: TrainConfig) -> None:
    """Make the run's folder: configuration, tokenizer, normalisation; or check that an old one is of the same run.

    Raises:
        ValueError: the folder holds a run of another kind.
    """
    from gr3.config import ModelConfig, tiny
    from gr3.dataset import corpus, normalisation_of
    from gr3.layout import ActionLayout
    from gr3.text import Text

    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    demos, stills = _shards(config)
    session = {
        "command": " ".join(sys.argv),
        "config": asdict(config),
        "data": {
            "demos": {"shards": demos.shards, "frames": len(demos), "sha256": demos.digest},
            "stills": {"shards": stills.shards, "frames": len(stills), "sha256": stills.digest} if stills else None,
        },
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpus": os.cpu_count(),
    }
    written = out / "training.json"
    if written.exists():
        record = json.loads(written.read_text(encoding="utf-8"))
        before = record["sessions"][-1]["config"]
        fixed = ("size", "norm", "task_status", "cotraining", "seed")
        changed = [name for name in fixed if before[name] != getattr(config, name)]
        if changed:
            was = ", ".join(f"{name}={before[name]}" for name in changed)
            raise ValueError(f"{out} holds a run with {was}: resume it so, or give another --out")
        record["sessions"].append(session)
    else:
        from bytemini_description.robot import load_robot

        layout = ActionLayout.of(load_robot(json.loads((Path(config.data) / "recipe.json").read_text())["robot"]))
        begun = _before(config)
        if begun is not None:
            text = Text.load(Path(config.init) / "tokenizer.json")
            model = tiny(text.size) if config.size == "tiny" else ModelConfig()
        elif config.size == "tiny":
            text = Text.build(corpus(_episodes(demos, stills)))
            model = tiny(text.size)
        else:
            if not config.backbone:
                raise ValueError("--size full starts from pretrained weights: --backbone FOLDER (Qwen2.5-VL-3B)")
            text = Text.load(Path(config.backbone) / "tokenizer.json")
            model = ModelConfig()
        _check_views(demos, model)
        data = model.to_dict()
        data["action"] = {**data["action"], "norm": config.norm, "task_status": config.task_status}
        norm = begun["normalisation"] if begun is not None else normalisation_of(demos, layout).to_dict()
        record = {
            "format": "gr3-run/1",
            "robot": json.loads((Path(config.data) / "recipe.json").read_text())["robot"],
            "model": data,
            "columns": layout.columns,
            "state_names": layout.state_names,
            "normalisation": norm,
            "sessions": [*(begun["sessions"] if begun is not None else []), session],
            "speaks": begun is None or _speaks(Path(config.init), begun) or bool(config.steps and config.cotraining),
        }
        _check_init(config, record, begun)
        text.save(out / "tokenizer.json")
    _write(written, json.dumps(record, indent=1).encode())


def _before(config: TrainConfig) -> dict[str, Any] | None:
    """`training.json` of the run that this one begins with.

    Raises:
        ValueError: there is none.
    """
    return record_of(Path(config.init)) if config.init else None


def record_of(run: Path) -> dict[str, Any]:
    """`training.json` of a run that has saved something, or of a checkpoint that came of one.

    Raises:
        ValueError: it is neither.
    """
    if is_checkpoint(run):
        from gr3.deploy import read_checkpoint

        policy = read_checkpoint(run)
        made = json.loads((run / "training.json").read_text(encoding="utf-8"))
        if "sessions" not in made:
            raise ValueError(f"{run} was made of no training run: there is nothing to begin with")
        if policy["precision"] != "float32":
            raise ValueError(f"{run} is in {policy['precision']}: training begins with float32, export without --half")
        return {**made, "normalisation": policy["normalisation"]}
    for file in ("training.json", "tokenizer.json", "last.pt"):
        if not (run / file).is_file():
            raise ValueError(f"{run} has no {file}: it is no training run, or nothing has been saved yet")
    record: dict[str, Any] = json.loads((run / "training.json").read_text(encoding="utf-8"))
    return record


def _speaks(run: Path, record: dict[str, Any]) -> bool:
    """Whether the weights that generate words are there, and were not lost in an export (`gr3.export.READOUT`)."""
    if is_checkpoint(run):
        return (run / READOUT).is_file()
    speaks: bool = record.get("speaks", True)
    return speaks


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint (`./bytemini export`), not a run."""
    return (folder / "policy.json").is_file()


def _check_init(config: TrainConfig, record: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Raises ValueError where the weights to begin with are of another robot or another model."""
    if before is None:
        return
    for key in ("robot", "columns", "state_names"):
        if list(before[key]) != list(record[key]):
            raise ValueError(f"--init {config.init} was trained for another robot: its {key} differ")
    was, now = (json.loads(json.dumps(run["model"])) | {"text_length": 0} for run in (before, record))
    if was["vision"] != now["vision"] and not config.looking:
        raise ValueError(f"--init {config.init} has another vision tower: --looking STEPS teaches a new one")
    if was | {"vision": 0} != now | {"vision": 0}:
        raise ValueError(f"--init {config.init} is another model (size, --norm or --task-status): it does not fit")


def _shards(config: TrainConfig) -> Any:
    from gr3.dataset import Shards

    root = Path(config.data)
    if not (root / "recipe.json").is_file():
        raise ValueError(f"{root} holds no data; make it with: python -m gr3.generate {root}")
    # Corrections come first: validation keeps the last demonstrations, the same whether or not there are any.
    limit = config.demos + config.validation if config.demos else None
    demos = Shards(root / "demos", limit, before=root / "corrections")
    stills = Shards(root / "stills", config.stills or None) if config.cotraining else None
    return demos, stills


def _check_views(demos: Any, model: Any) -> None:
    """Raises ValueError where the pictures are not those that the model sees."""
    for camera, view in model.views.items():
        found = demos.views.get(camera)
        if found is None or (tuple(found["crop"]), tuple(found["size"])) != (view.crop, view.size):
            raise ValueError(
                f"the data shows {camera} as {found}, this model sees {view}; make data with "
                "python -m gr3.generate --views tiny or full, as --size says"
            )


def _episodes(demos: Any, stills: Any) -> list[Any]:
    return [*demos.episodes, *(stills.episodes if stills else [])]


def _write(path: Path, data: bytes) -> None:
    """All or nothing: whoever is killed leaves the old file or the new one."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


# -- learning ---------------------------------------------------------------------------------------------------------


def rate_at(step: int, config: TrainConfig) -> float:
    """Learning rate: warm-up, constant, linear to zero."""
    rise = min(1.0, (step + 1) / max(config.warmup, 1))
    fall = min(1.0, (config.steps - step) / max(config.decay * config.steps, 1.0))
    rate: float = config.learning_rate * min(rise, max(fall, 0.0))
    return rate


def stages(config: TrainConfig) -> list[tuple[TrainConfig, int, bool]]:
    """What is done in which order, at which step each begins, and whether it is the DiT's alone: all; then the DiT."""
    return [(config, 0, False), (config.acting_alone(), config.steps, True)]


def build(record: dict[str, Any], text: Text) -> GR3:
    """The model of a run, not yet trained."""
    from gr3.config import ModelConfig
    from gr3.model import GR3

    return GR3(ModelConfig.from_dict(record["model"]), text.marks)


def _begin_with(run: Path, model: GR3, source: Source, config: TrainConfig, rank: int, bf16: bool) -> None:
    """Give a model the averaged weights of a run; where its vision tower is another, it is taught first."""
    from gr3.config import ModelConfig
    from gr3.looking import learn, tower_of
    from gr3.text import Text

    device = next(model.parameters()).device
    record = record_of(run)
    weights = averages(run, record, device)
    if ModelConfig.from_dict(record["model"]).vision == model.config.vision:
        model.load_state_dict(weights)
        return
    before = build(record, Text.load(run / "tokenizer.json")).to(device)
    before.load_state_dict(weights)
    own = {f"backbone.{name}" for name in (*tower_of(model), *tower_of(before))}
    model.load_state_dict({name: w for name, w in weights.items() if name not in own}, strict=False)
    learn(model, source, config, rank, bf16, before.backbone.requires_grad_(False).eval())


def averages(run: Path, record: dict[str, Any], device: torch.device) -> dict[str, Tensor]:
    """The averaged weights of a run, or those of a checkpoint."""
    import torch

    if is_checkpoint(run):
        from gr3.text import Text
        from gr3.weights import fill

        model = build(record, Text.load(run / "tokenizer.json"))
        fill(model, run)
        return {name: w.to(device) for name, w in model.state_dict().items()}
    weights: dict[str, Tensor] = torch.load(run / "last.pt", map_location=device, weights_only=True)["average"]
    return weights


class Optimizers:
    """Several optimizers as one."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self._parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of all."""
        return [group for part in self._parts for group in part.param_groups]

    def step(self) -> None:
        """Step all."""
        for part in self._parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all."""
        for part in self._parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Of all."""
        return {str(i): part.state_dict() for i, part in enumerate(self._parts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From `state_dict`."""
        for i, part in enumerate(self._parts):
            part.load_state_dict(state[str(i)])


def optimizer_of(model: torch.nn.Module, config: TrainConfig) -> Optimizers:
    """AdamW, no decay on vectors (norms, biases); if so configured, Muon for the matrices inside transformer layers."""
    import torch

    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    inner = {name for name, p in named if config.muon and p.dim() == 2 and (".layers." in name or "blocks." in name)}
    inner = {name for name in inner if "stem" not in name}
    matrices = [p for name, p in named if name in inner]
    decayed = [p for name, p in named if p.dim() > 1 and name not in inner]
    others = [p for _, p in named if p.dim() <= 1]
    parts: list[torch.optim.Optimizer] = []
    if matrices:
        parts.append(
            torch.optim.Muon(
                matrices, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
        for group in parts[0].param_groups:
            group["times"] = config.muon_rate
    adamw = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )
    return Optimizers([*parts, adamw])


def work(rank: int, config: TrainConfig, port: int) -> None:
    """One process of a run."""
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    from gr3.dataset import Normalisation, Source
    from gr3.layout import ActionLayout
    from gr3.losses import LossStep
    from gr3.text import Text

    if config.device == "cpu":
        torch.set_num_threads(1)  # a process per core: faster than threads, and does not collapse when cores are shared
    device = torch.device(config.device, rank) if config.device == "cuda" else torch.device(config.device)
    if config.processes > 1:
        backend = "nccl" if config.device == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=config.processes)
    out = Path(config.out)
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    text = Text.load(out / "tokenizer.json")
    norm = Normalisation.from_dict(record["normalisation"])
    demos, stills = _shards(config)
    layout = ActionLayout.named(record["columns"], record["state_names"])
    torch.manual_seed(config.seed)
    model = build(record, text)
    source = Source(demos, stills, text, layout, norm, config.mixture(), model.config.text_length, model.backbone.grids)
    source.hold_out(config.validation)
    if config.backbone:
        from gr3.backbone import load_qwen

        load_qwen(model.backbone, Path(config.backbone))
    model.to(device)
    bf16 = config.bf16 and (config.device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    saved: dict[str, Any] | None = None
    if (out / "last.pt").exists():
        saved = torch.load(out / "last.pt", map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
    elif config.init:
        _begin_with(Path(config.init), model, source, config, rank, bf16)
    elif config.looking and config.cotraining and model.backbone.stem is not None:
        from gr3.looking import learn, match

        learn(model, source, config, rank, bf16)
        match(model, source, config.seed)
    average = {name: p.detach().clone() for name, p in model.state_dict().items()}
    if saved is not None:
        average = saved["average"]
    blur = torch.from_numpy(text.blur(config.blur)).to(device)
    log = _Log(out / "log.csv", int(saved["step"]) if saved else 0) if rank == 0 else None
    began, seen = time.monotonic(), time.monotonic()

    worked = False

    def late() -> bool:  # never before the first step: a run that is called again and again gets on
        return worked and bool(config.minutes) and time.monotonic() - began > 60 * config.minutes

    for stage, first, alone in stages(config):
        start = max(int(saved["step"]) if saved else 0, first)
        if late() or start >= first + stage.steps:
            continue
        if alone:
            # The averaged model reads better than the last one; from here on it is only read with.
            if start == first:
                model.load_state_dict(average)
            model.backbone.requires_grad_(False)
            source = Source(demos, None, text, layout, norm, stage.mixture(), model.config.text_length)
            source.hold_out(config.validation)
        optimizer = optimizer_of(model, stage)
        if saved is not None and start > first:
            optimizer.load_state_dict(saved["optimizer"])
        trained: Any = LossStep(model, blur)
        if config.processes > 1:
            unused = not alone and not (stage.cotraining and stage.conversations)
            trained = DistributedDataParallel(trained, find_unused_parameters=unused)
        for step in range(start, first + stage.steps):
            if late():
                break
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step - first, stage) * group.get("times", 1.0)
            batch = source.batch(config.seed, step, rank)
            generator = torch.Generator().manual_seed((config.seed * 1_000_003 + step) * 64 + rank)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                found = trained(batch, stage, generator)
            optimizer.zero_grad(set_to_none=True)
            found["loss"].backward()
            norm_of = torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], config.clip)
            if not torch.isfinite(norm_of):
                raise FloatingPointError(f"the gradient is not finite at step {step}; losses {_numbers(found)}")
            optimizer.step()
            keep = min(config.ema, (1 + step - first) / (10 + step - first))
            with torch.no_grad():
                for name, p in model.state_dict().items():
                    if p.is_floating_point():
                        average[name].lerp_(p, 1 - keep)
            done, worked = step + 1, True
            if log is not None:
                now = time.monotonic()
                per_step = stage.robot_batch + (stage.stills_batch if stage.cotraining else 0)
                log.row(
                    step=done,
                    **_numbers(found),
                    gradient=float(norm_of),
                    rate=rate_at(step - first, stage),
                    samples_per_s=per_step / (now - seen),
                    memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                )
                seen = now
                if done % config.validate_every == 0 or done == first + stage.steps:
                    live = {name: p.clone() for name, p in model.state_dict().items()}
                    model.load_state_dict(average)
                    log.validation(done, validate(model, source, norm))
                    model.load_state_dict(live)
                    seen = time.monotonic()
            if rank == 0 and (done % config.save_every == 0 or done == first + stage.steps or late()):
                _save(out / "last.pt", model, optimizer, average, done)
    if config.processes > 1:
        dist.destroy_process_group()


def _numbers(found: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in found.items()}


def _save(path: Path, model: GR3, optimizer: Optimizers, average: dict[str, Tensor], step: int) -> None:
    import io

    import torch

    buffer = io.BytesIO()
    torch.save(
        {"model": model.state_dict(), "average": average, "optimizer": optimizer.state_dict(), "step": step}, buffer
    )
    _write(path, buffer.getvalue())


def validate(model: GR3, source: Source, norm: Normalisation) -> dict[str, float]:
    """What the averaged model does on demonstrations that it was not trained on.

    Returns:
        `arm_mm`, `arm_rad`: root mean square error of both hands' positions (mm) and of the arm joints (rad) half a
        second on; `status`: share of right task statuses, `refused` of invalid instructions; `point_px`: median error
        of where it points in the head's picture, in hundredths of the picture; `present`: share of right answers to
        whether a thing is there.
    """
    import numpy as np
    import torch

    from gr3.evaluate import answers, flows, slots

    model.eval()
    with torch.no_grad():
        found = {
            **flows(model, source, norm, np.random.default_rng(1)),
            **answers(model, source),
            **slots(model, source),
        }
    model.train()
    return found


class _Log:
    """CSV files beside the run, and a bar on the terminal."""

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        self._columns: list[str] | None = None
        self._start = time.monotonic()
        if path.exists():  # rows after the last save belong to steps that are done again
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))
            kept = [row for row in rows[1:] if row and int(row[0]) <= start]
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([rows[0], *kept] if rows else [])
            self._columns = rows[0] if rows else None

    def row(self, **values: float) -> None:
        """A step's numbers."""
        if self._columns is None:
            self._columns = list(values)
            with self._path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(self._columns)
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([f"{values.get(name, float('nan')):.6g}" for name in self._columns])
        step = int(values["step"])
        if step % 10 == 0:
            shown = " ".join(f"{k} {v:.4g}" for k, v in values.items() if k not in ("step", "memory_mib"))
            print(f"\r{time.monotonic() - self._start:6.0f} s  step {step}  {shown}   ", end="", flush=True)

    def validation(self, step: int, values: dict[str, float]) -> None:
        """What the averaged model does on held-out demonstrations."""
        line = json.dumps({"step": step, **{k: round(v, 5) for k, v in values.items()}})
        with self._path.with_name("validation.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print("\n" + line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
