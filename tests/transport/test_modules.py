"""What must be importable where a pickle is read, noted while it is written."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from goliath.transport.functions import dump_function, load_function
from goliath.transport.modules import Needs, Shipped, is_users_own

NAME = "goliath_test_mine"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """``mine("source")`` is a module of the user's own."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(source: str) -> ModuleType:
        (tmp_path / f"{NAME}.py").write_text(source)
        return importlib.import_module(NAME)

    yield make
    sys.modules.pop(NAME, None)


def needs_of(function: Callable[..., Any], shipped: Shipped = Shipped()) -> Needs:  # noqa: B008
    """What a function needs."""
    needs = Needs()
    dump_function(function, shipped=shipped, needs=needs)
    return needs


def test_imports_in_a_body_and_in_what_is_defined_there_are_noted(mine: Callable[[str], Any]):
    module = mine(
        "def f():\n"
        "    import a.b as c, d\n"
        "    from e.f import g, h\n"
        "    def inner():\n"
        "        return lambda: __import__('no'), [(import_ := 1) for _ in ()]\n"
        "    class C:\n"
        "        import j\n"
    )
    needs = needs_of(module.f)
    assert needs.names == {"a.b", "d", "e.f", "e.f.g", "e.f.h", "j"}
    assert needs.origins == {NAME}


def test_imports_behind_many_constants_are_noted(mine: Callable[[str], Any]):
    many = "".join(f"    x{n} = {n}.5\n" for n in range(600))
    module = mine(f"def f():\n{many}    from late import thing\n")
    assert needs_of(module.f).names == {"late", "late.thing"}


def test_modules_that_are_used_as_values_are_noted(mine: Callable[[str], Any]):
    module = mine("import os.path, json\ndef f(): return os.path.join('a', json.dumps('b'))\n")
    assert {"os", "json"} <= needs_of(module.f).names


def test_functions_of_installed_modules_need_nothing(mine: Callable[[str], Any]):
    module = mine("from json import dumps\ndef f(): return dumps(1)\n")
    assert needs_of(module.f).names == set()
    assert needs_of(os.path.join).names == set()


def test_what_is_in_a_module_that_is_shipped_goes_by_its_name(mine: Callable[[str], Any]):
    module = mine("class C:\n    pass\ndef f(): return C()\n")
    shipped = Shipped(modules=frozenset({NAME}))
    pickled = dump_function(module.f, shipped=shipped)
    assert len(pickled.payload) < len(dump_function(module.f).payload)
    assert load_function(pickled.payload).call is module.f
    assert needs_of(module.f, shipped).names == {NAME}


def test_a_function_that_cannot_go_by_value_needs_its_module(mine: Callable[[str], Any]):
    module = mine("import threading\nlock = threading.Lock()\ndef f():\n    with lock: pass\n")
    assert NAME in needs_of(module.f).names


def test_a_module_that_is_no_longer_what_it_was_is_needed(
    mine: Callable[[str], Any], tmp_path: Path
):
    module = mine("def f(): return 1\n")
    assert needs_of(module.f).names == set()
    (tmp_path / f"{NAME}.py").write_text("def f(): return 'another'\n")
    assert needs_of(module.f).names == {NAME}
    importlib.reload(module)
    assert needs_of(module.f).names == set()


@pytest.mark.parametrize(
    ("name", "shipped"),
    [("a", True), ("a.b", True), ("a.b.c", True), ("ab", False), ("m", False), ("m.n", True),
     ("m.n.o", False), (None, False)],
)  # fmt: skip
def test_packages_are_shipped_whole_and_modules_singly(name: str | None, shipped: bool):
    assert (name in Shipped(frozenset({"a"}), frozenset({"m.n"}))) is shipped


def test_installed_modules_and_goliath_are_not_the_users_own(mine: Callable[[str], Any]):
    module = mine("")
    assert is_users_own(NAME) is module
    for name in ("json", "pytest", "goliath.transport.modules", "__main__", "sys", "nowhere"):
        assert is_users_own(name) is None
