"""Sending files to a node: piece by piece, no faster than it takes them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from goliath.actors.filesending import GONE, PIECE_BYTES, Way, send_files
from goliath.actors.surroundings import ShippedFile
from goliath.transport.messages import FileData
from tests.actors.runtime import turns


class FakeChannel:
    """Notes what is sent, and is congested when the test says so."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.congested = False

    def attach(self, receiver: Any) -> None: ...

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def close(self) -> None: ...


def file(path: Path, size: int) -> ShippedFile:
    path.write_bytes(bytes(size))
    return ShippedFile(path.name, 0o644, path.name * 64, size, path)


async def test_files_go_in_pieces_one_after_the_other(tmp_path: Path):
    channel = FakeChannel()
    a, b, c = (
        file(tmp_path / "a", PIECE_BYTES * 2),
        file(tmp_path / "b", 0),
        file(tmp_path / "c", 5),
    )
    await send_files(channel, {f.sha256: f for f in (a, b, c)}, Way())
    assert [(m.sha256[0], m.offset, m.size, len(m.payload)) for m in channel.sent] == [
        ("a", 0, 2 * PIECE_BYTES, PIECE_BYTES),
        ("a", PIECE_BYTES, 2 * PIECE_BYTES, PIECE_BYTES),
        ("b", 0, 0, 0),
        ("c", 0, 5, 5),
    ]


async def test_a_file_that_cannot_be_read_is_said_to_be_gone_and_the_others_go(tmp_path: Path):
    channel = FakeChannel()
    a, b = file(tmp_path / "a", 3), file(tmp_path / "b", 3)
    (tmp_path / "a").unlink()
    await send_files(channel, {a.sha256: a, "x" * 64: None, b.sha256: b}, Way())
    assert channel.sent == [
        FileData(a.sha256, 0, GONE),
        FileData("x" * 64, 0, GONE),
        FileData(b.sha256, 0, 3, bytes(3)),
    ]


async def test_it_waits_while_the_channel_is_congested_and_ends_with_it(tmp_path: Path):
    channel, way = FakeChannel(), Way()
    channel.congested = True
    a, b = file(tmp_path / "a", PIECE_BYTES * 5), file(tmp_path / "b", 5)
    async with asyncio.TaskGroup() as group:
        group.create_task(send_files(channel, {a.sha256: a, b.sha256: b}, way))
        for pieces in (1, 2, 3):
            await turns(10)
            assert len(channel.sent) == pieces
            if pieces < 3:
                way.writable()
        way.end()
    assert len(channel.sent) == 3
