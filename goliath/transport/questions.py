"""What a Lieutenant is asked in a session, and how long and how much that takes."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

from goliath.clock import wall_time
from goliath.config import KIB, MIB
from goliath.errors import ConnectionError  # noqa: A004
from goliath.transport.channel import Channel
from goliath.transport.message import Message
from goliath.transport.messages import AskVitals, Echo, Probe, Vitals

PIECE_BYTES = 64 * KIB
AHEAD_S = 0.2  # so much of the measured rate is on its way at once, or four round trips of it
BANDWIDTH_BYTES = 16 * MIB  # each way, and no longer than ...
BANDWIDTH_S = 1.5

Answer = TypeVar("Answer", bound=Message)


class Answers:
    """What the Lieutenant has said, until somebody wants it."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._heard: asyncio.Queue[Message | None] = asyncio.Queue()
        self._error: Exception | None = None

    async def next(self, kind: type[Answer]) -> Answer:
        """The next answer of this kind.

        Raises:
            ConnectionError: there is none.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                while (said := await self._heard.get()) is not None:
                    if isinstance(said, kind):
                        return said
        except TimeoutError:
            raise ConnectionError(f"no answer within {self._timeout_s:g} s") from None
        self._heard.put_nowait(None)
        raise ConnectionError(f"the Lieutenant has ended the session ({self._error or 'bye'})")

    def on_message(self, message: Message) -> None:
        """See `Receiver.on_message`."""
        self._heard.put_nowait(message)

    def on_closed(self, error: Exception | None) -> None:
        """See `Receiver.on_closed`."""
        self._error = error
        self._heard.put_nowait(None)

    def on_writable(self) -> None:
        """See `Receiver.on_writable`; nothing here waits for that."""


async def compared(channel: Channel, answers: Answers) -> tuple[Vitals, float, float]:
    """What the node says of itself, how far its clock is ahead, and how sure that is."""
    for _ in range(2):  # the first time it has to look for its packages
        asked_at = wall_time()
        channel.send(AskVitals())
        vitals = await answers.next(Vitals)
        # It has looked at its clock somewhere between the two.
        uncertain_s = (wall_time() - asked_at) / 2
    return vitals, vitals.time_s - asked_at - uncertain_s, uncertain_s


async def round_trip(channel: Channel, answers: Answers) -> float:
    began_at = time.perf_counter()
    channel.send(Probe(0))
    await answers.next(Echo)
    return time.perf_counter() - began_at


async def rate(
    channel: Channel, answers: Answers, round_trip_s: float, size: int, payload: bytes
) -> float:
    """Bytes a second, of pieces that are sent (``payload``) or asked for (``size``)."""
    pieces = BANDWIDTH_BYTES // PIECE_BYTES
    ahead_s = max(AHEAD_S, 4 * round_trip_s)
    began_at = time.perf_counter()
    sent, arrived_at = 0, [began_at]
    while True:
        passed, elapsed_s = len(arrived_at) - 1, arrived_at[-1] - began_at
        # As many on their way as pass in a while: enough to keep the link busy, and no more, for
        # what is on its way at the end has to be waited for.
        window = 2 + int(passed / elapsed_s * ahead_s) if passed else 2
        while sent < pieces and sent - passed < window and elapsed_s < BANDWIDTH_S:
            channel.send(Probe(sent, size, payload))
            sent += 1
        if sent == passed:
            break
        await answers.next(Echo)
        arrived_at.append(time.perf_counter())
    # The second half: by then there was always something on its way.
    middle = (len(arrived_at) - 1) // 2
    half = len(arrived_at) - 1 - middle
    return half * PIECE_BYTES / max(arrived_at[-1] - arrived_at[middle], 1e-9)
