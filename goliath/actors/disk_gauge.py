"""How much the disk holds of a directory: the kernel keeps no account of that for a session."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

BLOCK_BYTES = 512  # what `st_blocks` counts, whatever the disk's own are


def bytes_below(directory: Path) -> int:
    """Of all files below it, as far as they can be seen: what is written meanwhile may be missed.

    A file with holes counts as what is there of it, and no file as more than its length: else
    many small ones would be more than was shipped. Links are not followed. Blocking; to be run in a
    thread.
    """
    total = 0
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    total += bytes_below(Path(entry.path))
                else:
                    status = entry.stat(follow_symlinks=False)
                    total += min(status.st_size, status.st_blocks * BLOCK_BYTES)
    return total
