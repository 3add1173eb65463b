"""``goliath replay``: the journal of a crashed mind, told to a fresh one."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

from goliath.actors.recording import Crash, Recording, plain, read
from goliath.core.observation import replay
from goliath.errors import GoliathError

FAILED = 1


def replay_file(path: Path, *, as_json: bool) -> int:
    """Tell a fresh mind what one was told that crashed, and print each event with what it commands.

    Returns:
        The exit code: 0 if that ends as it did then, 1 if it does not.

    Raises:
        VersionMismatchError: another version of Goliath has written the journal.
        GoliathError: it is none, or has not all that the mind was told.
        OSError: it cannot be read.
    """
    recording = read(path)
    if not recording.whole:
        raise GoliathError(
            f"{path} has only the last {len(recording.entries)} events of a mind that "
            "was told more than are kept; a fresh one cannot do what it did"
        )
    crash = _tell(recording, as_json=as_json)
    return _compare(recording, crash, as_json=as_json)


def _tell(recording: Recording, *, as_json: bool) -> Exception | None:
    """Tell a fresh mind, and print; what it raised at the end."""
    steps = replay(recording.fresh_mind(), recording.entries, check=recording.checked)
    for now, event, commands in steps:
        if isinstance(commands, Exception):
            _print_step(now, event, [], as_json=as_json)
            return commands
        _print_step(now, event, commands, as_json=as_json)
    return None


def _print_step(now: float, event: object, commands: list[object], *, as_json: bool) -> None:
    if as_json:
        step = {"time": now, "event": plain(event), "commands": plain(commands)}
        print(json.dumps(step, allow_nan=False))
        return
    print(f"{now:.6f} {event!r}")
    for command in commands:
        print(f"    {command!r}")


def _compare(recording: Recording, error: Exception | None, *, as_json: bool) -> int:
    then, now = recording.crash, Crash.of(error) if error is not None else None
    same = now == then if then.frames else now is None
    if as_json:
        ended = None if now is None else now.error
        print(json.dumps({"crash": ended, "recorded": then.error, "same": same}))
    else:
        if error is not None:
            print("".join(traceback.format_exception(error)).rstrip())
        print(_verdict(recording, now, same=same))
    return 0 if same else FAILED


def _verdict(recording: Recording, now: Crash | None, *, same: bool) -> str:
    then, events = recording.crash, len(recording.entries)
    if same and now is None:
        return (
            f"the mind bears all {events} events: the crash was outside of it, while a command was "
            f"obeyed: {then.error}"
        )
    if same:
        return f"it ends as it did, after {events} events: {then.error}"
    ended = (
        "it bears all of it now" if now is None else f"now it ends with {now.error} {now.frames}"
    )
    return f"{ended}; it ended with {then.error} {then.frames}"
