"""A domain belongs to one at a time, and the environment is as it was afterwards."""

import os
import subprocess
import sys

from bytemini_core.domain import DOMAINS, claimed, private_domain


def test_two_at_once_have_two_domains_and_the_environment_comes_back(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    with private_domain() as first, private_domain() as second:
        assert first != second
        assert os.environ["ROS_DOMAIN_ID"] == str(second)
        assert {first, second} <= set(DOMAINS)
    assert os.environ["ROS_DOMAIN_ID"] == "7"
    monkeypatch.delenv("ROS_DOMAIN_ID")
    with private_domain():
        pass
    assert "ROS_DOMAIN_ID" not in os.environ


def test_a_claim_holds_against_other_processes_and_ends_with_its_owner():
    ask = "import sys; from bytemini_core.domain import claimed\nwith claimed(int(sys.argv[1])) as free: print(free)"

    def other(domain):
        done = subprocess.run([sys.executable, "-c", ask, str(domain)], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    with private_domain() as domain:
        assert other(domain) == "False"
    with claimed(domain) as free:
        assert free
    assert other(domain) == "True"
