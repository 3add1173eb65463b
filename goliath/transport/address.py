"""Where a Lieutenant is: ``host:port``, a pair, or a ``ws://`` URL, parsed once."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from goliath.record import frozen

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # and where such a one is found from here
DEFAULT_PORTS = {"ws": 80, "wss": 443}


@frozen
class Address:
    """Host, port and, when a URL said so, scheme and path prefix."""

    host: str
    port: int
    scheme: str | None = None
    prefix: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether it names this machine's loopback interface."""
        return is_loopback(self.host)

    @classmethod
    def to_listen(cls, target: object) -> Address:
        """Read where a user wants to listen: no URL, and port 0 is any free one.

        Raises:
            ValueError: it is no such place; the message shows the forms that are.
        """
        match target:
            case str() if "://" not in target:
                return cls._parse_pair(target, port_min=0)
            case (str(host), port):
                return cls._checked(host, port, repr(target), port_min=0)
            case _:
                raise ValueError(
                    f"{target!r} is no place to listen at: write ('0.0.0.0', 9000) or "
                    "'0.0.0.0:9000'; port 0 is any free one"
                )

    @classmethod
    def parse(cls, target: object) -> Address:
        """Read what a user wrote.

        Raises:
            ValueError: it is not an address; the message shows the forms that are.
        """
        if isinstance(target, str):
            return cls._parse_url(target) if "://" in target else cls._parse_pair(target)
        if isinstance(target, Sequence) and len(target) == 2 and isinstance(target[0], str):
            return cls._checked(target[0], target[1], repr(target))
        raise _no_address(repr(target))

    @classmethod
    def _parse_url(cls, url: str) -> Address:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _no_address(repr(url)) from None
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname or parts.username:
            raise _no_address(repr(url))
        if parts.query or parts.fragment:
            raise _no_address(repr(url))
        port = DEFAULT_PORTS[parts.scheme] if port is None else port
        plain = cls._checked(parts.hostname, port, repr(url))
        return cls(plain.host, plain.port, parts.scheme, parts.path.rstrip("/"))

    @classmethod
    def _parse_pair(cls, text: str, port_min: int = 1) -> Address:
        host, colon, port = text.strip().rpartition(":")
        if not colon or not port.isascii() or not port.isdigit():
            raise _no_address(repr(text))
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise _no_address(repr(text))
        return cls._checked(host, int(port), repr(text), port_min)

    @classmethod
    def _checked(cls, host: str, port: object, shown: str, port_min: int = 1) -> Address:
        if isinstance(port, bool) or not isinstance(port, int) or not port_min <= port < 65536:
            raise _no_address(shown)
        if not host or any(c.isspace() or c in "/@" for c in host):
            raise _no_address(shown)
        return cls(host, port)


def parse_public_name(text: str) -> tuple[str, str]:
    """Host name and path prefix under which a proxy is found that stands before a door.

    Raises:
        ValueError: it is no such name; the message shows what is.
    """
    host, _, prefix = text.partition("/")
    if not host or any(c.isspace() or c in ":?#@" for c in text):
        raise ValueError(
            f"{text!r} is no host name with or without a path: write lab.example.org, or "
            "lab.example.org/prefix"
        )
    return host.lower(), f"/{prefix}".rstrip("/")


def named_in_environ() -> list[str]:
    """What ``GOLIATH_LIEUTENANTS`` names, separated by commas."""
    names = os.environ.get("GOLIATH_LIEUTENANTS", "")
    return [name.strip() for name in names.split(",") if name.strip()]


def is_loopback(host: str) -> bool:
    """Whether a name or an IP address means this machine's loopback interface."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def host_here(host: str) -> str | None:
    """Under which address whoever listens on ``host`` is found from this machine; None if under
    none that every machine has."""
    return WILDCARDS.get(host) or (host if is_loopback(host) else None)


def targets(given: object) -> list[Any]:
    """What a user gave as one address, or as several, as a list.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(given, str) or (
        isinstance(given, tuple) and [type(part) for part in given] == [str, int]
    ):
        return [given]
    if not isinstance(given, Iterable):
        raise _no_address(repr(given))
    return [*given]


def _no_address(shown: str) -> ValueError:
    return ValueError(
        f"{shown} is not the address of a Lieutenant: write ('host', 8080), 'host:8080', "
        "'[::1]:8080' or 'wss://host:8080/prefix'"
    )
