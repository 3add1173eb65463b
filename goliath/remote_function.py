"""``@goliath.remote``: functions whose calls run elsewhere."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    ParamSpec,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from goliath import runtime
from goliath.actor_class import ActorClass
from goliath.actors.checks import STREAMING, RetryExceptions, checked_count
from goliath.actors.object_ref import ObjectRef, made_here, resolved, split
from goliath.actors.ref_generator import MadeHere, ObjectRefGenerator
from goliath.actors.ref_list import RefList
from goliath.actors.task import Strategy, Task

if TYPE_CHECKING:  # a worker that makes nested calls must stay small
    from goliath.actors.submission import Submission

P = ParamSpec("P")
T = TypeVar("T")


class TaskOptions(TypedDict, total=False):
    """Options of a remote function; each may be given to the decorator and to ``options``.

    Attributes:
        num_cpus: slots that a call takes; fractions are possible; default 1.
        num_gpus: GPUs that a call takes: a whole number, or a fraction of one; default 0. It finds
            their ids in ``CUDA_VISIBLE_DEVICES``, and sees no others.
        memory: bytes that a call takes of what its node offers: a reservation, which keeps too
            many from running at once, and no limit; default none.
        resources: what else it takes of its node, by name.
        num_returns: more than 1: the call returns so many items, and ``remote`` a ref for each.
            ``"streaming"``: it is a generator, and ``remote`` returns an `ObjectRefGenerator`,
            which yields the ref of each item as soon as that is made.
        max_retries: further executions after its worker died in it; 0: at most one; default 3.
        retry_exceptions: whether it is tried again, too, when it raises; or after which classes.
        timeout: seconds one execution may take before its worker is killed; default: any.
        name: what messages call it; default: the function's.
        priority: of calls that wait, those with the highest go first; default 0.
        scheduling_strategy: ``"DEFAULT"`` (where most room is), ``"SPREAD"`` (over all nodes
            evenly), or a `NodeAffinitySchedulingStrategy`.
        max_concurrency: how many calls of an ``async def`` function may run in one worker at the
            same time; default 100. Others run one at a time.
        requirements: packages that the nodes install for it, as for `Commander.run`. Calls that are
            made in a task run where that runs, with the packages that it has.
    """

    num_cpus: float
    num_gpus: float
    memory: int | None
    resources: Mapping[str, float]
    num_returns: int | Literal["streaming"]
    max_retries: int
    retry_exceptions: RetryExceptions
    timeout: float | None
    name: str
    priority: int
    scheduling_strategy: Strategy
    max_concurrency: int | None
    requirements: Sequence[str] | None


def _no_line() -> None:
    """Instead of a reference to where calls of a function wait."""


class RemoteFunction(Generic[P, T]):
    """A function that can be called here, and by `remote` elsewhere. Made by `goliath.remote`."""

    def __init__(self, function: Callable[P, T], options: TaskOptions) -> None:
        rest: dict[str, Any] = dict(options)
        self._num_returns = checked_count(rest.pop("num_returns", 1))
        unknown = rest.keys() - TaskOptions.__annotations__.keys()
        if unknown:
            raise TypeError(
                f"goliath.remote has no option {sorted(unknown)[0]!r}; it has "
                f"{', '.join(TaskOptions.__annotations__)}"
            )
        self._function = function
        self._options = options
        self._task = Task(function, **rest, streaming=self._num_returns == STREAMING)
        # Straight to where its calls wait: to ask for it each time is half of what a call costs.
        self._line: Callable[[], Submission | None] = _no_line
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<RemoteFunction {getattr(self, '__qualname__', self._function)!s}>"

    def __reduce__(self) -> Any:
        return _with_options, (self._function, self._options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it here, like any function."""
        return self._function(*args, **kwargs)

    @overload
    def remote(self, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[T]: ...
    @overload
    def remote(self, a: ObjectRef[Any], /, *args: Any, **kwargs: Any) -> ObjectRef[T]: ...
    @overload
    def remote(self, a: Any, b: ObjectRef[Any], /, *args: Any, **kwargs: Any) -> ObjectRef[T]: ...
    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call it on some worker.

        Arguments are taken as they are now. A ref among them is replaced by its result when the
        call is sent; a ref deeper inside an argument stays a ref.

        Returns:
            A ref to the result; a list of refs with ``num_returns``.

        Raises:
            SerializationError: the function or an argument cannot be pickled.
            ConnectionError: no Lieutenant was reached.
        """
        line = self._line()
        ref = None if line is None else line.submit(args, kwargs)
        if ref is None:  # it takes no more: its Commander is closed, or has others in its place
            ref = self._find_line(args, kwargs)
        return ref if self._num_returns == 1 else split(ref, self._num_returns)

    def _find_line(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRef[Any]:
        """Make a call, and keep in mind where the next one has to go."""
        if runtime.runs_here():
            return made_here(self._function, args, kwargs)
        ref = runtime.submit(self._task, args, kwargs)
        self._line = runtime.line_of(self._task) or _no_line
        return ref

    @overload
    def options(
        self, *, num_returns: Literal["streaming"], **options: Any
    ) -> StreamingFunction[P, Any]: ...
    @overload
    def options(self, **options: Unpack[TaskOptions]) -> RemoteFunction[P, T]: ...
    def options(self, **options: Any) -> Any:
        """The same function with other options."""
        return _with_options(self._function, {**self._options, **options})

    def map(self, items: Iterable[Any]) -> RefList[T]:
        """A call with each item as its only argument, all sent off together.

        All items are taken now. A million calls cost little more than those of a
        `Commander.run`: the refs are made when they are looked at, and `goliath.get` of them all
        looks at none.

        ::

            >>> import goliath
            >>> @goliath.remote
            ... def square(x):
            ...     return x * x
            >>> goliath.get(square.map(range(5)))
            [0, 1, 4, 9, 16]
            >>> goliath.shutdown()

        Returns:
            A sequence of refs in the order of the items; with ``num_returns``, a list of lists.

        Raises:
            SerializationError: the function or an item cannot be pickled; the calls before go on.
            ConnectionError: no Lieutenant was reached.
        """
        refs: RefList[T] = self._each(items, starred=False)
        return refs

    def starmap(self, items: Iterable[Iterable[Any]]) -> RefList[T]:
        """`map` with items that hold all (positional) arguments of their calls."""
        refs: RefList[T] = self._each(items, starred=True)
        return refs

    def _each(self, items: Iterable[Any], *, starred: bool) -> Any:
        if self._num_returns == 1 and runtime.sends_calls():
            return runtime.commander().submit_tasks(self._task, items, starred=starred)
        refs: list[Any] = [self.remote(*item) if starred else self.remote(item) for item in items]
        return RefList([refs]) if self._num_returns == 1 else refs


class StreamingFunction(RemoteFunction[P, T]):
    """One with ``num_returns="streaming"``: ``T`` is the type of its items."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call it here, like any generator function."""
        return self._function(*args, **kwargs)

    def remote(self, *args: Any, **kwargs: Any) -> ObjectRefGenerator[T]:  # type: ignore[override]
        """Call it on some worker (see `RemoteFunction.remote`)."""
        if runtime.runs_here():
            return ObjectRefGenerator(MadeHere(self._function, *resolved(args, kwargs)))
        return runtime.stream(self._task, args, kwargs)

    def map(self, items: Iterable[Any]) -> list[ObjectRefGenerator[T]]:  # type: ignore[override]
        """A call with each item as its only argument."""
        return [self.remote(item) for item in items]

    def starmap(  # type: ignore[override]
        self, items: Iterable[Iterable[Any]]
    ) -> list[ObjectRefGenerator[T]]:
        """`map` with items that hold all (positional) arguments of their calls."""
        return [self.remote(*item) for item in items]


def _with_options(function: Callable[..., Any], options: Any) -> RemoteFunction[..., Any]:
    streams = options.get("num_returns") == STREAMING
    return (StreamingFunction if streams else RemoteFunction)(function, options)


@overload
def remote(cls: type[T], /) -> ActorClass[...]: ...  # type: ignore[overload-overlap]  # mypy: a class is a callable, too
@overload
def remote(function: Callable[P, T], /) -> RemoteFunction[P, T]: ...
@overload
def remote(  # type: ignore[overload-overlap]  # of those that fit, the first is meant
    *, num_returns: Literal["streaming"], **options: Any
) -> Callable[[Callable[P, Iterable[T] | AsyncIterable[T]]], StreamingFunction[P, T]]: ...
@overload
def remote(
    **options: Unpack[TaskOptions],
) -> Callable[[Callable[P, T]], RemoteFunction[P, T]]: ...
def remote(function: Any = None, /, **options: Any) -> Any:
    """Make a function callable on workers: ``@goliath.remote``, or with options in brackets.

    Of a class, it makes a class of actors (see `goliath.actor_class`).

    ::

        >>> import goliath
        >>> @goliath.remote(max_retries=0)
        ... def add(a, b):
        ...     return a + b
        >>> add(1, 2), goliath.get(add.remote(1, 2))
        (3, 3)
        >>> goliath.get(add.remote(add.remote(1, 2), b=3))
        6
        >>> goliath.shutdown()

    Raises:
        TypeError: it is no function, or an option is unknown.
        ValueError: an option is out of range.
    """
    if function is None:
        return lambda decorated: remote(decorated, **options)
    if isinstance(function, type):
        return ActorClass(function, options)  # type: ignore[arg-type]  # checked there
    if isinstance(function, RemoteFunction):
        raise TypeError(f"{function!r} is remote already; use its options()")
    if not callable(function):
        raise TypeError(f"goliath.remote was given a {type(function).__name__}; it takes functions")
    return _with_options(function, options)
