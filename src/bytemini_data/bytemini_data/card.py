"""The scene card: what an operator places where, and what is to be done, in words and as a drawing from above."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bytemini_data.plan import Plan, PlanError
from bytemini_data.schedule import Configuration

if TYPE_CHECKING:
    from bytemini_sim.scene import SceneSpec

TABLE_X = (0.33, 0.95)
TABLE_Y = (-0.60, 0.60)
"""The table that cards are drawn for, m in front of and beside the robot (odom)."""

ZONE_X = (0.43, 0.68)
ZONE_Y = (-0.38, 0.38)
"""Where both hands reach: real scenes are laid out in it."""

GAP = 0.16
"""Metres between the middles of things that a card places."""


@dataclass(frozen=True)
class Place:
    """One thing on the card: `x`, `y` of its middle on the table (m, odom); `role` object, destination or other."""

    name: str
    role: str
    x: float
    y: float

    @property
    def where(self) -> str:
        """The place in words, as the robot sees it."""
        depth = ("near", "middle", "far")[int(np.clip((self.x - TABLE_X[0]) / (TABLE_X[1] - TABLE_X[0]) * 3, 0, 2))]
        side = ("right", "centre", "left")[int(np.clip((self.y - ZONE_Y[0]) / (ZONE_Y[1] - ZONE_Y[0]) * 3, 0, 2))]
        return f"{depth} {side}"


@dataclass(frozen=True)
class SceneCard:
    """What to place where, and what to do.

    `setup`: task, setting, seed and instruction for the simulator's `sim/reset`.
    """

    instruction: str
    places: tuple[Place, ...]
    background: str = ""
    operator: str = ""
    draw: int = 0
    setup: Mapping[str, Any] | None = None

    def steps(self) -> list[str]:
        """What to do, line by line."""
        lines = [f"Background: {self.background}."] if self.background else []
        lines += [f"Place the {place.name} {place.where}." for place in self.places]
        return [*lines, f"Then: {self.instruction}."]

    def as_dict(self) -> dict[str, Any]:
        """For messages and for the episode's `card` field."""
        return {
            "instruction": self.instruction,
            "steps": self.steps(),
            "places": [
                {"name": p.name, "role": p.role, "x": round(p.x, 3), "y": round(p.y, 3), "where": p.where}
                for p in self.places
            ],
            "background": self.background,
            "operator": self.operator,
            "draw": self.draw,
            "setup": dict(self.setup) if self.setup else None,
            "diagram": self.diagram(),
        }

    def diagram(self, width: int = 480) -> str:
        """The table from above as SVG, the robot at the bottom."""
        scale = width / (TABLE_Y[1] - TABLE_Y[0])
        depth = (TABLE_X[1] - TABLE_X[0]) * scale
        colors = {"object": "#D55E00", "destination": "#0072B2", "other": "#777777"}
        marks = []
        for place in self.places:
            u, v = (TABLE_Y[1] - place.y) * scale, (TABLE_X[1] - place.x) * scale
            size = 0.05 * scale * (1.6 if place.role == "destination" else 1.0)
            color = colors[place.role]
            shape = (
                f'<rect x="{u - size:.0f}" y="{v - size:.0f}" width="{2 * size:.0f}" height="{2 * size:.0f}"'
                f' fill="none" stroke="{color}" stroke-width="3"/>'
                if place.role == "destination"
                else f'<circle cx="{u:.0f}" cy="{v:.0f}" r="{size:.0f}" fill="{color}" fill-opacity="0.85"/>'
            )
            name = html.escape(place.name)
            text = f'<text x="{u:.0f}" y="{v + size + 13:.0f}" text-anchor="middle" font-size="13">{name}</text>'
            marks += [shape, text]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {depth + 42:.0f}"'
            f' width="{width}" height="{depth + 42:.0f}" font-family="sans-serif">'
            f'<rect width="{width}" height="{depth:.0f}" fill="#f4ead8" stroke="#8a7752"/>{"".join(marks)}'
            f'<rect x="{width / 2 - 60:.0f}" y="{depth + 14:.0f}" width="120" height="22" rx="6" fill="#333"/>'
            f'<text x="{width / 2:.0f}" y="{depth + 30:.0f}" text-anchor="middle" font-size="13" fill="#fff">'
            "robot</text>"
            "</svg>"
        )


def instruction_of(plan: Plan, configuration: Configuration) -> tuple[str, list[str], str]:
    """The instruction in words, the objects of the configuration with the one spoken of first, and the destination.

    A value of `objects` that stands for several (a set) has the seed choose which of them is spoken of.
    """
    cell = configuration.cell
    meaning = plan.meanings["action"][cell["action"]]
    words = meaning if isinstance(meaning, str) else (meaning or {}).get("words", cell["action"])
    named = cell.get("objects", "")
    members = plan.meanings["objects"].get(named) if named else None
    objects = [str(item) for item in members] if isinstance(members, list) and members else [named] * bool(named)
    if objects:
        first = int(np.random.default_rng([1, configuration.seed]).integers(len(objects)))
        objects = [objects[first], *objects[:first], *objects[first + 1 :]]
    destination = cell.get("destination", "")
    try:
        text = words.format(object=objects[0] if objects else "", destination=destination)
    except (KeyError, IndexError, ValueError) as error:
        raise PlanError(f"actions: {cell['action']}: words {words!r} cannot be filled in: {error}") from None
    return text, objects, destination


def card_of(plan: Plan, configuration: Configuration) -> SceneCard:
    """The card of a configuration: things in random places within reach, the same for the same seed."""
    text, objects, destination = instruction_of(plan, configuration)
    cell = configuration.cell
    names = [(name, "object" if i == 0 else "other") for i, name in enumerate(objects)]
    if destination:
        names.append((destination, "destination"))
    spots = _spots(len(names), configuration.seed)
    places = tuple(Place(name, role, x, y) for (name, role), (x, y) in zip(names, spots, strict=True))
    return SceneCard(
        text,
        places,
        cell.get("background", ""),
        cell.get("operator", ""),
        configuration.draw,
        setup_of(plan, configuration),
    )


def setup_of(plan: Plan, configuration: Configuration) -> dict[str, Any] | None:
    """What the simulator is asked for (`sim/reset`); None for a plan that names no task of it."""
    cell = configuration.cell
    chosen = dict(plan.simulation)
    for meaning in (
        plan.meanings["action"].get(cell["action"]),
        plan.meanings["background"].get(cell.get("background", "")),
    ):
        if isinstance(meaning, dict):
            chosen |= {key: str(meaning[key]) for key in ("task", "setting") if key in meaning}
    if "task" not in chosen:
        return None
    text, _, _ = instruction_of(plan, configuration)
    return {
        "task": chosen["task"],
        "setting": chosen.get("setting", "basic"),
        "seed": configuration.seed,
        "instruction": text,
    }


def with_scene(card: SceneCard, scene: SceneSpec) -> SceneCard:
    """The card of a scene that the simulator has set up: its things where they really stand."""
    roles = {scene.target: "object", scene.destination: "destination"}
    places = tuple(Place(p.name, roles.get(p.name, "other"), *p.position[:2]) for p in scene.placed)
    return SceneCard(scene.instruction, places, card.background, card.operator, card.draw, card.setup)


def _spots(count: int, seed: int) -> Sequence[tuple[float, float]]:
    """Random places at least `GAP` apart, or as far apart as chance makes them when there are many."""
    rng = np.random.default_rng([2, seed])
    best: list[tuple[float, float]] = []
    gap = GAP
    while len(best) < count:
        best = []
        for x, y in rng.uniform((ZONE_X[0], ZONE_Y[0]), (ZONE_X[1], ZONE_Y[1]), (200, 2)).tolist():
            if len(best) < count and all(np.hypot(x - a, y - b) >= gap for a, b in best):
                best.append((x, y))
        gap *= 0.9
    return best
