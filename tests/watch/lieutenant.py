"""The node command, watched from within: ``python -m tests.watch.lieutenant HOST PORT …``.

In the folder that ``GOLIATH_TEST_WATCH`` names it notes each pickle that its process looks into,
and every frame that it says or hears. Only this process: its zygote and workers are other programs.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = "GOLIATH_TEST_WATCH"
FRAME_MAX_BYTES = 8 * 1024  # of a frame that is noted whole
FRAMES_MAX = 40  # of a kind, one way


def _file(folder: Path, name: str) -> Callable[[dict[str, Any]], None]:
    out = (folder / f"{os.getpid()}.{name}").open("a", buffering=1)

    def note(what: dict[str, Any]) -> None:
        out.write(json.dumps(what) + "\n")

    return note


def watch_pickles(note: Callable[[dict[str, Any]], None]) -> None:
    """Note whoever begins to unpickle anything, and each class that a pickle names."""

    def told(what: str) -> None:
        note({"what": what, "stack": "".join(traceback.format_stack()[:-2])})

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class":
            told(".".join(map(str, arguments)))

    class Unpickler(pickle.Unpickler):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            told("an Unpickler")
            super().__init__(*args, **kwargs)

    def told_first(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            told(function.__name__)
            return function(*args, **kwargs)

        return call

    sys.addaudithook(audit)
    pickle.loads, pickle.load = told_first(pickle.loads), told_first(pickle.load)
    pickle.Unpickler = Unpickler  # type: ignore[misc]
    pickle.loads(pickle.dumps(Counter()))  # the alarm works


def watch_frames(note: Callable[[dict[str, Any]], None]) -> None:
    """Note the frames of sessions and of workers' sockets, as they are on the wire."""
    from goliath.actors import line
    from goliath.transport.protocol import SessionProtocol

    seen: Counter[tuple[str, str]] = Counter()

    def noted(way: str, frame: Any) -> None:
        size = int.from_bytes(frame[:4], "little")
        kind = json.loads(bytes(frame[8 : 8 + size]))["t"]
        if kind == "part":
            frame = frame[: 8 + size + 64]
        if len(frame) > FRAME_MAX_BYTES:
            frame = frame[:FRAME_MAX_BYTES]
        seen[way, kind] += 1
        if seen[way, kind] <= FRAMES_MAX:
            note({"way": way, "kind": kind, "frame": bytes(frame).hex()})

    next_frame, receive_frame = SessionProtocol.next_frame, SessionProtocol.receive_frame
    pack, unpack = line.pack_pipe_frame, line.unpack_frame

    def leaving(self: SessionProtocol, now: float) -> bytes | None:
        frame = next_frame(self, now)
        if frame is not None:
            noted("to the Commander", frame)
        return frame

    def arriving(self: SessionProtocol, frame: Any, now: float) -> Any:
        noted("from the Commander", frame)
        return receive_frame(self, frame, now)

    def packing(message: Any, lender: Any = None) -> list[Any]:
        head, *others = parts = pack(message, lender)
        noted("to a worker", b"".join((head[line.LENGTH.size :], *others)))
        return parts

    def unpacking(frame: Any, *, checksum: bool) -> Any:
        noted("from a worker", frame)
        return unpack(frame, checksum=checksum)

    SessionProtocol.next_frame = leaving  # type: ignore[method-assign]
    SessionProtocol.receive_frame = arriving  # type: ignore[method-assign]
    line.pack_pipe_frame, line.unpack_frame = packing, unpacking


def main() -> int:
    folder = Path(os.environ[FOLDER])
    watch_pickles(_file(folder, "pickles"))
    watch_frames(_file(folder, "frames"))
    from goliath.lieutenant import main as lieutenant

    return lieutenant()


if __name__ == "__main__":
    sys.exit(main())
