"""The log of an episode's motion, and the picture that is drawn of it."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
from bytemini_core.types import JointCommand, Mode, RobotState, TaskStatus, WbcStatus
from bytemini_description.robot import RobotModel, load_robot
from bytemini_sim.results import plots
from bytemini_sim.results.plots import plot_episode
from bytemini_sim.results.trajectory import BLOCK, Event, Trajectory, TrajectoryLog
from PIL import Image

TICK = 5_000_000
PHASES = (("approach", 3.0), ("pre-grasp", 5.0), ("grasp", 6.0), ("lift", 7.5), ("carry", 10.5), ("release", 11.5))


def phase_at(seconds: float) -> str:
    return next((name for name, end in PHASES if seconds < end), "retreat")


def synthetic_log(robot: RobotModel, seconds: float = 15.0, violent: bool = False) -> TrajectoryLog:
    """Sines around home that stay within the limits; `violent` adds one spike beyond the jerk limit."""
    rng = np.random.default_rng(7)
    log = TrajectoryLog(robot.joint_names)
    n = len(robot.joint_names)
    rate = rng.uniform(0.2, 0.5, n) * 2 * np.pi
    room = np.minimum(robot.upper - robot.home, robot.home - robot.lower)
    swing = np.minimum(0.4 * room, 0.6 * np.minimum(robot.velocity / rate, robot.jerk / rate**3))
    zeros = np.zeros(n)
    for index in range(int(seconds * 200)):
        t = index * TICK / 1e9
        grow = 1 - float(np.exp(-((t / 2) ** 4)))
        position = robot.home + grow * swing * np.sin(rate * t)
        velocity = grow * swing * rate * np.cos(rate * t)
        if violent and index == 1300:
            position = position + 0.002
        base_pose = np.array([0.15 * (1 - np.cos(0.4 * t)), 0.05 * np.sin(0.4 * t), 0.1 * np.sin(0.2 * t)])
        twist = np.array([0.06 * np.sin(0.4 * t), 0.02 * np.cos(0.4 * t), 0.02 * np.cos(0.2 * t)]) * grow
        state = RobotState(index * TICK, robot.joint_names, position, velocity, zeros, base_pose, twist)
        command = JointCommand(
            index * TICK, robot.joint_names, position + 0.001 * swing, velocity, zeros, zeros, zeros, twist
        )
        mode = Mode.HOLD if t < 0.3 else Mode.POLICY
        active = ("right_elbow_joint velocity",) if 4 < t < 4.5 else ()
        done = t > 12.2
        confidence = min(0.99, 0.55 + 0.03 * t + 0.03 * float(np.sin(5 * t)))
        log.append(
            state,
            command,
            WbcStatus(index * TICK, mode, active=active),
            TaskStatus.TERMINATED if done else TaskStatus.ONGOING,
            confidence,
            phase_at(t),
        )
    log.event(6_200_000_000, "collision", "right_finger with the table")
    log.event(6_500_000_000, "collision", "right_finger with the table")
    log.event(9_000_000_000, "chunk refused", "stale by 0.31 s")
    return log


NAMES = ("a", "b")


def state(stamp: int, position: object = (0.0, 0.0), names: tuple[str, ...] = NAMES) -> RobotState:
    zeros = np.zeros(len(names))
    return RobotState(stamp, names, np.asarray(position, dtype=float), zeros, zeros)


def command(stamp: int, position: object = (0.0, 0.0), names: tuple[str, ...] = NAMES) -> JointCommand:
    zeros = np.zeros(len(names))
    return JointCommand(
        stamp, names, np.asarray(position, dtype=float), zeros, zeros, zeros, zeros, np.array([1, 2, 3])
    )


def test_everything_appended_comes_back() -> None:
    log = TrajectoryLog(NAMES)
    log.append(state(0, (1, 2)), command(0, (3, 4)))
    log.append(
        state(TICK, (6, 5, 9), ("b", "a", "mimic")),
        command(TICK, (8, 7), ("b", "a")),
        WbcStatus(TICK, Mode.POLICY, active=("a velocity", "b, effort")),
        TaskStatus.TERMINATED,
        0.75,
        "grasp",
    )
    log.event(TICK, "collision", "finger with the table")
    log.event(0, "start")
    trajectory = log.trajectory()
    assert len(log) == len(trajectory) == 2
    assert trajectory.position.tolist() == [[1, 2], [5, 6]], "by name, not by place"
    assert trajectory.command.tolist() == [[3, 4], [7, 8]]
    assert trajectory.base_twist.tolist() == [[1, 2, 3]] * 2
    assert trajectory.time.tolist() == [0.0, 0.005]
    assert [list(Mode)[code] for code in trajectory.mode] == [Mode.HOLD, Mode.POLICY]
    assert [trajectory.constraints[code] for code in trajectory.active] == [(), ("a velocity", "b, effort")]
    assert trajectory.task_status.tolist() == [0, 1]
    assert trajectory.confidence.tolist() == [0.0, 0.75]
    assert [trajectory.phases[code] for code in trajectory.phase] == ["", "grasp"]
    assert trajectory.events == (Event(0, "start"), Event(TICK, "collision", "finger with the table"))


def test_blocks_are_seamless_and_logging_goes_on_after_a_look() -> None:
    log = TrajectoryLog(NAMES)
    for index in range(BLOCK + 3):
        log.append(state(index * TICK, (index, -index)), command(index * TICK))
        if index == BLOCK - 1:
            assert len(log.trajectory()) == BLOCK
    trajectory = log.trajectory()
    assert len(trajectory) == BLOCK + 3
    np.testing.assert_array_equal(trajectory.position[:, 0], np.arange(BLOCK + 3))
    log.append(state((BLOCK + 3) * TICK, (99, 99)), command(0))
    assert len(trajectory) == BLOCK + 3, "what was handed out does not change"


def test_jerk_of_a_cubic_is_exact_and_late_ticks_are_left_out() -> None:
    log = TrajectoryLog(NAMES)
    t = np.arange(40) * TICK / 1e9
    for index, moment in enumerate(t):
        log.append(state(index * TICK), command(index * TICK, (moment**3, -2 * moment**3)))
    trajectory = log.trajectory()
    jerk = trajectory.jerk()
    np.testing.assert_allclose(jerk[3:, 0], 6.0, rtol=1e-6)
    assert (jerk[:3] == 0).all()
    assert trajectory.max_jerk() == pytest.approx(12.0, rel=1e-6)
    late = dataclasses.replace(trajectory, stamp=trajectory.stamp + np.where(np.arange(40) >= 20, 3 * TICK, 0))
    jerk = late.jerk()
    assert (jerk[20:23] == 0).all()
    np.testing.assert_allclose(jerk[23:, 0], 6.0, rtol=1e-6)


def test_short_episodes_have_no_jerk() -> None:
    log = TrajectoryLog(NAMES)
    assert log.trajectory().max_jerk() == 0.0
    assert log.trajectory().time.shape == (0,)
    log.append(state(0), command(0))
    assert log.trajectory().max_jerk() == 0.0


def test_the_digest_sees_every_bit() -> None:
    robot = load_robot("v1")
    one = synthetic_log(robot, 1.0).trajectory()
    assert one.digest() == synthetic_log(robot, 1.0).trajectory().digest()
    seen = {one.digest()}
    for name in ("stamp", "position", "command", "base_pose", "base_twist", "confidence", "mode", "phase"):
        array = getattr(one, name).copy()
        array.flat[7] = (
            np.nextafter(array.flat[7], array.dtype.type(2)) if array.dtype.kind == "f" else array.flat[7] + 1
        )
        seen.add(dataclasses.replace(one, **{name: array}).digest())
    seen.add(dataclasses.replace(one, phases=("", "other", *one.phases[2:])).digest())
    assert len(seen) == 10


def test_a_file_brings_it_all_back(tmp_path: Path) -> None:
    trajectory = synthetic_log(load_robot("v1"), 15.0).trajectory()
    path = tmp_path / "sub" / "episode.npz"
    trajectory.save(path)
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_size < 2_500_000
    again = Trajectory.load(path)
    assert again.digest() == trajectory.digest()
    for name in ("names", "events", "phases", "constraints"):
        assert getattr(again, name) == getattr(trajectory, name)
    empty = TrajectoryLog(NAMES).trajectory()
    empty.save(path)
    assert Trajectory.load(path).digest() == empty.digest()


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "episode.npz"
    trajectory = synthetic_log(load_robot("v1"), 0.2).trajectory()
    trajectory.save(path)
    with np.load(path) as data:
        good = {name: data[name] for name in data.files}
    edits = {
        "format 9": {"format": np.int64(9)},
        "position is float32": {"position": good["position"].astype(np.float32)},
        "velocity is float64": {"velocity": good["velocity"][:-1]},
        "phase points beyond": {"phase": good["phase"] + 50},
    }
    for words, edit in edits.items():
        np.savez(path, **(good | edit))
        with pytest.raises(ValueError, match=f"episode.npz is not a trajectory.*{words}"):
            Trajectory.load(path)
    np.savez(path, **{name: array for name, array in good.items() if name != "stamp"})
    with pytest.raises(ValueError, match="stamp"):
        Trajectory.load(path)
    np.savez(path, **(good | {"names": np.array([object()])}))
    with pytest.raises(ValueError, match="is not a trajectory"):
        Trajectory.load(path)
    for content in (b"", b"PK\x03\x04 torn", b"nonsense"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a trajectory"):
            Trajectory.load(path)


def test_bad_ticks_are_refused() -> None:
    log = TrajectoryLog(NAMES, limit=BLOCK)
    log.append(state(TICK), command(TICK))
    with pytest.raises(ValueError, match="does not come after"):
        log.append(state(TICK), command(TICK))
    with pytest.raises(ValueError, match="logs b, which the message does not name"):
        log.append(state(2 * TICK, (1.0,), ("a",)), command(2 * TICK))
    assert len(log) == 1
    for index in range(2, BLOCK + 1):
        log.append(state(index * TICK), command(index * TICK))
    with pytest.raises(ValueError, match=f"longer than {BLOCK} ticks"):
        log.append(state((BLOCK + 1) * TICK), command(0))


def test_appending_is_cheap() -> None:
    robot = load_robot("v1")
    q = robot.home
    log = TrajectoryLog(robot.joint_names)
    states = [RobotState(index * TICK, robot.joint_names, q, q, q) for index in range(4000)]
    sent = JointCommand(0, robot.joint_names, q, q, q, q, q)
    status = WbcStatus(0, Mode.POLICY, active=("x",))
    took = []
    for batch in np.array_split(np.arange(4000), 40):
        start = time.perf_counter()
        for index in batch:
            log.append(states[index], sent, status, TaskStatus.ONGOING, 0.9, "grasp")
        took.append((time.perf_counter() - start) / len(batch))
    assert min(took) < 5e-6, "the best batch, because this machine may be busy with other things"


@pytest.mark.parametrize(("robot", "violent"), [("v1", False), ("v2", True)])
def test_one_small_legible_picture(tmp_path: Path, robot: str, violent: bool) -> None:
    model = load_robot(robot)
    path = tmp_path / "plots" / "episode.png"
    plot_episode(
        synthetic_log(model, violent=violent).trajectory(), model, path, "put $x_0 into the basket", "a", False
    )
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_size < 300_000
    with Image.open(path) as picture:
        assert picture.size == (1600, 1200)
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    # Every joint's colour is on the paper.
    for color in plots.COLORS:
        wanted = [int(color[index : index + 2], 16) for index in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(axis=2) < 24).sum() > 100, color


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.02])
def test_next_to_nothing_is_drawn_too(tmp_path: Path, seconds: float) -> None:
    robot = load_robot("v1")
    log = synthetic_log(robot, seconds) if seconds else TrajectoryLog(robot.joint_names)
    plot_episode(log.trajectory(), robot, tmp_path / "short.png", "")
    assert (tmp_path / "short.png").is_file()


def test_another_robots_trajectory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the robot has no fin_joint"):
        plot_episode(TrajectoryLog(("fin_joint",)).trajectory(), load_robot("v1"), tmp_path / "x.png", "")


def test_thinning_keeps_every_extreme() -> None:
    values = np.random.default_rng(0).normal(size=20_011)
    values[12_345] = 99.0
    values[20_010] = -99.0
    time = np.arange(len(values)) * 0.005
    at, thin = plots._envelope(time, values, 1000)
    assert len(at) == len(thin) <= 1002
    assert (thin.max(), thin.min()) == (99.0, -99.0)
    assert (np.diff(at) >= 0).all()
    short = plots._envelope(time[:10], values[:10], 1000)
    np.testing.assert_array_equal(short[1], values[:10])


def test_runs_cover_everything_once() -> None:
    assert plots._runs(np.array([2, 2, 0, 1, 1, 1])) == [(0, 2, 2), (2, 3, 0), (3, 6, 1)]
    assert plots._runs(np.array([], dtype=int)) == []
