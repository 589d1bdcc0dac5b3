"""Requests in every form that openpi's users send, and what is said about those that are wrong."""

import numpy as np
import pytest
from bytemini_core.types import PolicyMetadata
from gr3_policy_node.protocol import announcement, parse_request, reply
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

JOINTS = tuple(f"joint_{i}" for i in range(3))
META = PolicyMetadata("test", ("a", "b"), 4, 0.1, ("head",), (4, 5), extra={"prefix": True, "noise_shape": [4, 7]})
IMAGE = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
STATE = np.array([0.1, 0.2, 0.3])


def parse(message, metadata=META):
    return parse_request(message, metadata, JOINTS, 5)


def good(**changed):
    message = {"state": STATE, "head": IMAGE, "prompt": "go", **changed}
    return {key: value for key, value in message.items() if value is not None}


@pytest.mark.parametrize(
    "message",
    [
        {"observation/state": STATE, "observation/head": IMAGE, "prompt": "go"},
        {"observation/state": STATE, "observation/images/head": IMAGE, "prompt": "go"},
        {"observation": {"state": STATE, "images": {"head": IMAGE}}, "prompt": "go"},
        {"state": STATE, "images": {"head": IMAGE.transpose(2, 0, 1)}, "prompt": np.array("go")},
        {"state": STATE.tolist(), "images": {"head": IMAGE}, "prompt": np.str_("go"), "unknown": {"a": 1}},
        {"state": STATE.astype(np.float32), "head": IMAGE, "prompt": " go "},
    ],
)
def test_every_form_is_one_observation(message):
    observation = parse(message).observation
    assert observation.instruction == "go"
    assert observation.stamp == 5
    np.testing.assert_allclose(observation.state.position, STATE, atol=1e-7)
    np.testing.assert_array_equal(observation.images["head"], IMAGE)


def test_optional_keys_arrive():
    noise = np.ones((4, 7), dtype=np.float32)
    request = parse(
        good(reset=True, stamp=9, deadline_ms=250, prefix=np.ones((3, 2)), noise=noise, base_pose=[1.0, 2.0, 0.5])
    )
    assert request.reset
    assert request.observation.stamp == 9
    assert request.deadline == 0.25
    assert request.prefix.shape == (3, 2)
    np.testing.assert_array_equal(request.noise, noise)
    np.testing.assert_array_equal(request.observation.state.base_pose, [1.0, 2.0, 0.5])
    assert parse(good(noise=np.ones((4, 2)))).noise.shape == (4, 2)


BAD = [
    ([1, 2], "is a list, expected a dictionary"),
    (good(state=None), "lacks state: expected state, prompt, head, got head, prompt"),
    (good(head=None, prompt=None), "lacks prompt, head"),
    (good(state=np.zeros(4)), r"state has shape \(4,\), expected \(3,\) \(the joints joint_0"),
    (good(state=np.zeros((3, 1))), r"state has shape \(3, 1\)"),
    (good(state=np.array([0, np.nan, 0])), r"state is not finite at \(1,\)"),
    (good(state=np.array([0, 1e9, 0])), "expected SI units"),
    (good(state=np.array(["a", "b", "c"])), "expected an array of numbers"),
    (good(state=[[1], [2, 3]]), "ragged"),
    (good(state=["x"]), "more than numbers"),
    (good(state="abc"), "state is str"),
    (good(head=IMAGE.astype(np.float32)), "image head is float32, expected uint8"),
    (good(head=np.full((4, 5, 3), np.nan)), "with NaN or infinite pixels"),
    (good(head=IMAGE[None]), r"image head has shape \(1, 4, 5, 3\)"),
    (good(head=IMAGE[:3]), "image head is 3 x 5, expected 4 x 5: resize"),
    (good(head=b"jpeg"), "image head is a bytes"),
    (good(prompt=""), "prompt is empty"),
    (good(prompt=7), "prompt is 7"),
    (good(prompt=b"go"), "prompt is b'go'"),
    (good(prompt="x" * 3000), "3000 characters"),
    (good(reset="yes"), "reset is 'yes'"),
    (good(deadline_ms=0), "deadline_ms is 0"),
    (good(deadline_ms=float("nan")), "deadline_ms is nan"),
    (good(deadline_ms=True), "deadline_ms is True"),
    (good(stamp=-1), "stamp is -1"),
    (good(stamp=1.5), "stamp is 1.5"),
    (good(prefix=np.zeros((4, 2))), "fewer than the horizon"),
    (good(prefix=np.zeros((1, 3))), r"expected \(m, 2\)"),
    (good(noise=np.zeros((4, 3))), r"noise has shape \(4, 3\), expected \(4, 7\)"),
    (good(**{"observation/head": IMAGE}), "'head' is given twice"),
    (good(deep={"a": {"b": {"c": {"d": 1}}}}), "too deep"),
    ({**good(), 3: 4}, "a key of the request is 3"),
]


@pytest.mark.parametrize(("message", "words"), BAD)
def test_bad_requests_are_refused_by_name(message, words):
    with pytest.raises(ValueError, match=words):
        parse(message)


@pytest.mark.parametrize("key", ["prefix", "noise"])
def test_what_a_policy_does_not_take_is_refused_not_dropped(key):
    plain = PolicyMetadata("plain", ("a", "b"), 4, 0.1, ("head",), (4, 5))
    assert key not in announcement(plain, JOINTS, 1)["optional_keys"]
    assert key in announcement(META, JOINTS, 1)["optional_keys"]
    with pytest.raises(ValueError, match=f"plain takes no '{key}'"):
        parse(good(**{key: np.zeros((1, 2))}), plain)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(), st.text(max_size=5), st.binary(max_size=5),
    hnp.arrays(st.sampled_from(["f4", "u1", "U2", "?"]), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)),
)  # fmt: skip
KEYS = st.sampled_from(["state", "head", "prompt", "observation", "images", "reset", "stamp", "noise", "prefix", "x"])
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))


@given(TREES, st.dictionaries(KEYS | st.sampled_from(["deadline_ms", "base_pose"]), LEAVES, max_size=4))
def test_any_tree_is_a_request_or_refused_in_words(tree, changed):
    for message in (tree, good(**changed)):
        try:
            request = parse(message)
        except ValueError:
            continue
        assert np.isfinite(request.observation.state.position).all()
        assert request.observation.images["head"].shape == (4, 5, 3)


def test_only_actions_are_an_array_in_a_reply(echo, make_request, robot):
    request = parse_request(make_request(), echo.metadata, robot.joint_names, 1)
    answer = reply(echo.infer(request.observation), "reach", {"infer_ms": 1.0}, 1.0)
    arrays = [key for key, value in answer.items() if isinstance(value, np.ndarray | np.generic)]
    assert arrays == ["actions"]
    assert answer["actions"].shape == (4, 19)
    assert answer["task_status"] == 0
    assert answer["confidence"] == 0.75
