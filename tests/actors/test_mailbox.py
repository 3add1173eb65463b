"""The mailbox: in order, bounded, and every question in it is answered."""

from __future__ import annotations

import asyncio

import pytest

from goliath.actors.mailbox import Envelope, Mailbox, MailboxFullError


def test_envelopes_come_out_in_the_order_they_went_in():
    mailbox = Mailbox("it")
    for number in range(3):
        mailbox.put_nowait(Envelope(number))
    assert len(mailbox) == 3
    assert mailbox.take().message == 0
    assert [envelope.message for envelope in mailbox.drain()] == [1, 2]
    assert len(mailbox) == 0


def test_a_full_mailbox_refuses_and_says_whose_it_is():
    mailbox = Mailbox("the scheduler", limit=2)
    mailbox.put_nowait(Envelope(1))
    mailbox.put_nowait(Envelope(2))
    with pytest.raises(MailboxFullError, match="the mailbox of the scheduler holds 2 messages"):
        mailbox.put_nowait(Envelope(3))
    assert [envelope.message for envelope in mailbox.drain()] == [1, 2]


def test_an_envelope_without_an_asker_answers_nobody():
    envelope = Envelope("hello")
    envelope.answer(1)
    envelope.refuse(ValueError())
    assert envelope.reply is None


async def test_only_the_first_answer_counts():
    reply = asyncio.get_running_loop().create_future()
    envelope = Envelope("?", reply)
    envelope.answer(1)
    envelope.answer(2)
    envelope.refuse(ValueError())
    assert await reply == 1


async def test_an_asker_that_has_left_is_not_answered():
    reply = asyncio.get_running_loop().create_future()
    reply.cancel()
    Envelope("?", reply).answer(1)
    Envelope("?", reply).refuse(ValueError())
    assert reply.cancelled()
