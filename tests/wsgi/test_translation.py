"""What environs say of who asks and from where."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raincheck.wsgi.translation import certified_user, to_request
from tests.support.wsgi import environ_of


@pytest.mark.parametrize(
    ("port", "server"),
    [
        ("80", ("testserver", 80)),
        ("65535", ("testserver", 65535)),
        *((port, None) for port in ("", "\xb2", "\u0661", "123456", "9" * 5_000, "-1", "+1", " 1")),
    ],
)
def test_a_port_is_one_to_five_digits(port: str, server: Any) -> None:
    assert to_request(environ_of(SERVER_PORT=port)).server == server


def test_a_certificate_is_found_wherever_the_environ_is() -> None:
    environ = {"SSL_CLIENT_S_DN": "CN=anne"}
    named = certified_user(environ)
    assert named is not None
    assert "CN=anne" in named
    assert certified_user(SimpleNamespace(META=environ)) == named
    assert certified_user({"HTTP_SSL_CLIENT_S_DN": "CN=anne"}) is None, "anybody may send a field"
