"""What the two ends of a session say to each other after login, without I/O and without a clock.

Whoever owns a `SessionProtocol` gives it messages and frames and carries away what
`next_frame` returns. The object outlives its links: between `link_lost` and
`link_made` it keeps what waits and what is in doubt.

A data frame is a codec frame whose header has two more keys: ``q``, its number, and ``a``,
the last number seen from the other end. If both ends have agreed on it at the login, a slow link's
frames may have ``z``, the size of their payload, which is then compressed by zstd. Frames without
a number::

    {"t": "ack",  "a": seen, "s": sent}                 there was nothing else to say for long
    {"t": "ping", "n": number, "a": seen, "s": sent}    from the Commander, every few seconds
    {"t": "pong", "n": number, "a": seen, "s": sent}    the answer
    {"t": "bye",  "a": seen, "s": sent}                 the sender has ended the session

``s`` is the last number sent before it; it betrays a lost tail. On the way out these go
first, then what must be sent again, then control, then bulk. An error that a new link can
mend (damage, a gap) is a `ProtocolError`; what no link can mend is a `SessionOver`.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

import orjson

from goliath import errors
from goliath.config import TransportConfig
from goliath.core.session import Session
from goliath.core.throughput import Throughput
from goliath.errors import ProtocolError
from goliath.transport.codec import (
    Header,
    Lender,
    from_wire,
    pack_frame,
    pack_text,
    unpack_frame,
)
from goliath.transport.compression import Compressor, expanded
from goliath.transport.lanes import HEADER_ROOM_BYTES, PART, Frame, Gatherer, Outbox
from goliath.transport.message import Message
from goliath.transport.payload import Ground, Piece

VERSION = 1
"""Of this protocol; `handshake` refuses another one."""

UNNUMBERED = frozenset({"ack", "ping", "pong", "bye"})


class Side(Enum):
    """Which end this is: the Commander pings, the Lieutenant answers and has the last word."""

    COMMANDER = "commander"
    LIEUTENANT = "lieutenant"


class SessionOver(Exception):  # noqa: N818 - it reports an end, which need not be an error
    """The session has ended and cannot be resumed; ``error`` is None after a goodbye."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__(error)
        self.error = error


class SessionProtocol:
    """One end of one session.

    Args:
        side: which end.
        peer: the other end's address, for error messages.
        config: timers and limits.
        now: when the session began.
    """

    def __init__(self, side: Side, peer: str, config: TransportConfig, now: float) -> None:
        self._side = side
        self._last_heard_counts = side is Side.LIEUTENANT
        self._peer = peer
        self._config = config
        self._unacked_max_bytes = config.unacked_max_bytes
        self._ack_frames, self._ack_bytes = config.ack_frames, config.ack_bytes
        self._session: Session[Frame] = (
            # Both with the same margin: what was sent last takes its time to arrive, and killing
            # the work takes the Lieutenant some, before another node may be given it.
            Session(life_s=config.session_lost_s, echo_s=config.session_lost_s, now=now)
            if side is Side.COMMANDER
            else Session(life_s=config.session_kill_s, now=now)
        )
        self._outbox = Outbox(
            chunk_bytes=config.chunk_bytes, message_max_bytes=config.message_max_bytes
        )
        self._gatherers: tuple[Gatherer, ...] = tuple(
            Gatherer(config.message_max_bytes) for _ in range(2)
        )
        self._throughput = Throughput(config.compress_below_bytes_s)
        self._compressor: Compressor | None = None
        self._compress = False
        self._lender: Lender | None = None
        self._urgent: deque[Header] = deque()
        self._again: deque[tuple[int, Frame]] = deque()
        self._linked = False
        self._checksum = True
        self._heard_at = now
        self._ping_at = now
        self._suspect = False
        self._unanswered_frames = 0
        self._unanswered_bytes = 0
        self._leaving = False
        self._said_bye = False
        self.congested = False

    def __repr__(self) -> str:
        link = "linked" if self._linked else "unlinked"
        return f"<SessionProtocol {self._side.value} {link} {self._session!r}>"

    # -- links -------------------------------------------------------------------------

    @property
    def seen(self) -> int:
        """The number of the last frame that arrived: told to the other end at login."""
        return self._session.seen

    @property
    def ping_interval_s(self) -> float:
        """How often the two ends look after each other."""
        return self._config.ping_interval_s

    @property
    def linked(self) -> bool:
        """Whether frames can leave."""
        return self._linked

    def link_made(
        self,
        peer_seen: int,
        *,
        proved_at: float,
        now: float,
        checksum: bool,
        compress: bool = False,
    ) -> None:
        """A new link is up; the other end has seen frames up to ``peer_seen``.

        Args:
            proved_at: a moment at which the other end was certainly there: for the
                Commander, when it sent its proof; for the Lieutenant, when it heard it.
            checksum: whether the link needs checksums (TLS has its own).
            compress: whether both ends have agreed that payload may be compressed.

        Raises:
            SessionOver: it has expired. The machine may have slept, or the process been stopped,
                and no timer come before this link; its work may be somebody else's by now.
        """
        if self._session.expired(now):
            raise SessionOver(self._expiry())
        self._session.acknowledge(peer_seen)
        self._session.unlink()
        self._session.witness(proved_at)
        self._session.spoke(now)
        self._again = deque(self._session.in_doubt())
        self._urgent.clear()
        self._linked, self._checksum, self._suspect = True, checksum, False
        self._compress = compress
        if compress and self._compressor is None:
            self._compressor = Compressor()
        self._throughput.forget()
        self._heard_at = now
        self._ping_at = now + self._config.ping_interval_s

    def spoke(self, now: float) -> None:
        """A login that resumes this session was sent, whether or not its answer arrives."""
        self._session.spoke(now)

    def link_lost(self) -> None:
        """The link is down; everything waits for the next one."""
        self._linked = False
        self._session.unlink()
        self._again.clear()
        self._urgent.clear()

    def forget(self) -> None:
        """The session has ended: let go of every message."""
        self.link_lost()
        self._session.forget()
        self._outbox.clear()
        self._gatherers = ()
        self.congested = False

    # -- out ---------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue a message.

        Raises:
            SerializationError: it is bigger than a message may be.
        """
        if self._leaving:
            return
        self._outbox.put(message)
        if self._session.unacked_bytes + self._outbox.waiting_bytes > self._unacked_max_bytes:
            self.congested = True

    def share(self, lender: Lender, *, lends: bool) -> None:
        """See `Channel.share`."""
        self._lender = lender
        for gatherer in self._gatherers:
            gatherer.lender = lender
        if lends:
            self._outbox.lender = lender

    def gather_in(self, ground: Ground) -> None:
        """See `Channel.gather_in`."""
        for gatherer in self._gatherers:
            gatherer.ground = ground

    def leave(self, *, hurry: bool = False) -> None:
        """Say goodbye after what was sent; with ``hurry`` unsent bulk is dropped first."""
        self._leaving = True
        if hurry:
            self._outbox.drop_bulk()

    def next_frame(self, now: float) -> bytes | None:
        """The frame that leaves now, or None.

        Raises:
            SessionOver: it has expired, or the last frame was the goodbye.
        """
        if not self._linked:
            return None
        session = self._session
        if now >= session.ends_at:
            raise SessionOver(self._expiry())
        if self._urgent:
            frame = self._pack_unnumbered(self._urgent.popleft())
        elif self._again:
            frame = self._pack(*self._again.popleft())
        elif (new := self._outbox.take()) is not None:
            if self._compress and self._throughput.is_slow(now):
                new = self._shrunk(new)
            frame = self._pack(session.stamp(new, new[2]), new)
        else:
            return self._last_word()
        session.spoke(now)
        return frame

    @property
    def idle(self) -> bool:
        """Whether there is nothing to say, so that nobody has to look at the clock first."""
        return not (
            self._outbox.waiting_bytes
            or self._urgent
            or self._again
            or self._leaving
            or self._unanswered_frames >= self._ack_frames
            or self._unanswered_bytes >= self._ack_bytes
        )

    def _last_word(self) -> bytes | None:
        """What there is to say when there is nothing to say."""
        if self._said_bye:
            raise SessionOver(None)
        if self._leaving:
            self._said_bye = True
            return self._pack_unnumbered({"t": "bye"})
        return None if self.idle else self._pack_unnumbered({"t": "ack"})

    def _pack(self, seq: int, frame: Frame) -> bytes:
        text, payload, _ = frame
        # The number is written into the JSON text by hand: a frame that is sent again has the
        # same text and another acknowledgement, and a second orjson.dumps would cost more.
        text = b'%b,"q":%d,"a":%d}' % (text, seq, self._session.seen)
        self._unanswered_frames = self._unanswered_bytes = 0
        return pack_frame(text, payload, checksum=self._checksum)

    def _shrunk(self, frame: Frame) -> Frame:
        text, payload, _ = frame
        assert self._compressor is not None, "both ends have agreed on it"
        small = self._compressor.shrunk(payload)
        if small is None:
            return frame
        text = b'%b,"z":%d' % (text, len(payload))
        return text, small, len(text) + len(small)

    def _pack_unnumbered(self, header: Header) -> bytes:
        # Not what was ever sent: on this link the frames in doubt may still have to follow.
        header["s"] = self._again[0][0] - 1 if self._again else self._session.sent
        header["a"] = self._session.seen
        self._unanswered_frames = self._unanswered_bytes = 0
        return pack_text(orjson.dumps(header), checksum=self._checksum)

    # -- in ----------------------------------------------------------------------------

    def receive_frame(self, frame: Piece, now: float) -> Message | None:
        """Take a frame of the current link; the message it completes, if it does.

        Raises:
            ProtocolError: damaged, or something is missing: cut the link and resume.
            SessionOver: the other end said goodbye or nonsense, or this session had expired.
        """
        session = self._session
        if now >= session.ends_at:
            raise SessionOver(self._expiry())
        header, payload = unpack_frame(frame, checksum=self._checksum)
        self._hear(_number(header, "a"), now)
        kind = header.get("t")
        if type(kind) is str and kind in UNNUMBERED:
            self._on_unnumbered(kind, header)
            return None
        if not session.accept(_number(header, "q")):
            return None
        self._unanswered_frames += 1
        self._unanswered_bytes += len(frame)
        try:
            if "z" in header:
                payload = self._expanded(header, payload)
            if kind == PART:
                return self._gatherer(header).add(header, payload)
            return from_wire(header, payload, self._lender)
        except ProtocolError as exc:
            # It arrived as it was sent, so sending it again would not help.
            raise SessionOver(exc) from exc

    def _expanded(self, header: Header, payload: memoryview) -> memoryview:
        if self._compressor is None:
            raise ProtocolError("a payload is compressed, and nobody has agreed on that")
        limit = self._config.chunk_bytes + HEADER_ROOM_BYTES
        return expanded(payload, header["z"], limit)

    def _hear(self, ack: int, now: float) -> None:
        session = self._session
        before = session.unacked_bytes
        session.acknowledge(ack)
        if self._compress and before:
            left = session.unacked_bytes
            self._throughput.acknowledged(before - left, left, now)
        self._heard_at = now
        self._suspect = False
        if self._last_heard_counts:
            session.witness(now)
        if self.congested:
            # Half, so that the sender is not woken for one frame at a time.
            held_bytes = session.unacked_bytes + self._outbox.waiting_bytes
            self.congested = held_bytes > self._unacked_max_bytes // 2

    def _on_unnumbered(self, kind: str, header: Header) -> None:
        self._session.check_tail(_number(header, "s"))
        if kind == "bye":
            raise SessionOver(None)
        if kind == "ping":
            self._urgent.append({"t": "pong", "n": _number(header, "n")})
        elif kind == "pong":
            self._session.pong(_number(header, "n"))

    def _gatherer(self, header: Header) -> Gatherer:
        lane = header.get("l")
        if type(lane) is not int or not 0 <= lane < len(self._gatherers):
            raise ProtocolError(f"a part belongs to no lane: {lane!r}")
        return self._gatherers[lane]

    # -- time --------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_timer` wants to be called, at the latest."""
        deadline = self._session.ends_at
        if self._linked:
            deadline = min(deadline, self._silent_at())
            if self._side is Side.COMMANDER:
                deadline = min(deadline, self._ping_at)
        return deadline

    def handle_timer(self, now: float) -> bool:
        """Whether the link must be cut because it is silent. May leave a ping to be sent.

        Raises:
            SessionOver: it has expired.
        """
        if self._session.expired(now):
            raise SessionOver(self._expiry())
        if not self._linked:
            return False
        if self._side is Side.COMMANDER and now >= self._ping_at:
            self._ping_at = now + self._config.ping_interval_s
            number = self._session.ping(now)
            self._urgent.append({"t": "ping", "n": number})
        if now < self._silent_at():
            return False
        # A process that was stopped, or busy in C code, finds its timers due before the frames
        # that wait in its socket: let it read once before it judges.
        dead, self._suspect = self._suspect, True
        return dead

    def _silent_at(self) -> float:
        patience = self._config.silence_max_s
        return self._heard_at + patience + (patience / 30 if self._suspect else 0.0)

    def _expiry(self) -> errors.ConnectionError:
        if self._side is Side.COMMANDER:
            return errors.ConnectionError(
                f"the session with {self._peer} is lost: it answered no ping for "
                f"{self._config.session_lost_s:g} s; see whether the Lieutenant runs and "
                "whether the network between is up"
            )
        return errors.ConnectionError(
            f"nothing was heard from {self._peer} for {self._config.session_kill_s:g} s: "
            "its session has ended, and with it all its work"
        )


def _number(header: Header, key: str) -> int:
    value = header.get(key)
    if type(value) is not int or value < 0:
        raise ProtocolError(f"a frame has {key}={value!r}, which is not a frame number")
    return value
