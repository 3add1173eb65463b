"""What the calls of a job find around them: shipped files, directory, environment, initializer.

A path is read and hashed when the job is made, in the caller's thread, so what is shipped is
what was there at that moment, and a mistake is raised where it was made.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from goliath.transport import serialization
from goliath.transport.messages import DefineEnvironment

_serial = count(1)
SKIPPED = frozenset({"__pycache__", ".git"})


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """One file: its POSIX path in the job's directory, its bits, its contents' name."""

    path: str
    mode: int
    sha256: str
    size: int
    source: Path


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The environment of a job. ``key`` names it on every node: equal keys share workers."""

    key: str
    files: tuple[ShippedFile, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    initializer: bytes = b""
    cwd: str = ""
    sys_path: tuple[str, ...] = ()
    private: bool = False  # of one job: its workers go with it

    def message(self, node: str, *, same_machine: bool) -> DefineEnvironment:
        """What a node is told. The user's own directories mean nothing on another machine."""
        return DefineEnvironment(
            self.key,
            [[f.path, f.mode, f.sha256, f.size] for f in self.files],
            dict(self.variables),
            self.threads,
            self.cwd if same_machine else "",
            list(self.sys_path) if same_machine else [],
            bool(self.initializer),
            node,
            payload=self.initializer,
        )

    @property
    def shipped_modules(self) -> frozenset[str]:
        """Top-level names that can be imported from the shipped files."""
        names = {f.path.partition("/")[0] for f in self.files}
        return frozenset(name.removesuffix(".py") for name in names)


def surroundings(
    files: Iterable[str | os.PathLike[str]] = (),
    *,
    env_vars: Mapping[str, str] | None = None,
    cpus: float = 1.0,
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Surroundings:
    """What a job described by these arguments needs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a path climbs out, or two files have one name.
        TypeError: ``env_vars`` holds something else than strings.
        SerializationError: the initializer cannot be pickled.
    """
    shipped = tuple(_collect(files))
    variables = _checked_variables(env_vars or {})
    threads = max(int(cpus), 1)
    cwd = os.getcwd()
    sys_path = tuple(os.path.abspath(p) if p == "" else p for p in sys.path if _is_text(p))
    payload = b""
    if initializer is not None:
        names = Surroundings("", shipped).shipped_modules
        payload = bytes(serialization.dump_initializer(initializer, tuple(initargs), names))
    private = bool(shipped) or initializer is not None
    if private:
        key = f"job-{os.getpid()}-{next(_serial)}"
    else:
        text = repr((sorted(variables.items()), threads, cwd, sys_path))
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    known = cwd if _is_text(cwd) else ""
    return Surroundings(key, shipped, variables, threads, payload, known, sys_path, private)


def _checked_variables(variables: Mapping[Any, Any]) -> dict[str, str]:
    for name, value in variables.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(
                f"env_vars must map strings to strings; {name!r} maps to a {type(value).__name__}"
            )
        if not name or "=" in name or "\0" in name + value or not _is_text(name + value):
            raise ValueError(f"env_vars: no process can be given {name!r} as {value!r}")
    return dict(variables)


def _collect(files: Iterable[str | os.PathLike[str]]) -> Iterable[ShippedFile]:
    if isinstance(files, str | os.PathLike):
        raise TypeError(f"files must be a list of paths, not the single path {files!r}: use [path]")
    seen: dict[str, Path] = {}
    folders: set[str] = set()
    for given in files:
        path = Path(given)
        place = path.name if path.is_absolute() else os.path.normpath(path).replace(os.sep, "/")
        if place == ".." or place.startswith("../"):
            raise ValueError(
                f"file {str(given)!r} lies outside the current directory; ship it by its absolute "
                "path (it then stands under its base name), or change directory"
            )
        if not path.exists():
            raise FileNotFoundError(f"file {str(given)!r} to be shipped does not exist")
        if not (path.is_file() or path.is_dir()):
            raise ValueError(f"{str(given)!r} to be shipped is neither a file nor a directory")
        for source, relative in _expand(path, "" if place == "." else place):
            _check_place(relative, seen, folders)
            other = seen.setdefault(relative, source)
            if other.resolve() != source.resolve():
                raise ValueError(
                    f"two files would both be {relative!r} in the job's directory: "
                    f"{str(other)!r} and {str(source)!r}"
                )
            if other is source:
                yield _described(source, relative)


def _check_place(relative: str, seen: Mapping[str, Path], folders: set[str]) -> None:
    if not _is_text(relative):
        raise ValueError(f"the name of file {relative!r} is not UTF-8 and cannot be sent")
    above = {parent.as_posix() for parent in PurePosixPath(relative).parents}
    folders |= above
    for place in above & seen.keys() or {relative} & folders:
        raise ValueError(f"{place!r} would be a file and a directory in the job's directory")


def _is_text(name: str) -> bool:
    """Whether it can stand in a message (file names may hold any bytes)."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _expand(path: Path, place: str) -> Iterable[tuple[Path, str]]:
    if not path.is_dir():
        yield path, place
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(set(folders) - SKIPPED)
        for name in sorted(names):
            source = Path(folder, name)
            inside = source.relative_to(path).as_posix()
            yield source, f"{place}/{inside}" if place else inside


def _described(source: Path, relative: str) -> ShippedFile:
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    return ShippedFile(relative, source.stat().st_mode & 0o777, digest, size, source)
