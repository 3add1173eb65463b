"""A run of a Commander in a thread of its own, while the test breaks things."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from goliath import Commander
from goliath.testing.processes import until
from tests.faults.promises import Journal, execute

STUCK = {"GOLIATH_TEST_STUCK": "1"}
"""Environment of a node on which no call of `stuck_there` ends by itself."""


def stuck_there(journal: str, call: int, seconds: float) -> object:
    """Takes as long as it should, or for ever."""
    return execute(journal, call, 3600 if os.environ.get("GOLIATH_TEST_STUCK") else seconds)


class Running:
    """So many calls, of `execute` or the like; exceptions stand in their places.

    Args:
        commander: runs them.
        journal: where they write what becomes of them.
        calls: how many.
        seconds: that each of them takes.
        function: takes the path of the journal, the number of the call, and the seconds.
        options: of `Commander.run`.
    """

    def __init__(
        self,
        commander: Commander,
        journal: Journal,
        calls: int,
        seconds: float = 0.0,
        function: Callable[[str, int, float], object] = execute,
        **options: Any,
    ) -> None:
        self.finished = 0
        self._outcomes: list[Any] | BaseException | None = None
        rows = [(journal.path, call, seconds) for call in range(calls)]
        options = {"return_exceptions": True, "on_result": self._on_result, **options}

        def run() -> None:
            try:
                self._outcomes = commander.run(function, rows, **options)
            except BaseException as exc:  # noqa: BLE001 - it is raised in the test's thread
                self._outcomes = exc

        self._thread = threading.Thread(target=run, name="running")
        self._thread.start()

    def _on_result(self, _index: int, _outcome: object) -> None:
        self.finished += 1

    @property
    def ended(self) -> bool:
        """Whether all of it is done."""
        return not self._thread.is_alive()

    def finishes(self, more: int, within: float) -> float:
        """Wait until so many more calls have an outcome; returns the seconds it took."""
        enough = self.finished + more
        return until(lambda: self.finished >= enough or self.ended, within, f"{more} more done")

    def outcomes(self, within: float) -> list[Any]:
        """All of them, when it has ended."""
        self._thread.join(within)
        assert self.ended, f"still running after {within} s, {self.finished} calls done"
        if isinstance(self._outcomes, BaseException):
            raise self._outcomes
        assert self._outcomes is not None
        return self._outcomes
