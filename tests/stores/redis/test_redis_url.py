"""What the URL of a Redis store may say; nothing is opened, and no error repeats a secret."""

from __future__ import annotations

import pytest

from raincheck.errors import ConfigurationError
from raincheck.stores import open_store
from raincheck.stores.redis import RedisStore, from_url
from raincheck.stores.redis.url import parse


@pytest.mark.parametrize(
    ("url", "passed_on"),
    [
        ("redis://h", "redis://h?protocol=2"),
        ("valkey://h:1/3", "redis://h:1/3?protocol=2"),
        ("rediss://u:p%40@h/0", "rediss://u:p%40@h/0?protocol=2"),
        ("valkeys://h?ssl_cert_reqs=none", "rediss://h?protocol=2&ssl_cert_reqs=none"),
        ("redis://h?prefix=a:b&timeout=1&cluster=false&protocol=3", "redis://h?protocol=3"),
        ("redis://h/0?cluster=true&client_name=x", "redis://h/0?protocol=2&client_name=x"),
    ],
)
def test_the_driver_gets_what_is_its_own(url: str, passed_on: str) -> None:
    assert parse(url).url == passed_on


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", None),
        ("redis:///1", None),
        ("redis://user:s3cret@h", "h:6379"),
        ("redis://:s3cret@[::1]:7000/2", "[::1]:7000"),
        ("rediss://:s3cret@h:7", "h:7"),
    ],
)
def test_an_address_is_all_that_is_shown_of_a_url(url: str, address: str | None) -> None:
    if address is None:
        with pytest.raises(ConfigurationError):
            parse(url)
        return
    settings = parse(url)
    assert settings.address == address
    assert "s3cret" not in repr(settings)


def test_our_parameters_have_defaults() -> None:
    settings = parse("redis://h")
    assert (settings.prefix, settings.cluster, settings.timeout) == ("raincheck", False, 5.0)
    assert settings.max_connections is None
    settings = parse("redis://h?prefix=x&cluster=true&timeout=0.5&max_connections=8")
    assert (settings.prefix, settings.cluster, settings.timeout) == ("x", True, 0.5)
    assert settings.max_connections == 8


@pytest.mark.parametrize(
    "url",
    [
        "redis:user:s3cret@host",
        "redis://user:s3cret@[::1",
        "redis://user:p#s3cret@host",
        "redis://user:p/s3cret@host",
        "redis://user:p?s3cret@host",
        "redis://user:p?s3cret=1@host",
        "redis://user:s3cret@host:port",
        "redis://user:s3cret@host:99999",
        "redis://user:s3cret@host/name",
        "redis://user:s3cret@host/0/1",
        "redis://user:s3cret@host#part",
        "redis://host?password=s3cret",
        "redis://host?prefix=s3cret&prefix=s3cret",
        "redis://host?prefix=",
        "redis://host?prefix={s3cret}",
        "redis://host?prefix=s3cret=1",
        "redis://host?timeout=s3cret",
        "redis://host?timeout=0",
        "redis://host?timeout=nan",
        "redis://host?timeout=inf",
        "redis://host?timeout=11",
        "redis://host?cluster=s3cret",
        "redis://host/1?cluster=true",
        "redis://host?protocol=s3cret",
        "redis://host?max_connections=s3cret",
        "redis://host?max_connections=0",
        "redis://host?max_connections=12345",
        "redis://host?ssl_ca_certs=s3cret",
        "redis://host?decode_responses=true",
        "redis://host?retry_on_timeout=true",
        "redis://host?socket_timeout=1",
        "rediss://host?ssl_cert_reqs=s3cret",
        "unix:///s3cret.sock",
        "redis://",
    ],
)
def test_a_wrong_url_is_a_configuration_error_that_shows_no_secret(url: str) -> None:
    for function in (open_store, from_url):
        with pytest.raises(ConfigurationError) as caught:
            function(url)
        assert "s3cret" not in f"{caught.value} {caught.value.__cause__}"
        assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_a_store_is_opened_by_its_scheme_and_constructing_opens_nothing(scheme: str) -> None:
    store = open_store(f"{scheme}://user:s3cret@192.0.2.1:1/0")  # where nobody is
    assert isinstance(store, RedisStore)
    store.close()
