"""Behind a proxy that ends the TLS: the configuration of docs/security.md, with the real nginx
where there is one, and with one of our own everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from goliath import Commander
from goliath.testing.processes import until
from goliath.transport.tls import ServerTls
from tests.e2e.calls import add
from tests.joining import JoinedNode
from tests.transport.gateways import Authority, ending_tls

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/1;
    proxy_temp_path {folder}/2;
    fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4;
    scgi_temp_path {folder}/5;
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name localhost;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        ssl_protocols TLSv1.2 TLSv1.3;
{location}
    }}
}}
"""


def location_of_the_docs(target: int) -> str:
    """What docs/security.md says that nginx needs, but for the port."""
    text = (Path(__file__).parents[2] / "docs/security.md").read_text()
    block = text.partition("```nginx\n")[2].partition("```")[0]
    assert "127.0.0.1:8080" in block
    return block.replace("127.0.0.1:8080", f"127.0.0.1:{target}")


@contextlib.contextmanager
def nginx(target: int, tls: ServerTls, folder: Path, port: int) -> Iterator[int]:
    """The real one."""
    file = folder / "nginx.conf"
    file.write_text(
        CONFIGURATION.format(
            folder=folder,
            port=port,
            certificate=tls.cert_file,
            location=location_of_the_docs(target),
        )
    )
    command = ["nginx", "-p", str(folder), "-c", str(file), "-e", "stderr"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or answers(port), 30, "nginx to listen")
        assert process.poll() is None, (folder / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def our_own(target: int, tls: ServerTls, folder: Path, port: int) -> Iterator[int]:
    """One of our own, in a thread."""
    ready, done = threading.Event(), threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        async with ending_tls(target, tls) as proxy:
            ports.append(proxy.port)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield ports[0]
    finally:
        done.set()
        thread.join()


PROXIES = [our_own, nginx] if shutil.which("nginx") else [our_own]


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_commander_with_a_ca_reaches_a_lieutenant_behind_a_proxy(
    proxy,
    lieutenant,
    token_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free_port: int,
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    own = lieutenant(2, "--token-file", str(token_file), "--public-name", "localhost/lab")
    with (
        proxy(own.port, authority.sign("localhost"), tmp_path, free_port) as port,
        Commander([f"wss://localhost:{port}/lab"], token_file=token_file, tls="ca") as commander,
    ):
        assert commander.run(add, [(n, n) for n in range(100)]) == [2 * n for n in range(100)]
        big = b"x" * 3_000_000  # more than any buffer of the proxy
        assert commander.run(len, [(big,)]) == [len(big)]


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_node_joins_a_commander_behind_a_proxy(
    proxy, token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    flags = ("--tls", "ca", "--token-file", str(token_file))
    with Commander(
        listen="127.0.0.1:0",
        public_name="localhost/lab",
        token_file=token_file,
        connect_timeout=20,
    ) as commander:
        assert commander.listening is not None
        with (
            proxy(commander.listening[1], authority.sign("localhost"), tmp_path, free_port) as port,
            JoinedNode(f"wss://localhost:{port}/lab", 1, *flags),
        ):
            assert commander.run(add, [(n, n) for n in range(100)]) == [2 * n for n in range(100)]
