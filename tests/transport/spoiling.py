"""What a bad network does to single websocket frames: damage, repeat, swap, replay, lose."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

LOGIN_FRAMES = 2  # each way; what is done to a login is seen by it alone, and refused
HEAD_END = b"\r\n\r\n"  # of the HTTP request, or its answer, before the first frame
REMEMBERED = 50


@dataclass(eq=False)
class Spoiler:
    """Does one thing to some frames of one direction, on whatever connections it has.

    Args:
        fault: ``"flip"`` a random bit, ``"double"`` a frame, ``"swap"`` two of them, ``"replay"``
            an earlier one (of an earlier connection, perhaps), or ``"lose"`` one.
        chance: that it is done to a frame.
        most: it is done so often and no more.
    """

    fault: str
    chance: float
    most: int
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    done: int = 0
    _held: bytes = b""
    _seen: deque[bytes] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def spoil(self, frame: bytes) -> list[bytes]:
        """What goes on instead of a frame."""
        if self._held:
            late, self._held = self._held, b""
            return [frame, late]
        self._seen.append(frame)
        if self.done >= self.most or self.rng.random() >= self.chance:
            return [frame]
        self.done += 1
        match self.fault:
            case "flip":
                return [self._flipped(frame)]
            case "double":
                return [frame, frame]
            case "replay":
                return [frame, self.rng.choice(self._seen)]
            case "swap":
                self._held = frame
        return []  # it is held, or lost

    def _flipped(self, frame: bytes) -> bytes:
        damaged = bytearray(frame)
        damaged[self.rng.randrange(len(frame))] ^= 1 << self.rng.randrange(8)
        return bytes(damaged)


class Frames:
    """Cuts one direction of one plaintext connection into frames, and has each spoiled."""

    def __init__(self, spoiler: Spoiler) -> None:
        self._spoiler = spoiler
        self._rest = bytearray()
        self._in_head = True
        self._passed = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What goes on, now that this has come."""
        self._rest += data
        if self._in_head:
            end = self._rest.find(HEAD_END) + len(HEAD_END)
            if end < len(HEAD_END):
                return
            self._in_head = False
            yield self._take(end)
        while 0 < (size := _frame_bytes(self._rest)) <= len(self._rest):
            frame = self._take(size)
            self._passed += 1
            yield from [frame] if self._passed <= LOGIN_FRAMES else self._spoiler.spoil(frame)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._rest[:size])
        del self._rest[:size]
        return taken


def _frame_bytes(data: bytearray) -> int:
    """The size of the websocket frame that begins here; 0 while it is not known."""
    if len(data) < 2:
        return 0
    size, header = data[1] & 0x7F, 2
    if size >= 126:
        more = 2 if size == 126 else 8
        header += more
        if len(data) < header:
            return 0
        size = int.from_bytes(data[2:header], "big")
    return header + (4 if data[1] & 0x80 else 0) + size
