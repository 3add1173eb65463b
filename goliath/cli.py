"""The ``goliath`` command: one subcommand for each thing an operator does."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING

from goliath import __version__, access, doctor
from goliath.errors import (
    ConnectionError as NoConnectionError,
    GoliathError,
    describe,
    printable,
    size_text,
)

if TYPE_CHECKING:
    from goliath import ActorInfo, Commander, NodeInfo, RunningCall
    from goliath.actors.checkpoint import Checkpoint

USAGE, FAILED = 2, 1
ANSWER_MAX_S = 2.0
ASK_EVERY_S = 0.02


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
        code = int(arguments.command(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever reads has had enough, as `head` does. What is still to be flushed at exit goes
        # nowhere (the recipe is that of Python's documentation).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
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
    _add_addresses(nodes)
    nodes.add_argument("--json", action="store_true", help="for programs")
    nodes.set_defaults(command=_nodes)
    examined = commands.add_parser("doctor", help="what is wrong with a node, or the way to it")
    _add_addresses(examined)
    doctor.add_options(examined)
    examined.set_defaults(command=_doctor)
    status = commands.add_parser("status", help="what runs on the Lieutenants, and for how long")
    _add_addresses(status)
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(command=_status)
    actors = commands.add_parser(
        "actors",
        help="the detached actors on the Lieutenants; `actors kill NAME` ends one",
        epilog="`goliath actors kill NAME` ends one (see its own --help).",
    )
    _add_addresses(actors)
    actors.add_argument("--json", action="store_true", help="for programs")
    actors.set_defaults(command=_actors)
    _add_checkpoint(commands.add_parser("checkpoint", help="what the file of a checkpoint has"))
    replay = commands.add_parser(
        "replay",
        help="make a fresh mind crash as one did whose journal was kept",
        description="Tells a fresh mind (of a Commander or a Lieutenant) what one was told that "
        "crashed, and prints each event with what the mind commands. Exits with 0 if that ends as "
        "it did, and with 1 if it does not.",
    )
    replay.add_argument("file", metavar="FILE", type=Path, help="as the message of the crash says")
    replay.add_argument("--json", action="store_true", help="a JSON object on each line")
    replay.set_defaults(command=_replay)
    return parser


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    show = actions.add_parser("show", help="the functions that were run, and how far they came")
    show.add_argument("--json", action="store_true", help="for programs")
    export = actions.add_parser("export", help="print each finished call with its result")
    form = export.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a JSON object on each line (default)")
    form.add_argument("--csv", action="store_true", help="a table, its first line the names")
    clear = actions.add_parser("clear", help="forget all results")
    for action, command in (
        (show, _show_checkpoint),
        (export, _export_checkpoint),
        (clear, _clear_checkpoint),
    ):
        action.add_argument("file", metavar="FILE", help="as given to checkpoint=")
        action.set_defaults(command=command)


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
    return _tell(arguments, _print_node)


def _print_node(node: NodeInfo) -> None:
    state = f"{node.workers} workers" if node.alive else f"down: {node.error}"
    print(printable(f"{node.address}  {state}  python {node.python or '?'}"))


def _tell(arguments: argparse.Namespace, show: Callable[[NodeInfo], None]) -> int:
    """What the nodes say of themselves, each shown, or all for programs; the exit code."""
    with _commander(arguments) as commander:
        nodes = _ask_nodes(commander)
    if arguments.json:
        print(json.dumps([asdict(node) for node in nodes]))
    else:
        for node in nodes:
            show(node)
    return 0 if all(node.alive for node in nodes) else FAILED


def _doctor(arguments: argparse.Namespace) -> int:
    from goliath.transport.address import Address, named_in_environ
    from goliath.transport.credentials import running_here

    named = arguments.address or named_in_environ() or running_here()
    try:
        addresses = [Address.parse(address) for address in named]
    except ValueError as exc:
        print(f"goliath: {exc}", file=sys.stderr)
        return USAGE
    return doctor.run(arguments, addresses, here=not arguments.address)


def _ask_nodes(commander: Commander) -> list[NodeInfo]:
    """What they say of themselves, when all that are up have said it, or have had the time."""
    until = time.monotonic() + ANSWER_MAX_S
    nodes = commander.nodes()
    while any(each.alive and each.heard_s is None for each in nodes):
        if time.monotonic() > until:
            break
        time.sleep(ASK_EVERY_S)
        nodes = commander.nodes()
    return nodes


def _status(arguments: argparse.Namespace) -> int:
    return _tell(arguments, _print_running)


def _print_running(node: NodeInfo) -> None:
    print(printable(f"{node.address}  {_state(node)}"))
    if node.running:
        _print_table([("  WORKER", "PID", "CALL OF", "FOR"), *map(_call_row, node.running)])


def _call_row(call: RunningCall) -> tuple[str, ...]:
    return f"  {call.worker}", str(call.pid or "-"), call.function, _age(call.seconds)


def _state(node: NodeInfo) -> str:
    if not node.alive:
        return f"down: {node.error}"
    if node.heard_s is None:
        return f"does not answer within {ANSWER_MAX_S:g} s"
    draining = ", draining" if node.draining else ""
    memory = ""
    if node.memory != "easy":
        amount = f"{size_text(node.memory_used)} of {size_text(node.memory_limit)}"
        memory = f", {node.memory}: {amount} of memory used"
    busy = f"{node.busy:g} of {node.workers} slots busy"
    return f"{busy}, {node.queued} batches wait{draining}{memory}"


def _commander(arguments: argparse.Namespace) -> Commander:
    """One of the Lieutenants that were named, or are to be found.

    Raises:
        ConnectionError: there are none.
        SystemExit: an address makes no sense.
    """
    from goliath.commander import Commander
    from goliath.transport.address import named_in_environ
    from goliath.transport.credentials import running_here

    addresses: list[str] | None = arguments.address
    if not addresses and not named_in_environ():
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
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _show_checkpoint(arguments: argparse.Namespace) -> int:
    with _checkpoint(arguments) as checkpoint:
        runs = checkpoint.runs()
    if arguments.json:
        print(json.dumps([asdict(run) for run in runs]))
    elif runs:
        heads = ("RUN", "FUNCTION", "CALLS", "BYTES", "BEGUN (UTC)", "CHANGED (UTC)")
        _print_table([heads, *(tuple(map(str, astuple(run))) for run in runs)])
    else:
        print("no finished calls")
    return 0


def _export_checkpoint(arguments: argparse.Namespace) -> int:
    from goliath.transport.outcomes import unbox

    table = csv.writer(sys.stdout, lineterminator="\n") if arguments.csv else None
    if table is not None:
        table.writerow(("run", "function", "index", "call", "result"))
    with _checkpoint(arguments) as checkpoint:
        for call in checkpoint.calls():
            value, problem = unbox(call.value)
            where = {"run": call.run, "function": call.function, "index": call.index}
            where["call"] = call.call
            if table is None:
                said = _as_json(value) if problem is None else {"error": problem["message"]}
                print(json.dumps({**where, **said}))
            else:
                text = value if isinstance(value, str) else describe(value, sys.maxsize)
                table.writerow((*where.values(), text if problem is None else problem["message"]))
    return 0


def _as_json(value: object) -> dict[str, object]:
    """The result as it is, or else as Python would write it."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return {"repr": describe(value, sys.maxsize)}
    return {"result": value}


def _clear_checkpoint(arguments: argparse.Namespace) -> int:
    with _checkpoint(arguments) as checkpoint:
        print(f"forgot {checkpoint.clear()} calls")
    return 0


def _checkpoint(arguments: argparse.Namespace) -> Checkpoint:
    from goliath.actors.checkpoint import Checkpoint

    return Checkpoint(arguments.file, create=False)


def _replay(arguments: argparse.Namespace) -> int:
    from goliath.replaying import replay_file

    return replay_file(arguments.file, as_json=arguments.json)


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
