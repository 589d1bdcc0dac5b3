"""ROS domains of this machine: who has which, and one for whoever must be alone.

Tests, benchmarks and rollouts run several stacks on one machine, and none may hear another. A domain is claimed by a
lock that ends with its process. Above 101 the ports of DDS lie among those that Linux gives to outgoing connections
(7400 + 250 x domain against 32768 and up), hence the range.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

DOMAINS = range(20, 100)
"""Domains that are taken by whoever needs one of its own; 0 to 19 are left to the user's own stacks."""


@contextlib.contextmanager
def claimed(domain: int) -> Iterator[bool]:
    """Whether this process got the domain for itself, among those of this machine that ask here."""
    with Path(f"/tmp/bytemini-domain-{domain}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def private_domain() -> Iterator[int]:
    """A domain that nobody else claims, as ROS_DOMAIN_ID of this process and of those that it starts, until the end.

    Raises:
        OSError: all are taken.
    """
    before = os.environ.get("ROS_DOMAIN_ID")
    # From the end: rollouts look from the beginning, so that they rarely meet.
    for domain in reversed(DOMAINS):
        with claimed(domain) as free:
            if not free:
                continue
            os.environ["ROS_DOMAIN_ID"] = str(domain)
            try:
                yield domain
            finally:
                if before is None:
                    del os.environ["ROS_DOMAIN_ID"]
                else:
                    os.environ["ROS_DOMAIN_ID"] = before
            return
    raise OSError(f"ROS domains {DOMAINS[0]} to {DOMAINS[-1]} are all in use on this machine: stop what uses them")
