"""What is told of an actor that crashed. It is a bug, so all that helps to find it is told."""

from __future__ import annotations

import traceback

from goliath.errors import LocalError


def note_crash(error: BaseException, actor: str, last_events: str, kept: str = "") -> None:
    """Write on the error itself whom it ended, what that actor was told last, and where the rest
    of that is kept."""
    journal = f", after this (seconds, events):\n{last_events}" if last_events else ""
    error.add_note(f"goliath: {actor} crashed{journal}")
    if kept:
        error.add_note(f"goliath: {kept}")


def obituary(whose: str, error: BaseException) -> LocalError:
    """The error for those who waited: the crash as text, so that it is seen in every log and
    survives pickling, and the exception itself as the cause."""
    story = "".join(traceback.format_exception(error)).rstrip()
    told = LocalError(
        f"{whose} has broken down; make a new Commander, and please report this:\n{story}"
    )
    told.__cause__ = error
    return told
