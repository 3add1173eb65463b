"""The standing jobs of a Commander: one for each function that is called singly."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from typing import Any
from weakref import ReferenceType

from goliath.actors import passing
from goliath.actors.bulk import BulkRefs
from goliath.actors.cluster import Cluster
from goliath.actors.dependencies import laid_out
from goliath.actors.object_ref import ObjectRef
from goliath.actors.packing import pack
from goliath.actors.ref_generator import ObjectRefGenerator
from goliath.actors.ref_list import RefList
from goliath.actors.streams import Stream, new_task_id
from goliath.actors.submission import Submission
from goliath.actors.surroundings import surroundings
from goliath.actors.tables import Table, tabulate
from goliath.actors.task import Task
from goliath.errors import GoliathError, SerializationError
from goliath.transport.functions import function_name

KEPT = 256
"""Functions whose standing job is kept between single calls."""


class StandingJobs:
    """Makes them when they are needed and ends them when there are too many."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._kept: dict[Hashable, Submission] = {}
        # Reentrant: a signal handler of the user's may submit, too, at any moment.
        self._lock = threading.RLock()

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ObjectRef[Any]:
        """A call of a function without options."""
        return self._submit(function, None, args, kwargs)

    def submit_task(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ObjectRef[Any]:
        """A call of a task."""
        return self._submit(task, task, args, kwargs)

    def line_of(self, task: Task) -> ReferenceType[Submission] | None:
        """The standing job of a task, if it is kept. (It is not to be kept by anybody else.)"""
        submission = self._kept.get(task)
        return weakref.ref(submission) if submission is not None else None

    def submit_stream(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ObjectRefGenerator[Any]:
        """A call of a task whose items are wanted one by one."""
        task_id, (portal, _) = new_task_id(), self._cluster.start()
        # Before the call is made: its first item may come before this thread goes on.
        stream = Stream(task.name or function_name(task.function), task_id, portal)
        call = None
        while call is None:  # as in _submit
            submission = self._kept.get(task) or self._keep(task, task)
            with passing.Collected() as held:
                row = laid_out(args, kwargs, submission.shipped)
            call = submission.submit_as(task_id, row, held)
        stream.follow(call)
        return ObjectRefGenerator(stream)

    def submit_tasks(self, task: Task, items: Iterable[Any], *, starred: bool) -> RefList[Any]:
        """A call of a task for each item (see `tabulate`)."""
        parts: list[BulkRefs | list[ObjectRef[Any]]] = []
        for piece in tabulate(items, starred=starred):
            if not isinstance(piece, tuple):
                parts.append(self._submit_table(task, piece))
                continue
            try:
                ref = self.submit_task(task, piece, {})
            except SerializationError as exc:
                exc.add_note(f"goliath: item {sum(map(len, parts))} of what is mapped")
                raise
            last = parts[-1] if parts else None
            if isinstance(last, list):
                last.append(ref)
            else:
                parts.append([ref])
        return RefList(parts)

    def _submit_table(self, task: Task, table: Table) -> BulkRefs:
        while True:  # as in _submit
            submission = self._kept.get(task) or self._keep(task, task)
            refs = submission.submit_many(table)
            if refs is not None:
                return refs

    def _submit(
        self, key: Any, task: Task | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ObjectRef[Any]:
        while True:  # one that another thread has just closed takes no more: a new one does
            try:
                submission = self._kept.get(key)
            except TypeError:  # it has no hash, so it cannot be kept
                return self._submit_once(task or Task(key), args, kwargs)
            if submission is None:
                submission = self._keep(key, task or Task(key))
            ref = submission.submit(args, kwargs)
            if ref is not None:
                return ref

    def _submit_once(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ObjectRef[Any]:
        submission = self._open(task)
        ref = submission.submit(args, kwargs)
        submission.close()
        assert ref is not None
        return ref

    def _keep(self, key: Hashable, task: Task) -> Submission:
        with self._lock:
            submission = self._kept.get(key)
            if submission is None:
                submission = self._open(task)
                while len(self._kept) >= KEPT:
                    self._kept.pop(next(iter(self._kept))).close()
                self._kept[key] = submission
            return submission

    def _open(self, task: Task) -> Submission:
        portal, commander = self._cluster.start()
        base = surroundings(cpus=task.num_cpus, requirements=task.requirements)
        function, around = pack(base, task.pickled)
        return Submission(
            function, around, task.options(function.digest, around.key), portal, commander
        )

    def end_all(self, before: Callable[[], None] = lambda: None) -> None:
        """End all of them, after ``before`` was called; what is submitted later begins anew."""
        with self._lock:
            submissions = list(self._kept.values())
            self._kept.clear()
            before()
            for submission in submissions:
                with suppress(GoliathError):  # it is its parent's in a forked process
                    submission.close()

    def forget(self) -> None:
        """Their Commander is closed, and they with it: whoever still has one finds another."""
        with self._lock:
            submissions = list(self._kept.values())
            self._kept.clear()
        for submission in submissions:
            submission.seal()
