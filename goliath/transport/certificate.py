"""The Lieutenant's own certificate: encryption for those who brought none.

Clients do not check who signed it; the login proves that this very certificate belongs to
the Lieutenant that has the token (`keys.tls_binding`). It is made at the first start and kept,
so that a Commander that has pinned it (``goliath login``) finds the same one again. The standard
library cannot make certificates: that is left to the ``cryptography`` package or, without it,
to the ``openssl`` program.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from goliath.errors import AuthenticationError
from goliath.machine import machine_name
from goliath.transport.private_files import make_private_directory, read_private, state_directory

VALID_DAYS = 36_500  # nobody looks: what ends the trust in it is another token
OPENSSL_MAX_S = 30.0
_OPENSSL_CONFIG = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = goliath\n"


def own_certificate(environ: Mapping[str, str] | None = None) -> Path:
    """The PEM file (0600) with this user's key and certificate for this machine; it is made if
    there is none.

    Raises:
        AuthenticationError: others can read it, or nothing here can make one.
        OSError: it cannot be written.
    """
    directory = state_directory(environ)
    # One for each machine: homes are shared, and a node that was broken into must not be
    # able to pass for the others.
    path = directory / f"certificate-{machine_name()}.pem"
    if not path.exists():
        make_private_directory(directory)
        _make(path)
    read_private(path, "certificate with its key")
    return path


def _make(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        made = Path(folder) / "made.pem"
        with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_by_package() or _by_program(Path(folder)))
        # Of several Lieutenants that start at once the first one wins.
        with suppress(FileExistsError):
            os.link(made, path)


def _by_package() -> bytes:
    """Key and certificate in PEM, by the ``cryptography`` package; nothing without it."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        return b""
    from datetime import UTC, datetime, timedelta

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "goliath")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _by_program(folder: Path) -> bytes:
    """The same, by the ``openssl`` program."""
    program = shutil.which("openssl")
    if program is None:
        raise AuthenticationError(
            "a network address needs a certificate, and nothing here can make one: "
            "`pip install 'goliath[tls]'`, or install the openssl program, or give --tls-cert and "
            "--tls-key"
        )
    config, key, certificate = folder / "config", folder / "key", folder / "certificate"
    config.write_text(_OPENSSL_CONFIG)
    command = [
        *(program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-sha256", "-days", str(VALID_DAYS), "-config", str(config)),
        *("-keyout", str(key), "-out", str(certificate)),
    ]
    try:
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=OPENSSL_MAX_S,
        )
    except subprocess.CalledProcessError as exc:
        said = exc.stderr.decode(errors="replace").strip()
        raise AuthenticationError(
            f"{program} could not make a certificate ({said}); `pip install 'goliath[tls]'`, or "
            "give --tls-cert and --tls-key"
        ) from exc
    except subprocess.TimeoutExpired as exc:
        raise AuthenticationError(
            f"{program} made no certificate in {OPENSSL_MAX_S:g} s; `pip install 'goliath[tls]'`, "
            "or give --tls-cert and --tls-key"
        ) from exc
    return key.read_bytes() + certificate.read_bytes()
