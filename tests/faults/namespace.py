"""Another machine, as far as the network is concerned: a namespace at the end of a virtual cable.

What the kernel does there is what it does on a real wire: packets that nobody hears, packets that
are sent again, queues. It takes root, so whoever asks for one may be told that there is none.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

NOBODY = "02:00:00:00:00:99"
"""A hardware address on which nobody is: whatever is sent there is lost without a word."""


class NoNamespaceError(Exception):
    """The kernel does not let us."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A cable with an address at each end: ``here``, and ``there`` in the namespace."""

    name: str
    here: str
    here_too: str
    there: str
    device: str
    device_there: str

    @property
    def inside(self) -> tuple[str, ...]:
        """What starts a command in there; it becomes that command, so it has its pid."""
        return "ip", "netns", "exec", self.name

    def partition(self, *, up: bool = False, down: bool = False) -> None:
        """Let nothing arrive there (up), or here (down)."""
        self._aim("ip", self.there, self.device, lost=up)
        for mine in (self.here, self.here_too):
            self._aim(f"ip -n {self.name}", mine, self.device_there, lost=down)

    @staticmethod
    def _aim(ip: str, address: str, device: str, *, lost: bool) -> None:
        if lost:
            run(f"{ip} neigh replace {address} lladdr {NOBODY} dev {device} nud permanent")
        else:
            run(f"{ip} neigh flush dev {device} nud permanent")

    def throttle(self, bytes_per_s: float) -> None:
        """No more than that, each way, from a queue that holds as much as 400 ms."""
        shape = f"tbf rate {int(bytes_per_s * 8)}bit burst 16kb latency 400ms"
        run(f"tc qdisc add dev {self.device} root {shape}")
        run(f"tc -n {self.name} qdisc add dev {self.device_there} root {shape}")

    def unthrottle(self) -> None:
        """As fast as it goes."""
        run(f"tc qdisc del dev {self.device} root")
        run(f"tc -n {self.name} qdisc del dev {self.device_there} root")

    def move(self) -> None:
        """Change the address on this side, as a laptop does that goes elsewhere."""
        run(f"ip addr del {self.here}/29 dev {self.device}")
        run(f"ip addr add {self.here_too}/29 dev {self.device}")


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A fresh one.

    Raises:
        NoNamespaceError: there cannot be one; the message is the kernel's.
    """
    number = os.getpid()
    net = f"198.18.{number % 250}"  # for such tests, by RFC 2544
    name, device = f"goliath-{number}", f"gl{number % 100_000}"
    made = Namespace(name, f"{net}.1", f"{net}.3", f"{net}.2", device, f"{device}n")
    try:
        run(f"ip netns add {name}")
    except (OSError, subprocess.CalledProcessError) as exc:
        raise NoNamespaceError(str(getattr(exc, "stderr", exc)).strip()) from exc
    try:
        try:
            run(f"ip link add {device} type veth peer name {made.device_there} netns {name}")
            run(f"ip addr add {made.here}/29 dev {device}")
            run(f"ip link set {device} up")
            run(f"ip -n {name} addr add {made.there}/29 dev {made.device_there}")
            run(f"ip -n {name} link set {made.device_there} up")
            run(f"ip -n {name} link set lo up")
        except subprocess.CalledProcessError as exc:
            raise NoNamespaceError(exc.stderr.strip()) from exc
        yield made
    finally:
        # The cable first: the namespace itself lives as long as any socket in it.
        subprocess.run(["ip", "link", "del", device], capture_output=True, check=False)
        run(f"ip netns del {name}")


@pytest.fixture(scope="module")
def wire() -> Iterator[Namespace]:
    """One for the tests of a module, which are skipped where there can be none. What they show is
    shown on loopback, too, by other tests and a proxy."""
    try:
        with namespace() as made:
            yield made
    except NoNamespaceError as exc:
        pytest.skip(f"no network namespace ({exc}); other tests have shown the same on loopback")


def run(command: str) -> None:
    """Run a command of the administrator's."""
    subprocess.run(command.split(), capture_output=True, text=True, check=True, timeout=10)
