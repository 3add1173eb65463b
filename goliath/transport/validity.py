"""Until when a certificate is valid, read from its bytes.

The standard library tells that only of certificates that an authority vouches for, and ours are
proved by the token. It takes no more than to walk along the first fields of the DER::

    Certificate ::= SEQUENCE { tbs SEQUENCE {
        [0] version OPTIONAL, serial, algorithm, issuer, validity SEQUENCE { from, until }, … } … }
"""

from __future__ import annotations

from datetime import UTC, datetime

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def valid_until(certificate: bytes) -> datetime:
    """The last moment of a certificate (DER).

    Raises:
        ValueError: it is none.
    """
    try:
        return _valid_until(certificate)
    except (IndexError, UnicodeDecodeError) as exc:
        raise ValueError("that is no certificate") from exc


def _valid_until(certificate: bytes) -> datetime:
    fields = _items(_inside(_inside(certificate, _SEQUENCE), _SEQUENCE))
    if fields[0][0] == _VERSION:
        del fields[0]
    tag, validity = fields[3]  # behind serial, algorithm and issuer
    if tag != _SEQUENCE:
        raise ValueError("the certificate does not say until when it is valid")
    kind, text = _items(validity)[1]
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}.get(kind, "")
    return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC)


def _inside(data: bytes, tag: int) -> bytes:
    """What is in the first item, which has to be of this kind."""
    found, content, _ = _item(data)
    if found != tag:
        raise ValueError(f"DER of kind {found:#x}, not {tag:#x}")
    return content


def _items(data: bytes) -> list[tuple[int, bytes]]:
    items = []
    while data:
        tag, content, data = _item(data)
        items.append((tag, content))
    return items


def _item(data: bytes) -> tuple[int, bytes, bytes]:
    """Kind and content of the first item, and what is behind it."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start])
    if start + length > len(data):
        raise ValueError("a certificate that was cut short")
    return tag, data[start : start + length], data[start + length :]
