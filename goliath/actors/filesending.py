"""Sending files to a node that lacks them: piece by piece, no faster than the node takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from goliath.actors.surroundings import ShippedFile
from goliath.transport.channel import Channel
from goliath.transport.messages import FileData

PIECE_BYTES = 1024 * 1024
GONE = -1
"""The size that tells a node that a file it asked for cannot be read any more."""


async def send_files(
    channel: Channel, files: Iterable[ShippedFile], writable: asyncio.Event
) -> None:
    """Send each file's contents.

    A file that has changed since it was hashed fails at the node, which compares.

    Args:
        channel: to the node.
        files: what it lacks.
        writable: set by the channel's receiver when the channel is no longer congested.
    """
    for file in files:
        try:
            await _send_file(channel, file, writable)
        except OSError:
            channel.send(FileData(file.sha256, 0, GONE))


async def _send_file(channel: Channel, file: ShippedFile, writable: asyncio.Event) -> None:
    with file.source.open("rb") as source:
        offset = 0
        while True:
            piece = source.read(PIECE_BYTES)
            channel.send(FileData(file.sha256, offset, file.size, piece))
            offset += len(piece)
            if not piece or offset >= file.size:
                return
            await asyncio.sleep(0)  # others have their turn
            if channel.congested:
                writable.clear()
                await writable.wait()
