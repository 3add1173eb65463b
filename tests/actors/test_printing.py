"""What workers print, on its way to the user, whatever the user has made of his streams."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from goliath.actors.printing import OutputLine, Printer, write_to
from goliath.transport.messages import Output


def output(text: bytes, stream: str = "stdout") -> Output:
    return Output(stream, "foo", 3, text)


def test_lines_are_prefixed_with_who_said_them(capsys: pytest.CaptureFixture[str]):
    printer = Printer("prefix")
    printer("lab1:8080", output(b"one\ntwo\n"))
    printer("lab1:8080", output(b"oops", "stderr"))
    out, err = capsys.readouterr()
    assert out == "(foo lab1:8080 worker=3) one\n(foo lab1:8080 worker=3) two\n"
    assert err == "(foo lab1:8080 worker=3) oops\n"


def test_raw_output_is_left_alone_and_off_is_off(capsys: pytest.CaptureFixture[str]):
    Printer("raw")("n", output(b"no newline"))
    Printer("off")("n", output(b"nothing"))
    assert capsys.readouterr().out == "no newline"


def test_bytes_that_are_no_text_are_replaced(capsys: pytest.CaptureFixture[str]):
    Printer("raw")("n", output(b"\xff\xfe"))
    assert capsys.readouterr().out == "\ufffd\ufffd"


def test_a_callable_gets_each_line_with_all_that_is_known_of_it():
    lines: list[OutputLine] = []
    Printer(lines.append)("lab1:8080", output(b"one\ntwo\n"))
    assert [line.text for line in lines] == ["one", "two"]
    line = lines[0]
    assert line == "(foo lab1:8080 worker=3) one"
    assert (line.stream, line.function, line.node, line.worker) == (
        "stdout",
        "foo",
        "lab1:8080",
        3,
    )


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_callable_that_raises_is_reported_and_goes_on(
    error: type[BaseException], capsys: pytest.CaptureFixture[str]
):
    def sore(line: str) -> None:
        raise error("sore")

    printer = Printer(sore)
    printer("n", output(b"one\n"))
    printer("n", output(b"two\n"))
    assert capsys.readouterr().err.count(f"given as output=, raised {error.__name__}('sore')") == 2


@pytest.mark.parametrize("target", ["loud", None, 5])
def test_an_unknown_target_is_refused(target: Any):
    with pytest.raises(ValueError, match="output="):
        Printer(target)


class Odd:
    """What a user may put in the place of a stream."""

    def write(self, text: str) -> None:
        raise RuntimeError("odd")


def test_whatever_the_user_has_made_of_his_streams_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, Odd(), object()):
        monkeypatch.setattr(sys, "stdout", stream)
        Printer("raw")("n", output(b"lost"))


def test_what_a_stream_cannot_encode_is_escaped_and_not_lost(monkeypatch: pytest.MonkeyPatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii"))
    write_to("stderr", "caf\u00e9\n")
    assert raw.getvalue() == b"caf\\xe9\n"
