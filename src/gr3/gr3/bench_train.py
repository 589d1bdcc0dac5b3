"""`./bytemini bench train`: how fast GR-3 trains and how large it is; on a GPU also the full model's latency."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Measure training throughput and memory of gr3-tiny, and where there is a GPU the full model's latency."""
    parser = argparse.ArgumentParser(prog="bytemini bench train", description=main.__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--steps", type=int, default=5, help="measured steps, after one that is not")
    parser.add_argument("--samples", type=int, default=24, help="per step; two thirds of a robot's trajectory")
    options = parser.parse_args(argv)
    try:
        import torch
    except ImportError:
        raise UserError("this benchmark needs PyTorch: .venv/bin/pip install -r requirements/train.txt") from None
    from gr3.config import ModelConfig
    from gr3.model import GR3

    with torch.device("meta"):
        full = GR3(ModelConfig())
    numbers: dict[str, Any] = {
        "parameters": {
            "full": sum(p.numel() for p in full.parameters()),
            "full_dit": sum(p.numel() for p in full.dit.parameters()),
        },
        "training": training(options.steps, options.samples),
    }
    if torch.cuda.is_available():
        numbers["full_gpu_ms"] = latency("cuda", ModelConfig(), torch.bfloat16)
        numbers["full_gpu_ms"]["device"] = torch.cuda.get_device_name()
    else:
        from gr3.config import tiny

        numbers["full_gpu_ms"] = None
        numbers["not_measured"] = "latency of the full configuration: no CUDA device here"
        numbers["tiny_torch_cpu_ms"] = latency("cpu", tiny(512), torch.float32)
    text = json.dumps(numbers, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    return 0


def training(steps: int, samples: int) -> dict[str, float]:
    """Samples per second of one thread, forward, backward and optimiser, on made-up data; and memory."""
    import torch

    from gr3.config import tiny
    from gr3.dataset import IGNORE, Batch, Mixture
    from gr3.losses import losses
    from gr3.model import GR3
    from gr3.recipes import TrainConfig
    from gr3.train import optimizer_of

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, config, mixture = GR3(tiny(512)), TrainConfig(), Mixture()
    optimizer = optimizer_of(model, config)
    rng = np.random.default_rng(0)
    robot = samples * 2 // 3
    segments = rng.integers(70, 500, (samples, mixture.conversations, mixture.tokens))
    batch = Batch(
        images={
            name: rng.integers(0, 256, (samples, *view.size, 3), dtype=np.uint8)
            for name, view in model.config.views.items()
        },
        text=rng.integers(70, 500, (samples, model.config.text_length)),
        text_mask=np.ones((samples, model.config.text_length), dtype=bool),
        text_labels=np.full((samples, model.config.text_length), IGNORE),
        state=rng.normal(size=(robot, model.config.state)).astype(np.float32),
        actions=rng.normal(size=(robot, model.config.action.horizon, model.config.columns)).astype(np.float32),
        weight=np.ones((robot, model.config.columns), dtype=np.float32),
        segments=segments,
        labels=segments,
        names=np.zeros((samples, 0, model.config.text.vocabulary), dtype=np.float32),
    )
    times = []
    for step in range(steps + 1):
        begun = time.perf_counter()
        found = losses(model, batch, config, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        torch.autograd.backward(found["loss"])
        optimizer.step()
        times.append(time.perf_counter() - begun)
    return {
        "samples_per_s_per_thread": samples / float(np.median(times[1:])),
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def latency(device: str, config: Any, dtype: Any) -> dict[str, float]:
    """Median milliseconds of seeing, of the whole prefix and of denoising, one observation, random weights.

    On a GPU the denoising steps run as a CUDA graph (torch.compile, "reduce-overhead").
    """
    import torch

    from gr3.model import GR3

    with torch.device(device):
        torch.set_default_dtype(dtype)
        try:
            model = GR3(config).eval()
        finally:
            torch.set_default_dtype(torch.float32)
    images = [torch.zeros((1, *view.size, 3), dtype=torch.uint8, device=device) for view in config.views.values()]
    text = torch.zeros((1, config.text_length), dtype=torch.long, device=device)
    mask = torch.ones_like(text, dtype=torch.bool)
    state = torch.zeros((1, config.state), dtype=dtype, device=device)
    noise = torch.zeros((1, config.action.horizon, config.columns), dtype=dtype, device=device)
    sample: Callable[..., Any] = model.sample
    if device == "cuda":
        sample = torch.compile(model.sample, mode="reduce-overhead")

    def median(work: Callable[[], Any]) -> float:
        times = []
        for i in range(30):
            if device == "cuda":
                torch.cuda.synchronize()
            begun = time.perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            if i >= 5:
                times.append(time.perf_counter() - begun)
        return 1000 * float(np.median(times))

    with torch.no_grad():
        prefix = model.prefix(images, text, mask)
        seen = median(lambda: model.backbone.embed_images(images, model.marks))
        read = median(lambda: model.prefix(images, text, mask))
        denoised = median(lambda: sample(prefix, state, noise))
    return {"vision": seen, "prefix": read - seen, "denoise": denoised, "total": read + denoised}


if __name__ == "__main__":
    raise SystemExit(main())
