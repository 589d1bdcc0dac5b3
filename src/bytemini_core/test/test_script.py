"""The script ./bytemini, as far as it can be tried without a set-up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh checkout, as far as the script looks, at a path with spaces."""
    root = tmp_path / "a fresh checkout"
    for name in ("bytemini", "requirements", "overlay", "src/bytemini_core/setup.py", "src/bytemini_core/package.xml"):
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, target)
    return root


def run(script: Path, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        [script, *argv], cwd="/", env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_help_needs_no_set_up(checkout: Path) -> None:
    for argv in ([], ["--help"], ["-h"], ["help"]):
        done = run(checkout / "bytemini", *argv)
        assert done.returncode == 0, done.stderr
        assert "Commands: bench lint setup test\n" in done.stdout
        assert done.stderr == ""
    assert not (checkout / ".setup").exists()
    assert not (checkout / ".venv").exists()


def test_it_may_be_called_through_a_link(checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkout / "bytemini")
    assert run(link, "--help").returncode == 0


@pytest.mark.skipif(os.environ.get("ROS_DISTRO") == "jazzy", reason="the installed ROS decides on Python")
def test_a_path_that_no_search_path_can_hold_is_refused(checkout: Path) -> None:
    odd = checkout.rename(checkout.with_name("a:b"))
    done = run(odd / "bytemini", "setup")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "colon" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said_in_one_line(checkout: Path) -> None:
    checkout.chmod(0o555)
    try:
        done = run(checkout / "bytemini", "setup")
    finally:
        checkout.chmod(0o755)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_every_requirement_is_pinned_once() -> None:
    pin = re.compile(r"([a-zA-Z0-9._-]+)(?:\[[a-z]+\])?==[0-9][0-9.]*")
    names: list[str] = []
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        for line in path.read_text().splitlines():
            if line and not line.startswith("#") and line != "-c constraints.txt":
                match = pin.fullmatch(line)
                assert match, f"{path.name}: {line}"
                names.append(re.sub(r"[-_.]+", "-", match[1]).lower())
    assert sorted(names) == sorted(set(names))


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say() -> None:
    scripts = ["bytemini", "requirements/set_up.bash", ".ci/run"]
    done = subprocess.run(["shellcheck", "-x", *scripts], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
