"""The innermost loop of a worker, generated once for each shape of call.

A loop written for its shape costs 51 ns a call around a function that does nothing, as fast
as ``results.extend(map(f, *columns))``; ``f(*args, **kwargs)`` in a general loop costs four
times that. Unlike ``map`` it pickles whatever is not a plain scalar right after its call, before
the next call can change it.

The iterators are made outside, and the first column alone decides when a loop ends. So a
loop that raised can be entered again at the next call, and whoever truncates the first
column ends the loop at that very place (`goliath.actors.execution`).
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from types import FunctionType
from typing import Any

from goliath.transport.serialization import SCALARS

Loop = Callable[..., bool]
"""``loop(f, append, box, *iterators)``: runs calls until the first iterator ends, and says
False then; the step of a shape runs one call and says True."""

OWN_FILE = "<goliath: the loop around the calls>"
_SOURCE = """
def {name}(f, append, box, {iterators}):
    for {targets} in {source}:
        value = f({arguments})
        if type(value) in SCALARS:
            append(value)
        else:
            box(value){after}
    return False
"""


def plan_arguments(
    call: Callable[..., Any], taken: frozenset[str], positional: int, names: Sequence[str]
) -> tuple[list[int], tuple[str, ...]]:
    """The order in which columns become arguments, and the names of those that need theirs.

    Passing by position is faster. It means the same where the names are exactly the first
    parameters of a plain function (and none of them is ``taken`` by a static keyword).
    """
    first = _first_parameters(call, len(names)) if positional == 0 else ()
    if names and set(first) == set(names) and not taken.intersection(first):
        return [names.index(name) for name in first], ()
    return list(range(positional + len(names))), tuple(names)


def _first_parameters(call: Callable[..., Any], count: int) -> tuple[str, ...]:
    if type(call) is not FunctionType:
        return ()
    code = call.__code__
    if code.co_posonlyargcount or count > code.co_argcount:
        return ()
    return code.co_varnames[:count]


@cache
def loop_for(columns: int, names: tuple[str, ...], *, single: bool) -> Loop:
    """The loop for calls of ``columns`` arguments, the last of them with these names.

    Args:
        columns: how many arguments, at least one; 0 means calls without any argument, whose
            one iterator yields something for each call.
        names: keywords of the last columns.
        single: run one call only.
    """
    targets = [f"a{place}" for place in range(max(columns, 1))]
    iterators = [f"i{place}" for place in range(len(targets))]
    source = _SOURCE.format(
        name="step" if single else "loop",
        iterators=", ".join(iterators),
        targets=", ".join(targets),
        source=iterators[0] if len(iterators) == 1 else f"zip({', '.join(iterators)})",
        arguments=_arguments(targets[:columns], names),
        after="\n        return True" if single else "",
    )
    space: dict[str, Any] = {"SCALARS": SCALARS}
    exec(compile(source, OWN_FILE, "exec"), space)  # only `a0`, `i0` and checked names are in it
    loop: Loop = space["step" if single else "loop"]
    return loop


def _arguments(targets: list[str], names: tuple[str, ...]) -> str:
    split = len(targets) - len(names)
    if all(_is_plain(name) for name in names):
        named = [f"{name}={target}" for name, target in zip(names, targets[split:], strict=True)]
    else:
        pairs = zip(names, targets[split:], strict=True)
        named = ["**{" + ", ".join(f"{name!r}: {target}" for name, target in pairs) + "}"]
    return ", ".join([*targets[:split], *named])


def _is_plain(name: str) -> bool:
    # The compiler normalises other alphabets (ﬁ becomes fi); a dictionary key stays as it is.
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def rows_loop(
    f: Callable[..., Any],
    append: Callable[[Any], None],
    box: Callable[[Any], None],
    load: Callable[[bytes], tuple[tuple[Any, ...], dict[str, Any]]],
    rows: Iterator[bytes],
    *,
    single: bool = False,
) -> bool:
    """The loop for calls that have a pickle each, read right before the call."""
    for row in rows:
        args, kwargs = load(row)
        value = f(*args, **kwargs)
        if type(value) in SCALARS:
            append(value)
        else:
            box(value)
        if single:
            return True
    return False
