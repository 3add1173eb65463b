"""The actor runtime: mailboxes that are emptied, timers, supervision; one asyncio loop.

An actor handles its messages synchronously: a task per message would cost 3.3 µs, a wake-up
through ``asyncio.Queue`` one more loop turn. An actor that is idle, with nothing unread, handles
a message at once, in the turn of whoever tells it; otherwise the message waits in the mailbox.
Either way an actor handles one message at a time, in the order they came, and whatever it
raises stays with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from goliath.actors.actor import Actor
from goliath.actors.mailbox import ActorStoppedError, Envelope, Mailbox
from goliath.actors.obituary import note_crash
from goliath.actors.ref import ActorRef, AskableRef
from goliath.actors.supervisor import Child, Exit, Lifetime, Supervisor
from goliath.clock import BootClock, Clock


class LocalRef:
    """The ref of an actor in this loop."""

    __slots__ = ("_cell",)

    def __init__(self, cell: _Cell) -> None:
        self._cell = cell

    def __repr__(self) -> str:
        return f"<LocalRef {self.name}>"

    @property
    def name(self) -> str:
        """What messages and logs call the actor."""
        return self._cell.name

    def tell(self, message: Any) -> None:
        """See `ActorRef.tell`.

        Raises:
            MailboxFullError: the actor is hopelessly behind.
        """
        if self._cell.alive:
            self._cell.tell(message)

    def ask(self, message: Any) -> asyncio.Future[Any]:
        """See `AskableRef.ask`."""
        envelope = Envelope(message, self._cell.loop.create_future())
        assert envelope.reply is not None
        if self._cell.alive:
            self._cell.ask(envelope)
        else:
            envelope.refuse(ActorStoppedError(f"{self.name} has ended"), self._cell.error)
        return envelope.reply

    def stop(self) -> None:
        """End the actor after the messages it has been told so far."""
        self._cell.end_soon()


_STOP = object()


class _Cell:
    """One actor with all that keeps it alive. It is the actor's `Context` and, to the
    supervisor above, a `Child`."""

    def __init__(
        self,
        system: ActorSystem,
        factory: Callable[[], Actor],
        name: str,
        lifetime: Lifetime,
        above: Supervisor,
    ) -> None:
        self.loop = system.loop
        self.name = name
        self.lifetime = lifetime
        self.alive = False
        self.ref: AskableRef = LocalRef(self)
        self._system = system
        self._factory = factory
        self._above = above
        self.now = system.clock.now  # asked for every message
        self._mailbox = Mailbox(name)
        self._scheduled = False  # to be emptied: so long as anything is in the mailbox
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self.error: BaseException | None = None
        self._stopping = False

    def start(self) -> None:
        self._system.enter(self)
        self._children = self._supervisor()
        self.error = None
        self._stopping = False
        self.alive = True
        self._actor = Actor()  # until there is the real one: the factory may raise
        self._guarded(self._begin)

    def _begin(self) -> None:
        self._actor = self._factory()
        self._actor.context = self
        self._actor.started()

    def _supervisor(self) -> Supervisor:
        """Its children. Those of an earlier life are no news to a later one."""
        supervisor: Supervisor

        def on_exit(child: Child, exit: Exit) -> None:  # noqa: A002 - Erlang's word
            self._on_child_exit(child, exit, supervisor)

        supervisor = Supervisor(self.name, on_exit=on_exit, escalate=self._crash, now=self.now)
        return supervisor

    # -- the mailbox -------------------------------------------------------------------

    def tell(self, message: Any) -> None:
        if self._busy or self._scheduled:
            self._mailbox.put_nowait(Envelope(message))
            self._schedule()
        else:
            self._handle(message)

    def ask(self, envelope: Envelope) -> None:
        if self._busy or self._scheduled:
            self._mailbox.put_nowait(envelope)
            self._schedule()
        else:
            self._handle(envelope.message, envelope)

    def end_soon(self) -> None:
        if self.alive:
            self._mailbox.put_anyway(Envelope(_STOP))
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._drain)

    def _drain(self) -> None:
        try:
            self._empty()
        finally:
            self._scheduled = False
            if self._mailbox:
                self._schedule()

    def _empty(self) -> None:
        # All that is here now, however much: if only so many were handled, somebody who says
        # more than that in each turn of the loop would fill the mailbox for everybody else.
        for _ in range(len(self._mailbox)):
            if not self.alive or not self._mailbox:
                return
            envelope = self._mailbox.take()
            if envelope.message is _STOP:
                self._end()
                return
            self._handle(envelope.message, envelope)

    def _handle(self, message: Any, envelope: Envelope | None = None) -> None:
        self._busy = True
        try:
            answer = self._actor.receive(message)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the supervisor decides
            if envelope is not None:
                envelope.refuse(exc)
            self._crash(exc)
            return
        finally:
            self._busy = False
        if envelope is not None:
            envelope.answer(answer)
        if self._stopping:
            self._end()

    def _guarded(self, method: Callable[[], None]) -> None:
        busy, self._busy = self._busy, True
        try:
            method()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the supervisor decides
            self._crash(exc)
        finally:
            self._busy = busy

    # -- the context of the actor ------------------------------------------------------

    def wake_at(self, deadline: float) -> None:
        # A timer that is already due earlier will find out by itself: re-arming for every
        # batch would cost more than the few early wake-ups.
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        # uvloop rounds to milliseconds, down too: a timer that fires early would be set again
        # for the rest, which rounds to nothing, and so spin until the time has come.
        # (A wish for never is looked at again in a day.)
        milliseconds = int(min(max(deadline - self.now(), 0.0), 86_400.0) * 1000) + 1
        self._timer = self.loop.call_later(milliseconds / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self.alive:
            self._guarded(self._actor.on_timer)

    def spawn(self, factory: Callable[[], Actor], name: str, lifetime: Lifetime) -> ActorRef:
        return self._system.spawn_under(self._children, factory, f"{self.name}/{name}", lifetime)

    def adopt(self, child: Child) -> None:
        self._children.adopt(child)

    def child_exited(self, child: Child, exit: Exit) -> None:  # noqa: A002 - Erlang's word
        self._children.exited(child, exit)

    def run(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        if not self.alive:
            coroutine.close()
            return
        task = self.loop.create_task(coroutine, name=f"{self.name}: {name}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._on_task_done, self._children))

    def _on_task_done(self, life: Supervisor, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._system.changed()
        error = None if task.cancelled() else task.exception()
        if error is not None and self.alive and life is self._children:
            self._crash(error)

    def stop(self) -> None:
        if self.alive and not self._stopping:
            self._stopping = True
            self.end_soon()

    # -- the end -----------------------------------------------------------------------

    def _on_child_exit(
        self,
        child: Child,
        exit: Exit,  # noqa: A002 - Erlang's word
        of: Supervisor,
    ) -> None:
        self._system.changed()
        if self.alive and of is self._children:
            self._guarded(lambda: self._actor.on_child_exit(child, exit))

    def _crash(self, error: BaseException) -> None:
        if self.alive:
            self.error = self._actor.crash = error
            told, kept = self._actor.last_events(), self._actor.keep_journal(error)
            note_crash(error, self.name, told, kept)
            self._end()

    def _end(self) -> None:
        if not self.alive:
            return
        self.alive = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks:
            task.cancel()
        self._children.close()
        for envelope in self._mailbox.drain():
            refusal = ActorStoppedError(f"{self.name} stopped before it read this")
            envelope.refuse(refusal, self.error)
        try:
            self._actor.stopping()
        except Exception as exc:  # noqa: BLE001 - it is ending anyway; the first error counts
            self.error = self.error or exc
        self._system.changed()
        self._above.exited(self, Exit(self.error))

    def restart(self) -> None:
        self.start()

    def quiet(self) -> bool:
        """Whether nothing of the actor runs any more."""
        return not self.alive and not self._tasks and not len(self._children)


class ActorSystem:
    """The root of one loop's actors.

    Args:
        clock: tells the time to all of them.
        on_failure: told when supervision has failed up to the root.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = clock or BootClock()
        self.failure: BaseException | None = None
        self._on_failure = on_failure
        self._cells: set[_Cell] = set()
        self._changed = asyncio.Event()
        self._root = Supervisor(
            "the system", on_exit=self._on_exit, escalate=self._fail, now=self.clock.now
        )

    def spawn(
        self, factory: Callable[[], Actor], name: str, lifetime: Lifetime = Lifetime.TEMPORARY
    ) -> LocalRef:
        """Start an actor at the root."""
        return self.spawn_under(self._root, factory, name, lifetime)

    def spawn_under(
        self, above: Supervisor, factory: Callable[[], Actor], name: str, lifetime: Lifetime
    ) -> LocalRef:
        """Start an actor as somebody's child."""
        cell = _Cell(self, factory, name, lifetime, above)
        above.adopt(cell)
        cell.start()
        assert isinstance(cell.ref, LocalRef)
        return cell.ref

    def enter(self, cell: _Cell) -> None:
        """An actor starts, or starts again: `stop` has to wait for it."""
        self._cells.add(cell)

    async def stop(self) -> None:
        """Stop all actors, and wait until nothing of them runs."""
        self._root.close()
        while self._cells:
            self._changed.clear()
            await self._changed.wait()

    def changed(self) -> None:
        """Something ended: forget those of whom nothing is left."""
        self._cells = {cell for cell in self._cells if not cell.quiet()}
        self._changed.set()

    def _on_exit(self, child: Child, exit: Exit) -> None:  # noqa: A002 - Erlang's word
        if exit.error is not None:
            self._fail(exit.error)

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        if self._on_failure is not None:
            self._on_failure(error)
