"""Which calls wait for one another for ever.

A call that waits occupies its actor. A call that has not begun begins when its actor has a slot. So
a wait is hopeless if too much of what it waits for is: a call that hopelessly waits itself, or one
that has not begun, of an actor all of whose slots are taken by such calls. Everything else is given
the benefit of the doubt: whoever runs and does not say that it waits may end at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from goliath.record import frozen


@frozen
class Wait:
    """A call that has begun, and cannot go on.

    Attributes:
        call: its task id.
        actor: whose slot it takes; empty: nobody's. (An actor with concurrency groups counts as
            several.)
        on: task ids of the calls that it waits for.
        enough: how many of them have to end, for it to go on.
    """

    call: str
    actor: str
    on: tuple[str, ...]
    enough: int


@frozen
class Deadlock:
    """Calls that wait for one another in circles.

    Attributes:
        waits: those that have begun, in the order in which they were given.
        blocked: task ids of those that have not, and hold up the others.
    """

    waits: tuple[Wait, ...]
    blocked: tuple[str, ...]


def find_deadlock(
    waits: Sequence[Wait], queues: Mapping[str, str], slots: Mapping[str, int]
) -> Deadlock | None:
    """The circles among calls, without those who only wait for somebody in one.

    Args:
        waits: calls that wait, each once.
        queues: for calls of actors that are waited for: whose they are. Those that wait have begun;
            of the others it is not known.
        slots: how many calls of each of these actors may run at once.
    """
    stuck = _hopeless(waits, queues, slots)
    full = _full(stuck.values(), slots)
    kept_out = {
        call: actor for call, actor in queues.items() if call not in stuck and actor in full
    }
    ahead = {call: _ahead(wait, stuck, kept_out) for call, wait in stuck.items()}
    circle = {call for call in stuck if call in _reached(call, ahead)}
    if not circle:
        return None
    busy = {stuck[call].actor for call in circle}
    blocked = {
        call: None
        for wait in waits
        if wait.call in circle
        for call in wait.on
        if kept_out.get(call) in busy
    }
    return Deadlock(tuple(wait for wait in waits if wait.call in circle), tuple(blocked))


def _hopeless(
    waits: Iterable[Wait], queues: Mapping[str, str], slots: Mapping[str, int]
) -> dict[str, Wait]:
    """Those that are left when everybody who may go on, has."""
    stuck = {wait.call: wait for wait in waits}
    while True:
        full = _full(stuck.values(), slots)
        ended = [
            call
            for call, wait in stuck.items()
            if sum(on not in stuck and queues.get(on) not in full for on in wait.on) >= wait.enough
        ]
        if not ended:
            return stuck
        for call in ended:
            del stuck[call]


def _full(stuck: Iterable[Wait], slots: Mapping[str, int]) -> set[str]:
    taken: dict[str, int] = {}
    for wait in stuck:
        taken[wait.actor] = taken.get(wait.actor, 0) + 1
    return {actor for actor, most in slots.items() if taken.get(actor, 0) >= most}


def _ahead(wait: Wait, stuck: Mapping[str, Wait], kept_out: Mapping[str, str]) -> set[str]:
    """The calls that have to end before this one goes on."""
    running = {call for call in wait.on if call in stuck}
    owners = {kept_out[call] for call in wait.on if call in kept_out}
    return running | {call for call, other in stuck.items() if other.actor in owners}


def _reached(start: str, ahead: Mapping[str, set[str]]) -> set[str]:
    """All that is ahead of a call, directly or not."""
    reached: set[str] = set()
    front = set(ahead[start])
    while front:
        reached |= front
        front = {after for call in front for after in ahead[call]} - reached
    return reached
