"""Vision-language conversations about simulated scenes (GR-3 report, section 3.2).

Grounding, counting, naming, referring by size, place and colour, captions with places in them ("interleaved grounded
captioning"). What can be asked comes from the simulator's knowledge of the scene; what the model gets are pictures and
words. Places are written as location tokens: fractions of the picture, and of the workspace in front of the robot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bytemini_sim.catalogue import kind_of
from numpy.typing import NDArray

from gr3.text import ABSENT, place

WORKSPACE = ((0.1, 1.0), (-0.65, 0.65))
"""Range of x and y in base_footprint (m) that location tokens cover."""

HEIGHTS = (0.6, 1.3)
"""Range of z in base_footprint (m) that slots cover."""


@dataclass(frozen=True)
class Talk:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Scene:
    """What is known about one instant.

    `things`: name, category, color, size and whether it is a container, each. `places`: (n, 3) in base_footprint (m).
    `points`: (cameras, n, 2) fractions of the views, nan or outside [0, 1] where a thing is not in view. `phrases`:
    (phrase, name) pairs, each true of one thing only.
    """

    things: Sequence[Mapping[str, Any]]
    places: NDArray[np.float32]
    points: NDArray[np.float32]
    phrases: Sequence[tuple[str, str]] = ()

    def at(self, index: int) -> str:
        """Where a thing is: in the head's picture and in the workspace, four location tokens; ABSENT out of view."""
        u, v = self.points[0, index]
        if not (0 <= u <= 1 and 0 <= v <= 1):
            return ABSENT
        (x0, x1), (y0, y1) = WORKSPACE
        x, y, _ = self.places[index]
        fractions = (u, v, (x - x0) / (x1 - x0), (y - y0) / (y1 - y0))
        return " ".join(place(float(fraction)) for fraction in fractions)

    def in_view(self, camera: int, index: int) -> str:
        """Where a thing is in one camera's picture, two location tokens; ABSENT out of view."""
        u, v = self.points[camera, index]
        return f"{place(u)} {place(v)}" if 0 <= u <= 1 and 0 <= v <= 1 else ABSENT

    def find(self, name: str) -> int | None:
        """Index of the thing called `name`; also None where there are two of the kind, so that nobody could tell."""
        if sum(kind_of(str(thing["name"])) == kind_of(name) for thing in self.things) != 1:
            return None
        return next(i for i, thing in enumerate(self.things) if thing["name"] == name)

    def objects(self) -> list[int]:
        """Indices of what is no container."""
        return [i for i, thing in enumerate(self.things) if not thing["container"]]


def cells(rows: int, columns: int) -> NDArray[np.float64]:
    """(rows columns, 2) middles of a picture's cells, row by row, as fractions (u, v) of it."""
    v, u = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    return np.stack([u.ravel(), v.ravel()], axis=-1)


HAND = ("", "left", "right")
"""What the wrist cameras are called, by camera index."""


def is_ambiguous(scene: Scene, name: str) -> bool:
    """Whether a name could mean two things, or one that is not quite it (a white banana, asked for the banana)."""
    kinds = [kind_of(str(thing["name"])) for thing in scene.things]
    return kinds.count(kind_of(name)) > 1 or any(kind.endswith(f" {name}") for kind in kinds)


def point(scene: Scene, name: str) -> Talk:
    """Where is it, as the head sees it."""
    index = scene.find(name)
    return Talk(f"point {name}", ABSENT if index is None else scene.at(index))


def point_from_hand(scene: Scene, name: str, camera: int) -> Talk:
    """Where is it, as a wrist camera sees it."""
    index = scene.find(name)
    return Talk(f"{HAND[camera]} {name}", ABSENT if index is None else scene.in_view(camera, index))


def plan(scene: Scene, target: str, destination: str) -> Talk:
    """Where are the two things that an instruction speaks of; what is beyond the picture's edge is said to be there."""
    places = []
    for index in (scene.find(target), scene.find(destination)):
        beyond = index is None or not np.isfinite(scene.points[0, index]).all()
        places.append(ABSENT if beyond or index is None else " ".join(place(float(f)) for f in scene.points[0, index]))
    return Talk(f"put the {target} into the {destination}", " ".join(places))


def whereabouts(scene: Scene, target: int | None, destination: int | None) -> NDArray[np.float64]:
    """(11,) what an instruction's slots are to say (`text.WHERE`), nan for a thing that is not there or not in view.

    Of the target u and v in the head's picture, x, y and z in base_footprint as fractions of the workspace; u and v of
    the destination; u and v of the target in the left and in the right wrist's picture. What is beyond the edge of the
    head's picture is said to be there.
    """
    found = np.full(11, np.nan)
    if target is not None:
        found[:2] = scene.points[0, target]
        for i, (low, high) in enumerate((*WORKSPACE, HEIGHTS)):
            found[2 + i] = (scene.places[target, i] - low) / (high - low)
        for camera in (1, 2):
            u, v = scene.points[camera, target]
            if 0 <= u <= 1 and 0 <= v <= 1:
                found[5 + 2 * camera : 7 + 2 * camera] = u, v
    if destination is not None:
        found[5:7] = scene.points[0, destination]
    return found


def name_at(scene: Scene, rng: np.random.Generator) -> Talk | None:
    """What is there."""
    visible = [i for i in range(len(scene.things)) if scene.in_view(0, i) != ABSENT]
    if not visible:
        return None
    index = int(rng.choice(visible))
    return Talk(f"what {scene.in_view(0, index)}", str(scene.things[index]["name"]))


def refer(scene: Scene, rng: np.random.Generator) -> Talk | None:
    """Where is what a phrase means: by size, place, category, colour or common sense; before anything was moved."""
    if not scene.phrases:
        return None
    phrase, name = scene.phrases[int(rng.integers(len(scene.phrases)))]
    index = scene.find(name)
    return None if index is None else Talk(f"point {phrase}", scene.at(index))


def count(scene: Scene, rng: np.random.Generator) -> Talk | None:
    """How many of a category are there."""
    objects = scene.objects()
    if not objects:
        return None
    category = str(scene.things[int(rng.choice(objects))]["category"])
    number = sum(scene.things[i]["category"] == category for i in objects)
    return Talk(f"how many {category}", str(number))


def caption(scene: Scene, grounded: bool) -> Talk:
    """What is to be seen from left to right; grounded: each with its place."""
    order = sorted(range(len(scene.things)), key=lambda i: -float(scene.places[i][1]))
    shown = [(str(scene.things[i]["name"]), scene.in_view(0, i)) for i in order if scene.in_view(0, i) != ABSENT]
    if grounded:
        return Talk("describe with places", " ".join(f"{name} {where}" for name, where in shown))
    return Talk("describe", ", ".join(name for name, _ in shown))


def dense(scene: Scene, names: Sequence[str], number: int, rng: np.random.Generator) -> list[Talk]:
    """A mixture of conversations about one instant, mostly grounding.

    Args:
        scene: what is known.
        names: every name there is, to ask also for what is absent.
        number: how many.
        rng: draws them.
    """
    present = [str(thing["name"]) for thing in scene.things]
    talks: list[Talk] = []
    while len(talks) < number:
        draw = rng.random()
        name = str(rng.choice(present)) if rng.random() < 0.75 else str(rng.choice(names))
        if is_ambiguous(scene, name):
            name = str(rng.choice(names))
            if is_ambiguous(scene, name):
                continue
        talk: Talk | None
        if draw < 0.70:
            talk = point(scene, name)
        elif draw < 0.80:
            talk = point_from_hand(scene, name, int(rng.integers(1, 3)))
        elif draw < 0.90:
            talk = name_at(scene, rng)
        elif draw < 0.98:
            talk = refer(scene, rng)
        else:
            talk = count(scene, rng)
        if talk is not None:
            talks.append(talk)
    return talks
