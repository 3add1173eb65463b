"""How long whoever dials waits: longer and longer, and longest where a token is refused."""

from __future__ import annotations

import random

import pytest

from goliath.config import TransportConfig
from goliath.errors import AuthenticationError, ConnectionError as NoConnection
from goliath.transport.backoff import SETTLED_S, Backoff
from goliath.transport.busy import BusyError
from goliath.transport.guard import MINUTE_S
from goliath.transport.token import TokenRefusedError

CONFIG = TransportConfig()


class Longest(random.Random):
    """Dice that show the most."""

    def uniform(self, a: float, b: float) -> float:
        return b


def backoff() -> Backoff:
    return Backoff(CONFIG, Longest())


def test_the_pause_doubles_up_to_the_most_and_a_link_that_settles_makes_it_short_again():
    waits = backoff()
    delays = []
    for _ in range(8):
        waits.failed(NoConnection("nobody there"))
        delays.append(waits.delay_s())
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    waits.ended(SETTLED_S / 2)
    assert waits.delay_s() == 5.0
    waits.ended(SETTLED_S)
    assert waits.delay_s() == 0.1


def test_a_busy_node_is_given_the_time_that_it_has_asked_for():
    waits = backoff()
    waits.failed(BusyError("no descriptor", 2.0))
    assert waits.delay_s() == 2.2


@pytest.mark.parametrize("dialers", [1, 4])
def test_dialers_whose_token_is_refused_do_not_get_their_address_banned(dialers: int):
    waits = backoff()
    waits.failed(TokenRefusedError("it was revoked"))
    assert dialers * MINUTE_S / waits.delay_s() < CONFIG.failures_per_minute_max


def test_a_token_that_is_not_there_yet_costs_nobody_a_login_and_is_looked_for_more_often():
    """A Lieutenant on this machine leaves one right after it has begun to listen."""
    waits = backoff()
    waits.failed(AuthenticationError("no token"))
    assert waits.delay_s() == CONFIG.reconnect_max_s


def test_a_refused_dialer_that_is_let_in_dials_as_any_other():
    waits = backoff()
    waits.failed(TokenRefusedError("it was revoked"))
    waits.ended(SETTLED_S)
    assert waits.delay_s() == 0.1
