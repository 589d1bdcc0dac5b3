"""What a model does on held-out demonstrations, without rolling it out."""

from __future__ import annotations

import numpy as np
import torch

from gr3 import talk
from gr3.dataset import Normalisation, Source
from gr3.model import GR3
from gr3.shards import BEGINNING
from gr3.text import ABSENT, BINS

_FRAMES = 192
_ROW = 4


def flows(model: GR3, source: Source, norm: Normalisation, rng: np.random.Generator) -> dict[str, float]:
    """Sampled actions against the expert's, half a second on; and task status, with right and with impossible words."""
    frames, episodes = source.held_out(_FRAMES, rng)
    # Of recorded episodes nobody knows what else is there, and so what would be impossible.
    kinds = ("asked", "impossible") if all(e["things"] for e in episodes) else ("asked",)
    layout = source.layout
    images = [torch.from_numpy(source.demos.take(name, frames)) for name in model.config.cameras]
    state = torch.from_numpy((source.demos.take("state", frames) - norm.state_mean) / norm.state_std)
    actions = source.demos.take("actions", frames)
    noise = torch.randn((len(frames), *actions.shape[1:]), generator=torch.Generator().manual_seed(0))
    found: dict[str, float] = {}
    for kind in kinds:
        words = [e["instruction"] if kind == "asked" else source.impossible(e, rng)[0] for e in episodes]
        tokens = [source.text.instruction(w, model.config.text_length) for w in words]
        text = torch.from_numpy(np.stack([ids for ids, _ in tokens]))
        mask = torch.from_numpy(np.stack([m for _, m in tokens]))
        prefix = model.prefix(images, text, mask)
        rows = model.sample(prefix, state.float(), noise).numpy() * norm.action_std + norm.action_mean
        status = np.round(np.clip(rows[..., layout.status].mean(1), -1, 1))
        if kind == "impossible":
            approaching = np.isin(source.demos.take("phase", frames), BEGINNING)
            if approaching.any():
                found["refused"] = float((status == -1)[approaching].mean())
            continue
        valid = np.array([e["valid"] for e in episodes])
        error = rows[valid, _ROW] - actions[valid, _ROW]
        hands = [layout.columns.index(f"{side}_hand/{axis}") for side in ("left", "right") for axis in "xyz"]
        found["arm_mm"] = float(1000 * np.sqrt((error[:, hands] ** 2).sum(1).mean() / 2))
        found["arm_rad"] = float(np.sqrt((error[:, :14] ** 2).mean()))
        found["status"] = float((status == actions[:, 0, layout.status]).mean())
    return found


def answers(model: GR3, source: Source) -> dict[str, float]:
    """Where the model points when asked for every object of held-out scenes, and for as many that are absent."""
    rng = np.random.default_rng(2)
    frames, episodes = source.held_out(64, rng)
    if not all(e["things"] for e in episodes):
        return {}
    images = [torch.from_numpy(source.demos.take(name, frames)) for name in model.config.cameras]
    points, places = source.demos.take("points", frames), source.demos.take("places", frames)
    absent = source.text.ids(ABSENT)[0]
    bins = [source.text.ids(f"<|{i}|>")[0] for i in range(BINS)]
    errors: list[float] = []
    right: list[bool] = []
    questions, known = [], []
    for i, episode in enumerate(episodes):
        n = len(episode["things"])
        scene = talk.Scene(episode["things"], places[i, :n], points[i, :, :n])
        present = [thing["name"] for thing in episode["things"]]
        missing = [name for name in source.objects if name not in present]
        asked = [*rng.choice(present, 3), *rng.choice(missing, 3)]
        questions.append([talk.point(scene, str(name)).question for name in asked])
        known.append([scene.find(str(name)) for name in asked])
    longest = max(len(source.text.ids(q)) for row in questions for q in row)
    ids = np.full((len(frames), 6, longest), source.text.pad, dtype=np.int64)
    last = np.zeros((len(frames), 6), dtype=np.int64)
    for i, row in enumerate(questions):
        for j, question in enumerate(row):
            tokens = source.text.ids(question)
            ids[i, j, : len(tokens)], last[i, j] = tokens, len(tokens) - 1
    text = np.full((len(frames), model.config.text_length), source.text.pad, dtype=np.int64)
    mask = np.ones_like(text, dtype=bool)
    _, said = model.prefix_and_answers(images, torch.from_numpy(text), torch.from_numpy(mask), torch.from_numpy(ids))
    first = np.take_along_axis(said.answers.numpy(), last[..., None, None], axis=2)[:, :, 0]
    for i in range(len(frames)):
        for j in range(6):
            index = known[i][j]
            says_absent = int(first[i, j].argmax()) == absent
            u = points[i, 0, index, 0] if index is not None else np.nan
            in_view = index is not None and bool(((points[i, 0, index] >= 0) & (points[i, 0, index] <= 1)).all())
            right.append(says_absent != in_view)
            if in_view:
                at = int(np.argmax(first[i, j][bins]))
                errors.append(abs((at + 0.5) / BINS - float(u)))
    return {"point_u": 100 * float(np.median(errors)), "present": float(np.mean(right))}


def slots(model: GR3, source: Source) -> dict[str, float]:
    """How well the slots of held-out instructions say where the target is: median errors, on the table and in view."""
    frames, episodes = source.held_out(192, np.random.default_rng(3))
    if not all(e["things"] for e in episodes):
        return {}
    images = [torch.from_numpy(source.demos.take(name, frames)) for name in model.config.cameras]
    points, places = source.demos.take("points", frames), source.demos.take("places", frames)
    tokens = [source.text.instruction(e["instruction"], model.config.text_length) for e in episodes]
    text, mask = (torch.from_numpy(np.stack(part)) for part in zip(*tokens, strict=True))
    nothing = torch.full((len(frames), 1, 1), source.text.pad)
    said = model.prefix_and_answers(images, text, mask, nothing)[1].said.float().numpy()
    bins = [source.text.ids(f"<|{i}|>")[0] for i in range(BINS)]
    wanted, found = [], []
    for i, episode in enumerate(episodes):
        n = len(episode["things"])
        scene = talk.Scene(episode["things"], places[i, :n], points[i, :, :n])
        wanted.append(talk.whereabouts(scene, scene.find(episode["target"]), scene.find(episode["destination"])))
        end = int(mask[i].sum())
        logits = said[i, end - len(wanted[-1]) : end][:, bins]
        near = np.abs(np.arange(BINS) - logits.argmax(1)[:, None]) <= 3
        weight = np.exp(logits - logits.max(1, keepdims=True)) * near
        found.append((weight * (np.arange(BINS) + 0.5)).sum(1) / weight.sum(1) / BINS)
    error = np.abs(np.array(found) - np.array(wanted))
    size = 1000 * np.array([high - low for low, high in talk.WORKSPACE])
    table = np.linalg.norm(error[:, 2:4] * size, axis=1)
    hands = error[:, 7:11]
    return {
        "place_mm": float(np.nanmedian(table)),
        "place_90_mm": float(np.nanquantile(table, 0.9)),
        "wrist": float(np.nanmedian(hands)) if np.isfinite(hands).any() else float("nan"),
    }
