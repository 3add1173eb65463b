"""What of a project stays at home: the patterns of ``.gitignore`` and ``.goliathignore``.

The language is that of git (gitignore(5)), whose own ``check-ignore`` is what the tests compare
this with. It is not asked here: a project need be no repository, nor git be there. Only the
files in the project count, not what the user has told git elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from goliath.record import record

GITIGNORE, GOLIATHIGNORE = ".gitignore", ".goliathignore"

EXCLUDED = frozenset(
    {".git", ".hg", ".svn", ".tox", ".nox", ".venv", "__pycache__", "node_modules"}
)
"""Directories that are nobody's source; and so is any with a ``pyvenv.cfg``."""


def is_excluded(directory: Path) -> bool:
    """Whether a directory is of a kind that is never sent."""
    return directory.name in EXCLUDED or (directory / "pyvenv.cfg").is_file()


def is_secret(name: str) -> bool:
    """Whether a file is one in which people keep what others must not read."""
    return name == ".env" or name.startswith(".env.")


@record
class _Rule:
    pattern: re.Pattern[str]
    text: str
    file: Path
    keeps: bool  # it takes back what others have said
    of_directories: bool


class Ignored:
    """What the ignore files of a project say of the paths in it.

    Args:
        root: the project.
        names: of the ignore files, in the order of their say: the last has it.
    """

    def __init__(self, root: Path, names: Sequence[str] = (GITIGNORE, GOLIATHIGNORE)) -> None:
        self._root = root
        self._names = names
        self._rules: dict[Path, list[_Rule]] = {}

    def why(self, path: Path) -> str:
        """Which pattern keeps a file of the project back; empty: none does. What is in a directory
        that is ignored cannot be taken back."""
        folders = path.relative_to(self._root).parts
        for depth in range(1, len(folders) + 1):
            part = self._root.joinpath(*folders[:depth])
            inner = depth < len(folders)
            if inner and is_excluded(part):
                return f"{part.name}/ is never sent"
            rule = self._last_word(part, is_directory=inner)
            if rule is not None and not rule.keeps:
                return f"{rule.text!r} in {rule.file}"
        return ""

    def ignores(self, path: Path, *, is_directory: bool) -> bool:
        """Whether a path is kept back, for whoever has asked this of all directories above it."""
        rule = self._last_word(path, is_directory=is_directory)
        return rule is not None and not rule.keeps

    def _last_word(self, path: Path, *, is_directory: bool) -> _Rule | None:
        folder = path.parent
        while folder.is_relative_to(self._root):
            relative = path.relative_to(folder).as_posix()
            for rule in self._rules_of(folder):
                if rule.of_directories and not is_directory:
                    continue
                if rule.pattern.fullmatch(relative):
                    return rule
            folder = folder.parent
        return None

    def _rules_of(self, folder: Path) -> list[_Rule]:
        """Of the ignore files in one directory, the last first."""
        if folder not in self._rules:
            rules = [rule for name in self._names for rule in _read(folder / name)]
            self._rules[folder] = rules[::-1]
        return self._rules[folder]


def _read(file: Path) -> Iterator[_Rule]:
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    for line in text.split("\n"):
        pattern = re.sub(r"(?<!\\) +$", "", line.removesuffix("\r"))
        if not pattern or pattern.startswith("#"):
            continue
        keeps = pattern.startswith("!")
        pattern = pattern.removeprefix("!")
        of_directories = pattern.endswith("/")
        compiled = _compiled(pattern.removesuffix("/"))
        if compiled is not None:
            yield _Rule(compiled, line.strip(), file, keeps, of_directories)


def _compiled(pattern: str) -> re.Pattern[str] | None:
    """A pattern for paths relative to the directory of its file; None if it matches nothing."""
    anchored = "/" in pattern
    segments = pattern.removeprefix("/").split("/")
    if not anchored:
        segments = ["**", *segments]
    parts: list[str] = []
    for place, segment in enumerate(segments):
        last = place == len(segments) - 1
        if len(segment) > 1 and not segment.strip("*"):  # as git has it, also of three
            parts.append(".+" if last else "(?:.+/)?")
            continue
        translated = _segment(segment)
        if translated is None:
            return None
        parts.append(translated if last else f"{translated}/")
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error:
        return None


_TOKEN = r"""\\(?P<escaped>.)
    | (?P<stars>\*+)
    | (?P<any>\?)
    | \[(?P<negated>[!^]?)(?P<members>\]?(?:\[:\w+:\]|\\.|[^\]\\])*)\]
    | (?P<broken>[\[\\])
    | (?P<plain>.)"""
_CLASSES = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z",
    "space": r"\s", "xdigit": "0-9a-fA-F", "punct": r"!-/:-@\[-`{-~",
}  # fmt: skip


def _segment(text: str) -> str | None:
    """What stands between two slashes, as a regular expression; None if it matches nothing."""
    parts = []
    for token in re.finditer(_TOKEN, text, re.VERBOSE | re.DOTALL):
        match token.lastgroup:
            case "escaped":
                parts.append(re.escape(token["escaped"]))
            case "stars":
                parts.append("[^/]*")
            case "any":
                parts.append("[^/]")
            case "members":
                parts.append(_members(token["members"], negated=bool(token["negated"])))
            case "broken":  # git takes a bracket without an end for a pattern without a match
                return None
            case _:
                parts.append(re.escape(token["plain"]))
    return "".join(parts)


def _members(text: str, *, negated: bool) -> str:
    inner = re.sub(r"\[:(\w+):\]", lambda found: _CLASSES.get(found[1], ""), text)
    if inner == text:
        inner = re.sub(r"\\(.)|([\[\]^&~|])", lambda found: "\\" + (found[1] or found[2]), text)
    return f"(?!/)[{'^' if negated else ''}{inner}]"
