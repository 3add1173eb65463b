"""Warnings in a program that has not configured logging: on stderr, with Goliath's name before
them, as everything else is that it tells users.

Python's own ``logging.lastResort`` writes the bare text, and nobody knows who says it.
"""

from __future__ import annotations

import logging

from goliath.actors.printing import write_to

_logger = logging.getLogger("goliath")


class LastResort(logging.Handler):
    """Silent as soon as the user has a handler, whatever that does."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        if not logging.getLogger().handlers and _logger.handlers == [self]:
            write_to("stderr", f"goliath: {self.format(record)}\n")


_handler = LastResort(logging.WARNING)


def tell_of_warnings() -> None:
    """From now on."""
    if _handler not in _logger.handlers:
        _logger.addHandler(_handler)
