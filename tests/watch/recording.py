"""What two Lieutenants have said, heard and unpickled while everything was done with them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goliath.testing import Node
from tests.transport.every_message import MESSAGES
from tests.watch.everything import ENVIRONMENT, everything
from tests.watch.lieutenant import FOLDER

ROOT = Path(__file__).parents[2]
NODES = 2


@dataclass(frozen=True, slots=True)
class Said:
    """One frame: ``way`` is ``"to"`` or ``"from"``, and ``"the Commander"`` or ``"a worker"``."""

    way: str
    kind: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class Recording:
    """All of it: the frames of each Lieutenant in their order, and what each has unpickled.

    ``errors`` is what they have written to stderr.
    """

    frames: list[list[Said]]
    pickles: list[list[dict[str, str]]]
    errors: list[str]

    @property
    def unsaid(self) -> set[str]:
        """The kinds of messages that nobody has said."""
        return MESSAGES.keys() - {said.kind for frames in self.frames for said in frames}


def record(folder: Path) -> Recording:
    """Do everything, and look at it."""
    watched, files = folder / "watched", folder / "files"
    watched.mkdir()
    files.mkdir()
    env = {FOLDER: str(watched), "PYTHONPATH": str(ROOT), **ENVIRONMENT}
    launcher = ("-m", "tests.watch.lieutenant")
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(Node(1, env=env, launcher=launcher, timers={}))
            for _ in range(NODES)
        ]
        everything(nodes, files)
        for node in nodes:
            node.stop()
        errors = [node.err for node in nodes]
    frames = [
        [Said(line["way"], line["kind"], bytes.fromhex(line["frame"])) for line in lines]
        for lines in _lines(watched, "frames")
    ]
    return Recording(frames, list(_lines(watched, "pickles")), errors)


def _lines(folder: Path, what: str) -> Iterator[list[dict[str, Any]]]:
    for file in sorted(folder.glob(f"*.{what}")):
        yield [json.loads(line) for line in file.read_text().splitlines()]
