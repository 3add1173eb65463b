"""What both ends encrypt with."""

from __future__ import annotations

import os
import ssl

import pytest

from goliath.transport.tls import client_tls, without_authorities


def known() -> int:
    return ssl.create_default_context().cert_store_stats()["x509"]


@pytest.mark.parametrize("named", [None, "authorities.pem"])
def test_authorities_are_left_out_for_a_while_only(
    named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if named is not None:
        monkeypatch.setenv("SSL_CERT_FILE", named)
    before = known()
    with without_authorities():
        assert known() == 0
    assert os.environ.get("SSL_CERT_FILE") == named
    assert known() == before


def test_whoever_is_to_be_verified_is_verified_by_name() -> None:
    context = client_tls(verify=True)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_whoever_proves_the_certificate_by_the_login_needs_no_authority() -> None:
    context = client_tls(verify=False)
    assert context.verify_mode is ssl.CERT_NONE
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
