"""Those who attack a Lieutenant, in a process of their own: ``python -m benchmarks.attackers KIND
PORT NUMBER``. Says ``begun`` when its attack is under way, and ``done`` when it has an end.

They come from 200 addresses of the loopback interface, because a real flood has many, and have
the lowest priority, because real attackers do not use the node's own processors.
"""

import base64
import os
import random
import resource
import secrets
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress

ADDRESSES = 200
AT_ONCE = 64
FIRST_LINE = b"GET /goliath/v1 HTTP/1.1\r\n"
UPGRADE = (
    FIRST_LINE + b"Host: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)


def open_connections(port: int, number: int, said: bytes) -> None:
    """So many, always: where some are dropped, others come, a second later."""
    poll = select.poll()
    held: dict[int, socket.socket] = {}
    begun = False
    while True:
        while len(held) < number:
            sock = connected(port)
            if sock is not None:
                held[sock.fileno()] = sock
                poll.register(sock, select.POLLIN | select.POLLHUP)
                with suppress(OSError):  # it was dropped at once
                    sock.send(said)
        if not begun:
            print("begun", flush=True)
        begun = True
        time.sleep(1)
        for fd, _ in poll.poll(0):
            poll.unregister(fd)
            held.pop(fd).close()


def bad_logins(port: int, number: int) -> None:
    """So many, a few dozen at once, each up to the refusal."""
    poll = select.poll()
    under_way: dict[int, socket.socket] = {}
    made = 0
    print("begun", flush=True)
    while made < number or under_way:
        while made < number and len(under_way) < AT_ONCE:
            made += 1
            sock = connected(port)
            if sock is not None:
                under_way[sock.fileno()] = sock
                poll.register(sock, select.POLLOUT)
        for fd, event in poll.poll(1000):
            sock = under_way[fd]
            try:
                if event & select.POLLOUT:
                    sock.send(UPGRADE + frame(hello()) + frame(secrets.token_bytes(40)))
                    poll.modify(fd, select.POLLIN)
                    continue
                over = not sock.recv(4096)
            except OSError:
                over = True
            if over:
                poll.unregister(fd)
                under_way.pop(fd).close()
    print("done", flush=True)


def hello() -> bytes:
    """As of somebody who has a token, but another one."""
    nonce = base64.b64encode(secrets.token_bytes(32))
    return b'{"t":"hello","v":1,"kid":"%s","nonce":"%s"}' % (secrets.token_hex(8).encode(), nonce)


def frame(data: bytes) -> bytes:
    """A binary frame of a websocket client, masked with zeros."""
    short = len(data) < 126
    head = struct.pack("!BB", 0x82, 0x80 | (len(data) if short else 126))
    return head + (b"" if short else struct.pack("!H", len(data))) + bytes(4) + data


def connected(port: int) -> socket.socket | None:
    """From one of the addresses; None if there is no port free there."""
    sock = socket.socket()
    sock.setblocking(False)
    try:
        sock.bind((f"127.0.1.{random.randrange(1, 1 + ADDRESSES)}", 0))
        sock.connect(("127.0.0.1", port))
    except BlockingIOError:
        pass
    except OSError:
        sock.close()
        return None
    return sock


ATTACKS: dict[str, Callable[[int, int], None]] = {
    "idle": lambda port, number: open_connections(port, number, b""),
    "half": lambda port, number: open_connections(port, number, FIRST_LINE),
    "logins": bad_logins,
}


if __name__ == "__main__":
    os.nice(19)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    ATTACKS[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))
