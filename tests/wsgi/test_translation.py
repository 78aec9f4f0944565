"""What environs say of who asks and from where."""

from __future__ import annotations

from typing import Any

import pytest

from raincheck.wsgi.translation import certified_user, to_request
from tests.support.wsgi import Call, environ_of, follow, wrap


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


def test_a_user_is_named_by_a_certificate() -> None:
    environ = {"SSL_CLIENT_S_DN": "CN=anne"}
    named = certified_user(environ)
    assert named is not None
    assert "CN=anne" in named
    assert certified_user({"HTTP_SSL_CLIENT_S_DN": "CN=anne"}) is None, "anybody may send a field"


@pytest.mark.parametrize("budget", [0, 60])
@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("HTTP_X_A", 3, b"3"),
        ("HTTP_X_A", b"abc", b"abc"),
        ("HTTP_X_A", "\u20ac", "\u20ac".encode()),
        ("HTTP_X_A", "caf\xe9", b"caf\xe9"),
        ("HTTP_X_A", None, None),
        ("HTTP_IDEMPOTENCY_KEY", 3, b"3"),
        ("HTTP_PREFER", 3, b"3"),
        ("CONTENT_LENGTH", 3, b"3"),
        ("CONTENT_LENGTH", 0, None),
    ],
)
def test_an_environ_of_a_test_client_may_hold_what_no_server_has(
    name: str, value: Any, field: bytes | None, budget: float
) -> None:
    seen = list[Any]()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ[name])
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    environ = environ_of("/", "POST", body=b"abc") | {name: value}
    described = dict(to_request(environ).headers)
    assert described.get(name.removeprefix("HTTP_").replace("_", "-").lower().encode()) == field
    wrapped = wrap(app, budget=budget)
    done = Call(wrapped, environ).run()
    done = done if budget else follow(wrapped, done)
    assert (done.error, done.status, seen) == (None, 200, [value])


def test_a_path_of_a_test_client_may_be_decoded_already() -> None:
    assert to_request(environ_of() | {"PATH_INFO": "/\u20ac"}).path == "/\u20ac"
