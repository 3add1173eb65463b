"""What both ends encrypt with."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goliath.record import frozen

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


@frozen
class ServerTls:
    """The PEM files of a Lieutenant's certificate and key; they may be one file."""

    cert_file: Path
    key_file: Path

    def context(self) -> ssl.SSLContext:
        """TLS 1.3 only: both ends are ours.

        Raises:
            OSError: the files cannot be read, or are not a certificate and its key.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
        return context

    def certificate(self) -> bytes:
        """The certificate that clients will see, as DER: the first one of the file.

        Raises:
            OSError: the file cannot be read.
            ValueError: there is none in it.
        """
        pem = self.cert_file.read_text()
        first = pem[pem.index(_BEGIN) :]
        return ssl.PEM_cert_to_DER_cert(first[: first.index(_END) + len(_END)])


def _no_password() -> str:
    """OpenSSL would ask the terminal, and a Lieutenant has nobody there."""
    raise ssl.SSLError("the key is encrypted; give one without a passphrase, of mode 0600")


def client_tls(*, verify: bool) -> ssl.SSLContext:
    """Without ``verify`` any certificate will do, because the login proves which one it is."""
    if verify:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the authorities: they take 40 ms
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


@contextmanager
def without_authorities() -> Iterator[None]:
    """Whoever makes a TLS context meanwhile knows no certificate authorities.

    aiohttp makes one when it is imported, for connections that say nothing of TLS, of which we have
    none: 90 of its 290 ms. For processes that are ours: in the user's, aiohttp may be his, too.
    """
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # which OpenSSL looks up
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
