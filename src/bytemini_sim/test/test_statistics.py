"""Statistics against scipy, published tables and simulation."""

import numpy as np
import pytest
from bytemini_sim.evaluation.gate import LOSS, regression
from bytemini_sim.evaluation.statistics import (
    PASS,
    PairedTest,
    Sprt,
    acceptance_plan,
    bootstrap_mean,
    compare,
    mcnemar,
    posterior_above,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_exact_binomial_test(a, b):
    expected = stats.binomtest(a, a + b).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected)


@given(st.integers(1, 200), st.floats(0.01, 0.99), st.data())
def test_the_posterior_is_a_beta_distribution(n, target, data):
    k = data.draw(st.integers(0, n))
    assert posterior_above(k, n, target) == pytest.approx(stats.beta.sf(target, 1 + k, 1 + n - k), abs=1e-9)


@pytest.mark.parametrize(
    ("bad", "good", "plan"),
    [(0.70, 0.90, (57, 46)), (0.70, 0.85, (119, 92)), (0.80, 0.95, (69, 61)), (0.80, 0.90, (198, 168)),
     (0.85, 0.95, (134, 121)), (0.90, 0.975, (142, 134))],
)  # fmt: skip
def test_acceptance_plans_are_those_of_the_design_table(bad, good, plan):
    assert acceptance_plan(bad, good) == plan
    n, c = plan
    assert stats.binom.sf(c - 1, n, bad) <= 0.05
    assert stats.binom.sf(c - 1, n, good) >= 0.99


def test_the_gate_keeps_its_error_rates_exactly():
    gate = Sprt()
    passes_good, mean_good = gate.characteristics(0.95)
    passes_bad, mean_bad = gate.characteristics(0.80)
    assert passes_good == pytest.approx(0.990, abs=0.0006), "as the gate says"
    assert passes_bad == pytest.approx(0.046, abs=0.0006)
    assert mean_good < 60
    assert mean_bad < 60


@pytest.mark.parametrize("measured", [(30, 60), (45, 60), (80, 100), (97, 100)])
def test_the_gate_of_a_policy_passes_what_did_not_change_and_refuses_what_lost_much(measured):
    gate = regression(*measured)
    rate = measured[0] / measured[1]
    assert gate.good < rate
    assert gate.bad == pytest.approx(gate.good - LOSS)
    assert gate.characteristics(rate)[0] >= 0.995
    assert gate.characteristics(gate.good)[0] >= 0.93
    assert gate.characteristics(gate.bad)[0] <= 0.05
    assert max(gate.characteristics(r)[1] for r in np.linspace(0.05, 0.95, 19)) < 45, "episodes, in the mean"


def test_a_policy_with_nothing_to_lose_cannot_be_held_to_it():
    with pytest.raises(ValueError, match="nothing to lose"):
        regression(10, 40)


def test_the_gate_does_what_its_characteristics_say():
    gate, rng = Sprt(), np.random.default_rng(0)
    for rate in (0.8, 0.9, 0.95):
        passed, lengths = 0, []
        for _ in range(2000):
            k = n = 0
            while (verdict := gate.verdict(k, n)) is None:
                k, n = k + (rng.random() < rate), n + 1
            passed += verdict == PASS
            lengths.append(n)
        expected, mean = gate.characteristics(rate)
        assert passed / 2000 == pytest.approx(expected, abs=0.03)
        assert np.mean(lengths) == pytest.approx(mean, rel=0.06)


def test_a_gate_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="expected 0 < bad < good < 1"):
        Sprt(bad=0.9, good=0.8)


def test_looking_at_every_moment_does_not_call_equal_policies_different():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(1000):
        test = PairedTest(alpha=0.05)
        for first, second in rng.random((200, 2)) < 0.7:
            test.update(bool(first), bool(second))
            if test.decided:
                wrong += 1
                break
    assert wrong <= 50 + 3 * np.sqrt(50)


def test_a_better_policy_is_found_to_be_better():
    rng, test = np.random.default_rng(2), PairedTest()
    for _ in range(200):
        test.update(bool(rng.random() < 0.95), bool(rng.random() < 0.6))
    assert test.decided
    assert test.wins[0] > test.wins[1]


def test_a_comparison_counts_pairs():
    first = [(True, 1.0), (True, 1.0), (False, 0.2), (True, 1.0)]
    second = [(True, 1.0), (False, 0.4), (False, 0.2), (False, 0.0)]
    found = compare(first, second)
    assert (found.pairs, found.both, found.only_first, found.only_second) == (4, 1, 2, 0)
    assert found.difference[0] == pytest.approx(0.4)
    assert found.difference[1] <= 0.4 <= found.difference[2]
    with pytest.raises(ValueError, match="not pairs"):
        compare(first, second[:2])


def test_the_bootstrap_covers_the_mean_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(3), 0
    for trial in range(200):
        _, low, high = bootstrap_mean(rng.beta(2, 1, 80), seed=trial, draws=400)
        hits += low <= 2 / 3 <= high
    assert 0.88 <= hits / 200 <= 1.0
