"""What a phrase means in a scene: names, size, place, kind and common sense, from ground truth.

One grammar serves both sides: scenes describe their target with it (GR-3 report, section 5.1, Unseen Instructions: "put
the coke next to the sprite into the carton", "put the largest object into the carton", "put the marine animal into the
carton"), and the scripted expert finds out with it what is meant. A phrase counts only where it means exactly one thing
with a margin, so that no answer hangs on a millimetre.

Left and right, near and far are the robot's own: it stands at the origin of odom and faces +x.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from bytemini_core.types import Array, SceneState

from bytemini_sim.catalogue import kind_of, load_catalogue
from bytemini_sim.scene import Placed

KINDS = ("size", "spatial", "category", "common sense")
"""What a phrase can turn on."""

BIGGER = 1.3
"""The largest thing has at least this many times the volume (of its bounding box) of the second ..."""
TALLER = 0.015
"""... and the tallest stands out by this much, m."""
FURTHER = 0.06
"""The leftmost, nearest ... thing is ahead of the second by this much, m."""
BESIDE = 0.05
"""Of two things of a kind, the one next to something is nearer to it by this much, m."""

_ARTICLE = re.compile(r"^(?:the|a|an|some|this|that)\s+", re.IGNORECASE)
_ANYTHING = ("object", "thing", "item")

_SIZES = {"largest": (1, BIGGER), "biggest": (1, BIGGER), "smallest": (-1, BIGGER)}
_HEIGHTS = {"tallest": 1, "shortest": -1}
_PLACES = {
    "left": (1, 1),
    "leftmost": (1, 1),
    "right": (1, -1),
    "rightmost": (1, -1),
    "nearest": (0, -1),
    "front": (0, -1),
    "farthest": (0, 1),
    "back": (0, 1),
}
"""Word to (axis of odom, sign)."""
_NEXT_TO = re.compile(r"^(?P<noun>.+?)\s+(?:next to|beside|closest to)\s+(?:the\s+)?(?P<other>.+)$")


@dataclass(frozen=True, slots=True)
class Thing:
    """What a phrase may mean: `size` (3,) edge lengths and `position` (3,) in odom, m."""

    name: str
    kind: str
    category: str
    color: str
    size: Array
    position: Array


def things_in(scene: SceneState, container: bool = False) -> list[Thing]:
    """The objects, or the containers, of a scene as it is now."""
    return [
        Thing(item.name, kind_of(item.name), item.category, item.color, item.size, np.asarray(item.pose[:3]))
        for item in scene.objects
        if item.container == container
    ]


def things_placed(placed: Sequence[Placed]) -> list[Thing]:
    """The things of a layout."""
    return [
        Thing(p.name, p.item.kind, p.item.category, p.item.color, np.array(p.item.size), np.array(p.position))
        for p in placed
    ]


def plain(phrase: str) -> str:
    """A phrase in lower case without its article and needless spaces."""
    return " ".join(_ARTICLE.sub("", phrase.strip().replace("_", " ")).lower().split())


def plural(noun: str) -> str:
    """The plural of a name of the catalogue."""
    return f"{noun[:-2]}ves" if noun.endswith("fe") else f"{noun}s"


def resolve(phrase: str, things: Sequence[Thing]) -> str | None:
    """The name of the one thing that a phrase means.

    Args:
        phrase: with or without article.
        things: what there is.

    Returns:
        Its name; None where the phrase means nothing, several things, or hardly one rather than another.
    """
    words = plain(phrase)
    for thing in things:
        if plain(thing.name) == words:
            # "the coke" of two is ambiguous; the second's own name, "coke #2", is not.
            alike = [other for other in things if other.kind == thing.kind]
            return thing.name if len(alike) == 1 or thing.name != thing.kind else None
    meant = list(_meant(words, things))
    return meant[0].name if len(meant) == 1 else None


def _meant(words: str, things: Sequence[Thing]) -> Iterator[Thing]:
    if match := _NEXT_TO.match(words):
        anchor = resolve(match["other"], things)
        beside = next((thing for thing in things if thing.name == anchor), None)
        if beside is not None:
            candidates = [thing for thing in _denoted(match["noun"], things) if thing.name != anchor]
            distance = {t.name: float(np.linalg.norm((t.position - beside.position)[:2])) for t in candidates}
            yield from _extreme(candidates, [-distance[t.name] for t in candidates], BESIDE)
        return
    first, _, rest = words.partition(" ")
    if rest.endswith(" to the robot"):
        rest = rest.removesuffix(" to the robot")
    nouns = _denoted(rest, things) if rest else []
    if nouns and first in _SIZES:
        sign, ratio = _SIZES[first]
        yield from _extreme(nouns, [sign * float(np.log(np.prod(t.size))) for t in nouns], float(np.log(ratio)))
    elif nouns and first in _HEIGHTS:
        yield from _extreme(nouns, [_HEIGHTS[first] * float(t.size[2]) for t in nouns], TALLER)
    elif nouns and first in _PLACES:
        axis, sign = _PLACES[first]
        yield from _extreme(nouns, [sign * float(t.position[axis]) for t in nouns], FURTHER)
    else:
        yield from _denoted(words, things)


def _extreme(things: Sequence[Thing], measure: Sequence[float], margin: float) -> list[Thing]:
    """The one with the largest measure, if there are several and it leads by the margin."""
    if len(things) < 2:
        return []
    order = np.argsort(measure)[::-1]
    return [things[int(order[0])]] if measure[int(order[0])] - measure[int(order[1])] >= margin else []


def _denoted(noun: str, things: Sequence[Thing]) -> list[Thing]:
    """All things that a noun is true of."""
    if noun in _ANYTHING:
        return list(things)
    named = [thing for thing in things if plain(thing.kind) == noun]
    if named:
        return named
    facts = {plain(phrase): names for phrase, names in load_catalogue().facts.items()}
    if noun in facts:
        return [thing for thing in things if thing.kind in facts[noun]]
    color, _, rest = noun.rpartition(" ")
    return [
        thing
        for thing in things
        if thing.category == noun or (thing.color == color and (rest == thing.category or rest in _ANYTHING))
    ]


def describe(things: Sequence[Thing], kind: str) -> list[tuple[str, str]]:
    """Every (phrase, name) of a kind that means exactly one of the things, in a fixed order.

    Args:
        things: what there is.
        kind: one of `KINDS`.

    Raises:
        ValueError: there is no such kind.
    """
    names = sorted({thing.kind for thing in things})
    several = [name for name in names if sum(thing.kind == name for thing in things) > 1]
    match kind:
        case "size":
            phrases = ["largest object", "smallest object", "tallest object", "shortest object"]
        case "spatial":
            phrases = ["leftmost object", "rightmost object", "nearest object", "farthest object"]
            for name in several:
                phrases += [f"left {name}", f"right {name}"]
                phrases += [f"{name} next to the {other}" for other in names if other != name]
        case "category":
            phrases = sorted({thing.category for thing in things} | {f"{t.color} {t.category}" for t in things})
        case "common sense":
            phrases = list(load_catalogue().facts)
        case _:
            raise ValueError(f"no kind of phrase is called {kind!r}; there are {', '.join(KINDS)}")
    found = [(phrase, resolve(phrase, things)) for phrase in phrases]
    return [(phrase, name) for phrase, name in found if name is not None]
