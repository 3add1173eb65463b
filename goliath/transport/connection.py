"""The one pump: a session's channel, which outlives the links that carry it.

::

    actor ── send() ──► SessionProtocol ── next_frame() ──► Link.send_bytes()
    actor ◄─ on_message() ── SessionProtocol ◄── receive_frame() ── Link.receive()

No task stands between `SessionChannel.send` and the transport: the ``send_bytes`` coroutine is
driven by hand, and as long as the kernel takes the bytes it ends in its first step. Only
when it has to wait is the rest of it given to the writer task. That saves a turn of
the loop on each of the hops of a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from goliath.clock import Clock
from goliath.errors import LocalError, ProtocolError
from goliath.transport.channel import Receiver
from goliath.transport.codec import Lender
from goliath.transport.message import Message
from goliath.transport.payload import Ground
from goliath.transport.protocol import SessionOver, SessionProtocol

CLOSE_OK = 1000
CLOSE_NONSENSE = 4400  # the session has ended: a new link would not mend it
CLOSE_PROTOCOL = 4409
FLUSH_MAX_S = 1.0  # how long a goodbye may take to leave


class Link(Protocol):
    """One websocket, or something like it: whole messages in order, until it breaks."""

    @property
    def needs_checksum(self) -> bool:
        """Whether nothing below guards the bytes against damage."""

    @property
    def compress(self) -> bool:
        """Whether both ends have agreed that payload may be compressed."""

    def send_bytes(self, data: bytes) -> Coroutine[Any, Any, None]:
        """Send one message. It may wait if the other end does not read.

        Raises:
            ConnectionError: the link is broken.
        """

    async def receive(self) -> bytes | None:
        """The next message; None when the link has ended."""

    def abort(self) -> None:
        """Break the link now; frees a blocked sender and a waiting `receive`."""

    async def close(self, code: int, reason: str = "") -> None:
        """End the link politely, within a second or so."""


class SessionChannel:
    """A `goliath.transport.channel.Channel` over a session.

    Args:
        protocol: the session.
        clock: tells ``now``.
        on_ended: called once when the session is over, before the receiver is told.
    """

    def __init__(
        self, protocol: SessionProtocol, clock: Clock, *, on_ended: Callable[[], None]
    ) -> None:
        self._protocol = protocol
        self._clock = clock
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver | None = None
        self._sender: _Sender | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._attached = asyncio.Event()
        self._ended = False
        self._announced = False
        self._error: Exception | None = None
        self._gone = asyncio.Event()
        self._look_max_s = protocol.ping_interval_s
        self._set_timer()

    def __repr__(self) -> str:
        return f"<SessionChannel {self._protocol!r}{' ended' if self._ended else ''}>"

    # -- the channel -------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        """Name the receiver, once. Nothing is read from the links before."""
        if self._receiver is not None:
            raise LocalError(f"{self!r} has a receiver already")
        self._receiver = receiver
        self._attached.set()
        if self._ended:
            self._loop.call_soon(self._announce)

    def send(self, message: Message) -> None:
        """Queue a message and, if the way is free, let it go at once."""
        if self._ended:
            return
        self._protocol.send(message)
        self._flush()

    def share(self, lender: Lender, *, lends: bool) -> None:
        """See `Channel.share`."""
        self._protocol.share(lender, lends=lends)

    def gather_in(self, ground: Ground) -> None:
        """See `Channel.gather_in`."""
        self._protocol.gather_in(ground)

    @property
    def congested(self) -> bool:
        """Whether more than ``unacked_max_bytes`` wait or are in doubt."""
        return self._protocol.congested

    def close(self) -> None:
        """End the session after what was sent has left."""
        self._leave(hurry=False)

    # -- for the owner of the links ------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the session is over."""
        return self._ended

    @property
    def offence(self) -> str:
        """What the other end has said that ended the session; empty if it did not end so."""
        return str(self._error) if isinstance(self._error, ProtocolError) else ""

    @property
    def seen(self) -> int:
        """The last frame that arrived, for the login that resumes the session."""
        return self._protocol.seen

    @property
    def linked(self) -> bool:
        """Whether a link carries the session now."""
        return self._sender is not None

    def spoke(self) -> None:
        """A login that resumes this session was sent."""
        self._protocol.spoke(self._clock.now())

    async def leave(self) -> None:
        """End the session at once: unsent bulk is dropped, the goodbye gets a second to leave."""
        self._leave(hurry=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_MAX_S):
                await self._gone.wait()
        self.end(None)

    def end(self, error: Exception | None) -> None:
        """The session is over: tell the receiver, soon and once, and drop the link."""
        if self._ended:
            return
        self._ended = True
        self._error = error
        self._attached.set()  # nobody needs to wait for a receiver any more
        self._gone.set()
        self._protocol.forget()
        if self._timer is not None:
            self._timer.cancel()
        if self._sender is not None:
            # The other end closes the link when it has read the goodbye; but if it does not:
            patience = FLUSH_MAX_S if error is None else 0.0
            self._timer = self._loop.call_later(patience, self._sender.link.abort)
        self._on_ended()
        # Soon, not now: the receiver may be the caller, in the middle of a send.
        self._loop.call_soon(self._announce)

    async def carry(self, link: Link, *, peer_seen: int, proved_at: float) -> None:
        """Pump a link until it ends; closing it is the caller's part. The session may go on.

        A link that still carries the session is broken first: the newest wins.

        Raises:
            ProtocolError: the other end broke a rule; a new link may mend it.
        """
        if self._ended:
            return None
        self._unlink(abort=True)
        try:
            self._protocol.link_made(
                peer_seen,
                proved_at=proved_at,
                now=self._clock.now(),
                checksum=link.needs_checksum,
                compress=link.compress,
            )
        except SessionOver as over:
            return self.end(over.error)
        self._sender = sender = _Sender(link)
        self._set_timer()
        # Owned by this call, which ends only after the task has.
        task = self._loop.create_task(sender.finish_sends(self._flush))
        try:
            self._flush()
            await self._read(sender)
        finally:
            if self._sender is sender:
                self._unlink(abort=False)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return None

    # -- out -----------------------------------------------------------------------------

    def _leave(self, *, hurry: bool) -> None:
        if self._ended:
            return
        self._protocol.leave(hurry=hurry)
        if self._sender is None:
            self.end(None)
        else:
            self._flush()

    def _flush(self) -> None:
        """Give frames to the link until there are none or it makes us wait."""
        sender, protocol = self._sender, self._protocol
        if sender is None or sender.busy or protocol.idle:
            return
        now = self._clock.now()
        try:
            while (frame := protocol.next_frame(now)) is not None:
                if not sender.send(frame) or protocol.idle:
                    return
        except SessionOver as over:
            self.end(over.error)

    def _unlink(self, *, abort: bool) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            self._protocol.link_lost()
            if abort:
                sender.link.abort()
        if self._ended and self._timer is not None:
            self._timer.cancel()

    # -- in ------------------------------------------------------------------------------

    async def _read(self, sender: _Sender) -> None:
        await self._attached.wait()
        protocol, receive, now = self._protocol, sender.link.receive, self._clock.now
        while (frame := await receive()) is not None and self._sender is sender:
            congested = protocol.congested
            try:
                message = protocol.receive_frame(frame, now())
            except SessionOver as over:
                return self.end(over.error)
            if self._ended:
                return None
            if message is not None:
                self._deliver(message)
            if congested and not (protocol.congested or self._ended):
                self._owner().on_writable()
            self._flush()
        return None

    def _deliver(self, message: Message) -> None:
        try:
            self._owner().on_message(message)
        except Exception as exc:
            # The receiver may be half changed; going on would hide its bug.
            self.end(exc)
            raise

    def _owner(self) -> Receiver:
        assert self._receiver is not None, "nothing is read before attach()"
        return self._receiver

    def _announce(self) -> None:
        if self._receiver is not None and not self._announced:
            self._announced = True
            self._receiver.on_closed(self._error)

    # -- time ----------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._ended:
            return
        delay = max(0.0, self._protocol.next_deadline() - self._clock.now())
        # The loop's clock stands still while the machine sleeps, the session's does not: a timer
        # of a minute would fire a minute after waking, and the work of a session that expired
        # in the meantime, which another node may have by now, would go on for so long.
        self._timer = self._loop.call_later(min(delay, self._look_max_s), self._on_timer)

    def _on_timer(self) -> None:
        # The deadline has usually moved on since: frames do not touch the timer, it looks.
        try:
            if self._protocol.handle_timer(self._clock.now()):
                self._unlink(abort=True)
        except SessionOver as over:
            return self.end(over.error)
        self._flush()
        return self._set_timer()


class _Sender:
    """Sends over one link: in the caller's turn if the kernel takes it, else in a task."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.busy = False
        self._step: _Step | None = None
        self._wake = asyncio.Event()

    def send(self, frame: bytes) -> bool:
        """Send a frame; False if it has to wait, and every later one with it."""
        coroutine = self.link.send_bytes(frame)
        try:
            waits_for = coroutine.send(None)
        except StopIteration:
            return True
        except OSError:
            # The reader will find the link broken too; nothing is lost, it is all kept.
            self.link.abort()
        else:
            self._step = _Step(coroutine, waits_for)
            self._wake.set()
        self.busy = True
        return False

    async def finish_sends(self, on_idle: Callable[[], None]) -> None:
        """Wait for the sends that have to wait; ``on_idle`` after each."""
        try:
            while await self._wake.wait():
                self._wake.clear()
                if self._step is not None:
                    await self._step
                    self._step, self.busy = None, False
                    on_idle()
        except OSError:
            self.link.abort()
        finally:
            if self._step is not None:
                self._step.close()


class _Step:
    """A coroutine that was driven by hand up to its first wait, and is awaited for the rest."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        # What "await" does, entered in the middle: the future it waits for goes up to the
        # task, the wake-up goes down to the coroutine.
        waits_for = self._waits_for
        while True:
            try:
                value = yield waits_for
            except BaseException as exc:  # noqa: BLE001 - it is the coroutine's to handle
                resume = partial(self._coroutine.throw, exc)
            else:
                resume = partial(self._coroutine.send, value)
            try:
                waits_for = resume()
            except StopIteration:
                return

    def close(self) -> None:
        """Give it up."""
        self._coroutine.close()
