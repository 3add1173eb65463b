"""The Commander: hands sets of calls to Lieutenants and gives back their results.

Example:
    >>> from goliath import Commander
    >>> def foo(bar, baz):
    ...     return str(bar) + str(baz)
    >>> with Commander(workers=2) as cmdr:
    ...     cmdr.run(foo, ({'bar': i, 'baz': 0} for i in range(3)))
    ['00', '10', '20']
"""

from __future__ import annotations

import asyncio
import os
import random
import weakref
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, closing
from functools import partial
from itertools import count
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack
from weakref import ReferenceType

from goliath.actors import crossing, nested, passing
from goliath.actors.bell import ThreadBell
from goliath.actors.blueprint import Blueprint
from goliath.actors.checks import RetryExceptions, check_deadline, check_workers
from goliath.actors.cluster import Cluster, OnSession
from goliath.actors.dependencies import laid_out
from goliath.actors.desk import CancelAll
from goliath.actors.driving import AsyncRows, OnResult, adrive, drive, rows_of
from goliath.actors.group import Group
from goliath.actors.handles import HeldGrip
from goliath.actors.inline import InlineCalls
from goliath.actors.job import Job, Plan, Stretch
from goliath.actors.link import Dialing, Place
from goliath.actors.loop_bell import LoopBell
from goliath.actors.object_ref import ObjectRef, made_here, stored
from goliath.actors.options import RunOptions, make_plan
from goliath.actors.packing import pack
from goliath.actors.printing import Printer, Target
from goliath.actors.ref_generator import ObjectRefGenerator
from goliath.actors.ref_list import RefList
from goliath.actors.repertoire import Repertoire
from goliath.actors.spec import in_worker
from goliath.actors.stage import BEGIN
from goliath.actors.standing import StandingJobs
from goliath.actors.submission import Submission
from goliath.actors.supervisor import Lifetime, Strategy
from goliath.actors.surroundings import surroundings
from goliath.actors.task import Task
from goliath.clock import BootClock
from goliath.config import TransportConfig
from goliath.core.policy import RestartIntensity
from goliath.machine import usable_cpus
from goliath.transport.address import Address, named_in_environ, parse_public_name, targets
from goliath.transport.credentials import Credentials
from goliath.transport.rows import Row

if TYPE_CHECKING:
    from goliath.actors.node_info import NodeInfo
    from goliath.actors.progress import Progress
    from goliath.actors.sightings import ActorInfo
    from goliath.own_door import OwnDoor
    from goliath.transport.road import Road

T = TypeVar("T")

Target_ = str | tuple[str, int]
"""How a Lieutenant may be named."""

BUFFERED = 65_536
"""Calls of an ``imap`` that may be on their way or unread, unless the user says otherwise."""


class Commander:
    """Uses any number of Lieutenants, or an embedded one in this process.

    It connects when it is first used. Lieutenants that are down are tried again in the
    background, and used when they come up. All methods may be called from any thread.

    Args:
        lieutenants: ``(host, port)`` pairs, ``"host:port"`` strings or ``ws://``/``wss://`` URLs;
            or one of these. ``None``: what ``GOLIATH_LIEUTENANTS`` says (comma separated), else
            an embedded Lieutenant.
        workers: slots of the embedded Lieutenant; default: the usable CPUs.
        token: what the Lieutenants were started with: one string, or a mapping of
            ``"host:port"`` to string. Not needed on one machine.
        token_file: path of a file (mode 0600) with the token.
        tls: ``"auto"`` (the login proves the certificate) or ``"ca"`` (an authority does, as it
            must where a proxy ends the TLS; the Lieutenant is then told its ``--public-name``).
        listen: where nodes that cannot be dialed may join this Commander, ``(host, port)`` or
            ``"host:port"``: those started with ``python -m goliath.lieutenant --join``. Port 0 is
            any free one (see `listening`). It listens from its first use on, or when `listening` is
            looked at, with the tokens of ``token`` or ``token_file`` (which may hold several) and,
            off loopback, by TLS. Without ``workers``, there is then no embedded Lieutenant.
        public_name: with ``listen``, what nodes that join with ``--tls ca`` call this Commander by,
            where a proxy ends the TLS before it: ``"laptop.example.org"`` or
            ``"laptop.example.org/prefix"``. A token has to be given then, on loopback, too.
        connect_timeout: seconds that the first use waits for a first Lieutenant.
        output: where worker prints go: ``"prefix"`` (this process's stdout and stderr, each line
            with function, node and worker), ``"raw"``, ``"off"``, or a callable that is given
            each line.
        name: what messages call this Commander.

    Raises:
        ValueError: an address or an option makes no sense.
    """

    def __init__(
        self,
        lieutenants: Target_ | Iterable[Target_] | None = None,
        *,
        workers: int | None = None,
        token: str | Mapping[str, str] | None = None,
        token_file: str | os.PathLike[str] | None = None,
        tls: str = "auto",
        listen: Target_ | None = None,
        public_name: str | None = None,
        connect_timeout: float = 5.0,
        output: Target = "prefix",
        name: str | None = None,
    ) -> None:
        if tls not in ("auto", "ca"):
            raise ValueError(f"tls={tls!r}; it is 'auto' or 'ca'")
        check_workers(workers)
        named = named_in_environ() if lieutenants is None else targets(lieutenants)
        if lieutenants is not None and not named:
            raise ValueError("no Lieutenant was named; leave the list out for an embedded one")
        addresses = {str(address): address for address in map(Address.parse, named)}
        self._addresses = addresses
        credentials = Credentials(token, token_file)
        door = self._door = _door(listen, public_name, credentials)
        self._cluster = Cluster(
            list(addresses),
            partial(_dial, addresses, credentials, tls, door),
            door=door,
            workers=workers or (usable_cpus() if door is None else 0),
            connect_timeout_s=connect_timeout,
            printer=Printer(output),
            name=name or "goliath-commander",
        )
        self._standing = StandingJobs(self._cluster)
        # Whoever drops a Commander without closing it: what is in flight is finished first.
        weakref.finalize(self, _close_forgotten, self._cluster, self._standing).atexit = False

    def __repr__(self) -> str:
        door = [f"whoever joins {self._door.address}"] if self._door is not None else []
        return f"<Commander of {', '.join([*self._addresses, *door]) or 'an embedded Lieutenant'}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} stays in its process, which is connected to the nodes; a function that is "
            "called there makes one of its own, Commander(), and needs no address for that"
        )

    # -- sets of calls -----------------------------------------------------------------

    def run(
        self,
        function: Callable[..., T],
        args: Iterable[Row],
        files: Iterable[str | os.PathLike[str]] = (),
        *,
        static: Mapping[str, Any] | None = None,
        return_exceptions: bool = False,
        timeout: float | None = None,
        deadline: float | None = None,
        max_retries: int = 3,
        retry_exceptions: RetryExceptions = False,
        batch_size: int | Literal["auto"] = "auto",
        num_cpus: float = 1,
        resources: Mapping[str, float] | None = None,
        env_vars: Mapping[str, str] | None = None,
        requirements: Sequence[str] | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        speculate: bool = False,
        progress: Progress | None = None,
        on_result: OnResult | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> list[T]:
        """Call ``function`` once for each item and return the results, in the items' order.

        Args:
            function: any callable. Functions of ``__main__`` and of modules that the nodes
                have not installed are sent along.
            args: an iterable, also an endless-looking generator: it is pulled as the calls
                are made. An item is a mapping (keyword arguments) or a tuple (positional).
            files: files and directories the function needs. Each job has its own directory
                on the node: current directory of its workers, and importable.
            static: keyword arguments common to all calls, sent once per node.
            return_exceptions: put the exceptions into their places, instead of raising the
                first one and cancelling the rest.
            timeout: seconds for one call's execution; its worker is killed then.
            deadline: seconds for the whole run.
            max_retries: how often a call is repeated after it lost its worker. With 0 a call
                is made at most once.
            retry_exceptions: repeat calls that raised, too: True, or classes of exceptions.
            batch_size: calls sent together.
            num_cpus: CPUs a call takes on its node.
            resources: other resources it takes there, by name.
            env_vars: environment variables of the job's workers.
            requirements: packages that the nodes install for it, as pip has them
                (``["numpy>=2"]``); only nodes with ``--allow-install`` do. Default: what the script
                says itself, in a ``# /// script`` block (PEP 723).
            initializer: called once in each worker of the job, with ``initargs``.
            initargs: a tuple.
            speculate: when slots would stand idle, make calls that take suspiciously long a second
                time, on another node if there is one. What is first done counts, and the other
                one is interrupted. Only for functions that may be called twice with the same
                arguments.
            progress: True: a line on stderr, kept up to date if that is a terminal, else a new
                one every 10 s. A callable: called as ``progress(done, total_or_None)`` in this
                thread, at most ten times a second and when the run ends. A bar of tqdm's: its
                ``update(n)`` is called.
            on_result: called as ``on_result(index, value_or_exception)`` in this thread as
                outcomes arrive.
            checkpoint: path of a file in which finished calls are kept, at most 0.1 s after
                they were heard of. The same run, made again, takes their results from there.

        Returns:
            One result per item; ``[]`` for none.

        Raises:
            TypeError: an item is no call of the function; the message has its index.
            ValueError: an option is out of range, or ``speculate`` with ``max_retries=0``.
            SerializationError: function or arguments cannot be pickled.
            DeadlineExceededError: the deadline passed (unless exceptions are returned).
            CheckpointError: the checkpoint cannot be used, or no longer be written.
            BaseException: what the first failing call raised (likewise).

        Example:
            >>> import tempfile
            >>> from goliath import Commander
            >>> with tempfile.TemporaryDirectory() as folder, Commander(workers=1) as cmdr:
            ...     cmdr.run(pow, [(2, 3), (2, 4)], checkpoint=f"{folder}/run.db")
            ...     cmdr.run(pow, [(2, 4), (2, 5)], checkpoint=f"{folder}/run.db")  # one call
            [8, 16]
            [16, 32]
        """
        if in_worker():
            calls = InlineCalls(function, static, return_exceptions, on_result)
            return list(calls.iterate(args))
        check_deadline(deadline)
        bell = ThreadBell()
        plan = make_plan(
            function,
            args,
            files,
            ordered=on_result is None,
            static=static,
            return_exceptions=return_exceptions,
            timeout=timeout,
            max_retries=max_retries,
            retry_exceptions=retry_exceptions,
            batch_size=batch_size,
            num_cpus=num_cpus,
            resources=resources,
            env_vars=env_vars,
            requirements=requirements,
            initializer=initializer,
            initargs=initargs,
            speculate=speculate,
            progress=progress,
            checkpoint=checkpoint,
        )
        if crossing.mode is not None:
            calls = InlineCalls(function, static, return_exceptions, on_result)
            return list(calls.iterate(args))
        stretches = drive(
            self._job(plan, bell),
            rows_of(args),
            bell,
            deadline_s=deadline,
            on_result=on_result,
            drain=return_exceptions,
            attendants=plan.attendants,
        )
        with closing(stretches):
            return _assembled(list(stretches), ordered=plan.ordered)

    async def arun(
        self,
        function: Callable[..., T],
        args: Iterable[Row] | AsyncIterable[Row],
        files: Iterable[str | os.PathLike[str]] = (),
        *,
        deadline: float | None = None,
        on_result: OnResult | None = None,
        **options: Unpack[RunOptions],
    ) -> list[T]:
        """`run`, to be awaited in any running loop; ``args`` may be an async iterable."""
        ordered = on_result is None
        stretches = self._astretches(
            function, args, files, ordered, None, deadline, on_result, options
        )
        async with aclosing(stretches):
            return _assembled([stretch async for stretch in stretches], ordered=ordered)

    def imap(
        self,
        function: Callable[..., T],
        args: Iterable[Row],
        files: Iterable[str | os.PathLike[str]] = (),
        *,
        buffersize: int | None = None,
        deadline: float | None = None,
        on_result: OnResult | None = None,
        **options: Unpack[RunOptions],
    ) -> Iterator[T]:
        """`run` as an iterator, in order, with bounded memory.

        The input is pulled only as results are consumed, so it may be infinite. Closing the
        iterator cancels what is left.

        Args:
            buffersize: calls that may be on their way or waiting to be consumed; default: what
                keeps all workers busy.
            **options: as for `run`.
        """
        return self._iterate(function, args, files, True, buffersize, deadline, on_result, options)

    def imap_unordered(
        self,
        function: Callable[..., T],
        args: Iterable[Row],
        files: Iterable[str | os.PathLike[str]] = (),
        *,
        buffersize: int | None = None,
        deadline: float | None = None,
        on_result: OnResult | None = None,
        **options: Unpack[RunOptions],
    ) -> Iterator[T]:
        """`imap` that yields results as calls finish."""
        return self._iterate(function, args, files, False, buffersize, deadline, on_result, options)

    def aimap(
        self,
        function: Callable[..., T],
        args: Iterable[Row] | AsyncIterable[Row],
        files: Iterable[str | os.PathLike[str]] = (),
        *,
        buffersize: int | None = None,
        deadline: float | None = None,
        on_result: OnResult | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncIterator[T]:
        """`imap` for ``async for``."""
        return self._aiterate(function, args, files, True, buffersize, deadline, on_result, options)

    def aimap_unordered(
        self,
        function: Callable[..., T],
        args: Iterable[Row] | AsyncIterable[Row],
        files: Iterable[str | os.PathLike[str]] = (),
        *,
        buffersize: int | None = None,
        deadline: float | None = None,
        on_result: OnResult | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncIterator[T]:
        """`imap_unordered` for ``async for``."""
        return self._aiterate(
            function, args, files, False, buffersize, deadline, on_result, options
        )

    def map(
        self, function: Callable[..., T], *iterables: Iterable[Any], **options: Any
    ) -> Iterator[T]:
        """Like the builtin ``map``: one positional argument from each iterable.

        Args:
            function: any callable.
            *iterables: at least one; the shortest ends it.
            **options: as for `imap`, ``files`` among them.
        """
        if not iterables:
            raise TypeError("map needs at least one iterable")
        return self.imap(function, zip(*iterables, strict=False), **options)

    def starmap(
        self, function: Callable[..., T], tuples: Iterable[Iterable[Any]], **options: Any
    ) -> Iterator[T]:
        """Like ``itertools.starmap``: each item holds the positional arguments of a call."""
        return self.imap(function, (tuple(item) for item in tuples), **options)

    # -- single calls ------------------------------------------------------------------

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> ObjectRef[T]:
        """Make one call, now or as soon as a worker is free.

        The function is pickled when it is first submitted, the arguments at every call.

        Returns:
            A ref: ask for its ``result()``, or await it.
        """
        if in_worker():
            return nested.calls().submit_function(function, args, kwargs)
        if crossing.mode is not None:
            return made_here(function, args, kwargs)
        return self._standing.submit(function, args, kwargs)

    def submit_task(
        self, task: Task, /, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ObjectRef[Any]:
        """Make one call of a function with options (see `goliath.remote`)."""
        if in_worker():
            return nested.calls().submit(task, args, kwargs)
        return self._standing.submit_task(task, args, kwargs)

    def line_of(self, task: Task, /) -> ReferenceType[Submission] | None:
        """Where the calls of a task wait, if any were made."""
        return self._standing.line_of(task)

    def submit_stream(
        self, task: Task, /, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ObjectRefGenerator[Any]:
        """Make one call of a streaming function (see `goliath.remote`)."""
        if in_worker():
            return nested.calls().stream(task, args, kwargs)
        return self._standing.submit_stream(task, args, kwargs)

    def submit_tasks(self, task: Task, /, items: Iterable[Any], *, starred: bool) -> RefList[Any]:
        """Make a call of it for each item: all its arguments (``starred``), or its only one."""
        return self._standing.submit_tasks(task, items, starred=starred)

    def make_group(self, name: str, strategy: Strategy, intensity: RestartIntensity) -> Group:
        """Make a group of actors (see `goliath.Supervisor`)."""
        portal, _ = self._cluster.start()
        return Group(name, strategy, intensity, portal)

    def make_actor(
        self,
        pickle: Callable[..., Blueprint],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        group: Group | None = None,
        lifetime: Lifetime = Lifetime.TRANSIENT,
        *,
        detached: bool = False,
        requirements: Sequence[str] | None = None,
    ) -> tuple[HeldGrip, Repertoire]:
        """Make an actor (see `goliath.remote`); ``pickle`` makes its blueprint, given its id and
        which modules go by name, and tells which ones it needs. ``requirements`` as for `run`."""
        portal, commander = self._cluster.start()
        actor_id = self._cluster.troupe.new_id(detached=detached)
        with passing.Collected() as held:
            base = surroundings(requirements=requirements)
            blueprint, around = pack(base, partial(pickle, actor_id))
            creation = laid_out((BEGIN, *args), kwargs, around.shipped_modules)
        if detached:
            portal.forbid_inside()
        grip = self._cluster.troupe.make(
            actor_id,
            blueprint,
            creation,
            held,
            around,
            portal,
            commander,
            group,
            lifetime,
        )
        if detached:
            grip.actor.await_node()
            self._cluster.warn_of_detached(blueprint.name)
            if grip.actor.is_another:  # somebody was faster, and that one will do
                grip = self.find_actor(blueprint.name, blueprint.namespace) or grip
        return grip, blueprint.repertoire

    def find_actor(self, name: str, namespace: str) -> HeldGrip | None:
        """The living actor of that name: one of this Commander's, else one that is detached."""
        found = self._cluster.troupe.find(name, namespace)
        if found is not None:
            return found
        seen = self._cluster.find_actors(name, namespace)
        if not seen:
            return None
        portal, commander = self._cluster.start()
        return self._cluster.troupe.visit(seen[0], surroundings(), portal, commander)

    def detached_actors(self) -> list[ActorInfo]:
        """The detached actors of all Lieutenants that can be reached, whoever has made them."""
        return [seen.info for seen in self._cluster.find_actors()]

    def kill_detached(self, name: str, namespace: str = "") -> list[ActorInfo]:
        """End the detached actor of that name, for all Commanders.

        Returns:
            What was known of it: nothing if there is none, and more if several nodes had one.
        """
        return [seen.info for seen in self._cluster.kill_actors(name, namespace)]

    def put(self, value: T) -> ObjectRef[T]:
        """Keep a copy of a value, as it is now, to be given to any number of calls.

        Big arrays in it are there once for all workers of a node, which may read and not write
        them.

        Returns:
            A ref: pass it as an argument, or ask for its ``result()``, a fresh copy (arrays:
            read-only).

        Raises:
            SerializationError: the value cannot be pickled.
        """
        return nested.calls().put(value) if in_worker() else stored(value)

    # -- the Commander itself ----------------------------------------------------------

    def connect(self) -> None:
        """Connect now, rather than when it is first used; errors as at its first use."""
        if crossing.mode is None:
            self._cluster.start()

    @property
    def listening(self) -> tuple[str, int] | None:
        """Where nodes may join, host and port; it is listened there from now on at the latest.
        Without ``listen``, and when it is closed: None.

        Example:
            >>> from goliath import Commander
            >>> with Commander(listen="127.0.0.1:0", workers=1) as cmdr:
            ...     cmdr.listening  # for `python -m goliath.lieutenant --join ws://127.0.0.1:...`
            ('127.0.0.1', ...)

        Raises:
            OSError: it cannot listen there.
        """
        door = self._door
        if door is not None and not self._cluster.closed:
            self._cluster.begin()
        return (door.host, door.port) if door is not None and door.is_open else None

    def nodes(self) -> list[NodeInfo]:
        """What is known of each Lieutenant, those that are down included."""
        if crossing.mode is not None:
            return []
        return nested.calls().nodes() if in_worker() else self._cluster.nodes()

    def cancel(self) -> None:
        """Cancel everything in flight: its callers get `TaskCancelledError`."""
        running = self._cluster.running()
        if running is None:
            return  # nothing has begun
        portal, commander = running
        self._standing.end_all(lambda: portal.post(commander.tell, CancelAll()))

    def close(self) -> None:
        """End the sessions and, if it is embedded, the Lieutenant. Idempotent.

        What is in flight is cancelled.
        """
        self._standing.forget()
        self._cluster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.to_thread(self.close)

    # -- wiring ------------------------------------------------------------------------

    def _job(self, plan: Plan, bell: ThreadBell) -> Job:
        portal, commander = self._cluster.start()
        portal.forbid_inside()
        return Job(plan, portal, commander, bell)

    def _iterate(
        self,
        function: Callable[..., T],
        args: Iterable[Row],
        files: Iterable[str | os.PathLike[str]],
        ordered: bool,
        buffersize: int | None,
        deadline: float | None,
        on_result: OnResult | None,
        options: RunOptions,
    ) -> Iterator[T]:
        if in_worker():
            return _inline(function, on_result, options).iterate(args)
        check_deadline(deadline)
        plan = make_plan(
            function,
            args,
            files,
            ordered=ordered,
            fail_fast=False,
            buffersize=buffersize or BUFFERED,
            **options,
        )
        if crossing.mode is not None:
            return _inline(function, on_result, options).iterate(args)
        bell = ThreadBell()
        stretches = drive(
            self._job(plan, bell),
            rows_of(args),
            bell,
            deadline_s=deadline,
            on_result=on_result,
            drain=plan.return_exceptions,
            attendants=plan.attendants,
        )
        return _flattened(stretches, self)

    async def _aiterate(
        self,
        function: Callable[..., T],
        args: Iterable[Row] | AsyncIterable[Row],
        files: Iterable[str | os.PathLike[str]],
        ordered: bool,
        buffersize: int | None,
        deadline: float | None,
        on_result: OnResult | None,
        options: RunOptions,
    ) -> AsyncIterator[T]:
        stretches = self._astretches(
            function, args, files, ordered, buffersize or BUFFERED, deadline, on_result, options
        )
        async with aclosing(stretches):
            async for _, outcomes in stretches:
                for outcome in outcomes:
                    yield outcome

    async def _astretches(
        self,
        function: Callable[..., T],
        args: Iterable[Row] | AsyncIterable[Row],
        files: Iterable[str | os.PathLike[str]],
        ordered: bool,
        buffersize: int | None,
        deadline: float | None,
        on_result: OnResult | None,
        options: RunOptions,
    ) -> AsyncGenerator[Stretch, None]:
        check_deadline(deadline)
        plan = None
        if not in_worker():
            plan = make_plan(
                function,
                args,
                files,
                ordered=ordered,
                fail_fast=buffersize is None,
                buffersize=buffersize,
                **options,
            )
        if plan is None or crossing.mode is not None:
            place = count()
            async for outcome in _inline(function, on_result, options).aiterate(args):
                yield next(place), [outcome]
            return
        bell = LoopBell()
        portal, commander = await asyncio.to_thread(self._cluster.start)
        stretches = adrive(
            Job(plan, portal, commander, bell),
            AsyncRows(args),
            bell,
            deadline_s=deadline,
            on_result=on_result,
            drain=plan.return_exceptions,
            attendants=plan.attendants,
        )
        async with aclosing(stretches):
            async for stretch in stretches:
                yield stretch


def _assembled(stretches: list[Stretch], *, ordered: bool) -> list[Any]:
    if not ordered:
        stretches.sort(key=itemgetter(0))
    results: list[Any] = []
    for _, outcomes in stretches:
        results += outcomes
    return results


def _inline(
    function: Callable[..., Any], on_result: OnResult | None, options: RunOptions
) -> InlineCalls:
    returned = options.get("return_exceptions", False)
    return InlineCalls(function, options.get("static"), returned, on_result)


def _door(
    listen: Target_ | None, public_name: str | None, credentials: Credentials
) -> OwnDoor | None:
    if listen is None:
        if public_name is not None:
            raise ValueError(f"public_name={public_name!r} is of a Commander that has listen=")
        return None
    from goliath.own_door import OwnDoor  # 16 ms, for those who have one

    name = ("", "") if public_name is None else parse_public_name(public_name)
    return OwnDoor(Address.to_listen(listen), credentials, name)


def _dial(
    addresses: Mapping[str, Address],
    credentials: Credentials,
    tls: str,
    door: OwnDoor | None,
    place: Place,
    on_session: OnSession,
    on_trouble: Callable[[Exception], None],
) -> Dialing:
    # Here, because it imports aiohttp: 0.2 s that an embedded Lieutenant does not need.
    from goliath.transport.dialer import Dialer
    from goliath.transport.road import DirectRoad

    config, clock = TransportConfig.from_environ(), BootClock()
    road: Road
    if place.node and not place.via:
        assert door is not None, "somebody has joined at it"
        road = door.road(place)
    else:
        address = addresses[place.via or place.address]
        road = DirectRoad(address, credentials, config, tls=tls)
        if place.node:
            from goliath.transport.joined import RelayedRoad

            road = RelayedRoad(place.address, place.node, road, config, clock)
    return Dialer(
        road,
        config,
        clock,
        random.Random(),
        on_session=lambda channel, peer: on_session(
            channel, peer.server_id, peer.python, dict(peer.limits), peer.rtt_s
        ),
        on_trouble=on_trouble,
    )


def _close_forgotten(cluster: Cluster, standing: StandingJobs) -> None:
    standing.end_all()
    cluster.close_when_idle()


def _flattened(stretches: Generator[Stretch, None, None], _alive: Commander) -> Iterator[Any]:
    with closing(stretches):
        for _, outcomes in stretches:
            yield from outcomes
