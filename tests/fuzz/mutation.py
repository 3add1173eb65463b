"""Frames as a hostile peer might make them of real ones: bytes spoiled, and fields that lie."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import orjson

from goliath.errors import ProtocolError
from goliath.transport.codec import Header, pack_frame, unpack_frame

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "e", "\0", "ü" * 50, "x" * 1000, "../..", "__class__", "s1", "-1"),
    *(-1, 0, 1, 2, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -0.5, 1e308, 1e-308),
    *([], [[]], [None], [-1], [1, 1], [2**63], ["x"], [[1, 2, 3, 4]], [[0, 1]], [["", 1]], {}),
    *({"": None}, {"GPU": -1}, {"GPU": 0.5}, {"a": {"b": [1]}}, [{}], [[[[[[[[]]]]]]]]),
)
ODD_TEXTS = (
    *(b"1e400", b"-1e400", b"99999999999999999999", b"NaN", b"Infinity", b"-0", b"1.0", b"1e2"),
    *(rb'"\ud800"', b'"\xff"', b"[" * 2000, b'{"a":' * 500, b"null,null", b"0x10", b"", b"01"),
)
"""What is no JSON, or none that fits Python, in the place of a value."""

ODD_DEPOSITS = ([[0, 1]], [[0, 1, 0]], [[0, 1, 1]], [[0, 1], [1, 2]], [[0, 0]], [[1, -1]], [[2, 9]])
"""What only fits the calls and the payload of some message, and would be found by luck else."""

VALUE = re.compile(rb"(?<=:)[^,:{}\[\]]+")
SMALL = 6  # numbers that something may really have are below


class Mutator:
    """Spoils frames: the same ones, from the same seed and frames.

    Args:
        rng: decides all of it.
        frames: real ones, parts of which are put into others.
    """

    def __init__(self, rng: random.Random, frames: Sequence[bytes]) -> None:
        self._rng = rng
        self._headers = [unpack_frame(frame, checksum=False)[0] for frame in frames]
        self._frames = frames
        self._bytes: list[Callable[[bytes], bytes]] = [
            self._flip,
            self._cut,
            self._insert,
            self._double,
            self._splice,
            self._lie_about_length,
        ]
        self._fields: list[Callable[[Header], None]] = [
            self._put_odd,
            self._put_odd,
            self._put_small,
            self._put_small,
            self._put_anothers,
            self._remove,
            self._put_inside,
            self._put_deposits,
            self._become_another,
        ]

    def spoil(self, frame: bytes) -> bytes:
        """Bytes that are wrong, or a well-formed frame that is not honest."""
        return self.spoil_bytes(frame) if self._rng.random() < 0.3 else self.spoil_fields(frame)

    # -- bytes -------------------------------------------------------------------------------

    def spoil_bytes(self, frame: bytes) -> bytes:
        """Damage, as the wire or somebody on it does it. Checksums are not mended."""
        spoiled = frame
        for _ in range(self._rng.choice((1, 1, 1, 2, 5))):
            spoiled = self._rng.choice(self._bytes)(spoiled)
        return spoiled

    def _place(self, data: bytes) -> int:
        return self._rng.randrange(len(data) + 1)

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        changed = bytearray(data)
        changed[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
        return bytes(changed)

    def _cut(self, data: bytes) -> bytes:
        lo, hi = sorted((self._place(data), self._place(data)))
        return data[:lo] + data[hi:] if self._rng.random() < 0.5 else data[lo:hi]

    def _insert(self, data: bytes) -> bytes:
        at = self._place(data)
        return data[:at] + self._rng.randbytes(self._rng.choice((1, 4, 100))) + data[at:]

    def _double(self, data: bytes) -> bytes:
        lo, hi = sorted((self._place(data), self._place(data)))
        return data[:hi] + data[lo:hi] + data[hi:]

    def _splice(self, data: bytes) -> bytes:
        other = self._rng.choice(self._frames)
        return data[: self._place(data)] + other[self._place(other) :]

    def _lie_about_length(self, data: bytes) -> bytes:
        length = self._rng.choice((0, 1, len(data), len(data) - 8, 2**31, 2**32 - 1))
        return max(length, 0).to_bytes(4, "little") + data[4:]

    # -- fields --------------------------------------------------------------------------------

    def spoil_fields(self, frame: bytes) -> bytes:
        """Another header, or payload, in a frame that is whole."""
        try:
            header, payload = unpack_frame(frame, checksum=False)
        except ProtocolError:
            return frame
        for _ in range(self._rng.choice((1, 1, 1, 2, 4))):
            self._rng.choice(self._fields)(header)
        rest = bytes(payload)
        if rest and self._rng.random() < 0.2:
            rest = self.spoil_bytes(rest)
        text = orjson.dumps(header)
        values = [*VALUE.finditer(text)]
        if values and self._rng.random() < 0.1:
            value, odd = self._rng.choice(values), self._rng.choice(ODD_TEXTS)
            text = text[: value.start()] + odd + text[value.end() :]
        return pack_frame(text, rest, checksum=True)

    def _odd(self) -> Any:
        return deepcopy(self._rng.choice(ODD_VALUES))

    def _field(self, header: Header) -> str:
        return self._rng.choice(list(header)) if header else "t"

    def _put_odd(self, header: Header) -> None:
        header[self._field(header)] = self._odd()

    def _put_small(self, header: Header) -> None:
        """A number that may be somebody else's."""
        numbers = [name for name, value in header.items() if type(value) is int]
        if numbers:
            header[self._rng.choice(numbers)] = self._rng.randrange(-1, SMALL)

    def _put_anothers(self, header: Header) -> None:
        other = self._rng.choice(self._headers)
        shared = [name for name in header.keys() & other.keys() if name != "t"]
        if shared:
            name = self._rng.choice(sorted(shared))
            header[name] = deepcopy(other[name])

    def _remove(self, header: Header) -> None:
        header.pop(self._field(header), None)

    def _put_inside(self, header: Header) -> None:
        """Something odd within a list or an object."""
        inside = [value for value in header.values() if type(value) in (list, dict) and value]
        if not inside:
            return
        container, odd = self._rng.choice(inside), self._odd()
        if type(container) is list:
            container[self._rng.randrange(len(container))] = odd
        else:
            container[self._rng.choice(list(container))] = odd

    def _put_deposits(self, header: Header) -> None:
        if "deposits" in header:
            header["deposits"] = deepcopy(self._rng.choice(ODD_DEPOSITS))

    def _become_another(self, header: Header) -> None:
        """The fields of one kind under the name of another."""
        header["t"] = self._rng.choice(self._headers)["t"]
