"""A crawler: one asynchronous actor fetches many pages at a time, and remembers what it has seen.

python examples/crawler.py

The site is served by this very script, on this machine: no Internet is needed.
"""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import goliath

PAGES = 60
SECONDS = 0.05  # that each page takes
LINK = re.compile(r'href="(/[^"]*)"')


class Site(BaseHTTPRequestHandler):
    """Page 0 links to 1, 2 and 3, page 1 to 4, 5 and 6, and so on; one link leads nowhere."""

    def do_GET(self) -> None:
        time.sleep(SECONDS)
        number = int(self.path.removeprefix("/page/") or 0)
        if number > PAGES:
            self.send_error(404)
            return
        links = [n for n in range(3 * number + 1, 3 * number + 4) if n <= PAGES + 1]
        text = "".join(f'<a href="/page/{n}">{n}</a>' for n in [0, *links]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nobody wants to read it."""


class Server(ThreadingHTTPServer):
    request_queue_size = 64  # connections that may wait


@contextmanager
def served() -> Iterator[int]:
    """The port of the site, as long as it is there."""
    server = Server(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def fetch(port: int, path: str) -> tuple[int, str]:
    """The status and the text of a page."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()
    finally:
        writer.close()
        await writer.wait_closed()


@goliath.remote
class Crawler:
    """What it has seen, it does not fetch again, whoever asks."""

    def __init__(self, port: int, at_once: int) -> None:
        self.port = port
        self.room = asyncio.Semaphore(at_once)
        self.seen: set[str] = set()

    async def crawl(self, start: str) -> AsyncIterator[tuple[str, int, int]]:
        """Yields path, status and number of links of each page, level by level."""
        level = {start}
        while fresh := sorted(level - self.seen):
            self.seen.update(fresh)
            answers = await asyncio.gather(*map(self._fetch, fresh))
            level = set()
            for path, (status, text) in zip(fresh, answers, strict=True):
                links = LINK.findall(text)
                level.update(links)
                yield path, status, len(links)

    async def _fetch(self, path: str) -> tuple[int, str]:
        async with self.room:
            return await fetch(self.port, path)

    async def known(self) -> int:
        """How many pages it knows of; it answers while it crawls."""
        return len(self.seen)


def main() -> None:
    goliath.init()
    with served() as port:
        crawler = Crawler.remote(port, at_once=10)
        began = time.monotonic()
        crawl = crawler.crawl.remote("/page/0")
        pages = [goliath.get(next(crawl))]
        known = goliath.get(crawler.known.remote())
        pages += [goliath.get(ref) for ref in crawl]
        took = time.monotonic() - began
        print(f"when the first page had come, it knew of {known}")
        print(f"{len(pages)} pages with {sum(links for _, _, links in pages)} links")
        print(f"not there: {[path for path, status, _ in pages if status == 404]}")
        print(f"{took:.1f} s; one by one it would have been {len(pages) * SECONDS:.1f} s")
        again = list(crawler.crawl.remote("/page/0"))
        print(f"the second time: {len(again)} pages that it had not seen")
    goliath.shutdown()


main()
