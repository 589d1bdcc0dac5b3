"""The settings of pick_place: what each draws, and that training never meets what evaluation holds back."""

import dataclasses

import numpy as np
import pytest
from bytemini_sim.catalogue import load_catalogue
from bytemini_sim.expert import parse_instruction
from bytemini_sim.grammar import KINDS, resolve, things_placed
from bytemini_sim.looks import COLOR_DISTANCE, TRAINING_PATTERNS, UNSEEN
from bytemini_sim.pick_place import TRAINING_WORDINGS, PickPlace, batches
from bytemini_sim.scene import Look
from bytemini_sim.tasks import make_task

SEEDS = range(216)


def scenes(setting, seeds=SEEDS):
    task = make_task("pick_place", setting)
    return [task.sample(seed) for seed in seeds]


@pytest.fixture(scope="module")
def training():
    return scenes("train", range(400))


def kinds(scene):
    return {placed.item.kind for placed in scene.placed}


def test_the_batches_are_those_of_the_report():
    assert [len(batch) for batch in batches("seen", 6)] == [6] * 9
    assert [len(batch) for batch in batches("held_out", 5)] == [5] * 9
    seen, held_out = load_catalogue().split("seen")[0], load_catalogue().split("held_out")[0]
    known = {item.category for item in seen}
    assert np.mean([item.category not in known for item in held_out]) > 0.70, "GR-3 report, section 5.1"


def test_objects_of_training_and_of_unseen_objects_are_disjoint(training):
    trained = set().union(*map(kinds, training))
    held_out = {item.name for item in load_catalogue().split("held_out")[0]}
    assert not trained & held_out
    evaluated = {placed.item.kind for scene in scenes("unseen_objects") for placed in scene.objects}
    assert evaluated == held_out
    assert not evaluated & trained


def test_looks_of_training_and_of_unseen_environments_are_disjoint(training):
    assert not set(TRAINING_PATTERNS) & {look.pattern for look in UNSEEN.values()}
    unseen = list(UNSEEN.values())
    for scene in training:
        assert scene.look.pattern in TRAINING_PATTERNS
        if scene.look == Look():
            continue
        for look in unseen:
            assert np.linalg.norm(np.subtract(scene.look.table, look.table)) >= COLOR_DISTANCE
            if scene.look.wall is not None:
                assert np.linalg.norm(np.subtract(scene.look.wall, look.wall)) >= COLOR_DISTANCE
    for look in unseen:
        assert np.linalg.norm(np.subtract(Look().table, look.table)) >= COLOR_DISTANCE


def test_instructions_of_training_and_of_unseen_instructions_are_disjoint(training):
    names = {item.name for item in load_catalogue().split("seen")[0]}
    trained = {parse_instruction(scene.instruction)[0] for scene in training}
    assert trained <= names, "training speaks of things by name only"
    asked = {parse_instruction(scene.instruction)[0] for scene in scenes("unseen_instructions")}
    assert not asked & names
    assert not asked & trained


def test_no_layout_is_shared_between_training_and_evaluation(training):
    evaluated = {placed.position for setting in PickPlace.settings if setting != "train"
                 for scene in scenes(setting, range(60)) for placed in scene.placed}  # fmt: skip
    assert not evaluated & {placed.position for scene in training for placed in scene.placed}


def test_a_round_of_seeds_asks_for_every_object_once():
    assert {scene.target for scene in scenes("basic", range(54))} == {
        item.name for item in load_catalogue().split("seen")[0]
    }
    assert {scene.target for scene in scenes("unseen_objects", range(45))} == {
        item.name for item in load_catalogue().split("held_out")[0]
    }


def test_unseen_environments_keep_layout_and_question():
    for basic, unseen in zip(scenes("basic"), scenes("unseen_environments"), strict=True):
        changed = dataclasses.replace(unseen, look=basic.look, setting=basic.setting, group=basic.group)
        assert changed == basic
        assert unseen.look == UNSEEN[unseen.group]
    rooms = {(scene.target, scene.group) for scene in scenes("unseen_environments")}
    assert len(rooms) == 54 * 4, "every object comes to every room"


def test_unseen_instructions_mean_their_target_and_nothing_else():
    drawn = scenes("unseen_instructions")
    for seed, scene in enumerate(drawn):
        phrase, into = parse_instruction(scene.instruction)
        assert resolve(phrase, things_placed(scene.objects)) == scene.target
        assert into == scene.destination
        assert scene.group == KINDS[seed % len(KINDS)]
        assert len(scene.objects) == 6
    assert any("next to" in scene.instruction for scene in drawn)
    assert any("tentacles" in scene.instruction for scene in drawn)
    assert any("largest" in scene.instruction for scene in drawn)


def test_training_is_various(training):
    assert {len(scene.objects) for scene in training} == {2, 3, 4, 5, 6}
    assert {scene.look.pattern for scene in training} == set(TRAINING_PATTERNS)
    assert 0.1 < np.mean([scene.look == Look() for scene in training]) < 0.3
    starts = {wording.split(" {")[0] for wording in TRAINING_WORDINGS}
    assert {start for scene in training for start in starts if scene.instruction.startswith(start)} == starts
    plain = np.mean([scene.instruction == f"put the {scene.target} into the {scene.destination}" for scene in training])
    assert 0.35 < plain < 0.65


@pytest.mark.parametrize("setting", PickPlace.settings)
def test_a_scene_is_a_pure_function_of_its_setting_and_seed(setting):
    for seed in (0, 3, 2**62 + 1):
        assert make_task("pick_place", setting).sample(seed) == make_task("pick_place", setting).sample(seed)
