"""What phrases mean, on scenes laid out by hand."""

import numpy as np
import pytest
from bytemini_sim.catalogue import load_catalogue
from bytemini_sim.grammar import KINDS, Thing, describe, plain, resolve


def thing(name, x, y, scale=1.0):
    item = load_catalogue().object(name.split(" #")[0])
    return Thing(name, item.kind, item.category, item.color, scale * np.array(item.size), np.array([x, y, 0.75]))


@pytest.fixture
def table():
    """Robot at the origin facing +x, so larger y is further left."""
    return [
        thing("coke", 0.50, 0.30),
        thing("coke #2", 0.50, -0.20),
        thing("sprite", 0.50, -0.32),
        thing("octopus", 0.62, 0.05),
        thing("egg", 0.40, 0.10),
    ]


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("the octopus", "octopus"),
        ("the left coke", "coke"),
        ("right coke", "coke #2"),
        ("coke next to the sprite", "coke #2"),
        ("the coke beside the sprite", "coke #2"),
        ("smallest object", "egg"),
        ("the animal with tentacles", "octopus"),
        ("marine animal", "octopus"),
        ("the toy", "octopus"),
        ("green drink", "sprite"),
        ("purple object", "octopus"),
        ("rightmost object", "sprite"),
        ("nearest object to the robot", "egg"),
        ("farthest thing", "octopus"),
        ("thing that a hen lays", "egg"),
        ("coke #2", "coke #2"),
        ("coke", None),
        ("drink", None),
        ("largest object", None),
        ("unicorn", None),
        ("", None),
        ("left octopus", None),
        ("banana next to the sprite", None),
        ("coke next to the banana", None),
    ],
)
def test_a_phrase_means_one_thing_or_none(table, phrase, name):
    assert resolve(phrase, table) == name


def test_what_hardly_differs_is_not_told_apart(table):
    assert resolve("leftmost object", table) == "coke"
    close = [*table, thing("apple", 0.5, 0.27)]
    assert resolve("leftmost object", close) is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_description_means_what_it_was_made_for(table, kind):
    found = describe(table, kind)
    assert found
    for phrase, name in found:
        assert resolve(phrase, table) == name
        assert resolve(f"The {phrase}", table) == name


def test_an_unknown_kind_of_phrase_is_refused(table):
    with pytest.raises(ValueError, match="no kind of phrase is called 'smell'; there are size"):
        describe(table, "smell")


def test_facts_are_about_objects_that_exist_and_never_contain_the_name():
    catalogue = load_catalogue()
    for phrase, names in catalogue.facts.items():
        assert plain(phrase) not in {item.category for item in catalogue.objects}
        for name in names:
            assert name not in plain(phrase)
