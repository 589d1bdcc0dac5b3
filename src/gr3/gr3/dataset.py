"""Batches out of shards: pure functions of (seed, step, rank), so that a resumed run sees what it would have seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.types import CAMERAS
from bytemini_sim.pick_place import TRAINING_WORDINGS
from numpy.typing import NDArray

from gr3 import talk
from gr3.layout import ActionLayout
from gr3.shards import BEGINNING, FORMAT
from gr3.text import WHERE, Text

IGNORE = -100
_STD_FLOOR = 1e-3
_NEAR, _FAR = 0.15, 1.7
"""In cells of a picture: how far from a cell a thing's middle may be to be shown by it, and where nothing is."""


class DatasetError(ValueError):
    """A data set is missing, incomplete or does not fit; the message says what was found and what was expected."""


@dataclass(frozen=True)
class Normalisation:
    """What makes state and actions of unit size; made from the training set, kept in the checkpoint.

    `state_mean`, `state_std`: (state,). `action_mean`, `action_std`: (k, columns), for each row by itself: a second
    from now a joint may be anywhere, in a tenth of a second it is near. The task status is left as it is.
    """

    state_mean: NDArray[np.float32]
    state_std: NDArray[np.float32]
    action_mean: NDArray[np.float32]
    action_std: NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """As lists, for JSON."""
        return {key: getattr(self, key).tolist() for key in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Normalisation:
        """From `to_dict`."""
        return cls(**{key: np.asarray(data[key], dtype=np.float32) for key in cls.__dataclass_fields__})


@dataclass
class Batch:
    """What the model is trained on in one step, of B samples of which the first R are of a robot's trajectory.

    `images`: per camera (B, H, W, 3) uint8. `text`, `text_mask`: (B, length). `state`: (R, state) and `actions`:
    (R, k, columns), both normalised. `weight`: (R, columns). `segments`, `labels`: (B, N, Q) conversations.
    `text_labels` (B, length): what the instructions' slots are to say (`Text.blur`). `names` (B, picture tokens,
    vocabulary): the words for what each token of the pictures shows, zero where that is not clear.
    """

    images: dict[str, NDArray[np.uint8]]
    text: NDArray[np.int64]
    text_mask: NDArray[np.bool_]
    text_labels: NDArray[np.int64]
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    weight: NDArray[np.float32]
    segments: NDArray[np.int64]
    labels: NDArray[np.int64]
    names: NDArray[np.float32]

    def trimmed(self, pad: int) -> Batch:
        """Without the columns of text and conversations that are padding in every row."""
        text = int((self.text != pad).any(0).sum())
        talk = int((self.segments != pad).any((0, 1)).sum())
        return replace(
            self,
            text=self.text[:, :text],
            text_mask=self.text_mask[:, :text],
            text_labels=self.text_labels[:, :text],
            segments=self.segments[:, :, :talk],
            labels=self.labels[:, :, :talk],
        )


def _shards_in(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("[0-9]*/meta.json"))


class Shards:
    """Frames of one kind, memory-mapped from disk. `before`: so many of them come from the folder of that name."""

    def __init__(self, folder: Path, limit: int | None = None, before: Path | None = None) -> None:
        """Open.

        Args:
            folder: holds numbered shards.
            limit: use only so many of them, the first.
            before: another such folder, whose shards, if there are any, come first.

        Raises:
            DatasetError: there are none, or they are of other cameras.
        """
        paths = _shards_in(folder)[:limit]
        if not paths:
            raise DatasetError(f"{folder} holds no shards; make them with: python -m gr3.generate {folder.parent}")
        first = _shards_in(before) if before is not None else []
        paths = first + paths
        self.episodes: list[dict[str, Any]] = []
        self._arrays: list[dict[str, NDArray[Any]]] = []
        starts, digest = [0], hashlib.sha256()
        self.episode_of: list[NDArray[np.int64]] = []
        views: Any = None
        for path in paths:
            raw = (path / "meta.json").read_bytes()
            meta = json.loads(raw)
            if meta.get("format") != FORMAT:
                raise DatasetError(f"{path} is of format {meta.get('format')!r}, expected {FORMAT!r}")
            if set(meta["views"]) != set(CAMERAS):
                raise DatasetError(f"{path} has cameras {', '.join(meta['views'])}, expected {', '.join(CAMERAS)}")
            if views is not None and meta["views"] != views:
                raise DatasetError(f"{path} was made with other views than the shards before it")
            views = meta["views"]
            digest.update(raw)
            arrays = {file.stem: np.load(file, mmap_mode="r") for file in sorted(path.glob("*.npy"))}
            digest.update(np.ascontiguousarray(arrays["actions"]).tobytes())
            self._arrays.append(arrays)
            self.episode_of.append(np.asarray(arrays["episode"], dtype=np.int64) + len(self.episodes))
            self.episodes += meta["episodes"]
            starts.append(starts[-1] + meta["frames"])
        self.views = views
        self.shards = len(paths)
        self.before = starts[len(first)]
        self.digest = digest.hexdigest()
        self._starts = np.array(starts)
        self.episode_index = np.concatenate(self.episode_of)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def column(self, key: str) -> NDArray[Any]:
        """All frames' values of one array, in memory."""
        return np.concatenate([np.asarray(arrays[key]) for arrays in self._arrays])

    def take(self, key: str, frames: NDArray[np.int64]) -> NDArray[Any]:
        """(len(frames), ...) values of one array."""
        which = np.searchsorted(self._starts, frames, side="right") - 1
        return np.stack([self._arrays[w][key][f - self._starts[w]] for w, f in zip(which, frames, strict=True)])


def normalisation_of(demos: Shards, layout: ActionLayout) -> Normalisation:
    """Mean and deviation over the demonstrations."""
    state, actions = demos.column("state"), demos.column("actions").astype(np.float64)
    mean, std = actions.mean(0), actions.std(0)
    # A column that hardly moves must not be blown up to unit noise; the floor is a share of its deviation a second on.
    std = np.maximum(std, np.maximum(0.02 * std.max(axis=0, keepdims=True), _STD_FLOOR))
    mean[:, layout.status], std[:, layout.status] = 0.0, 1.0
    return Normalisation(
        state.mean(0).astype(np.float32),
        np.maximum(state.std(0), 1e-2).astype(np.float32),
        mean.astype(np.float32),
        std.astype(np.float32),
    )


@dataclass(frozen=True)
class Mixture:
    """What a batch is made of.

    `robot`, `stills`: samples of demonstrations and of still scenes per process. `corrected`: share of the former that
    comes out of corrections, where there are any: they are fewer, and each shows what no other does. `conversations`
    per set of pictures, each of at most `tokens`. `invalid`: share of demonstrations, as long as they only approach,
    whose instruction is replaced by an impossible one: who has begun has seen what is there, and shall not give up
    where a hand hides it. `blind`: share of demonstrations whose velocities are not told (their mean in their place): a
    policy that always knows them learns to go on as before, and where it once stands still it stays (de Haan et al.
    2019, "Causal confusion in imitation learning"). `gripper`, `base`, `hands`, `status`: weight of those columns in
    the flow loss, relative to an arm joint's 1.
    """

    robot: int = 32
    stills: int = 16
    conversations: int = 4
    tokens: int = 10
    corrected: float = 0.35
    invalid: float = 0.22
    blind: float = 0.25
    augment: bool = True
    gripper: float = 2.0
    base: float = 1.0
    hands: float = 0.5
    status: float = 4.0


class Source:
    """Draws batches from demonstrations and still scenes."""

    def __init__(
        self,
        demos: Shards,
        stills: Shards | None,
        text: Text,
        layout: ActionLayout,
        normalisation: Normalisation,
        mixture: Mixture,
        text_length: int,
        cells: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Over shards. `cells`: per camera, rows and columns of the tokens that its picture becomes."""
        self.cells = tuple(cells)
        self.demos, self.stills = demos, stills
        self.text, self.layout, self._norm = text, layout, normalisation
        self._mixture, self._length = mixture, text_length
        things = [thing for episode in demos.episodes for thing in episode["things"]]
        self.objects = sorted({t["name"] for t in things if not t["container"]})
        self.containers = sorted({t["name"] for t in things if t["container"]})
        self._weight = np.ones(len(layout.columns), dtype=np.float32)
        for i, name in enumerate(layout.columns):
            if name.endswith("_gripper_joint"):
                self._weight[i] = mixture.gripper
            elif name.startswith("base/"):
                self._weight[i] = mixture.base
        self._weight[layout.hands] = mixture.hands
        self._weight[layout.status] = mixture.status
        self._nothing = np.full(len(text.ids(WHERE)), IGNORE, dtype=np.int64)
        self.last = len(demos)

    def hold_out(self, shards: int) -> None:
        """Keep the last demonstrations, of so many shards, for validation."""
        last = len(self.demos) - sum(len(part) for part in self.demos.episode_of[-shards:] if shards)
        if last <= self.demos.before:
            raise DatasetError(f"with {shards} shards of demonstrations held out there is none to train on")
        self.last = last

    def seen(self, shards: Shards, frames: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The head's pictures of frames, and `Batch.names` of them."""
        images, scenes, _, _ = self._parts(shards, frames, np.random.default_rng(0))
        return images[CAMERAS[0]], self._names(scenes)

    def held_out(self, number: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
        """So many different frames that no batch draws, or all where they are fewer, and the episode of each."""
        frames = self.last + rng.permutation(len(self.demos) - self.last)[:number]
        return frames, [self.demos.episodes[self.demos.episode_index[f]] for f in frames]

    def batch(self, seed: int, step: int, rank: int = 0) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng([seed, step, rank])
        mixture, demos = self._mixture, self.demos
        frames = rng.integers(demos.before, self.last, size=mixture.robot)
        if demos.before:
            corrected = rng.random(mixture.robot) < mixture.corrected
            frames = np.where(corrected, rng.integers(demos.before, size=mixture.robot), frames)
        images, scenes, segments, labels = self._parts(demos, frames, rng)
        parts = [(images, segments, labels)]
        names = [self._names(scenes)]
        state = (demos.take("state", frames) - self._norm.state_mean) / self._norm.state_std
        state[rng.random(mixture.robot) < mixture.blind, self.layout.state_rates] = 0.0
        actions = demos.take("actions", frames)
        weight = np.zeros((mixture.robot, len(self.layout.columns)), dtype=np.float32)
        begins = np.isin(demos.take("phase", frames), BEGINNING) & (frames >= demos.before)
        told: list[tuple[str, NDArray[np.int64]]] = []
        for i, frame in enumerate(frames):
            episode = demos.episodes[demos.episode_index[frame]]
            words, kind = episode["instruction"], episode.get("kind", "robot")
            # Where it is not known what is there, no instruction is known to be impossible.
            if kind == "robot" and episode["things"] and begins[i] and rng.random() < mixture.invalid:
                (words, *named), kind = self.impossible(episode, rng), "invalid"
            else:
                named = [episode[key] for key in ("target", "destination")]
            if kind == "invalid":
                actions[i, :, self.layout.status] = -1.0
            weight[i] = self.layout.supervised(kind) * self._weight
            known = kind in ("robot", "invalid") and bool(episode["things"])
            told.append((words, self._places(scenes[i], *named) if known else self._nothing))
        actions = (actions - self._norm.action_mean) / self._norm.action_std
        if self.stills is not None and mixture.stills:
            frames = rng.integers(len(self.stills), size=mixture.stills)
            images, scenes, segments, labels = self._parts(self.stills, frames, rng)
            parts.append((images, segments, labels))
            names.append(self._names(scenes))
            told += [self._asked_of(scene, rng) for scene in scenes]
        images = {name: np.concatenate([images[name] for images, _, _ in parts]) for name in CAMERAS}
        if mixture.augment:
            images = {name: augment(images[name], rng) for name in CAMERAS}
        text, mask, text_labels = self._told(told)
        return Batch(
            images=images,
            text=text,
            text_mask=mask,
            text_labels=text_labels,
            state=state.astype(np.float32),
            actions=np.clip(actions, -8.0, 8.0).astype(np.float32),
            weight=weight,
            segments=np.concatenate([segments for _, segments, _ in parts]),
            labels=np.concatenate([labels for _, _, labels in parts]),
            names=np.concatenate(names),
        ).trimmed(self.text.pad)

    def _names(self, scenes: Sequence[talk.Scene]) -> NDArray[np.float32]:
        """The words for what the cells of the pictures show: those of the things whose middle is there or next to it.

        Far from all things there is nothing (padding); in between it is not clear, for things are of many sizes.
        """
        targets = [np.zeros((len(scenes), 0, self.text.size), dtype=np.float32)]
        for camera, (rows, columns) in enumerate(self.cells):
            cell = talk.cells(rows, columns)
            parts = np.zeros((len(scenes), rows * columns, self.text.size), dtype=np.float32)
            for i, scene in enumerate(scenes):
                points = scene.points[camera]
                apart = np.abs(cell[:, None] - np.where(np.isfinite(points), points, 9.0)) * (columns, rows)
                here: NDArray[np.bool_] = np.all(apart < 0.5 + _NEAR, axis=-1)
                for j, thing in enumerate(scene.things):
                    ids = self.text.ids(str(thing["name"]))
                    parts[i][np.ix_(np.flatnonzero(here[:, j]), np.array(ids))] += 1.0 / len(ids)
                if len(scene.things) and camera == 0:
                    parts[i, (apart > _FAR).any(-1).all(-1), self.text.pad] = 1.0
            targets.append(parts)
        names = np.concatenate(targets, axis=1)
        names /= np.maximum(names.sum(-1, keepdims=True), 1e-6)
        return names

    def _asked_of(self, scene: talk.Scene, rng: np.random.Generator) -> tuple[str, NDArray[np.int64]]:
        """An instruction for a still scene, worded as any: where are the things, or is one not there."""
        present = [str(t["name"]) for t in scene.things if not t["container"]]
        into = [str(t["name"]) for t in scene.things if t["container"]]
        names = self.objects if rng.random() < 0.3 or not present else present
        target = str(rng.choice(names))
        if not into or talk.is_ambiguous(scene, target):
            return "describe", self._nothing
        words = str(rng.choice(TRAINING_WORDINGS)).format(target=target, into=into[0])
        return words, self._places(scene, target, into[0])

    def _places(self, scene: talk.Scene, target: str, destination: str) -> NDArray[np.int64]:
        """Labels of the slots of an instruction about two things, each of which may not be there."""
        return self.text.located(talk.whereabouts(scene, scene.find(target), scene.find(destination)))

    def _told(
        self, told: Sequence[tuple[str, NDArray[np.int64]]]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """Instructions and what their slots are to say: token ids, which are no padding, labels."""
        tokens = [self.text.instruction(words, self._length) for words, _ in told]
        text, mask = np.stack([ids for ids, _ in tokens]), np.stack([m for _, m in tokens])
        labels = np.full_like(text, IGNORE)
        for i, (_, places) in enumerate(told):
            end = int(mask[i].sum())
            labels[i, end - len(places) : end] = places
        return text, mask, labels

    def _parts(
        self, shards: Shards, frames: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[dict[str, NDArray[np.uint8]], list[talk.Scene], NDArray[np.int64], NDArray[np.int64]]:
        """Pictures, what is known about each, and conversations about them: tokens and labels."""
        images = {name: shards.take(name, frames) for name in CAMERAS}
        mixture = self._mixture
        shape = (len(frames), mixture.conversations, mixture.tokens)
        segments, labels = np.full(shape, self.text.pad, dtype=np.int64), np.full(shape, IGNORE, dtype=np.int64)
        places, points = shards.take("places", frames), shards.take("points", frames)
        scenes: list[talk.Scene] = []
        for i, frame in enumerate(frames):
            episode = shards.episodes[shards.episode_index[frame]]
            known = len(episode["things"])
            phrases = episode["phrases"] if shards is self.stills else ()
            scene = talk.Scene(episode["things"], places[i, :known], points[i, :, :known], phrases)
            scenes.append(scene)
            if not mixture.conversations:
                continue
            if episode.get("talks"):
                chosen = rng.integers(len(episode["talks"]), size=mixture.conversations)
                talks = [talk.Talk(*episode["talks"][c]) for c in chosen]
            elif known:
                talks = talk.dense(scene, [*self.objects, *self.containers], mixture.conversations, rng)
            else:
                talks = []
            for j, item in enumerate(talks):
                self._pack(item, segments[i, j], labels[i, j])
        return images, scenes, segments, labels

    def _pack(self, item: talk.Talk, segment: NDArray[np.int64], label: NDArray[np.int64]) -> None:
        question = self.text.ids(item.question)
        ids = (*question, *self.text.ids(item.answer), self.text.end)[: len(segment)]
        segment[: len(ids)] = ids
        label[len(question) : len(ids)] = ids[len(question) :]

    def impossible(self, episode: Mapping[str, Any], rng: np.random.Generator) -> tuple[str, str, str]:
        """An instruction that speaks of what is not there, and what it says to bring where."""
        present = {thing["name"] for thing in episode["things"]}
        missing = [name for name in self.objects if name not in present]
        elsewhere = [name for name in self.containers if name not in present]
        if elsewhere and rng.random() < 0.25:
            target, destination = str(episode["target"]), str(rng.choice(elsewhere))
        else:
            target, destination = str(rng.choice(missing)), str(episode["destination"])
        return f"put the {target} into the {destination}", target, destination


def augment(pictures: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Photometric augmentation of (B, H, W, 3): brightness, contrast, colour cast and noise, each picture its own."""
    b = len(pictures)
    gain = rng.uniform(0.75, 1.3, (b, 1, 1, 1)) * rng.uniform(0.92, 1.08, (b, 1, 1, 3))
    offset = rng.uniform(-18, 18, (b, 1, 1, 1))
    gain[rng.random(b) < 0.25], offset[rng.random(b) < 0.25] = 1.0, 0.0
    x = pictures.astype(np.float32)
    x *= gain.astype(np.float32)
    x += offset.astype(np.float32)
    x += rng.standard_normal(x.shape, dtype=np.float32) * np.float32(rng.uniform(0, 4))
    return np.clip(x, 0, 255).astype(np.uint8)


def corpus(episodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Everything that a model trained on these episodes may read or say: what its tokenizer is made from."""
    from bytemini_sim.catalogue import load_catalogue

    catalogue = load_catalogue()
    items = [*catalogue.split("seen")[0], *catalogue.split("seen")[1]]
    texts = {f"{question} {item.name}" for item in items for question in ("point", "left", "right")}
    texts |= {f"point {item.color} {item.category}" for item in items}
    texts |= {f"how many {item.category}" for item in items}
    texts |= {wording.format(target=item.name, into=item.name) for item in items for wording in TRAINING_WORDINGS}
    texts |= {f"point {phrase}" for phrase in catalogue.facts}
    texts |= {f"point {phrase}" for episode in episodes for phrase, _ in episode["phrases"]}
    texts |= {f"point {thing['name']}" for episode in episodes for thing in episode["things"]}
    texts |= {"what is there", "describe with places", "describe the table", *map(str, range(10))}
    return sorted(texts)
