"""Which modules are the user's own: neither installed nor of the standard library.

A node can import what is installed, as far as both ends have it; the user's own modules
exist only where the user works.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from functools import cache
from types import ModuleType


def is_users_own(name: str) -> ModuleType | None:
    """The loaded module of this name if it is the user's own, else None."""
    module = sys.modules.get(name)
    if module is None or name == "__main__" or name.partition(".")[0] == "goliath":
        return None
    path = getattr(module, "__file__", None)
    return module if path and not _is_installed(path) else None


@cache
def _is_installed(path: str) -> bool:
    real = os.path.realpath(path)
    if {"site-packages", "dist-packages"} & set(real.split(os.sep)):
        return True
    return any(real.startswith(root) for root in _installed_roots())


@cache
def _installed_roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    roots = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    roots.update(site.getsitepackages() if hasattr(site, "getsitepackages") else ())
    return tuple(os.path.realpath(root) + os.sep for root in roots)
