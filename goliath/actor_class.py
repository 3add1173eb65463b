"""``@goliath.remote`` on a class: actors, each an instance in a worker process of its own.

::

    >>> import goliath
    >>> @goliath.remote
    ... class Counter:
    ...     def __init__(self, start=0):
    ...         self.n = start
    ...     def add(self, k=1):
    ...         self.n += k
    ...         return self.n
    >>> counter = Counter.remote(10)
    >>> goliath.get([counter.add.remote(), counter.add.remote(5)])
    [11, 16]
    >>> named = Counter.options(name="hits").remote()
    >>> goliath.get(goliath.get_actor("hits").add.remote(3))
    3
    >>> goliath.kill(counter)
    >>> goliath.shutdown()
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypedDict, TypeVar, Unpack

from goliath import runtime
from goliath.actors import stage
from goliath.actors.blueprint import DEFAULT_NAMESPACE, Blueprint, name_taken
from goliath.actors.casting import MARK, Cast, cast
from goliath.actors.checks import checked_count, checked_requirements, checked_resources, needs
from goliath.actors.handles import ActorHandle
from goliath.actors.repertoire import DEFAULT_GROUP
from goliath.actors.supervisor import Lifetime
from goliath.actors.task import STRATEGIES, NodeAffinitySchedulingStrategy, Strategy
from goliath.core.batch import ACTORS
from goliath.transport.functions import dump_function
from goliath.transport.modules import Needs

if TYPE_CHECKING:  # a worker that has handles must stay small
    from goliath.actors.group import Group

P = ParamSpec("P")
A = TypeVar("A")
F = TypeVar("F", bound=Callable[..., Any])


class ActorOptions(TypedDict, total=False):
    """Options of an actor; each may be given to the decorator and to ``options``.

    Attributes:
        name: by which `goliath.get_actor` finds it, while it lives.
        namespace: names are unique within one; default: the common one.
        get_if_exists: whether ``remote`` returns the actor of that name if there is one.
        max_restarts: how often it is made again, by calling ``__init__`` again, after its process
            has died; default 0; -1: always (but see ``GOLIATH_ACTOR_RESTARTS_MAX``).
        restart_window_s: seconds within which more than ``max_restarts`` of them end it; default:
            as long as it lives.
        max_task_retries: how often a call is made again that was under way then; default 0: at
            most once; -1: always.
        max_pending_calls: calls that may wait for it; default -1: any number.
        max_concurrency: calls that may run at once, up to 1000: by default all of a class with
            ``async def`` methods, which share one loop, and one of any other; with more of such a
            one, its methods run in threads.
        concurrency_groups: by their names, how many calls of each group may run at once; `method`
            puts a method into one. Those in none are one more group, whose limit is
            ``max_concurrency``. Then plain methods run in threads, and coroutines in one loop.
        lifetime: None: it ends with its last handle, and with its Commander; "detached": it belongs
            to its node, stays until it is killed, and is found by any Commander of the same token.
            It needs a name.
        num_cpus: slots that it takes for as long as it lives; default 0.
        num_gpus: GPUs that it has for as long as it lives; default 0.
        memory: bytes of its node's memory that are reserved for it.
        resources: what else it takes of its node, by name.
        scheduling_strategy, requirements: as for functions.
    """

    name: str | None
    namespace: str | None
    get_if_exists: bool
    max_restarts: int
    restart_window_s: float | None
    max_task_retries: int
    max_pending_calls: int
    max_concurrency: int
    concurrency_groups: Mapping[str, int] | None
    lifetime: Literal["detached"] | None
    num_cpus: float
    num_gpus: float
    memory: int | None
    resources: Mapping[str, float] | None
    scheduling_strategy: Strategy
    requirements: Sequence[str] | None


class ActorClass(Generic[P]):
    """A class whose instances are actors. Made by `goliath.remote`."""

    def __init__(
        self, cls: Callable[P, Any], options: ActorOptions, known: Cast | None = None
    ) -> None:
        unknown = options.keys() - ActorOptions.__annotations__.keys()
        if unknown:
            raise TypeError(
                f"actors have no option {sorted(unknown)[0]!r}; they have "
                f"{', '.join(ActorOptions.__annotations__)}"
            )
        self._cls: Any = cls
        self._options = options
        _check(options)
        most, groups = options.get("max_concurrency"), options.get("concurrency_groups")
        self._cast = known or cast(self._cls, most, groups, leaves_out=_OF_ACTOR)
        functools.update_wrapper(self, cls, updated=())

    def __repr__(self) -> str:
        return f"<ActorClass {self._cls.__qualname__}>"

    def __reduce__(self) -> Any:
        # With what is known of the class: a method of it may name this, and then the class that is
        # read has no methods yet.
        return ActorClass, (self._cls, self._options, self._cast)

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError(
            f"{self._cls.__name__} is an actor class; make an actor by "
            f"{self._cls.__name__}.remote(...)"
        )

    def options(self, **options: Unpack[ActorOptions]) -> ActorClass[P]:
        """The same class with other options."""
        return ActorClass(self._cls, {**self._options, **options})

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> ActorHandle:
        """Make an actor. Returns at once; if ``__init__`` fails, its calls say so.

        The actor ends when the last handle of it is gone, in whatever process, after the calls
        that were made. A detached one does not; for such a one this returns when a node has taken
        it on, which it does when the results are there that are among the arguments.

        Raises:
            SerializationError: the class or an argument cannot be pickled.
            ValueError: there is an actor of that name (see ``get_if_exists``).
            ConnectionError: no Lieutenant was reached.
            ActorDiedError: of a detached one: no node has taken it on; the message says why.
        """
        options = self._options
        if options.get("lifetime") is not None and not options.get("name"):
            raise ValueError(
                f"{self._cls.__name__}: a detached actor needs a name, by which others find it and "
                'end it: .options(name="...", lifetime="detached")'
            )
        name, namespace = options.get("name") or "", options.get("namespace") or DEFAULT_NAMESPACE
        found = runtime.find_actor(name, namespace) if name else None
        if found is not None and options.get("get_if_exists"):
            return found
        if found is not None:
            raise name_taken(name)
        detached = options.get("lifetime") is not None
        return runtime.make_actor(
            self._cls,
            self._blueprint,
            args,
            kwargs,
            detached=detached,
            requirements=options.get("requirements"),
        )

    def remote_under(
        self, group: Group, lifetime: Lifetime, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ActorHandle:
        """Make an actor that a group's supervisor looks after (see `goliath.Supervisor`).

        Raises:
            ValueError: it is detached.
        """
        if self._options.get("lifetime") is not None:
            raise ValueError(
                f"{self._cls.__name__}: a detached actor belongs to its node, which makes it again "
                "by itself, and to no Supervisor; leave out lifetime, or make it by .remote()"
            )
        return runtime.make_actor(
            self._cls,
            self._blueprint,
            args,
            kwargs,
            group,
            lifetime,
            requirements=self._options.get("requirements"),
        )

    def _blueprint(
        self, actor_id: str, shipped: Container[str], needs: Needs | None = None
    ) -> Blueprint:
        cls, options = self._cls, self._options
        known = self._cast
        methods = stage.Methods(cls, actor_id, known.threads, known.awaited)
        strategy = options.get("scheduling_strategy", "DEFAULT")
        affine = isinstance(strategy, NodeAffinitySchedulingStrategy)
        detached = options.get("lifetime") is not None
        # So its node, which reads no outcome, is told whether ``__init__`` has raised.
        retry_on = (BaseException,) if detached else ()
        return Blueprint(
            dump_function(methods, retry_on=retry_on, shipped=shipped, needs=needs),
            float(options.get("num_cpus", 0)),
            _resources(options),
            strategy.node_id if affine else None,  # type: ignore[union-attr]  # as was just asked
            strategy.soft if affine else False,  # type: ignore[union-attr]
            known.repertoire,
            options.get("max_restarts", 0),
            options.get("restart_window_s"),
            options.get("max_task_retries", 0),
            options.get("max_pending_calls", -1),
            known.concurrency,
            options.get("name") or "",
            options.get("namespace") or DEFAULT_NAMESPACE,
            detached,
            options.get("get_if_exists", False),
        )


class Actor:
    """A base for actor classes, instead of the decorator: type checkers then know the class.

    ::

        >>> import goliath
        >>> class Greeter(goliath.Actor):
        ...     def greet(self, name):
        ...         return f"hello {name}"
        >>> greeter = Greeter.remote()
        >>> goliath.get(greeter.greet.remote("you"))
        'hello you'
        >>> Greeter().greet("me")
        'hello me'
        >>> goliath.shutdown()
    """

    @classmethod
    def remote(cls, *args: Any, **kwargs: Any) -> ActorHandle:
        """Make an actor (see `ActorClass.remote`)."""
        return ActorClass(cls, {}).remote(*args, **kwargs)

    @classmethod
    def options(cls, **options: Unpack[ActorOptions]) -> ActorClass[...]:
        """The class with options (see `ActorOptions`)."""
        return ActorClass(cls, options)


def _resources(options: ActorOptions) -> dict[str, float]:
    wanted = needs(options.get("resources"), options.get("num_gpus", 0), options.get("memory"))
    return {**wanted, ACTORS: 1.0}


def _check(options: ActorOptions) -> None:
    for name in ("max_restarts", "max_task_retries", "max_pending_calls"):
        value = options.get(name, 0)
        if type(value) is not int or value < -1:
            raise ValueError(f"{name}={value!r}; it is -1, 0 or a positive integer")
    window = options.get("restart_window_s")
    if window is not None and not window > 0:
        raise ValueError(f"restart_window_s={window!r}; it is a positive number of seconds")
    lifetime = options.get("lifetime")
    if lifetime not in (None, "detached"):
        raise ValueError(f"lifetime={lifetime!r}; it is None or 'detached'")
    checked_requirements(options.get("requirements"))
    if not options.get("num_cpus", 0) >= 0:
        raise ValueError(f"num_cpus={options['num_cpus']!r}; it is 0 or a positive number")
    checked_resources(options.get("resources"))
    _resources(options)
    strategy = options.get("scheduling_strategy", "DEFAULT")
    if not isinstance(strategy, NodeAffinitySchedulingStrategy) and strategy not in STRATEGIES:
        raise ValueError(
            f"scheduling_strategy={strategy!r}; it is 'DEFAULT', 'SPREAD' or a "
            "NodeAffinitySchedulingStrategy"
        )


_OF_ACTOR = (Actor.remote.__func__, Actor.options.__func__)  # type: ignore[attr-defined]


def method(
    *,
    num_returns: int | Literal["streaming"] | None = None,
    concurrency_group: str = DEFAULT_GROUP,
) -> Callable[[F], F]:
    """Options of an actor's method.

    ::

        >>> import goliath
        >>> @goliath.remote(concurrency_groups={"io": 2})
        ... class Reader:
        ...     @goliath.method(concurrency_group="io")
        ...     def read(self, name):
        ...         return f"contents of {name}"
        ...     @goliath.method(num_returns=2)
        ...     def split(self, text):
        ...         return text[0], text[1:]
        >>> reader = Reader.remote()
        >>> goliath.get(reader.read.remote("a"))
        'contents of a'
        >>> goliath.get(reader.split.remote("ab"))
        ['a', 'b']
        >>> goliath.shutdown()

    Args:
        num_returns: more than 1: the method returns so many items, and ``remote`` a ref for each.
            ``"streaming"``: ``remote`` returns an `ObjectRefGenerator`, which yields the ref of
            each item as soon as that is made. Default: ``"streaming"`` of a generator function, 1
            of any other.
        concurrency_group: one of the ``concurrency_groups`` of the class; default: none of them.

    Raises:
        ValueError: ``num_returns`` is something else. That there is no such group is said when
            the class is made one of actors.
    """
    if num_returns is not None:
        checked_count(num_returns)

    def mark(function: F) -> F:
        setattr(function, MARK, (num_returns, concurrency_group))
        return function

    return mark


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """The actor that was made with this ``name``, and is alive: one that this Commander has made,
    or a detached one on any of its nodes, whoever has made that.

    Raises:
        ValueError: there is none.
    """
    found = runtime.find_actor(name, namespace or DEFAULT_NAMESPACE)
    if found is None:
        raise ValueError(
            f"there is no actor called {name!r}; it has ended, nobody holds a handle of it, or it "
            "is in another namespace"
        )
    return found


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """End an actor at once: what runs is interrupted, and its calls end with `ActorDiedError`. A
    detached one ends for all Commanders.

    Args:
        actor: its handle.
        no_restart: False: it is as if its process had died, and counts as one of
            ``max_restarts``.

    Raises:
        TypeError: it is no handle.
    """
    if not isinstance(actor, ActorHandle):
        raise TypeError(
            f"goliath.kill was given a {type(actor).__name__}; it takes the handle of an actor "
            "(goliath.cancel ends a call)"
        )
    actor._grip.kill(no_restart=no_restart)


def exit_actor() -> None:
    """End the actor whose method calls this, after this call, which returns None.

    Raises:
        RuntimeError: this is not called in an actor.
    """
    if stage.instance is None and not runtime.runs_here():
        raise RuntimeError("goliath.exit_actor() was called outside of an actor's method")
    runtime.leave_actor()
    raise stage.ActorExit
