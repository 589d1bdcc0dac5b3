from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from bytemini_core.errors import UserError

from bytemini_core import cli, commands

MODULE = '''
"""A module that must not be imported for help."""
import sys

from bytemini_core.errors import UserError

IMPORTED = sys.modules[__name__]


def good(argv):
    """Say what was passed.

    And more that the list does not show.
    """
    print("argv", argv)


def code(argv):
    return 7


def bad(argv):
    """Refuse."""
    raise UserError("no object 'pear':\\n  there are apple, cup")


def stop(argv):
    """Wait."""
    raise KeyboardInterrupt
'''


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, EntryPoint]:
    (tmp_path / "cli_sample.py").write_text(MODULE)
    (tmp_path / "cli_broken.py").write_text("import a_module_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cli_sample", raising=False)
    entries = {
        name: EntryPoint(name, f"cli_sample:{name}", cli.COMMANDS) for name in ("bad", "code", "good", "stop", "pipe")
    }
    entries["broken"] = EntryPoint("broken", "cli_broken:main", cli.COMMANDS)
    entries["bench"] = EntryPoint("bench", "bytemini_core.commands:bench", cli.COMMANDS)
    monkeypatch.setattr(cli, "registered", lambda _group: entries)
    monkeypatch.setattr(commands, "registered", lambda _group: {"rollout": entries["good"]})
    return entries


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"], ["help"]])
def test_help_lists_the_commands_without_importing_them(
    argv: list[str], registered: dict[str, EntryPoint], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 0
    printed = capsys.readouterr().out
    assert "Say what was passed." in printed
    assert "And more" not in printed
    assert all(name in printed for name in registered)
    assert "cli_sample" not in sys.modules
    assert "cli_broken" not in sys.modules


@pytest.mark.usefixtures("registered")
def test_a_command_gets_the_rest_of_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["good", "--help", "x y"]) == 0
    assert capsys.readouterr().out == "argv ['--help', 'x y']\n"
    assert cli.main(["code"]) == 7


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["goood"], "bytemini: there is no command 'goood': did you mean 'good'?\n"),
        (["xyz"], "bytemini: there is no command 'xyz': './bytemini --help' lists them.\n"),
        (["bad"], "bytemini: no object 'pear': there are apple, cup\n"),
        (
            ["broken"],
            "bytemini: 'broken' needs the Python module 'a_module_that_nobody_has': run './bytemini setup'\n",
        ),
        (["bench", "rollouts"], "bytemini: there is no benchmark 'rollouts': did you mean 'rollout'?\n"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err == expected
    assert captured.out == ""


@pytest.mark.usefixtures("registered")
def test_interruption_has_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stop"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.usefixtures("registered")
def test_bench_lists_and_dispatches(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--help"]) == 0
    assert "rollout" in capsys.readouterr().out
    assert cli.main(["bench", "rollout", "--json", "f"]) == 0
    assert capsys.readouterr().out == "argv ['--json', 'f']\n"


def test_of_two_with_one_name_the_first_on_the_path_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = EntryPoint("x", "a:b", "g"), EntryPoint("x", "c:d", "g")
    monkeypatch.setattr(cli, "entry_points", lambda **_: [first, second])
    assert cli.registered("g") == {"x": first}


def test_summary_of_what_has_none(registered: dict[str, EntryPoint]) -> None:
    assert cli.summary(registered["code"]) == ""
    assert cli.summary(EntryPoint("x", "no.such.module:main", "g")) == ""


def test_workspace_is_what_the_script_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BYTEMINI_ROOT", str(tmp_path))
    with pytest.raises(UserError, match="needs the source tree"):
        commands.workspace()
    (tmp_path / "src").mkdir()
    (tmp_path / "pyproject.toml").touch()
    assert commands.workspace() == tmp_path


def test_paths_for_pytest_are_seen_from_where_the_user_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "src" / "test_x.py").touch()
    passed: list[list[str]] = []
    monkeypatch.setenv("BYTEMINI_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path / "src")
    monkeypatch.setattr(pytest, "main", lambda args: passed.append(args) or 3)
    assert commands.test(["--fast", "test_x.py::test_y", "-k", "limits"]) == 3
    expected = [str(tmp_path / "src" / "test_x.py::test_y"), "-k", "limits"]
    assert passed == [["-m", "not slow and not e2e", *expected]]
    assert Path.cwd() == tmp_path
