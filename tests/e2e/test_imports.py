"""Importing Goliath is cheap, and a worker process is light."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from goliath import Commander

HEAVY = ("aiohttp", "uvloop", "asyncio", "ssl", "psutil", "cloudpickle", "orjson")


def fresh(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_importing_goliath_imports_nothing_heavy() -> None:
    loaded = fresh("import goliath, sys; print(*sys.modules)").split()
    assert not [name for name in HEAVY if name in loaded]


def test_naming_the_commander_does_not_import_aiohttp() -> None:
    loaded = fresh("from goliath import Commander; import sys; print(*sys.modules)").split()
    assert "aiohttp" not in loaded


def test_importing_goliath_takes_hardly_longer_than_starting_python() -> None:
    def took(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    took("import goliath")  # compiles it, if nobody has
    pairs = [(took("pass"), took("import goliath")) for _ in range(10)]
    bare, with_goliath = (min(times) for times in zip(*pairs, strict=True))
    # Ten milliseconds on an ordinary machine; a slow one is slow with the bare Python, too.
    assert with_goliath - bare < max(0.010, 0.7 * bare)


def test_every_public_name_can_be_imported_and_says_where_it_is_from() -> None:
    import goliath

    names = [name for name in goliath.__all__ if not name.startswith("_")]
    assert names == sorted(names)
    for name in names:
        value = getattr(goliath, name)
        if isinstance(value, type):
            assert value.__module__ == "goliath"
    assert set(goliath.__all__) <= set(dir(goliath))
    with pytest.raises(AttributeError, match="no_such_name"):
        goliath.no_such_name  # noqa: B018


def test_what_makes_calls_in_a_worker_imports_no_loop() -> None:
    loaded = fresh("import goliath.actors.nested, sys; print(*sys.modules)").split()
    assert not [name for name in ("asyncio", "aiohttp", "uvloop") if name in loaded]


def test_the_commander_has_two_addresses() -> None:
    from goliath.commander import Commander as TheSame

    assert TheSame is Commander


def test_workers_never_import_the_transport_of_the_node(cmdr: Commander) -> None:
    def loaded():
        return [name for name in ("aiohttp", "uvloop", "asyncio", "psutil") if name in sys.modules]

    assert cmdr.run(loaded, [()]) == [[]]


def test_embedded_workers_are_light_too() -> None:
    def loaded():
        return [name for name in ("aiohttp", "uvloop", "asyncio", "psutil") if name in sys.modules]

    with Commander(workers=1) as commander:
        assert commander.run(loaded, [()]) == [[]]


def test_an_embedded_run_never_imports_aiohttp() -> None:
    code = (
        "import sys\n"
        "from goliath import Commander\n"
        "with Commander(workers=1) as cmdr: cmdr.run(abs, [(-1,)])\n"
        "print('aiohttp' in sys.modules)\n"
    )
    assert fresh(code) == "False"
