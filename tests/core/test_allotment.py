"""Which stretches of a piece of memory are taken."""

from __future__ import annotations

from hypothesis import given, strategies as st

from goliath.core.allotment import GRAIN, Allotment


def test_what_is_given_back_is_taken_again_before_anything_that_was_never_touched():
    books = Allotment(100 * GRAIN)
    first, second, third = (books.take(GRAIN) for _ in range(3))
    assert (first, second, third) == (0, GRAIN, 2 * GRAIN)
    books.give(GRAIN)
    assert books.take(1) == GRAIN
    assert books.take(1) == 3 * GRAIN


def test_neighbours_that_are_given_back_become_one():
    books = Allotment(4 * GRAIN)
    for _ in range(4):
        books.take(GRAIN)
    for at in (1, 3, 2):
        books.give(at * GRAIN)
    assert books.top == GRAIN
    assert books.take(3 * GRAIN) == GRAIN


def test_what_does_not_fit_is_refused_and_changes_nothing():
    books = Allotment(2 * GRAIN)
    assert books.take(GRAIN) == 0
    assert books.take(GRAIN + 1) is None
    assert (books.used, books.top) == (GRAIN, GRAIN)
    books.check()


@given(st.lists(st.one_of(st.integers(1, 40 * GRAIN), st.integers(-20, -1)), max_size=200))
def test_no_byte_is_ever_taken_twice(steps: list[int]):
    books = Allotment(64 * GRAIN)
    taken: list[int] = []
    for step in steps:
        if step > 0:
            at = books.take(step)
            if at is not None:
                taken.append(at)
        elif taken:
            books.give(taken.pop(step % len(taken)))
        books.check()
    for at in taken:
        books.give(at)
    books.check()
    assert (books.used, books.top) == (0, 0), "and nothing is lost"
