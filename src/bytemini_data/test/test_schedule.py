"""The scheduler's promises: O(1/n), quotas, seeds, resumption, the pool; and bad plans."""

from itertools import pairwise

import numpy as np
import pytest
from bytemini_data.card import card_of, instruction_of, setup_of
from bytemini_data.plan import FACTORS, PlanError, load_plan, parse_plan
from bytemini_data.schedule import Scheduler
from hypothesis import given, settings
from hypothesis import strategies as st

PUT = {"put": {"words": "put the {object} into the {destination}", "task": "pick_place"}}


def make(**more):
    raw = {
        "actions": PUT,
        "objects": ["apple", "orange", "lemon", "pear"],
        "destinations": ["basket", "bowl", "carton"],
        "episodes": 100_000,
        **more,
    }
    return parse_plan({key: value for key, value in raw.items() if value is not None})


@settings(max_examples=25, deadline=None)
@given(
    weights=st.lists(st.floats(0.05, 5.0), min_size=4, max_size=4),
    others=st.lists(st.floats(0.05, 5.0), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
)
def test_total_variation_falls_as_one_over_n(weights, others, seed):
    """n times the distance stays below a constant for all n, for the whole and for every factor."""
    names = (
        ("objects", ("apple", "orange", "lemon", "pear"), weights),
        ("destination", ("basket", "bowl", "carton"), others),
    )
    plan = make(seed=seed, weights={f: dict(zip(v, w, strict=True)) for f, v, w in names})
    scheduler = Scheduler(plan)
    cells = len(plan.cells)
    for n in range(1, 1200):
        scheduler.next()
        deficit = scheduler.counts - n * plan.target
        assert 0.5 * np.abs(deficit).sum() <= cells / 2  # n TV <= K / 2, the same for every n
        for factor, values, _ in names:
            column = plan.cells[:, FACTORS.index(factor)]
            off = np.bincount(column, deficit)
            assert np.abs(off).max() <= 2.5, f"{factor} after {n}"
            assert len(off) == len(values)
    assert scheduler.distance() <= cells / 2 / n


def test_drawing_at_random_is_far_worse():
    plan = make()
    scheduler = Scheduler(plan)
    for _ in range(1000):
        scheduler.next()
    random = np.bincount(np.random.default_rng(0).choice(len(plan.cells), 1000, p=plan.target), minlength=12)
    assert scheduler.distance() < 0.2 * 0.5 * np.abs(random / 1000 - plan.target).sum()


def test_values_are_even_long_before_configurations_can_be():
    plan = make(backgrounds=["lab", "kitchen"], layouts=10)
    scheduler = Scheduler(plan)
    for _ in range(24):  # of 240 configurations
        scheduler.next()
    assert {count for _, count, _ in scheduler.progress("objects")} == {6}
    assert {count for _, count, _ in scheduler.progress("destination")} == {8}
    assert {count for _, count, _ in scheduler.progress("background")} == {12}


def test_the_same_seed_draws_the_same_and_another_does_not():
    def draws(seed):
        scheduler = Scheduler(make(seed=seed))
        return [scheduler.next() for _ in range(40)]

    assert draws(1) == draws(1)
    assert [c.cell for c in draws(1)] != [c.cell for c in draws(2)]
    assert len({c.seed for c in draws(1)}) == 40


def test_no_scene_twice_running():
    scheduler = Scheduler(make(weights={"objects": {"apple": 5}}))
    drawn = [scheduler.next().index for _ in range(300)]
    assert all(a != b for a, b in pairwise(drawn))


@given(st.integers(0, 60), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_resuming_is_going_on(stop, seed):
    """A scheduler made from the dataset's configurations draws what the first would have drawn."""
    rng = np.random.default_rng(seed)
    first = Scheduler(make(seed=seed))
    accepted = []
    for _ in range(stop):
        configuration = first.next()
        if rng.random() < 0.3:
            first.reject(configuration)
        else:
            accepted.append(configuration.as_dict())
    again = Scheduler(make(seed=seed), accepted)
    np.testing.assert_array_equal(again.counts, first.counts)
    if accepted and accepted[-1]["draw"] == stop - 1:
        assert again.next().draw == first.next().draw


def test_what_is_rejected_returns_to_the_pool():
    plan = make(episodes=24)
    scheduler = Scheduler(plan)
    rng = np.random.default_rng(0)
    kept = []
    while not scheduler.complete:
        configuration = scheduler.next()
        if rng.random() < 0.4:
            scheduler.reject(configuration)
        else:
            kept.append(configuration)
    assert np.bincount([c.index for c in kept]).tolist() == [2] * 12
    with pytest.raises(PlanError, match="complete"):
        scheduler.next()
    lone = Scheduler(plan).next()
    with pytest.raises(ValueError, match="was not drawn"):
        Scheduler(plan).reject(lone)


@settings(max_examples=12, deadline=None)
@given(
    most=st.integers(0, 9),
    least=st.integers(0, 20),
    pair=st.integers(0, 10),
    episodes=st.integers(30, 60),
    seed=st.integers(0, 99),
)
def test_quotas_are_kept_whatever_is_rejected(most, least, pair, episodes, seed):
    quotas = [
        {"objects": "apple", "max": most},
        {"destination": "bowl", "min": least},
        {"objects": "lemon", "destination": "carton", "min": pair, "max": pair + 2},
    ]
    plan = make(episodes=episodes, quotas=quotas, seed=seed)
    scheduler = Scheduler(plan)
    rng = np.random.default_rng(seed)
    while not scheduler.complete:
        configuration = scheduler.next()
        if rng.random() < 0.2:
            scheduler.reject(configuration)
    counts = [scheduler.counts[plan.matches(quota.where)].sum() for quota in plan.quotas]
    assert counts[0] <= most
    assert counts[1] >= least
    assert pair <= counts[2] <= pair + 2


@pytest.mark.parametrize(
    ("quotas", "says"),
    [
        ([{"objects": "apple", "min": 41}], "quotas 1: min 41 of objects=apple is more than the plan's 40"),
        ([{"objects": "apple", "min": 30}, {"objects": "pear", "min": 30}], "quotas 1, quotas 2: their min add up"),
        ([{"objects": o, "max": 5} for o in ("apple", "orange", "lemon", "pear")], "cannot all be met in 40"),
        ([{"objects": "apple", "min": 5, "max": 4}], "min 5 of objects=apple is more than max 4"),
        ([{"objects": "kiwi", "max": 4}], "kiwi is not among the objects"),
        ([{"colour": "red", "max": 4}], "colour is no factor"),
        ([{"objects": "apple", "max": -1}], "max is -1"),
        ([{"objects": "apple"}], "expected min or max"),
        ([{"max": 3}], "expected values of factors"),
    ],
)
def test_impossible_quotas_are_refused(quotas, says):
    with pytest.raises(PlanError, match=says):
        Scheduler(make(episodes=40, quotas=quotas))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"episodes": 0}, "episodes is 0"),
        ({"episodes": None}, "episodes is None"),
        ({"actions": None}, "actions: expected at least one"),
        ({"actions": {"put": {"words": 3}}}, "words is 3"),
        ({"objects": None}, "the plan has no objects"),
        ({"objects": ["apple", "apple"]}, "apple stands there twice"),
        ({"weights": {"objects": {"kiwi": 1}}}, "kiwi is not among the objects"),
        ({"weights": {"objects": {"apple": -1}}}, "apple is -1"),
        ({"exclude": [{"action": "put"}]}, "leave no configuration"),
        ({"layouts": 0}, "layouts is 0"),
        ({"speed": 3}, "speed is no key of a plan"),
        ({"layouts": 1000, "operators": [f"o{i}" for i in range(20)]}, "240000 configurations"),
    ],
)
def test_malformed_plans_are_refused_by_field(change, says):
    with pytest.raises(PlanError, match=says):
        make(**change)


def test_a_plan_file_is_named_in_its_errors(tmp_path):
    path = tmp_path / "plan.yaml"
    greedy = "{episodes: 3, actions: [wave], objects: [cup], quotas: [{objects: cup, min: 4}]}"
    for text, says in (
        ("a: [", "no YAML"),
        ("[]", "holds no mapping"),
        ("episodes: 3", "actions: expected"),
        (greedy, "quotas 1: "),
    ):
        path.write_text(text)
        with pytest.raises(PlanError, match=says) as caught:
            load_plan(path)
        assert str(path) in str(caught.value)
    with pytest.raises(PlanError, match="cannot be read"):
        load_plan(tmp_path / "none.yaml")


def test_what_is_given_is_kept():
    scheduler = Scheduler(make(operators=["ann", "bob"]))
    assert {scheduler.next({"operator": "bob"}).cell["operator"] for _ in range(10)} == {"bob"}
    with pytest.raises(PlanError, match="no operator 'eve', expected ann, bob"):
        scheduler.next({"operator": "eve"})


def test_excluded_configurations_are_never_drawn():
    scheduler = Scheduler(make(exclude=[{"objects": "pear", "destination": "bowl"}]))
    cells = [scheduler.next().cell for _ in range(200)]
    assert not any(c["objects"] == "pear" and c["destination"] == "bowl" for c in cells)


# Cards


def test_a_card_says_in_words_and_as_a_drawing_what_to_place_where():
    plan = make(backgrounds=["kitchen"], operators=["ann"])
    configuration = Scheduler(plan).next()
    card = card_of(plan, configuration)
    cell = configuration.cell
    assert card.instruction == f"put the {cell['objects']} into the {cell['destination']}"
    told = card.as_dict()
    assert told["steps"][0] == "Background: kitchen."
    assert told["steps"][-1] == f"Then: {card.instruction}."
    assert [place["role"] for place in told["places"]] == ["object", "destination"]
    assert told["diagram"].startswith("<svg")
    assert cell["objects"] in told["diagram"]
    assert card_of(plan, configuration) == card
    assert setup_of(plan, configuration) == {
        "task": "pick_place",
        "setting": "basic",
        "seed": configuration.seed,
        "instruction": card.instruction,
    }


def test_a_set_of_objects_is_laid_out_whole_and_one_of_it_is_asked_for():
    plan = make(objects={"fruit": ["apple", "lemon", "pear"], "boxes": ["milk carton", "juice box"]})
    scheduler = Scheduler(plan)
    asked = set()
    for _ in range(40):
        configuration = scheduler.next()
        text, objects, _ = instruction_of(plan, configuration)
        assert set(objects) == set(plan.meanings["objects"][configuration.cell["objects"]])
        assert text.startswith(f"put the {objects[0]} into")
        places = card_of(plan, configuration).places
        spots = np.array([(p.x, p.y) for p in places])
        gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1) + np.eye(len(spots))
        assert gaps.min() > 0.1
        asked.add(objects[0])
    assert asked == {"apple", "lemon", "pear", "milk carton", "juice box"}


def test_words_that_cannot_be_filled_in_are_refused():
    plan = make(actions={"put": {"words": "put {thing} away"}})
    with pytest.raises(PlanError, match="cannot be filled in"):
        card_of(plan, Scheduler(plan).next())
