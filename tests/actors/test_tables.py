"""Items of a `map`, made into tables: in order, as they were, and any stretch of them a parcel."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from goliath.actors import tables
from goliath.actors.desk import Parcel
from goliath.actors.tables import CHUNK_MAX, CHUNK_MIN, ColumnTable, RowTable, tabulate
from goliath.core.ids import JobId
from goliath.transport.columns import COLUMNS
from goliath.transport.rows import ROWS
from tests.actors.desks import calls_of

Call = tuple[tuple[Any, ...], dict[str, Any]]


def cut(table: tables.Table, lo: int, hi: int) -> tuple[str, list[Call]]:
    form, payload = table.cut(lo, hi)
    return form, calls_of(Parcel(JobId(1), 0, hi - lo, form, payload))


def forms_of(items: Any, *, starred: bool) -> list[tuple[str, list[Any]]]:
    """Each piece: its form ("alone" for one that fits no table), and the arguments of its calls."""
    found: list[tuple[str, list[Any]]] = []
    for piece in tabulate(items, starred=starred):
        if isinstance(piece, tuple):
            found.append(("alone", [piece]))
        else:
            form, calls = cut(piece, 0, piece.calls)
            assert all(kwargs == {} for _, kwargs in calls)
            found.append((form, [args for args, _ in calls]))
    return found


class Odd:
    """No plain data."""


ODD = Odd()


@pytest.mark.parametrize(
    ("items", "forms"),
    [
        ([], []),
        ([1, "b", None], [(COLUMNS, [(1,), ("b",), (None,)])]),
        ([(1, 2), 3], [(ROWS, [((1, 2),), (3,)])]),
        ([[[1]], {"a": {2}}], [(ROWS, [([[1]],), ({"a": {2}},)])]),
        ([ODD], [("alone", [(ODD,)])]),
        ([1, ODD], [("alone", [(1,)]), ("alone", [(ODD,)])]),
        (
            [*[[1]] * 40, ODD, *[2] * 40],
            [(ROWS, [([1],)] * 40), ("alone", [(ODD,)]), (ROWS, [(2,)] * 40)],
        ),
        ([Decimal(1), [ODD]], [("alone", [(Decimal(1),)]), ("alone", [([ODD],)])]),
    ],
)
def test_each_item_is_the_only_argument_of_its_call(items: list[Any], forms: Any):
    assert forms_of(items, starred=False) == forms
    assert forms_of(iter(items), starred=False) == forms


@pytest.mark.parametrize(
    ("items", "forms"),
    [
        ([(1, "a"), (2, "b")], [(COLUMNS, [(1, "a"), (2, "b")])]),
        ([[1, 2], "ab"], [(COLUMNS, [(1, 2), ("a", "b")])]),
        ([(1, 2), (3,), ()], [(ROWS, [(1, 2), (3,), ()])]),
        ([(1, [2]), (3, 4)], [(ROWS, [(1, [2]), (3, 4)])]),
        ([(1, 2), (3, ODD)], [("alone", [(1, 2)]), ("alone", [(3, ODD)])]),
    ],
)
def test_starred_items_are_all_arguments_of_their_calls(items: list[Any], forms: Any):
    assert forms_of(items, starred=True) == forms


def test_calls_without_arguments_are_counted():
    (table,) = tabulate([(), (), ()], starred=True)
    assert isinstance(table, ColumnTable)
    assert (table.calls, table.cut(0, 3)) == (3, (COLUMNS, pickle.dumps((0, (), ()), 5)))


def test_a_long_input_becomes_tables_that_grow_up_to_a_limit():
    pieces = tabulate(list(range(200_000)), starred=False)
    sizes = [piece.calls for piece in pieces if isinstance(piece, ColumnTable)]
    assert sizes[:5] == [CHUNK_MIN, CHUNK_MIN * 2, CHUNK_MIN * 4, CHUNK_MAX, CHUNK_MAX]
    assert sum(sizes) == 200_000


def test_what_is_mutable_is_taken_as_it_is_now_and_long_texts_are_not_repeated():
    changing = [1]
    (table,) = tabulate([changing], starred=False)
    assert isinstance(table, RowTable)
    changing.append(2)
    assert cut(table, 0, 1)[1] == [(([1],), {})]
    (texts,) = tabulate(["x" * 1000] * 100, starred=False)
    assert isinstance(texts, ColumnTable)
    assert len(texts.cut(0, 100)[1]) < 3000


def test_an_input_that_raises_has_given_all_before():
    def items() -> Iterator[int]:
        yield from range(10)
        raise LookupError("no more")

    pieces = tabulate(items(), starred=False)
    given: list[Any] = []
    with pytest.raises(LookupError, match="no more"):  # noqa: PT012 - the loop is what raises
        for piece in pieces:
            assert isinstance(piece, ColumnTable)
            given += cut(piece, 0, piece.calls)[1]
    assert [args for args, _ in given] == [(n,) for n in range(10)]


@given(
    st.lists(st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2), min_size=1),
    st.integers(0, 50),
    st.integers(1, 50),
)
def test_any_stretch_can_be_cut(items: list[Any], lo: int, size: int):
    (table,) = tabulate(items, starred=False)
    assert not isinstance(table, tuple)
    lo %= len(items)
    hi = min(lo + size, len(items))
    assert cut(table, lo, hi)[1] == [((item,), {}) for item in items[lo:hi]]
