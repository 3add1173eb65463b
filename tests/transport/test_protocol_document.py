"""``docs/protocol.md`` tells the truth: messages, limits, codes and vectors are the code's."""

from __future__ import annotations

import json
import re
import types
import typing
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from goliath.config import KIB, MIB, NodeConfig, TransportConfig
from goliath.transport.connection import CLOSE_NONSENSE, CLOSE_OK, CLOSE_PROTOCOL
from goliath.transport.handshake import HANDSHAKE_VERSION, WELCOME_MAX_BYTES
from goliath.transport.message import Lane, Message
from goliath.transport.protocol import VERSION
from goliath.transport.websocket import (
    CLOSE_UNAUTHENTICATED,
    PATH,
    REASON_MAX_BYTES,
    message_limit,
)
from tests.transport.every_message import MESSAGES
from tests.transport.vectors import vectors

PAGE = (Path(__file__).parents[2] / "docs/protocol.md").read_text()
ENTRY = re.compile(r"^- `([a-z-]+)` \((control|bulk)(, payload)?\)(?:: `(.*?)`)?\. ", re.M)
NAMES = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    types.NoneType: "null",
    object: "any",
}


def as_json_type(hint: Any) -> str:
    """A type of a field as the page writes it."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(as_json_type, inside))
    if origin is list:
        return f"[{as_json_type(inside[0])}]"
    if origin is tuple:
        return f"[{', '.join(map(as_json_type, inside))}]"
    if origin is dict:
        return f"{{{as_json_type(inside[0])}: {as_json_type(inside[1])}}}"
    return NAMES[hint]


def fields_of(cls: type[Message]) -> str:
    """All fields of a message but its payload, as the page writes them."""
    hints = typing.get_type_hints(cls)
    written = []
    for each in fields(cls):
        if each.name == "payload":
            continue
        text = f"{each.name}: {as_json_type(hints[each.name])}"
        if each.default is not MISSING:
            text += f" = {json.dumps(each.default)}"
        elif each.default_factory is not MISSING:
            text += f" = {json.dumps(each.default_factory())}"
        written.append(text)
    return ", ".join(written)


def entry_of(cls: type[Message]) -> tuple[str, str, str]:
    payload = any(each.name == "payload" for each in fields(cls))
    return (Lane(cls.lane).name.lower(), ", payload" if payload else "", fields_of(cls))


def test_every_message_is_described_with_its_lane_its_payload_and_its_fields():
    written = {kind: tuple(rest) for kind, *rest in ENTRY.findall(PAGE)}
    assert written == {kind: entry_of(cls) for kind, cls in MESSAGES.items()}


def test_no_message_is_described_twice():
    kinds = [kind for kind, *_ in ENTRY.findall(PAGE)]
    assert len(kinds) == len(set(kinds))


def test_the_vectors_are_what_the_code_makes():
    (written,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.M | re.S)
    assert json.loads(written) == vectors(), "print them by: python -m tests.transport.vectors"


CONFIG = TransportConfig()


@pytest.mark.parametrize(
    "said",
    [
        f"`GET {PATH}`",
        f"{message_limit(CONFIG):,} bytes at most",
        f"chunk ({CONFIG.chunk_bytes // KIB} KiB)",
        f"{CONFIG.handshake_message_max_bytes // KIB} KiB is the limit",
        f"{WELCOME_MAX_BYTES // KIB} KiB for the `welcome`",
        f'"v": {HANDSHAKE_VERSION}',
        f'"proto": {VERSION}',
        f"| {CLOSE_OK} |",
        f"| {CLOSE_NONSENSE} |",
        f"| {CLOSE_UNAUTHENTICATED} |",
        f"| {CLOSE_PROTOCOL} |",
        f"of {REASON_MAX_BYTES} bytes at most",
        f"{CONFIG.refusal_delay_s * 1000:.0f} ms late",
        f"login takes {CONFIG.handshake_max_s:g} s at most",
        f"after\n{CONFIG.ack_frames} frames, or {CONFIG.ack_bytes // MIB} MiB",
        f"more than {CONFIG.unacked_max_bytes // MIB} MiB",
        f"({CONFIG.chunk_bytes:,} bytes) is cut into parts",
        f"{CONFIG.message_max_bytes // MIB} MiB is the limit of a message",
        f"pings every {CONFIG.ping_interval_s:g} s",
        f"heard nothing for {CONFIG.silence_max_s:g} s",
        f"`session_kill_s` ({CONFIG.session_kill_s:g} s)",
        f"killed after {NodeConfig().cancel_grace_s:g} s",
    ],
)
def test_limits_and_codes_are_those_of_the_code(said: str):
    assert said in PAGE
