"""The subcommands of ``goliath`` for who may come in: ``token``, ``login`` and ``logout``."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from goliath.transport.address import Address
from goliath.transport.logins import SavedLogins
from goliath.transport.token import Token
from goliath.transport.token_file import (
    NamedToken,
    add_token,
    check_name,
    default_token_file,
    read_tokens,
    remove_token,
)

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands = _SubParsersAction[argparse.ArgumentParser]

FAILED = 1


def add_commands(commands: Commands) -> None:
    """Add them to the command line."""
    _add_token_commands(commands)
    login = commands.add_parser(
        "login",
        help="prove a token to a Lieutenant, and keep it for the Commanders of this user",
        description="Reads the token from stdin, or asks for it at a terminal. When both sides "
        "have proved it, it is saved with the Lieutenant's certificate, and another certificate is "
        "refused from then on.",
    )
    login.add_argument("address", type=_address, metavar="ADDRESS", help="host:port or a URL")
    login.add_argument(
        "--tls", choices=("auto", "ca"), default="auto",
        help="ca: an authority vouches for the certificate, as behind a proxy that ends the TLS",
    )  # fmt: skip
    login.set_defaults(command=_log_in)
    logout = commands.add_parser("logout", help="forget the token and the certificate of a login")
    logout.add_argument("address", type=_address, metavar="ADDRESS", help="as at the login")
    logout.set_defaults(command=_log_out)


def _add_token_commands(commands: Commands) -> None:
    actions = commands.add_parser(
        "token", help="make, list and revoke the tokens that a Lieutenant accepts"
    ).add_subparsers(metavar="ACTION", required=True)
    new = actions.add_parser(
        "new",
        help="print a fresh token, once",
        description="Prints a fresh token. With --name it is added to the Lieutenant's token file, "
        "too, where a running Lieutenant finds it within a second; without, keep it in a file of "
        "mode 0600.",
    )
    new.add_argument("--name", type=_name, help="what its holder is called")
    new.add_argument(
        "--max-workers", type=_quota, metavar="N",
        help="how many calls its holders may run at once (default: as many as there are slots)",
    )  # fmt: skip
    new.set_defaults(command=_new_token)
    lists = actions.add_parser("list", help="names and quotas; never the tokens themselves")
    lists.add_argument("--json", action="store_true", help="for programs")
    lists.set_defaults(command=_list_tokens)
    revoke = actions.add_parser(
        "revoke", help="take a token back: its sessions and its detached actors end"
    )
    revoke.add_argument("name", metavar="NAME", help="what its holder is called")
    revoke.set_defaults(command=_revoke_token)
    for action in (new, lists, revoke):
        action.add_argument(
            "--token-file", type=Path, metavar="F",
            help="the Lieutenant's token file (default: `tokens` in the state directory)",
        )  # fmt: skip


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def _name(text: str) -> str:
    try:
        return check_name(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def _quota(text: str) -> int:
    number = int(text)
    if not 1 <= number < 1_000_000:
        raise argparse.ArgumentTypeError(f"{number}: at least 1 is needed")
    return number


def _file(arguments: argparse.Namespace) -> Path:
    return arguments.token_file or default_token_file()


def _new_token(arguments: argparse.Namespace) -> int:
    token = Token.make()
    if arguments.name is not None:
        add_token(_file(arguments), NamedToken(arguments.name, token, arguments.max_workers))
    elif arguments.max_workers is not None or arguments.token_file is not None:
        print(
            "goliath: a token in a file has a name, by which it can be revoked; give --name",
            file=sys.stderr,
        )
        return 2
    print(token.reveal())
    return 0


def _list_tokens(arguments: argparse.Namespace) -> int:
    path = _file(arguments)
    entries = read_tokens(path) if arguments.token_file or path.exists() else []
    if arguments.json:
        print(json.dumps([{"name": e.name, "max_workers": e.workers_max} for e in entries]))
    elif not entries:
        print(f"no tokens in {path}")
    for entry in [] if arguments.json else entries:
        print(entry.name, f"max-workers={entry.workers_max}" if entry.workers_max else "")
    return 0


def _revoke_token(arguments: argparse.Namespace) -> int:
    remove_token(_file(arguments), arguments.name)
    print(f"revoked {arguments.name}")
    return 0


def _log_in(arguments: argparse.Namespace) -> int:
    from goliath.login import log_in

    address = arguments.address
    if sys.stdin.isatty():
        text = getpass.getpass(f"token of the Lieutenant at {address}: ")
    else:
        text = sys.stdin.readline()
    login = log_in(address, Token.parse(text), tls=arguments.tls)
    pinned = f", which shows {login.certificate}" if login.certificate else ""
    print(f"logged in to {address}{pinned}; saved in {SavedLogins().path}")
    return 0


def _log_out(arguments: argparse.Namespace) -> int:
    if SavedLogins().remove(arguments.address):
        print(f"forgot {arguments.address}")
        return 0
    print(f"goliath: there is no login for {arguments.address}", file=sys.stderr)
    return FAILED
