"""A bounded queue of envelopes, and the promise that every question in it is answered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any

from goliath.errors import GoliathError
from goliath.record import record

MAILBOX_MAX = 100_000
"""Messages that may wait for one actor. What feeds an actor is bounded itself (credits,
windows); an actor that is so far behind is broken, and telling it more would hide that."""


class ActorStoppedError(GoliathError):
    """The actor ended before it read the message, or ended without an answer."""


class MailboxFullError(GoliathError):
    """The actor has more unread messages than its mailbox holds."""


@record
class Envelope:
    """A message, and where the answer goes if it is a question."""

    message: Any
    reply: asyncio.Future[Any] | None = None

    def answer(self, value: Any) -> None:
        """Give the asker its answer; without an asker, or one that has left, nothing."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_result(value)

    def refuse(self, error: Exception, cause: BaseException | None = None) -> None:
        """Give the asker an error in place of an answer, and what led to it."""
        if self.reply is not None and not self.reply.done():
            error.__cause__ = cause or error.__cause__
            self.reply.set_exception(error)


class Mailbox:
    """First in, first out; refuses what exceeds its limit."""

    __slots__ = ("_envelopes", "_limit", "_owner")

    def __init__(self, owner: str, limit: int = MAILBOX_MAX) -> None:
        self._owner = owner
        self._limit = limit
        self._envelopes: deque[Envelope] = deque()

    def __len__(self) -> int:
        return len(self._envelopes)

    def put_nowait(self, envelope: Envelope) -> None:
        """Add an envelope.

        Raises:
            MailboxFullError: the limit is reached.
        """
        if len(self._envelopes) >= self._limit:
            raise MailboxFullError(
                f"the mailbox of {self._owner} holds {self._limit} messages and takes no more"
            )
        self._envelopes.append(envelope)

    def put_anyway(self, envelope: Envelope) -> None:
        """Add what must not be refused: the order to stop."""
        self._envelopes.append(envelope)

    def take(self) -> Envelope:
        """The oldest envelope; the mailbox must not be empty."""
        return self._envelopes.popleft()

    def drain(self) -> Iterator[Envelope]:
        """Take out all envelopes, the oldest first."""
        while self._envelopes:
            yield self._envelopes.popleft()
