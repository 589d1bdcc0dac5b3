import itertools

import numpy as np
import pytest
from bytemini_sim.catalogue import load_catalogue
from bytemini_sim.layout import CONTAINER_GAP, OBJECT_GAP, gap, open_to_hand
from bytemini_sim.tasks import make_task
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = range(500)


@pytest.fixture(scope="module")
def scenes():
    task = make_task("pick_place")
    return [task.sample(seed) for seed in SEEDS]


def test_no_layout_collides_over_many_seeds(scenes):
    for scene in scenes:
        for first, second in itertools.combinations(scene.placed, 2):
            boxed = first.item.container or second.item.container
            assert gap(first, second) >= (CONTAINER_GAP if boxed else OBJECT_GAP)


def test_every_object_can_be_approached_and_lies_in_reach(scenes):
    for scene in scenes:
        for placed in scene.objects:
            x, y, z = placed.position
            assert 0.35 <= x <= 0.75
            assert abs(y) < 0.45
            assert 0.72 < z < 0.82
            assert open_to_hand(placed, scene.placed)


def test_scenes_are_various(scenes):
    assert len({scene.target for scene in scenes}) >= 24
    assert len({scene.destination for scene in scenes}) >= 4
    assert len({placed.name for scene in scenes for placed in scene.objects}) >= 30
    left = np.mean([placed.position[1] > 0 for scene in scenes for placed in scene.objects])
    assert 0.45 < left < 0.55


def test_a_scene_has_six_objects_a_container_and_says_what_it_asks(scenes):
    for scene in scenes:
        assert len(scene.objects) == 6
        assert len(scene.containers) >= 1
        assert len(set(scene.names())) == len(scene.placed)
        assert scene.target in [p.name for p in scene.objects]
        assert scene.destination in [p.name for p in scene.containers]
        assert scene.instruction == f"put the {scene.target} into the {scene.destination}"
        assert all(p.item.split == "seen" for p in scene.placed)
        assert scene.valid


@settings(max_examples=25, deadline=None)
@given(st.integers(min_value=0, max_value=2**63))
def test_a_scene_is_a_pure_function_of_its_seed(seed):
    assert make_task("pick_place").sample(seed) == make_task("pick_place").sample(seed)


def test_an_invalid_instruction_names_what_is_not_there():
    basic, invalid = make_task("pick_place"), make_task("pick_place", "invalid")
    for seed in range(40):
        scene = invalid.sample(seed)
        assert not scene.valid
        assert scene.target not in scene.names()
        assert scene.destination in scene.names()
        assert scene.objects == basic.sample(seed).objects, "only what is asked for differs"


@pytest.mark.parametrize(
    "words", ["put the apple into the basket", "Put apple in the basket.", " put the apple inside a basket! "]
)
def test_an_instruction_brings_its_object_and_container_into_the_scene(words):
    for seed in range(10):
        scene = make_task("pick_place").sample(seed, words)
        assert scene.target == "apple"
        assert scene.destination == "basket"
        assert "apple" in scene.names()
        assert "basket" in scene.names()
        assert len(scene.objects) == 6
        assert "apple" not in make_task("pick_place", "invalid").sample(seed, words).names()


def test_names_of_several_words_are_understood():
    scene = make_task("pick_place").sample(3, "put the rubik's cube into the carton")
    assert (scene.target, scene.destination) == ("rubik's cube", "carton")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("make me happy", "cannot understand"),
        ("put the unicorn into the basket", "no object is called 'unicorn'"),
        ("put the apple into the sky", "no container is called 'sky'"),
    ],
)
def test_an_instruction_that_cannot_be_served_is_refused_with_one_line(words, message):
    with pytest.raises(ValueError, match=message) as error:
        make_task("pick_place").sample(0, words)
    assert "\n" not in str(error.value)


def test_unknown_tasks_settings_and_seeds_are_refused():
    with pytest.raises(ValueError, match=r"no task is called 'fly'; there are .*pick_place"):
        make_task("fly")
    with pytest.raises(ValueError, match="no setting 'dark'; there are basic, unseen_environments"):
        make_task("pick_place", "dark")
    with pytest.raises(ValueError, match="seed is -1"):
        make_task("pick_place").sample(-1)


def test_held_out_things_are_never_drawn(scenes):
    held_out = {item.name for items in load_catalogue().split("held_out") for item in items}
    assert not held_out & {name for scene in scenes for name in scene.names()}
