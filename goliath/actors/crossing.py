"""What a call goes through on its way to where it is made, where that is this very process.

In local mode nothing: that is for debuggers. In the *strict* one, which is for tests, it goes the
way that a call to a worker goes, less the worker: function, arguments and result are pickled and
read again, with the same code. So what cannot be sent is refused here, too, in the same words;
and what a call changes about its arguments or its globals, nobody sees.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from types import CoroutineType
from typing import Any, Protocol

from goliath.actors import passing, results, stage
from goliath.actors.coroutines import CoroutineRunner
from goliath.actors.failures import call_text, failure_record
from goliath.actors.outcomes import Where, rebuild
from goliath.transport.functions import dump_function, load_function
from goliath.transport.rows import encode_single, load_row
from goliath.transport.serialization import load_value

HERE = "this process"


class Crossing(Protocol):
    """The way of a call, there and back."""

    def sent(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        there: bool = False,
    ) -> Callable[[], Any]:
        """What makes the call; ``there``: the function need not be sent, as a method of an actor.

        Raises:
            SerializationError: it cannot be sent.
        """

    def returned(self, value: Any) -> Any:
        """A result, as its caller gets it."""

    def raised(self, error: BaseException, name: str, number: int, call: str) -> BaseException:
        """What the caller gets for what a call has raised."""


class Direct:
    """No way at all."""

    def sent(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        there: bool = False,
    ) -> Callable[[], Any]:
        """See `Crossing.sent`."""
        return partial(function, *args, **kwargs)

    def returned(self, value: Any) -> Any:
        """See `Crossing.returned`."""
        return value

    def raised(self, error: BaseException, name: str, number: int, call: str) -> BaseException:
        """See `Crossing.raised`."""
        return error


class Strict:
    """By way of bytes. A function is pickled and read once, when it is first called."""

    def __init__(self) -> None:
        # With the function itself, so that no other one gets its id.
        self._loaded: dict[int, tuple[object, Callable[..., Any]]] = {}

    def sent(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        there: bool = False,
    ) -> Callable[[], Any]:
        """See `Crossing.sent`."""
        callee = function if there else self._sent_function(function)
        with passing.Collected():
            row = encode_single(args, dict(kwargs))

        def call() -> Any:
            args, kwargs = load_row(row)
            return callee(*args, **kwargs)

        return call

    def _sent_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        known = self._loaded.get(id(function))
        if known is None:
            with passing.Collected():
                pickled = dump_function(function)
            call = load_function(pickled.payload).call
            known = self._loaded[id(function)] = (function, call)
        return known[1]

    def returned(self, value: Any) -> Any:
        """See `Crossing.returned`."""
        pickled, _held = results.pickled_result(value)
        # `_held` are the refs in it, which live until they have been read.
        return load_value(pickled)

    def raised(self, error: BaseException, name: str, number: int, call: str) -> BaseException:
        """See `Crossing.raised`."""
        return rebuild(failure_record(error, call), Where(name, HERE), number)


mode: Crossing | None = None
"""How calls are made in this process; None: they are not, but sent off."""

_DIRECT = Direct()


def way() -> Crossing:
    """The way of a call that is made in this process."""
    return mode or _DIRECT


_NEVER_CAUGHT = (KeyboardInterrupt, stage.ActorExit)
"""The user's own Ctrl-C, and the end of an actor: neither is the outcome of a call."""


def begin(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    name: str,
    number: int = 0,
    there: bool = False,
) -> Callable[[], Any]:
    """What makes a call, and gives its value or raises what its caller gets.

    Args:
        function: of the call.
        args: its positional arguments.
        kwargs: its keyword arguments.
        name: what messages call the function.
        number: which of its calls it is.
        there: see `Crossing.sent`.

    Raises:
        SerializationError: it cannot be sent.
    """
    taken = way()
    call = taken.sent(function, args, kwargs, there=there)

    def make() -> Any:
        try:
            value = call()
            if type(value) is CoroutineType:
                value = run_to_its_end(value)
            return taken.returned(value)
        except _NEVER_CAUGHT:
            raise
        except BaseException as exc:
            told = taken.raised(exc, name, number, call_text(name, args, dict(kwargs)))
            if told is exc:
                raise
            raise told from told.__cause__

    return make


def run_to_its_end(coroutine: Any) -> Any:
    """The result of a coroutine, also where a loop runs already: that one waits, then."""
    asyncio = importlib.import_module("asyncio")  # see `coroutines`
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        runner = CoroutineRunner()
        try:
            return runner.run(coroutine)
        finally:
            runner.close()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, "goliath-inline") as pool:
        return pool.submit(asyncio.run, coroutine).result()
