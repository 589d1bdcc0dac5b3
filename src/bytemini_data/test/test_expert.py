"""The scripted expert recorded by a plan, gone on with, replayed; and what the real lerobot loader says of a set."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bytemini_core.commands import workspace
from bytemini_core.errors import UserError
from bytemini_data.data import main as data
from bytemini_data.expert import Collection, Options
from bytemini_data.features import ACTION, STATE, TASK_STATUS
from bytemini_data.lerobot import Dataset
from bytemini_data.plan import parse_plan
from bytemini_data.record import main as record
from bytemini_data.replay import replay
from bytemini_description.robot import load_robot
from gr3_policy_node.backends import load_policy

PLAN = {
    "actions": {"put": {"words": "put the {object} into the {destination}", "task": "pick_place"}},
    "objects": ["orange", "banana"],
    "destinations": ["carton", "basket"],
    "episodes": 2,
    "seed": 3,
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("expert") / "set"
    for stop in (1, 2):  # interrupted after the first, and gone on with
        collection = Collection(parse_plan(PLAN), root, Options(image_size=96))
        saved = []

        def stepped(saved=saved, stop=stop):
            saved.append(1)
            if stop == 1:
                raise KeyboardInterrupt

        try:
            collection.run(1, print, stepped)
        except KeyboardInterrupt:
            assert stop == 1
        collection.close()
    return root


@pytest.mark.e2e
def test_the_expert_is_recorded_as_planned_and_gone_on_with(recorded):
    dataset = Dataset(recorded)
    assert len(dataset.rows) == 2
    assert len({row.task for row in dataset.rows}) == 2
    assert all(row.fields["success"] for row in dataset.rows)
    names = dataset.names(ACTION)
    arms = [i for i, name in enumerate(names) if name.startswith(("left", "right")) and "gripper" not in name]
    for place in range(2):
        span = dataset.span(place)
        state, action = (dataset.column(name)[span.start : span.stop] for name in (STATE, ACTION))
        # The action is where the arms then are, a frame later, up to the lag of the controller.
        assert np.abs(action[:-1, arms] - state[1:, arms]).mean() < 0.02
        assert np.abs(np.diff(state[:, arms], axis=0)).max() > 0.02
        status = dataset.column(TASK_STATUS)[span.start : span.stop]
        assert status[0] == 0
        assert status[-1] == 1
    assert data(["check", str(recorded)]) == 0


@pytest.mark.e2e
def test_a_replay_does_what_was_recorded(recorded):
    outcome = replay(recorded, 0)
    assert outcome.success
    assert outcome.arm_rms < 0.02
    with pytest.raises(ValueError, match="episode 7 does not exist"):
        replay(recorded, 7)
    robot = load_robot("v1")
    policy = load_policy(f"replay:{recorded}#1", robot)  # as any policy is named: to serve it, or for the node
    assert policy.metadata.name == f"{recorded.name}#1"
    with pytest.raises(ValueError, match="episode 7 does not exist"):
        load_policy(f"replay:{recorded}#7", robot)
    with pytest.raises(ValueError, match=r"no .*info\.json|meta/info\.json"):
        load_policy(f"replay:{recorded.parent}", robot)


@pytest.mark.e2e
def test_the_real_lerobot_loader_reads_the_set(recorded):
    root = workspace()
    if not (root / ".setup/lerobot/complete").is_file():
        pytest.skip("the real loader is not installed: ./tools/check_lerobot.sh installs it, which takes a minute")
    done = subprocess.run(
        [root / "tools/check_lerobot.sh", recorded],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_cannot_be_recorded_is_refused_before_anything_is_written(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("episodes: 2\nactions: [wave]\n")
    out = tmp_path / "out"
    for arguments, says in (
        (["--policy", "expert"], "names no task of the simulator"),
        (["--policy", "expert", "--jobs", "0"], "--jobs is 0"),
        (["--policy", "expert", "--image-size", "33"], "--image-size is 33"),
        (["--policy", "expert", "--noise", "9"], "--noise is 9"),
    ):
        with pytest.raises(UserError, match=says):
            record(["--plan", str(plan), "--out", str(out), *arguments])
    assert not out.exists()
    with pytest.raises(UserError, match="cannot be read"):
        record(["--plan", str(tmp_path / "none.yaml"), "--out", str(out)])


def test_an_unknown_object_stops_at_once_with_its_name(tmp_path):
    plan = parse_plan({**PLAN, "objects": ["unicorn"]})
    collection = Collection(plan, Path(tmp_path) / "set", Options(image_size=64))
    with pytest.raises(ValueError, match="unicorn"):
        collection.run(1, print, lambda: None)
    collection.close()
