"""The ``goliath`` command: one subcommand for each thing an operator does."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from goliath import __version__, access
from goliath.errors import ConnectionError as NoConnectionError, GoliathError

if TYPE_CHECKING:
    from goliath import ActorInfo, Commander

USAGE, FAILED = 2, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["lieutenant"]:
        from goliath import lieutenant

        return lieutenant.main(words[1:], "goliath lieutenant")
    killing = words[:2] == ["actors", "kill"]
    if killing:
        arguments = _kill_parser().parse_intermixed_args(words[2:])
    else:
        arguments = _parser().parse_args(words)
    try:
        return int(arguments.command(arguments))
    except (GoliathError, OSError) as exc:
        print(f"goliath: {exc}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="goliath", description="Calls on pools of workers.")
    parser.add_argument("--version", action="version", version=f"goliath {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    commands.add_parser("lieutenant", help="serve this machine's CPUs (see its own --help)")
    access.add_commands(commands)
    nodes = commands.add_parser("nodes", help="what the Lieutenants say of themselves")
    nodes.add_argument("address", nargs="+", help="host:port")
    nodes.add_argument("--token-file", help="file with the token")
    nodes.add_argument("--json", action="store_true", help="for programs")
    nodes.set_defaults(command=_nodes)
    actors = commands.add_parser(
        "actors",
        help="the detached actors on the Lieutenants; `actors kill NAME` ends one",
        epilog="`goliath actors kill NAME` ends one (see its own --help).",
    )
    _add_addresses(actors)
    actors.add_argument("--json", action="store_true", help="for programs")
    actors.set_defaults(command=_actors)
    return parser


def _kill_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="goliath actors kill", description="End a detached actor, for all who call it."
    )
    parser.add_argument("name", metavar="NAME", help="its name")
    parser.add_argument("--namespace", metavar="NS", default="", help="in which it has that name")
    _add_addresses(parser)
    parser.set_defaults(command=_kill_actor)
    return parser


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "address",
        nargs="*",
        metavar="ADDRESS",
        help="host:port (default: those in GOLIATH_LIEUTENANTS, else all of this user's that run "
        "on this machine)",
    )
    parser.add_argument("--token-file", help="file with the token")


def _nodes(arguments: argparse.Namespace) -> int:
    with _commander(arguments) as commander:
        nodes = commander.nodes()
    if arguments.json:
        print(json.dumps([asdict(node) for node in nodes]))
    else:
        for node in nodes:
            state = f"{node.workers} workers" if node.alive else f"down: {node.error}"
            print(f"{node.address}  {state}  python {node.python or '?'}")
    return 0 if all(node.alive for node in nodes) else FAILED


def _commander(arguments: argparse.Namespace) -> Commander:
    """One of the Lieutenants that were named, or are to be found.

    Raises:
        ConnectionError: there are none.
        SystemExit: an address makes no sense.
    """
    from goliath.commander import Commander
    from goliath.transport.credentials import running_here

    addresses: list[str] | None = arguments.address
    if not addresses and not os.environ.get("GOLIATH_LIEUTENANTS", "").strip():
        addresses = running_here()
        if not addresses:
            raise NoConnectionError(
                "no Lieutenant of this user runs on this machine; start one (goliath lieutenant), "
                "or say which by ADDRESS or GOLIATH_LIEUTENANTS"
            )
    try:
        return Commander(addresses or None, token_file=arguments.token_file)
    except ValueError as exc:  # an address that is none
        print(f"goliath: {exc}", file=sys.stderr)
        raise SystemExit(USAGE) from None


def _actors(arguments: argparse.Namespace) -> int:
    with _commander(arguments) as commander:
        actors = commander.detached_actors()
        down = [node for node in commander.nodes() if not node.alive]
    if arguments.json:
        print(json.dumps([asdict(actor) for actor in actors]))
    elif actors:
        _print_table([_COLUMNS, *(_row(actor) for actor in actors)])
    else:
        print("no detached actors")
    for node in down:
        print(f"goliath: {node.address} was not asked: {node.error}", file=sys.stderr)
    return FAILED if down else 0


_COLUMNS = ("NAME", "NAMESPACE", "CLASS", "NODE", "PID", "STATE", "PENDING", "AGE")


def _row(actor: ActorInfo) -> tuple[str, ...]:
    values = (
        actor.name,
        actor.namespace or "-",
        actor.class_name,
        actor.node,
        actor.pid or "-",
        actor.state,
        actor.pending,
        _age(actor.age_s),
    )
    return tuple(map(str, values))


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _kill_actor(arguments: argparse.Namespace) -> int:
    with _commander(arguments) as commander:
        killed = commander.kill_detached(arguments.name, arguments.namespace)
    for actor in killed:
        print(f"killed {actor.name} on {actor.node} (pid {actor.pid or 'none yet'})")
    if not killed:
        where = f" in namespace {arguments.namespace!r}" if arguments.namespace else ""
        print(
            f"goliath: there is no detached actor called {arguments.name!r}{where}; "
            "`goliath actors` lists those that there are",
            file=sys.stderr,
        )
    return 0 if killed else FAILED
