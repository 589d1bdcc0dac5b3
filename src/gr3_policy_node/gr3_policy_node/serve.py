"""`./bytemini serve`: a policy as a websocket server."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bytemini_core.errors import UserError
from bytemini_description.robot import VERSIONS, load_robot

if TYPE_CHECKING:
    from gr3_policy_node.server import PolicyServer, ServerOptions

from gr3_policy_node.backends import PROVIDERS, TOKEN_VARIABLE, load_policy, policies


def main(argv: Sequence[str]) -> int:
    """Serve a policy to others over websockets, in openpi's protocol."""
    from gr3_policy_node.server import PORT, PolicyServer, ServerOptions

    defaults = ServerOptions()
    parser = argparse.ArgumentParser(
        prog="bytemini serve",
        description=main.__doc__,
        epilog=f"Clients bring 'Authorization: Api-Key TOKEN' where {TOKEN_VARIABLE} is set in this environment. "
        "GET /healthz answers OK.",
    )
    parser.add_argument("policy", help=f"{', '.join(policies())}, a checkpoint folder, ws://host:port or replay:FILE")
    parser.add_argument("--robot", default="v1", choices=VERSIONS, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of what is random in the policy (default: %(default)s)")
    parser.add_argument("--provider", default="auto", choices=PROVIDERS, help="what computes it (default: %(default)s)")
    parser.add_argument(
        "--host", default=defaults.host, help="address to listen on, 0.0.0.0 for all (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=PORT, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--deadline", type=float, default=None, help="s for requests that state no deadline_ms (default: none)"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=defaults.batch,
        help="requests that one inference may answer (default: %(default)s)",
    )
    parser.add_argument("--clients", type=int, default=defaults.most_clients, help="at one time (default: %(default)s)")
    parser.add_argument(
        "--message-mib",
        type=float,
        default=defaults.most_bytes / 2**20,
        help="longest message that is taken, MiB (default: %(default)g)",
    )
    arguments = parser.parse_args(argv)
    for name, value, low, high in (
        ("--seed", arguments.seed, 0, 2**31 - 1),
        ("--port", arguments.port, 0, 65535),
        ("--deadline", arguments.deadline, 1e-3, 3600.0),
        ("--batch", arguments.batch, 1, 1024),
        ("--clients", arguments.clients, 1, 10_000),
        ("--message-mib", arguments.message_mib, 0.01, 1024.0),
    ):
        if value is not None and not low <= value <= high:
            raise UserError(f"{name} is {value:g}, expected {low:g} to {high:g}")
    options = ServerOptions(
        host=arguments.host,
        port=arguments.port,
        token=os.environ.get(TOKEN_VARIABLE, ""),
        most_bytes=int(arguments.message_mib * 2**20),
        deadline=arguments.deadline,
        most_clients=arguments.clients,
        batch=arguments.batch,
        seed=arguments.seed,
    )
    try:
        robot = load_robot(arguments.robot)
        server = PolicyServer(
            lambda: load_policy(arguments.policy, robot, arguments.seed, arguments.provider), robot, options
        )
        asyncio.run(_run(server, options))
    except (ValueError, ConnectionError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}") from error
    except KeyboardInterrupt:
        print("stopped")
    return 0


async def _run(server: PolicyServer, options: ServerOptions) -> None:
    async with server.listening() as listening:
        host, port = listening.sockets[0].getsockname()[:2]
        guard = "token required" if options.token else "no token"
        print(f"{server.description} at ws://{host}:{port} ({guard}), Ctrl-C stops it", flush=True)
        await asyncio.Future()
