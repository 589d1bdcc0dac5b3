"""Policies elsewhere: our own server, foreign ones through key maps, and servers that break."""

import contextlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from bytemini_core.types import Observation, RobotState
from gr3_policy_node.backends import load_policy
from gr3_policy_node.codec import pack, unpack
from gr3_policy_node.keymap import letterbox, load_key_map
from gr3_policy_node.remote import connect
from gr3_policy_node.server import ServerOptions, served
from websockets.sync.server import serve

DROID = {
    "name": "droid",
    "dt": 0.05,
    "rows": 3,
    "deadline": 0.5,
    "observation": {
        "observation/exterior_image_1_left": {"camera": "head", "size": [4, 4]},
        "images.cam_left": {"camera": "left_wrist", "size": [4, 4], "layout": "CHW"},
        "observation/joint_position": {"joints": ["right_elbow_joint", "right_wrist_yaw_joint"]},
        "observation/gripper_position": {"joints": ["right_gripper_joint"], "scale": -20.0, "offset": 1.0},
        "prompt": {"prompt": True},
    },
    "actions": [
        {"column": "right_elbow_joint", "relative": True},
        {"column": None},
        {"column": "right_gripper_joint", "scale": 0.04},
    ],
}


def observe(robot, stamp=100):
    position = np.linspace(0.1, 1.9, len(robot.joint_names))
    zeros = np.zeros(len(robot.joint_names))
    images = {"head": np.full((8, 6, 3), 9, dtype=np.uint8), "left_wrist": np.full((8, 6, 3), 5, dtype=np.uint8)}
    state = RobotState(stamp, robot.joint_names, position, zeros, zeros, np.array([1.0, 2.0, 0.5]))
    return Observation(stamp, "put it there", state, images)


@pytest.fixture
def key_map(tmp_path):
    def write(**changed):
        path = tmp_path / "map.yaml"
        path.write_text(yaml.safe_dump({**DROID, **changed}, sort_keys=False))
        return path

    return write


@contextlib.contextmanager
def foreign(answer, metadata=b""):
    """A server as others write it: `answer(message)` gives the bytes or text of the reply, or None to hang up."""
    seen = []

    def handle(socket):
        socket.send(metadata or pack({}))
        for data in socket:
            seen.append(unpack(data))
            reply = answer(seen[-1])
            if reply is None:
                return
            socket.send(reply)

    with serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}", seen
        server.shutdown()
        thread.join()


def test_our_own_server_needs_no_map(robot, policies):
    with served(policies[0], robot) as (_, url):
        policy = load_policy(url, robot)
        assert policy.metadata.columns == robot.policy_columns
        assert policy.metadata.cameras == ("head", "left_wrist")
        assert policy.metadata.image_size == (8, 6)
        policy.reset()
        chunk = policy.infer(observe(robot))
        np.testing.assert_allclose(chunk.values[:, :3], np.tile([0.1, 9.0, 12.0], (4, 1)), atol=1e-6)
        assert chunk.confidence[0] == 0.75
        before = chunk.values[0, 3]
        assert policy.infer(observe(robot)).values[0, 3] == before
        policy.reset()
        assert policy.infer(observe(robot)).values[0, 3] == before + 1
        policy.close()


def test_noise_and_prefix_go_through_to_a_policy_that_takes_them(robot, policies):
    policy = policies[1](prefix=True, noise_shape=[4, 30])
    with served(lambda: policy, robot) as (_, url):
        remote = load_policy(url, robot)
        assert remote.metadata.extra["noise_shape"] == [4, 30]
        assert remote.metadata.extra["prefix"] is True
        noise, prefix = np.full((4, 30), 0.5, dtype=np.float32), np.full((2, 19), 0.25, dtype=np.float32)
        remote.infer(observe(robot), prefix, noise)
        remote.close()
    np.testing.assert_array_equal(policy.noise, noise)
    np.testing.assert_array_equal(policy.prefix, prefix)


def test_a_foreign_server_speaks_through_the_map(robot, key_map):
    actions = np.arange(15, dtype=np.float32).reshape(5, 3) / 10
    with foreign(lambda _: pack({"actions": actions})) as (url, seen):
        policy = load_policy(f"{url}#{key_map()}", robot)
        assert policy.metadata.columns == ("right_elbow_joint", "right_gripper_joint")
        assert policy.metadata.cameras == ("head", "left_wrist")
        observation = observe(robot)
        chunk = policy.infer(observation)
        policy.close()
    message = seen[0]
    assert set(message) == {
        "observation/exterior_image_1_left", "images", "observation/joint_position", "observation/gripper_position",
        "prompt",
    }  # fmt: skip
    assert message["images"]["cam_left"].shape == (3, 4, 4)
    assert message["prompt"] == "put it there"
    joints = dict(zip(robot.joint_names, observation.state.position, strict=True))
    np.testing.assert_allclose(
        message["observation/joint_position"], [joints["right_elbow_joint"], joints["right_wrist_yaw_joint"]], rtol=1e-6
    )
    np.testing.assert_allclose(
        message["observation/gripper_position"], [1.0 - 20.0 * joints["right_gripper_joint"]], rtol=1e-6
    )
    np.testing.assert_allclose(chunk.values[:, 0], joints["right_elbow_joint"] + actions[:3, 0], rtol=1e-6)
    np.testing.assert_allclose(chunk.values[:, 1], 0.04 * actions[:3, 2], rtol=1e-6)
    assert chunk.dt == 0.05
    assert chunk.horizon == policy.metadata.horizon == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (pack({"actions": np.zeros((5, 4))}), r"shape \(5, 4\), expected \(3 or more, 3\) by the map"),
        (pack({"actions": np.zeros(3)}), r"shape \(3,\)"),
        (pack({"actions": np.zeros((2, 3))}), r"shape \(2, 3\)"),
        (pack({"actions": np.full((5, 3), np.nan)}), "not finite at row 0, column 0"),
        (pack({"actions": [[1, 2, 3]]}), "actions are list"),
        (pack({"action": 1}), "without 'actions'"),
        (b"\xc1", "no message of the openpi protocol"),
        ("Traceback ..\nKeyError: 'image'", "refuses: KeyError: 'image'"),
    ],
)
def test_answers_that_do_not_fit_are_refused(robot, key_map, answer, words):
    with foreign(lambda _: answer) as (url, _):
        policy = connect(f"{url}#{key_map()}", robot)
        with pytest.raises(ValueError, match=words):
            policy.infer(observe(robot))
        policy.close()


def test_a_late_answer_is_never_the_next_ones(robot, key_map):
    late = [0.8, 0.0]

    def answer(_):
        time.sleep(late.pop(0))
        return pack({"actions": np.full((1, 3), len(late))})

    with foreign(answer) as (url, _):
        policy = connect(f"{url}#{key_map(rows=1, actions=[{'column': c} for c in robot.joint_names[:3]])}", robot)
        with pytest.raises(TimeoutError, match=r"within 0.5 s"):
            policy.infer(observe(robot))
        assert policy.infer(observe(robot)).values[0, 0] == 0.0
        policy.close()


def test_a_server_that_hung_up_is_tried_once_more(robot, key_map):
    calls = []

    def answer(_):
        calls.append(1)
        return None if len(calls) == 2 else pack({"actions": np.zeros((3, 3))})

    with foreign(answer) as (url, _):
        policy = connect(f"{url}#{key_map()}", robot)
        policy.infer(observe(robot))
        policy.infer(observe(robot))
        assert len(calls) == 3
        policy.close()


def test_nobody_there_is_said(robot, key_map):
    with pytest.raises(ValueError, match=r"no policy server of the openpi protocol at ws://127\.0\.0\.1:9"):
        load_policy("ws://127.0.0.1:9", robot)
    with foreign(lambda _: None) as (url, _):
        policy = connect(f"{url}#{key_map()}", robot)
    with pytest.raises(ConnectionError):
        policy.infer(observe(robot))


def test_a_foreign_server_without_a_map_is_refused(robot):
    with (
        foreign(lambda _: None, pack({"reset_pose": [0.0]})) as (url, _),
        pytest.raises(ValueError, match="not one of ours"),
    ):
        load_policy(url, robot)


def test_a_server_that_greets_with_something_else_is_refused(robot):
    for greeting, words in ((b"\xc1", "no policy server"), (pack([1]), "greets with no metadata")):
        with foreign(lambda _: None, greeting) as (url, _), pytest.raises(ValueError, match=words):
            load_policy(url, robot)


def test_the_token_is_brought(robot, policies, monkeypatch):
    with served(policies[0], robot, ServerOptions(port=0, token="s3cret")) as (_, url):
        with pytest.raises(ValueError, match="401"):
            load_policy(url, robot)
        monkeypatch.setenv("BYTEMINI_POLICY_TOKEN", "s3cret")
        load_policy(url, robot).close()


BAD_MAPS = [
    ({"dt": 0}, "dt is 0, expected 0.001 to 10"),
    ({"rows": 0}, "rows is 0, expected 1 to 1000"),
    ({"speed": 1}, "the map has no entry speed"),
    ({"actions": []}, "actions: expected a list"),
    ({"actions": [{"column": "tail_joint"}]}, "actions, entry 0: the robot has no column 'tail_joint'"),
    ({"actions": [{"column": "lift_joint"}] * 2}, "none twice"),
    ({"actions": [{"column": None}]}, "at least one column"),
    ({"actions": [{"column": "base/x", "relative": True}]}, "only a joint can be relative"),
    ({"actions": [{"column": "lift_joint", "scale": 0}]}, "scale is 0"),
    ({"observation": {"a": {"camera": "tail", "size": [4, 4]}}}, "camera is 'tail', expected head or"),
    ({"observation": {"a": {"camera": "head", "size": [4]}}}, r"size is \[4\]"),
    ({"observation": {"a": {"camera": "head", "size": [4, 4], "layout": "WHC"}}}, "layout is 'WHC'"),
    ({"observation": {"a": {"joints": ["tail_joint"]}}}, "the robot has no tail_joint"),
    ({"observation": {"a": {}}}, "expected a mapping"),
    ({"observation": {"a": {"depth": 1}}}, "expected one of camera, joints, prompt"),
]


@pytest.mark.parametrize(("changed", "words"), BAD_MAPS)
def test_wrong_maps_are_refused_by_entry(robot, key_map, changed, words):
    with pytest.raises(ValueError, match=words):
        load_key_map(key_map(**changed), robot)


def test_the_map_in_the_readme_is_one(robot, tmp_path):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    path = tmp_path / "map.yaml"
    path.write_text(readme.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    keys = load_key_map(path, robot)
    observation = observe(robot)
    observation.images["right_wrist"] = observation.images["head"]
    message = keys.request(observation)
    assert message["observation/joint_position"].shape == (7,)
    assert message["observation/wrist_image_left"].shape == (224, 224, 3)
    closed = keys.rows_of(np.ones((8, 8)), observation)[0, keys.columns.index("right_gripper_joint")]
    opened = keys.rows_of(np.zeros((8, 8)), observation)[0, keys.columns.index("right_gripper_joint")]
    gripper = robot.joint_names.index("right_gripper_joint")
    np.testing.assert_allclose([closed, opened], [robot.lower[gripper], robot.upper[gripper]], atol=1e-6)


def test_a_file_that_is_no_map_is_refused(robot, tmp_path):
    path = tmp_path / "map.yaml"
    for text in ("a: [", "just words", ""):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"key map .*map\.yaml"):
            load_key_map(path, robot)
    with pytest.raises(ValueError, match="cannot be read"):
        load_key_map(tmp_path / "none.yaml", robot)


def test_pictures_keep_their_aspect():
    image = np.full((480, 640, 3), 200, dtype=np.uint8)
    boxed = letterbox(image, (224, 224))
    assert boxed.shape == (224, 224, 3)
    assert (boxed[28:196] == 200).all()
    assert (boxed[:28] == 0).all()
    assert (boxed[196:] == 0).all()
    assert letterbox(boxed, (224, 224)) is boxed
