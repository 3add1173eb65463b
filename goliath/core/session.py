"""The books of a session: what was sent and seen, what must be sent again, when it is over.

A session outlives the links (websockets) that carry it. Each direction numbers its frames
1, 2, 3 …; the receiver takes exactly the next number, drops lower ones (they were sent
again after a cut) and refuses higher ones (something was lost, only a cut can mend that).
Acknowledgements are cumulative. Frames stay here, as references, until they are acknowledged.

One owner: the Lieutenant ends a session ``session_kill_s`` after the last frame it heard;
the Commander gives it up ``session_lost_s`` after it *sent* the last ping that was answered,
and never earlier than that after the last thing it sent at all, for it may have been heard
(the simulator found two owners of one call with less). So nothing is given to a second node while
the first may still run it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from goliath.errors import ProtocolError

F = TypeVar("F")
"""A frame: whatever the owner wants to get back when it must be sent again."""


class Session(Generic[F]):
    """One end of a session: two counters, the frames in doubt, and a time to die.

    Args:
        life_s: how long the session lives after it was last `witness`-ed.
        echo_s: how long it lives at least after the last `spoke` (the other end's ``life_s``;
            0 on the Lieutenant, who alone decides).
        now: when it began.
    """

    __slots__ = (
        "_echo_s",
        "_kept",
        "_life_s",
        "_pings",
        "_pings_sent",
        "ends_at",
        "seen",
        "sent",
        "unacked_bytes",
    )

    def __init__(self, *, life_s: float, echo_s: float = 0.0, now: float) -> None:
        self._life_s = life_s
        self._echo_s = echo_s
        self._kept: deque[tuple[int, F, int]] = deque()
        self._pings: deque[tuple[int, float]] = deque()
        self._pings_sent = 0
        self.sent = 0
        self.seen = 0
        self.unacked_bytes = 0
        # When the session ends unless something happens before. It only ever moves on.
        self.ends_at = now + max(life_s, echo_s)

    def __repr__(self) -> str:
        return f"<Session sent {self.sent} ({len(self._kept)} in doubt), seen {self.seen}>"

    # -- frames ------------------------------------------------------------------------

    def stamp(self, frame: F, size: int) -> int:
        """Number a new frame and keep it until it is acknowledged."""
        self.sent += 1
        self.unacked_bytes += size
        self._kept.append((self.sent, frame, size))
        return self.sent

    def acknowledge(self, ack: int) -> None:
        """The other end has seen everything up to ``ack``. An older number is no news.

        Raises:
            ProtocolError: it acknowledges what was never sent.
        """
        if ack > self.sent:
            raise ProtocolError(f"frame {ack} was acknowledged, but only {self.sent} were sent")
        kept = self._kept
        while kept and kept[0][0] <= ack:
            self.unacked_bytes -= kept.popleft()[2]

    def accept(self, seq: int) -> bool:
        """Whether the frame is the next one; False for one that was seen before.

        Raises:
            ProtocolError: a frame before it is missing; cut the link and resume.
        """
        if seq == self.seen + 1:
            self.seen = seq
            return True
        if seq <= self.seen:
            return False
        raise ProtocolError(f"frame {seq} came after frame {self.seen}: some were lost on the way")

    def check_tail(self, peer_sent: int) -> None:
        """Compare with what the other end says it has sent before it said so.

        Raises:
            ProtocolError: its last frames were lost, and no later one would tell.
        """
        if peer_sent > self.seen:
            raise ProtocolError(f"the other end sent {peer_sent} frames, {self.seen} arrived")

    def in_doubt(self) -> Iterator[tuple[int, F]]:
        """The frames that must be sent again on a new link, in order, with their numbers."""
        return ((seq, frame) for seq, frame, _ in self._kept)

    def forget(self) -> None:
        """Drop the frames in doubt: the session has ended."""
        self._kept.clear()
        self.unacked_bytes = 0

    # -- life and death ----------------------------------------------------------------

    def ping(self, now: float) -> int:
        """The number of a ping that is sent now."""
        self._pings_sent += 1
        self._pings.append((self._pings_sent, now))
        return self._pings_sent

    def pong(self, number: int) -> None:
        """Ping ``number`` was answered: the other end was alive when it was sent, or later."""
        while self._pings and self._pings[0][0] <= number:
            self.witness(self._pings.popleft()[1])

    def unlink(self) -> None:
        """The link is gone, and with it every answer that may have been on its way."""
        self._pings.clear()

    def witness(self, at: float) -> None:
        """The other end was certainly there at ``at``."""
        if at + self._life_s > self.ends_at:
            self.ends_at = at + self._life_s

    def spoke(self, now: float) -> None:
        """Something was sent that may keep the other end waiting for more."""
        if now + self._echo_s > self.ends_at:
            self.ends_at = now + self._echo_s

    def expired(self, now: float) -> bool:
        """Whether the session is over; once true, nothing may be sent or accepted."""
        return now >= self.ends_at
