"""Which Python, cloudpickle and protocols an end has, and whether two ends can work together."""

from __future__ import annotations

from functools import cache

from goliath.errors import VersionMismatchError
from goliath.record import frozen

PACKAGES = (
    "goliath", "cloudpickle", "numpy", "pandas", "polars", "pyarrow", "scipy", "scikit-learn",
    "torch", "orjson", "aiohttp", "uvloop",
)  # fmt: skip
"""Whose versions matter at both ends: what pickles, what is often in pickles, what carries them."""


@cache
def package_versions() -> dict[str, str]:
    """Those of them that are installed here, with their versions."""
    from importlib import metadata  # 14 ms and 2 MiB, for those who ask

    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@frozen
class Versions:
    """``python`` is major and minor: pickled functions are readable by the same minor only."""

    python: str
    cloudpickle: str

    def same_python(self, theirs: str) -> bool:
        """Whether functions can be exchanged with that Python."""
        return theirs == self.python

    def check_python(self, theirs: str) -> None:
        """Compare with the Lieutenant's.

        Raises:
            VersionMismatchError: another minor version.
        """
        if not self.same_python(theirs):
            raise VersionMismatchError(
                f"this is Python {self.python} and the Lieutenant runs Python {theirs}: functions "
                "cannot be exchanged between minor versions; start one of them with the other's"
            )

    def check_protocol(self, name: str, ours: int, theirs: int) -> None:
        """Compare the version of a protocol.

        Raises:
            VersionMismatchError: they differ.
        """
        if ours != theirs:
            raise VersionMismatchError(
                f"this Goliath speaks version {ours} of the {name} protocol and the Lieutenant "
                f"version {theirs}: install the same release of Goliath at both ends"
            )
