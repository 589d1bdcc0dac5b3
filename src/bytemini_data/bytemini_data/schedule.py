"""The collection scheduler: what to record next, so that the dataset comes to have the distribution that was planned.

The algorithm is herding (Welling 2009; Chen, Welling, Smola 2010) on indicators. Each configuration c has a feature
vector phi(c): one indicator for each value of each factor, one for each pair of values of two factors, and one for c
itself. Their wanted mean under the target p is m = sum_c p_c phi(c). After n episodes with mean m_n, the deficit is
x = n (m - m_n), and the next configuration is the one with the largest x . phi(c): the one that is most behind, in
itself and in its values. As m lies inside the convex hull of the finitely many phi, |x| stays bounded, so that counts
differ from n p by no more than a constant and the total-variation distance to the target falls as O(1/n), for every
single factor and pair and for the whole. (Drawing at random it would fall as O(1/sqrt n).)

Within `SLACK` of the best, the one that differs most from the last episodes is taken, so that an operator does not
get the same scene twice running; a bounded choice among nearly equals leaves the bound a bound. Remaining ties go to
a fixed permutation that the seed draws.

Quotas: the target is first moved as little as possible (in total variation) to one that honours them, a linear
programme; and a configuration is drawn only if what is left of the quotas can still be met in what is left of the
episodes, another.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from bytemini_data.plan import FACTORS, Plan, PlanError

SLACK = 0.75
"""How much smaller a sum of deficits, in episodes, still counts as nearly the best."""

MEMORY = 3
"""So many last episodes a new one should differ from."""


@dataclass(frozen=True)
class Configuration:
    """What to record next. `cell`: factor to value; `seed`: of all that is random; `draw`: its number."""

    draw: int
    index: int
    cell: Mapping[str, str]
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """For an episode's `configuration` field."""
        return {"draw": self.draw, "cell": dict(self.cell), "seed": self.seed}


class Scheduler:
    """Draws configurations; counts what was accepted, forgets what was rejected.

    A configuration that was drawn counts as accepted until it is rejected, so that several may be under way at once.
    The draws are a function of the plan, its seed and what was accepted and rejected so far, nothing else.
    """

    def __init__(self, plan: Plan, accepted: Iterable[Mapping[str, Any]] = ()) -> None:
        """Begin, or go on.

        Args:
            plan: what is wanted.
            accepted: `Configuration.as_dict` of episodes that are there already, in the order in which they were drawn.

        Raises:
            PlanError: the quotas cannot be met (any more).
        """
        self.plan = plan
        self.counts = np.zeros(len(plan.cells), dtype=np.int64)
        self._draws = 0
        self._recent: list[int] = []
        rng = np.random.default_rng([zlib.crc32(b"schedule"), plan.seed])
        self._tie = rng.permutation(len(plan.cells))
        self._members = _members(plan)
        self._bounds = [(plan.matches(q.where), q.least, q.most) for q in plan.quotas]
        for entry in accepted:
            index = plan.find(entry.get("cell", {}))
            if index is not None:
                self.counts[index] += 1
                self._recent = [*self._recent, index][-MEMORY:]
            self._draws = max(self._draws, int(entry.get("draw", -1)) + 1)
        self.target = self._reachable_target()

    @property
    def total(self) -> int:
        """Episodes accepted or under way."""
        return int(self.counts.sum())

    @property
    def complete(self) -> bool:
        """Whether as many episodes as planned are accepted or under way."""
        return self.total >= self.plan.episodes

    def distance(self) -> float:
        """Total-variation distance between what is there and the target, 0 to 1; 1 when nothing is there."""
        if not self.total:
            return 1.0
        return 0.5 * float(np.abs(self.counts / self.total - self.target).sum())

    def next(self, fixed: Mapping[str, str] | None = None) -> Configuration:
        """Draw the next configuration.

        Args:
            fixed: factors that are given, such as who the operator is or the background that stands.

        Raises:
            PlanError: the plan is complete, or nothing is left that `fixed` and the quotas allow.
        """
        if self.complete:
            raise PlanError(f"the plan is complete: {self.plan.episodes} episodes are there")
        for factor, value in (fixed or {}).items():
            if factor not in FACTORS or value not in self.plan.values[factor]:
                known = ", ".join(self.plan.values.get(factor, FACTORS))
                raise PlanError(f"the plan has no {factor} {value!r}, expected {known}")
        allowed = self.plan.matches(fixed or {}) & (self.target > 0)
        index = self._choose(allowed)
        self.counts[index] += 1
        self._recent = [*self._recent, index][-MEMORY:]
        draw, self._draws = self._draws, self._draws + 1
        seed = int(np.random.default_rng([zlib.crc32(b"layout"), self.plan.seed, draw]).integers(2**31 - 1))
        return Configuration(draw, index, self.plan.cell(index), seed)

    def reject(self, configuration: Configuration) -> None:
        """Put a configuration back into the pool: its episode was discarded, or is no good."""
        if self.counts[configuration.index] < 1:
            raise ValueError(f"configuration {configuration.draw} was not drawn, or was rejected before")
        self.counts[configuration.index] -= 1

    def progress(self, factor: str) -> list[tuple[str, int, float]]:
        """Per value of a factor: how many episodes there are, and how many the target wants in all."""
        column = self.plan.cells[:, FACTORS.index(factor)]
        wanted = self.target * self.plan.episodes
        return [
            (value, int(self.counts[column == i].sum()), float(wanted[column == i].sum()))
            for i, value in enumerate(self.plan.values[factor])
        ]

    def _choose(self, allowed: NDArray[np.bool_]) -> int:
        score = self._scores()
        order = np.lexsort((self._tie, -score))
        order = order[allowed[order]]
        if self._bounds:
            # Which cells may be drawn depends only on which quotas they count towards: ask once for each such group.
            groups: dict[bytes, bool] = {}
            memberships = np.stack([mask for mask, _, _ in self._bounds], axis=1)
            keep = []
            for index in order.tolist():
                key = memberships[index].tobytes()
                if key not in groups:
                    groups[key] = self._feasible_after(index)
                if groups[key]:
                    keep.append(index)
            order = np.array(keep, dtype=np.int64)
        if not len(order):
            raise PlanError("nothing is left to record that the quotas and what is given allow")
        near = order[score[order] >= score[order[0]] - SLACK]
        return int(min(near.tolist(), key=lambda i: (self._likeness(i), -score[i], self._tie[i])))

    def _scores(self) -> NDArray[np.float64]:
        """(n,) sum of deficits, in episodes, of what each configuration would add to."""
        deficit = (self.total + 1) * self.target - self.counts
        score = np.zeros(len(deficit))
        for member in self._members:
            score += np.bincount(member, deficit, minlength=int(member.max()) + 1)[member]
        return score

    def _likeness(self, index: int) -> float:
        """How like the last episodes a configuration is, the last counting most."""
        cells = self.plan.cells
        return sum(
            float((cells[index] == cells[other]).all()) * 10 * weight
            + float((cells[index] == cells[other]).mean()) * weight
            for weight, other in zip((1.0, 0.5, 0.25), reversed(self._recent), strict=False)
        )

    def _reachable_target(self) -> NDArray[np.float64]:
        """The target, moved as little as possible so that `episodes` of it honour the quotas and hold what is there."""
        plan = self.plan
        if not self._bounds:
            return plan.target
        n, episodes = len(plan.cells), plan.episodes
        # Variables: the share of each cell, and how far it is from what was wanted; the sum of the latter is least.
        cost = np.concatenate((np.zeros(n), np.ones(n)))
        eye = sparse.eye_array(n)
        rows = [sparse.hstack((eye, -eye)), sparse.hstack((-eye, -eye))]
        limits = [plan.target, -plan.target]
        quota_rows, quota_limits = self._inequalities(np.zeros(n))
        if len(quota_rows):
            rows.append(sparse.csr_array(np.hstack((quota_rows * episodes, np.zeros_like(quota_rows)))))
            limits.append(quota_limits)
        solution = linprog(
            cost,
            sparse.vstack(rows).tocsr(),
            np.concatenate(limits),
            np.concatenate((np.ones(n), np.zeros(n)))[None],
            [1.0],
            bounds=(0, 1),
            method="highs",
        )
        if solution.status == 2:
            raise PlanError(self._impossible())
        share = np.maximum(solution.x[:n], 0.0)
        share[share < 1e-9] = 0.0
        return np.asarray(share / share.sum())

    def _inequalities(self, counts: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and limits (rows @ further <= limits) that the quotas put on further counts."""
        rows, limits = [], []
        for mask, least, most in self._bounds:
            there = int(counts[mask].sum())
            if most is not None:
                rows.append(mask.astype(float))
                limits.append(float(most - there))
            if least > there:
                rows.append(-mask.astype(float))
                limits.append(float(there - least))
        return np.array(rows).reshape(-1, len(self.plan.cells)), np.array(limits)

    def _feasible_after(self, index: int) -> bool:
        """Whether the quotas can be met when `index` is drawn now."""
        counts = self.counts.copy()
        counts[index] += 1
        left = self.plan.episodes - int(counts.sum())
        rows, limits = self._inequalities(counts)
        if not len(rows):
            return True
        if (limits[(rows >= 0).all(1)] < 0).any():
            return False
        # Cells that count towards the same quotas are one variable here.
        patterns = np.unique(rows, axis=1)
        n = patterns.shape[1]
        found = linprog(np.zeros(n), patterns, limits, np.ones((1, n)), [float(left)], bounds=(0, None), method="highs")
        return bool(found.status == 0)

    def _impossible(self) -> str:
        """Which quota cannot be met, in words."""
        episodes = self.plan.episodes
        for number, quota in enumerate(self.plan.quotas):
            if quota.least > episodes:
                return f"quotas {number + 1}: min {quota.least} of {quota} is more than the plan's {episodes} episodes"
        for factor in FACTORS:
            single = [(i, q) for i, q in enumerate(self.plan.quotas) if set(q.where) == {factor}]
            if sum(quota.least for _, quota in single) > episodes:
                names = ", ".join(f"quotas {i + 1}" for i, quota in single if quota.least)
                return f"{names}: their min add up to more than the plan's {episodes} episodes"
        names = ", ".join(f"quotas {i + 1} ({quota})" for i, quota in enumerate(self.plan.quotas))
        return f"{names} cannot all be met in {episodes} episodes: raise a max, lower a min, or change episodes"


def coverage(plan: Plan, configurations: Iterable[Mapping[str, Any]]) -> Counter[int]:
    """How often each configuration of a plan (by index) is among those of a dataset's episodes."""
    found = (plan.find(entry.get("cell", {})) for entry in configurations)
    return Counter(index for index in found if index is not None)


def _members(plan: Plan) -> list[NDArray[np.int64]]:
    """Per group of features, which of its indicators each configuration has: factors, pairs of factors, the whole."""
    varied = [i for i, factor in enumerate(FACTORS) if len(plan.values[factor]) > 1]
    groups = [(i,) for i in varied] + list(combinations(varied, 2))
    members = [np.unique(plan.cells[:, list(group)], axis=0, return_inverse=True)[1].reshape(-1) for group in groups]
    if len(varied) != 2 and len(varied) != 1:
        members.append(np.arange(len(plan.cells)))
    return members
