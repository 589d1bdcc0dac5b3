"""The recorder without a network: messages in, episodes out; what is converted later is the same."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("bytemini_msgs.msg", reason="the workspace is not built: ./bytemini setup")
from bytemini_core.errors import UserError
from bytemini_core.ros import to_time
from bytemini_data.camera_player import mark, read_mark
from bytemini_data.convert import convert, describe, picture_size
from bytemini_data.data import main
from bytemini_data.episode import open_writer
from bytemini_data.fake_stack import messages, swing
from bytemini_data.features import ACTION, STATE, Layout
from bytemini_data.lerobot import Dataset
from bytemini_data.plan import parse_plan
from bytemini_data.recorder.recorder import Recorder, Settings, status_of
from bytemini_data.recorder.session import Limits, State
from bytemini_data.recorder.take import ABORTED, NATIVE, mend
from bytemini_description.robot import load_robot
from geometry_msgs.msg import Pose, PoseArray
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader

ROBOT = load_robot("v1")
SIZE = (64, 192)
PLAN = parse_plan(
    {
        "actions": {"put": {"words": "put the {object} into the bowl"}},
        "objects": ["apple", "pear"],
        "operators": ["ann", "bob"],
        "episodes": 4,
    }
)
HEAD = "observation.images.head"


def open_recorder(root, fps=10, **settings):
    limits = Limits(countdown=1.0, reserve=1024)
    recorder = Recorder(root, Layout(ROBOT, SIZE, fps), PLAN, Settings(limits=limits, **settings))
    recorder.drain()
    return recorder


def feed(recorder, seconds=3.0, begin=100.0, lose=()):
    """Start an episode and give it messages; `lose`: (topic, stamp) that never come."""
    assert recorder.command("start", begin, "ann").ok
    assert recorder.tick(begin + 1.0).message == "recording"
    for topic, cdr, stamp in messages(ROBOT, seconds, 10**9, size=SIZE):
        if (topic, stamp) not in lose:
            recorder.receive(topic, cdr, stamp, stamp + 10**6, begin + 1.0 + stamp / 1e9)
        if topic.startswith("camera/head"):
            recorder.drain()  # faster than real time, but not so fast that anything overflows
    recorder.drain()
    return begin + 1.0 + seconds


def save(recorder, now, success=True):
    assert recorder.command("save", now, success=success).ok
    recorder.drain()


def test_an_episode_is_recorded_natively_and_as_frames(tmp_path):
    recorder = open_recorder(tmp_path / "set")
    first = recorder.card.instruction
    save(recorder, feed(recorder))
    assert recorder.session.state is State.SAVED
    assert recorder.quality.verdict != "fail", recorder.quality.reasons
    assert recorder.card.instruction != first  # the next is drawn already
    recorder.close()
    data = Dataset(tmp_path / "set")
    assert len(data) == 30
    row = data.rows[0]
    assert (row.task, row.fields["operator"], row.fields["success"]) == (first, "ann", True)
    assert json.loads(row.fields["drops"]) == {"head": 0, "left_wrist": 0, "right_wrist": 0}
    for i in range(30):
        sample = data[i]
        assert read_mark(sample[HEAD]) == 3 * i
        np.testing.assert_allclose(sample[STATE][:19], swing(ROBOT, i * 0.1), atol=2e-3)
    np.testing.assert_allclose(data[10][ACTION][:19], swing(ROBOT, 1.105), atol=2e-3)
    np.testing.assert_allclose(data[10][ACTION][19], 0.11, atol=1e-3)
    with AnyReader([tmp_path / "set" / row.fields["source"]]) as bag:
        counts = {connection.topic: connection.msgcount for connection in bag.connections}
    assert counts["/joint_states"] == counts["/joint_command"] == 600
    assert counts["/camera/head/color/image_raw/compressed"] == 90


@pytest.mark.parametrize("fps", [10, 30])
def test_converting_later_gives_the_same_frames(tmp_path, fps):
    lost = {("camera/left_wrist/color/image_raw", 10**9 + round(9 * 1e9 / 30))}
    recorder = open_recorder(tmp_path / "set", fps)
    now = feed(recorder, lose=lost)
    save(recorder, now)
    recorder.close()
    live = Dataset(tmp_path / "set")
    bag = tmp_path / "set" / live.rows[0].fields["source"]
    assert picture_size(bag) == SIZE
    with open_writer(tmp_path / "again", Layout(ROBOT, SIZE, fps)) as writer:
        convert(describe(bag, live.rows[0].task), Layout(ROBOT, SIZE, fps), writer)
    again = Dataset(tmp_path / "again")
    assert len(again) == len(live) == 3 * fps
    everything = range(len(live))
    for name, values in live.batch(everything).items():
        np.testing.assert_array_equal(again.batch(everything)[name], values, err_msg=name)
    assert again.rows[0].fields["drops"] == live.rows[0].fields["drops"]
    assert json.loads(live.rows[0].fields["drops"])["left_wrist"] == 1


def test_the_command_converts_and_refuses_what_is_none(tmp_path, capsys):
    recorder = open_recorder(tmp_path / "set")
    save(recorder, feed(recorder))
    recorder.close()
    (bag,) = (tmp_path / "set" / NATIVE).iterdir()
    assert main(["convert", str(bag), "--out", str(tmp_path / "out"), "--task", "wave"]) == 0
    assert "episode 0" in capsys.readouterr().out
    assert Dataset(tmp_path / "out").rows[0].task == "wave"
    with pytest.raises(UserError, match="is no recording"):
        main(["convert", str(tmp_path), "--out", str(tmp_path / "out2"), "--task", "wave"])
    with pytest.raises(UserError, match="give the instruction with --task"):
        main(["convert", str(bag), "--out", str(tmp_path / "out2")])
    mcap = next(bag.glob("*.mcap"))
    mcap.write_bytes(mcap.read_bytes()[: mcap.stat().st_size // 2])
    with pytest.raises(UserError, match="cut short"):
        main(["convert", str(bag), "--out", str(tmp_path / "out2"), "--task", "wave"])
    assert not (tmp_path / "out2").exists()


def test_a_discard_leaves_nothing_and_the_scene_returns_to_the_pool(tmp_path):
    recorder = open_recorder(tmp_path / "set")
    now = feed(recorder)
    assert not recorder.command("discard", now).ok
    assert recorder.command("discard", now, confirmed=True).ok
    recorder.drain()
    assert recorder.session.state is State.DISCARDED
    assert not list((tmp_path / "set" / NATIVE).iterdir())
    assert not list((tmp_path / "set" / ".staging").iterdir())
    assert recorder.scheduler.total == 1  # the one that is drawn now
    save(recorder, feed(recorder, begin=200.0))
    assert recorder.writer.episodes == 1
    recorder.close()


def test_an_abort_puts_the_recording_aside(tmp_path):
    recorder = open_recorder(tmp_path / "set")
    now = feed(recorder)
    assert recorder.tick(now + 5.0).message.startswith("aborted: no camera/head/color/image_raw for")
    recorder.drain()
    assert recorder.session.state is State.ABORTED
    assert any("aborted" in text for text in recorder.warnings())
    assert len(list((tmp_path / "set" / ABORTED).iterdir())) == 1
    assert recorder.writer.episodes == 0
    recorder.close()


def test_an_episode_that_fails_the_check_is_not_kept_unless_told(tmp_path):
    for keep in (False, True):
        root = tmp_path / f"keep-{keep}"
        recorder = open_recorder(root, keep_failed=keep)
        save(recorder, feed(recorder, seconds=0.3))
        assert recorder.quality.verdict == "fail"
        assert recorder.session.state is (State.SAVED if keep else State.ABORTED)
        assert recorder.writer.episodes == keep
        assert len(list((root / ABORTED).iterdir()) if (root / ABORTED).exists() else []) == (not keep)
        recorder.close()


def test_pictures_that_cannot_be_read_are_counted_and_told(tmp_path):
    recorder = open_recorder(tmp_path / "set")
    now = feed(recorder)
    bad = next(cdr for topic, cdr, _ in messages(ROBOT, 0.1, 5 * 10**9, size=SIZE) if topic.startswith("camera"))
    recorder.receive("camera/head/color/image_raw", bad.replace(b"rgb8", b"mono"), 5 * 10**9, 5 * 10**9, now)
    recorder.drain()
    assert any("refused" in text and "mono" in text for text in recorder.warnings())
    save(recorder, now)
    assert recorder.session.state is State.SAVED
    recorder.close()


def test_what_finds_the_queue_full_is_counted(tmp_path, monkeypatch):
    import bytemini_data.recorder.recorder as module

    recorder = open_recorder(tmp_path / "set")
    monkeypatch.setattr(module, "WAITING", 0)
    recorder.command("start", 0.0)
    recorder.tick(1.0)
    for topic, cdr, stamp in messages(ROBOT, 0.1, 10**9, size=SIZE):
        recorder.receive(topic, cdr, stamp, stamp, 1.0)
    assert recorder.load.overflow["joint_states"] == 20
    assert any("20 dropped: joint_states" in text for text in recorder.warnings())
    recorder.close()


def test_a_plan_is_gone_through_and_then_nothing_is_left(tmp_path):
    recorder = open_recorder(tmp_path / "set")
    for i in range(4):
        save(recorder, feed(recorder, seconds=1.2, begin=100.0 * i))
        assert recorder.session.state is State.SAVED, recorder.session.reason
    assert recorder.card is None
    answer = recorder.command("start", 900.0)
    assert not answer.ok
    assert "plan is complete" in answer.message
    assert status_of(recorder)["saved"] == 4
    recorder.close()
    tasks = sorted(row.task for row in Dataset(tmp_path / "set").rows)
    assert tasks == ["put the apple into the bowl"] * 2 + ["put the pear into the bowl"] * 2


def test_a_torn_recording_is_mended_and_put_aside(tmp_path):
    root = tmp_path / "set"
    recorder = open_recorder(root)
    save(recorder, feed(recorder))
    recorder.close()
    (bag,) = (root / NATIVE).iterdir()
    torn = root / NATIVE / "torn"
    shutil.copytree(bag, torn)
    (torn / "metadata.yaml").unlink()
    mcap = next(torn.glob("*.mcap"))
    mcap.write_bytes(mcap.read_bytes()[: mcap.stat().st_size * 2 // 3])
    (root / ".staging/x").mkdir(parents=True)
    again = open_recorder(root)
    assert again.writer.episodes == 1
    assert any("removed 1 torn episode" in text and "put 1 recordings" in text for text in again.notes)
    again.close()
    assert [path.name for path in (root / NATIVE).iterdir()] == [bag.name]
    with AnyReader([root / ABORTED / "torn"]) as reader:
        assert sum(connection.msgcount for connection in reader.connections) > 500
    assert mend(root / ABORTED / "torn").is_dir()


def test_marks_survive_compression():
    picture = np.full((64, 192, 3), 100, np.uint8)
    for number in (0, 1, 0xFFFFF, 123456):
        mark(picture, number)
        assert read_mark(picture) == number


def test_a_person_is_recorded_from_hands_and_the_head_camera(tmp_path):
    recorder = open_recorder(tmp_path / "set", human=True)
    recorder.command("start", 100.0, "ann")
    recorder.tick(101.0)
    for topic, cdr, stamp in messages(ROBOT, 3.0, 10**9, size=SIZE):
        if topic == "odom":
            body = PoseArray()
            body.header.stamp = to_time(stamp)
            body.poses = [Pose(), Pose(), Pose()]
            body.poses[1].position.z = stamp / 1e9
            body.poses[2].orientation.w = 0.0  # not seen
            recorder.receive("human/hands", bytes(serialize_message(body)), stamp, stamp, 101.0 + stamp / 1e9)
        elif topic.startswith("camera/head"):
            recorder.receive(topic, cdr, stamp, stamp, 101.0 + stamp / 1e9)
            recorder.drain()
    save(recorder, 104.0)
    assert recorder.session.state is State.SAVED, recorder.session.reason
    recorder.close()
    data = Dataset(tmp_path / "set")
    sample = data[10]
    assert sample["embodiment"] == "human"
    assert sample["observation.valid"].tolist() == [False, True, False, True, False, False]
    np.testing.assert_allclose(sample["observation.hands"][2], 2.0, atol=0.01)
    bag = tmp_path / "set" / data.rows[0].fields["source"]
    with open_writer(tmp_path / "again", Layout(ROBOT, SIZE, 10)) as writer:
        convert(describe(bag, "wave"), Layout(ROBOT, SIZE, 10), writer)
    again = Dataset(tmp_path / "again")
    np.testing.assert_array_equal(again.column("observation.hands"), data.column("observation.hands"))
