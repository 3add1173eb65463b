"""What the faulthandler writes when C code has crashed: its title, and the user's own frames.

A whole dump has the frames of each thread, most of them Goliath's, and comes again with each
attempt at the call. ::

    Fatal Python error: Segmentation fault

    Thread 0x00007f3a417756c0 (most recent call first):
      File "…/goliath/transport/blocking.py", line 164 in _read
      …
    Current thread 0x00007f3df0491b80 (most recent call first):
      File "…/ctypes/__init__.py", line 519 in string_at
      File "sweep.py", line 4 in boom
      File "<goliath: the loop around the calls>", line 4 in step
      …
"""

from __future__ import annotations

from goliath.actors.loops import OWN_FILE

BEGINS = "Fatal Python error: "
_TITLE = BEGINS.encode()
_CURRENT = b"Current thread "
_FRAMES = (b"  File ", b"  Binary file ", b"  ...", b"  <")
_OTHER_LINES = (
    b"\n",
    b"Thread 0x",
    b"Stack (",
    b"Current thread's C stack trace",  # from Python 3.14 on
    b"Extension modules: ",
    b"Python runtime state: ",
    b"<Cannot show ",
)
_OURS = (OWN_FILE.encode(), b"/goliath/actors/")


class Shortener:
    """Takes out of what a process writes all of a dump but its title and the user's frames.

    ::

        shortener = Shortener()
        shortener(b"hello\\nFatal Python error: Aborted\\n\\nThread 0x00007f3a417756c0 (mo…")
    """

    def __init__(self) -> None:
        self._inside = self._wanted = False

    def __call__(self, text: bytes) -> bytes:
        """Those of the next lines that are to be seen."""
        if not self._inside and _TITLE not in text:
            return text
        return b"".join(line for line in text.splitlines(keepends=True) if self._keeps(line))

    def _keeps(self, line: bytes) -> bool:
        if line.startswith(_TITLE):
            self._inside, self._wanted = True, False
            return True
        if not self._inside:
            return True
        if line.startswith(_FRAMES):
            self._wanted = self._wanted and not any(part in line for part in _OURS)
            return self._wanted
        self._wanted = line.startswith(_CURRENT)
        self._inside = self._wanted or line.startswith(_OTHER_LINES)
        return not self._inside


def frames(dump: str) -> list[str]:
    """The title, and the user's frames of the thread that died, the innermost first."""
    return [line.strip() for line in Shortener()(dump.encode()).decode().splitlines()]
