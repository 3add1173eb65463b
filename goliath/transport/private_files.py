"""Files that only their user may read: where they are kept, and how they are read and written."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from goliath.errors import AuthenticationError

READ_MAX_BYTES = 64 * 1024


def state_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where what must outlive a process is kept: certificates, tokens, saved logins."""
    environ = os.environ if environ is None else environ
    if environ.get("XDG_STATE_HOME"):
        return Path(environ["XDG_STATE_HOME"]) / "goliath"
    return Path(environ.get("HOME") or Path.home()) / ".local" / "state" / "goliath"


def runtime_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where the Lieutenants of this user on this machine leave word for its Commanders."""
    environ = os.environ if environ is None else environ
    if environ.get("XDG_RUNTIME_DIR"):
        return Path(environ["XDG_RUNTIME_DIR"]) / "goliath"
    return Path(environ.get("HOME") or Path.home()) / ".local" / "state" / "goliath" / "run"


def cache_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where what can be had again is kept: contents of files, installed packages."""
    environ = os.environ if environ is None else environ
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]) / "goliath"
    return Path(environ.get("HOME") or Path.home()) / ".cache" / "goliath"


def make_private_directory(path: Path) -> None:
    """Make a directory that only its user may enter, or make it so.

    Raises:
        OSError: it cannot be made, or belongs to somebody else.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


def read_private(path: Path, what: str = "token file") -> str:
    """The text of a file that nobody else may read or write.

    Raises:
        AuthenticationError: it cannot be read, or others can open it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise AuthenticationError(
                    f"the {what} {path} has mode {mode:04o} and is open to others; "
                    f"run `chmod 600 {path}`, and make a new token if others use this machine"
                )
            return file.read(READ_MAX_BYTES)
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise AuthenticationError(f"the {what} {path} cannot be read: {reason}") from exc


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 atomically, over whatever is there.

    Raises:
        OSError: the file cannot be made.
    """
    # mkstemp makes it 0600 from the first moment on.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
