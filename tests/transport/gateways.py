"""What stands between the two ends on the Internet: an authority that signs certificates,
proxies that end TLS (honest ones and relays), and proxies that are asked to CONNECT."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from goliath.transport.tls import ServerTls


class Authority:
    """A certificate authority, with its files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("an authority")
        self.file = folder / "authority.pem"
        certificate = (
            _draft(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(self._identifier(), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _identifier(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())

    def sign(self, host: str) -> ServerTls:
        """A certificate for a host name, with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier())
        certificate = (
            _draft(_name(host), self._name, key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        file = self._folder / f"{host}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return ServerTls(file, file)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer,
        subject,
        key,
        x509.random_serial_number(),
        now - timedelta(days=1),
        now + timedelta(days=1),
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(eq=False)
class Gateway:
    """A proxy, and what went through it."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    passed: bytearray = field(default_factory=bytearray)

    async def join(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Pass bytes both ways until either end has enough."""
        try:
            with suppress(OSError):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._pump(near[0], far[1]))
                    tasks.create_task(self._pump(far[0], near[1]))
        finally:  # also when the gateway is closed before them
            for _, writer in (near, far):
                writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(64 * 1024):
                self.passed += data
                target.write(data)
                await target.drain()
        target.transport.abort()


@asynccontextmanager
async def _serving(gateway: Gateway, serve, context: ssl.SSLContext | None) -> AsyncIterator[None]:
    busy: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        busy.add(task)
        try:
            # A cancelled one has nobody to tell: asyncio's streams would complain of it.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()
            busy.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    gateway.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        while busy:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
        await asyncio.sleep(0.01)  # closed transports tell so a turn later


@asynccontextmanager
async def ending_tls(
    target: int,
    tls: ServerTls | ssl.SSLContext,
    *,
    strip: str = "",
    onwards: ssl.SSLContext | None = None,
) -> AsyncIterator[Gateway]:
    """A proxy that ends TLS in front of a port of loopback.

    Args:
        onwards: begin another TLS connection there, as a relay does.
        strip: a path prefix that it takes off, as many do.
    """
    gateway = Gateway()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, rest = head.split(b" ", 2)
        gateway.asked.append(path.decode())
        far = await asyncio.open_connection("127.0.0.1", target, ssl=onwards)
        far[1].write(b" ".join((method, path.removeprefix(strip.encode()), rest)))
        await gateway.join((reader, writer), far)

    context = tls.context() if isinstance(tls, ServerTls) else tls
    async with _serving(gateway, serve, context):
        yield gateway


@asynccontextmanager
async def connecting(target: int, *, refuse: bool = False) -> AsyncIterator[Gateway]:
    """A proxy for CONNECT, through which every host and port is this port of loopback."""
    gateway = Gateway()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        gateway.asked.append(head.split(b"\r\n")[0].decode())
        if refuse:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        far = await asyncio.open_connection("127.0.0.1", target)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await gateway.join((reader, writer), far)

    async with _serving(gateway, serve, None):
        yield gateway
