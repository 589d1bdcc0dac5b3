"""The door of the command line: `./bytemini COMMAND`, on a ROS installation `ros2 run bytemini_core bytemini COMMAND`.

Packages register commands as entry points of the group `bytemini.commands`: a callable `main(argv) -> int` whose
docstring begins with the line that `--help` shows. That line is read from the source without importing the module, so
that neither help nor any command pays for the imports of the others.
"""

from __future__ import annotations

import ast
import difflib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from bytemini_core.errors import UserError

COMMANDS = "bytemini.commands"
BENCHMARKS = "bytemini.benchmarks"

OK, BAD_INPUT, INTERRUPTED = 0, 2, 130
"""Exit codes, beside those of the commands themselves."""


def registered(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, in alphabetical order; of two with one name the first on the path wins."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        found.setdefault(entry.name, entry)
    return dict(sorted(found.items()))


def summary(entry: EntryPoint) -> str:
    """First line of the docstring of what an entry point names ("" where there is none), without importing it."""
    module = Path(*entry.module.split("."))
    for folder in sys.path:
        for source in (Path(folder, module.with_suffix(".py")), Path(folder, module, "__init__.py")):
            if source.is_file():
                for node in ast.parse(source.read_text(encoding="utf-8")).body:
                    if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
                        return (ast.get_docstring(node) or "").partition("\n")[0]
                return ""
    return ""


def choose(entries: dict[str, EntryPoint], name: str, kind: str, listing: str) -> EntryPoint:
    """The entry point called `name`.

    Args:
        entries: what there is, by name.
        name: what the user asked for.
        kind: what the entries are, for the message ("command").
        listing: the command line that lists them, for the message.

    Raises:
        UserError: there is none of that name; names the nearest.
    """
    if name in entries:
        return entries[name]
    near = difflib.get_close_matches(name, entries, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"'{listing}' lists them."
    raise UserError(f"there is no {kind} '{name}': {hint}")


def call(entry: EntryPoint, argv: Sequence[str]) -> int:
    """Import what an entry point names and run it.

    Raises:
        UserError: a Python module that it needs is not installed.
    """
    try:
        function = entry.load()
    except ModuleNotFoundError as error:
        raise UserError(f"'{entry.name}' needs the Python module '{error.name}': run './bytemini setup'") from error
    return int(function(list(argv)) or OK)


def show_help(usage: str, about: str, entries: dict[str, EntryPoint], more: str) -> None:
    """Print how a command that dispatches to others is used, and a line for each of these."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"usage: {usage}\n\n{about}\n", markup=False)
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    for name, entry in entries.items():
        table.add_row(name, summary(entry))
    console.print(table)
    console.print(f"\n{more}", markup=False)


def dispatch(argv: Sequence[str]) -> int:
    """Run the command that `argv` begins with on the rest of it.

    Raises:
        UserError: no such command.
    """
    commands = registered(COMMANDS)
    if not argv or argv[0] in ("-h", "--help", "help"):
        show_help(
            "./bytemini COMMAND [ARGUMENTS]",
            "The ByteMini robot from an instruction in words to motion, in simulation and on the robot.",
            commands,
            "./bytemini COMMAND --help says more of each.",
        )
        return OK
    return call(choose(commands, argv[0], "command", "./bytemini --help"), argv[1:])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: that of this process) and return its exit code."""
    try:
        return dispatch(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print("bytemini:", " ".join(str(error).split()), file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\nbytemini: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


if __name__ == "__main__":
    sys.exit(main())
