"""Ways to a Lieutenant that is not next door: proxies that end the TLS, path prefixes, proxies
that are asked to CONNECT."""

from __future__ import annotations

from pathlib import Path

import pytest

from goliath.errors import AuthenticationError, ConnectionError as NoLieutenant
from goliath.transport.address import Address
from goliath.transport.tls import client_tls
from tests.transport.ends import TLS, Sessions, control, dialing, listening, make_dialer
from tests.transport.gateways import Authority, connecting, ending_tls
from tests.transport.test_door import QUICK, over_tls, trouble_of

NAME = "localhost"
FAR = "lab.example.test"  # known to nobody but the proxies of these tests


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The one that this process trusts."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


def by_name(port: int, sessions: Sessions, prefix: str = ""):
    address = Address(NAME, port, "wss", prefix)
    return make_dialer(port, sessions, QUICK, address=address, tls="ca")


async def talk(near: Sessions, far: Sessions) -> None:
    (await near.end()).send(control(1))
    assert await (await far.end()).received(1) == [control(1)]


# -- a proxy that ends the TLS -----------------------------------------------------------


@pytest.mark.parametrize("strip", ["", "/lab/one"], ids=["keeps the prefix", "takes it off"])
async def test_behind_a_proxy_the_authority_vouches_for_the_public_name(
    authority: Authority, strip: str
):
    near, far = Sessions(), Sessions()
    async with (
        listening(far, QUICK, public_name="LocalHost", prefix="/lab/one") as listener,
        ending_tls(listener.port, authority.sign(NAME), strip=strip) as proxy,
        dialing(by_name(proxy.port, near, "/lab/one")),
    ):
        await talk(near, far)
        assert proxy.asked == ["/lab/one/goliath/v1"]


async def test_a_lieutenant_that_was_not_told_its_public_name_refuses_and_the_error_says_how(
    authority: Authority,
):
    near, far = Sessions(), Sessions()
    async with (
        listening(far, QUICK) as listener,
        ending_tls(listener.port, authority.sign(NAME)) as proxy,
    ):
        error = await trouble_of(by_name(proxy.port, near), near)
        assert isinstance(error, AuthenticationError)
        assert "--public-name localhost" in str(error)
        assert far.ends == []


async def test_a_public_name_is_no_other_name(authority: Authority):
    near, far = Sessions(), Sessions()
    async with (
        listening(far, QUICK, public_name="lab.example.org") as listener,
        ending_tls(listener.port, authority.sign(NAME)) as proxy,
    ):
        error = await trouble_of(by_name(proxy.port, near), near)
        assert isinstance(error, AuthenticationError)
        assert far.ends == []


async def test_a_proxy_that_nobody_said_anything_of_is_a_relay_and_the_error_says_what_to_do(
    authority: Authority,
):
    near, far = Sessions(), Sessions()
    async with (
        listening(far, QUICK, public_name=NAME) as listener,
        ending_tls(listener.port, authority.sign(NAME)) as proxy,
    ):
        error = await trouble_of(over_tls(proxy.port, near), near)
        assert isinstance(error, AuthenticationError)
        assert 'tls="ca"' in str(error)
        assert far.ends == []


async def test_a_certificate_for_another_name_is_refused_before_the_login(authority: Authority):
    near, far = Sessions(), Sessions()
    async with (
        listening(far, QUICK, public_name=NAME) as listener,
        ending_tls(listener.port, authority.sign("other.example.test")) as proxy,
    ):
        error = await trouble_of(by_name(proxy.port, near), near)
        assert isinstance(error, NoLieutenant)
        assert "certificate is not trusted" in str(error)
        assert far.ends == []


# -- a proxy on the way out ----------------------------------------------------------------


async def test_https_proxy_is_asked_to_connect_and_the_certificate_is_still_proved(
    monkeypatch: pytest.MonkeyPatch,
):
    near, far = Sessions(), Sessions()
    async with (
        listening(far, QUICK, tls=TLS, public_name=FAR) as listener,
        connecting(listener.port) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        dialer = make_dialer(0, near, QUICK, address=Address(FAR, 8080))
        async with dialing(dialer):
            await talk(near, far)
        assert proxy.asked == [f"CONNECT {FAR}:8080 HTTP/1.1"]


async def test_a_connect_proxy_cannot_put_another_certificate_in_between(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    near, far = Sessions(), Sessions()
    relay = Authority(tmp_path).sign(FAR)
    async with (
        listening(far, QUICK, tls=TLS, public_name=FAR) as listener,
        ending_tls(listener.port, relay, onwards=client_tls(verify=False)) as middle,
        connecting(middle.port) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        error = await trouble_of(make_dialer(0, near, QUICK, address=Address(FAR, 8080)), near)
        assert isinstance(error, AuthenticationError)
        assert middle.asked, "the relay was in between"
        assert far.ends == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_this_machine_is_reached_without_the_proxy(
    monkeypatch: pytest.MonkeyPatch, host: str
):
    near, far = Sessions(), Sessions()
    async with listening(far, QUICK, tls=TLS) as listener, connecting(1) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        address = Address(host, listener.port, "wss")
        async with dialing(make_dialer(0, near, QUICK, address=address)):
            await talk(near, far)
        assert proxy.asked == []


async def test_no_proxy_is_obeyed(monkeypatch: pytest.MonkeyPatch):
    near = Sessions()
    async with connecting(1) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "example.test")
        error = await trouble_of(make_dialer(0, near, QUICK, address=Address(FAR, 8080)), near)
        assert "does not resolve" in str(error)
        assert proxy.asked == []


async def test_a_proxy_that_refuses_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
):
    near = Sessions()
    async with connecting(1, refuse=True) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter2@127.0.0.1:{proxy.port}")
        error = await trouble_of(make_dialer(0, near, QUICK, address=Address(FAR, 8080)), near)
    assert isinstance(error, NoLieutenant)
    assert f"the proxy 127.0.0.1:{proxy.port} (HTTPS_PROXY) answered HTTP 403" in str(error)
    assert "hunter2" not in str(error)


async def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, free_port: int):
    near = Sessions()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port}")
    error = await trouble_of(make_dialer(0, near, QUICK, address=Address(FAR, 8080)), near)
    assert f"the proxy 127.0.0.1:{free_port} (HTTPS_PROXY) cannot be reached" in str(error)
