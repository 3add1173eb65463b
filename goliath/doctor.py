"""The subcommand ``goliath doctor``: what is wrong between here and there, in words."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from goliath.errors import printable, size_text

if TYPE_CHECKING:
    from goliath.core.diagnosis import Diagnosis
    from goliath.transport.address import Address

NOT_USABLE = 1

DESCRIPTION = """\
Looks at each Lieutenant step by step: its name, the connection, TLS and the certificate, the
websocket, the token, the versions at both ends, the clocks, the round trip, the bandwidth (a few
MiB), its state. What is wrong comes with what to do about it. Without ADDRESS it looks at this
machine, too."""
NOBODY_HERE = """\
No Lieutenant was looked at: none of yours runs on this machine. Start one with
`goliath lieutenant 127.0.0.1 8080`, or say which by ADDRESS or GOLIATH_LIEUTENANTS."""
EPILOG = "Exit codes: 0 all can be used (warnings or not), 1 not all can, 2 wrong usage."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what only this subcommand takes."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        "--tls", choices=("auto", "ca"), default="auto",
        help="ca: an authority vouches for the certificate, as behind a proxy that ends the TLS",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=_seconds, default=5.0, metavar="S",
        help="the most that a step takes, in seconds (default: 5)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="for programs")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text}: it has to be above 0, and an hour at most")
    return seconds


def run(arguments: argparse.Namespace, addresses: Sequence[Address], *, here: bool) -> int:
    """Look, and print what was found.

    Args:
        arguments: of the command line.
        addresses: whom to look at.
        here: whether to look at this machine, first.
    """
    from goliath.examination import examine, examine_this_machine
    from goliath.transport.credentials import Credentials

    credentials = Credentials(token_file=arguments.token_file)
    found = []
    for subject in [None, *addresses] if here else addresses:
        if subject is None:
            diagnosis = examine_this_machine()
        else:
            diagnosis = examine(
                subject, credentials, tls=arguments.tls, timeout_s=arguments.timeout
            )
        found.append(diagnosis)
        if not arguments.json:
            _print(diagnosis)
    if arguments.json:
        print(json.dumps([_as_json(diagnosis) for diagnosis in found]))
    elif not addresses:
        print(NOBODY_HERE)
    return 0 if all(diagnosis.usable for diagnosis in found) else NOT_USABLE


def _as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    return {**asdict(diagnosis), "usable": diagnosis.usable, "verdict": diagnosis.verdict()}


def _amount(limit: Mapping[str, Any]) -> str:
    amount, unit = limit["amount"], limit["unit"]
    if amount is None:
        return "none"
    return size_text(amount) if unit == "bytes" else f"{amount:,} {unit}"


def _print(diagnosis: Diagnosis) -> None:
    print(diagnosis.subject)
    for check in diagnosis.checks:
        print(f"  {check.grade:<8} {check.name:<13}  {printable(check.said)}")
        for line in textwrap.wrap(check.advice, 76, break_on_hyphens=False):
            print(f"{'':<26}{line}")
    width = max((len(limit["name"]) for limit in diagnosis.limits), default=0)
    for limit in diagnosis.limits:
        said = _amount(limit)
        if limit["amount"] is not None:
            why = f": {limit['why']}" if limit["why"] else ""
            said += f" ({limit['enforced_by']}{why})"
        print(f"  limit    {printable(limit['name']):<{width}}  {printable(said)}")
    print(f"{diagnosis.verdict()}\n")
