"""What a door says when its process has no descriptor left: that it is busy; come again later.

To accept a connection takes a descriptor. Without one, whoever comes would wait in the kernel's
queue until his patience ends, and the listening socket would be reported as readable all the
time. So one is kept in reserve: it is given up for a moment, somebody is let in with it, told that
this is not a good time, and sent away; one after the other, so that it costs next to nothing. Where
TLS is spoken he is told so in TLS, which takes memory and time, and no descriptor.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from goliath.errors import ConnectionError  # noqa: A004

BUSY = 503
RETRY_AFTER = "Retry-After"
RETRY_AFTER_S = 1
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What `accept` fails with that will pass, but not at once."""

PAUSE_S = 0.25  # until the next try, if there was nothing to let anybody in with
BETWEEN_S = 0.010  # two who are sent away: a storm of them costs one or two per cent of a core
BETWEEN_TLS_S = 0.050  # ... and so it does where each costs a signature
HEARD_MAX_S = 0.25  # whoever says nothing is sent away, too
TLS_MAX_S = 1.0  # ... and whoever has begun with TLS is waited for: it takes the way there and back
_HEARD_BYTES = 4096
_HEARD_MAX_BYTES = 4 * _HEARD_BYTES
_TEXT = "this node has no file descriptor left, and takes no connections; try again later\n"
_ANSWER = (
    f"HTTP/1.1 {BUSY} Service Unavailable\r\n{RETRY_AFTER}: {RETRY_AFTER_S}\r\n"
    f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(_TEXT)}\r\n"
    f"Connection: close\r\n\r\n{_TEXT}"
).encode()


class BusyError(ConnectionError):
    """What whoever is told so makes of it; ``retry_after_s`` is when it may come again."""

    def __init__(self, message: str, retry_after_s: float = RETRY_AFTER_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BannedError(ConnectionError):
    """Too many logins from this address have failed, and nobody is let in from here for a while."""


class _Farewell:
    """What is said to one visitor, in plaintext or, with a context, in TLS."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._heard_bytes = 0
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def answer(self, said: bytes) -> tuple[bytes, bool]:
        """What to send to him who has said that, and whether it is all.

        Raises:
            OSError: he cannot be answered.
        """
        if self._tls is None:
            return _ANSWER, True
        self._heard_bytes += len(said)
        if not said or self._heard_bytes > _HEARD_MAX_BYTES:
            raise ConnectionError("he has left, or makes too many words")
        self._incoming.write(said)
        try:
            # Not before he has asked: what he says would come when he is gone, and a reset might
            # overtake the answer. The handshake is part of it.
            self._tls.read(_HEARD_BYTES)
        except ssl.SSLWantReadError:
            return self._outgoing.read(), False
        self._tls.write(_ANSWER)
        return self._outgoing.read(), True


class BusySign:
    """A descriptor in reserve, and what is done with it.

    Args:
        context: of TLS, if that is spoken at this door.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._reserve = -1
        self._visitor: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._patient = False
        self._waits: set[asyncio.TimerHandle] = set()
        self._restock()

    def __repr__(self) -> str:
        return f"<BusySign {'ready' if self.ready else 'in use'}>"

    @property
    def ready(self) -> bool:
        """Whether it has its descriptor."""
        return self._reserve >= 0

    def take_over(self, listening: socket.socket, resume: Callable[[], None]) -> None:
        """Let one in who waits at ``listening``, and send him away with an answer. ``resume`` is
        called afterwards: then the next one may be accepted as usual, or not yet."""
        if self._visitor is not None or not self._restock():
            self._wait(PAUSE_S, resume)
            return
        os.close(self._reserve)
        self._reserve = -1
        try:
            visitor, _ = listening.accept()
        except OSError:  # he has left; or another thread was faster with the descriptor
            self._restock()
            self._wait(PAUSE_S, resume)
            return
        visitor.setblocking(False)
        self.dismiss(visitor, resume)

    def dismiss(self, visitor: socket.socket, resume: Callable[[], None]) -> None:
        """Send somebody away who is in already; ``resume`` as above."""
        if self._visitor is not None:  # who came to another door of ours
            visitor.close()
            self._wait(BETWEEN_S, resume)
            return
        self._visitor = visitor
        # If it were closed before the request is read, a reset might overtake the answer.
        self._loop.add_reader(visitor, self._answer, _Farewell(self._context), resume)
        self._timer = self._loop.call_later(HEARD_MAX_S, self._go_on, resume)

    def close(self) -> None:
        """Give everything back."""
        self._send_away()
        for wait in self._waits:
            wait.cancel()
        self._waits.clear()
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1

    def _answer(self, farewell: _Farewell, resume: Callable[[], None]) -> None:
        assert self._visitor is not None
        with suppress(OSError):
            words, last = farewell.answer(self._visitor.recv(_HEARD_BYTES))
            self._visitor.send(words)
            if not last:
                self._be_patient(resume)
                return
            self._visitor.shutdown(socket.SHUT_RDWR)
        self._go_on(resume)

    def _be_patient(self, resume: Callable[[], None]) -> None:
        """He has begun with TLS: from then on he has so long, whatever he says."""
        if self._patient or self._timer is None:
            return
        self._patient = True
        self._timer.cancel()
        self._timer = self._loop.call_later(TLS_MAX_S, self._go_on, resume)

    def _go_on(self, resume: Callable[[], None]) -> None:
        """With the next one."""
        self._send_away()
        self._restock()
        self._wait(BETWEEN_S if self._context is None else BETWEEN_TLS_S, resume)

    def _wait(self, seconds: float, resume: Callable[[], None]) -> None:
        def go_on() -> None:
            self._waits.discard(timer)
            resume()

        timer = self._loop.call_later(seconds, go_on)
        self._waits.add(timer)

    def _send_away(self) -> None:
        self._patient = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._visitor is not None:
            self._loop.remove_reader(self._visitor)
            self._visitor.close()
            self._visitor = None

    def _restock(self) -> bool:
        if self._reserve < 0:
            with suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return self._reserve >= 0
