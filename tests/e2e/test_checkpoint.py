"""A run with a checkpoint goes on where another one stopped, however that one ended."""

from __future__ import annotations

import asyncio
import csv
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace as Namespace
from typing import Any

import pytest

from goliath import CheckpointError, Commander, ObjectRef, SerializationError
from goliath.cli import main
from goliath.testing import processes
from tests.length import length

ROOT = Path(__file__).parents[2]


class Journal:
    """Who was called: calls write into it wherever they run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def taken(self) -> list[str]:
        """What was written since the last time, in order."""
        lines = sorted(self.lines())
        self.path.write_text("")
        return lines


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def double(x: Any, journal: str) -> Any:
    with open(journal, "a") as file:
        file.write(f"{x}\n")
    return x * 2


def runs(commander: Commander, journal: Journal, db: Path, items: Any, **options: Any) -> Any:
    """`double` of the items."""
    rows = ({"x": x} for x in items)
    static = {"journal": str(journal.path)}
    return commander.run(double, rows, static=static, checkpoint=db, **options)


def test_a_second_run_makes_only_the_calls_that_are_new(
    commander: Commander, journal: Journal, db: Path
):
    assert runs(commander, journal, db, range(5)) == [0, 2, 4, 6, 8]
    assert journal.taken() == ["0", "1", "2", "3", "4"]
    assert runs(commander, journal, db, range(5)) == [0, 2, 4, 6, 8]
    assert journal.taken() == []
    assert runs(commander, journal, db, [7, 3, 9, 1]) == [14, 6, 18, 2]
    assert journal.taken() == ["7", "9"]


def test_results_of_all_kinds_come_back_as_they_were(
    commander: Commander, journal: Journal, db: Path
):
    items = ["a", b"b", 1.5, [1, [2]], (1, {"k": 2}.get("k")), bytes(200_000), 10**50]
    first = runs(commander, journal, db, items)
    assert first == [item * 2 for item in items]
    journal.taken()
    assert runs(commander, journal, db, items) == first
    assert journal.taken() == []


def test_equal_calls_of_a_run_have_a_result_each(commander: Commander, db: Path):
    def dice():
        return random.SystemRandom().random()

    first = commander.run(dice, [()] * 20, checkpoint=db)
    assert len(set(first)) == 20
    again = commander.run(dice, [()] * 25, checkpoint=db)
    assert again[:20] == first
    assert len(set(again)) == 25


def refuse(x: int, gate: str, journal: str) -> int:
    double(x, journal)
    if x % 2 and not os.path.exists(gate):
        raise ValueError(x)
    return x


def test_a_call_that_raised_is_made_again(
    commander: Commander, journal: Journal, db: Path, tmp_path: Path
):
    gate = tmp_path / "gate"

    def run(**options: Any) -> Any:
        static = {"gate": str(gate), "journal": str(journal.path)}
        rows = [{"x": x} for x in range(6)]
        return commander.run(refuse, rows, static=static, checkpoint=db, **options)

    first = run(return_exceptions=True)
    assert [type(outcome) for outcome in first] == [int, ValueError] * 3
    assert len(journal.taken()) == 6
    with pytest.raises(ValueError, match="1"):
        run()
    journal.taken()
    gate.touch()
    assert run() == [0, 1, 2, 3, 4, 5]
    assert journal.taken() == ["1", "3", "5"]
    assert run() == [0, 1, 2, 3, 4, 5]
    assert journal.taken() == []


def test_what_finished_before_the_first_failure_is_kept(
    commander: Commander, journal: Journal, db: Path, tmp_path: Path
):
    static = {"gate": str(tmp_path / "gate"), "journal": str(journal.path)}
    rows = [{"x": x} for x in (0, 2, 4, 6, 7)]
    with pytest.raises(ValueError, match="7"):
        commander.run(refuse, rows, static=static, checkpoint=db, batch_size=5)
    assert journal.taken() == ["0", "2", "4", "6", "7"]
    (tmp_path / "gate").touch()
    assert commander.run(refuse, rows, static=static, checkpoint=db) == [0, 2, 4, 6, 7]
    assert journal.taken() == ["7"]


def made(k: int, journal: str) -> Callable[[int], int]:
    def multiply(x: int) -> int:
        with open(journal, "a") as file:
            file.write(f"{x} {k}\n")
        return x * k

    return multiply


def test_another_function_static_closure_file_or_environment_is_another_run(
    journal: Journal, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with Commander(workers=1) as commander:
        make_them_differ(commander, journal, db)


def make_them_differ(commander: Commander, journal: Journal, db: Path):
    log = str(journal.path)
    for k in (2, 3, 2):
        assert commander.run(made(k, log), [(1,), (2,)], checkpoint=db) == [k, 2 * k]
    assert journal.taken() == ["1 2", "1 3", "2 2", "2 3"]
    Path("data.txt").write_text("one")
    common: dict[str, Any] = {"checkpoint": db}
    expected = 0
    for files, options in (
        ([], {"env_vars": {"A": "1"}}),
        ([], {"env_vars": {"A": "2"}}),
        (["data.txt"], {}),
        ([], {"initializer": os.getpid}),
    ):
        commander.run(made(2, log), [(1,)], files, **options, **common)
        commander.run(made(2, log), [(1,)], files, **options, **common)
        expected += 1
        assert len(journal.lines()) == expected
    Path("data.txt").write_text("two")
    commander.run(made(2, log), [(1,)], ["data.txt"], **common)
    assert len(journal.lines()) == expected + 1


SCRIPT = """
import sys
from goliath import Commander

FACTOR = 2

def helper(x):
    return x * FACTOR

def f(x, words=frozenset(["a", "b", "c"])):
    with open("journal", "a") as file:
        file.write(f"{x}\\n")
    return helper(x) + len(words) - 3

print(Commander(workers=2).run(f, [(1,), (2,), ({"p", "q", "r"}.__len__(),)], checkpoint="run.db"))
"""


def test_a_script_that_is_run_again_is_known_by_what_it_does(
    script: Callable[..., subprocess.CompletedProcess[str]], journal: Journal
):
    def run(text: str) -> tuple[list[int], int]:
        done = script(text)
        assert done.stderr == ""
        return json.loads(done.stdout), len(journal.taken())

    assert run(SCRIPT) == ([2, 4, 6], 3)
    assert run(SCRIPT) == ([2, 4, 6], 0)
    assert run("# a line\n\n" + SCRIPT.replace("def helper", "# what helps\ndef helper")) == (
        [2, 4, 6],
        0,
    )
    assert run(SCRIPT.replace("FACTOR = 2", "FACTOR = 3")) == ([3, 6, 9], 3)
    assert run(SCRIPT.replace("x * FACTOR", "x + FACTOR")) == ([3, 4, 5], 3)
    assert run(SCRIPT) == ([2, 4, 6], 0)


def test_a_result_whose_class_is_gone_is_made_again(
    commander: Commander, journal: Journal, db: Path
):
    assert runs(commander, journal, db, [1, 2]) == [2, 4]
    with sqlite3.connect(db) as other:
        other.execute("UPDATE results SET value = X'80' WHERE place = 1")
    other.close()
    journal.taken()
    assert runs(commander, journal, db, [1, 2]) == [2, 4]
    assert journal.taken() == ["2"]


def test_a_result_that_holds_a_ref_is_made_again(commander: Commander, journal: Journal, db: Path):
    def deep(log: str) -> list[ObjectRef[int]]:
        import goliath

        with open(log, "a") as file:
            file.write("deep\n")
        return [goliath.put(5)]

    for _ in range(2):
        [[ref]] = commander.run(deep, [(str(journal.path),)], checkpoint=db)
        assert ref.result() == 5
    assert journal.taken() == ["deep", "deep"]


def test_a_result_that_cannot_be_pickled_is_an_error_each_time(commander: Commander, db: Path):
    def generator(x: int) -> Any:
        return (n for n in range(x)) if x else x

    for _ in range(2):
        [zero, error] = commander.run(
            generator, [(0,), (1,)], checkpoint=db, return_exceptions=True
        )
        assert zero == 0
        assert "generator" in str(error)


def test_items_that_are_no_calls_are_refused_at_their_index(
    commander: Commander, journal: Journal, db: Path
):
    def items() -> Iterator[Any]:
        yield from [{"x": 1}, {"x": 2}, 5, {"x": 3}, {"y": 4}, {"x": (n for n in ())}, {"x": 6}]

    for _ in range(2):
        outcomes = commander.run(
            double,
            items(),
            static={"journal": str(journal.path)},
            checkpoint=db,
            return_exceptions=True,
        )
        assert [outcomes[place] for place in (0, 1, 3, 6)] == [2, 4, 6, 12]
        assert "item 2 of args is of type int" in str(outcomes[2])
        assert "double, call 4: missing" in str(outcomes[4])
        assert "double, call 5: x, a generator" in str(outcomes[5])
    assert journal.taken() == ["1", "2", "3", "6"]


def test_on_result_and_progress_hear_of_all_calls(commander: Commander, journal: Journal, db: Path):
    runs(commander, journal, db, range(3))
    seen: dict[int, Any] = {}
    told: list[tuple[int, int | None]] = []
    result = runs(
        commander,
        journal,
        db,
        range(6),
        on_result=seen.__setitem__,
        progress=lambda done, total: told.append((done, total)),
    )
    assert result == [0, 2, 4, 6, 8, 10]
    assert seen == dict(enumerate(result))
    assert told[-1] == (6, 6)


def test_iterators_and_coroutines_have_the_same_results(
    commander: Commander, journal: Journal, db: Path
):
    options: dict[str, Any] = {"static": {"journal": str(journal.path)}, "checkpoint": db}

    def items() -> Iterator[dict[str, int]]:
        return ({"x": x} for x in itertools.count())

    with_iterator = commander.imap(double, items(), buffersize=4, **options)
    assert [next(with_iterator) for _ in range(10)] == [2 * x for x in range(10)]
    with_iterator.close()  # type: ignore[attr-defined]
    made = {int(line) for line in journal.taken()}
    assert set(range(10)) <= made <= set(range(14))

    async def twice() -> list[int]:
        return await commander.arun(double, [{"x": x} for x in range(10)], **options)

    assert asyncio.run(twice()) == [2 * x for x in range(10)]
    assert sorted(commander.imap_unordered(double, ({"x": x} for x in range(10)), **options)) == [
        2 * x for x in range(10)
    ]
    assert journal.taken() == []


def test_what_an_iterator_has_given_is_on_disk(commander: Commander, journal: Journal, db: Path):
    options: dict[str, Any] = {"static": {"journal": str(journal.path)}, "checkpoint": db}
    values = commander.imap(double, ({"x": x} for x in range(100)), **options)
    for count in range(1, 101):
        next(values)
        with sqlite3.connect(db) as reader:
            [kept] = reader.execute("SELECT COUNT(*) FROM results").fetchone()
        reader.close()
        assert kept >= count
    values.close()  # type: ignore[attr-defined]


def test_results_are_on_disk_while_the_run_goes_on(commander: Commander, db: Path):
    def kept_before(x: int, db: str) -> int:
        """The last call ends when it sees the results of the others in the file."""
        deadline = time.monotonic() + 20
        kept = 0
        while x == 5 and kept < 5 and time.monotonic() < deadline:
            reader = sqlite3.connect(db)
            [kept] = reader.execute("SELECT COUNT(*) FROM results").fetchone()
            reader.close()
            time.sleep(0.005)
        return kept

    rows = [{"x": x} for x in range(6)]
    result = commander.run(kept_before, rows, static={"db": str(db)}, checkpoint=db, batch_size=1)
    assert result == [0, 0, 0, 0, 0, 5]


def test_a_checkpoint_that_cannot_be_opened_stops_the_run_before_its_first_call(
    commander: Commander, journal: Journal, tmp_path: Path
):
    for path, words in ((tmp_path / "no" / "run.db", "exists"), (journal.path, "by others")):
        with pytest.raises(CheckpointError, match=words):
            runs(commander, journal, path, range(5))
    journal.path.chmod(0o600)
    journal.path.write_text("words\n")
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        runs(commander, journal, journal.path, range(5))
    assert journal.taken() == ["words"]


TWO = """
import sys
from goliath import Commander

def f(x):
    return x * 3

with Commander(workers=1) as commander:
    for lo in (0, int(sys.argv[1])):
        rows = [(x,) for x in range(lo, lo + 2000)]
        assert commander.run(f, rows, checkpoint="run.db") == [x * 3 for x in range(lo, lo + 2000)]
"""


def test_two_commanders_may_use_one_file_at_once(tmp_path: Path):
    (tmp_path / "two.py").write_text(TWO)
    both = [
        subprocess.Popen(
            [sys.executable, "two.py", lo],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for lo in ("2000", "4000")
    ]
    assert [process.communicate(timeout=40)[1] for process in both] == ["", ""]
    with sqlite3.connect(tmp_path / "run.db") as reader:
        assert reader.execute("SELECT COUNT(*) FROM results").fetchone() == (6000,)
    reader.close()


def test_what_calls_have_in_common_must_be_told_from_others(commander: Commander, db: Path):
    deep: Any = None
    for _ in range(220):
        deep = Namespace(inner=deep)
    with pytest.raises(SerializationError, match="len cannot be kept in a checkpoint"):
        commander.run(len, [()], static={"obj": deep}, checkpoint=db)
    assert not db.exists()


def test_a_run_that_is_interrupted_keeps_what_had_finished(tmp_path: Path, journal: Journal):
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, "interrupted.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    processes.until(lambda: len(journal.lines()) == 4, 20)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in complaints
    assert kept(tmp_path / "run.db") == {0, 1, 2, 3}


INTERRUPTED = """
import time
from goliath import Commander

def call(x):
    if x == 4:
        time.sleep(60)

def arrived(index, _):
    with open("journal", "a") as file:
        file.write(f"{index}\\n")

with Commander(workers=1) as commander:
    rows = [(x,) for x in range(5)]
    commander.run(call, rows, checkpoint="run.db", batch_size=1, on_result=arrived)
"""


# -- the command -------------------------------------------------------------------------


def power(base: Any, exponent: int = 2) -> Any:
    return base**exponent if isinstance(base, int) else base


@pytest.fixture
def filled(commander: Commander, db: Path) -> str:
    """A checkpoint of two functions."""
    rows = [{"base": 3}, {"base": 2, "exponent": 5}, {"base": "a, b"}, {"base": {1}}]
    commander.run(power, rows, checkpoint=db)
    commander.run(len, [("four",)], checkpoint=db)
    return str(db)


def test_the_command_shows_what_there_is(filled: str, capsys: pytest.CaptureFixture[str]):
    assert main(["checkpoint", "show", filled]) == 0
    heads, *lines = capsys.readouterr().out.splitlines()
    assert heads.split()[:4] == ["RUN", "FUNCTION", "CALLS", "BYTES"]
    assert [line.split()[1:3] for line in lines] == [["power", "4"], ["len", "1"]]
    assert main(["checkpoint", "show", "--json", filled]) == 0
    runs = json.loads(capsys.readouterr().out)
    assert [(run["function"], run["calls"]) for run in runs] == [("power", 4), ("len", 1)]
    assert all(run["nbytes"] > 0 and run["begun"] <= run["changed"] for run in runs)


def test_the_command_exports_json_lines(filled: str, capsys: pytest.CaptureFixture[str]):
    assert main(["checkpoint", "export", filled]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"run": 1, "function": "power", "index": 0, "call": "base=3", "result": 9},
        {"run": 1, "function": "power", "index": 1, "call": "base=2, exponent=5", "result": 32},
        {"run": 1, "function": "power", "index": 2, "call": "base='a, b'", "result": "a, b"},
        {"run": 1, "function": "power", "index": 3, "call": "base={1}", "repr": "{1}"},
        {"run": 2, "function": "len", "index": 0, "call": "'four'", "result": 4},
    ]


def test_the_command_exports_a_table(filled: str, capsys: pytest.CaptureFixture[str]):
    assert main(["checkpoint", "export", "--csv", filled]) == 0
    rows = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert rows == [
        ["run", "function", "index", "call", "result"],
        ["1", "power", "0", "base=3", "9"],
        ["1", "power", "1", "base=2, exponent=5", "32"],
        ["1", "power", "2", "base='a, b'", "a, b"],
        ["1", "power", "3", "base={1}", "{1}"],
        ["2", "len", "0", "'four'", "4"],
    ]


def test_the_command_tells_of_a_result_that_cannot_be_read(
    filled: str, capsys: pytest.CaptureFixture[str]
):
    with sqlite3.connect(filled) as other:
        other.execute("UPDATE results SET value = X'80' WHERE run = 2")
    other.close()
    assert main(["checkpoint", "export", filled]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "cannot be rebuilt here" in last["error"]


def test_the_command_clears(filled: str, commander: Commander, capsys: pytest.CaptureFixture[str]):
    assert main(["checkpoint", "clear", filled]) == 0
    assert capsys.readouterr().out == "forgot 5 calls\n"
    assert main(["checkpoint", "show", filled]) == 0
    assert capsys.readouterr().out == "no finished calls\n"
    assert commander.run(len, [("four",)], checkpoint=filled) == [4]


@pytest.mark.parametrize("action", ["show", "export", "clear"])
def test_the_command_makes_no_file_and_names_the_one_that_is_missing(
    action: str, db: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["checkpoint", action, str(db)]) == 1
    assert f"checkpoint {str(db)!r} cannot be opened" in capsys.readouterr().err
    assert not db.exists()


# -- kills -------------------------------------------------------------------------------


KILLED = """
import sys, time
from goliath import Commander

CALLS = int(sys.argv[1])

def call(x):
    time.sleep(0.001)
    with open("journal", "ab", buffering=0) as file:  # an append of one line is atomic
        file.write(b"%d\\n" % x)
    return x * x

def items():
    for x in range(CALLS):
        yield {"x": x}

if __name__ == "__main__":
    with Commander(workers=2) as commander:
        result = commander.run(call, items(), checkpoint="run.db")
    assert result == [x * x for x in range(CALLS)]
    print("all right", flush=True)
"""
KILLS, KILLED_CALLS = length(8, 50), length(2_000, 10_000)


@pytest.mark.timeout(400)  # half a second a life, where nobody else is at work
def test_kills_do_not_make_a_finished_call_run_again(tmp_path: Path, journal: Journal):
    """Each life is killed at another moment: some before they are connected, most when they have
    made some calls, some in the middle of a commit."""
    (tmp_path / "killed.py").write_text(KILLED)
    dice = random.Random(6)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MARK_OF_TEST": str(tmp_path)}
    committed: set[int] = set()
    made: Counter[int] = Counter()
    uncommitted = kills = 0

    def live() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "killed.py", str(KILLED_CALLS)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    while kills < KILLS:
        process = live()
        wanted = dice.choice((0, 1, 20, 100, 150, 200))
        begun = journal.path.stat().st_size
        processes.until(
            lambda begun=begun, wanted=wanted, process=process: (
                journal.path.stat().st_size >= begun + 5 * wanted or process.poll() is not None
            ),
            20,
        )
        time.sleep(dice.random() * (0.5 if wanted == 0 else 0.02))  # any moment will do
        process.kill()
        _, complaints = process.communicate()
        assert (process.returncode, complaints) == (-signal.SIGKILL, "")
        kills += 1
        # Its workers end with it, but not in the same instant.
        processes.until(lambda: not processes.marked(str(tmp_path)), 20)
        lines = [int(line) for line in journal.taken()]
        again = committed.intersection(lines)
        assert not again, f"committed before, and called again: {sorted(again)[:10]}"
        made.update(lines)
        committed = kept(tmp_path / "run.db")
        uncommitted += len(set(lines) - committed)
    assert 0 < len(committed) < KILLED_CALLS

    process = live()
    output, complaints = process.communicate(timeout=60)
    assert (process.returncode, output, complaints) == (0, "all right\n", "")
    lines = [int(line) for line in journal.taken()]
    assert not committed.intersection(lines)
    made.update(lines)
    assert set(made) == set(range(KILLED_CALLS))
    assert made.total() == KILLED_CALLS + uncommitted
    print(f"{kills} kills, {len(committed)} calls kept at the last, {uncommitted} made again")


def kept(db: Path) -> set[int]:
    """The calls whose results are in the file."""
    if not db.exists():
        return set()
    with sqlite3.connect(db) as reader:
        try:
            rows = reader.execute("SELECT place FROM results").fetchall()
        except sqlite3.OperationalError:  # killed before there was a table
            rows = []
    reader.close()
    return {place for (place,) in rows}
