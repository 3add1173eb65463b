"""What a call was given, read without running anything of the user's."""

from __future__ import annotations

import enum
import os
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from goliath.actors.desk import Parcel
from goliath.actors.glimpse import READ_MAX_BYTES, call_given
from goliath.core.ids import JobId
from goliath.transport.columns import COLUMNS, encode_columns, encode_gathered
from goliath.transport.keepsakes import Keepsake
from goliath.transport.pickled import Pickled
from goliath.transport.rows import ROWS, Elsewhere, Row, encode_frozen, encode_rows


@dataclass
class Config:
    rate: float
    names: list[str] = field(default_factory=list)

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("the user's code has run")

    def __repr__(self) -> str:
        raise AssertionError("the user's code has run")


class Colour(enum.Enum):
    RED = 1


def parcel_of(*rows: Row) -> Parcel:
    payload = encode_columns(rows)
    if payload is not None:
        return Parcel(JobId(1), 0, len(rows), COLUMNS, payload)
    return Parcel(JobId(1), 0, len(rows), ROWS, encode_rows(rows))


def given(*args: Any, method: bool = False, **kwargs: Any) -> str:
    return call_given("foo", parcel_of(args or kwargs), 0, method=method)


def test_a_call_of_columns_has_its_own_values():
    parcel = parcel_of({"a": 1, "b": "x"}, {"a": 2, "b": "y"})
    assert parcel.form == COLUMNS
    assert call_given("foo", parcel, 1, method=False) == "foo(a=2, b='y')"


def test_a_call_of_rows_has_its_own_values():
    parcel = parcel_of(([1], {"k": (2,)}), ([3], {4}))
    assert parcel.form == ROWS
    assert call_given("foo", parcel, 0, method=False) == "foo([1], {'k': (2,)})"
    assert call_given("foo", parcel, 1, method=False) == "foo([3], {4})"


def test_a_call_without_arguments_has_none():
    assert call_given("foo", parcel_of(()), 0, method=False) == "foo()"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Config(0.5, ["a"]), "foo(Config(rate=0.5, names=['a']))"),
        ([Config(0.5)], "foo([Config(rate=0.5, names=[])])"),
        (date(2026, 1, 2), "foo(datetime.date(2026, 1, 2))"),
        (OrderedDict(a=1), "foo(OrderedDict("),
        (Colour.RED, "foo(Colour(1))"),
        (np.zeros(3), "foo(<ndarray>)"),
        (lambda: 1, "foo(<function>)"),
        (Config, "foo(Config)"),
        (Pickled.of([1, 2]), "foo([1, 2])"),
        (ValueError("bad"), "foo(ValueError('bad'))"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_object_of_any_class_is_shown_though_none_of_its_code_runs(value: Any, text: str):
    assert given(value).startswith(text)


def test_a_file_of_the_users_own_class_is_not_imported():
    assert given(Path("/tmp/x")) in ("foo(PosixPath('/tmp/x'))",)


def test_a_method_of_an_actor_is_named():
    assert given("add", [5], method=True) == "foo.add([5])"
    assert given("*items", [5], method=True) == "foo.items([5])"


def test_a_result_that_is_elsewhere_is_called_so():
    row = encode_frozen([Elsewhere(0), 1], {}, far=True)
    parcel = Parcel(JobId(1), 0, 1, *encode_gathered(None, [row]))
    assert call_given("foo", parcel, 0, method=False) == "foo(result of another call, 1)"


def test_an_array_that_travels_beside_its_call_is_one_among_others(far: None):
    rows = [{"x": np.zeros(1 << 20), "n": n} for n in range(2)]
    beside: list[Keepsake] = []
    payload = encode_rows(rows, (), beside)
    parcel = Parcel(JobId(1), 0, 2, ROWS, payload, deposits=beside)
    assert call_given("foo", parcel, 1, method=False) == "foo(x=<ndarray>, n=1)"


def test_it_is_cut_at_200_characters_and_what_is_huge_is_not_read_at_all():
    assert len(given(["x" * 1000])) == 200
    huge = given(["x" * READ_MAX_BYTES])
    assert huge == "foo(… 4 MiB of arguments)"


def test_bytes_that_cannot_be_read_are_no_reason_to_fail():
    assert call_given("foo", Parcel(JobId(1), 0, 1, ROWS, b"rubbish"), 0, method=False) == "foo(…)"


def hostile(row: bytes) -> str:
    """A call whose arguments a worker has pickled."""
    form, payload = encode_gathered(None, [row])
    return call_given("foo", Parcel(JobId(1), 0, 1, form, payload), 0, method=False)


def row_of(body: bytes) -> bytes:
    """A call with one argument, built by these operations of a pickle."""
    return b"\x80\x05" + body + b"\x85}\x86."


@pytest.mark.parametrize(
    "body",
    [
        b"Nr\x00\x00\x00\x7f",  # remembered as number 2 ** 31: a memo of 16 GiB, in C
        b"\x96\x00\x00\x00\x00\x0f\x00\x00\x00",  # a bytearray of 64 GB, without any of it
        b"cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R",  # the same, by a call
        b"cbuiltins\nlist\ncbuiltins\nrange\nJ\x00\x00\x00\x7f\x85R\x85R",
        b"cuuid\nos\n}\x8c\x06getcwdNsb",  # to write into a module
        b"cpathlib\nPath\nN}\x8c\x06existsNs\x86b",  # ... or a class
        b"cuuid\ngetnode\n)R",  # it would start programs
        b"cfractions\nFraction\n\x8c\x0c1e1000000000\x85R",
    ],
)
def test_what_is_made_to_do_harm_does_none(body: bytes):
    cwd, exists = os.getcwd, Path.exists
    began = time.process_time()
    text = hostile(row_of(body))
    assert text.startswith("foo(")
    assert time.process_time() - began < 0.05
    assert (os.getcwd, Path.exists) == (cwd, exists)


def test_a_call_with_much_in_it_is_not_looked_through():
    assert given(["x" * 70_000]) == "foo(…)"
    assert given(dict.fromkeys(range(5000), "x")).startswith("foo({0: 'x'")
