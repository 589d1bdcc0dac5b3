"""Training: resumed after a kill it goes on along the same curve."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bytemini_core.errors import UserError
from bytemini_core.types import Observation, RobotState
from gr3.deploy import CheckpointError, load_policy
from gr3.export import READOUT, Use, export_run
from gr3.views import TINY_VIEWS

from gr3 import ablations, train

SMALL = ["--robot-batch", "4", "--stills-batch", "2", "--conversations", "2", "--processes", "1", "--taus", "2",
         "--warmup", "4", "--save-every", "2", "--validate-every", "4", "--acting", "0", "--acting-batch", "4",
         "--acting-taus", "3"]  # fmt: skip


@pytest.fixture
def data(tmp_path, write_shards, layout):
    return write_shards(tmp_path / "data", layout)


@pytest.fixture
def toyed(monkeypatch, small):
    """The recipe's model is the toy."""
    monkeypatch.setattr("gr3.config.tiny", small)


def rows(folder):
    with (folder / "log.csv").open() as file:
        return [
            {k: v for k, v in row.items() if k not in ("samples_per_s", "memory_mib")} for row in csv.DictReader(file)
        ]


@pytest.mark.usefixtures("toyed")
def test_a_resumed_run_has_the_curve_of_one_that_was_never_stopped(data, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    some = ["--data", str(data), *SMALL, "--steps", "4", "--acting", "3"]
    train.main([*some, "--out", str(whole)])
    # Stopped by the clock after each step, across the two stages, then to the end.
    for _ in range(5):
        train.main([*some, "--out", str(parts), "--minutes", "1e-6"])
    assert len(rows(parts)) == 5
    train.main([*some, "--out", str(parts)])
    assert [row["step"] for row in rows(whole)] == [str(i) for i in range(1, 8)]
    assert rows(parts) == rows(whole)
    assert [json.loads(line)["step"] for line in (whole / "validation.jsonl").read_text().splitlines()] == [4, 7]


@pytest.mark.usefixtures("toyed")
def test_in_the_last_stage_only_the_dit_learns(data, tmp_path):
    out, alone = tmp_path / "out", tmp_path / "alone"
    arguments = ["--data", str(data), *SMALL]
    train.main([*arguments, "--out", str(out), "--steps", "2"])
    before = torch.load(out / "last.pt", weights_only=True)["average"]
    train.main([*arguments, "--out", str(alone), "--init", str(out), "--steps", "0", "--acting", "2"])
    train.main([*arguments, "--out", str(out), "--steps", "2", "--acting", "2"])
    for folder, first in ((out, 2), (alone, 0)):
        after = torch.load(folder / "last.pt", weights_only=True)
        for name, old in before.items():
            if name.startswith("dit."):
                continue
            assert torch.equal(after["model"][name], old), name
        assert any(not torch.equal(after["model"][name], before[name]) for name in before if name.startswith("dit."))
        assert {row.get("next_token", "nan") for row in rows(folder)[first:]} == {"nan"}
        assert len(rows(folder)) == first + 2


@pytest.mark.usefixtures("toyed")
def test_a_run_drives_as_its_export_does(data, tmp_path, robot):
    """Torch, without an export, and onnxruntime."""
    out = tmp_path / "out"
    train.main(["--data", str(data), "--out", str(out), *SMALL, "--steps", "2"])
    saved = torch.load(out / "last.pt", weights_only=True)
    generator = torch.Generator().manual_seed(1)
    for weight in saved["average"].values():  # what training begins at zero would hide the rest
        if weight.is_floating_point():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    torch.save(saved, out / "last.pt")
    export_run(out, tmp_path / "checkpoint", "toy")
    rng, n = np.random.default_rng(0), len(robot.joint_names)
    state = RobotState(0, tuple(robot.joint_names), robot.home, np.zeros(n), np.zeros(n))
    images = {name: rng.integers(0, 256, (224, 224, 3), dtype=np.uint8) for name in TINY_VIEWS}
    observation = Observation(0, "put the apple into the bowl", state, images)
    run, exported = load_policy(out, robot, seed=3), load_policy(tmp_path / "checkpoint", robot, seed=3)
    assert run.metadata.extra["provider"].startswith("torch")
    first, second = run.infer(observation), exported.infer(observation)
    np.testing.assert_allclose(first.values, second.values, atol=1e-4)
    assert np.abs(first.values - robot.home[0]).max() > 0.01
    (out / "last.pt").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_policy(out, robot)


@pytest.mark.usefixtures("toyed")
def test_a_run_begins_with_the_weights_words_and_sizes_of_another(data, tmp_path, write_shards, layout):
    first, second = tmp_path / "first", tmp_path / "second"
    train.main(["--data", str(data), "--out", str(first), *SMALL, "--steps", "2"])
    more = write_shards(tmp_path / "more", layout)
    episodes = json.loads((more / "demos" / "00000" / "meta.json").read_text())
    episodes["episodes"][0]["instruction"] = "put something new into the bowl"
    (more / "demos" / "00000" / "meta.json").write_text(json.dumps(episodes))
    arguments = ["--data", str(more), "--out", str(second), "--init", str(first), *SMALL, "--steps", "1"]
    train.main([*arguments, "--learning-rate", "0", "--ema", "0"])
    old, new = (torch.load(run / "last.pt", weights_only=True)["average"] for run in (first, second))
    for name, weight in old.items():
        torch.testing.assert_close(new[name], weight)
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()
    records = [json.loads((run / "training.json").read_text()) for run in (first, second)]
    assert records[1]["normalisation"] == records[0]["normalisation"]
    assert [s["data"] for s in records[1]["sessions"]][:1] == [s["data"] for s in records[0]["sessions"]]
    for wrong, words in ((["--no-norm"], "is another model"), (["--init", str(tmp_path)], "is no training run")):
        with pytest.raises(UserError, match=words):
            train.main([*arguments, *wrong, "--out", str(tmp_path / "third")])
    assert not (tmp_path / "third" / "training.json").exists()


@pytest.mark.usefixtures("toyed")
def test_a_run_begins_with_a_checkpoint(data, tmp_path):
    first, checkpoint = tmp_path / "first", tmp_path / "checkpoint"
    train.main(["--data", str(data), "--out", str(first), *SMALL, "--steps", "2"])
    export_run(first, checkpoint, "toy")
    arguments = ["--data", str(data), "--init", str(checkpoint), *SMALL, "--steps", "1"]
    train.main([*arguments, "--out", str(tmp_path / "second"), "--learning-rate", "0", "--ema", "0"])
    old, new = (torch.load(tmp_path / run / "last.pt", weights_only=True)["average"] for run in ("first", "second"))
    for name, weight in old.items():
        torch.testing.assert_close(new[name], weight)
    export_run(first, tmp_path / "half", "toy", use=Use(half=True))
    shutil.copytree(checkpoint, tmp_path / "damaged")
    (tmp_path / "damaged" / "prefix.onnx").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="is a checkpoint already"):
        export_run(checkpoint, tmp_path / "again", "toy")
    for wrong, words in (("half", "float16"), ("damaged", "digest differs")):
        with pytest.raises(UserError, match=words):
            train.main([*arguments, "--init", str(tmp_path / wrong), "--out", str(tmp_path / "refused")])
    assert not (tmp_path / "refused" / "training.json").exists()
    (checkpoint / READOUT).unlink()  # as older exports are: only actions are known, and a new export says no more
    train.main([*arguments, "--out", str(tmp_path / "third"), "--steps", "0", "--acting", "1"])
    export_run(tmp_path / "third", tmp_path / "again", "toy")
    assert not (tmp_path / "again" / READOUT).exists()


def test_a_run_takes_up_another_vision_tower(data, tmp_path, monkeypatch, small):
    monkeypatch.setattr("gr3.config.tiny", small)
    first, second = tmp_path / "first", tmp_path / "second"
    train.main(["--data", str(data), "--out", str(first), *SMALL, "--steps", "2"])

    def wider(vocabulary):
        model = small(vocabulary)
        return replace(model, vision=replace(model.vision, hidden=32))

    monkeypatch.setattr("gr3.config.tiny", wider)
    arguments = ["--data", str(data), "--out", str(second), "--init", str(first), *SMALL, "--steps", "0"]
    with pytest.raises(UserError, match="--looking STEPS teaches a new one"):
        train.main([*arguments, "--acting", "1", "--looking", "0"])
    train.main([*arguments, "--acting", "1", "--looking", "2"])
    before, after = (torch.load(run / "last.pt", weights_only=True)["average"] for run in (first, second))
    assert after["backbone.qwen.visual.blocks.0.norm1.weight"].shape == (32,)
    read = "backbone.qwen.language_model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(after[read], before[read])


@pytest.mark.slow
@pytest.mark.usefixtures("toyed")
def test_a_run_killed_by_force_goes_on(data, tmp_path):
    """The toy is put in place of the recipe's model in the other process too."""
    out = tmp_path / "run"
    conftest = str(Path(__file__).parent / "conftest.py")
    code = (
        f"import runpy; c = runpy.run_path({conftest!r}); import gr3.config; gr3.config.tiny = c['_small']\n"
        f"from gr3.train import main; main({['--data', str(data), '--out', str(out), '--steps', '400', *SMALL]!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "log.csv").exists() or len(rows(out)) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = rows(out)
    train.main(["--data", str(data), "--out", str(out), "--steps", "400", "--minutes", "0.02", *SMALL])
    after = rows(out)
    assert [int(row["step"]) for row in after] == list(range(1, len(after) + 1))
    for old, new in zip(before, after, strict=False):
        assert old == new


def test_learning_rate_rises_stays_and_falls():
    config = train.TrainConfig(steps=1000, warmup=100, decay=0.2, learning_rate=1.0)
    assert train.rate_at(0, config) == pytest.approx(0.01)
    assert train.rate_at(99, config) == train.rate_at(500, config) == train.rate_at(799, config) == 1.0
    assert train.rate_at(900, config) == pytest.approx(0.5)
    assert train.rate_at(999, config) == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recipe", "gr4"], "no recipe 'gr4'"),
        ([], "--data FOLDER"),
        (["--data", "/nowhere", "--out", "OUT"], "holds no data"),
        (["--data", "DATA", "--out", "OUT", "--robot-batch", "5", "--processes", "2"], "does not split evenly"),
        (["--data", "DATA", "--out", "OUT", "--size", "huge"], "expected tiny or full"),
        (["--data", "DATA", "--out", "OUT", "--blind", "25"], "expected a share from 0 to 1"),
        (["--data", "DATA", "--out", "OUT", "--size", "full", "--processes", "1"], "--backbone FOLDER"),
    ],
)
def test_bad_arguments_are_refused(data, tmp_path, arguments, words):
    put = {"DATA": str(data), "OUT": str(tmp_path / "out")}
    with pytest.raises(UserError, match=words):
        train.main([put.get(a, a) for a in arguments])


@pytest.mark.usefixtures("toyed")
def test_a_folder_of_another_run_is_refused(data, tmp_path):
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--steps", "1", *SMALL]
    train.main(arguments)
    with pytest.raises(UserError, match="norm=True"):
        train.main([*arguments, "--no-norm"])


@pytest.mark.usefixtures("toyed")
def test_ablations_get_one_budget_and_make_one_table(data, tmp_path, monkeypatch, capsys):
    plain = train.main
    monkeypatch.setattr(train, "main", lambda argv: plain([*SMALL, *argv]))
    arguments = [str(data), str(tmp_path), "--looking", "0", "--steps", "1", "--acting", "1", "--processes", "1",
                 "--episodes", "0"]  # fmt: skip
    ablations.main(arguments)
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line[0] for line in table[2:]] == ["| whole", "| without-norm", "| without-status", "| without-cotraining"]
    for line in table[2:]:
        name = line[0].removeprefix("| ")
        out = tmp_path / ("gr3-tiny" if name == "whole" else f"gr3-tiny-{name}")
        assert len(rows(out)) == 2
        assert ("next_token" in rows(out)[0]) == (name != "without-cotraining")
        assert (line[2] == "-") == (name == "without-status"), "nothing to be right about"
    monkeypatch.setattr(train, "main", None)
    ablations.main(arguments)  # nothing is trained twice


@pytest.mark.slow
@pytest.mark.usefixtures("toyed")
def test_two_processes_train_one_model(data, tmp_path):
    """Each draws its own share of a batch; the gradients are averaged, so both walk the same way."""
    out = tmp_path / "out"
    arguments = ["--data", str(data), "--out", str(out), "--steps", "3", *SMALL]
    arguments[arguments.index("--processes") + 1] = "2"
    train.main(arguments)
    found = rows(out)
    assert [row["step"] for row in found] == ["1", "2", "3"]
    assert all(float(row["loss"]) < 20 for row in found)
