"""The scripted expert as a policy: chunks, refusals, determinism; episodes with plain control instead of the stack."""

import dataclasses

import numpy as np
import pytest
from bytemini_core.types import SIDES, JointCommand, Observation, TaskStatus
from bytemini_sim.expert import PickPlaceExpert, aside, find, parse_instruction
from bytemini_sim.layout import OBJECT_ZONE
from bytemini_sim.motion import Limits, Trajectory, duration
from bytemini_sim.planner import Planner
from bytemini_sim.tasks import make_task
from bytemini_sim.world import World


def observe(world, instruction=None):
    return Observation(
        stamp=world.time,
        instruction=world.scene.instruction if instruction is None else instruction,
        state=world.state(),
        scene=world.scene_state(),
    )


class PlainControl:
    """Follows the last chunk exactly: what optimiser and whole-body controller do, without either."""

    def __init__(self, world):
        robot = world.robot
        self.world, self.robot = world, robot
        self.times, self.rows = np.zeros(1), None

    def take(self, chunk, base):
        values = chunk.values.astype(float)
        c, s = np.cos(base[2]), np.sin(base[2])
        x, y = values[:, 16].copy(), values[:, 17].copy()
        values[:, 16], values[:, 17] = base[0] + c * x - s * y, base[1] + s * x + c * y
        values[:, 18] += base[2]
        now = chunk.stamp / 1e9
        self.index = self.robot.indices(chunk.names[:16])
        first = self.at(now) if self.rows is not None else np.append(self.world.state().position[self.index], base)
        self.times = now + chunk.dt * np.arange(len(values) + 1)
        self.rows = np.vstack([first, values])

    def at(self, t):
        return np.array([np.interp(t, self.times, column) for column in self.rows.T])

    def command(self):
        robot, state = self.robot, self.world.state()
        t = state.stamp / 1e9
        target, ahead = self.at(t), self.at(t + 0.02)
        rate = (ahead - target) / 0.02
        position, velocity = robot.home.copy(), np.zeros(len(robot.home))
        position[self.index], velocity[self.index] = target[:16], rate[:16]
        vx, vy, wz = rate[16:] + 4.0 * (target[16:] - state.base_pose)
        c, s = np.cos(state.base_pose[2]), np.sin(state.base_pose[2])
        gravity = np.array(
            [self.world.data.qfrc_bias[int(self.world.model.joint(name).dofadr[0])] for name in robot.joint_names]
        )
        return JointCommand(
            state.stamp, robot.joint_names, position, velocity, robot.stiffness, robot.damping, gravity,
            np.array([c * vx + s * vy, c * vy - s * vx, wz]),
        )  # fmt: skip


def episode(world, expert, seconds=25.0, on_chunk=None):
    """Run until the expert's last word; returns its chunks."""
    control, chunks = PlainControl(world), []
    for tick in range(round(seconds * 200)):
        if tick % 20 == 0:
            chunk = expert.infer(observe(world))
            chunks.append(chunk)
            control.take(chunk, world.state().base_pose)
            if on_chunk is not None:
                on_chunk(world, expert)
            if chunk.task_status[0] != TaskStatus.ONGOING:
                break
        world.step(control.command())
    return chunks


@pytest.fixture(scope="module")
def done(v1):
    """One episode that ran to its end: world, expert, chunks."""
    world = World(v1, make_task("pick_place").sample(10, "put the apple into the basket"), cameras=())
    expert = PickPlaceExpert(v1)
    return world, expert, episode(world, expert)


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("put the apple into the basket", ("apple", "basket")),
        ("  Please PUT the Rubik's cube in a Bowl. ", ("rubik's cube", "bowl")),
        ("place an egg inside the carton!", ("egg", "carton")),
        ("put red_block into tray", ("red block", "tray")),
        ("dance", None),
        ("", None),
        ("put the apple", None),
    ],
)
def test_instructions_are_understood_or_not(words, meaning):
    assert parse_instruction(words) == meaning


def test_things_are_found_by_name_or_by_unique_description(world):
    scene = world.scene_state()
    assert find(scene, "apple", container=False).name == "apple"
    assert find(scene, "apple", container=True) is None
    assert find(scene, "basket", container=True).name == "basket"
    assert find(scene, "container", container=True).name == "basket"
    assert find(scene, "unicorn", container=False) is None


def test_says_what_it_is(v1):
    metadata = PickPlaceExpert(v1).metadata
    assert metadata.privileged
    assert metadata.extra["simulation_only"]
    assert metadata.columns == tuple(v1.policy_columns)
    assert (metadata.horizon, metadata.dt, metadata.cameras) == (16, 0.1, ())


def test_the_plan_waits_for_a_robot_that_has_not_begun(v1):
    """However late its first chunk arrives, the motion begins at its beginning."""
    world = World(v1, make_task("pick_place").sample(10, "put the apple into the basket"), cameras=())
    expert = PickPlaceExpert(v1)
    first = expert.infer(observe(world))
    for _ in range(80):  # 0.4 s of a driver that holds: nothing has arrived
        world.step(None)
    late = expert.infer(observe(world))
    assert late.stamp - first.stamp == 400_000_000
    np.testing.assert_allclose(late.values, first.values, atol=0.002)


def test_needs_the_scene_and_a_sensible_noise(v1, world):
    blind = dataclasses.replace(observe(world), scene=None)
    with pytest.raises(ValueError, match=r"needs Observation\.scene"):
        PickPlaceExpert(v1).infer(blind)
    for scale in (-1.0, np.nan):
        with pytest.raises(ValueError, match="noise_scale"):
            PickPlaceExpert(v1, noise_scale=scale)


def test_chunks_stay_within_every_limit(v1, done):
    _, _, chunks = done
    index = v1.indices(v1.policy_columns[:16])
    for number, chunk in enumerate(chunks):
        assert chunk.names == tuple(v1.policy_columns)
        assert chunk.values.shape == (16, 19)
        assert chunk.sequence == number
        assert (chunk.values[:, :16] >= v1.lower[index] - 1e-6).all()
        assert (chunk.values[:, :16] <= v1.upper[index] + 1e-6).all()
        for wrist in (5, 12):
            assert np.hypot(chunk.values[:, wrist], chunk.values[:, wrist + 1]).max() < v1.wrist_tilt_limit
        rate = np.abs(np.diff(chunk.values, axis=0)) / chunk.dt
        assert (rate[:, :16] <= v1.velocity[index]).all()
        assert (rate[:, 16:] <= v1.base_policy_velocity).all()


def test_brings_the_apple_and_says_so(v1, done):
    world, expert, chunks = done
    assert expert.phase == "done"
    assert expert.attempts == 1
    assert (chunks[-1].task_status == TaskStatus.TERMINATED).all()
    assert all((chunk.task_status == TaskStatus.ONGOING).all() for chunk in chunks[:-1])
    assert 6.0 < chunks[-1].stamp / 1e9 < 14.0
    scene = world.scene_state()
    assert expert.is_inside(scene.find("apple"), scene.find("basket"))
    assert world.limits.total == 0
    arms = v1.indices([*v1.arm_joints("left"), *v1.arm_joints("right")])
    np.testing.assert_allclose(world.state().position[arms], v1.home[arms], atol=0.03)


def test_deciding_is_fast_but_for_the_plan(done):
    _, _, chunks = done
    assert np.median([chunk.inference_time for chunk in chunks]) < 0.01


@pytest.mark.parametrize("instruction", ["put the unicorn into the basket", "put the apple into the moon", "sing", ""])
def test_refuses_and_moves_nothing(v1, world, instruction):
    expert = PickPlaceExpert(v1)
    chunk = expert.infer(observe(world, instruction))
    assert (chunk.task_status == TaskStatus.INVALID).all()
    assert expert.phase == "invalid"
    assert expert.trouble
    present = world.state().position[v1.indices(v1.policy_columns[:16])]
    np.testing.assert_allclose(chunk.values[:, :16], np.tile(present, (16, 1)), atol=1e-6)
    assert not chunk.values[:, 16:].any()


def test_a_new_instruction_is_a_new_task(v1, world):
    expert = PickPlaceExpert(v1)
    assert expert.infer(observe(world, "sing")).task_status[0] == TaskStatus.INVALID
    assert expert.infer(observe(world)).task_status[0] == TaskStatus.ONGOING
    assert expert.phase == "approach"


def test_the_same_episode_twice_gives_the_same_chunks(v1, world):
    def words(scale, seed):
        expert = PickPlaceExpert(v1, noise_scale=scale, seed=seed)
        world.reset()
        control, values = PlainControl(world), []
        for tick in range(300):
            if tick % 20 == 0:
                chunk = expert.infer(observe(world))
                values.append(chunk.values)
                control.take(chunk, world.state().base_pose)
            world.step(control.command())
        return np.array(values)

    assert (words(0.0, 0) == words(0.0, 0)).all()
    noisy = words(1.0, 3)
    assert (noisy == words(1.0, 3)).all()
    assert not (noisy == words(0.0, 3)).all()


def test_noise_is_told_apart_from_intention(v1, world):
    expert = PickPlaceExpert(v1, noise_scale=2.0, seed=1)
    infer, away = expert.infer, []

    def remember(observation):
        chunk = infer(observation)
        away.append(np.abs(expert.intended.values - chunk.values).max())
        return chunk

    expert.infer = remember
    chunks = episode(world, expert)
    assert max(away) > 0.02
    assert min(away) == 0.0
    assert chunks[-1].task_status[0] == TaskStatus.TERMINATED


def test_follows_an_object_that_moves_before_it_is_grasped(v1, world):
    expert = PickPlaceExpert(v1)
    moved = []

    def push(world, _):
        if world.time > 0.8e9 and not moved:
            moved.append(True)
            address = int(world.model.joint("item/apple").qposadr[0])
            world.data.qpos[address] += 0.03

    chunks = episode(world, expert, on_chunk=push)
    assert expert.attempts == 2
    assert chunks[-1].task_status[0] == TaskStatus.TERMINATED


def test_what_was_brought_in_before_stays_there(v1):
    """Taking over after the release, it goes home and says so; at home, it says so at once."""
    world = World(v1, make_task("pick_place").sample(10, "put the apple into the basket"), cameras=())
    first = PickPlaceExpert(v1)
    control = PlainControl(world)
    for tick in range(25 * 200):
        if tick % 20 == 0:
            control.take(first.infer(observe(world)), world.state().base_pose)
            if first.phase == "retreat":
                break
        world.step(control.command())
    second = PickPlaceExpert(v1)
    chunks = episode(world, second)
    assert chunks[-1].task_status[0] == TaskStatus.TERMINATED
    assert second.attempts == 0
    arms = v1.indices([*v1.arm_joints("left"), *v1.arm_joints("right")])
    np.testing.assert_allclose(world.state().position[arms], v1.home[arms], atol=0.05)
    assert PickPlaceExpert(v1).infer(observe(world)).task_status[0] == TaskStatus.TERMINATED


def hidden(robot, world, side, posture):
    """Share of the places for objects that an arm hides from the head camera."""
    planner = Planner(robot)
    lift = float(robot.home[robot.joint_names.index("lift_joint")])
    x, y = (np.linspace(*span, 30) for span in (OBJECT_ZONE.x, OBJECT_ZONE.y))
    places = np.stack(np.meshgrid(x, y, [0.75], indexing="ij"), axis=-1).reshape(-1, 3)
    eye = world.frame("head_camera_optical_frame")[:3, 3]
    rays = places - eye
    covered = np.zeros(len(places), dtype=bool)
    parts = planner.body.spheres(planner.arms[side], posture, np.array(planner.open[side]), lift)
    for centres, radius in parts.values():
        along = np.clip((rays @ (centres - eye).T) / (rays**2).sum(1, keepdims=True), 0.0, 1.0)
        apart = np.linalg.norm(eye + along[..., None] * rays[:, None] - centres, axis=-1)
        covered |= (apart < radius).any(axis=1)
    return covered.mean()


def test_clears_the_view_first_and_rests_beside_it(v1):
    """Arms at home hide things from the head camera: an expert to learn from takes them away before it begins."""
    world = World(v1, make_task("pick_place").sample(10, "put the apple into the basket"), cameras=())
    for side in SIDES:
        assert hidden(v1, world, side, v1.home[v1.indices(v1.arm_joints(side))]) > 0.05
        assert hidden(v1, world, side, aside(v1, side)) == 0.0
    expert, phases, arms, meant = PickPlaceExpert(v1, clears_view=True), [], {}, []
    index = v1.indices([*v1.arm_joints("left"), *v1.arm_joints("right")])

    def note(world, expert):
        phases.append(expert.phase)
        arms.setdefault(expert.phase, world.state().position[index])
        if expert.phase == "look":
            meant.append(expert.intended.values)

    episode(world, expert, on_chunk=note)
    begun = list(dict.fromkeys(phases))
    assert begun[:3] == ["clear", "look", "approach"]
    assert len(meant) >= 2
    np.testing.assert_allclose(meant[0], meant[-1], atol=0.02, err_msg="it means to begin, however long it has looked")
    assert np.abs(meant[0][-1, :14] - arms["look"]).max() > 0.1
    assert begun[-1] == "done"
    beside = np.concatenate([aside(v1, side) for side in SIDES])
    for phase in ("look", "approach", "done"):
        np.testing.assert_allclose(arms[phase], beside, atol=0.05, err_msg=phase)
    assert world.limits.total == 0
    # Not at home: there is nothing to clear; and what is inside stays there.
    again = PickPlaceExpert(v1, clears_view=True)
    assert again.infer(observe(world)).task_status[0] == TaskStatus.TERMINATED


def test_takes_a_lost_object_again(v1, world):
    expert = PickPlaceExpert(v1)
    home = world.object_poses().copy()
    lost = []

    def steal(world, expert):
        if expert.phase == "transfer" and not lost:
            lost.append(True)
            address = int(world.model.joint("item/apple").qposadr[0])
            place = [p.name for p in world.scene.placed].index("apple")
            world.data.qpos[address : address + 3] = home[place, :3]
            speed = int(world.model.joint("item/apple").dofadr[0])
            world.data.qvel[speed : speed + 6] = 0.0

    chunks = episode(world, expert, seconds=30.0, on_chunk=steal)
    assert lost
    assert expert.attempts >= 2
    assert chunks[-1].task_status[0] == TaskStatus.TERMINATED


def test_trajectories_keep_limits_and_blend_without_jumps():
    limits = Limits(np.array([1.0, 0.5]), np.array([5.0, 2.0]), np.array([80.0, 40.0]))
    path = np.linspace([0.0, 0.0], [1.0, -0.5], 12) + 0.1 * np.sin(np.linspace(0, np.pi, 12))[:, None]
    motion = Trajectory(2.0, path[0], velocity=np.array([0.3, 0.0]))
    motion.append("out", path, limits)
    motion.append("wait", path[[-1, -1]], limits, at_least=0.5, overlap=-0.2)
    motion.append("back", path[::-1], limits, overlap=0.3)
    times = np.arange(2.0, motion.end + 0.2, 0.002)
    q = motion.sample(times)
    v = np.diff(q, axis=0) / 0.002
    # While the initial velocity is braked both add up; afterwards each segment keeps its limits.
    later = np.abs(v[times[1:] > 2.0 + Trajectory.BRAKE])
    assert (later.max(axis=0) <= 1.03 * limits.velocity).all()
    assert np.abs(np.diff(v, axis=0)).max() < 0.05
    np.testing.assert_allclose(v[0], [0.3, 0.0], atol=0.02)
    np.testing.assert_allclose(q[-1], motion.goal, atol=1e-9)
    assert motion.phase(2.0) == "out"
    assert motion.phase(motion.end) == "back"
    assert motion.when("nothing") == np.inf
    assert duration(path, limits) > 1.0
