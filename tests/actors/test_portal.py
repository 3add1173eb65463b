"""The loop in a background thread, and the door to it."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from goliath.actors import portal as portal_module
from goliath.actors.portal import BURST, Portal, PortalClosedError, new_event_loop
from tests.actors.runtime import Recorder


@pytest.fixture(params=["0", "1"], ids=["asyncio", "uvloop"])
def portal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Portal]:
    monkeypatch.setenv("GOLIATH_UVLOOP", request.param)
    portal = Portal("test-portal")
    yield portal
    portal.close()


def wait_for(portal: Portal) -> None:
    """Return when everything posted before has been done."""
    done = threading.Event()
    portal.post(done.set)
    assert done.wait(5)


def test_what_is_posted_is_done_in_the_loops_thread_in_the_order_of_posting(portal: Portal):
    seen: list[object] = []
    for number in range(10 * BURST):
        portal.post(seen.append, number)
    portal.post(lambda: seen.append(threading.current_thread().name))
    wait_for(portal)
    assert seen == [*range(10 * BURST), "test-portal"]


def test_the_loop_takes_over_no_context_variables_of_those_who_wake_it(portal: Portal):
    cell = ContextVar("cell", default="that of nobody")
    seen: list[str] = []

    async def look() -> None:
        seen.append(cell.get())

    cell.set("the first")
    for number in range(2 * BURST):
        portal.post(lambda number=number: seen.append(cell.get()))
    portal.start(look()).result(5)
    wait_for(portal)
    assert set(seen) == {"that of nobody"}


def test_a_thread_that_posts_much_does_not_keep_the_loop_from_everything_else(portal: Portal):
    order: list[str] = []

    async def something_else() -> None:
        order.append("something else")

    gate = threading.Event()
    portal.post(gate.wait)
    for _ in range(100 * BURST):
        portal.post(order.append, "posted")
    task = portal.start(something_else())
    gate.set()
    task.result(5)
    wait_for(portal)
    assert order.index("something else") <= 10 * BURST
    assert order.count("posted") == 100 * BURST


def test_what_raises_does_not_swallow_what_was_posted_behind_it(portal: Portal):
    complaints: list[object] = []

    async def listen() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context["exception"])
        )

    portal.call(listen())
    gate, done = threading.Event(), threading.Event()
    portal.post(gate.wait)
    portal.post(lambda: 1 / 0)
    portal.post(done.set)
    gate.set()
    assert done.wait(5)
    assert [type(exc) for exc in complaints] == [ZeroDivisionError]


def test_a_kick_mends_what_an_interrupt_in_the_middle_of_a_post_left(portal: Portal):
    wait_for(portal)
    portal._kicked = True  # as if KeyboardInterrupt had struck between the flag and the deed
    done = threading.Event()
    portal.post(done.set)
    assert not done.wait(0.02)
    portal.kick()
    assert done.wait(5)


def test_a_coroutine_can_be_called_and_started(portal: Portal):
    async def work(value: int) -> int:
        await asyncio.sleep(0)
        return value

    assert portal.call(work(1)) == 1
    assert portal.start(work(2)).result(5) == 2
    with pytest.raises(ZeroDivisionError):
        portal.call(raises())


async def raises() -> None:
    raise ZeroDivisionError


def test_an_actor_can_be_asked_from_any_thread(portal: Portal):
    from goliath.actors.system import ActorSystem

    async def begin() -> ActorSystem:
        return ActorSystem()

    system = portal.call(begin())
    ref = portal.ask(lambda: spawn(system))
    assert portal.ask(lambda: ref.ask("hello")) == "hello"
    portal.call(system.stop())


async def spawn(system: object) -> object:
    return system.spawn(Recorder, "it")  # type: ignore[attr-defined]


def test_a_closed_portal_says_so(portal: Portal):
    portal.close()
    portal.close()
    assert portal.closed
    with pytest.raises(PortalClosedError, match="test-portal is closed; make a new one"):
        portal.post(print)
    with pytest.raises(PortalClosedError, match="is closed"):
        portal.call(raises())


def test_what_was_posted_before_the_end_is_done_and_what_was_not_is_refused(portal: Portal):
    done: list[int] = []
    gate = threading.Event()
    portal.post(gate.wait)
    closer = threading.Thread(target=portal.close)
    closer.start()
    posted = _post_until_closed(portal, done)
    gate.set()
    closer.join()
    assert len(done) >= posted


def _post_until_closed(portal: Portal, done: list[int]) -> int:
    posted = 0
    while True:
        try:
            portal.post(done.append, 1)
        except PortalClosedError:
            return posted
        posted += 1


def test_tasks_that_still_run_at_the_end_are_cancelled_and_awaited(portal: Portal):
    ended: list[str] = []
    begun = threading.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("ended")

    future = portal.start(work())
    assert begun.wait(5)
    portal.close()
    assert ended == ["ended"]
    assert future.cancelled()


def test_the_loops_own_thread_is_not_let_to_wait_for_itself(portal: Portal):
    refused: list[str] = []

    def call_myself() -> None:
        for wait in (lambda: portal.call(raises()), portal.close):
            try:
                wait()
            except RuntimeError as exc:
                refused.append(str(exc))

    portal.post(call_myself)
    wait_for(portal)
    assert len(refused) == 2
    assert "called back by test-portal in its own thread" in refused[0]
    assert not portal.closed


def test_a_forked_child_is_told_to_make_its_own(portal: Portal):
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, from 3.12 on
        pid = os.fork()
    if not pid:
        try:
            assert portal.closed
            portal.close()
            try:
                portal.post(print)
            except PortalClosedError as exc:
                os.write(writer, str(exc).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    assert "forked from one that had a Commander" in text
    assert "make a new Commander here" in text
    assert not portal.closed


def test_uvloop_is_used_unless_it_is_declined(monkeypatch: pytest.MonkeyPatch):
    for value, module in (("1", "uvloop"), ("0", "asyncio.unix_events")):
        monkeypatch.setenv("GOLIATH_UVLOOP", value)
        loop = new_event_loop()
        assert type(loop).__module__ == module
        loop.close()


def test_many_threads_may_post_at_once(portal: Portal):
    seen: list[int] = []

    def post_many() -> None:
        for number in range(2000):
            portal.post(seen.append, number)

    threads = [threading.Thread(target=post_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(portal)
    assert len(seen) == 8000
    assert portal_module.BURST < 8000
