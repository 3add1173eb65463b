"""The user's own project: which of its modules a function needs, found without running them.

A pickle names what must be importable where it is read (`Needs`). From there on, the import
statements of each module's source lead to the next ones. Where a module's file is, the import
system says: nothing is executed. What is installed, or of the standard library, the nodes have;
so only what lies inside the project is followed, and sent.

What is absent by intent: imports by a name that is computed (``importlib.import_module``), and
data that stands beside a module. Nobody can see these in a source; ``files=`` is for them.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path

from goliath.actors.ignoring import Ignored
from goliath.errors import size_text
from goliath.transport.modules import Needs, absolute, is_installed

MARKERS = ("pyproject.toml", "setup.py", "setup.cfg", ".git")
"""The nearest directory above a file that has one of these is the project."""

MODULES_MAX = 5_000
MODULES_MAX_BYTES = 128 << 20
"""More than that is no source any more, or somebody else's."""


def root_of(file: Path) -> Path:
    """The project that a file belongs to; without a marker, the directory it is in."""
    folder = file.resolve().parent
    for above in (folder, *folder.parents):
        if any((above / marker).exists() for marker in MARKERS):
            return above
    return folder


def modules_needed(needs: Needs) -> dict[str, Path]:
    """The files of the project's modules that must be importable, by the modules' full names.

    Args:
        needs: of the pickles.

    Raises:
        ValueError: a module of the project hides one of the standard library, or there are more
            of them than can be meant.
    """
    why_missing.cache_clear()  # what was so then may be otherwise now
    search = _Search(_roots(needs.origins))
    for name in needs.names:
        search.want(name)
    return search.run()


@lru_cache(64)
def why_missing(name: str) -> str:
    """Why a module is not importable on a node, as far as that can be seen here, and what to do."""
    top = name.partition(".")[0]
    search = _Search(_roots())
    path = search.file_of(name)
    if path is None and search.spec_of(top) is None:
        return "it cannot be found here either; check its name"
    if path is None or is_installed(str(path)):
        return (
            f"it is installed here: install it there, too, or name its package in "
            f"requirements=[{top!r}]"
        )
    named = search.named_as(top, path)
    remedy = f"name it in files=[{named!r}]"
    root = search.root_above(path)
    if root is None:
        return f"{path} was not sent, because it is outside of your project; {remedy}"
    kept_back = Ignored(root).why(path)
    if kept_back:
        return f"{path} was not sent, because of {kept_back}; {remedy}"
    return f"{path} was not sent, because no import statement leads to it; {remedy}"


def _roots(origins: Iterable[str] = ()) -> set[Path]:
    """The projects of modules, of the script, and of the current directory: mostly one."""
    files = [getattr(sys.modules.get(name), "__file__", None) for name in (*origins, "__main__")]
    own = [file for file in files if file and os.path.exists(file) and not is_installed(file)]
    return {_root_of(file) for file in (*own, os.path.join(os.getcwd(), "script"))}


@lru_cache(64)  # it is looked for at every run, and takes 0.5 ms
def _root_of(file: str) -> Path:
    return root_of(Path(file))


class _Search:
    def __init__(self, roots: set[Path]) -> None:
        self._ignored = {root: Ignored(root) for root in roots}
        self._specs: dict[str, ModuleSpec | None] = {}
        self._seen: set[str] = set()
        self._wanted: list[str] = []
        self._found: dict[str, Path] = {}
        prefixes = tuple(map(str, roots))
        for entry, finder in list(sys.path_importer_cache.items()):
            # A module may have been written since its directory was last looked at.
            if entry.startswith(prefixes):
                getattr(finder, "invalidate_caches", lambda: None)()

    def run(self) -> dict[str, Path]:
        """Follow what is wanted to its end."""
        total = 0
        while self._wanted:
            name = self._wanted.pop()
            path = self._found[name]
            total += path.stat().st_size
            if len(self._found) > MODULES_MAX or total > MODULES_MAX_BYTES:
                raise ValueError(_too_much(self._found))
            is_package = self._specs[name].submodule_search_locations is not None  # type: ignore[union-attr]  # it has been found
            package = name if is_package else name.rpartition(".")[0]
            for needed in _imports_of(path, package):
                self.want(needed)
        return dict(sorted(self._found.items()))

    def want(self, name: str) -> None:
        """A module, or something in one, has to be importable."""
        if name in self._seen:
            return
        self._seen.add(name)
        top = name.partition(".")[0]
        if top in ("__main__", "goliath"):
            return
        if top in sys.stdlib_module_names:
            self._check_not_hidden(top)
            return
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            if not self._visit(".".join(parts[:end])):
                return

    def _visit(self, name: str) -> bool:
        """Take a module in; whether there may be others below it."""
        spec = self.spec_of(name)
        if spec is None:
            return False
        below = spec.submodule_search_locations is not None
        if spec.origin is None or not spec.has_location:
            return below  # a namespace package: a directory without a file of its own
        path = Path(spec.origin).resolve()
        root = self.root_above(path)
        if root is None or is_installed(str(path)) or not path.is_file():
            return False
        if self._ignored[root].why(path):
            return below
        if name not in self._found:
            self._found[name] = path
            self._wanted.append(name)
        return below

    def _check_not_hidden(self, top: str) -> None:
        if top in self._specs:
            return
        self._specs[top] = spec = _found_in_path(top)
        if spec is None or not spec.has_location or spec.origin is None:
            return
        builtin = BuiltinImporter.find_spec(top) or FrozenImporter.find_spec(top)
        path = Path(spec.origin).resolve()
        if builtin is None and self.root_above(path) is not None and not is_installed(str(path)):
            raise ValueError(
                f"{path} hides the module {top!r} of the standard library, which workers import "
                f"instead of it; give the file another name"
            )

    def spec_of(self, name: str) -> ModuleSpec | None:
        """Where a module is, if it is anywhere."""
        if name not in self._specs:
            self._specs[name] = self._find(name)
        return self._specs[name]

    def _find(self, name: str) -> ModuleSpec | None:
        # One that was imported knows, by whatever finder it was found.
        spec: ModuleSpec | None = getattr(sys.modules.get(name), "__spec__", None)
        if spec is not None:
            return spec
        above = name.rpartition(".")[0]
        if not above:
            return _found_in_path(name)
        package = self.spec_of(above)
        if package is None or package.submodule_search_locations is None:
            return None
        return _found_in_path(name, list(package.submodule_search_locations))

    def file_of(self, name: str) -> Path | None:
        """The file of a module, if it has one."""
        spec = self.spec_of(name)
        if spec is None or spec.origin is None or not spec.has_location:
            return None
        return Path(spec.origin).resolve()

    def named_as(self, top: str, path: Path) -> str:
        """What to name so that a module of a top-level package is found: its file, if that has its
        place below the current directory, else the package."""
        spec = self.spec_of(top)
        if spec is not None and spec.submodule_search_locations:
            package = Path(next(iter(spec.submodule_search_locations))).resolve()
        else:
            package = path
        if package.parent == Path.cwd().resolve():
            return path.relative_to(package.parent).as_posix()
        return str(package)

    def root_above(self, path: Path) -> Path | None:
        """The project that a path is in."""
        return next((root for root in self._ignored if path.is_relative_to(root)), None)


def _found_in_path(name: str, path: list[str] | None = None) -> ModuleSpec | None:
    try:
        return PathFinder.find_spec(name, path)
    except KeyError:
        return _namespace(name, path or [])
    except (ImportError, ValueError):
        return None


def _namespace(name: str, path: list[str]) -> ModuleSpec:
    """Of a namespace package in another one: the finder wants that to be imported."""
    spec = ModuleSpec(name, None, is_package=True)
    folders = [os.path.join(entry, name.rpartition(".")[2]) for entry in path]
    spec.submodule_search_locations = [folder for folder in folders if os.path.isdir(folder)]
    return spec


def _too_much(found: Mapping[str, Path]) -> str:
    sizes = {name: path.stat().st_size for name, path in found.items()}
    biggest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
    shown = ", ".join(f"{found[name]} ({size_text(sizes[name])})" for name in biggest)
    total = size_text(sum(sizes.values()))
    return (
        f"the function imports {len(found)} modules of your project, {total} in all, and more than "
        f"{MODULES_MAX}, or {size_text(MODULES_MAX_BYTES)}, are not sent by themselves; the "
        f"biggest are {shown}. Have the project installed on the nodes, or list what the function "
        "does not need in .goliathignore"
    )


# -- import statements -----------------------------------------------------------------

_known: dict[tuple[bytes, str], frozenset[str]] = {}
_KNOWN_MAX = 20_000


def _imports_of(path: Path, package: str) -> frozenset[str]:
    """What a module's source imports, wherever in it; nothing if it is no source."""
    if path.suffix != ".py":
        return frozenset()
    source = path.read_bytes()
    key = hashlib.sha256(source).digest(), package
    if key not in _known:
        while len(_known) >= _KNOWN_MAX:
            del _known[next(iter(_known))]
        _known[key] = frozenset(_imports_in(source, package))
    return _known[key]


def _imports_in(source: bytes, package: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # whoever imports it will be told
    left: list[ast.AST] = [tree]
    while left:
        node = left.pop()
        match node:
            case ast.Import(names):
                for alias in names:
                    yield from absolute(alias.name, 0, (), package)
            case ast.ImportFrom(module, names, level):
                items = tuple(alias.name for alias in names)
                yield from absolute(module or "", level, items, package)
            case ast.If(test, _, orelse) if _is_for_type_checkers(test):
                left += orelse
            case _:
                left += ast.iter_child_nodes(node)


def _is_for_type_checkers(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def place_of(name: str, path: Path) -> str:
    """Where a module has to be, below a directory in ``sys.path``, to have this name."""
    folder = name.split(".")[:-1]
    if path.name.partition(".")[0] == "__init__":
        folder = name.split(".")
    return "/".join([*folder, path.name])
