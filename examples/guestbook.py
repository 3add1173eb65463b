"""A detached actor: one Commander makes it and leaves, and the next one finds it as it was left.

python examples/guestbook.py
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import goliath


@goliath.remote
class Guestbook:
    def __init__(self) -> None:
        self.names: list[str] = []

    def sign(self, name: str) -> int:
        self.names.append(name)
        return len(self.names)

    def read(self) -> list[str]:
        return self.names


@contextmanager
def lieutenant() -> Iterator[str]:
    """A node of its own; an embedded one would end with this process, and the actor with it."""
    command = [sys.executable, "-m", "goliath.lieutenant", "127.0.0.1", "0", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[4].rstrip(",")  # ... ready on HOST:PORT, ...
        process.terminate()


def visit(address: str, name: str) -> None:
    """What a program of its own would do, on any machine that has the token."""
    goliath.init(address)
    book = Guestbook.options(name="book", lifetime="detached", get_if_exists=True).remote()
    print(f"{name} is guest number {goliath.get(book.sign.remote(name))}")
    goliath.shutdown()


def main() -> None:
    with lieutenant() as address:
        for name in ("Ada", "Blaise", "Carl"):
            visit(address, name)
        goliath.init(address)
        book = goliath.get_actor("book")
        print(", ".join(goliath.get(book.read.remote())))
        goliath.kill(book)
        goliath.shutdown()


main()
