"""What tells one value from another: whatever a function could see, and nothing else."""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import json
import operator
import os
import subprocess
import sys
import types
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from goliath.transport.fingerprints import Fingerprints

ROOT = Path(__file__).parents[2]


def of(value: object) -> bytes:
    return Fingerprints().of(value)


def of_row(row: Any) -> bytes | None:
    return Fingerprints().of_row(row)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: int
    y: Any = field(default_factory=list)


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a: Any) -> None:
        self.a = a


Pair = namedtuple("Pair", "a b")


def same(value: object) -> object:
    """An equal value of which no part is the same object."""
    return json.loads(json.dumps(value))


DIFFERENT = [
    *(0, 1, 1.0, True, False, None, "1", b"1", "", b"", (), [], {}, set(), frozenset(), 1j, -1),
    *(0.0, -0.0, float("nan"), float("inf"), "inf", 10**5000, 10**5000 + 1, "\ud800", bytearray()),
    *((1, 2), [1, 2], {1, 2}, frozenset((1, 2)), {1: 2}, (2, 1), (1, (2,)), ((1, 2),), [[1], [2]]),
    *({"a": 1, "b": 2}, {"b": 2, "a": 1}, OrderedDict(a=1, b=2), defaultdict(int, a=1, b=2)),
    *([[1], 2], [1, [2]], [[1, 2]], [[], []], [[[]]], {"a": [1]}, {"a": [2]}, {"a": {"b": [1]}}),
    *(Point(1), Point(2), Point(1, [1]), Slotted(1), Slotted([1]), Pair(1, 2), Colour.RED),
    *(Colour.BLUE, Colour, Point, Slotted, len, max, operator.add, json, os, os.path.join),
    *(functools.partial(max, 1), functools.partial(max, 2), datetime.date(2020, 1, 1), "a".join),
    *(datetime.timedelta(1), decimal.Decimal("1.0"), decimal.Decimal("1.00"), Path("a")),
    *(np.arange(3), np.arange(4), np.arange(3.0), np.arange(4).reshape(2, 2), np.float64(1), ...),
    *({(1, frozenset((2,)))}, {(1, frozenset((3,)))}, range(3), range(4), {Pair(1, 2)}, int, str),
]


def test_what_differs_has_another_fingerprint():
    prints = [of(value) for value in DIFFERENT]
    twins = [(DIFFERENT[prints.index(p)], v) for p, v in zip(prints, DIFFERENT, strict=True)]
    assert all(a is b for a, b in twins), [(a, b) for a, b in twins if a is not b]


def test_what_is_equal_has_the_same_one_though_its_parts_are_others():
    text = "some words"
    value = [text, text, [1, 2], {"k": [text, 1.5]}, [text]]
    assert of(value) == of(same(value))
    assert of((1000, 1000)) == of((int("1000"), int("1000")))
    assert of([Point(1000), Point(1000)]) == of([Point(int("1000")), Point(int("1000"))])


def test_what_holds_itself_has_one():
    def ring(size: int) -> list[Any]:
        first: list[Any] = []
        last = first
        for _ in range(size - 1):
            last.append([])
            last = last[0]
        last.append(first)
        return first

    assert of(ring(1)) == of(ring(1)) != of(ring(2)) == of(ring(2))


def test_what_is_held_by_many_is_walked_once():
    shared: list[Any] = [[]]
    for _ in range(64):
        shared = [shared, shared, []]
    assert of(shared)


def test_the_order_of_keywords_does_not_matter_and_that_of_others_does():
    assert of_row({"a": 1, "b": 2}) == of_row({"b": 2, "a": 1})
    assert of_row({"a": 1, "b": [2]}) == of_row({"b": [2], "a": 1})
    assert of_row((1, 2)) != of_row((2, 1))
    assert of_row((1, [2])) != of_row(([2], 1))
    assert len({of_row(row) for row in [(1,), ("1",), ([1],), {"a": 1}, {"a": [1]}, (), {}]}) == 7


@pytest.mark.parametrize("row", [5, None, {1: 2, "a": 3}, (x for x in ()), [1], ((x for x in ()),)])
def test_what_is_no_call_or_cannot_be_pickled_has_none(row: Any):
    assert of_row(row) is None


def function_of(source: str, **scope: Any) -> Callable[..., Any]:
    """The function ``f`` of a script."""
    scope["__name__"] = "__main__"
    exec(source, scope)
    made: Callable[..., Any] = scope["f"]
    return made


PLAIN = "def f(x): return x + 1"


@pytest.mark.parametrize(
    "source",
    [
        "\n\n\ndef f(x): return x + 1",
        "def f(x):\n    # a word\n    return (x +\n        1)",
        "unused = 3\ndef other(): pass\ndef f(x): return x + 1",
    ],
)
def test_a_function_that_was_moved_or_laid_out_anew_is_the_same(source: str):
    assert of(function_of(source)) == of(function_of(PLAIN))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PLAIN, "def f(x): return x - 1"),
        (PLAIN, "def f(x, y=0): return x + 1"),
        ("def f(x): return str.upper(x)", "def f(x): return str.lower(x)"),
        ("def f(x): return x.upper()", "def f(x): return x.lower()"),
    ],
)
def test_a_function_that_does_something_else_is_another(one: str, other: str):
    assert of(function_of(one)) != of(function_of(other))


@pytest.mark.parametrize(
    "source",
    [
        "def f(x): return x + ONE",
        "def f(x, y=ONE): return y",
        "def f(x, *, y=ONE): return y",
        "f = lambda x: x + ONE",
        "fs = [lambda x: 1, lambda x: 2]; f = fs[ONE - 1]",
        "N = ONE\ndef f(x): return x + N",
        "N = [[ONE]]\ndef f(x): return x + N",
        "N = ONE\ndef f(x): return [[x + N for _ in x] for _ in x]",
        "def m(k):\n def f(x): return k\n return f\nf = m(ONE)",
        "def g(): return ONE\ndef f(x): return g()",
        "def g(): return h()\ndef h(): return ONE\ndef f(x): return g()",
        "def g(x): return f(x) + ONE\ndef f(x): return x and g(x - 1)",
        "class f:\n def g(self): return ONE",
        "class f:\n a = ONE",
        "class f:\n @staticmethod\n def g(): return ONE",
        "class f:\n @classmethod\n def g(cls): return ONE",
        "class f:\n @property\n def g(self): return ONE",
        "class B:\n a = ONE\nclass f(B): pass",
        "class C:\n a = ONE\ndef f(x): return C",
        "class C:\n a = ONE\nf = C()",
        "from functools import partial\nf = partial(lambda x: ONE)",
        "from functools import cache\n@cache\ndef g(): return ONE\ndef f(x): return g()",
    ],
)
def test_a_function_is_told_by_all_that_it_uses(source: str):
    one, other = (source.replace("ONE", number) for number in "12")
    assert of(function_of(one)) == of(function_of(one))
    assert of(function_of(one)) != of(function_of(other))


def test_a_function_that_has_run_is_still_the_same():
    fresh, used = function_of(PLAIN), function_of(PLAIN)
    for number in range(10_000):
        used(number)  # the interpreter has rewritten its code by now
    assert of(fresh) == of(used)


def test_an_object_is_told_by_what_it_does_too():
    one, other = (function_of(f"class f:\n def g(self): return {n}") for n in (1, 2))
    assert of(one()) != of(other())
    prints = Fingerprints()
    assert prints.of(one()) == prints.of(one()) == of(one())


def test_a_module_of_the_users_own_is_told_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "goliath_test_helper.py"
    module = types.ModuleType("goliath_test_helper")
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    file.write_text("def g(): return 1")
    function = function_of("def f(x): return helper.g()", helper=module)
    first, shipped = of(function), Fingerprints({module.__name__}).of(function)
    file.write_text("def g(): return 2")
    assert of(function) != first
    assert Fingerprints({module.__name__}).of(function) == shipped


SCRIPT = """
import enum, functools, json, logging, re, sys
from collections import namedtuple
from dataclasses import dataclass, field
from pathlib import Path
import numpy as np
from goliath.transport.fingerprints import Fingerprints

log = logging.getLogger("mine")
WORDS = {"one", "two", "three", "four"}
PATTERN = re.compile("a+")

class Colour(enum.Enum):
    RED = "red"

@dataclass
class Point:
    x: int
    tags: set = field(default_factory=set)
    @functools.cached_property
    def size(self): return len(self.tags)
    def __hash__(self): return hash(self.x)
    def __eq__(self, other): return self.x == other.x

Pair = namedtuple("Pair", "a b")

def helper(n):
    return n in {"a", "b", "c"} and function(n, 1)

def function(n, point, flavours=frozenset("abc")):
    log.info("%s", n)
    return helper(n), Point(1), WORDS, PATTERN, Colour.RED, np.arange(n), Path, Pair(1, 2), json

def closed(k):
    return lambda x: x + k

values = [
    function, closed(1), Point, Point(1, {"x", "y", "z"}), Colour.RED, Colour, Pair(1, 2),
    WORDS, {(word, 1) for word in WORDS}, {"k": WORDS}, frozenset(map(frozenset, ["ab", "cd"])),
    np.arange(10), PATTERN, Path("a/b"), {Point(2), Point(1)}, functools.partial(function, 1), log,
]
rows = [{"n": 1, "point": Point(1, {"a", "b"})}, {"n": 1, "point": "x"}, (WORDS, 1)]
prints = Fingerprints()
print([prints.of(value).hex() for value in values] + [prints.of_row(row).hex() for row in rows])
"""


@pytest.mark.slow
def test_they_are_the_same_in_every_process(tmp_path: Path):
    found = set()
    for seed, above in (("0", ""), ("1", "# a line\n\n"), ("random", "def unrelated(): pass\n")):
        (tmp_path / f"script_{seed}.py").write_text(above + SCRIPT)
        done = subprocess.run(
            [sys.executable, f"script_{seed}.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stderr == ""
        found.add(done.stdout)
    assert len(found) == 1
    digests = json.loads(found.pop().replace("'", '"'))
    assert len(set(digests)) == len(digests) == 20
