"""Processes that a worker started and left behind: finding them, and telling whose they are.

Whatever a worker starts dies with its process group, unless it went into a group of its own
(``setsid``). Such a process comes, when its parent dies, to the zygote, which is the reaper of
all its descendants; here it finds out from whom.
"""

from __future__ import annotations

import ctypes
import os
import re

from goliath.actors.page import page_name
from goliath.actors.spec import TAG_VARIABLE

_PR_SET_CHILD_SUBREAPER = 36
_ENVIRON_TAG = re.compile(rb"(?:^|\0)" + TAG_VARIABLE.encode() + rb"=([^\0]*)")
_MAPPED_TAG = re.compile(page_name(r"([0-9a-f]+)").encode())


def adopt_orphans() -> bool:
    """Let orphaned descendants become children of this process; False where that is unknown."""
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def children() -> list[int]:
    """The pids of this single-threaded process's children, zombies included."""
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def tag_of(pid: int) -> str:
    """The tag of the worker that a process comes from; empty if it does not tell.

    An executed program has the tag in its environment. A forked one shows the environment of
    the zygote, but it maps the page of its worker.
    """
    for path, pattern in (
        (f"/proc/{pid}/environ", _ENVIRON_TAG),
        (f"/proc/{pid}/maps", _MAPPED_TAG),
    ):
        try:
            with open(path, "rb") as file:
                found = pattern.search(file.read())
        except OSError:
            continue
        if found:
            return found.group(1).decode(errors="replace")
    return ""
