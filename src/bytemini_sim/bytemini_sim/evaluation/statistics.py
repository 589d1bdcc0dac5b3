"""Rates, differences and decisions with stated error rates.

Rates carry Wilson intervals and a Beta posterior; differences between policies are judged on the same seeds (exact
McNemar, paired bootstrap) or while they come in (a betting e-process, valid whenever one stops); gates are Wald's
sequential probability ratio test, truncated, whose error rates are computed exactly and not assumed.

Sources: E. B. Wilson (1927); A. Wald, Sequential Analysis (1947); Q. McNemar (1947); for e-processes and evaluation of
robot policies Snyder et al., "Is your imitation learning policy better than mine?" (STEP, arXiv 2503.10966).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from bytemini_core.types import Array


def posterior_above(successes: int, trials: int, target: float) -> float:
    """Probability that the true rate is above `target`, after trials, from a uniform prior: Beta(1 + k, 1 + n - k)."""
    from scipy.special import betainc

    return float(1.0 - betainc(1 + successes, 1 + trials - successes, target))


def bootstrap_mean(values: Sequence[float] | Array, seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval over episodes; (0, 0, 1)-like openness where there is nothing to draw.

    Args:
        values: one per episode, in [0, 1].
        seed: of the resampling: the same report always says the same.
        draws: resamples.
    """
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        return 0.0, 0.0, 1.0
    rng = np.random.default_rng(seed)
    means = data[rng.integers(len(data), size=(draws, len(data)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(data.mean()), float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value that two policies succeed equally often, from the seeds on which just one did."""
    n = only_first + only_second
    if n == 0:
        return 1.0
    k = min(only_first, only_second)
    tail: float = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return min(1.0, 2.0 * tail)


@dataclass
class PairedTest:
    """Two policies on the same seeds, judged as results come in: valid at every moment, whenever one stops.

    Under "equally good" a discordant pair (one succeeds, the other fails) is a fair coin. `evidence` is the wealth of a
    gambler who bets against that with a uniform prior on the coin's bias: E = 2^n / ((n + 1) C(n, k)). By Ville's
    inequality it ever reaches 1 / alpha with a probability of at most alpha.

    Attributes:
        alpha: probability of calling equal policies different.
        wins: pairs that only the first, only the second policy won.
        strongest: largest evidence so far.
    """

    alpha: float = 0.05
    wins: list[int] = field(default_factory=lambda: [0, 0])
    strongest: float = 1.0

    def update(self, first: bool, second: bool) -> None:
        """Take the next pair."""
        if first != second:
            self.wins[0 if first else 1] += 1
            self.strongest = max(self.strongest, self.evidence)

    @property
    def evidence(self) -> float:
        """The gambler's wealth now; 1 says nothing."""
        n, k = sum(self.wins), self.wins[0]
        return math.exp(n * math.log(2) - math.log(n + 1) - math.log(math.comb(n, k)))

    @property
    def p_value(self) -> float:
        """Always-valid p-value of "equally good"."""
        return min(1.0, 1.0 / self.strongest)

    @property
    def decided(self) -> bool:
        """Whether they are different at level `alpha`."""
        return self.p_value <= self.alpha


PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"


@dataclass(frozen=True)
class Sprt:
    """Wald's sequential test of a success rate, cut off after `cap` episodes; undecided is not passed.

    Attributes:
        bad: a policy this bad should pass with a probability of at most `pass_bad`.
        good: one this good should not pass with at most `fail_good`.
        cap: most episodes.
    """

    bad: float = 0.80
    good: float = 0.95
    pass_bad: float = 0.05
    fail_good: float = 0.01
    cap: int = 120

    def __post_init__(self) -> None:
        if not (0 < self.bad < self.good < 1 and 0 < self.pass_bad < 1 and 0 < self.fail_good < 1 and self.cap > 0):
            raise ValueError(f"{self} makes no sense: expected 0 < bad < good < 1, error rates in (0, 1), cap > 0")

    def ratio(self, successes: int, trials: int) -> float:
        """Log-likelihood ratio of good against bad."""
        return successes * math.log(self.good / self.bad) + (trials - successes) * math.log(
            (1 - self.good) / (1 - self.bad)
        )

    def verdict(self, successes: int, trials: int) -> str | None:
        """`PASS`, `FAIL`, `INCONCLUSIVE` at the cap, or None: go on."""
        ratio = self.ratio(successes, trials)
        if ratio >= math.log((1 - self.fail_good) / self.pass_bad):
            return PASS
        if ratio <= math.log(self.fail_good / (1 - self.pass_bad)):
            return FAIL
        return INCONCLUSIVE if trials >= self.cap else None

    def characteristics(self, rate: float) -> tuple[float, float]:
        """Exactly, for a true rate: the probability of passing and the mean number of episodes."""
        alive = {0: 1.0}
        passed = mean = 0.0
        for n in range(1, self.cap + 1):
            after: dict[int, float] = {}
            for k, p in alive.items():
                for gained, q in ((1, rate), (0, 1 - rate)):
                    after[k + gained] = after.get(k + gained, 0.0) + p * q
            alive = {}
            for k, p in after.items():
                verdict = self.verdict(k, n)
                if verdict is None:
                    alive[k] = p
                else:
                    mean += n * p
                    passed += p if verdict == PASS else 0.0
        return passed, mean


@cache
def acceptance_plan(bad: float, good: float, pass_bad: float = 0.05, fail_good: float = 0.01) -> tuple[int, int]:
    """The smallest sample (n, c), passed with at least c successes of n, that keeps both error rates exactly.

    Args:
        bad: rate that passes with a probability of at most `pass_bad`.
        good: rate that passes with at least 1 - `fail_good`.
        pass_bad: see there.
        fail_good: see there.
    """
    from scipy.stats import binom

    n = 1
    while True:
        c = int(binom.ppf(1 - pass_bad, n, bad)) + 1
        if c <= n and binom.sf(c - 1, n, bad) <= pass_bad and binom.sf(c - 1, n, good) >= 1 - fail_good:
            return n, c
        n += 1


@dataclass(frozen=True)
class Comparison:
    """Two policies on the same seeds.

    `pairs`: seeds both ran; `only_first`, `only_second`: seeds on which just that one succeeded; `p_value`: exact
    McNemar; `sequential_p`: of `PairedTest` in the order of seeds; `difference`: mean progress of the first less that
    of the second, with a 95 % paired bootstrap interval.
    """

    pairs: int
    both: int
    only_first: int
    only_second: int
    p_value: float
    sequential_p: float
    difference: tuple[float, float, float]


def compare(first: Sequence[tuple[bool, float]], second: Sequence[tuple[bool, float]], seed: int = 0) -> Comparison:
    """Compare (success, progress) of two policies, pair by pair.

    Raises:
        ValueError: there are not as many of one as of the other.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} episodes are not pairs: expected the same seeds")
    test = PairedTest()
    counts = {(a, b): 0 for a in (True, False) for b in (True, False)}
    for (a, _), (b, _) in zip(first, second, strict=True):
        test.update(a, b)
        counts[a, b] += 1
    gap = np.array([a - b for (_, a), (_, b) in zip(first, second, strict=True)])
    return Comparison(
        pairs=len(first),
        both=counts[True, True],
        only_first=counts[True, False],
        only_second=counts[False, True],
        p_value=mcnemar(counts[True, False], counts[False, True]),
        sequential_p=test.p_value,
        difference=bootstrap_mean(gap, seed) if len(gap) else (0.0, -1.0, 1.0),
    )
