"""Records are dataclasses in all but the price of their definition."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace

import pytest
from hypothesis import given, strategies as st

from goliath.record import complete_all, frozen, record


@record
class Point:
    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)
    hidden: float = field(default=0.5, init=False, repr=False, compare=False)


@dataclass(slots=True)
class Real:
    """What a record imitates."""

    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)
    hidden: float = field(default=0.5, init=False, repr=False, compare=False)


values = st.fixed_dictionaries(
    {"x": st.integers()},
    optional={"y": st.integers(), "tags": st.lists(st.text(max_size=3), max_size=2)},
)


@given(values, values)
def test_it_looks_and_compares_like_a_dataclass(one, other):
    ours, theirs = Point(**one), Real(**one)
    assert repr(ours) == repr(theirs).replace("Real", "Point")
    assert (ours == Point(**other)) == (theirs == Real(**other))
    assert [getattr(ours, f.name) for f in fields(Point)] == [
        getattr(theirs, f.name) for f in fields(Real)
    ]


def test_its_arguments_may_go_by_position():
    assert Point(1, 3, ["a"]) == Point(x=1, y=3, tags=["a"])


def test_a_default_that_is_made_is_made_for_each():
    Point(1).tags.append("mine")
    assert Point(1).tags == []


def test_it_is_never_equal_to_a_record_of_another_class():
    @record
    class Twin:
        x: int

    @record
    class Other:
        x: int

    assert Twin(1) != Other(1)


@pytest.mark.parametrize("arguments", [(), (1, 2, [], 0.5, 3)])
def test_wrong_arguments_are_refused_as_by_any_function(arguments):
    with pytest.raises(TypeError, match=r"Point\.__init__\(\)"):
        Point(*arguments)


def test_it_has_room_for_its_fields_only():
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]


def test_it_can_be_matched_copied_replaced_and_pickled():
    match Point(1, 3):
        case Point(x, y):
            assert (x, y) == (1, 3)
    point = Point(1, tags=["a"])
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
    assert replace(point, x=5) == Point(5, tags=["a"])


def test_like_a_dataclass_with_equality_it_has_no_hash():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))


def test_a_subclass_has_the_fields_of_both():
    @record
    class Deep(Point):
        z: int = 7

    assert (Deep(1).y, Deep(1, 2, [], 9).z) == (2, 9)
    assert Point(1) == Point(1)  # whose own __init__ is as it was


def test_what_it_cannot_do_it_refuses_to_pretend():
    with pytest.raises(AssertionError, match="too much for a record"):

        @record
        class Busy:
            x: int

            def __post_init__(self) -> None: ...


def test_all_can_be_completed_before_the_first_is_made():
    @record
    class Late:
        x: int = 3

    before = Late.__init__
    complete_all()
    assert Late.__init__ is not before
    assert Late().x == 3


@frozen
class Place:
    host: str
    port: int = 8080
    tags: tuple[str, ...] = field(default_factory=tuple)
    seen: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class RealPlace:
    """What it imitates."""

    host: str
    port: int = 8080
    tags: tuple[str, ...] = field(default_factory=tuple)
    seen: float = field(default=0.0, compare=False)


places = st.fixed_dictionaries(
    {"host": st.text(max_size=2)},
    optional={"port": st.integers(0, 2), "seen": st.floats(allow_nan=True)},
)


@given(places, places)
def test_a_frozen_one_looks_compares_and_hashes_like_a_dataclass(one, other):
    ours, theirs = Place(**one), RealPlace(**one)
    assert repr(ours) == repr(theirs).replace("RealPlace", "Place")
    assert (ours == Place(**other)) == (theirs == RealPlace(**other))
    assert hash(ours) == hash(theirs)


@pytest.mark.parametrize("name", ["port", "colour"])
def test_a_frozen_one_is_not_changed(name):
    place = Place("a")
    with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
        setattr(place, name, 1)
    with pytest.raises(FrozenInstanceError, match=f"cannot delete field '{name}'"):
        delattr(place, name)
    assert place == Place("a")


def test_a_frozen_one_can_be_matched_copied_replaced_pickled_and_counted():
    match Place("a", 1):
        case Place(host, port):
            assert (host, port) == ("a", 1)
    place = Place("a", seen=2.0)
    copies = [copy.copy(place), copy.deepcopy(place), pickle.loads(pickle.dumps(place))]
    assert [*copies, place] == [place] * 4
    assert [each.seen for each in copies] == [2.0] * 3
    assert replace(place, port=1) == Place("a", 1)
    assert asdict(place) == {"host": "a", "port": 8080, "tags": (), "seen": 2.0}
    assert len({*copies, place}) == 1


def test_a_frozen_one_with_a_single_field_is_compared_by_it():
    @frozen
    class One:
        x: int

    @frozen
    class NoneAtAll:
        pass

    assert (One(1) == One(1), One(1) == One(2), hash(One(1)) == hash(One(1))) == (True, False, True)
    assert NoneAtAll() == NoneAtAll()
