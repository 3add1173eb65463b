"""Runs inside a worker: in place, one call after the other.

A shipped module may call ``run`` when it is imported. In a worker that must neither start
another cluster nor send itself round in circles, so the calls are made right there.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

from goliath.record import record


@record
class InlineCalls:
    """The calls of one run; ``on_result`` and ``return_exceptions`` as for any other run."""

    function: Callable[..., Any]
    static: Mapping[str, Any] | None = None
    return_exceptions: bool = False
    on_result: Callable[[int, Any], None] | None = None
    _index: int = 0

    def make(self, item: Any) -> Any:
        """Make the next call; its outcome."""
        try:
            args, kwargs = (item, {}) if isinstance(item, tuple) else ((), item)
            outcome = self.function(*args, **kwargs, **(self.static or {}))
        except Exception as exc:
            if not self.return_exceptions:
                raise
            outcome = exc
        if self.on_result is not None:
            self.on_result(self._index, outcome)
        self._index += 1
        return outcome

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
