"""What calls wait for, as far as they have said so, and what is done about those that would wait
for ever: the call that cannot begin, and holds up the others, ends with a `DeadlockError`. If all
have begun, the last one that said it waits is told that what it waits for has ended so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from goliath.actors.endings import Broken
from goliath.actors.object_ref import ObjectRef
from goliath.actors.submission import Submission
from goliath.actors.user_actor import UserActor
from goliath.core.deadlock import Deadlock, Wait, find_deadlock
from goliath.core.ids import NodeId
from goliath.errors import DeadlockError
from goliath.record import frozen

LOOK_AFTER_S = 0.25
"""A circle has to be seen twice, with so much time between: a wait that has just ended, because its
call was cancelled, is still in the books until its worker has said so."""

Reported = tuple[NodeId, int, int]
"""Node, worker, and what the worker calls the wait."""


@frozen
class LongWait:
    """A call that waits, as its worker has reported it.

    Attributes:
        call: its task id.
        function: the name of its function, or of its actor's class.
        actor: whose call it is; None if it is no actor's.
        group: the concurrency group in which it runs there.
        refs: what it waits for.
        enough: how many of these have to end.
        stack: where it waits, as text.
    """

    call: str
    function: str
    actor: UserActor | None
    group: str
    refs: tuple[ObjectRef[Any], ...]
    enough: int
    stack: str

    def describe(self) -> str:
        """The call, for messages."""
        owner = "" if self.actor is None else f" ({self.actor.actor_id})"
        return f"call {self.call} of {self.function}{owner}"


class Waits:
    """Those of all workers.

    Args:
        later: calls something after so many seconds.
        refuse: tells a worker, of a node, that one of the calls it waits for has ended like this.
    """

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], None],
        refuse: Callable[[NodeId, int, str, DeadlockError], None],
    ) -> None:
        self._later = later
        self._refuse = refuse
        self._waits: dict[Reported, LongWait] = {}
        self._suspected: frozenset[str] = frozenset()
        self._looking = False

    def begin(self, reported: Reported, wait: LongWait) -> None:
        """A call waits."""
        self._waits[reported] = wait
        self._look_soon()

    def end(self, reported: Reported) -> None:
        """It does not wait any more."""
        self._waits.pop(reported, None)

    def worker_left(self, node: NodeId, worker: int) -> None:
        """None of its calls waits any more."""
        for reported in [key for key in self._waits if key[:2] == (node, worker)]:
            del self._waits[reported]

    def _look_soon(self) -> None:
        if not self._looking:
            self._looking = True
            self._later(LOOK_AFTER_S, self._look)

    def _look(self) -> None:
        self._looking = False
        books = _Books()
        for wait in self._waits.values():
            books.enter(wait)
        deadlock = find_deadlock(books.waits, books.queues, books.slots)
        before, self._suspected = self._suspected, frozenset(_calls_of(deadlock))
        if deadlock is None:
            return
        if self._suspected <= before:
            self._suspected = frozenset()
            self._break(deadlock, books)
        self._look_soon()  # whether it was broken, or to be seen again

    def _break(self, deadlock: Deadlock, books: _Books) -> None:
        known = {wait.call: wait for wait in self._waits.values()}
        error = _explained(deadlock, known, books)
        for call in deadlock.blocked:
            books.owners[call].refuse(books.refs[call], Broken(error))
        if not deadlock.blocked:
            self._refuse_last(deadlock, error)

    def _refuse_last(self, deadlock: Deadlock, error: DeadlockError) -> None:
        calls = {wait.call: wait for wait in deadlock.waits}
        for (node, worker, _), wait in reversed(self._waits.items()):
            if wait.call in calls:
                for call in calls.keys() & calls[wait.call].on:
                    self._refuse(node, worker, call, error)
                return


def _calls_of(deadlock: Deadlock | None) -> list[str]:
    return [] if deadlock is None else [*(w.call for w in deadlock.waits), *deadlock.blocked]


class _Books:
    """What is known of the calls that matter, for the mind that decides."""

    def __init__(self) -> None:
        self.waits: list[Wait] = []
        self.queues: dict[str, str] = {}
        self.slots: dict[str, int] = {}
        self.owners: dict[str, UserActor] = {}
        self.refs: dict[str, ObjectRef[Any]] = {}

    def enter(self, wait: LongWait) -> None:
        """A call waits for these, and they perhaps for others."""
        pending = [ref for ref in wait.refs if not ref.done()]
        enough = wait.enough - (len(wait.refs) - len(pending))
        if enough > 0:  # else it is about to hear that it may go on
            actor = "" if wait.actor is None else wait.actor.queue_of(wait.group)[0]
            on = tuple(ref.task_id for ref in pending)
            self.waits.append(Wait(wait.call, actor, on, enough))
            for ref in pending:
                self._enter_ref(ref)

    def _enter_ref(self, ref: ObjectRef[Any]) -> None:
        if ref.task_id in self.refs:
            return
        self.refs[ref.task_id] = ref
        maker = ref._calls.canceller
        if isinstance(maker, UserActor):
            queue, slots = maker.queue_of(ref._calls.group)
            self.queues[ref.task_id], self.slots[queue] = queue, slots
            self.owners[ref.task_id] = maker
        if isinstance(maker, Submission):
            arguments = [each for each in maker.arguments_of(ref) if not each.done()]
            if arguments:
                on = tuple(each.task_id for each in arguments)
                self.waits.append(Wait(ref.task_id, "", on, len(on)))
                for each in arguments:
                    self._enter_ref(each)


def _explained(deadlock: Deadlock, known: dict[str, LongWait], books: _Books) -> DeadlockError:
    lines, stacks = [], {}
    for number, wait in enumerate(deadlock.waits, 1):
        there = known.get(wait.call)
        if there is None:
            who, stack = f"call {wait.call}, which has not begun", ""
        else:
            who, stack = there.describe(), there.stack
            stacks[wait.call] = stack
        what = " and ".join(_described(call, known, books) for call in wait.on)
        lines.append(f"{number}. {who} waits for {what}\n{stack}")
    text = "".join(lines).rstrip("\n")
    return DeadlockError(
        "deadlock: calls of actors wait for one another, and would for ever. Let one of them "
        "return a ref instead of waiting for it, make its method async, or give its actor "
        f"max_concurrency\n{text}",
        stacks=stacks,
    )


def _described(call: str, known: dict[str, LongWait], books: _Books) -> str:
    if call in known:
        return known[call].describe()
    owner = books.owners.get(call)
    if owner is None:
        return f"call {call} of {books.refs[call].name}"
    return f"call {call}, for which {owner.name} ({owner.actor_id}) has no room before"
