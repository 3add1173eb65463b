"""Small actors and helpers for the tests of the actor runtime."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from goliath.actors.actor import Actor
from goliath.actors.supervisor import Child, Exit, Lifetime

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
TURNS_MAX = 10_000


def on_both_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine test on asyncio's loop and on uvloop's; nothing of it may be left."""

    @pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
    @functools.wraps(test)
    def run(loop: Callable[[], asyncio.AbstractEventLoop], **kwargs: Any) -> None:
        async def checked() -> None:
            await test(**kwargs)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"the test left tasks behind: {left}"

        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(checked())

    del run.__wrapped__  # its signature lacks the parameter
    run.__signature__ = _with_loop(test)  # type: ignore[attr-defined]
    return run


def _with_loop(test: Callable[..., Any]) -> Any:
    signature = inspect.signature(test)
    loop = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    return signature.replace(parameters=[*signature.parameters.values(), loop])


async def turns(count: int = 5) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - whatever it is that comes true
            await asyncio.sleep(0.001)


class Recorder(Actor):
    """Notes all that happens to it; obeys functions that it is told."""

    def __init__(self, log: list[Any] | None = None, name: str = "") -> None:
        self.log: list[Any] = [] if log is None else log
        self._name = name

    def _note(self, what: Any) -> None:
        self.log.append((self._name, what) if self._name else what)

    def started(self) -> None:
        self._note("started")

    def receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self._note(message)
        return message

    def on_timer(self) -> None:
        self._note("timer")

    def on_child_exit(self, child: Child, exit: Exit) -> None:  # noqa: A002
        self._note((child.name, exit.error))

    def stopping(self) -> None:
        self._note("stopping")


class FakeChild:
    """A child that is no actor, such as a process."""

    def __init__(
        self, name: str = "child", lifetime: Lifetime = Lifetime.TEMPORARY, log: Any = None
    ) -> None:
        self.name = name
        self.lifetime = lifetime
        self.log: list[str] = [] if log is None else log

    def stop(self) -> None:
        self.log.append(f"stop {self.name}")

    def restart(self) -> None:
        self.log.append(f"restart {self.name}")
