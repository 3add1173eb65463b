"""Runs in place: one call after the other, in the thread that asks for them.

In a worker, because a shipped module may call ``run`` when it is imported: that must neither start
another cluster nor send itself round in circles. And wherever calls are made in this process
(see `goliath.actors.crossing`).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

from goliath.actors import crossing
from goliath.actors.signatures import Checker, at
from goliath.record import record
from goliath.transport.functions import function_name


@record
class InlineCalls:
    """The calls of one run; ``on_result`` and ``return_exceptions`` as for any other run."""

    function: Callable[..., Any]
    static: Mapping[str, Any] | None = None
    return_exceptions: bool = False
    on_result: Callable[[int, Any], None] | None = None
    _index: int = 0
    _checker: Checker | None = None

    def make(self, item: Any) -> Any:
        """Make the next call; its outcome."""
        try:
            self._check(item)
            args, kwargs = (item, {}) if isinstance(item, tuple) else ((), item)
            outcome = crossing.begin(
                self.function,
                args,
                {**kwargs, **(self.static or {})},
                name=function_name(self.function),
                number=self._index,
            )()
        except Exception as exc:
            if not self.return_exceptions:
                raise
            outcome = exc
        if self.on_result is not None:
            self.on_result(self._index, outcome)
        self._index += 1
        return outcome

    def _check(self, item: Any) -> None:
        if self._checker is None:
            self._checker = Checker(self.function, self.static or {})
        wrong = self._checker.check([item])
        if wrong is not None:
            raise at(wrong[1], self._index)

    def iterate(self, args: Iterable[Any]) -> Iterator[Any]:
        """The outcomes of the calls, each made when it is asked for."""
        return map(self.make, args)

    async def aiterate(self, args: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
        """The same for ``async for``, also over an async iterable."""
        if isinstance(args, AsyncIterable):
            async for item in args:
                yield self.make(item)
        else:
            for item in args:
                yield self.make(item)
