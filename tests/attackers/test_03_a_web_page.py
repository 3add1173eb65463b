"""Attacker 3: a web page in the user's browser, which may reach the loopback interface."""

from __future__ import annotations

import pytest

from tests.transport.ends import Sessions, listening
from tests.transport.test_door import UPGRADE, raw, status_of


async def test_a_web_page_is_refused_before_the_upgrade():
    async with listening(Sessions()) as listener:
        assert await status_of(listener.port) == 101
        assert await status_of(listener.port, Origin="http://evil.example") == 403
        assert await status_of(listener.port, Origin="") == 403
        assert await status_of(listener.port, Host="evil.example") == 403
        assert await status_of(listener.port, Host=f"localhost:{listener.port}") == 101
        assert await status_of(listener.port, Host="[::1]:1") == 101


@pytest.mark.parametrize(
    "path", ["/", "/goliath", "/goliath/v2", "/goliath/v1/", "//goliath/v1", "/x/goliath/v1"]
)
async def test_any_other_path_is_refused(path: str):
    async with listening(Sessions()) as listener:
        assert await status_of(listener.port, path) == 404


async def test_on_loopback_the_public_name_is_a_known_host():
    async with listening(Sessions(), public_name="lab.example.org") as listener:
        assert await status_of(listener.port, Host="Lab.example.org") == 101
        assert await status_of(listener.port, Host="lab.example.com") == 403


async def test_two_hosts_in_one_request_are_refused():
    async with listening(Sessions()) as listener:
        hosts = b"Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n"
        answer = await raw(listener.port, UPGRADE + hosts)
        assert answer.split()[1] in (b"400", b"403")


async def test_whoever_is_refused_costs_no_session_and_no_login():
    far = Sessions()
    async with listening(far) as listener:
        for headers in ({"Origin": "http://evil.example"}, {"Host": "rebound.example"}):
            assert await status_of(listener.port, **headers) == 403
        assert far.ends == []
