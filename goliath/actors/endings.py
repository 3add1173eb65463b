"""What has become of single calls: values on their way, failures, and what depends on them.

An ending is shared by all calls of a batch, and looked into by whoever asks first, in his own
thread: until then it is bytes. Bytes can be handed on to a call that takes the value as
an argument, without anybody looking into them here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

from goliath.actors.deposits import Deposit
from goliath.actors.outcomes import Setback, Where, explain, rebuild
from goliath.errors import ObjectLostError, SerializationError, named
from goliath.transport.exceptions import dump_error, load_error
from goliath.transport.outcomes import FailureRecord, read_outcomes, unbox
from goliath.transport.payload import Payload, Piece
from goliath.transport.pickled import Pickled, freeze, pickle_of, thaw
from goliath.transport.serialization import load_value

BIG_BYTES = 4096
"""A result as big as that is kept by its own ref only, whoever shares its batch."""

WORTH_READING = 1 << 18
"""Bytes of outcomes that are looked through for big ones, however many calls they are of."""


class NoValueError(Exception):
    """A call has ended without a value that could be handed on."""


class Outcome(Protocol):
    """What has become of some calls."""

    def value(self, call: int) -> Any:
        """The value of the call with this number, or its exception raised."""

    def frozen(self, call: int) -> Any:
        """The value as an argument for another call (see `freeze`), or the
        `Deposit` that has it.

        Raises:
            NoValueError: there is none.
        """


def packed(outcome: Outcome, call: int) -> tuple[bool, Piece]:
    """What has become of a call, for another process: whether it failed, and the pickle of its
    value, or what `load_error` reads."""
    try:
        frozen = outcome.frozen(call)
        if type(frozen) is Deposit:
            return False, frozen.payload()
        return False, pickle_of(frozen)
    except NoValueError:
        pass
    try:
        outcome.value(call)
    except BaseException as exc:  # noqa: BLE001 - a call may have raised anything
        return True, dump_error(exc)
    raise AssertionError(f"call {call} has a value and does not give it")


def held_in(outcome: Outcome) -> Sequence[object]:
    """The refs in a value, which are to be kept until it has been read."""
    while isinstance(outcome, Parts):
        outcome = outcome.of
    if isinstance(outcome, Kept):
        return outcome.deposit.held
    return outcome.held if isinstance(outcome, Arrived | Stored) else ()


class Arrived:
    """The outcomes of consecutive calls, as they came from a worker.

    Args:
        payload: what `read_outcomes` reads.
        first: the number of the first call.
        where: what they are called in messages.
        held: the refs in their values.
    """

    __slots__ = (
        "_boxed",
        "_errors",
        "_failures",
        "_first",
        "_payload",
        "_unboxed",
        "_values",
        "_where",
        "held",
    )

    def __init__(
        self, payload: Payload, first: int, where: Where, held: Sequence[object] = ()
    ) -> None:
        self._payload: Payload | None = payload
        self.held = held
        self._first = first
        self._where = where
        self._values: list[Any] = []
        self._boxed: dict[int, Any] = {}  # pickles
        self._unboxed: dict[int, Any] = {}
        self._failures: dict[int, FailureRecord] = {}
        self._errors: dict[int, BaseException] = {}

    @classmethod
    def alone(
        cls,
        call: int,
        where: Where,
        held: Sequence[object],
        value: Any = None,
        boxed: Piece | None = None,
    ) -> Self:
        """The outcome of one call: its value, or the pickle of it."""
        one = cls(b"", call, where, held)
        one._payload = None
        one._values.append(value)
        if boxed is not None:
            one._boxed[0] = boxed
        return one

    def _read(self) -> None:
        payload = self._payload
        if payload is None:
            return
        try:
            self._values, self._boxed, self._failures = read_outcomes(payload)
        except Exception as exc:
            raise SerializationError(
                f"{self._where.function}: its outcome cannot be read here "
                f"({type(exc).__name__}: {exc}); run it again"
            ) from exc
        self._payload = None

    def take_out_big(self, calls: int) -> dict[int, Outcome]:
        """Outcomes of their own, by place, for those of the ``calls`` whose results are big.

        Most have none, and then they are not looked into here.
        """
        payload = self._payload
        if calls == 1 or payload is None or len(payload) < min(BIG_BYTES * calls, WORTH_READING):
            return {}
        try:
            self._read()
        except SerializationError:
            return {}  # whoever asks will be told
        taken: dict[int, Outcome] = {}
        for place, value in enumerate(self._values[:calls]):
            whole = self._boxed.get(place, value)
            if type(whole) in (bytes, str, memoryview) and len(whole) >= BIG_BYTES:
                boxed = self._boxed.pop(place, None)
                taken[place] = Arrived.alone(
                    self._first + place, self._where, self.held, value, boxed
                )
                self._values[place] = None
        return taken

    def value(self, call: int) -> Any:
        """See `Outcome.value`."""
        place = call - self._first
        if self._payload is not None:
            self._read()
        if not (self._boxed or self._failures):
            return self._values[place]
        if place in self._boxed:
            if place not in self._unboxed and place not in self._failures:
                value, failure = unbox(self._boxed[place])
                if failure is None:
                    self._unboxed[place] = value
                else:
                    self._failures[place] = failure
            if place in self._unboxed:
                return self._unboxed[place]
        record = self._failures.get(place)
        if record is None:
            return self._values[place]
        if place not in self._errors:
            self._errors[place] = rebuild(record, self._where, call)
        raise self._errors[place]

    def values(self, lo: int, hi: int) -> list[Any]:
        """The values of calls ``lo <= i < hi``, or the exception of the first that has none."""
        self._read()
        values = self._values[lo - self._first : hi - self._first]
        if self._boxed or self._failures or len(values) < hi - lo:
            return list(map(self.value, range(lo, hi)))
        return values

    def frozen(self, call: int) -> Any:
        """See `Outcome.frozen`."""
        try:
            self._read()
        except SerializationError as exc:
            raise NoValueError from exc
        place = call - self._first
        if place in self._failures:
            raise NoValueError
        if place in self._boxed:
            return Pickled(self._boxed[place])
        return self._values[place]


class Kept:
    """A result that is still on the node where it was made, until somebody asks for it."""

    __slots__ = ("_arrived", "_error", "_where", "deposit")

    def __init__(self, deposit: Deposit, where: Where) -> None:
        self.deposit = deposit
        self._where = where
        self._arrived: Arrived | None = None
        self._error: BaseException | None = None

    def value(self, call: int) -> Any:
        """See `Outcome.value`; fetches it, if it has not come yet."""
        if self._arrived is None:
            self._arrived = self._fetched(call)
        return self._arrived.value(call)

    def _fetched(self, call: int) -> Arrived:
        try:
            payload = self.deposit.payload()
        except ObjectLostError as exc:
            if self._error is None:
                self._error = ObjectLostError(f"{self._where.function}, call {call}: {exc}")
                named(self._error, self._where.note(call))
            raise self._error from None
        return Arrived.alone(call, self._where, self.deposit.held, boxed=payload)

    def frozen(self, call: int) -> Any:
        """See `Outcome.frozen`."""
        if self.deposit.lost:
            raise NoValueError
        return self.deposit


class Refused:
    """Calls without an outcome of their own, and why that is."""

    __slots__ = ("_errors", "_setback", "_where")

    def __init__(self, setback: Setback, where: Where) -> None:
        self._setback = setback
        self._where = where
        self._errors: dict[int, BaseException] = {}

    def value(self, call: int) -> Any:
        """See `Outcome.value`."""
        if call not in self._errors:
            self._errors[call] = explain(self._setback, self._where, call)
        raise self._errors[call]

    def frozen(self, call: int) -> Any:
        """See `Outcome.frozen`."""
        raise NoValueError


class Broken:
    """Calls that end with the same error."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def value(self, call: int) -> Any:
        """See `Outcome.value`."""
        raise self._error

    def frozen(self, call: int) -> Any:
        """See `Outcome.frozen`."""
        raise NoValueError


class Inherited:
    """A call that never began, because another one, whose value it takes, had none."""

    __slots__ = ("_call", "_of")

    def __init__(self, of: Outcome, call: int) -> None:
        self._of = of
        self._call = call

    def value(self, call: int) -> Any:
        """See `Outcome.value`."""
        return self._of.value(self._call)

    def frozen(self, call: int) -> Any:
        """See `Outcome.frozen`."""
        return self._of.frozen(self._call)


class Made:
    """A call that was made at once, in the caller's own thread."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def value(self, call: int) -> Any:
        """See `Outcome.value`."""
        return self._value

    def frozen(self, call: int) -> Any:
        """See `Outcome.frozen`."""
        return freeze("value", self._value)


class Stored:
    """A value that was put where calls can have it, as it was then; each asker gets a copy.

    Args:
        frozen: it is `freeze`-d.
        held: the refs in it.
    """

    __slots__ = ("_frozen", "held")

    def __init__(self, frozen: Any, held: Sequence[object] = ()) -> None:
        self._frozen = frozen
        self.held = held

    def value(self, call: int) -> Any:
        """See `Outcome.value`."""
        return thaw(self._frozen)

    def frozen(self, call: int) -> Any:
        """See `Outcome.frozen`."""
        return self._frozen


class Delivered:
    """What became of a call that a call in this worker has made, as its Commander says."""

    __slots__ = ("_failed", "_payload", "_value")

    def __init__(self, payload: Piece, *, failed: bool) -> None:
        self._payload: Piece | None = payload
        self._failed = failed
        self._value: Any = None

    def _read(self) -> None:
        payload = self._payload
        if payload is not None:
            load = load_error if self._failed else load_value
            self._value = load(payload)
            self._payload = None

    def failure(self) -> BaseException | None:
        """What it has raised, if it has no value."""
        if not self._failed:
            return None
        self._read()
        error: BaseException = self._value
        return error

    def value(self, call: int) -> Any:
        """See `Outcome.value`."""
        self._read()
        if self._failed:
            raise self._value
        return self._value

    def frozen(self, call: int) -> Any:
        """See `Outcome.frozen`."""
        if self._failed:
            raise NoValueError
        if self._payload is not None:
            return Pickled(self._payload)
        return freeze("value", self._value)


class Parts:
    """The items of one call's value, as outcomes of their own.

    Args:
        of: the outcome of the call.
        call: its number there.
        first: the number of the first part.
        count: how many there should be.
        name: of the function.
    """

    __slots__ = ("_call", "_count", "_first", "_name", "of")

    def __init__(self, of: Outcome, call: int, first: int, count: int, name: str) -> None:
        self.of = of
        self._call = call
        self._first = first
        self._count = count
        self._name = name

    def value(self, call: int) -> Any:
        """See `Outcome.value`.

        Raises:
            ValueError: the call did not return so many items.
        """
        whole = self.of.value(self._call)
        if not isinstance(whole, Sequence) or len(whole) != self._count:
            what = f"{len(whole)} items" if isinstance(whole, Sequence) else type(whole).__name__
            raise ValueError(
                f"{self._name}, call {self._call}, returned {what}, and num_returns is "
                f"{self._count}; return a tuple of {self._count}"
            )
        return whole[call - self._first]

    def frozen(self, call: int) -> Any:
        """See `Outcome.frozen`."""
        try:
            return freeze("value", self.value(call))
        except Exception as exc:
            raise NoValueError from exc
