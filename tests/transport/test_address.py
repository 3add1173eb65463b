"""What users write for the address of a Lieutenant."""

from __future__ import annotations

from typing import Any

import pytest

from goliath.transport.address import Address, is_loopback, targets


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (("lab1", 8080), Address("lab1", 8080)),
        (["lab1", 8080], Address("lab1", 8080)),
        ("lab1:8080", Address("lab1", 8080)),
        (" lab1:8080 ", Address("lab1", 8080)),
        ("[::1]:8080", Address("::1", 8080)),
        ("ws://lab1:8080", Address("lab1", 8080, "ws")),
        ("wss://lab1", Address("lab1", 443, "wss")),
        ("ws://lab1/", Address("lab1", 80, "ws")),
        ("wss://[2001:db8::1]:9/some/prefix/", Address("2001:db8::1", 9, "wss", "/some/prefix")),
    ],
)
def test_addresses_are_understood(written: object, meant: Address):
    assert Address.parse(written) == meant  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "written",
    [
        "lab1",
        "lab1:",
        ":8080",
        "lab1:http",
        "lab1:0",
        "lab1:65536",
        "::1:8080",
        "http://lab1:80",
        "ws://",
        "ws://user@lab1:1",
        "ws://lab1:1?x=1",
        "ws://lab1:99999",
        "a b:1",
        ("lab1",),
        ("lab1", "8080"),
        ("lab1", True),
        (1, 2),
    ],
)
def test_what_is_no_address_is_refused_with_examples(written: object):
    with pytest.raises(ValueError, match=r"is not the address of a Lieutenant: write .*8080"):
        Address.parse(written)  # type: ignore[arg-type]


def test_an_address_reads_as_it_is_written():
    assert str(Address("lab1", 8080)) == "lab1:8080"
    assert str(Address("::1", 8080)) == "[::1]:8080"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_recognised(host: str):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["lab1", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.org"])
def test_other_hosts_are_not_loopback(host: str):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("lab1:8080", ["lab1:8080"]),
        (("lab1", 8080), [("lab1", 8080)]),
        ((("lab1", 8080),), [("lab1", 8080)]),
        (["lab1:8080", ("lab2", 8080)], ["lab1:8080", ("lab2", 8080)]),
        (("lab1:8080", "lab2:8080"), ["lab1:8080", "lab2:8080"]),
        (iter(["lab1:8080"]), ["lab1:8080"]),
    ],
)
def test_one_address_is_as_good_as_a_list_of_one(given: Any, meant: list[Any]):
    assert targets(given) == meant


def test_what_is_no_address_and_has_none_is_refused_by_the_forms_that_there_are():
    with pytest.raises(ValueError, match="8080 is not the address of a Lieutenant: write"):
        targets(8080)
