"""How fast a link is, as far as acknowledgements tell."""

from __future__ import annotations

import pytest

from goliath.core.throughput import BUSY_BYTES, SAMPLE_BYTES, VALID_S, Throughput

MIB = 1024 * 1024
BUSY = BUSY_BYTES


def after(*acknowledged: tuple[int, int, float], slow: float = 10e6) -> Throughput:
    """One that has heard of these: bytes that arrived, bytes still on their way, when."""
    throughput = Throughput(slow)
    for size, left, now in acknowledged:
        throughput.acknowledged(size, left, now)
    return throughput


def test_a_link_is_not_called_slow_before_it_was_measured_twice():
    busy = [(MIB, BUSY, 1.0), (MIB, BUSY, 2.0), (MIB, BUSY, 3.0)]
    assert [after(*busy[:n]).is_slow(3.0) for n in range(4)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("took_s", "slow"), [(0.2, True), (0.1048, False), (0.1049, True), (0.05, False)]
)
def test_a_link_is_slow_below_the_limit(took_s: float, slow: bool):
    events = [(MIB, BUSY, n * took_s) for n in range(4)]
    assert after(*events).is_slow(1.0) is slow


def test_a_time_in_which_there_was_nothing_to_carry_says_nothing():
    idle = [(MIB, 0, 1.0), (MIB, BUSY - 1, 2.0), (MIB, 0, 3.0), (MIB, BUSY, 4.0)]
    assert not after(*idle).is_slow(9.0)
    # The first one begins a time that counts, the others end one.
    assert after(*idle, (MIB, BUSY, 5.0), (MIB, 0, 6.0)).is_slow(9.0)


def test_of_several_samples_the_best_one_is_believed():
    quick_once = [(MIB, BUSY, 0.0), (MIB, BUSY, 9.0), (MIB, BUSY, 9.01)]
    assert not after(*quick_once).is_slow(9.02)


def test_small_acknowledgements_are_added_up():
    quarter = SAMPLE_BYTES // 4
    events = [(quarter, BUSY, n * 0.25) for n in range(9)]
    assert not after(*events[:8]).is_slow(3.0)
    assert after(*events).is_slow(3.0)
    assert not after(*events, slow=1000.0).is_slow(3.0)


def test_acknowledgements_in_one_moment_are_not_divided_by_nothing():
    assert not after(*[(MIB, BUSY, 1.0)] * 5).is_slow(1.0)


def test_what_was_measured_is_measured_again_after_a_while_and_on_another_link():
    throughput = after(*[(MIB, BUSY, float(n)) for n in range(3)])
    assert throughput.is_slow(2.0 + VALID_S - 0.1)
    assert not throughput.is_slow(2.0 + VALID_S)
    assert not throughput.is_slow(2.0 + VALID_S)
    throughput = after(*[(MIB, BUSY, float(n)) for n in range(3)])
    throughput.forget()
    assert not throughput.is_slow(3.0)
