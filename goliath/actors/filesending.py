"""Sending files to a node that lacks them: piece by piece, no faster than the node takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from io import BytesIO

from goliath.actors.surroundings import ShippedFile
from goliath.transport.channel import Channel
from goliath.transport.messages import FileData

PIECE_BYTES = 1024 * 1024
GONE = -1
"""The size that tells a node that a file it asked for cannot be read any more."""


class Way:
    """What the channel's receiver hears of it while files are sent."""

    def __init__(self) -> None:
        self.ended = False
        self._writable = asyncio.Event()

    def writable(self) -> None:
        """The channel is no longer congested."""
        self._writable.set()

    def end(self) -> None:
        """The channel has ended: who waits need not wait any more."""
        self.ended = True
        self._writable.set()

    async def clear(self) -> None:
        """Wait until there is room, or nobody to send to."""
        if not self.ended:
            self._writable.clear()
            await self._writable.wait()


async def send_files(channel: Channel, files: Mapping[str, ShippedFile | None], way: Way) -> None:
    """Send the contents of each file; what there is not, is said to be gone.

    A file that has changed since it was hashed fails at the node, which compares.

    Args:
        channel: to the node.
        files: what it lacks, by SHA-256.
        way: whether there is room in the channel, and anybody at its end.
    """
    for sha256, file in files.items():
        try:
            if file is None:
                raise FileNotFoundError(sha256)
            await _send_file(channel, file, way)
        except OSError:
            channel.send(FileData(sha256, 0, GONE))
        if way.ended:
            return


async def _send_file(channel: Channel, file: ShippedFile, way: Way) -> None:
    with file.source.open("rb") if file.contents is None else BytesIO(file.contents) as source:
        offset = 0
        while True:
            piece = source.read(PIECE_BYTES)
            channel.send(FileData(file.sha256, offset, file.size, piece))
            offset += len(piece)
            if not piece or offset >= file.size:
                return
            await asyncio.sleep(0)  # others have their turn
            if channel.congested:
                await way.clear()
            if way.ended:
                return
