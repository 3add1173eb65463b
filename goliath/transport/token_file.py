"""A Lieutenant's token file: one line for each token it accepts, with a name and a quota.

::

    # comments and empty lines are skipped
    glt1_…                        a token alone is called "default"
    glt1_… alice
    glt1_… bob max-workers=4

It is read again when it changes: a token that has gone from it is revoked.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from goliath.errors import AuthenticationError
from goliath.record import frozen
from goliath.transport.private_files import (
    make_private_directory,
    read_private,
    state_directory,
    write_private,
)
from goliath.transport.token import Token

DEFAULT = "default"
"""What a token alone in its line is called."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")
_QUOTA = re.compile(r"max-workers=([1-9][0-9]{0,5})")


@frozen
class NamedToken:
    """A token, what its holder is called, and how many calls may run at once for it."""

    name: str
    token: Token
    workers_max: int | None = None

    def line(self) -> str:
        """As it stands in the file."""
        quota = [] if self.workers_max is None else [f"max-workers={self.workers_max}"]
        return " ".join([self.token.reveal(), self.name, *quota])


def default_token_file(environ: Mapping[str, str] | None = None) -> Path:
    """Where named tokens are kept unless somebody says otherwise."""
    return state_directory(environ) / "tokens"


def check_name(name: str) -> str:
    """The name.

    Raises:
        ValueError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of a token: it is at most 64 letters, digits, '_', '-', '.', '@'"
        )
    return name


def parse_tokens(text: str, path: str | os.PathLike[str]) -> list[NamedToken]:
    """All tokens of a file's text; or the one of a runtime file, which is JSON.

    Raises:
        AuthenticationError: a line is not what it should be. The message does not repeat it.
    """
    if text.lstrip().startswith("{"):
        try:
            return [NamedToken(DEFAULT, Token.parse(str(json.loads(text)["token"])))]
        except (ValueError, KeyError):
            raise AuthenticationError(f"the token file {path} is JSON without a token") from None
    found: list[NamedToken] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            entry = _parse_line(line.split())
        except (AuthenticationError, ValueError) as exc:
            raise AuthenticationError(f"line {number} of the token file {path}: {exc}") from None
        if any(entry.name == other.name or entry.token == other.token for other in found):
            raise AuthenticationError(
                f"line {number} of the token file {path} has a name or a token for the second time"
            )
        found.append(entry)
    return found


def _parse_line(words: Sequence[str]) -> NamedToken:
    token, name = Token.parse(words[0]), check_name(words[1]) if len(words) > 1 else DEFAULT
    if len(words) < 3:
        return NamedToken(name, token)
    quota = _QUOTA.fullmatch(words[2])
    if quota is None or len(words) > 3:
        raise ValueError("after token and name there may be max-workers=N, and nothing else")
    return NamedToken(name, token, int(quota[1]))


def read_tokens(path: str | os.PathLike[str]) -> list[NamedToken]:
    """All tokens of a Lieutenant's file.

    Raises:
        AuthenticationError: the file is missing, open to others, or wrong.
    """
    return parse_tokens(read_private(Path(path)), path)


def read_token_file(path: str | os.PathLike[str]) -> Token:
    """The one token in the file of whoever dials.

    Raises:
        AuthenticationError: the file is missing, open to others, or has no good token, or several.
    """
    found = read_tokens(path)
    if len(found) == 1:
        return found[0].token
    names = ", ".join(entry.name for entry in found)
    raise AuthenticationError(
        f"the token file {path} has several tokens ({names}); give a file with the one "
        "that is to be proved here, and no other"
        if found
        else f"the token file {path} has no token; make one with `goliath token new`"
    )


def add_token(path: Path, entry: NamedToken) -> None:
    """Write one more token, and make the file if there is none.

    Raises:
        AuthenticationError: the file is open to others or wrong, or the name is taken.
        OSError: it cannot be written.
    """
    path = path.resolve()
    if not path.parent.exists():
        make_private_directory(path.parent)
    with _alone(path.parent):
        text = read_private(path) if path.exists() else ""
        if any(entry.name == other.name for other in parse_tokens(text, path)):
            raise AuthenticationError(
                f"the token file {path} has a token called {entry.name!r}; take another name, or "
                f"revoke it first (goliath token revoke {entry.name})"
            )
        if text and not text.endswith("\n"):
            text += "\n"
        write_private(path, f"{text}{entry.line()}\n")


def remove_token(path: Path, name: str) -> None:
    """Take a token out of the file; other lines stay as they are.

    Raises:
        AuthenticationError: the file is open to others or wrong, or has no token of that name.
        OSError: it cannot be written.
    """
    path = path.resolve()
    if not path.exists():
        raise AuthenticationError(f"there is no token file {path}; give --token-file")
    with _alone(path.parent):
        text = read_private(path)
        known = [entry.name for entry in parse_tokens(text, path)]
        if name not in known:
            raise AuthenticationError(
                f"the token file {path} has no token called {name!r}; it has "
                f"{', '.join(known) or 'none'}"
            )
        lines = text.splitlines(keepends=True)
        write_private(path, "".join(line for line in lines if not _is_called(line, name)))


def _is_called(line: str, name: str) -> bool:
    words = line.split()
    if not words or words[0].startswith("#"):
        return False
    return (words[1] if len(words) > 1 else DEFAULT) == name


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let nobody else change a file there meanwhile: one of the two changes would be lost."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class WatchedTokens:
    """The tokens of a file, as it is now.

    A change counts when the file has been the same at two looks: whoever is writing it is not
    interrupted. What cannot be read changes nothing, because a slip of an editor must not end
    everybody's work; emptying the file revokes all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = self._seen = self._stamp()
        self.entries = read_tokens(path)

    def __repr__(self) -> str:
        return f"<WatchedTokens {self._path}>"

    def look(self) -> bool:
        """Whether they have changed since the last look.

        Raises:
            AuthenticationError: the file has, and cannot be used as it is; said once.
        """
        stamp = self._stamp()
        settled, self._seen = stamp == self._seen, stamp
        if not settled or stamp == self._taken:
            return False
        self._taken = stamp
        entries = read_tokens(self._path)
        changed, self.entries = entries != self.entries, entries
        return changed

    def _stamp(self) -> tuple[int, ...]:
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode
