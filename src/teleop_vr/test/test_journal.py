"""What was written down happens again, to the bit."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from bytemini_core.types import Mode, RobotState
from bytemini_description.robot import load_robot
from teleop_vr.journal import Journal, JournalError, checksum, replay
from teleop_vr.retarget import RetargetConfig
from teleop_vr.rig import Rig

from teleop_vr import inputs


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("journal") / "run.jsonl.gz"
    rig = Rig(load_robot("v1"))
    with Journal(path, "v1", RetargetConfig(), False) as journal:
        # what came before the journal began is said again
        rig.session = type(rig.session)(rig.model)
        rig.watch = lambda item, out: journal.add(rig.now, item, out)
        rig.feed(inputs.Opened(1))
        rig.say({"type": "hello", "protocol": 1, "client": "rig", "want": "operator"})
        rig.run(0.2)
        rig.engage("left", "right")
        left, right = rig.headset.left.pose.copy(), rig.headset.right.pose.copy()

        def move(t: float) -> None:
            rig.headset.left.pose[:3] = left[:3] + 0.05 * np.sin(3.0 * t)
            rig.headset.right.pose[:3] = right[:3] - 0.04 * np.sin(4.0 * t)
            rig.headset.right.stick = (0.0, 0.5 if t > 0.5 else 0.0)
            rig.headset.left.tracked = not 0.6 < t < 0.7

        rig.run(1.5, move)
        rig.feed(inputs.Force("left", 12.0))
        rig.feed(inputs.Recorder("RECORDING", 3, warnings=("slow",)))
        rig.order("estop")
    return path


def test_a_replay_gives_the_same_references(journal: Path):
    first, second = replay(journal), replay(journal)
    assert first == second
    assert first.different is None
    assert first.references > 100


def test_a_replay_tells_where_it_differs(journal: Path, tmp_path: Path):
    lines = gzip.decompress(journal.read_bytes()).decode().splitlines()
    with_reference = [i for i, line in enumerate(lines) if '"reference"' in line]
    where = with_reference[50]
    lines[where] = lines[where].replace('"reference":', '"reference":1')
    changed = tmp_path / "changed.jsonl.gz"
    changed.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert replay(changed).different == where


def test_a_journal_that_was_cut_off_still_counts(journal: Path, tmp_path: Path):
    cut = tmp_path / "cut.jsonl.gz"
    content = journal.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    found = replay(cut)
    assert found.different is None
    assert 0 < found.inputs < replay(journal).inputs


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"{}\n"), gzip.compress(b'{"format": "other"}\n')])
def test_what_is_no_journal_is_refused(content: bytes, tmp_path: Path):
    path = tmp_path / "wrong.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="wrong"):
        replay(path)


def test_every_input_comes_back_as_it_was():
    rng = np.random.default_rng(1)
    numbers = [rng.normal(size=2) for _ in range(3)]
    state = RobotState(5, ("a", "b"), *numbers, rng.normal(size=3), rng.normal(size=3))
    for item in (
        inputs.Opened(1),
        inputs.Closed(2),
        inputs.Binary(1, b"\x00\xff"),
        inputs.Text(1, "é"),
        inputs.Controller(Mode.TELEOP, "why", ("a",), ("b",)),
        inputs.Recorder("SAVED", 4, warnings=("x", "y")),
        inputs.Answered("start", False, "no"),
        inputs.Force("left", 1.5),
        inputs.Pictures({"head": 0.1}),
        inputs.Tick(),
    ):
        assert inputs.from_json(inputs.to_json(item)) == item
    back = inputs.from_json(inputs.to_json(inputs.Measured(state)))
    assert isinstance(back, inputs.Measured)
    for name in ("position", "velocity", "effort", "base_pose", "base_twist"):
        assert np.array_equal(getattr(back.state, name), getattr(state, name))
    with pytest.raises(ValueError, match="no input"):
        inputs.from_json({"kind": "Fly"})


def test_the_checksum_sees_every_number():
    rig = Rig(load_robot("v1"))
    rig.run(0.2)
    rig.engage("left")
    reference = rig.reference
    assert reference is not None
    before = checksum(reference)
    reference.hands[0].pose[0] = np.nextafter(reference.hands[0].pose[0], 9.0)
    assert checksum(reference) != before
