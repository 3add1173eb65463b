"""What an aiohttp websocket carries between two processes of this machine: nothing of Goliath.

``python -m benchmarks.bare [CERTIFICATE KEY]`` serves one, and says on which port.
"""

import asyncio
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

from goliath.transport.malloc import keep_freed_memory

HOST = "127.0.0.1"
MESSAGE = bytes(2**20)  # as HOTPATH's own pipeline sent them
LIMIT = 2 * len(MESSAGE)
UP, DOWN, END = "up", "down", "end"


@contextmanager
def bare(files: tuple[str, str] | None = None) -> Iterator["Bare"]:
    """A server in a process of its own, with the files of a certificate and its key if it is to
    speak TLS."""
    command = [sys.executable, "-m", "benchmarks.bare", *(files or ())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield Bare(int(server.stdout.readline()), secure=files is not None)
        server.stdin.close()  # that ends it


class Bare:
    """Its client."""

    def __init__(self, port: int, *, secure: bool) -> None:
        self._url = f"http{'s' * secure}://{HOST}:{port}"
        keep_freed_memory()

    def seconds(self, way: str, messages: int) -> float:
        """What so many take, the `UP` or the `DOWN` way, without the time for the connection."""
        return uvloop.run(self._seconds(way, messages))

    async def _seconds(self, way: str, messages: int) -> float:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(self._url, max_msg_size=LIMIT, ssl=False) as link,
        ):
            start = time.perf_counter()
            await link.send_str(f"{way} {messages}")
            if way == UP:
                await _send(link, messages)
            while (await link.receive()).type is aiohttp.WSMsgType.BINARY:
                pass
            return time.perf_counter() - start


async def _send(link: "aiohttp.ClientWebSocketResponse | web.WebSocketResponse", n: int) -> None:
    for _ in range(n):
        await link.send_bytes(MESSAGE)


async def _answer(request: web.Request) -> web.WebSocketResponse:
    link = web.WebSocketResponse(max_msg_size=LIMIT, compress=False)
    await link.prepare(request)
    way, messages = (await link.receive_str()).split()
    if way == DOWN:
        await _send(link, int(messages))
    else:
        for _ in range(int(messages)):
            await link.receive_bytes()
    await link.send_str(END)
    async for _ in link:
        pass  # until it is closed
    return link


async def _serve(files: list[str]) -> None:
    context = None
    if files:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*map(Path, files))
    app = web.Application()
    app.router.add_get("/", _answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0, ssl_context=context)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    keep_freed_memory()
    uvloop.run(_serve(sys.argv[1:]))
