"""Whose a process is that was left behind: told by what it has inherited."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from goliath.actors.page import Page, create_page_file
from goliath.actors.strays import tag_of
from goliath.transport.arena import Arena


@contextmanager
def forked() -> Iterator[int]:
    """A process that was forked, and executes nothing."""
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture(params=["a memfd", "a file"])
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """That of the worker ``0123cafe``, which this process is for now."""
    if request.param == "a file":
        monkeypatch.delattr(os, "memfd_create")
    fd = create_page_file("0123cafe")
    monkeypatch.undo()
    page = Page(fd)
    os.close(fd)
    yield page
    page.close()


def test_a_forked_process_has_the_page_of_its_worker(page: Page):
    with forked() as pid:
        assert tag_of(pid) == "0123cafe"


def test_an_arena_is_not_taken_for_the_page_of_a_worker(page: Page):
    arenas = [Arena.make([1 << 20]) for _ in range(3)]  # below the page, where maps begin
    assert None not in arenas
    with forked() as pid:
        assert tag_of(pid) == "0123cafe"
