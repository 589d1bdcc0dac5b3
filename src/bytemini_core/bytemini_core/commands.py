"""The commands that belong to the workspace and to no package: set-up, tests, benchmarks, lint."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bytemini_core.cli import BENCHMARKS, OK, call, choose, registered, show_help
from bytemini_core.errors import UserError


def workspace() -> Path:
    """The root of the source tree: what `./bytemini` says, else the tree that this very file is in.

    Raises:
        UserError: this is an installation without its source tree.
    """
    stated = os.environ.get("BYTEMINI_ROOT")
    root = Path(stated) if stated else Path(__file__).resolve().parents[3]
    if not (root / "pyproject.toml").is_file() or not (root / "src").is_dir():
        raise UserError(f"this needs the source tree, and {root} is none: use ./bytemini in a checkout")
    return root


def setup(argv: Sequence[str]) -> int:
    """Set up: packages, Python environment, workspace; only what is missing or has changed."""
    parser = argparse.ArgumentParser(prog="bytemini setup", description=setup.__doc__)
    parser.parse_args(argv)
    print("Ready: ./bytemini --help lists the commands.")  # whatever was to be done ./bytemini did before this
    return OK


def test(argv: Sequence[str]) -> int:
    """Run every test, or with arguments of pytest those that they choose."""
    import pytest

    parser = argparse.ArgumentParser(
        prog="bytemini test",
        description="Run the tests of all packages with pytest.",
        epilog="Other arguments go to pytest, for example: ./bytemini test src/wbc_controller -k limits -x",
    )
    parser.add_argument("--fast", action="store_true", help="leave out the tests marked slow or e2e")
    options, rest = parser.parse_known_args(argv)
    # Paths are the user's, seen from where the user is; settings and test paths are those of the workspace.
    rest = [str(Path(item).absolute()) if Path(item.partition("::")[0]).exists() else item for item in rest]
    os.chdir(workspace())
    if options.fast:
        rest = ["-m", "not slow and not e2e", *rest]
    return int(pytest.main(rest))


def bench(argv: Sequence[str]) -> int:
    """Run a benchmark and print where the time goes."""
    benchmarks = registered(BENCHMARKS)
    if not argv or argv[0] in ("-h", "--help"):
        show_help(
            "./bytemini bench NAME [--json FILE] [ARGUMENTS]",
            "Run one of these benchmarks; --json writes its numbers to a file.",
            benchmarks,
            "./bytemini bench NAME --help says more of each.",
        )
        return OK
    return call(choose(benchmarks, argv[0], "benchmark", "./bytemini bench --help"), argv[1:])


def lint(argv: Sequence[str]) -> int:
    """Check style, types, shell scripts and images (ruff, mypy; shellcheck and hadolint where they are installed)."""
    parser = argparse.ArgumentParser(prog="bytemini lint", description=lint.__doc__)
    parser.parse_args(argv)
    root = workspace()
    packages = sorted(path.parent for path in root.glob("src/*/setup.py"))
    python = [sys.executable, "-m"]
    checks = [
        [*python, "ruff", "check", "."],
        [*python, "ruff", "format", "--check", "."],
        [*python, "mypy", *(str(path / path.name) for path in packages)],
    ]
    if shutil.which("shellcheck"):
        scripts = sorted(str(path.relative_to(root)) for path in root.glob("docker/*.sh"))
        checks.append(["shellcheck", "-x", "bytemini", "requirements/set_up.bash", ".ci/run", *scripts])
    if shutil.which("hadolint"):
        checks.append(["hadolint", "docker/Dockerfile"])
    searched = os.pathsep.join(str(path) for path in packages)
    failed = 0
    for check in checks:
        failed += subprocess.run(check, cwd=root, env={**os.environ, "MYPYPATH": searched}, check=False).returncode != 0
    print(f"{len(checks) - failed} of {len(checks)} checks passed")
    return int(failed > 0)
