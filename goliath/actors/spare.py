"""A process that was forked before anybody asked for one (the term is Apache's): it waits for the
request that makes it a worker.

A fork and the first steps after it take 3 ms, most of them page faults. Who makes an actor waits
for them; a node that has had nothing to fork for a while has them behind it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any

from goliath.actors import birth
from goliath.actors.rights import Records, pack_record, receive_with_fds, send_with_fds
from goliath.actors.spec import WorkerSpec

NAME = "goliath-spare"
_READ_BYTES = 1 << 16


class Spare:
    """The zygote's end of one.

    Args:
        group: the control group that it is forked into.
        zygotes_fds: what it does not keep.

    Raises:
        OSError: there can be none.
    """

    def __init__(self, group: list[str], zygotes_fds: Iterable[int]) -> None:
        self.group = group
        self._sock, theirs = socket.socketpair()
        with theirs:
            try:
                self.pid = os.fork()
            except OSError:
                self._sock.close()
                raise
            if self.pid == 0:
                _wait(theirs.detach(), [*zygotes_fds, self._sock.detach()])
        # It has just been forked, or never asked for much: it takes a request or is gone.
        self._sock.setblocking(False)

    @property
    def fd(self) -> int:
        """A descriptor that other children of the zygote have no use for."""
        return self._sock.fileno()

    def employ(self, request: dict[str, Any], fds: list[int]) -> bool:
        """Make it a worker, as a request to the zygote says; False if it is not there any more.
        Call `dismiss` then."""
        record = pack_record(request)
        try:
            return send_with_fds(self._sock, record, fds) == len(record)
        except OSError:
            return False

    def dismiss(self) -> None:
        """If it is no worker, it ends."""
        self._sock.close()


def _wait(fd: int, others: Iterable[int]) -> None:
    """Be a spare, and then a worker."""
    with birth.last_words():
        birth.name_process(NAME)
        birth.leave_zygote(others)
        request, fds = _received(fd)
        if request is None:
            os._exit(0)
    birth.live(WorkerSpec.from_json(request["spec"]), request["tag"], fds, request["rlimits"])


def _received(fd: int) -> tuple[dict[str, Any] | None, list[int]]:
    """The request, with its descriptors; None if it is the end."""
    records, fds = Records(), []
    with socket.socket(fileno=fd) as sock:
        while True:
            data, came = receive_with_fds(sock, _READ_BYTES)
            fds += came
            if not data:
                return None, fds
            for request in records.feed(data):
                return request, fds
