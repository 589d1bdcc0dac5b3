"""The plan of a collection: what is to be recorded, in which proportions, within which quotas.

GR-3 report, section 3.2 (robot trajectories): a scheduler tells operators the action to perform, the objects and the
background. A plan is the YAML file that it works from: factors with their values, weights, exclusions and quotas.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bytemini_core.errors import UserError
from numpy.typing import NDArray

FACTORS = ("action", "objects", "destination", "background", "layout", "operator")
"""What a configuration is made of. A plan that leaves one out has a single, empty value for it."""

SECTIONS = {
    "action": "actions",
    "objects": "objects",
    "destination": "destinations",
    "background": "backgrounds",
    "layout": "layouts",
    "operator": "operators",
}
"""Under which key of the file the values of a factor stand."""

MOST_CELLS = 20_000

_KEYS = {*SECTIONS.values(), "name", "seed", "episodes", "weights", "exclude", "quotas", "simulation"}


class PlanError(UserError):
    """The plan is malformed or cannot be met: names the file and the field."""


@dataclass(frozen=True)
class Quota:
    """How many episodes there must and may be of configurations with these values (`where`: factor to value)."""

    where: Mapping[str, str]
    least: int = 0
    most: int | None = None

    def __str__(self) -> str:
        return " ".join(f"{factor}={value}" for factor, value in self.where.items())


@dataclass(frozen=True)
class Plan:
    """A plan, checked.

    Attributes:
        name: for the record.
        seed: of everything that is drawn.
        episodes: how many are wanted.
        values: factor to its values, in the order of the file.
        meanings: factor to value to what the file says of it: of an action `words`, of a set of objects the list.
        cells: (n, factors) which value of each factor each configuration has; excluded ones are left out.
        target: (n,) the share wanted of each configuration; sums to 1.
        quotas: bounds on counts.
        simulation: task and setting that the simulator sets up where an action or a background does not say.
    """

    name: str
    seed: int
    episodes: int
    values: Mapping[str, tuple[str, ...]]
    meanings: Mapping[str, Mapping[str, Any]]
    cells: NDArray[np.int64]
    target: NDArray[np.float64]
    quotas: tuple[Quota, ...] = ()
    simulation: Mapping[str, str] = field(default_factory=dict)

    def cell(self, index: int) -> dict[str, str]:
        """The values of a configuration by factor; empty ones left out."""
        named = {f: self.values[f][v] for f, v in zip(FACTORS, self.cells[index].tolist(), strict=True)}
        return {factor: value for factor, value in named.items() if value}

    def find(self, cell: Mapping[str, str]) -> int | None:
        """The index of a configuration, or None if the plan does not have it."""
        try:
            wanted = [self.values[f].index(cell.get(f, "")) for f in FACTORS]
        except ValueError:
            return None
        found = np.flatnonzero((self.cells == wanted).all(1))
        return int(found[0]) if len(found) else None

    def matches(self, where: Mapping[str, str]) -> NDArray[np.bool_]:
        """(n,) which configurations have these values."""
        mask = np.ones(len(self.cells), dtype=bool)
        for factor, value in where.items():
            mask &= self.cells[:, FACTORS.index(factor)] == self.values[factor].index(value)
        return mask


def load_plan(path: str | Path) -> Plan:
    """Read a plan.

    Raises:
        PlanError: it is missing or malformed, names what it does not declare, or its quotas cannot be met.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise PlanError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise PlanError(f"{path} holds no mapping, expected keys like actions, objects, destinations, episodes")
    from bytemini_data.schedule import Scheduler

    try:
        plan = parse_plan(raw)
        Scheduler(plan)  # refuses quotas that cannot be met
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None
    return plan


def parse_plan(raw: Mapping[str, Any]) -> Plan:
    """A plan from what its file holds; see `load_plan`.

    Raises:
        PlanError: it is malformed.
    """
    if unknown := sorted(set(map(str, raw)) - _KEYS):
        raise PlanError(f"{unknown[0]} is no key of a plan, expected some of {', '.join(sorted(_KEYS))}")
    values: dict[str, tuple[str, ...]] = {}
    meanings: dict[str, dict[str, Any]] = {}
    for factor, section in SECTIONS.items():
        meanings[factor] = _values(raw.get(section), section)
        values[factor] = tuple(meanings[factor]) or ("",)
    if values["action"] == ("",):
        raise PlanError(
            "actions: expected at least one, like {put: {words: 'put the {object} into the {destination}'}}"
        )
    for name, meaning in meanings["action"].items():
        _check_words(name, meaning, values)
    episodes = _number(raw, "episodes", 1, 1_000_000)
    seed = _number(raw, "seed", 0, 2**31 - 1, 0)
    cells, target = _cells(raw, values)
    quotas = tuple(_quota(entry, values, i) for i, entry in enumerate(_list(raw.get("quotas"), "quotas")))
    simulation = raw.get("simulation") or {}
    if not isinstance(simulation, dict) or set(simulation) - {"task", "setting"}:
        raise PlanError("simulation: expected task and setting")
    plan = Plan(
        str(raw.get("name") or "collection"), seed, episodes, values, meanings, cells, target, quotas, simulation
    )
    for quota in quotas:
        share = plan.matches(quota.where)
        if not share.any():
            raise PlanError(f"quotas: no configuration has {quota}: everything with it is excluded")
    return plan


def _values(section: Any, name: str) -> dict[str, Any]:
    """The values of a factor: a list of words, a number of layouts, or a mapping of words to what they mean."""
    if section is None:
        return {}
    if name == "layouts" and isinstance(section, int) and not isinstance(section, bool):
        if not 1 <= section <= 1000:
            raise PlanError(f"layouts is {section}, expected 1 to 1000")
        return {f"layout {i + 1}": None for i in range(section)}
    if isinstance(section, list):
        words = [str(entry) for entry in section]
        if twice := sorted({word for word in words if words.count(word) > 1}):
            raise PlanError(f"{name}: {twice[0]} stands there twice")
        section = dict.fromkeys(words)
    if not isinstance(section, dict) or not section or any(not str(key).strip() for key in section):
        raise PlanError(f"{name}: expected a list of words, or words with what they mean")
    return {str(key): meaning for key, meaning in section.items()}


def _check_words(name: str, meaning: Any, values: Mapping[str, tuple[str, ...]]) -> None:
    words = (meaning or {}).get("words", name) if isinstance(meaning or {}, dict) else meaning
    if not isinstance(words, str) or not words.strip():
        raise PlanError(f"actions: {name}: words is {words!r}, expected a sentence")
    for place, factor in (("{object}", "objects"), ("{destination}", "destination")):
        if place in words and values[factor] == ("",):
            raise PlanError(f"actions: {name}: words speak of {place}, but the plan has no {SECTIONS[factor]}")


def _cells(
    raw: Mapping[str, Any], values: Mapping[str, tuple[str, ...]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    sizes = [len(values[factor]) for factor in FACTORS]
    if int(np.prod(sizes)) > MOST_CELLS:
        raise PlanError(f"the plan has {int(np.prod(sizes))} configurations, expected at most {MOST_CELLS}")
    cells = np.array(list(itertools.product(*map(range, sizes))), dtype=np.int64)
    weight = np.ones(len(cells))
    weights = raw.get("weights") or {}
    if not isinstance(weights, dict):
        raise PlanError("weights: expected factors with a weight per value")
    for factor, shares in weights.items():
        if factor not in FACTORS or not isinstance(shares, dict):
            raise PlanError(f"weights: {factor}: expected one of {', '.join(FACTORS)} with a weight per value")
        each = np.ones(len(values[factor]))
        for value, share in shares.items():
            if str(value) not in values[factor]:
                raise PlanError(f"weights: {factor}: {value} is not among the {SECTIONS[factor]}")
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1e6:
                raise PlanError(f"weights: {factor}: {value} is {share!r}, expected a number of at least 0")
            each[values[factor].index(str(value))] = share
        weight *= each[cells[:, FACTORS.index(factor)]]
    for i, entry in enumerate(_list(raw.get("exclude"), "exclude")):
        where = _where(entry, values, f"exclude {i + 1}")
        mask = np.ones(len(cells), dtype=bool)
        for factor, value in where.items():
            mask &= cells[:, FACTORS.index(factor)] == values[factor].index(value)
        weight[mask] = 0.0
    kept = weight > 0
    if not kept.any():
        raise PlanError("weights and exclude leave no configuration")
    return cells[kept], weight[kept] / weight.sum()


def _quota(entry: Any, values: Mapping[str, tuple[str, ...]], index: int) -> Quota:
    name = f"quotas {index + 1}"
    if not isinstance(entry, dict):
        raise PlanError(f"{name}: expected values with min or max, like {{objects: apple, max: 10}}")
    bounds = {key: entry[key] for key in ("min", "max") if key in entry}
    for key, value in bounds.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise PlanError(f"{name}: {key} is {value!r}, expected a whole number of at least 0")
    where = _where({key: value for key, value in entry.items() if key not in ("min", "max")}, values, name)
    if not bounds:
        raise PlanError(f"{name}: expected min or max")
    quota = Quota(where, bounds.get("min", 0), bounds.get("max"))
    if quota.most is not None and quota.least > quota.most:
        raise PlanError(f"{name}: min {quota.least} of {quota} is more than max {quota.most}")
    return quota


def _where(entry: Any, values: Mapping[str, tuple[str, ...]], name: str) -> dict[str, str]:
    if not isinstance(entry, dict) or not entry:
        raise PlanError(f"{name}: expected values of factors, like {{objects: apple}}")
    for factor, value in entry.items():
        if factor not in FACTORS:
            raise PlanError(f"{name}: {factor} is no factor, expected one of {', '.join(FACTORS)}")
        if str(value) not in values[factor]:
            raise PlanError(f"{name}: {value} is not among the {SECTIONS[factor]}")
    return {factor: str(value) for factor, value in entry.items()}


def _list(section: Any, name: str) -> list[Any]:
    if section is None:
        return []
    if not isinstance(section, list):
        raise PlanError(f"{name}: expected a list")
    return section


def _number(raw: Mapping[str, Any], name: str, least: int, most: int, default: int | None = None) -> int:
    value = raw.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise PlanError(f"{name} is {value!r}, expected a whole number from {least} to {most}")
    return value
