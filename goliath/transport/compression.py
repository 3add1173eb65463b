"""Payload made smaller for slow links, frame by frame, by zstd, where both ends have it.

A frame's payload is compressed by itself: nothing of one frame helps to compress another, headers
are left alone, and there is no shared dictionary. So what one call's arguments are tells
nothing of those of another by how big they become. What comes is at most a frame's worth, says how
big it will be, and is refused if that is too much: it cannot blow up.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

from goliath.config import KIB
from goliath.errors import ProtocolError
from goliath.transport.payload import Payload

LEVEL = 1  # 0.3 ms for a chunk of text, a fifth or less of which is left
PAYLOAD_MIN_BYTES = 4 * KIB
SHRINKS_BY = 1.15  # less is not worth what it costs
SKIPPED = 7  # chunks that are not tried after one that did not shrink, as those of an image do not


@cache
def is_installed() -> bool:
    """Whether there is zstd here (``pip install 'goliath[zstd]'``)."""
    return importlib.util.find_spec("zstandard") is not None


@cache
def _zstd() -> Any:
    """Imported when it is first needed: most links never do."""
    return importlib.import_module("zstandard")


class Compressor:
    """Makes payloads smaller that can be made smaller, and soon gives up on others."""

    __slots__ = ("_skip", "_zstd")

    def __init__(self) -> None:
        self._zstd = _zstd().ZstdCompressor(level=LEVEL)
        self._skip = 0

    def shrunk(self, payload: Payload) -> bytes | None:
        """The payload compressed; None if that is not worth it."""
        if len(payload) < PAYLOAD_MIN_BYTES:
            return None
        if self._skip:
            self._skip -= 1
            return None
        small: bytes = self._zstd.compress(payload)
        if len(small) * SHRINKS_BY > len(payload):
            self._skip = SKIPPED
            return None
        return small


def expanded(payload: Payload, size: object, limit: int) -> memoryview:
    """The payload that was compressed, which has to have this size.

    Raises:
        ProtocolError: it has not, that is over the limit, or it is no zstd frame.
    """
    if type(size) is not int or not 0 < size <= limit:
        raise ProtocolError(f"a payload that expands to {size!r} bytes; the limit is {limit}")
    zstd = _zstd()
    try:
        # Looked at first, because it is what the library would make room for.
        if zstd.frame_content_size(payload) != size:
            raise ProtocolError("a compressed payload has another size than was said")
        whole = zstd.ZstdDecompressor().decompress(payload, allow_extra_data=False)
    except zstd.ZstdError as exc:
        raise ProtocolError(f"a compressed payload is damaged: {exc}") from exc
    return memoryview(whole)
