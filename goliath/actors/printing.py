"""What workers print, on its way to the user: whole lines, each with who said it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal

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
            self._write(output.stream, text)
            return
        # Pieces are whole lines where possible; what is not is the last thing that was printed.
        for line in text.removesuffix("\n").split("\n"):
            self._hand_on(node, output, line)

    def _hand_on(self, node: str, output: Output, text: str) -> None:
        line = OutputLine(f"({output.function} {node} worker={output.worker}) {text}")
        line.stream, line.function, line.text = output.stream, output.function, text
        line.node, line.worker = node, output.worker
        if not callable(self._target):
            self._write(output.stream, f"{line}\n")
            return
        try:
            self._target(line)
        except Exception as exc:  # noqa: BLE001 - the user's callable must not end the run
            self._write("stderr", f"goliath: output={self._target!r} raised {exc!r}\n")

    @staticmethod
    def _write(stream: str, text: str) -> None:
        target = sys.stdout if stream == "stdout" else sys.stderr
        if target is None:
            return
        try:
            target.write(text)
            target.flush()
        except (OSError, ValueError):
            return  # the user closed it: there is nobody to tell
