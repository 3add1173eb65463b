"""The names of things: small, typed, and never reused while anything can still speak of them."""

from __future__ import annotations

from typing import NewType

JobId = NewType("JobId", int)
"""One ``run``/``imap``/``submit`` of one Commander."""

BatchId = NewType("BatchId", int)
"""A run of calls of one function: the unit that is scheduled, sent, stolen and retried."""

Attempt = NewType("Attempt", int)
"""How often a batch has been assigned, counting from 1. Fences reports of earlier attempts."""

NodeId = NewType("NodeId", str)
"""A *session* with a Lieutenant, such as ``lab1:8080#3``; never a machine.

A Lieutenant that comes back after its session was lost is another node, so nothing
said in the old session can be mistaken for news of the new one.
"""

SessionId = NewType("SessionId", str)
"""The Lieutenant's name for one Commander: 128 random bits, minted by the Lieutenant."""

HOUSE = SessionId("house")
"""The node's own: no Commander's. The processes of detached actors belong to it."""

WorkerId = NewType("WorkerId", int)
"""One worker process of one Lieutenant, counting from 1; never a pid, which can return."""

Serial = NewType("Serial", int)
"""One piece of work handed to one worker, counting from 1 on each Lieutenant."""

Span = tuple[int, int]
"""Calls ``lo <= i < hi`` of a batch, numbered from 0 within the batch as it was first cut."""
