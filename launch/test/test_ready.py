"""Bring-up by state: who waits for whom, and what is said when it was in vain."""

import subprocess
import sys

import pytest
from bytemini_core.domain import private_domain

from bytemini_bringup.processes import ProcessDiedError, Processes
from bytemini_bringup.ready import Ready
from bytemini_bringup.stack import Process, options, stack


def test_robot_comes_up_from_its_description_to_its_policy():
    serials = {"head_serial": "1234", "left_wrist_serial": "77"}
    processes = stack(options(sim="none", policy="gr3-tiny", **serials))
    waited = [(p.name, p.ready.kind) for p in processes if p.ready is not None]
    assert waited == [
        ("robot_state_publisher", "topic"), ("wbc_controller", "hold"), ("cameras", "active"), ("gr3_policy", "active"),
    ]  # fmt: skip
    cameras = next(p for p in processes if p.name == "cameras")
    assert {name: cameras.parameters[name] for name in serials} == serials
    assert "right_wrist_serial" not in cameras.parameters
    with pytest.raises(ValueError, match="need sim:=none"):
        stack(options(sim="mujoco", **serials))


def test_unknown_kind_of_readiness_is_refused():
    with pytest.raises(ValueError, match="kind 'soon'"):
        Ready("soon", "x")


@pytest.mark.e2e
def test_waiting_in_vain_says_for_what():
    command = [sys.executable, "-m", "bytemini_bringup.ready", "service", "nowhere", "--seconds", "1"]
    with private_domain():
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip() == "waited 1 s in vain for nowhere: somebody serves it"


@pytest.mark.e2e
def test_a_part_that_dies_while_the_others_wait_ends_the_bring_up(tmp_path):
    broken = Process(
        "wbc_controller", "wbc_controller", "wbc_node", {"robot": "v3"}, ready=Ready("hold", "wbc/mode")
    )  # fmt: skip
    with (
        private_domain() as domain,
        pytest.raises(ProcessDiedError, match=r"wbc_controller ended with status 2: .*'v3', expected v1 or v2"),
        Processes((broken,), tmp_path, environment={"ROS_DOMAIN_ID": str(domain)}, ordered=True),
    ):
        pass
