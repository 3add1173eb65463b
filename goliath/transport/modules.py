"""Which modules are the user's own, which of them travel as files, and what pickles need of them.

A node can import what is installed, as far as both ends have it; the user's own modules
exist only where the user works.
"""

from __future__ import annotations

import dis
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import field
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

from goliath.record import record


@record
class Shipped:
    """Modules that a node is sent as files: what is in them goes by name. ``in`` asks.

    Attributes:
        packages: top-level names, of which everything was sent.
        modules: full names of single modules.
    """

    packages: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (
            name in self.modules or name.partition(".")[0] in self.packages
        )


@record
class Needs:
    """What must be importable where a pickle is read, noted while it is written.

    Attributes:
        names: of modules, or of things in modules.
        origins: the modules of the functions that went by value.
    """

    names: set[str] = field(default_factory=set)
    origins: set[str] = field(default_factory=set)

    def note_function(self, function: FunctionType) -> None:
        """It goes by value: the modules that it imports when it is called; and its own, if that is
        no longer what it was."""
        name = function.__module__ or "__main__"
        if name not in self.origins:
            self.origins.add(name)
            if _was_edited(name):
                self.names.add(name)
        package = function.__globals__.get("__package__") or ""
        self.names.update(_imported_by(function.__code__, package))


_noted: dict[str, tuple[Any, bytes]] = {}  # of modules: their specs, and what was in their files


def _was_edited(name: str) -> bool:
    """Whether the file of a module has changed since this was asked first. It is asked anew of one
    that was imported again."""
    import hashlib  # OpenSSL: workers have no use for it

    module = is_users_own(name)
    if module is None or module.__file__ is None:
        return False
    try:
        with open(module.__file__, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return False
    spec, before = _noted.get(name, (None, b""))
    if spec is not module.__spec__ or spec is None:
        _noted[name] = module.__spec__, digest
        return False
    return digest != before


_IMPORT_NAME, _EXTENDED_ARG = dis.opmap["IMPORT_NAME"], dis.opmap["EXTENDED_ARG"]


def _imported_by(code: CodeType, package: str) -> Iterator[str]:
    """What code imports, and the functions in it: ``from a import b`` gives ``a`` and ``a.b``."""
    if _IMPORT_NAME in code.co_code[::2]:
        loaded: tuple[Any, Any] = (0, ())  # what is on top of the stack: the level and the items
        for instruction in dis.get_instructions(code):
            if instruction.opcode == _IMPORT_NAME:
                level, items = loaded
                yield from absolute(instruction.argval, level, items or (), package)
            if instruction.opcode != _EXTENDED_ARG:
                loaded = loaded[1], instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imported_by(constant, package)


def absolute(module: str, level: int, items: tuple[str, ...], package: str) -> Iterator[str]:
    """The full names of what ``from ..module import items`` names in a package."""
    if level:
        above = package.split(".")
        if level > len(above) or not package:
            return  # beyond the top: whoever runs it will be told
        above = above[: len(above) - level + 1]
        module = ".".join([*above, module] if module else above)
    yield module
    yield from (f"{module}.{item}" for item in items if item != "*")


def is_users_own(name: str) -> ModuleType | None:
    """The loaded module of this name if it is the user's own, else None."""
    module = sys.modules.get(name)
    if module is None or name == "__main__" or name.partition(".")[0] == "goliath":
        return None
    path = getattr(module, "__file__", None)
    return module if path and not is_installed(path) else None


@cache
def is_installed(path: str) -> bool:
    """Whether a file belongs to the standard library or to an installed package."""
    real = os.path.realpath(path)
    if {"site-packages", "dist-packages"} & set(real.split(os.sep)):
        return True
    return any(real.startswith(root) for root in _installed_roots())


@cache
def _installed_roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    roots = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    roots.update(site.getsitepackages() if hasattr(site, "getsitepackages") else ())
    return tuple(os.path.realpath(root) + os.sep for root in roots)
