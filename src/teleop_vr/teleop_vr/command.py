"""`./bytemini teleop`: the stack with a robot in the simulator (or the real one), and the headset's page."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from bytemini_core.errors import UserError

_UNUSED = ("trajectory_optimizer", "gr3_policy")
"""Processes that only a policy needs."""


def main(argv: list[str]) -> int:
    """Teleoperate from a headset's browser: start the stack, print the page's address."""
    from bytemini_core.web import Server, Site, WebError, certificate, pairing_token

    from bytemini_bringup.cli import add_options
    from bytemini_bringup.processes import Processes
    from bytemini_bringup.stack import OPTIONS, environment, options, stack
    from teleop_vr.address import show

    parser = argparse.ArgumentParser(prog="bytemini teleop", description=main.__doc__)
    left_out = ("teleop", "lockstep", "latency")
    add_options(parser, left_out)
    parser.add_argument("--with-policy", action="store_true", help="also start the policy, to be taken over from")
    parser.add_argument("--journal", type=Path, help="write every input to FILE.jsonl.gz, for --replay")
    parser.add_argument("--replay", type=Path, metavar="JOURNAL", help="replay a journal, compare, start nothing")
    parser.add_argument("--out", type=Path, help="folder for the logs (default: runs/<time>-teleop)")
    arguments = parser.parse_args(argv)
    if arguments.replay is not None:
        return _replay(arguments.replay)
    try:
        chosen = {option.name: getattr(arguments, option.name) for option in OPTIONS if option.name not in left_out}
        values = options(**chosen, teleop=True)
        token = pairing_token()
        # Only for its address: the node listens.
        address = Server(Site("teleop"), values["teleop_port"], token, certificate())
        processes = [p for p in stack(values) if arguments.with_policy or p.name not in _UNUSED]
        if arguments.journal is not None:
            journal = str(arguments.journal.absolute())
            processes = [
                dataclasses.replace(p, parameters={**p.parameters, "journal": journal}) if p.name == "teleop_vr" else p
                for p in processes
            ]
        logs = arguments.out or Path("runs") / time.strftime("%Y%m%d-%H%M%S-teleop")
        with Processes(processes, logs, values["namespace"], environment(values)) as running:
            _wait(address.port, running.check)
            show(address.url(), address.port)
            if values["record"]:
                print(f"recording by {values['record']} into {values['dataset']}: start, save, discard there")
            print(f"logs in {logs}; Ctrl-C stops")
            while True:
                running.check()
                time.sleep(0.5)
    except KeyboardInterrupt:
        print("stopped")
        return 0
    except (ValueError, RuntimeError, WebError) as error:
        raise UserError(str(error)) from error


def _wait(port: int, check: object) -> None:
    """Wait until the page answers.

    Raises:
        RuntimeError: it does not, or a process of the stack ended.
    """
    import ssl
    import urllib.error
    import urllib.request

    trust = ssl._create_unverified_context()  # it is our own machine that we ask
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        check()  # type: ignore[operator]
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{port}/api/health", timeout=1.0, context=trust):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"the page does not answer at port {port}: see the log of teleop_vr")


def _replay(path: Path) -> int:
    from teleop_vr.journal import JournalError, replay

    try:
        found = replay(path)
    except JournalError as error:
        raise UserError(str(error)) from error
    print(f"{found.inputs} inputs, {found.references} references, digest {found.digest}")
    if found.different is not None:
        print(f"different from input {found.different} on: the program has changed, or the journal")
        return 1
    print("the same references as then, to the bit")
    return 0
