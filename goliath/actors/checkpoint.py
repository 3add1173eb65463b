"""The file of a checkpoint: which calls of which run have finished, and what they gave.

An SQLite database with a write-ahead log. A commit is an append without a wait for the disk: what
is committed survives the death of the process at any moment. (When the machine dies, the last
few seconds may be lost; what is there is whole.) Several processes may use one file, each commit
waiting its turn.

The values are pickles, and reading a pickle can run anything. So a file is only opened if it, and
what SQLite keeps beside it, belong to this user and nobody else can read or write them.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from goliath.core.resumption import Entry, Key
from goliath.errors import CheckpointError
from goliath.record import frozen

APPLICATION = 0x474C5448
"""``GLTH``: what makes a database one of ours."""

VERSION = 1
BUSY_S = 10.0
"""How long somebody else may hold the file. A commit takes milliseconds."""

_ASKED = 256  # keys in one question: a statement may have no more than 999 in old SQLite
_MAGIC = b"SQLite format 3\0"
_BESIDE = ("", "-wal", "-shm", "-journal")

_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    function TEXT NOT NULL,
    begun TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    changed TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE IF NOT EXISTS results (
    run INTEGER NOT NULL REFERENCES runs,
    key BLOB NOT NULL,
    place INTEGER NOT NULL,
    call TEXT NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (run, key)
);
"""

_PROBLEMS = {
    sqlite3.SQLITE_BUSY: "is locked by another process; wait until that is done, or use another "
    "file",
    sqlite3.SQLITE_LOCKED: "is locked by another process; wait until that is done, or use another "
    "file",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full; what was written is safe, so make room "
    "and run the same again",
    sqlite3.SQLITE_IOERR: "cannot be read or written ({exc}); what was written is safe, so see "
    "what is wrong with the disk (it must be a local one) and run the same again",
    sqlite3.SQLITE_READONLY: "cannot be written; make it and its folder writable, or use another "
    "file",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; see whether its folder exists and is writable",
    sqlite3.SQLITE_NOTADB: "is no checkpoint; name another file, or remove it",
    sqlite3.SQLITE_CORRUPT: "is damaged ({exc}); remove it to begin anew",
}


@frozen
class KeptRun:
    """What a checkpoint has of one function with its files, static arguments and initializer.

    Attributes:
        id: its number in the file.
        function: the function's name.
        calls: how many have finished.
        nbytes: how much their results take.
        begun, changed: when it was first run, and last written to (UTC).
    """

    id: int
    function: str
    calls: int
    nbytes: int
    begun: str
    changed: str


@frozen
class KeptCall:
    """A finished call: its place in the run that made it, its arguments as text, its pickle."""

    run: int
    function: str
    index: int
    call: str
    value: bytes


class Checkpoint:
    """One open file; a context manager.

    Args:
        path: of the file.
        create: whether to make it if there is none.

    Raises:
        CheckpointError: it is no checkpoint, somebody else's, locked or damaged.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True) -> None:
        self.path = Path(os.path.realpath(path))
        self._run = 0
        self._make_private(create=create)
        with self._explained():
            # Whoever iterates over results may do that in another thread than begin with it.
            self._database = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def _make_private(self, *, create: bool) -> None:
        try:
            if create:
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            for suffix in _BESIDE:
                self._check_private(Path(f"{self.path}{suffix}"), needed=not suffix)
            with self.path.open("rb") as file:
                start = file.read(len(_MAGIC))
        except OSError as exc:
            raise CheckpointError(
                f"checkpoint {str(self.path)!r} cannot be opened ({exc.strerror}); name a file in "
                "a folder that exists and is yours"
            ) from exc
        if start not in (b"", _MAGIC):  # SQLite would write over a short text
            raise CheckpointError(
                f"checkpoint {str(self.path)!r} {_PROBLEMS[sqlite3.SQLITE_NOTADB]}"
            )

    def _check_private(self, path: Path, *, needed: bool) -> None:
        try:
            found = path.lstat()
        except FileNotFoundError:
            if needed:
                raise
            return
        if not stat.S_ISREG(found.st_mode):
            raise CheckpointError(f"checkpoint {str(path)!r} is no file; name another one")
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise CheckpointError(
                f"checkpoint {str(path)!r} may have been written by others (mode "
                f"{found.st_mode & 0o777:o}), and reading it could run what they put there; if "
                f"you trust it, make it yours alone (chmod 600), else name another file"
            )

    def _prepare(self) -> None:
        database = self._database
        ours, version, tables = (
            database.execute(question).fetchone()[0]
            for question in (
                "PRAGMA application_id",
                "PRAGMA user_version",
                "SELECT COUNT(*) FROM sqlite_master",
            )
        )
        if ours != APPLICATION and (ours or tables):
            raise CheckpointError(
                f"checkpoint {str(self.path)!r} is the database of another program; name another "
                "file"
            )
        if ours == APPLICATION and version != VERSION:
            raise CheckpointError(
                f"checkpoint {str(self.path)!r} was written by another version of Goliath; use "
                "that one, or name another file"
            )
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        with self._transaction():
            for statement in _TABLES.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA application_id={APPLICATION}")
            database.execute(f"PRAGMA user_version={VERSION}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in the user's words what SQLite complains of."""
        try:
            yield
        except sqlite3.Error as exc:
            code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
            problem = _PROBLEMS.get(code, "cannot be used ({exc}); name another file")
            raise CheckpointError(
                f"checkpoint {str(self.path)!r} {problem.format(exc=exc)}"
            ) from exc

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._database.execute(f"BEGIN {kind}")
        try:
            yield
            self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    # -- what a run does -------------------------------------------------------------------

    def begin(self, digest: bytes, function: str) -> None:
        """From now on, all is about this run, which may be a new one.

        Args:
            digest: the fingerprint of what all its calls have in common.
            function: what it is called.
        """
        with self._explained(), self._transaction():
            self._database.execute(
                "INSERT INTO runs (digest, function) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (digest, function),
            )
            found = self._database.execute("SELECT id FROM runs WHERE digest = ?", (digest,))
            (self._run,) = found.fetchone()
            # Not in the file: it is only about this process, and may be long.
            self._database.execute(
                "CREATE TEMP TABLE seen (key BLOB PRIMARY KEY, times INTEGER) WITHOUT ROWID"
            )

    def count(self, keys: Collection[Key]) -> dict[Key, int]:
        """How often each was counted before; those that never were are left out."""
        before: dict[Key, int] = {}
        with self._explained():
            for some in _portions(list(set(keys))):
                before.update(self._ask("SELECT key, times FROM temp.seen WHERE key IN", some))
            with self._transaction("DEFERRED"):  # the file itself is not touched
                self._database.executemany(
                    "INSERT INTO temp.seen VALUES (?, ?) "
                    "ON CONFLICT DO UPDATE SET times = times + excluded.times",
                    Counter(keys).items(),
                )
        return before

    def find(self, keys: Sequence[Key]) -> dict[Key, bytes]:
        """The pickled results of those of these calls that have finished."""
        found: dict[Key, bytes] = {}
        question = f"SELECT key, value FROM results WHERE run = {self._run} AND key IN"
        with self._explained():
            for some in _portions(keys):
                found.update(self._ask(question, some))
        return found

    def _ask(self, question: str, keys: Sequence[Key]) -> Iterable[tuple[Key, Any]]:
        marks = ", ".join("?" * len(keys))
        return self._database.execute(f"{question} ({marks})", keys)

    def write(self, entries: Iterable[Entry]) -> None:
        """Commit results: all of them, or none if this raises."""
        with self._explained(), self._transaction():
            self._database.executemany(
                f"INSERT OR REPLACE INTO results VALUES ({self._run}, ?, ?, ?, ?)", entries
            )
            self._database.execute(
                "UPDATE runs SET changed = CURRENT_TIMESTAMP WHERE id = ?", (self._run,)
            )

    # -- what the command does -------------------------------------------------------------

    def runs(self) -> list[KeptRun]:
        """What there is, the oldest first."""
        with self._explained():
            rows = self._database.execute(
                "SELECT id, function, COUNT(key), SUM(LENGTH(value)), begun, changed "
                "FROM runs JOIN results ON run = id GROUP BY id ORDER BY id"
            ).fetchall()
        return [KeptRun(*row) for row in rows]

    def calls(self) -> Iterator[KeptCall]:
        """All finished calls, run by run, in the order in which they stood there."""
        with self._explained():
            rows = self._database.execute(
                "SELECT run, function, place, call, value FROM results JOIN runs ON run = id "
                "ORDER BY run, place, results.rowid"
            )
            for row in rows:
                yield KeptCall(*row)

    def clear(self) -> int:
        """Forget all results; how many they were.

        The runs keep their numbers: somebody else may be writing under one of them.
        """
        with self._explained():
            with self._transaction():
                (calls,) = self._database.execute("SELECT COUNT(*) FROM results").fetchone()
                self._database.execute("DELETE FROM results")
            self._database.execute("VACUUM")
        return int(calls)

    def close(self) -> None:
        """Give the file back. Idempotent."""
        with self._explained():
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _portions(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    return (keys[start : start + _ASKED] for start in range(0, len(keys), _ASKED))
