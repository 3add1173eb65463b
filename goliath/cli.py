"""The ``goliath`` command: one subcommand for each thing an operator does."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from goliath import __version__
from goliath.errors import GoliathError

USAGE, FAILED = 2, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["lieutenant"]:
        from goliath import lieutenant

        return lieutenant.main(words[1:], "goliath lieutenant")
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
    token = commands.add_parser("token", help="make a token").add_subparsers(
        metavar="ACTION", required=True
    )
    new = token.add_parser("new", help="print a fresh token; keep it in a file of mode 0600")
    new.set_defaults(command=_new_token)
    nodes = commands.add_parser("nodes", help="what the Lieutenants say of themselves")
    nodes.add_argument("address", nargs="+", help="host:port")
    nodes.add_argument("--token-file", help="file with the token")
    nodes.add_argument("--json", action="store_true", help="for programs")
    nodes.set_defaults(command=_nodes)
    return parser


def _new_token(_: argparse.Namespace) -> int:
    from goliath.transport.credentials import Token

    print(Token.make().reveal())
    return 0


def _nodes(arguments: argparse.Namespace) -> int:
    from goliath.commander import Commander

    with Commander(arguments.address, token_file=arguments.token_file) as commander:
        nodes = commander.nodes()
    if arguments.json:
        print(json.dumps([asdict(node) for node in nodes]))
    else:
        for node in nodes:
            state = f"{node.workers} workers" if node.alive else f"down: {node.error}"
            print(f"{node.address}  {state}  python {node.python or '?'}")
    return 0 if all(node.alive for node in nodes) else FAILED
