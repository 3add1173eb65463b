"""The options of the node command: what the command line and the environment said, checked."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Sequence
from math import inf
from pathlib import Path

from goliath.actors.embedded import node_resources
from goliath.actors.fences import (
    PROCESSES_MAX,
    PROCESSES_PER_SLOT,
    Allowance,
    default_allowance,
)
from goliath.config import NodeConfig
from goliath.core.batch import ACTORS
from goliath.errors import AuthenticationError, GoliathError
from goliath.machine import gpu_ids, usable_cpus
from goliath.record import frozen
from goliath.transport.address import Address, host_here, is_loopback, parse_public_name
from goliath.transport.certificate import own_certificate
from goliath.transport.credentials import Credentials
from goliath.transport.tls import ServerTls
from goliath.transport.token import Token
from goliath.transport.token_file import (
    DEFAULT,
    NamedToken,
    WatchedTokens,
    default_token_file,
)

TOKEN_VARIABLES = ("GOLIATH_TOKEN", "GOLIATH_TOKEN_FILE")
FLAG_OF = {"CPU": "WORKERS", "GPU": "--num-gpus", "memory": "--memory", ACTORS: "--max-actors"}


class RefusedConfigurationError(GoliathError):
    """The Lieutenant will not start like this; the message says what would do."""


@frozen
class Joining:
    """Where a node is to be found that has no door of its own, and how it gets there."""

    address: Address
    credentials: Credentials
    tls: str


@frozen
class LieutenantOptions:
    """What the command line and the environment said."""

    host: str
    port: int
    join: Joining | None  # instead of a door of its own
    workers: int
    token: NamedToken | None  # the only one, if they are not in a file
    token_file: WatchedTokens | None
    tls: ServerTls | None
    public_name: str
    path_prefix: str
    tasks_per_worker_max: int | None
    bytes_per_worker_max: int | None
    allowance: Allowance
    drain_timeout_s: float
    resources: dict[str, float]
    devices: tuple[str, ...]
    allow_install: bool

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    @property
    def host_here(self) -> str | None:
        """Under which address a Commander on this machine finds it; None if under none that
        every machine has."""
        return host_here(self.host)


def read_arguments(argv: Sequence[str] | None, program: str) -> argparse.Namespace:
    """The command line, read. One that makes no sense ends the process, with exit code 2."""
    command = parser(program)
    arguments = command.parse_args(argv)
    if arguments.join is None and arguments.port is None:
        command.error("HOST and PORT are needed, unless there is --join")
    if arguments.join is not None and arguments.host is not None:
        # What stands first, where there is no address of its own, is the number of slots.
        if arguments.port is not None:
            command.error("with --join a node does not listen: leave HOST and PORT out")
        try:
            arguments.workers, arguments.host = _positive(arguments.host), None
        except (ValueError, argparse.ArgumentTypeError):
            command.error(f"argument WORKERS: {arguments.host!r} is no number from 1 up")
    return arguments


def parser(program: str = "python -m goliath.lieutenant") -> argparse.ArgumentParser:
    """The command line."""
    arguments = argparse.ArgumentParser(
        prog=program,
        description="Serve this machine's CPUs to Commanders.",
        epilog="Exit codes: 0 ok, 2 usage or refused configuration, 3 cannot bind, 4 not let in. "
        "SIGTERM or SIGINT lets running calls finish; a second one ends at once.",
        usage="%(prog)s [options] HOST PORT [WORKERS]\n"
        "       %(prog)s [options] --join URL [WORKERS]",
    )
    arguments.add_argument("host", metavar="HOST", nargs="?", help="name or address to listen on")
    arguments.add_argument("port", metavar="PORT", type=_port, nargs="?", help="0 picks a free one")
    arguments.add_argument(
        "workers", metavar="WORKERS", type=_positive, nargs="?", default=None,
        help="calls that run at once (default: the usable CPUs)",
    )  # fmt: skip
    arguments.add_argument(
        "--join", type=_join, metavar="URL",
        help="do not listen, but dial out to a Commander that listens, or to a Lieutenant that "
        "Commanders can reach, such as wss://lab.example.org:8080",
    )  # fmt: skip
    arguments.add_argument(
        "--tls", choices=("auto", "ca"), default="auto",
        help="with --join: ca has an authority vouch for the certificate there, as behind a proxy "
        "that ends the TLS",
    )  # fmt: skip
    arguments.add_argument(
        "--token-file", type=Path, metavar="F",
        help="file (0600) with the tokens to accept, read again when it changes (default: the "
        "one that `goliath token new --name NAME` writes, if there is one)",
    )  # fmt: skip
    arguments.add_argument(
        "--tls-cert",
        type=Path,
        metavar="F",
        help="certificate chain, PEM (default off "
        "loopback: a self-signed one, made at the first start)",
    )
    arguments.add_argument("--tls-key", type=Path, metavar="F", help="its private key, PEM")
    arguments.add_argument(
        "--insecure-plaintext", action="store_true",
        help="allow a network address without TLS: everyone on the way can read and change all",
    )  # fmt: skip
    arguments.add_argument(
        "--public-name", type=_public_name, metavar="HOST[/PREFIX]", default=("", ""),
        help="what Commanders with tls=\"ca\" call it by, where a proxy ends the TLS before it",
    )  # fmt: skip
    arguments.add_argument(
        "--max-tasks-per-worker", type=_positive, metavar="N",
        help="replace a worker process after so many calls",
    )  # fmt: skip
    arguments.add_argument(
        "--max-memory-per-worker", type=_some_size, metavar="SIZE",
        help="replace a worker process that has more memory than this, such as 512M or 2GiB, when "
        "it has ended what it was given; a call that runs is not disturbed",
    )  # fmt: skip
    arguments.add_argument(
        "--max-memory-per-session", type=_some_size, metavar="SIZE",
        help="memory that the workers of one Commander may have together; what goes beyond it is "
        "killed, with an OutOfMemoryError (default: all that the node can spare)",
    )  # fmt: skip
    arguments.add_argument(
        "--max-processes-per-session", type=_positive, metavar="N",
        help="processes and threads that the workers of one Commander may have together, with all "
        f"that they start (default: {PROCESSES_MAX}, or {PROCESSES_PER_SLOT} for each slot)",
    )  # fmt: skip
    arguments.add_argument(
        "--max-files-per-session", type=_some_size, metavar="SIZE",
        help="what one Commander may ship to this node, all its running jobs together; what their "
        "directories may grow to, when calls write into them; and the size of any one file that "
        "calls write, wherever (default: whatever the disk takes)",
    )  # fmt: skip
    arguments.add_argument(
        "--drain-timeout", type=float, metavar="S", default=None,
        help="seconds that running calls are given to finish (default: 30)",
    )  # fmt: skip
    arguments.add_argument(
        "--num-gpus", type=_count, metavar="N",
        help="GPUs this node offers to calls with num_gpus= (default: those in "
        "CUDA_VISIBLE_DEVICES, else all that NVIDIA's driver lists)",
    )  # fmt: skip
    arguments.add_argument(
        "--memory", type=_size, metavar="SIZE",
        help="bytes that calls with memory= may reserve together, such as 8G or 512M "
        "(default: 70 %% of the machine's)",
    )  # fmt: skip
    arguments.add_argument(
        "--max-actors", type=_count, metavar="N",
        help="actors that may live here at once, beside the slots; more wait for one to end, or go "
        "to other nodes (default: as many as there can be processes)",
    )  # fmt: skip
    arguments.add_argument(
        "--resources", type=_resources, metavar="JSON", default={},
        help='what else this node offers to calls with resources=, such as \'{"licence": 2}\'',
    )  # fmt: skip
    arguments.add_argument(
        "--allow-install", action="store_true",
        help="install the packages that jobs ask for by requirements=, each set of them once, into "
        "a virtual environment of its own",
    )  # fmt: skip
    arguments.add_argument("--log-level", default="warning", choices=_LEVELS, metavar="LEVEL")
    arguments.add_argument("--log-format", default="text", choices=("text", "json"))
    return arguments


_LEVELS = ("debug", "info", "warning", "error")


def _port(text: str) -> int:
    return _whole(text, 0, 65535, " is no port: 0 to 65535")


def _whole(text: str, least: int, most: float, otherwise: str) -> int:
    if text.isascii() and text.isdigit() and least <= int(text) <= most:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}{otherwise}")


def _join(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def _public_name(text: str) -> tuple[str, str]:
    try:
        return parse_public_name(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def _count(text: str) -> int:
    return _whole(text, 0, inf, ": it is 0 or more")


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size: a number of bytes, or with K, M, G or T (of 1024), such as 1.5G"
        )
    number, unit = found.groups()
    return int(float(number) * 1024 ** " KMGT".index(unit.upper() or " "))


def _some_size(text: str) -> int:
    size = _size(text)
    if not size:
        raise argparse.ArgumentTypeError(f"{text}: at least 1 byte is needed")
    return size


def _positive(text: str) -> int:
    return _whole(text, 1, inf, ": it is a number, and at least 1 is needed")


def _resources(text: str) -> dict[str, float]:
    try:
        resources = {str(name): float(amount) for name, amount in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as exc:
        raise argparse.ArgumentTypeError(f"not a JSON object of numbers ({exc})") from exc
    for name, instead in FLAG_OF.items():
        if name in resources:
            raise argparse.ArgumentTypeError(f"{name} is not given here, but as {instead}")
    return resources


def options_from(arguments: argparse.Namespace) -> LieutenantOptions:
    """Check the arguments against each other and find the token.

    Raises:
        RefusedConfigurationError: the combination is not safe, or not possible.
    """
    if arguments.join is None:
        if arguments.tls != "auto":
            raise RefusedConfigurationError("--tls goes with --join; what listens has --tls-cert")
        return _listening(arguments)
    listening = {
        "--tls-cert": arguments.tls_cert,
        "--tls-key": arguments.tls_key,
        "--insecure-plaintext": arguments.insecure_plaintext,
        "--public-name": arguments.public_name[0],
    }
    for flag, given in listening.items():
        if given:
            raise RefusedConfigurationError(
                f"{flag} is for a node that listens, and with --join it does not: it is said "
                "where it joins"
            )
    credentials = _credentials(arguments.token_file)
    address = arguments.join
    try:
        if not address.loopback:  # where one may come later, with a Commander that starts
            credentials.token_for(address)
    except AuthenticationError as exc:
        raise RefusedConfigurationError(str(exc)) from exc
    return _options(arguments, join=Joining(address, credentials, arguments.tls))


def _listening(arguments: argparse.Namespace) -> LieutenantOptions:
    loopback = is_loopback(arguments.host)
    token, file = _tokens(arguments.token_file)
    public_name, _ = arguments.public_name
    if token is None and file is None and (public_name or not loopback):
        raise RefusedConfigurationError(
            f"{public_name or arguments.host} can be reached from other machines, and there is no "
            "token: make one with `(umask 077; goliath token new > FILE)`, copy the file to the "
            "Commanders, and give --token-file FILE here and token_file= there"
        )
    tls = _tls(arguments, loopback=loopback)
    return _options(arguments, token=token, file=file, tls=tls)


def _options(
    arguments: argparse.Namespace,
    *,
    join: Joining | None = None,
    token: NamedToken | None = None,
    file: WatchedTokens | None = None,
    tls: ServerTls | None = None,
) -> LieutenantOptions:
    try:
        devices = gpu_ids(arguments.num_gpus)
    except ValueError as exc:
        raise RefusedConfigurationError(f"--num-gpus: {exc}") from exc
    drain_s = arguments.drain_timeout
    public_name, path_prefix = arguments.public_name
    return LieutenantOptions(
        arguments.host or "",
        arguments.port or 0,
        join,
        arguments.workers or usable_cpus(),
        token,
        file,
        tls,
        public_name,
        path_prefix,
        arguments.max_tasks_per_worker,
        arguments.max_memory_per_worker,
        _allowance(arguments),
        NodeConfig.from_environ().drain_timeout_s if drain_s is None else drain_s,
        node_resources(devices, arguments.memory, _others(arguments)),
        devices,
        arguments.allow_install,
    )


def _others(arguments: argparse.Namespace) -> dict[str, float]:
    most = arguments.max_actors
    limits = {} if most is None else {ACTORS: float(most)}
    return {**arguments.resources, **limits}


def _allowance(arguments: argparse.Namespace) -> Allowance:
    """What workers may have: as much as was given, or what such a node can bear."""
    memory = NodeConfig.from_environ().node_memory_bytes
    allowance = default_allowance(arguments.workers or usable_cpus(), memory)
    if arguments.max_processes_per_session is not None:
        allowance.session_processes = arguments.max_processes_per_session
    allowance.session_bytes = arguments.max_memory_per_session
    allowance.session_file_bytes = arguments.max_files_per_session
    return allowance


def _tls(arguments: argparse.Namespace, *, loopback: bool) -> ServerTls | None:
    """The certificate that was given, or else, off loopback, one of our own."""
    cert, key = arguments.tls_cert, arguments.tls_key
    if (cert is None) is not (key is None):
        raise RefusedConfigurationError("--tls-cert and --tls-key go together; one is missing")
    if cert is None and (loopback or arguments.insecure_plaintext):
        return None
    try:
        if cert is None:
            cert = key = own_certificate()
        tls = ServerTls(cert, key)
        tls.context()
        tls.certificate()
    except AuthenticationError as exc:
        raise RefusedConfigurationError(str(exc)) from exc
    except (OSError, ValueError) as exc:
        remedy = (
            f"delete {cert}, and another one is made"
            if arguments.tls_cert is None
            else "give a certificate and its key, both in PEM"
        )
        raise RefusedConfigurationError(
            f"the certificate {cert} with the key {key} cannot be used ({exc}); {remedy}"
        ) from exc
    return tls


def _credentials(path: Path | None) -> Credentials:
    """What a node that joins was told of its token; and no trace of it left in the environment."""
    environ = dict(os.environ)
    for name in TOKEN_VARIABLES:
        os.environ.pop(name, None)
    return Credentials(token_file=path, environ=environ)


def _tokens(path: Path | None) -> tuple[NamedToken | None, WatchedTokens | None]:
    """The tokens that were given, in whatever way; and no trace of them left in the environment."""
    given = {name: os.environ.pop(name, "") for name in TOKEN_VARIABLES}
    try:
        if path is None and given["GOLIATH_TOKEN_FILE"]:
            path = Path(given["GOLIATH_TOKEN_FILE"])
        if path is None and given["GOLIATH_TOKEN"]:
            return NamedToken(DEFAULT, Token.parse(given["GOLIATH_TOKEN"])), None
        if path is None and default_token_file().exists():
            path = default_token_file()
        if path is None:
            return None, None
        file = WatchedTokens(path)
    except (AuthenticationError, OSError) as exc:
        raise RefusedConfigurationError(str(exc)) from exc
    if not file.entries:
        raise RefusedConfigurationError(
            f"the token file {path} has no token; add one with `goliath token new --name NAME "
            f"--token-file {path}`"
        )
    return None, file
