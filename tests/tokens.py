"""Tokens, and files of them and of a certificate, for nodes that are reached from elsewhere."""

from __future__ import annotations

from pathlib import Path

TOKEN = "glt1_" + "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA"
ANOTHER = "glt1_" + "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

FIXTURES = Path(__file__).parent / "fixtures"
CERTIFICATE, KEY = FIXTURES / "certificate.pem", FIXTURES / "key.pem"
TLS_FLAGS = ("--tls-cert", str(CERTIFICATE), "--tls-key", str(KEY))
"""Of a node that has no certificate made for itself, which takes a while."""


def written(path: Path, *lines: str) -> Path:
    """A file with these lines that only its owner can read, as files of tokens must be."""
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o600)
    return path
