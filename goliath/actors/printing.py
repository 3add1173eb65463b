"""What workers print, on its way to the user: whole lines, each with who said it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal

from goliath.errors import describe
from goliath.transport.messages import Output

Target = Literal["prefix", "raw", "off"] | Callable[["OutputLine"], object]


class OutputLine(str):
    """A line a worker printed, with its prefix.

    Attributes:
        stream: ``"stdout"`` or ``"stderr"``.
        function: the name of the function whose call printed it.
        node: the address of the node.
        worker: the number of the worker there.
        text: the line without its prefix.
    """

    __slots__ = ("function", "node", "stream", "text", "worker")

    stream: str
    function: str
    node: str
    worker: int
    text: str


class Printer:
    """Brings output where the user wants it.

    Args:
        target: ``"prefix"``, ``"raw"``, ``"off"``, or a callable that gets `OutputLine`s.
    """

    def __init__(self, target: Target) -> None:
        if not callable(target) and target not in ("prefix", "raw", "off"):
            raise ValueError(
                f"output={target!r}; it is 'prefix', 'raw', 'off' or a callable that takes a line"
            )
        self._target = target

    def __call__(self, node: str, output: Output) -> None:
        """Take one piece of output of a node."""
        if self._target == "off":
            return
        text = bytes(output.payload).decode("utf-8", "replace")
        if self._target == "raw":
            write_to(output.stream, text)
            return
        # Pieces are whole lines where possible; what is not is the last thing that was printed.
        for line in text.removesuffix("\n").split("\n"):
            self._hand_on(node, output, line)

    def _hand_on(self, node: str, output: Output, text: str) -> None:
        line = OutputLine(f"({output.function} {node} worker={output.worker}) {text}")
        line.stream, line.function, line.text = output.stream, output.function, text
        line.node, line.worker = node, output.worker
        if not callable(self._target):
            write_to(output.stream, f"{line}\n")
            return
        try:
            self._target(line)
        except BaseException as exc:  # noqa: BLE001 - the user's callable must not end the loop
            write_to("stderr", f"goliath: {describe(self._target)}, given as output=, raised ")
            write_to("stderr", f"{describe(exc)}\n")


def write_to(stream: str, text: str) -> None:
    """Write to this process's ``"stdout"`` or ``"stderr"``, whatever the user has made of it."""
    target = sys.stdout if stream == "stdout" else sys.stderr
    if target is None:
        return
    try:
        try:
            target.write(text)
        except UnicodeEncodeError:
            encoding = getattr(target, "encoding", None) or "ascii"
            target.write(text.encode(encoding, "backslashreplace").decode(encoding))
        target.flush()
    except Exception:  # noqa: BLE001 - closed, or an object of the user's: there is nobody to tell
        return
