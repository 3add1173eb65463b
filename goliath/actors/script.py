"""What a script says about itself: the packages in its ``# /// script`` block (PEP 723)."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

# As the PEP has it.
_BLOCK = r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"


def script_requirements() -> tuple[str, ...]:
    """The packages that the running script asks for, less Goliath: that is on every node.

    Raises:
        ValueError: its block cannot be read.
    """
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return _requirements_of(file) if file else ()


@cache  # a script is what it was when it began
def _requirements_of(file: str) -> tuple[str, ...]:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    if "# /// script" not in text:
        return ()
    blocks = [found for found in re.finditer(_BLOCK, text) if found["type"] == "script"]
    if not blocks:
        return ()
    if len(blocks) > 1:
        raise ValueError(f"{file} has {len(blocks)} blocks of the type script; it may have one")
    import tomllib  # here: few scripts have one

    lines = blocks[0]["content"].splitlines()
    content = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines)
    try:
        said: Any = tomllib.loads(content).get("dependencies", [])
    except tomllib.TOMLDecodeError as exc:
        raise ValueError(f"the script block of {file} is no TOML: {exc}") from exc
    if not isinstance(said, list) or not all(isinstance(one, str) for one in said):
        raise ValueError(f"dependencies in the script block of {file} are no list of strings")
    return tuple(one for one in said if not _is_goliath(one))


def _is_goliath(requirement: str) -> bool:
    found = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return found is not None and found[0].lower() == "goliath"
