"""Attacker 1: anyone who reaches the port and has no token. Nothing of his is ever run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import orjson
import pytest

from goliath.transport.codec import pack_header, to_header
from goliath.transport.token import Token
from tests.lieutenants import Lieutenant, command
from tests.tokens import written
from tests.transport.ends import assign
from tests.transport.test_handshake import client


def hellos(port: int) -> dict[str, list[bytes]]:
    """What somebody without the token may try, message by message."""
    stranger = client(Token.make(), f"loopback:{port}")
    message = assign(1, b"cos\nsystem\n(S'true'\ntR.")
    batch = pack_header(to_header(message), message.payload, checksum=True)
    return {
        "a batch at once": [batch],
        "a batch after a hello": [stranger.hello(), batch],
        "a proof with another token": [stranger.hello(), bytes(32) + b'{"seen":0}'],
        "no token named": [orjson.dumps({**orjson.loads(stranger.hello()), "kid": ""}), batch],
    }


@pytest.mark.parametrize("attempt", list(hellos(0)))
async def test_without_the_token_nothing_is_run_and_nothing_is_said(
    lieutenant, attempt: str
) -> None:
    node: Lieutenant = await asyncio.to_thread(lieutenant, 1)
    before = node.family()
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{node.port}/goliath/v1") as websocket,
    ):
        for message in hellos(node.port)[attempt]:
            await websocket.send_bytes(message)
        said = []
        while (message := await websocket.receive()).type is aiohttp.WSMsgType.BINARY:
            said.append(orjson.loads(message.data)["t"])
        assert (websocket.close_code, message.extra) == (4401, "authentication failed")
    assert said in ([], ["challenge"])
    assert node.family() == before, "a worker was forked"


@pytest.mark.parametrize("flags", [[], ["--insecure-plaintext"], ["--public-name", "lab.example"]])
def test_off_loopback_nobody_can_leave_the_token_out(flags: list[str]) -> None:
    run = command("0.0.0.0", "0", "1", *flags)
    assert run.returncode == 2
    assert "--token-file" in run.stderr


def test_no_flag_switches_authentication_off() -> None:
    text = command("--help").stdout
    assert "no-auth" not in text
    assert not [line for line in text.splitlines() if "without a token" in line]


def test_an_empty_token_file_is_no_way_in(tmp_path: Path) -> None:
    file = written(tmp_path / "tokens", "# nobody")
    run = command("127.0.0.1", "0", "1", "--token-file", str(file))
    assert run.returncode == 2
    assert "goliath token new" in run.stderr
