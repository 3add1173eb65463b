"""Texts for people."""

from __future__ import annotations

import pytest

from goliath.errors import printable, size_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("counter 1, straße", "counter 1, straße"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("two\nlines\u202e", r"two\nlines\u202e"),
    ],
)
def test_what_others_have_named_does_not_steer_a_terminal(text: str, shown: str):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 << 30, "3 GiB")],
)
def test_sizes_are_said_in_the_unit_that_fits(size: int, shown: str):
    assert size_text(size) == shown
