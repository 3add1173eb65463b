"""Attacker 12: shipped files that would be where they must not be, or stand for something else.

Both ends: what a user would ship by mistake, and what a hostile Commander says by hand.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from goliath import Commander, RuntimeEnvSetupError
from goliath.transport import messages as msg
from goliath.transport.credentials import Credentials
from goliath.transport.token import Token
from tests.e2e.calls import same
from tests.lieutenants import Lieutenant
from tests.transport.ends import End, Sessions, dialing, make_dialer

DATA = b"evil = True\n"
SIZE = len(DATA)
DIGEST = hashlib.sha256(DATA).hexdigest()
UNKNOWN = hashlib.sha256(b"never sent").hexdigest()
KIB = 1024


def record(path: Any, mode: Any = 0o644, digest: Any = DIGEST, size: Any = SIZE) -> list[Any]:
    return [path, mode, digest, size]


@asynccontextmanager
async def crafting(node: Lieutenant) -> AsyncIterator[End]:
    """A Commander that has logged in, and says what it is told to."""
    sessions = Sessions()
    credentials = Credentials(token=Token.parse(node.runtime()["token"]))
    async with dialing(make_dialer(node.port, sessions, credentials=credentials)):
        yield await sessions.end()


async def outcome(end: End, environment: str) -> str:
    """What becomes of an environment; the files that are asked for are sent."""
    await end.until(lambda: answers(end, environment) or end.closed)
    return answers(end, environment)[0] if answers(end, environment) else "the session has ended"


def answers(end: End, environment: str) -> list[str]:
    return [
        m.error
        for m in end.messages
        if isinstance(m, msg.EnvironmentFailed) and m.environment == environment
    ]


def files_of(node: Lieutenant) -> set[Path]:
    """All that there is in the node's own directory."""
    return set(Path(node._folder.name, "tmp").rglob("*"))


PLACES = {
    "climbs": ["../evil.py", "a/../../evil.py", "..", "a/.."],
    "absolute": ["/etc/evil.py", "//evil.py", "/"],
    "doubled parts": ["a//evil.py", "a/./evil.py", "./evil.py", "evil.py/", ""],
    "a zero": ["a\0b", "\0"],
    "too long": ["a/" * 2049 + "b"],
    "no text": [5, None, ["a"], {"a": 1}, True],
}


@pytest.mark.parametrize("kind", PLACES)
async def test_a_place_outside_of_the_jobs_own_directory_is_refused_and_nothing_is_written(
    node: Lieutenant, kind: str
):
    async with crafting(node) as end:
        before = files_of(node)
        for number, place in enumerate(PLACES[kind]):
            name = f"{kind} {number}"
            end.send(msg.DefineEnvironment(name, [record("good.py"), record(place)], {}))
            assert "file" in await outcome(end, name)
        assert files_of(node) == before
        assert not [m for m in end.messages if isinstance(m, msg.NeedFiles)]
        assert not end.closed


RECORDS = {
    "contents that are no digest": record("a", digest="../../../etc/passwd"),
    "a digest in capitals": record("a", digest=DIGEST.upper()),
    "a negative size": record("a", size=-1),
    "a size that is none": record("a", size="1"),
    "bits that are none": record("a", mode="0o777"),
    "a link": ["a", 0o120777, DIGEST, len(DATA), "/etc/passwd"],
    "too little": ["a"],
    "no record": "abcd",
}


@pytest.mark.parametrize("what", RECORDS)
async def test_a_record_that_says_something_else_is_refused(node: Lieutenant, what: str):
    async with crafting(node) as end:
        end.send(msg.DefineEnvironment("e", [RECORDS[what]], {}))
        assert await outcome(end, "e")
        assert not end.closed


@pytest.mark.parametrize(
    ("mode", "allowed"), [(0o4777, 0o777), (0o2755, 0o755), (0o1644, 0o644), (0, 0o400)]
)
async def test_a_file_is_never_more_than_a_file(node: Lieutenant, mode: int, allowed: int):
    """No bits that make a program run as somebody else; and one can always read it."""
    async with crafting(node) as end:
        before = files_of(node)
        name = f"tool-{mode}.py"
        end.send(msg.DefineEnvironment("e", [record(name, mode)], {}))
        end.send(msg.FileData(DIGEST, 0, len(DATA), DATA))
        place: list[Path] = []

        def there() -> bool:
            place[:] = [p for p in files_of(node) - before if p.name == name]
            return bool(place) and place[0].stat().st_mode & 0o7777 == allowed

        await poll(there)
        status = place[0].lstat()
        assert place[0].is_file()
        assert not place[0].is_symlink()
        assert status.st_nlink == 1, "the next job would see what this one changes"


async def poll(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the file system tells nobody
            await asyncio.sleep(0.01)


async def test_two_files_in_one_place_and_a_file_where_a_directory_is_are_refused(
    node: Lieutenant,
):
    async with crafting(node) as end:
        pairs = {"twice": ("a", "a"), "below": ("a", "a/b"), "above": ("a/b", "a")}
        for name, places in pairs.items():
            end.send(msg.DefineEnvironment(name, [record(place) for place in places], {}))
            end.send(msg.FileData(DIGEST, 0, len(DATA), DATA))
            assert await outcome(end, name)
        assert not end.closed


async def test_a_name_that_no_file_system_takes_is_an_error_of_its_job(node: Lieutenant):
    async with crafting(node) as end:
        end.send(msg.DefineEnvironment("e", [record("a" * 300)], {}))
        end.send(msg.FileData(DIGEST, 0, len(DATA), DATA))
        assert "File name too long" in await outcome(end, "e")


async def test_contents_that_are_others_than_promised_are_refused_and_not_kept(node: Lieutenant):
    async with crafting(node) as end:
        for name, pieces in {
            "other bytes": [msg.FileData(DIGEST, 0, len(DATA), DATA.upper())],
            "another size": [msg.FileData(DIGEST, 0, 1 << 33, DATA)],
            "not from the beginning": [msg.FileData(DIGEST, 5, len(DATA), DATA[5:])],
            "more than there is": [msg.FileData(DIGEST, 0, len(DATA), DATA * 2)],
        }.items():
            end.send(msg.DefineEnvironment(name, [record(f"{name}.py", digest=UNKNOWN)], {}))
            for piece in pieces:
                piece.sha256 = UNKNOWN
                end.send(piece)
            assert await outcome(end, name)
        assert not [path for path in files_of(node) if UNKNOWN in path.name]


async def test_what_nobody_asked_for_is_not_kept(node: Lieutenant):
    async with crafting(node) as end:
        before = files_of(node)
        for number in range(100):
            end.send(
                msg.FileData(hashlib.sha256(bytes([number])).hexdigest(), 0, 1, bytes([number]))
            )
        end.send(msg.AskStatus())
        await end.until(lambda: any(isinstance(m, msg.Status) for m in end.messages))
        assert files_of(node) == before


async def test_too_many_files_are_refused_before_any_is_asked_for(node: Lieutenant):
    async with crafting(node) as end:
        files = [record(f"f{number}") for number in range(100_001)]
        end.send(msg.DefineEnvironment("e", files, {}))
        assert "100000 is the limit" in await outcome(end, "e")


async def test_a_quota_is_of_all_jobs_of_a_commander_and_comes_back_with_them():
    with Lieutenant(1, "--max-files-per-session", "10K") as node:
        async with crafting(node) as end, crafting(node) as other:
            big = [record("big", digest=UNKNOWN, size=6 * KIB)]
            end.send(msg.DefineEnvironment("one", big, {}))
            end.send(msg.DefineEnvironment("two", big, {}))
            assert "the files of this Commander's jobs are 12 KiB together" in await outcome(
                end, "two"
            )
            other.send(msg.DefineEnvironment("one", big, {}))
            await other.until(lambda: any(isinstance(m, msg.NeedFiles) for m in other.messages))
            end.send(msg.ForgetEnvironment("one"))
            end.send(msg.DefineEnvironment("three", big, {}))
            end.send(msg.AskStatus())
            await end.until(lambda: any(isinstance(m, msg.Status) for m in end.messages))
            assert not answers(end, "three")


# -- the user's end, and what his calls see --------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_much(size: int) -> str:
    try:
        with open("big", "wb") as file:
            file.write(bytes(size))
    except OSError as error:
        return type(error).__name__ + " " + str(error.strerror)
    return "written"


def test_a_quota_is_a_typed_error_for_the_user_and_binds_what_his_calls_write(here: Path):
    (here / "big.bin").write_bytes(bytes(20 * KIB))
    with (
        Lieutenant(1, "--max-files-per-session", "10K") as node,
        Commander([node.address]) as commander,
    ):
        with pytest.raises(RuntimeEnvSetupError, match="--max-files-per-session"):
            commander.run(same, [(1,)], ["big.bin"])
        assert commander.run(same, [(1,)]) == [1]
        assert commander.run(write_much, [(5 * KIB,)]) == ["written"]
        assert commander.run(write_much, [(50 * KIB,)]) == ["OSError File too large"]
        assert node.process.poll() is None


def whose() -> list[str]:
    """Where some modules come from; those of the job's own directory call themselves evil."""
    import importlib

    names = ("json", "socket", "encodings.utf_7", "goliath.actors.nested", "site", "sitecustomize")
    found = []
    for name in names:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if getattr(module, "evil", False):
            found.append(name)
    return found


def nest(x: int) -> int:
    import goliath

    return int(goliath.get(goliath.remote(abs).remote(x)))


def test_shipped_modules_are_not_taken_for_those_of_python_or_goliath(node: Lieutenant, here: Path):
    """A worker's own modules are not his; a module that only he has is."""
    names = ["json.py", "socket.py", "orjson.py", "encodings/__init__.py", "goliath/__init__.py"]
    names += ["goliath/actors/__init__.py", "goliath/actors/nested.py", "goliath/refs.py"]
    for name in names:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("evil = True\n")
    with Commander([node.address]) as commander:
        files = ["json.py", "socket.py", "orjson.py", "encodings", "goliath"]
        assert commander.run(whose, [()], files) == [[]]
        assert commander.run(nest, [(-3,)], files) == [3]
        assert commander.run(same, [(1,)]) == [1]
    assert node.process.poll() is None


def test_a_link_is_shipped_as_what_it_leads_to_and_one_that_leads_nowhere_is_named(
    node: Lieutenant, here: Path
):
    (here / "real.txt").write_text("hello")
    (here / "link.txt").symlink_to(here / "real.txt")
    (here / "nowhere.txt").symlink_to("/no/such/file")

    def look(name: str) -> tuple[bool, str]:
        return os.path.islink(name), Path(name).read_text()

    with Commander([node.address]) as commander:
        assert commander.run(look, [("link.txt",)], ["link.txt"]) == [(False, "hello")]
        with pytest.raises(FileNotFoundError, match=r"nowhere\.txt"):
            commander.run(same, [(1,)], ["nowhere.txt"])


@pytest.mark.parametrize("path", ["../evil.py", "/dev/null", "pipe"])
def test_what_is_outside_or_no_file_is_refused_where_it_is_given(
    node: Lieutenant, here: Path, path: str
):
    os.mkfifo(here / "pipe")
    (here.parent / "evil.py").touch()
    with Commander([node.address]) as commander, pytest.raises(ValueError, match=path):
        commander.run(same, [(1,)], [path])
