"""Messages to bytes and back: a length, a checksum, an orjson header, the raw payload.

::

    +------------+------------+----------------+-----------+
    | u32 length | u32 crc32  | header (JSON)  | payload   |
    | of header  | of the two | UTF-8 object   | raw bytes |
    +------------+------------+----------------+-----------+

Little endian. The checksum guards what TLS does not; 0 means "not computed" (a pipe, or
a link under TLS). The header costs 0.7 µs and there is one a *batch*, so it can afford to be
legible. Nothing in a header is ever unpickled.
"""

from __future__ import annotations

import struct
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Protocol
from zlib import crc32

import orjson

from goliath.errors import ProtocolError, SerializationError
from goliath.transport.message import Message, known_messages
from goliath.transport.payload import Bundle, Payload, Piece

PREFIX = struct.Struct("<II")
PREFIX_BYTES = PREFIX.size
_pack_prefix, _unpack_prefix = PREFIX.pack, PREFIX.unpack_from
Header = dict[str, Any]


def pack_header(header: Mapping[str, Any], payload: Piece = b"", *, checksum: bool) -> bytes:
    """The prefix and the header; the frame is this followed by the payload."""
    return pack_text(orjson.dumps(header), payload, checksum=checksum)


def pack_text(text: bytes, payload: Piece = b"", *, checksum: bool) -> bytes:
    """The same for a header that is JSON already."""
    crc = (crc32(payload, crc32(text)) or 1) if checksum else 0
    return _pack_prefix(len(text), crc) + text


def pack_frame(text: bytes, payload: Piece, *, checksum: bool) -> bytes:
    """A whole frame: its payload is copied once."""
    crc = (crc32(payload, crc32(text)) or 1) if checksum else 0
    return b"".join((_pack_prefix(len(text), crc), text, payload))


def unpack_frame(frame: Piece, *, checksum: bool) -> tuple[Header, memoryview]:
    """The header and the payload of one frame (the payload is a view, nothing is copied).

    Raises:
        ProtocolError: cut short, damaged, or not a JSON object.
    """
    size = len(frame)
    if size < PREFIX_BYTES:
        raise ProtocolError(f"a frame of {size} bytes is too short to have a prefix")
    length, crc = _unpack_prefix(frame)
    body = PREFIX_BYTES + length
    if body > size:
        raise ProtocolError(f"a header of {length} bytes in a frame of {size} bytes")
    # A slice of bytes is a copy, but a header is short: a view costs more to make and to parse.
    text, payload = frame[PREFIX_BYTES:body], memoryview(frame)[body:]
    if checksum and crc != (crc32(payload, crc32(text)) or 1):
        raise ProtocolError("the checksum of a frame is wrong: it was damaged on its way")
    return read_header(text), payload


def read_header(text: Piece) -> Header:
    """The object that the text of a header means.

    Raises:
        ProtocolError: not a JSON object.
    """
    try:
        header = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise ProtocolError(f"a header is not JSON: {exc}") from exc
    if type(header) is not dict:
        raise ProtocolError(f"a header is a JSON {type(header).__name__}, not an object")
    return header


def oversize(kind: str, size: int, limit: int) -> SerializationError:
    """The error of whoever would send a message that is bigger than the other end takes."""
    return SerializationError(
        f"{size:,} bytes at once ({kind}) are over the limit of {limit:,}; pass smaller values or "
        "files, or raise GOLIATH_MESSAGE_MAX_BYTES on both ends (half of the node's memory at most)"
    )


def to_header(message: Message) -> Header:
    """The fields of a message as its header, without the payload."""
    return _SCHEMAS[message.kind].header_of(message)


def from_header(header: Header, payload: Payload) -> Message:
    """The message a header and its payload mean. Unknown fields are ignored (newer peers).

    Raises:
        ProtocolError: unknown kind, a field missing or of another type.
    """
    try:
        schema = _SCHEMAS[header["t"]]
    except (KeyError, TypeError):
        raise ProtocolError(f"unknown message kind {header.get('t')!r}") from None
    return schema.build(header, payload)


# -- payloads with pieces ---------------------------------------------------------------
#
# What is beside a payload follows it in the frame, and is named in the header: ``"b"`` is a list of
# ``[size]`` for each piece, or ``[offset, size, number]`` for one that the other end finds in the
# arena (see `goliath.transport.exchange`), and is not in the frame. With ``"w": 1``, the only piece
# is the payload itself.


class Lender(Protocol):
    """What both ends can look at."""

    def lend(self, piece: Piece) -> list[int] | None:
        """The entry of a piece that need not be sent; None if it must be."""

    def borrow(self, offset: int, size: int, number: int) -> memoryview:
        """A piece that was not sent.

        Raises:
            ProtocolError: there is no such thing.
        """

    def taken_back(self, numbers: Iterable[int]) -> None:
        """Nobody looks at what was lent under these numbers."""


def withdraw(header: Header, lender: Lender | None) -> None:
    """A message that `to_wire` has made is not sent after all: nothing is lent with it."""
    if lender is not None:
        lender.taken_back(entry[2] for entry in header.get("b", ()) if len(entry) == 3)


def to_wire(message: Message, lender: Lender | None = None) -> tuple[Header, list[Piece]]:
    """The header of a message, and what follows it in the frame."""
    header = to_header(message)
    payload: Payload = getattr(message, "payload", b"")
    if not isinstance(payload, Bundle):
        entry = None if type(payload) is bytes or lender is None else lender.lend(payload)
        if entry is None:
            return header, [payload]
        header["b"], header["w"] = [entry], 1
        return header, [b""]
    entries: list[list[int]] = []
    parts = [payload.main]
    for piece in payload.pieces:
        entry = None if lender is None else lender.lend(piece)
        if entry is None:
            entry = [len(piece)]
            parts.append(piece)
        entries.append(entry)
    header["b"] = entries
    return header, parts


def from_wire(
    header: Header, payload: memoryview, lender: Lender | None = None, *, copied: bool = False
) -> Message:
    """The message that a header and what follows it mean.

    Args:
        header: its header.
        payload: what follows.
        lender: where to look for pieces that were not sent.
        copied: whether pieces that were sent are copied, as the frame's memory is used again.

    Raises:
        ProtocolError: as of `from_header`, and for pieces that are not there.
    """
    if "b" not in header:
        return from_header(header, payload)
    main, *sizes = sizes_behind(header, len(payload))
    parts, at = [payload[:main]], main
    for size in sizes:
        piece = payload[at : at + size]
        parts.append(memoryview(bytes(piece)) if copied else piece)
        at += size
    return from_parts(header, parts, lender)


def sizes_behind(header: Header, size: int) -> list[int]:
    """How the bytes behind a header are cut: the payload, and the pieces that were sent with it.

    Raises:
        ProtocolError: the pieces do not fit.
    """
    entries = header.get("b", [])
    if type(entries) is not list or not all(map(_is_entry, entries)):
        raise ProtocolError(f"the pieces of a message are {entries!r:.200}")
    pieces = [entry[0] for entry in entries if len(entry) == 1]
    main = size - sum(pieces)
    if main < 0:
        raise ProtocolError(f"pieces of {sum(pieces)} bytes in a frame with {size}")
    return [main, *pieces]


def from_parts(
    header: Header, parts: Sequence[memoryview], lender: Lender | None = None
) -> Message:
    """`from_wire`, where what follows the header is cut already, as `sizes_behind` says."""
    if "b" not in header:
        return from_header(header, parts[0])
    whole = _gathered(header, parts, lender)
    message = from_header(header, whole)
    if type(whole) is Bundle and not message.bundles:
        raise ProtocolError(f"a {message.kind} message has pieces and may not")
    return message


def _gathered(header: Header, parts: Sequence[memoryview], lender: Lender | None) -> Payload:
    sent = iter(parts[1:])
    pieces: list[Piece] = []
    for entry in header["b"]:
        if len(entry) == 1:
            pieces.append(next(sent))
        elif lender is None:
            raise ProtocolError("a piece was lent over a link without an arena")
        else:
            pieces.append(lender.borrow(*entry))
    if "w" in header and len(pieces) == 1:
        return pieces[0]
    return Bundle(parts[0], pieces)


def _is_entry(entry: Any) -> bool:
    return (
        type(entry) is list
        and len(entry) in (1, 3)
        and all(type(number) is int and number >= 0 for number in entry)
    )


class _Schema:
    """The fields of one message class, checked because the other end may be hostile."""

    __slots__ = (
        "_build_usual",
        "cls",
        "has_payload",
        "header_of",
        "required",
        "types",
    )

    def __init__(self, cls: type[Message]) -> None:
        hints = typing.get_type_hints(cls)
        own = [f for f in fields(cls) if f.name != "payload"]
        self.cls = cls
        self.has_payload = any(f.name == "payload" for f in fields(cls))
        self.types = {f.name: _plain_types(hints[f.name]) for f in own}
        self.required = frozenset(
            f.name for f in own if f.default is MISSING and f.default_factory is MISSING
        )
        self.header_of = _reader(cls, self.types)
        self._build_usual = _builder(cls, self.types, has_payload=self.has_payload)

    def build(self, header: Header, payload: Payload) -> Message:
        try:
            message = self._build_usual(header, payload)
        except KeyError:
            message = None
        return self._build_unusual(header, payload) if message is None else message

    def _build_unusual(self, header: Header, payload: Payload) -> Message:
        """With defaults for what is missing, and a complaint about what is wrong."""
        given: Header = {}
        for name, types_allowed in self.types.items():
            if name in header:
                value = given[name] = header[name]
                if type(value) not in types_allowed:
                    raise self._wrong_type(name, value)
            elif name in self.required:
                raise ProtocolError(f"a {self.cls.kind} message lacks {name!r}")
        if self.has_payload:
            given["payload"] = payload
        elif len(payload):
            raise ProtocolError(f"a {self.cls.kind} message has a payload and may not")
        return self.cls(**given)

    def _wrong_type(self, name: str, value: object) -> ProtocolError:
        return ProtocolError(
            f"{self.cls.kind}.{name} is a {type(value).__name__}, "
            f"not {' or '.join(t.__name__ for t in self.types[name])}"
        )


# Two functions are written out for each class, as `dataclass` does it for ``__init__``. To read
# eleven fields a loop takes 1.1 µs, the first one 0.5; to check and pass them C functions over all
# of them at once take 1.4 µs, the second one 0.9.


def _reader(cls: type[Message], names: Iterable[str]) -> Callable[[Message], Header]:
    """A function that reads the fields of a message into its header."""
    items = [f"'t': {cls.kind!r}", *(f"{name!r}: message.{name}" for name in names)]
    source = f"lambda message: {{{', '.join(items)}}}"
    reader: Callable[[Message], Header] = eval(_compiled(source))
    return reader


def _builder(
    cls: type[Message], types: Mapping[str, tuple[type, ...]], *, has_payload: bool
) -> Callable[[Header, Payload], Message | None]:
    """A function that makes a message of a header with all fields, each of a right type.

    It returns None if a type is wrong, and raises KeyError if a field is missing.
    """
    right = [f"type({name} := _header[{name!r}]) in {name}_types" for name in types]
    given = list(types)
    if has_payload:
        given.append("_payload")
    else:
        right.append("not len(_payload)")
    source = f"lambda _header, _payload: cls({', '.join(given)}) if {' and '.join(right)} else None"
    namespace = {"cls": cls} | {f"{name}_types": types[name] for name in types}
    builder: Callable[[Header, Payload], Message | None] = eval(_compiled(source), namespace)
    return builder


def _compiled(source: str) -> types.CodeType:
    """To evaluate a text would make CPython forget a Ctrl-C (see `goliath.record`)."""
    return compile(source, "<codec>", "eval")


def _plain_types(hint: Any) -> tuple[type, ...]:
    """The concrete JSON types a field hint allows (containers by their outer type only)."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return tuple(t for arm in typing.get_args(hint) for t in _plain_types(arm))
    plain = typing.get_origin(hint) or hint
    return (float, int) if plain is float else (plain,)


class _Schemas(dict[str, _Schema]):
    """By kind; each is made when the first message of its kind is (0.5 ms)."""

    def __missing__(self, kind: str) -> _Schema:
        schema = self[kind] = _Schema(known_messages()[kind])
        return schema


_SCHEMAS = _Schemas()


def prepare(*classes: type[Message]) -> None:
    """Make what is needed for messages of these classes: before a fork, once for all children."""
    for cls in classes:
        _SCHEMAS[cls.kind]
