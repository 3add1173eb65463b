"""A Commander for the tests of its callers: synchronous, in their own thread, and obedient."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from goliath.actors import desk
from goliath.actors.bell import ThreadBell
from goliath.actors.job import Job
from goliath.actors.mailbox import ActorStoppedError
from goliath.actors.options import make_plan
from goliath.actors.outcomes import Setback, Where
from goliath.actors.portal import PortalClosedError
from goliath.core.commands import Verdict
from goliath.transport.columns import decode_columns
from goliath.transport.functions import load_function
from goliath.transport.outcomes import encode_outcomes
from goliath.transport.payload import Payload, parts_of
from goliath.transport.rows import ROWS, decode_rows, load_row


def flat(payload: Payload) -> bytes:
    """A payload with what is beside it behind it."""
    main, pieces = parts_of(payload)
    return b"".join((main, *pieces))


class FakePortal:
    """Does at once what is posted."""

    def __init__(self) -> None:
        self.closed = False
        self.kicks = 0

    def post(self, function: Callable[..., object], *args: Any) -> None:
        if self.closed:
            raise PortalClosedError("the portal is closed")
        function(*args)

    def inside(self) -> bool:
        return True

    def kick(self) -> None:
        self.kicks += 1


class Answered:
    """A future that is done."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def cancelled(self) -> bool:
        return False

    def exception(self) -> Exception | None:
        return self._error

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        callback(self)


class FakeCommander:
    """Runs the calls of each parcel as soon as it comes, or when it is told to.

    Args:
        batches, calls: what it demands whenever it has nothing.
    """

    name = "commander"

    def __init__(
        self, *, batches: int = 2, calls: int = 4, endless: bool = True, lazy: bool = False
    ) -> None:
        self.portal = FakePortal()
        self.batches, self.calls = batches, calls
        self.endless = endless  # demand more with every parcel
        self.lazy = lazy  # keep parcels until `run_all`
        self.log: list[str] = []
        self.parcels: list[desk.Parcel] = []
        self.jobs: dict[int, desk.OpenJob] = {}
        self.ended = False
        self.tamper: Callable[[bytes], bytes] = lambda payload: payload

    def ask(self, message: Any) -> Any:
        if self.ended:
            return Answered(ActorStoppedError("it has ended"))
        self.tell(message)
        return Answered(None)

    def tell(self, message: Any) -> None:
        if self.ended:
            return
        match message:
            case desk.OpenJob():
                self.log.append("open")
                self.jobs[message.job] = message
                message.owner.on_demand(self.batches, self.calls)
            case desk.SubmitParcel(parcel):
                self.log.append(f"parcel of {parcel.calls}")
                self.parcels.append(parcel)
                if not self.lazy:
                    self.run_all()
                if self.endless:
                    self.jobs[parcel.job].owner.on_demand(1, self.calls)
            case desk.ExhaustJob():
                self.log.append("exhaust")
            case desk.CancelJob(job, force):
                self.log.append("cancel by force" if force else "cancel")
                self._cancel(self.jobs[job])

    def _cancel(self, job: desk.OpenJob) -> None:
        for parcel in self.parcels:
            setback = Setback(Verdict.CANCELLED)
            job.owner.on_failed(desk.Failed(parcel.first, 0, parcel.calls, setback, Where("f")))
        self.parcels.clear()

    def run_all(self, *, newest_first: bool = False) -> None:
        """Run what it has."""
        parcels, self.parcels = self.parcels, []
        for parcel in reversed(parcels) if newest_first else parcels:
            owner = self.jobs[parcel.job].owner
            payload = self.tamper(self.outcomes(parcel))
            where = Where("f", "node", 1, 1)
            owner.on_settled(desk.Settled(parcel.first, 0, parcel.calls, payload, (), where))

    def outcomes(self, parcel: desk.Parcel) -> bytes:
        """What a worker would send back."""
        function = load_function(self.jobs[parcel.job].function.payload)
        values: list[Any] = []
        boxed: dict[int, bytes] = {}
        failures: dict[int, Any] = {}
        for place, (args, kwargs) in enumerate(calls_of(parcel)):
            try:
                value = function.call(*args, **kwargs, **function.static)
            except Exception as exc:  # noqa: BLE001 - as in a worker
                values.append(None)
                failures[place] = {
                    "kind": "raised",
                    "type": type(exc).__name__,
                    "message": str(exc),
                    "traceback": "Traceback of the worker",
                    "call": "f(…)",
                    "pickle": pickle.dumps(exc),
                }
            else:
                values.append(value)
        return encode_outcomes(values, boxed, failures)

    def end(self, error: Exception) -> None:
        """As if it had been closed."""
        self.ended = True
        for job in self.jobs.values():
            job.owner.on_broken(error)


def calls_of(parcel: desk.Parcel) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The calls of a parcel."""
    if parcel.form == ROWS:
        return [load_row(row) for row in decode_rows(parcel.payload)]
    width, names, columns = decode_columns(parcel.payload)
    return [
        (values[:width], dict(zip(names, values[width:], strict=True)))
        for values in zip(*columns, strict=True)
    ]


def job_for(
    commander: FakeCommander, function: Callable[..., Any], args: Any = None, **options: Any
) -> tuple[Job, ThreadBell]:
    """A job that has not been opened."""
    bell = ThreadBell()
    plan = make_plan(function, args, (), **options)
    return Job(plan, commander.portal, commander, bell), bell  # type: ignore[arg-type]
