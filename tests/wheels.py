"""Packages to be installed without an index: wheels made here, and the settings to find them."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, source: str, *needs: str) -> Path:
    """A wheel of one module of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Requires-Dist: {need}\n" for need in needs]
    files = {
        f"{name}.py": source,
        f"{about}/METADATA": "".join(metadata),
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"])
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


def make_stuck(folder: Path, scratch: Path) -> Callable[[], list[int]]:
    """The source of a package, ``stuck``, whose build never ends; gives the processes in it."""
    source = scratch / "stuck-1.0"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'slow'\nbackend-path = ['.']\n"
    )
    (source / "slow.py").write_text(
        f"import os, pathlib, time\n"
        f"pathlib.Path({str(scratch)!r}, f'pid-{{os.getpid()}}').touch()\ntime.sleep(600)\n"
    )
    with tarfile.open(folder / "stuck-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, "stuck-1.0")
    return lambda: [int(path.name.removeprefix("pid-")) for path in scratch.glob("pid-*")]


def settings(folder: Path) -> dict[str, str]:
    """Environment variables by which the installers look there, and nowhere else."""
    return {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(folder),
    }
