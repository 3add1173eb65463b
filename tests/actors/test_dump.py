"""The faulthandler's dump, shortened: `goliath.actors.dump`."""

from __future__ import annotations

import faulthandler
import tempfile

import pytest

from goliath.actors.dump import Shortener, frames
from goliath.actors.loops import OWN_FILE

DUMP = f"""\
Fatal Python error: Segmentation fault

Thread 0x00007f3a417756c0 (most recent call first):
  File "/opt/goliath/transport/blocking.py", line 164 in _read
  File "/usr/lib/python3.11/threading.py", line 1002 in _bootstrap

Current thread 0x00007f3df0491b80 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "sweep.py", line 4 in boom
  File "{OWN_FILE}", line 4 in step
  File "/opt/goliath/actors/execution.py", line 350 in _guarded
  File "<string>", line 10 in <module>

Extension modules: numpy.core._multiarray_umath (total: 1)
""".encode()
SHORT = b"""\
Fatal Python error: Segmentation fault
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "sweep.py", line 4 in boom
"""


def test_a_dump_is_cut_down_to_its_title_and_the_users_frames() -> None:
    assert Shortener()(DUMP) == SHORT
    assert frames(DUMP.decode()) == [line.strip() for line in SHORT.decode().splitlines()]


def test_what_is_printed_before_and_after_a_dump_is_left_as_it_is() -> None:
    before, after = b"  indented\nhello\n\n", b"a child died\n  File it under lost\n\n"
    assert Shortener()(before + DUMP + after) == before + SHORT + after


def test_each_of_two_dumps_is_shortened() -> None:
    assert Shortener()(DUMP + DUMP) == SHORT + SHORT


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_it_does_not_matter_in_how_many_pieces_the_lines_come(count: int) -> None:
    lines = (b"hello\n" + DUMP + b"goodbye\n").splitlines(keepends=True)
    shortener = Shortener()
    pieces = [b"".join(lines[at : at + count]) for at in range(0, len(lines), count)]
    assert b"".join(map(shortener, pieces)) == b"hello\n" + SHORT + b"goodbye\n"


def test_a_dump_that_was_cut_off_has_at_least_its_title() -> None:
    assert frames(DUMP.decode()[:60]) == ["Fatal Python error: Segmentation fault"]


def test_it_knows_the_lines_that_this_pythons_faulthandler_writes() -> None:
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        written = file.read()
    short = Shortener()(b"Fatal Python error: Aborted\n\n" + written + b"goodbye\n").splitlines()
    assert short[0] == b"Fatal Python error: Aborted"
    assert b"in test_it_knows_the_lines" in short[1]
    assert short[-1] == b"goodbye"
    assert all(line.startswith(b"  File ") for line in short[1:-1])
