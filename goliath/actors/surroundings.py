"""What the calls of a job find around them: files, modules, packages, directory, environment.

A path is read and hashed when the job is made, in the caller's thread, so what is shipped is
what was there at that moment, and a mistake is raised where it was made.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from goliath.actors.checks import checked_requirements
from goliath.actors.script import script_requirements
from goliath.record import frozen
from goliath.transport.functions import dump_initializer
from goliath.transport.messages import DefineEnvironment
from goliath.transport.modules import Shipped

_serial = count(1)
_CODE = (".py", ".pyc", ".so", ".pyd")


@frozen
class ShippedFile:
    """One file: its POSIX path in the job's directory, its bits, its contents' name.

    Attributes:
        source: where it is read when a node lacks it.
        contents: what is sent instead, of a file that may be edited while its job runs.
    """

    path: str
    mode: int
    sha256: str
    size: int
    source: Path
    contents: bytes | None = None

    def record(self) -> list[str | int]:
        """What a node is told."""
        return [self.path, self.mode, self.sha256, self.size]


@frozen
class Surroundings:
    """The environment of a job. ``key`` names it on every node: equal keys share workers.

    Attributes:
        files: what the user has named.
        modules: those of the project that were found to be needed, by their full names.
        requirements: packages that nodes are to install.
        script: those that the script names for itself: here they are installed.
    """

    key: str
    files: tuple[ShippedFile, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    initializer: bytes = b""
    cwd: str = ""
    sys_path: tuple[str, ...] = ()
    private: bool = False  # of one job: its workers go with it
    modules: Mapping[str, ShippedFile] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    script: tuple[str, ...] = ()

    def message(self, node: str, *, embedded: bool) -> DefineEnvironment:
        """What a node is told. The user's own directories mean nothing on another machine; where
        they do, his modules are in them, with the data beside them."""
        return DefineEnvironment(
            self.key,
            [file.record() for file in self.files],
            dict(self.variables),
            self.threads,
            self.cwd if embedded else "",
            list(self.sys_path) if embedded else [],
            bool(self.initializer),
            node,
            [] if embedded else [file.record() for file in self.modules.values()],
            list(self.requirements or (() if embedded else self.script)),
            payload=self.initializer,
        )

    @property
    def shipped_modules(self) -> Shipped:
        """What can be imported from the shipped files."""
        code = [file.path for file in self.files if file.path.endswith(_CODE)]
        tops = {path.partition("/")[0].partition(".")[0] for path in code}
        return Shipped(frozenset(tops), frozenset(self.modules))

    @property
    def contents(self) -> Iterable[ShippedFile]:
        """Whatever a node may ask for."""
        return (*self.files, *self.modules.values())

    def with_modules(self, modules: Mapping[str, ShippedFile]) -> Surroundings:
        """The same with further modules: where these are others, the workers are, too."""
        all_modules = dict(sorted({**self.modules, **modules}.items()))
        key = self.key
        if not self.private:
            records = [(name, file.record()) for name, file in all_modules.items()]
            key = _digest((key, records))
        return replace(self, key=key, modules=all_modules)


def surroundings(
    files: Iterable[str | os.PathLike[str]] = (),
    *,
    env_vars: Mapping[str, str] | None = None,
    cpus: float = 1.0,
    requirements: Sequence[str] | None = None,
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Surroundings:
    """What a job described by these arguments needs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a path climbs out, or two files have one name.
        TypeError: ``env_vars`` or ``requirements`` holds something else than strings.
        SerializationError: the initializer cannot be pickled.
    """
    shipped = tuple(_collect(files))
    variables = _checked_variables(env_vars or {})
    threads = max(int(cpus), 1)
    cwd = os.getcwd()
    sys_path = tuple(os.path.abspath(p) if p == "" else p for p in sys.path if _is_text(p))
    packages = checked_requirements(requirements)
    script = script_requirements() if packages is None else ()
    private = bool(shipped) or initializer is not None
    if private:
        key = f"job-{os.getpid()}-{next(_serial)}"
    else:
        key = _digest((sorted(variables.items()), threads, cwd, sys_path, packages, script))
    known = cwd if _is_text(cwd) else ""
    around = Surroundings(
        key,
        shipped,
        variables,
        threads,
        b"",
        known,
        sys_path,
        private,
        requirements=packages or (),
        script=script,
    )
    if initializer is None:
        return around
    from goliath.actors.packing import pack  # it is made of this module

    payload, around = pack(around, partial(dump_initializer, initializer, tuple(initargs)))
    return replace(around, initializer=bytes(payload))


def _digest(parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


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
                yield described(source, relative)


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
    """The files of a directory, but for what is made again, secret, or in a .goliathignore."""
    if not path.is_dir():
        yield path, place
        return
    from goliath.actors.ignoring import is_excluded, is_secret  # here: most jobs name no directory

    ignored = _ignored_in(path)
    for folder, folders, names in os.walk(path):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not is_excluded(here / name) and not ignored(here / name, is_directory=True)
        )
        for name in sorted(names):
            source = here / name
            if is_secret(name) or ignored(source, is_directory=False):
                continue
            inside = source.relative_to(path).as_posix()
            yield source, f"{place}/{inside}" if place else inside


def _ignored_in(directory: Path) -> Callable[..., bool]:
    """Tells of what stands in a directory whether a .goliathignore in it or above keeps it back."""
    from goliath.actors.ignoring import GOLIATHIGNORE, Ignored

    root = Path(os.path.abspath(directory))
    for above in (root, *root.parents):
        if (above / GOLIATHIGNORE).is_file():
            root = above
    rules = Ignored(root, (GOLIATHIGNORE,))

    def ignored(path: Path, *, is_directory: bool) -> bool:
        return rules.ignores(Path(os.path.abspath(path)), is_directory=is_directory)

    return ignored


def described(source: Path, relative: str, *, keep: bool = False) -> ShippedFile:
    """A file as it is now; ``keep`` its contents, so that it is sent as it is now."""
    mode = source.stat().st_mode & 0o777
    if keep:
        contents = source.read_bytes()
        digest = hashlib.sha256(contents).hexdigest()
        return ShippedFile(relative, mode, digest, len(contents), source, contents)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    return ShippedFile(relative, mode, digest, size, source)
