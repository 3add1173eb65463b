"""What one actor can say to another in a different place: what all messages have in common.

A message is a flat record of JSON-able fields and, last, one opaque ``payload``. Whoever
forwards a message never looks into its payload. The fields are the wire format: they are
described for other implementations in ``docs/protocol.md``.

``lane`` is ``CONTROL`` for what must overtake bulk (a cancel must not queue behind a
gigabyte of arguments). Control may overtake payload, so every control message that names
a batch must make sense even if the batch has not arrived yet.

Who says them: a Commander and a Lieutenant (`goliath.transport.messages`), a Lieutenant and a
worker process (`worker_messages`), the code in it and its Commander (`call_messages`). A process
knows those whose module it has loaded.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from goliath.record import record

Origin = list[int | str]
"""What a Commander calls the calls of a parcel: ``[job, parcel, task, number]``. The task id of
call ``i`` is ``task``, a hyphen, and ``number + i``."""


class Lane(IntEnum):
    """Which queue a message waits in. Order is kept within a lane only, and there, too, a small
    `AssignBatch` may pass big ones, if neither is an actor's."""

    CONTROL = 0
    BULK = 1


@record
class Message:
    """Base of all messages."""

    kind: ClassVar[str] = ""
    lane: ClassVar[Lane] = Lane.CONTROL
    bundles: ClassVar[bool] = False  # whether there may be anything beside its payload


def known_messages() -> dict[str, type[Message]]:
    """Every message of the modules that are loaded, by the ``kind`` it has on the wire."""
    return {cls.kind: cls for cls in Message.__subclasses__()}
