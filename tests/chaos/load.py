"""The calls of a storm, and what became of each: a run, a run of calls to be made once at most, and
single calls, all at the same time."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goliath import Commander, NodeDiedError, ObjectRef, WorkerCrashedError
from tests.chaos.work import nap_of, once, value_of, work

IN_FLIGHT = 500  # of the single calls
PARTS = {"run": 0.6, "once": 0.25, "single": 0.15}  # of all calls


@dataclass(slots=True)
class Outcomes:
    """What was told of the calls of one kind, by their index."""

    expected: range
    values: dict[int, Any] = field(default_factory=dict)
    errors: dict[int, BaseException] = field(default_factory=dict)
    told: Counter[int] = field(default_factory=Counter)

    def note(self, index: int, outcome: Any) -> None:
        """A call has ended."""
        self.told[index] += 1
        if isinstance(outcome, BaseException):
            self.errors[index] = outcome
        else:
            self.values[index] = outcome

    def lost(self) -> list[int]:
        """Calls of which nothing was told."""
        return [index for index in self.expected if not self.told[index]]

    def doubled(self) -> list[int]:
        """Calls of which more was told than one outcome, and such as were never made."""
        return [i for i, times in self.told.items() if times > 1 or i not in self.expected]

    def wrong(self) -> list[int]:
        """Calls that have another value than they have returned."""
        return [index for index, value in self.values.items() if value != value_of(index)]


class Load:
    """So many calls by one Commander.

    Args:
        commander: of the cluster.
        calls: how many.
        folder: for the journal.
    """

    def __init__(self, commander: Commander, calls: int, folder: Path) -> None:
        self._commander = commander
        self.calls = calls
        self.journal = folder / "journal"
        self.outcomes: dict[str, Outcomes] = {}
        self.failures: list[BaseException] = []
        first = 0
        for kind, share in PARTS.items():
            last = calls if kind == "single" else first + int(calls * share)
            self.outcomes[kind] = Outcomes(range(first, last))
            first = last
        makers = (self._run, self._run_once, self._singles)
        self._threads = [
            # Daemons: what hangs is told, and must not keep whoever tells it.
            threading.Thread(target=self._guarded, args=(maker,), name=maker.__name__, daemon=True)
            for maker in makers
        ]

    def start(self) -> None:
        """Begin to make them."""
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> int:
        """How many have ended."""
        return sum(len(each.told) for each in self.outcomes.values())

    @property
    def over(self) -> bool:
        """Whether nobody waits for any any more."""
        return not any(thread.is_alive() for thread in self._threads)

    def join(self, seconds: float) -> None:
        """Wait for all, but not for ever."""
        for thread in self._threads:
            thread.join(seconds)

    def _guarded(self, maker: Callable[[], None]) -> None:
        try:
            maker()
        except BaseException as exc:  # noqa: BLE001 - told by whoever judges the storm
            self.failures.append(exc)

    def _run(self) -> None:
        outcomes = self.outcomes["run"]
        first = outcomes.expected.start
        got = self._commander.run(
            work,
            ({"index": n, "nap": nap_of(n)} for n in outcomes.expected),
            on_result=lambda place, outcome: outcomes.note(first + place, outcome),
        )
        assert got == [outcomes.values[n] for n in outcomes.expected], "the list is another one"

    def _run_once(self) -> None:
        outcomes = self.outcomes["once"]
        first = outcomes.expected.start
        got = self._commander.run(
            once,
            ({"index": n, "nap": nap_of(n)} for n in outcomes.expected),
            static={"journal": str(self.journal)},
            max_retries=0,
            return_exceptions=True,
            on_result=lambda place, outcome: outcomes.note(first + place, outcome),
        )
        assert len(got) == len(outcomes.expected), f"{len(got)} outcomes"

    def _singles(self) -> None:
        outcomes = self.outcomes["single"]
        flying: deque[tuple[int, ObjectRef[int]]] = deque()
        for index in outcomes.expected:
            flying.append((index, self._commander.submit(work, index, nap_of(index))))
            if len(flying) >= IN_FLIGHT:
                self._land(outcomes, *flying.popleft())
        for index, ref in flying:
            self._land(outcomes, index, ref)

    @staticmethod
    def _land(outcomes: Outcomes, index: int, ref: ObjectRef[int]) -> None:
        try:
            outcomes.note(index, ref.result())
        except Exception as exc:  # noqa: BLE001 - told by whoever judges the storm
            outcomes.note(index, exc)

    # -- what is wrong with it ---------------------------------------------------------------

    def complaints(self) -> Iterator[str]:
        """What must not be, in words."""
        for failure in self.failures:
            yield f"a maker of calls failed: {failure!r}"
        for kind, outcomes in self.outcomes.items():
            for what in ("lost", "doubled", "wrong"):
                found: list[int] = getattr(outcomes, what)()
                if found:
                    yield f"{what}: {len(found)} calls of {kind}, such as {found[:5]}"
        for kind in ("run", "single"):
            errors = self.outcomes[kind].errors
            if errors:
                yield f"failed: {len(errors)} calls of {kind}, such as {next(iter(errors.items()))}"
        yield from self._complaints_of_once()

    def _complaints_of_once(self) -> Iterator[str]:
        outcomes = self.outcomes["once"]
        began, ended = self.executions()
        twice = [index for index, times in began.items() if times > 1]
        if twice:
            yield f"begun more than once with max_retries=0: {twice[:5]}, {len(twice)} in all"
        unmade = [index for index in outcomes.values if not ended[index]]
        if unmade:
            yield f"values of calls that did not end: {unmade[:5]}, {len(unmade)} in all"
        for index, error in outcomes.errors.items():
            if not isinstance(error, WorkerCrashedError | NodeDiedError):
                yield f"call {index} failed, and not by a death: {error!r}"
            elif not error.maybe_executed:
                yield f"call {index} says that it was not executed, and was not repeated: {error!r}"

    def executions(self) -> tuple[Counter[int], Counter[int]]:
        """How often each of the calls that are made once at most began, and ended."""
        began: Counter[int] = Counter()
        ended: Counter[int] = Counter()
        for line in self.journal.read_text().splitlines():
            (began if line[0] == "+" else ended)[int(line[1:])] += 1
        return began, ended
