"""Scenes of the suites beyond pick_place, and what the expert understands of their instructions."""

from dataclasses import replace

import numpy as np
import pytest
from bytemini_core.types import Observation, TaskStatus
from bytemini_description.robot import load_robot
from bytemini_sim.catalogue import kind_of, load_catalogue
from bytemini_sim.layout import gap
from bytemini_sim.table_bussing import BELONGS, SETS, UTENSILS, WOVEN
from bytemini_sim.task_expert import TaskExpert, goals_of
from bytemini_sim.tasks import TASKS, evaluation_settings, make_scorer, make_task
from bytemini_sim.world import World

ALL = [(name, setting) for name in TASKS for setting in TASKS[name].settings]


@pytest.fixture(scope="module")
def v1():
    return load_robot("v1")


@pytest.mark.parametrize(("name", "setting"), ALL)
def test_scenes_are_pure_functions_and_stand_free(name, setting):
    for seed in range(8):
        scene = make_task(name, setting).sample(seed)
        assert scene == make_task(name, setting).sample(seed)
        assert (scene.task, scene.setting, scene.seed) == (name, setting, seed)
        assert len(set(scene.names())) == len(scene.placed)
        for target, into in scene.asked if name != "bimanual" else ():
            assert {target, into} <= set(scene.names())
        if name == "bimanual":
            continue
        boxes = {box.name for box in scene.containers}
        for i, first in enumerate(scene.objects):
            for second in scene.placed[i + 1 :]:
                if name != "bin_picking" or second.name not in boxes:
                    assert gap(first, second) > 0


def test_the_training_setting_is_not_evaluated_on():
    assert "train" in TASKS["pick_place"].settings
    assert "train" not in evaluation_settings("pick_place")
    assert evaluation_settings("table_bussing")[0] == "flat"


def test_unknown_settings_and_instructions_are_refused():
    for name in ("table_bussing", "bin_picking", "bimanual"):
        with pytest.raises(ValueError, match="no setting 'dark'; there are"):
            make_task(name, "dark")
        with pytest.raises(ValueError, match="give none"):
            make_task(name).sample(0, "put the apple into the basket")
        with pytest.raises(ValueError, match="seed is -1"):
            make_task(name).sample(-1)


def test_table_bussing_draws_the_sets_and_settings_of_the_report():
    for seed in range(10):
        flat = make_task("table_bussing").sample(seed)
        assert {placed.name for placed in flat.objects} == set(SETS[seed % 5])
        assert dict(flat.goals) == {name: BELONGS[name] for name in SETS[seed % 5]}
        several = make_task("table_bussing", "if_multiple_objects").sample(seed)
        assert len(several.goals) >= 2
        assert len({kind_of(name) for name, _ in several.goals}) == 1
        either = make_task("table_bussing", "if_multiple_destinations").sample(seed)
        assert {WOVEN, UTENSILS} <= {box.name for box in either.containers}
        assert either.destination in (WOVEN, UTENSILS)
        novel = make_task("table_bussing", "if_novel_destinations").sample(seed)
        assert novel.destination != BELONGS[novel.target]
        invalid = make_task("table_bussing", "if_invalid").sample(seed)
        assert not invalid.valid
        assert invalid.target not in invalid.names()


def test_bin_picking_draws_as_many_as_the_report_from_their_namespace():
    for setting, least, most in (
        ("seen", 5, 9),
        ("unseen", 5, 9),
        ("cluttered_seen", 12, 17),
        ("cluttered_unseen", 12, 17),
    ):
        split = "held_out" if setting.endswith("unseen") else "seen"
        names = {item.name for item in load_catalogue().split(split)[0]}
        for seed in range(6):
            scene = make_task("bin_picking", setting).sample(seed)
            assert least <= len(scene.objects) <= most
            assert {placed.name for placed in scene.objects} <= names


def test_a_basket_can_be_emptied_one_thing_after_the_other():
    finger = 0.045  # thick, and opened a little beyond the thing
    for setting in ("seen", "cluttered_unseen"):
        left = list(make_task("bin_picking", setting).sample(3).objects)
        while left:
            free = [one for one in left if any(has_room(one, axis, finger, left) for axis in (0, 1))]
            assert free, [one.name for one in left]
            left = [one for one in left if one not in free]


def has_room(placed, axis, finger, others):
    """Whether fingers fit on both sides of a thing along an axis of its own."""
    size = list(placed.item.size)
    size[axis] += 2 * finger
    wide = replace(placed, item=replace(placed.item, size=tuple(size)))
    return all(other is placed or gap(wide, other) >= 0 for other in others)


@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, setting) for name, setting in ALL if name in ("table_bussing", "bin_picking") and "invalid" not in setting],
)
def test_the_expert_understands_what_is_asked(v1, name, setting):
    scene = make_task(name, setting).sample(1)
    world = World(v1, scene, cameras=())
    goals = goals_of(scene.instruction, world.scene_state())
    if goals is None:  # one thing: understood by PickPlaceExpert, tested there
        assert len(scene.asked) == 1
    else:
        assert set(goals) == set(scene.asked)


def test_one_hand_may_go_straight_where_the_other_goes_around(v1):
    """The way to this scene's tray has twice as many knots for one arm."""
    world = World(v1, make_task("bimanual", "carry_tray").sample(20091), cameras=())
    observation = Observation(world.time, world.scene.instruction, world.state(), scene=world.scene_state())
    chunk = TaskExpert(v1).infer(observation)
    assert chunk.task_status[0] == TaskStatus.ONGOING
    assert np.isfinite(chunk.values).all()


@pytest.mark.parametrize(("name", "setting"), [key for key in ALL if key[1] != "train"])
def test_things_come_to_rest_where_they_are_put(v1, name, setting):
    world = World(v1, make_task(name, setting).sample(2), cameras=())
    scorer = make_scorer(world)
    for _ in range(160):
        world.step(None)
        scorer.update()
    assert not scorer.result().manipulated
    assert not scorer.result().collisions
    assert (scorer.result().progress < 1.0) == (not setting.endswith("invalid"))
