"""`./bytemini up`: the stack, running, without a ROS installation."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bytemini_core.errors import UserError

from bytemini_bringup.stack import OPTIONS, options, stack
from bytemini_bringup.stack import environment as surroundings


def add_options(parser: argparse.ArgumentParser, leave_out: tuple[str, ...] = ()) -> None:
    """Give a parser the stack's options, with their defaults and choices."""
    for option in OPTIONS:
        if option.name in leave_out:
            continue
        flag = f"--{option.name.replace('_', '-')}"
        text = f"{option.description} (default: {option.default or 'none'})"
        if isinstance(option.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=option.default, help=text)
        else:
            parser.add_argument(
                flag, type=type(option.default), default=option.default, choices=option.choices or None, help=text
            )


def up(argv: list[str]) -> int:
    """Start the whole stack and keep it running until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="bytemini up", description=up.__doc__)
    add_options(parser)
    parser.add_argument("--out", type=Path, default=None, help="folder for the logs (default: runs/<time>-up)")
    arguments = parser.parse_args(argv)
    from bytemini_panel.run_folder import environment, new_run

    from bytemini_bringup.processes import Processes

    try:
        values = options(**{option.name: getattr(arguments, option.name) for option in OPTIONS})
        run = new_run()
        logs = arguments.out or Path("runs") / f"{run}-up"
        around = {**environment(run), **surroundings(values)}
        print("starting the stack, part by part", flush=True)
        with Processes(stack(values), logs, values["namespace"], around, ordered=True) as processes:
            print(f"running, logs in {logs}; give it a task with the RunTask action /run_task; Ctrl-C stops it")
            if values["panel"]:
                print(f"the operator's page: {_panel_address(values['panel_port'])}")
            while True:
                for line in processes.tend():
                    print(line, flush=True)
                time.sleep(0.2)
    except KeyboardInterrupt:
        print("stopped")
        return 0
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error


def _panel_address(port: int) -> str:
    """The page's address on this machine, with what lets a browser in."""
    from bytemini_core.web import Server, Site, certificate, pairing_token

    return Server(Site("panel"), port, pairing_token(), certificate()).url()
