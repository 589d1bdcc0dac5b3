"""Here, and only here, things are put where a test wants them: to see that the verdict follows from where they are."""

import numpy as np
import pytest
from bytemini_sim.scoring import MILESTONES, REFUSAL_SECONDS, Scorer
from bytemini_sim.tasks import make_task
from bytemini_sim.world import World


def put(world, name, position):
    """Move a thing, at rest, upright."""
    joint = world.data.joint(f"item/{name}")
    joint.qpos[:3] = position
    joint.qpos[3:] = (1, 0, 0, 0)
    joint.qvel[:] = 0.0


def watch(world, scorer, seconds, command=None):
    for _ in range(round(seconds * 200)):
        world.step(command(world) if command else None)
        scorer.update()


def pose(world, name):
    return world.scene_state().find(name).pose[:3]


def test_nothing_done_is_nothing_won(world):
    scorer = Scorer(world)
    watch(world, scorer, 1.0)
    result = scorer.result()
    assert not result.success
    assert not result.instruction_following
    assert result.progress == 0.0
    assert result.failure == "did not approach the apple"
    assert result.collisions == ()
    assert result.limit_violations == 0
    assert result.manipulated == ()
    assert result.sim_seconds == pytest.approx(1.0)
    assert result.max_joint_jerk == 0.0
    assert result.max_measured_jerk < 1.0
    assert set(result.final_poses) == set(world.scene.names())


@pytest.mark.parametrize("container", ["basket", "bowl", "carton", "tray"])
@pytest.mark.parametrize("target", ["apple", "coke", "banana", "egg"])
def test_the_named_object_in_the_container_is_success(v1, target, container):
    world = World(v1, make_task("pick_place").sample(1, f"put the {target} into the {container}"), cameras=())
    scorer = Scorer(world)
    x, y, z = pose(world, container)
    put(world, target, (x + 0.02, y - 0.02, z + 0.08))
    assert not scorer.success
    watch(world, scorer, 1.5)
    assert scorer.success
    assert scorer.done
    assert scorer.phase == "inside"
    result = scorer.result()
    assert result.success
    assert result.progress == 1.0
    assert result.failure == ""
    assert not result.instruction_following, "no hand ever approached it"


def test_another_object_in_the_container_is_none(world):
    scorer = Scorer(world)
    other = next(p.name for p in world.scene.objects if p.name != "apple")
    put(world, other, np.add(pose(world, "basket"), (0, 0, 0.1)))
    watch(world, scorer, 1.5)
    assert not scorer.success
    assert other in scorer.manipulated


def test_beside_and_on_the_rim_is_not_inside(world):
    scorer = Scorer(world)
    x, y = pose(world, "basket")[:2]
    inner = next(p.item for p in world.scene.containers).inner
    put(world, "apple", (x, y + inner[1] / 2 + 0.07, 0.76))
    watch(world, scorer, 0.5)
    assert not scorer.milestones["inside"]


def test_a_thing_on_the_floor_is_lost(world):
    scorer = Scorer(world)
    put(world, "apple", (0.7, -0.8, 0.5))
    watch(world, scorer, 1.0)
    assert scorer.done
    assert scorer.result().failure == "the apple fell off the table"


def test_a_hand_that_stays_near_an_object_has_approached_it(v1):
    for name, following in (("apple", True), ("potato", False)):
        world = World(v1, make_task("pick_place").sample(10, "put the apple into the basket"), cameras=())
        scorer = Scorer(world)
        for _ in range(60):  # hold it up before the open hand
            put(world, name, world.frame("left_tcp")[:3, 3])
            world.step(None)
            scorer.update()
        result = scorer.result()
        assert result.first_approached == name
        assert result.instruction_following is following
        assert result.milestones["approached"] is following
        if not following:
            assert result.failure.startswith("approached the potato first; did not approach the apple")


def test_passing_by_is_not_approaching(world):
    scorer = Scorer(world)
    for _ in range(20):  # 0.1 s
        put(world, "potato", world.frame("left_tcp")[:3, 3])
        world.step(None)
        scorer.update()
    put(world, "potato", (0.5, 0.0, 0.8))
    watch(world, scorer, 0.3)
    assert scorer.first_approached == ""


def test_an_invalid_instruction_is_won_by_leaving_everything_alone(v1):
    world = World(v1, make_task("pick_place", "invalid").sample(2), cameras=())
    scorer = Scorer(world)
    watch(world, scorer, REFUSAL_SECONDS - 0.1)
    assert not scorer.done
    watch(world, scorer, 0.2)
    assert scorer.done
    result = scorer.result()
    assert result.success
    assert result.instruction_following
    assert result.failure == ""
    assert result.progress == 1.0


def test_an_invalid_instruction_is_lost_by_moving_anything(v1):
    world = World(v1, make_task("pick_place", "invalid").sample(2), cameras=())
    scorer = Scorer(world)
    name = world.scene.objects[0].name
    put(world, name, np.add(pose(world, name), (0.03, 0, 0)))
    watch(world, scorer, 0.5)
    assert scorer.done
    result = scorer.result()
    assert not result.success
    assert result.manipulated == (name,)
    assert result.failure == f"manipulated {name} although the instruction was invalid"


def test_hitting_table_and_self_is_noted_once_with_names(world, command):
    scorer = Scorer(world)
    robot = world.robot
    position = robot.home.copy()
    position[robot.indices(["left_shoulder_roll_joint", "right_shoulder_roll_joint"])] = -0.3
    position[robot.indices(["left_shoulder_yaw_joint", "right_shoulder_yaw_joint"])] = 0.9
    watch(world, scorer, 1.5, lambda w: command(w, position))
    hits = [(c.first, c.second) for c in scorer.result().collisions]
    assert any(a.startswith("right") and b.startswith("left") for a, b in hits), hits
    world.reset()
    scorer = Scorer(world)
    position = robot.home.copy()
    position[0] = 0.0
    position[robot.indices(["left_shoulder_pitch_joint"])] = -0.3
    watch(world, scorer, 2.0, lambda w: command(w, position))
    collisions = scorer.result().collisions
    assert any(c.second == "table" for c in collisions), collisions
    assert len(collisions) < 10
    assert " hit table at " in " ".join(map(str, collisions))


def test_jerk_is_told_of_commands_and_of_motion(world, command):
    scorer = Scorer(world)
    elbow = world.robot.indices(["left_elbow_joint"])[0]

    def smooth(w):
        t = w.time / 1e9
        position, velocity = w.robot.home.copy(), np.zeros(19)
        position[elbow] -= 0.1 * t**3
        velocity[elbow] = -0.3 * t**2
        return command(w, position, velocity)

    watch(world, scorer, 1.0, smooth)
    result = scorer.result()
    assert result.max_joint_jerk == pytest.approx(0.6, rel=0.05)
    assert 0.0 < result.max_measured_jerk < 100.0
    jump = world.robot.home.copy()
    jump[elbow] -= 0.3
    watch(world, scorer, 0.1, lambda w: command(w, jump))
    assert scorer.result().max_joint_jerk > 1e5


def test_milestones_are_named_in_order():
    assert MILESTONES == ("approached", "grasped", "lifted", "over", "inside")
