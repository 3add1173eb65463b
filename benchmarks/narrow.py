"""A TCP proxy in front of a node that lets only so many bytes a second through, each way."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from benchmarks.node import Node

HOST = "127.0.0.2"  # not the node's: within one address, nobody believes in a slow link
PIECE_BYTES = 16 * 1024
KEPT_BYTES = 64 * 1024  # what the kernel may keep: a router's queue, not 6 MiB
LATE_MAX_S = 0.02  # what a sleep that was too long has missed may be caught up with


@contextmanager
def narrow(node: Node, bytes_s: float) -> Iterator[tuple[str, int]]:
    """The address of the proxy: the login is bound to the port, so it has the node's."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server((HOST, node.port)))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KEPT_BYTES)
        ends: list[socket.socket] = []
        threads: list[threading.Thread] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near, _ = listening.accept()
                    far = socket.socket()
                    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KEPT_BYTES)
                    far.connect(node.address)
                    ends.extend((near, far))
                    for way in ((near, far), (far, near)):
                        threads.append(threading.Thread(target=_pump, args=(*way, bytes_s)))
                        threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield HOST, node.port
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for end in ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for end in ends:
                end.close()


def _pump(source: socket.socket, target: socket.socket, bytes_s: float) -> None:
    free_at = time.monotonic()
    with suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            now = time.monotonic()
            free_at = max(free_at, now - LATE_MAX_S) + len(piece) / bytes_s
            target.sendall(piece)
            if free_at > now:
                time.sleep(free_at - now)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
