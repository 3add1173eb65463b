"""The standing jobs of a Commander: one for each function that is called singly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any

from goliath.actors.cluster import Cluster
from goliath.actors.object_ref import ObjectRef
from goliath.actors.submission import Submission
from goliath.actors.surroundings import surroundings
from goliath.actors.task import Task
from goliath.errors import GoliathError

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
        around = surroundings(cpus=task.num_cpus)
        function = task.pickled()
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
        """Their Commander is closed, and they with it."""
        self._kept.clear()
