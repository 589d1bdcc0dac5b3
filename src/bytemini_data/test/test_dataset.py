"""What is special about ByteMini datasets: frames, people, quality, repair, merging, the report."""

import json
import re
import shutil

import numpy as np
import pytest
from bytemini_core.errors import UserError
from bytemini_core.types import CAMERAS, RobotState, TaskStatus
from bytemini_data.check import check, examine, repair, summary
from bytemini_data.copy import merge
from bytemini_data.data import main
from bytemini_data.episode import Story, assess, commit, open_writer
from bytemini_data.features import ACTION, HANDS, MASKS, STATE, Layout, Moment, policy_chunk
from bytemini_data.human import import_take, read_take
from bytemini_data.lerobot import Dataset, DatasetError
from bytemini_data.lerobot.video import VideoWriter
from bytemini_data.plan import parse_plan
from bytemini_data.quality import BOUNDS, FAIL, PASS, WARN, judge
from bytemini_data.report import make_report
from bytemini_description.robot import load_robot

ROBOT = load_robot("v1")
FPS = 10
SIZE = (64, 64)
PLAN = {
    "actions": {"put": {"words": "put the {object} into the {destination}"}},
    "objects": ["apple", "pear"],
    "destinations": ["bowl"],
    "episodes": 4,
}


def view(frame, camera):
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    wave = 128 + 90 * np.sin(rows / 9 + frame / 2) * np.cos(columns / 11 + camera)
    return np.stack([wave, wave * 0.5, 255 - wave], -1).clip(0, 255).astype(np.uint8)


def position(frame):
    """Arms that swing smoothly, hands in front."""
    swing = 0.1 * np.sin(2 * np.pi * frame / 40)
    return ROBOT.home + swing * np.array(["shoulder" in name or "elbow" in name for name in ROBOT.joint_names])


def moment(frame, **change):
    here, after, before = position(frame), position(frame + 1), position(frame - 1)
    state = RobotState(
        frame * 10**8, ROBOT.joint_names, here, (after - before) / 0.2, np.zeros(19), np.array([0.01 * frame, 0, 0])
    )
    target = np.concatenate((after, [0.01 * (frame + 1), 0, 0]))
    values = {
        "images": {camera: view(frame, i) for i, camera in enumerate(CAMERAS)},
        "state": state,
        "target": target,
        "task_status": TaskStatus.ONGOING,
        "mode": "TELEOP",
    }
    return Moment(**{**values, **change})


def add(writer, layout, moments, task="put the apple into the bowl", success=True, cell=None):
    with writer.begin(task) as building:
        for each in moments:
            building.add(layout.frame(each))
        staged = building.finish()
    quality = assess(staged, FPS, ROBOT)
    configuration = {
        "draw": writer.episodes,
        "cell": cell or {"action": "put", "objects": "apple", "destination": "bowl"},
    }
    commit(writer, staged, quality, Story(success, "ann", configuration, {"instruction": task}, "native/x"))
    return quality


@pytest.fixture(scope="module")
def layout():
    return Layout(ROBOT, SIZE, FPS)


@pytest.fixture(scope="module")
def made(tmp_path_factory, layout):
    """Three good episodes, made once; tests that change them take a copy."""
    root = tmp_path_factory.mktemp("made") / "set"
    with open_writer(root, layout) as writer:
        for i in range(3):
            quality = add(writer, layout, [moment(f) for f in range(30 + i)])
            assert quality.verdict == PASS, quality.reasons
    return root


@pytest.fixture
def copied(made, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(made, root)
    return root


def test_frames_hold_what_was_measured_and_where_to_be_next(made):
    data = Dataset(made, {ACTION: [i / FPS for i in range(4)]})
    sample = data[10]
    names = data.names(STATE)
    np.testing.assert_allclose(sample[STATE][:19], position(10), atol=1e-6)
    np.testing.assert_allclose(sample[ACTION][0][:19], position(11), atol=1e-6)
    chunk = policy_chunk(sample[STATE], sample[ACTION], names, ROBOT.policy_columns)
    assert chunk.shape == (4, 19)
    np.testing.assert_allclose(chunk[:, ROBOT.policy_columns.index("base/x")], [0.01, 0.02, 0.03, 0.04], atol=1e-6)
    assert data.rows[0].fields["verdict"] == PASS
    assert data[29]["next.done"]
    assert data[29]["next.success"]
    assert not data[28]["next.done"]
    assert sample["quality"] == 1.0
    left = sample[HANDS][:3]
    assert 0.1 < left[0] < 1.0
    assert left[1] > 0 > sample[HANDS][8]


@pytest.mark.parametrize("yaw", [0.0, 1.2, -3.1])
def test_base_columns_are_relative_to_where_the_robot_stands(yaw):
    names = (*ROBOT.joint_names, "odom/x", "odom/y", "odom/yaw")
    state = np.zeros(22)
    state[-3:] = [1.0, -2.0, yaw]
    ahead = np.zeros((1, 22))
    ahead[0, -3:] = [1.0 + np.cos(yaw), -2.0 + np.sin(yaw), yaw + 0.3 - 2 * np.pi * (yaw > 0)]
    chunk = policy_chunk(state, ahead, names, ("base/x", "base/y", "base/yaw"))
    np.testing.assert_allclose(chunk, [[1.0, 0.0, 0.3]], atol=1e-6)
    with pytest.raises(ValueError, match="no column 'tail'"):
        policy_chunk(state, ahead, names, ("tail",))


def test_modality_speaks_of_slices_that_hold_the_named_joints(made, layout):
    modality = json.loads((made / "meta/modality.json").read_text())
    names = layout.columns
    covered = []
    for part, span in modality["state"].items():
        inside = names[span["start"] : span["end"]]
        covered += inside
        if part.endswith("_arm"):
            assert inside == ROBOT.arm_joints(part.removesuffix("_arm"))
    assert sorted(covered) == sorted(names)
    assert set(modality["video"]) == set(CAMERAS)


# Quality: one thing is wrong with each


def still(frame):
    state = RobotState(0, ROBOT.joint_names, position(0), np.zeros(19), np.zeros(19))
    return moment(0, images=moment(frame).images, state=state)


def far_hands(frame):
    """Arms stretched out to the sides, where the head does not look."""
    out = ROBOT.home.copy()
    for side, sign in (("left", 1), ("right", -1)):
        out[ROBOT.joint_names.index(f"{side}_shoulder_roll_joint")] = sign * 1.5
    state = RobotState(0, ROBOT.joint_names, out, np.full(19, 0.02), np.zeros(19))
    return moment(frame, state=state, target=np.concatenate((out, np.zeros(3))))


def without(frame, camera):
    return {k: v for k, v in moment(frame).images.items() if k != camera}


def pushed(frame):
    state = moment(frame).state
    return moment(frame, target=np.concatenate((state.position + 0.3, state.base_pose)))


def at_limit(frame):
    target = np.concatenate((position(frame + 1), np.zeros(3)))
    joint = ROBOT.joint_names.index("left_elbow_joint")
    target[joint] = ROBOT.upper[joint] - 0.01 * (frame < 3)
    return moment(frame, target=target)


CASES = {
    "too_short": (lambda f: moment(f), 4),
    "drops": (lambda f: moment(f, images=without(f, "left_wrist")) if f % 8 == 3 else moment(f), 30),
    "gap": (lambda f: moment(f, images=without(f, "head")) if 5 <= f < 17 else moment(f), 30),
    "skew": (lambda f: moment(f, offsets={"left_wrist": 0.04}), 30),
    "blank": (lambda f: moment(f, images={**moment(f).images, "head": np.zeros((*SIZE, 3), np.uint8)}), 30),
    "frozen": (lambda f: moment(f, images={**moment(f).images, "head": view(0, 0)}), 40),
    "still_start": (lambda f: moment(f) if f > 25 else still(f), 50),
    "still_end": (lambda f: moment(f) if f < 20 else still(f), 60),
    "saturation": (at_limit, 30),
    "jerk": (lambda f: moment(f, target=np.concatenate((position(f) + 0.2 * (-1) ** f, np.zeros(3)))), 30),
    "tracking": (lambda f: moment(f, state=None) if f in (7, 8) else moment(f), 30),
    "hands_unseen": (far_hands, 30),
    "mismatch": (pushed, 30),
}


@pytest.mark.parametrize("name", CASES)
def test_each_fault_is_found_by_name(tmp_path, layout, name):
    make, frames = CASES[name]
    with open_writer(tmp_path / "set", layout) as writer:
        quality = add(writer, layout, [make(f) for f in range(frames)])
    assert quality.verdict in (WARN, FAIL)
    assert any(f" {name} " in reason for reason in quality.reasons), quality.reasons
    assert quality.measures[name] >= BOUNDS[name].warn
    (again,) = check(tmp_path / "set")
    assert again.quality == quality


def test_lengths_out_of_the_ordinary_are_found(tmp_path, layout):
    root = tmp_path / "set"
    with open_writer(root, layout) as writer:
        for frames in (20, 20, 20, 20, 20, 70):
            add(writer, layout, [moment(f) for f in range(frames)])
    verdicts = [item.quality.verdict for item in check(root)]
    assert verdicts == [PASS] * 5 + [WARN]


def test_numbers_that_are_not_finite_fail():
    measures = {**dict.fromkeys(BOUNDS, 0.0), "not_finite": 1.0}
    assert judge(measures).verdict == FAIL
    assert judge(measures).score == 0.0
    assert judge(dict.fromkeys(BOUNDS, 0.0)).score == 1.0


# Damage


def spoil(root, what):
    if what == "video":
        path = root / "videos/observation.images.head/chunk-000/file-001.mp4"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif what == "data":
        path = root / "data/chunk-000/file-001.parquet"
        path.write_bytes(path.read_bytes()[:-30])
    elif what == "row":
        (root / "meta/episodes/chunk-000/file-001.parquet").write_bytes(b"")
    else:
        (root / "videos/observation.images.left_wrist/chunk-000/file-001.mp4").unlink()


@pytest.mark.parametrize("what", ["video", "data", "row", "missing"])
def test_damage_is_named_and_mended_without_losing_the_rest(copied, what, capsys):
    spoil(copied, what)
    before = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()}
    with pytest.raises(DatasetError, match="file-001"):
        check(copied)
    assert main(["check", str(copied), "--repair"]) == 1
    assert "file-001" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()} == before
    assert main(["check", str(copied), "--repair", "--yes"]) == 0
    data = Dataset(copied)
    assert [row.length for row in data.rows] == [30, 32]
    np.testing.assert_allclose(data[30][STATE][:19], position(0), atol=1e-6)
    (kept,) = copied.parent.glob("set.damaged-*")
    assert {p.relative_to(kept): p.read_bytes() for p in kept.rglob("*") if p.is_file()} == {
        p.relative_to(copied): content for p, content in before.items()
    }
    assert (copied / "meta/modality.json").is_file()
    assert not examine(copied)[1].any


def test_torn_and_unsaved_pieces_are_removed_only_when_told(copied, capsys):
    (copied / ".staging/abc").mkdir(parents=True)
    (copied / ".staging/abc/observation.images.head.mp4").write_bytes(b"torn")
    info = json.loads((copied / "meta/info.json").read_text())
    (copied / "meta/info.json").write_text(json.dumps({**info, "total_episodes": 2, "total_frames": 61}))
    assert main(["check", str(copied), "--repair"]) == 1
    told = capsys.readouterr().out
    assert "remove what was never saved: .staging/abc" in told
    assert "3 episodes, 93 frames, not 2 and 61" in told
    assert (copied / ".staging/abc").exists()
    assert main(["check", str(copied), "--repair", "--yes"]) == 0
    assert not (copied / ".staging/abc").exists()
    assert json.loads((copied / "meta/info.json").read_text())["total_episodes"] == 3


def test_nothing_left_is_refused(copied):
    for path in (copied / "data").rglob("*.parquet"):
        path.write_bytes(b"")
    source, damage = examine(copied)
    with pytest.raises(DatasetError, match="no episode can be read"):
        repair(copied, source, damage)
    assert (copied / "meta/info.json").is_file()


# Merging


def test_merged_episodes_are_the_same(made, copied, tmp_path):
    out = tmp_path / "merged"
    assert merge([made, copied], out, lambda: None) == 6
    data, first = Dataset(out), Dataset(made)
    assert len(data) == 2 * len(first)
    for index in (0, 45, 92):
        for name, value in first[index].items():
            for place in (index, index + len(first)):
                if name not in ("index", "episode_index"):
                    np.testing.assert_array_equal(data[place][name], value, err_msg=name)
    np.testing.assert_allclose(data.stats[ACTION]["mean"], first.stats[ACTION]["mean"], atol=1e-9)
    with pytest.raises(DatasetError, match="exists already"):
        merge([made], out, lambda: None)


def test_sets_of_another_kind_are_not_merged(made, tmp_path):
    other = tmp_path / "other"
    with open_writer(other, Layout(ROBOT, SIZE, 20)) as writer:
        add(writer, Layout(ROBOT, SIZE, 20), [moment(f) for f in range(30)])
    with pytest.raises(DatasetError, match="fps differs"):
        merge([made, other], tmp_path / "out", lambda: None)
    assert not (tmp_path / "out").exists()


# People


def take_of(folder, lines=None, frames=60):
    folder.mkdir()
    with VideoWriter(folder / "head.mp4", 30, SIZE) as video:
        for i in range(frames):
            video.write(view(i, 0))
    level = [0.0, 0.0, 0.0, 1.0]
    down = [-0.5, 0.5, -0.5, 0.5]  # a camera that looks forward
    good = [{"task": "fold the towel"}]
    for i in range(frames * 2):
        hand = [0.4, 0.2 - 0.001 * i, 1.3, *level]
        good.append({"t": i / 60, "head": [0, 0, 1.4, *down], "left": hand, "right": None if i > 100 else hand})
    (folder / "hands.jsonl").write_text("\n".join(json.dumps(line) for line in (lines or good)))
    return folder


def test_a_person_has_hands_and_head_and_no_joints(tmp_path, layout):
    root = tmp_path / "set"
    with open_writer(root, layout) as writer:
        add(writer, layout, [moment(f) for f in range(30)])
        index, quality = import_take(read_take(take_of(tmp_path / "take")), layout, writer)
    assert index == 1
    assert quality.verdict == PASS, quality.reasons
    data = Dataset(root)
    person = data[35]
    assert person["embodiment"] == "human"
    assert person["task"] == "fold the towel"
    assert dict(zip(MASKS, person["observation.valid"].tolist(), strict=True)) == {
        "joints": False, "left_hand": True, "right_hand": True, "head": True, "left_wrist": False, "right_wrist": False,
    }  # fmt: skip
    assert not person[STATE].any()
    assert person["observation.images.left_wrist"].max() < 8
    assert np.abs(person["observation.images.head"].astype(float) - view(15, 0)).mean() < 6
    np.testing.assert_allclose(person[HANDS][:3], [0.4, 0.17, 1.3], atol=1e-3)
    assert not data[48]["observation.valid"][MASKS.index("right_hand")]
    assert data.rows[1].fields["embodiment"] == "human"
    assert [item.quality.verdict for item in check(root)] == [PASS, PASS]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([{"t": 0, "head": None, "left": None, "right": None}], "give the instruction with --task"),
        ([{"task": "x"}], "holds no sample"),
        ([{"task": "x"}, {"t": 0}], "line 2"),
        ([{"task": "x"}, {"t": 0, "head": [1, 2], "left": None, "right": None}], "line 2.*expected 7 numbers"),
        ([{"task": "x"}, {"t": 0, "head": [0] * 7, "left": None, "right": None}], "norm 0.000"),
        ([{"task": "x"}] + [{"t": 1, "head": None, "left": None, "right": None}] * 2, "line 3: t is 1"),
    ],
)
def test_bad_takes_are_refused_by_line(tmp_path, lines, says):
    with pytest.raises(UserError, match=says):
        read_take(take_of(tmp_path / "take", lines, 4))


# The report and the command line


def test_the_report_shows_pictures_coverage_and_the_worst(copied, layout):
    with open_writer(copied, layout) as writer:
        cell = {"action": "put", "objects": "pear", "destination": "bowl"}
        add(writer, layout, [pushed(f) for f in range(30)], "put the pear <b>away</b>", False, cell)
    page = make_report(copied, check(copied), parse_plan(PLAN))
    assert page.count("data:image/jpeg;base64,") == 4
    assert "4 of 4 episodes" in page
    assert "mismatch" in page
    assert "<b>away</b>" not in page
    assert "&lt;b&gt;away" in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_commands_say_what_they_found_and_exit_so(copied, tmp_path, capsys):
    out = tmp_path / "check.json"
    assert main(["check", str(copied), "--json", str(out)]) == 0
    assert "3 episodes, 93 frames: 3 pass, 0 warn, 0 fail" in capsys.readouterr().out
    assert json.loads(out.read_text())["pass"] == 3
    assert main(["report", str(copied)]) == 0
    assert (copied / "report.html").stat().st_size > 10_000
    with pytest.raises(UserError, match="only with --repair"):
        main(["check", str(copied), "--yes"])
    with pytest.raises(UserError, match="is no dataset"):
        main(["check", str(tmp_path / "none")])
    with pytest.raises(UserError, match="no scene of the simulator"):
        main(["replay", str(copied)])
    assert summary(check(copied))["worst"] == []
