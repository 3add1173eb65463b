"""Two queues of frames on the way out, and the gathering of cut messages on the way in.

A message bigger than a chunk travels as ``part`` frames, so that control frames and small batches
can pass between them: ``{"t": "part", "l": lane, "h": bytes of header, "n": bytes in all, "at":
offset}`` followed by the piece. Header text and payload are cut as if they were one string.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import orjson

from goliath.config import KIB
from goliath.errors import ProtocolError
from goliath.transport.codec import (
    Header,
    Lender,
    from_parts,
    oversize,
    read_header,
    sizes_behind,
    to_wire,
    withdraw,
)
from goliath.transport.malloc import Heap, room_for
from goliath.transport.message import Lane, Message
from goliath.transport.messages import LOST, AssignBatch, ForgetPieces, KeepPiece
from goliath.transport.payload import Ground, Piece

PART = "part"
PASSING_MAX = 8  # small batches that may pass a chunk of a big one
HEADER_ROOM_BYTES = 64 * KIB  # beside a chunk: its header, for the limit of a frame
_BULK = Lane.BULK  # Python 3.11 takes 0.1 µs to find a member in its class

Frame = tuple[bytes, Piece, int]
"""The JSON text of a header, without its last brace because a number and an acknowledgement
are still to come; the payload; and how many bytes both have."""


class Outbox:
    """What was sent and has not left yet: control first, then bulk, each in its order.

    But for one thing: a small batch does not wait for the big ones before it, which on a slow link
    would be for seconds. Batches do not depend on each other, unless they are an actor's; whatever
    else is in the bulk lane stays between those that it was sent between. So big batches have a
    queue of their own. Only small batches pass it; anything else is queued there too while there
    is something in it, and from then on small batches as well. What the node is to keep for
    batches (`KeepPiece`) may be passed by those that do not take it; those that do take some of
    it, and what ends it, are queued behind it as if they were big.

    Args:
        chunk_bytes: messages bigger than this are cut.
        message_max_bytes: bigger ones are refused, as the other end would.

    Attributes:
        lender: what need not be sent because the other end can look at it.
    """

    __slots__ = (
        "_before_big",
        "_big",
        "_bulk",
        "_chunk_bytes",
        "_control",
        "_message_max_bytes",
        "_passed",
        "_sealed",
        "lender",
        "waiting_bytes",
    )

    def __init__(self, *, chunk_bytes: int, message_max_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._message_max_bytes = message_max_bytes
        self._control: deque[Frame] = deque()
        self._bulk: deque[Frame] = deque()
        self._big: deque[Frame] = deque()
        self._sealed = False  # something is among the big ones that may not be passed
        self._before_big = 0  # how many of the bulk have to go before any of them
        self._passed = 0
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
        if size > self._message_max_bytes:
            withdraw(header, self.lender)
            raise oversize(message.kind, size, self._message_max_bytes)
        small = size <= self._chunk_bytes
        lane = self._bulk_for(message, small=small) if message.lane is _BULK else self._control
        if small:
            lane.append((text[:-1], parts[0] if len(parts) == 1 else b"".join(parts), size))
            self.waiting_bytes += size
            return
        for part in _cut(message.lane, [text, *parts], self._chunk_bytes):
            lane.append(part)
            self.waiting_bytes += part[2]

    def _bulk_for(self, message: Message, *, small: bool) -> deque[Frame]:
        """The queue of the bulk lane in which this one does not pass what it must not pass."""
        if not self._big:
            if small or not _is_apart(message):
                return self._bulk
            self._before_big, self._passed, self._sealed = len(self._bulk), 0, False
            return self._big
        if not self._sealed:
            if small and _is_apart(message) and not _leans(message):
                return self._bulk
            if not _is_apart(message):
                # Those that have passed big ones were sent before this one, and go before it.
                self._before_big, self._sealed = len(self._bulk), True
        return self._big

    def take(self) -> Frame | None:
        """The frame that goes next."""
        lane = self._control or self._next_bulk()
        if not lane:
            return None
        frame = lane.popleft()
        self.waiting_bytes -= frame[2]
        return frame

    def _next_bulk(self) -> deque[Frame]:
        if not self._big:
            return self._bulk
        if self._before_big:
            self._before_big -= 1
            return self._bulk
        # The big ones have their turn, however many small ones come.
        self._passed = self._passed + 1 if self._bulk and self._passed < PASSING_MAX else 0
        return self._bulk if self._passed else self._big

    def drop_bulk(self) -> None:
        """Nobody is interested in the bulk any more."""
        self._bulk.clear()
        self._big.clear()
        self.waiting_bytes = sum(size for _, _, size in self._control)

    def clear(self) -> None:
        """The session has ended."""
        self._control.clear()
        self.drop_bulk()


def _is_apart(message: Message) -> bool:
    """Whether it may arrive before or after others of which that is true."""
    if type(message) is AssignBatch:
        return not (message.actor or message.resident)
    return type(message) in (KeepPiece, ForgetPieces)


def _leans(message: Message) -> bool:
    """Whether it must not pass what the node was given to keep."""
    if type(message) is AssignBatch:
        return bool(message.deposits) and any(key < LOST for key, _ in message.deposits)
    return True


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
    """Puts the parts of one lane together again: the header, the payload, and each piece beside it
    in memory of its own, so that each is copied once and can be let go of by itself.

    Memory grows with what has arrived, not with what was announced: a length is only a claim.

    Args:
        message_max_bytes: of a message that is announced.

    Attributes:
        lender: where pieces are found that were not sent.
        ground: has the memory for what has yet to arrive.
    """

    __slots__ = (
        "_filled",
        "_header",
        "_header_bytes",
        "_limit",
        "_open",
        "_parts",
        "_sizes",
        "_total",
        "ground",
        "lender",
    )

    def __init__(self, message_max_bytes: int) -> None:
        self._limit = message_max_bytes
        self.lender: Lender | None = None
        self.ground: Ground = Heap()
        self._reset()

    def _reset(self) -> None:
        self._header: Header | None = None
        self._header_bytes = self._total = self._filled = 0
        self._parts: list[memoryview] = []  # the payload and the pieces, as far as they have begun
        self._sizes: deque[int] = deque()  # of those that have not
        self._open = memoryview(b"")  # what is to be filled next of what has begun

    def add(self, header: Header, payload: memoryview) -> Message | None:
        """Take a part; the message, if this was the last.

        Raises:
            ProtocolError: the part does not continue the message, or the sizes make no sense.
        """
        if not self._total:
            self._begin(header)
        offset, total = self._filled, self._total
        if (header.get("h"), header.get("n"), header.get("at")) != (
            self._header_bytes,
            total,
            offset,
        ):
            raise ProtocolError(f"a part of another message came after byte {offset} of this one")
        if not 0 < len(payload) <= total - offset:
            raise ProtocolError(f"a part of {len(payload)} bytes at {offset} of {total}")
        self._filled = offset + len(payload)
        while len(payload):
            payload = self._fill(payload)
        return self._finish() if self._filled == total else None

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
        self._start(room_for(header_bytes))

    def _start(self, room: memoryview) -> None:
        self._parts.append(room)
        self._open = room

    def _fill(self, payload: memoryview) -> memoryview:
        """Put down as much of it as belongs to what has begun; what is left."""
        while not self._open:
            self._start(self.ground.room_for(self._sizes.popleft()))
        count = min(len(self._open), len(payload))
        if self._header is not None:
            self._secure(count)
        self._open[:count] = payload[:count]
        self._open = self._open[count:]
        if self._header is None and not self._open:
            self._header = read_header(self._parts.pop())
            self._sizes.extend(sizes_behind(self._header, self._total - self._header_bytes))
        return payload[count:]

    def _secure(self, count: int) -> None:
        """See that so many bytes more can be written; elsewhere, if need be."""
        room = self._parts[-1]
        filled = len(room) - len(self._open)
        if not self.ground.is_ready(room, filled + count):
            elsewhere = self._parts[-1] = room_for(len(room))
            elsewhere[:filled] = room[:filled]
            self._open = elsewhere[filled:]

    def _finish(self) -> Message:
        header, parts, sizes = self._header, self._parts, self._sizes
        self._reset()
        assert header is not None, "its bytes are among those that have arrived"
        assert not any(sizes), f"{header} has been read without {sizes}"
        return from_parts(header, [*parts, *(memoryview(b"") for _ in sizes)], self.lender)
