"""Export and deployment: the same numbers without torch, and refusals that name the mismatch."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from bytemini_core.types import Observation, RobotState
from gr3.deploy import CheckpointError, load_policy
from gr3.views import TINY_VIEWS


def observation(robot, instruction="put the apple into the bowl", seed=0):
    rng = np.random.default_rng(seed)
    n = len(robot.joint_names)
    state = RobotState(5, tuple(robot.joint_names), robot.home + 0.01 * rng.normal(size=n), np.zeros(n), np.zeros(n))
    images = {name: rng.integers(0, 256, (224, 224, 3), dtype=np.uint8) for name in TINY_VIEWS}
    return Observation(5, instruction, state, images)


@pytest.fixture(scope="module")
def policy(checkpoint):
    return load_policy(checkpoint[0], threads=1, provider="cpu")


def test_export_equals_torch_on_random_inputs(checkpoint):
    assert checkpoint[2] < 1e-4


def test_chunks_equal_torch_on_an_observation(checkpoint, policy, robot):
    folder, model, _ = checkpoint
    o = observation(robot)
    noise = np.random.default_rng(1).normal(size=(16, 38)).astype(np.float32)
    chunk = policy.infer(o, noise=noise)
    from gr3.layout import ChunkCodec
    from gr3.text import Text

    codec = ChunkCodec(robot)
    ids, mask = Text.load(folder / "tokenizer.json").instruction(o.instruction, model.config.text_length)
    images = [torch.from_numpy(TINY_VIEWS[name].of(o.images[name]))[None] for name in model.config.cameras]
    with torch.no_grad():
        prefix = model.prefix(images, torch.from_numpy(ids)[None], torch.from_numpy(mask)[None])
        state = torch.from_numpy(codec.state(o.state))[None]
        rows = model.sample(prefix, state, torch.from_numpy(noise)[None])[0].numpy() * 0.02
    values, status, confidence = codec.decode(o.state, rows)
    np.testing.assert_allclose(chunk.values, values, atol=1e-5)
    np.testing.assert_array_equal(chunk.task_status, status)
    np.testing.assert_allclose(chunk.confidence, confidence, atol=1e-4)
    assert chunk.names == tuple(robot.policy_columns)
    assert chunk.stamp == o.stamp


def test_metadata_says_what_it_needs(policy):
    metadata = policy.metadata
    assert metadata.cameras == ("head", "left_wrist", "right_wrist")
    assert metadata.image_size == (224, 224)
    assert not metadata.privileged
    assert metadata.extra["provider"] == "CPUExecutionProvider"


def test_a_batch_gives_what_each_would_give_alone(policy, robot):
    observations = [observation(robot, seed=i) for i in range(3)]
    prefixes = [None, np.tile(policy.infer(observations[1]).values[:1], (2, 1)), None]
    noises = [np.random.default_rng(i).normal(size=(16, 38)).astype(np.float32) for i in range(3)]
    together = policy.infer_batch(observations, prefixes, noises)
    for i, chunk in enumerate(together):
        alone = policy.infer(observations[i], prefixes[i], noises[i])
        np.testing.assert_allclose(chunk.values, alone.values, atol=1e-5)


def test_observations_side_by_side_give_what_each_would_give_alone(checkpoint, policy, robot):
    several = load_policy(checkpoint[0], threads=2, provider="cpu")
    observations = [observation(robot, seed=i) for i in range(3)]
    noises = [np.random.default_rng(i).normal(size=(16, 38)).astype(np.float32) for i in range(3)]
    for n in (1, 2, 3):
        together = several.infer_batch(observations[:n], None, noises[:n])
        assert len(together) == n
        for chunk, o, noise in zip(together, observations, noises, strict=False):
            np.testing.assert_allclose(chunk.values, policy.infer(o, None, noise).values, atol=1e-5)


def test_a_prefix_is_kept(policy, robot):
    o = observation(robot)
    first = policy.infer(o).values
    again = policy.infer(o, prefix=first[:3])
    np.testing.assert_allclose(again.values[:3], first[:3], atol=1e-5)


def test_noise_lasts_a_task(policy, robot):
    o = observation(robot)
    policy.reset()
    first, second = policy.infer(o), policy.infer(o)
    np.testing.assert_array_equal(first.values, second.values)
    policy.reset()
    assert not np.array_equal(first.values, policy.infer(o).values)


def test_a_checkpoint_may_say_that_the_middle_way_is_to_be_taken(checkpoint, tmp_path, robot):
    still = load_policy(edited(checkpoint[0], tmp_path, lambda p: p.update(noise=0.0)))
    first = still.infer(observation(robot)).values
    still.reset()
    np.testing.assert_array_equal(first, still.infer(observation(robot)).values)
    width = len(still.metadata.columns)
    zero = np.zeros((still.metadata.horizon, width), np.float32)
    np.testing.assert_array_equal(first, still.infer(observation(robot), noise=zero).values)


def test_words_change_the_chunk(policy, robot):
    first = policy.infer(observation(robot, "put the apple into the bowl")).values
    assert not np.array_equal(first, policy.infer(observation(robot, "put the mug into the bowl")).values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": {}}, "no picture of head"),
        ({"images": "small"}, "expected uint8"),
        ({"instruction": " "}, "is empty"),
        ({"instruction": "put " * 40}, "say it shorter"),
        ({"prefix": np.zeros((2, 18))}, "prefix has shape"),
        ({"prefix": np.zeros((16, 19))}, "prefix has shape"),
        ({"prefix": np.full((2, 19), np.nan)}, "not finite"),
        ({"noise": np.zeros((3, 3))}, "noise has shape"),
    ],
)
def test_bad_requests_are_refused(policy, robot, change, words):
    o = observation(robot, change.get("instruction", "put the apple into the bowl"))
    images = change.get("images", o.images)
    if images == "small":
        images = {name: np.zeros((100, 100, 3), np.uint8) for name in o.images}
    o = Observation(o.stamp, o.instruction, o.state, images)
    with pytest.raises(ValueError, match=words):
        policy.infer(o, change.get("prefix"), change.get("noise"))


def edited(folder, tmp_path, edit):
    """A copy of a checkpoint with policy.json changed."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    policy = json.loads((copy / "policy.json").read_text())
    edit(policy)
    (copy / "policy.json").write_text(json.dumps(policy))
    return copy


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda p: p["policy_columns"].reverse(), "entry 0 is 'base/yaw', the robot's is 'left_shoulder_pitch_joint'"),
        (lambda p: p["state_names"].pop(), "60 instead of 61"),
        (lambda p: p["columns"].append("tail"), "39 instead of 38"),
        (lambda p: p.update(cameras=["head"]), "cameras head"),
        (lambda p: p.update(format="other/1"), "'other/1'"),
        (lambda p: p.pop("views"), "lacks views"),
        (lambda p: p["normalisation"].update(state_mean=[0.0]), "state_mean"),
        (lambda p: p.update(noise=float("nan")), "scale of the noise is nan"),
        (lambda p: p["digests"].update({"prefix.onnx": "0"}), "digest differs"),
    ],
)
def test_wrong_checkpoints_are_refused(checkpoint, tmp_path, edit, words):
    with pytest.raises(CheckpointError, match=words):
        load_policy(edited(checkpoint[0], tmp_path, edit))


@pytest.mark.parametrize("name", ["policy.json", "tokenizer.json", "prefix.onnx", "denoise.onnx"])
def test_incomplete_checkpoints_are_refused(checkpoint, tmp_path, name):
    shutil.copytree(checkpoint[0], tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_policy(tmp_path / "copy")


def test_an_unknown_provider_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match="expected auto"):
        load_policy(checkpoint[0], provider="abacus")
    with pytest.raises(CheckpointError, match="has no CUDAExecutionProvider"):
        load_policy(checkpoint[0], provider="cuda")


def test_deployment_imports_no_torch():
    code = "import sys, gr3.deploy; sys.exit('torch' in sys.modules or 'mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_export_in_half_precision_stays_within_its_tolerance(checkpoint, small, tmp_path):
    """With weights of the size that training gives; those of the other tests are ten times as large."""
    from gr3.export import TOLERANCE, compare, graphs
    from gr3.model import GR3

    torch.manual_seed(0)
    model = GR3(small(checkpoint[1].config.text.vocabulary)).eval()
    for parameter in model.dit.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    graphs(model, tmp_path, half=True)
    full = (checkpoint[0] / "prefix.onnx").stat().st_size
    assert (tmp_path / "prefix.onnx").stat().st_size < 0.9 * full
    assert 0 < compare(model, tmp_path) < TOLERANCE["float16"]
