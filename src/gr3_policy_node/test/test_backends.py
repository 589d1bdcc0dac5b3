"""Which words mean which policy."""

import sys
import types

import pytest
from gr3_policy_node.backends import described, load_policy, policy_choice

from gr3_policy_node import backends


def test_what_reads_like_a_policy(tmp_path):
    recording = tmp_path / "episode-000.npz"
    recording.write_bytes(b"")
    for word in ("expert", "ws://host:8000", "wss://host/x", str(tmp_path), f"replay:{recording}"):
        assert policy_choice(word) == word


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("exprt", "did you mean 'expert'"),
        ("", "expected .*expert"),
        ("/no/such/folder", "no checkpoint folder /no/such/folder"),
        ("replay:/no/such.npz", r"no recording /no/such\.npz"),
        ("http://host", "no checkpoint folder"),
    ],
)
def test_what_does_not_is_refused_with_the_alternatives(word, reason, robot):
    with pytest.raises(ValueError, match=reason):
        load_policy(word, robot)


def test_a_folder_is_read_by_the_checkpoint_loader(tmp_path, robot, echo, monkeypatch):
    asked = {}

    def load(folder, **options):
        asked.update(folder=folder, **options)
        return echo

    deploy = types.ModuleType("gr3.deploy")
    deploy.load_policy = load
    monkeypatch.setitem(sys.modules, "gr3", types.ModuleType("gr3"))
    monkeypatch.setitem(sys.modules, "gr3.deploy", deploy)
    assert load_policy(str(tmp_path), robot, seed=3, provider="cpu") is echo
    assert asked == {"folder": tmp_path, "robot": robot, "seed": 3, "provider": "cpu"}


def test_the_description_names_what_computes(echo, policies):
    assert described(echo) == "echo, 4 x 0.1 s"
    assert "CPUExecutionProvider" in described(policies[0](provider="CPUExecutionProvider"))


def test_names_come_from_entry_points():
    assert set(backends.policies()) >= {"expert"}
