"""Other people's data: LeRobotDataset v3.0 of robots and humans, chats about pictures."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from bytemini_core.errors import UserError
from bytemini_core.types import CAMERAS, RobotState, TaskStatus
from bytemini_data.features import Layout, Moment, conclude
from bytemini_data.lerobot import DatasetWriter
from bytemini_description.kinematics import Kinematics
from gr3.dataset import IGNORE, Mixture, Shards, Source, corpus, normalisation_of
from gr3.imports import import_chats, import_lerobot, read_chats
from gr3.layout import ChunkCodec, pose_matrix
from gr3.text import Text
from scipy.spatial.transform import Rotation

from gr3 import chats, train

FRAMES = 12
WORDS = ("embodiment", "operator", "verdict", "quality", "configuration", "card", "source", "drops")


def pose7(matrix):
    return np.concatenate([matrix[:3, 3], Rotation.from_matrix(matrix[:3, :3]).as_quat()])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, robot):
    """A robot's episode that drives on while an arm moves, and a person's whose left hand rises."""
    root = tmp_path_factory.mktemp("lerobot") / "set"
    layout = Layout(robot, (224, 224), 10)
    kinematics = Kinematics(robot)
    head = kinematics.forward("head_camera_optical_frame", robot.home)
    hands = {side: kinematics.forward(f"{side}_tcp", robot.home) for side in ("left", "right")}
    elbow = robot.joint_names.index("left_elbow_joint")

    def position(t):
        q = robot.home.copy()
        q[elbow] += 0.02 * t
        return q

    n = len(robot.joint_names)
    with DatasetWriter(root, layout.schema) as writer:
        for human in (False, True):
            episode = writer.begin("put the apple into the bowl")
            for t in range(FRAMES):
                images = {name: np.full((224, 224, 3), 10 * t, np.uint8) for name in CAMERAS}
                if human:
                    risen = hands["left"].copy()
                    risen[2, 3] += 0.01 * t
                    moment = Moment(
                        {"head": images["head"]},
                        hands={"left": pose7(risen), "right": pose7(hands["right"])},
                        head=pose7(head),
                    )
                else:
                    base = np.array([0.01 * t, 0.0, 0.0])
                    rates, effort = 10 * (position(t + 1) - position(t)), np.full(n, 0.5 * t)
                    state = RobotState(0, robot.joint_names, position(t), rates, effort, base, np.array([0.1, 0, 0]))
                    target = np.concatenate([position(t + 1), base + np.array([0.01, 0, 0])])
                    moment = Moment(images, state, target, task_status=TaskStatus.ONGOING)
                episode.add(layout.frame(moment))
            staged = episode.finish()
            conclude(staged.columns, True, 1.0)
            writer.commit(staged, {"success": True, **dict.fromkeys(WORDS, "")})
    return root


def test_a_robots_episode_has_the_chunks_that_it_was_driven_with(recorded, robot, tmp_path):
    assert import_lerobot(recorded, tmp_path, robot, stride=1) == 2 * FRAMES
    shards = Shards(tmp_path / "demos")
    rows = shards.take("actions", np.array([2]))[0]
    codec = ChunkCodec(robot)
    n = len(robot.joint_names)
    numbers = shards.take("state", np.array([2]))[0][:n].astype(float)
    state = RobotState(0, tuple(robot.joint_names), numbers, np.zeros(n), np.zeros(n))
    values, status, _ = codec.decode(state, rows)
    elbow = robot.policy_columns.index("left_elbow_joint")
    home = robot.home[robot.joint_names.index("left_elbow_joint")]
    # Row i is due at frame 2 + i + 1; the last frame's target stands in beyond the end.
    due = np.minimum(2 + np.arange(1, 17), FRAMES - 1)
    np.testing.assert_allclose(values[:, elbow], home + 0.02 * due, atol=1e-5)
    np.testing.assert_allclose(values[:, 16], 0.01 * (due - 2), atol=1e-5)
    assert (status == 0).all()
    assert shards.episodes[0]["kind"] == "robot"
    assert abs(int(shards.take("head", np.array([3]))[0].mean()) - 30) <= 2


def test_the_state_of_a_recorded_frame_is_the_robots(recorded, robot, layout, tmp_path):
    import_lerobot(recorded, tmp_path, robot, stride=1)
    state = dict(zip(layout.state_names, Shards(tmp_path / "demos").take("state", np.array([3]))[0], strict=True))
    assert state["left_elbow_joint/velocity"] == pytest.approx(0.2)
    assert state["right_elbow_joint/velocity"] == 0
    assert state["base/vx"] == pytest.approx(0.1)
    assert state["left_gripper_joint/effort"] == state["right_gripper_joint/effort"] == 1.5


def test_a_persons_episode_supervises_hands_only_and_shows_no_wrists(recorded, robot, layout, tmp_path):
    import_lerobot(recorded, tmp_path, robot, stride=1)
    shards = Shards(tmp_path / "demos")
    first = FRAMES  # the second episode
    assert shards.episodes[1]["kind"] == "human"
    assert not shards.take("left_wrist", np.array([first + 3])).any()
    rows = shards.take("actions", np.array([first]))[0]
    left = pose_matrix(rows[:, layout.hands][:, :9])
    hand = Kinematics(robot).forward("left_tcp", robot.home)
    rise = left[:, :3, 3] @ hand[:3, :3].T
    np.testing.assert_allclose(rise[:, 2], 0.01 * np.minimum(np.arange(1, 17), FRAMES - 1), atol=1e-5)
    # The head is where the robot's is at home, so the hands are where the robot's are at home.
    state = shards.take("state", np.array([first]))[0]
    np.testing.assert_allclose(pose_matrix(state[layout.state_hands][:9]), hand, atol=1e-5)
    assert not state[19 : layout.state_hands.start].any(), "nobody knows how fast a person's joints are"

    text = Text.build(corpus(shards.episodes))
    source = Source(shards, None, text, layout, normalisation_of(shards, layout), Mixture(robot=16, stills=0), 24)
    batch = source.batch(0, 0)
    hands = layout.supervised("human")
    humans = 0
    for weight in batch.weight:
        assert (weight > 0).all() or ((weight > 0) == hands).all()
        humans += not (weight > 0).all()
    assert 0 < humans < 16
    assert (batch.labels == IGNORE).all()  # nothing is known about what is on these tables


def test_datasets_of_other_robots_or_cameras_are_refused(recorded, robot, tmp_path):
    info = recorded / "meta" / "info.json"
    before = info.read_text()
    try:
        data = json.loads(before)
        names = data["features"]["observation.state"]["names"]
        names[0], names[1] = names[1], names[0]
        info.write_text(json.dumps(data))
        with pytest.raises(ValueError, match="another order"):
            import_lerobot(recorded, tmp_path, robot)
        data = json.loads(before)
        del data["features"]["observation.images.head"]
        info.write_text(json.dumps(data))
        with pytest.raises(ValueError, match=r"has cameras observation\.images\.left_wrist"):
            import_lerobot(recorded, tmp_path, robot)
    finally:
        info.write_text(before)


def test_datasets_without_efforts_are_refused(robot, tmp_path):
    layout = Layout(robot, (224, 224), 10)
    schema = layout.schema
    features = {name: feature for name, feature in schema.features.items() if name != "observation.effort"}
    n = len(robot.joint_names)
    images = {name: np.zeros((224, 224, 3), np.uint8) for name in CAMERAS}
    frame = layout.frame(Moment(images, RobotState(0, robot.joint_names, robot.home, np.zeros(n), np.zeros(n))))
    del frame["observation.effort"]
    with DatasetWriter(tmp_path / "set", replace(schema, features=features)) as writer:
        episode = writer.begin("put the apple into the bowl")
        episode.add(frame)
        staged = episode.finish()
        conclude(staged.columns, True, 1.0)
        writer.commit(staged, {"success": True, **dict.fromkeys(WORDS, "")})
    with pytest.raises(ValueError, match=r"lacks observation\.effort"):
        import_lerobot(tmp_path / "set", tmp_path, robot)


def test_chats_go_out_and_come_back(tmp_path, write_shards, layout):
    root = write_shards(tmp_path / "data", layout)
    stills = Shards(root / "stills")
    path = chats.write(stills, tmp_path / "chats", 5)
    pairs = list(read_chats(path))
    assert len(pairs) == 5
    picture, talks = pairs[0]
    np.testing.assert_array_equal(picture, stills.take("head", np.array([0]))[0])
    assert talks[0][0] == "describe"
    assert len(talks) == 9
    assert import_chats(path, tmp_path / "out") == 5
    back = Shards(tmp_path / "out" / "stills")
    assert [tuple(t) for t in back.episodes[0]["talks"]] == talks
    text = Text.build(corpus(stills.episodes))
    demos = Shards(root / "demos")
    source = Source(demos, back, text, layout, normalisation_of(demos, layout), Mixture(robot=2, stills=4), 24)
    assert (source.batch(0, 0).labels[2:] != IGNORE).any(axis=-1).all()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 1 is no chat"),
        ('{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}', "0 pictures and roles user"),
        (
            '{"messages": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]}, '
            '{"role": "assistant", "content": []}]}',
            "does not exist",
        ),
    ],
)
def test_bad_chats_are_refused(tmp_path, line, words):
    (tmp_path / "chats.jsonl").write_text(line)
    with pytest.raises(ValueError, match=words):
        list(read_chats(tmp_path / "chats.jsonl"))


def test_a_recorded_dataset_is_trained_on_as_it_is(recorded, tmp_path, monkeypatch, small, capsys):
    monkeypatch.setattr("gr3.config.tiny", small)
    out = tmp_path / "run"
    few = ["--acting", "0", "--robot-batch", "4", "--processes", "1", "--taus", "2", "--warmup", "2"]
    train.main(["--data", str(recorded), "--out", str(out), "--steps", "1", *few])
    assert "LeRobotDataset" in capsys.readouterr().out
    made = (out / "shards" / "recipe.json").stat().st_mtime_ns
    train.main(["--data", str(recorded), "--out", str(out), "--steps", "2", *few])
    assert (out / "shards" / "recipe.json").stat().st_mtime_ns == made, "the shards are made once"
    assert (out / "last.pt").is_file()
    assert len((out / "log.csv").read_text().splitlines()) == 3
    shutil.copytree(recorded, tmp_path / "another")
    with pytest.raises(UserError, match="was made of another dataset"):
        train.main(["--data", str(tmp_path / "another"), "--out", str(out), "--steps", "3", *few])
