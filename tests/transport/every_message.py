"""All messages there are: those of each module that has any."""

from __future__ import annotations

from goliath.transport import call_messages, messages, worker_messages
from goliath.transport.message import known_messages

__all__ = ["MESSAGES", "call_messages", "messages", "worker_messages"]

MESSAGES = known_messages()
"""By the ``kind`` they have on the wire."""
