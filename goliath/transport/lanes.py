"""Two queues of frames on the way out, and the gathering of cut messages on the way in.

A message bigger than a chunk travels as ``part`` frames, so that control frames can pass
between them: ``{"t": "part", "l": lane, "h": bytes of header, "n": bytes in all, "at": offset}``
followed by the piece. Header text and payload are cut as if they were one string.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import orjson

from goliath.errors import ProtocolError, SerializationError
from goliath.transport.codec import Header, Lender, from_wire, read_header, to_wire
from goliath.transport.messages import Lane, Message, Piece

PART = "part"
_BULK = Lane.BULK  # Python 3.11 takes 0.1 µs to find a member in its class

Frame = tuple[bytes, Piece, int]
"""The JSON text of a header, without its last brace because a number and an acknowledgement
are still to come; the payload; and how many bytes both have."""


class Outbox:
    """What was sent and has not left yet: control first, then bulk, each in its order.

    Args:
        chunk_bytes: messages bigger than this are cut.
        message_max_bytes: bigger ones are refused, as the other end would.

    Attributes:
        lender: what need not be sent because the other end can look at it.
    """

    __slots__ = (
        "_bulk",
        "_chunk_bytes",
        "_control",
        "_message_max_bytes",
        "lender",
        "waiting_bytes",
    )

    def __init__(self, *, chunk_bytes: int, message_max_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._message_max_bytes = message_max_bytes
        self._control: deque[Frame] = deque()
        self._bulk: deque[Frame] = deque()
        self.waiting_bytes = 0
        self.lender: Lender | None = None

    def put(self, message: Message) -> None:
        """Queue a message in its lane.

        Raises:
            SerializationError: it is bigger than a message may be.
        """
        header, parts = to_wire(message, self.lender)
        text = orjson.dumps(header)
        size = len(text) + sum(map(len, parts))
        lane = self._bulk if message.lane is _BULK else self._control
        if size > self._message_max_bytes:
            raise SerializationError(
                f"a {message.kind} message of {size:,} bytes is over the limit of "
                f"{self._message_max_bytes:,}; pass smaller values or files, or raise "
                "GOLIATH_MESSAGE_MAX_BYTES on both ends"
            )
        if size <= self._chunk_bytes:
            lane.append((text[:-1], parts[0] if len(parts) == 1 else b"".join(parts), size))
            self.waiting_bytes += size
            return
        for part in _cut(message.lane, [text, *parts], self._chunk_bytes):
            lane.append(part)
            self.waiting_bytes += part[2]

    def take(self) -> Frame | None:
        """The frame that goes next."""
        lane = self._control or self._bulk
        if not lane:
            return None
        frame = lane.popleft()
        self.waiting_bytes -= frame[2]
        return frame

    def drop_bulk(self) -> None:
        """Nobody is interested in the bulk any more."""
        self._bulk.clear()
        self.waiting_bytes = sum(size for _, _, size in self._control)

    def clear(self) -> None:
        """The session has ended."""
        self._control.clear()
        self.drop_bulk()


def _cut(lane: Lane, strings: list[Piece], chunk_bytes: int) -> Iterator[Frame]:
    """These as if they were one string, cut into chunks. Only where two of them meet is a chunk
    copied."""
    total, border, at = sum(map(len, strings)), len(strings[0]), 0
    chunk: list[memoryview] = []
    room = min(chunk_bytes, total)
    for string in strings:
        view = memoryview(string)
        while len(view):
            chunk.append(view[:room])
            view, room = view[room:], room - len(chunk[-1])
            if not room:
                piece = chunk[0] if len(chunk) == 1 else b"".join(chunk)
                head = orjson.dumps({"t": PART, "l": lane, "h": border, "n": total, "at": at})
                yield head[:-1], piece, len(head) + len(piece)
                chunk, at = [], at + len(piece)
                room = min(chunk_bytes, total - at)


class Gatherer:
    """Puts the parts of one lane together again.

    Memory grows with what has arrived, not with what was announced: a length is only a claim.
    """

    __slots__ = ("_gathered", "_header_bytes", "_limit", "_total", "lender")

    def __init__(self, message_max_bytes: int) -> None:
        self._limit = message_max_bytes
        self.lender: Lender | None = None
        self._gathered = bytearray()
        self._header_bytes = 0
        self._total = 0

    def add(self, header: Header, payload: memoryview) -> Message | None:
        """Take a part; the message, if this was the last.

        Raises:
            ProtocolError: the part does not continue the message, or the sizes make no sense.
        """
        if not self._gathered:
            self._begin(header)
        offset = len(self._gathered)
        if (header.get("h"), header.get("n"), header.get("at")) != (
            self._header_bytes,
            self._total,
            offset,
        ):
            raise ProtocolError(f"a part of another message came after byte {offset} of this one")
        if not 0 < len(payload) <= self._total - offset:
            raise ProtocolError(f"a part of {len(payload)} bytes at {offset} of {self._total}")
        self._gathered += payload
        return self._finish() if len(self._gathered) == self._total else None

    def _begin(self, header: Header) -> None:
        header_bytes, total = header.get("h"), header.get("n")
        if type(header_bytes) is not int or type(total) is not int:
            raise ProtocolError("a part lacks the size of its message")
        if not 0 < header_bytes <= total <= self._limit:
            raise ProtocolError(
                f"a message of {total} bytes, {header_bytes} of them header, was announced; "
                f"the limit is {self._limit} (GOLIATH_MESSAGE_MAX_BYTES)"
            )
        self._header_bytes, self._total = header_bytes, total

    def _finish(self) -> Message:
        whole = memoryview(self._gathered)
        self._gathered = bytearray()
        header = read_header(whole[: self._header_bytes])
        return from_wire(header, whole[self._header_bytes :], self.lender)
