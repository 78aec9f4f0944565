"""Webhooks that can't work are found when the middleware is constructed."""

from __future__ import annotations

import base64
import sys
from typing import Any

import pytest

from raincheck.config.webhook_options import check_webhook, check_webhook_url
from raincheck.errors import ConfigurationError
from tests.webhooks.receivers import SECRET

URL = "https://example.org/hook?token=t0k3n"


def test_nothing_is_needed_where_there_are_no_webhooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpcore", None)
    assert check_webhook(None, None, ()) == ()


@pytest.mark.parametrize("webhook", [URL, lambda request: None])
def test_a_url_or_a_callable_and_a_secret_are_enough(webhook: object) -> None:
    assert check_webhook(webhook, SECRET, iter(["10.1.0.0/16", "::1"])) == (
        "10.1.0.0/16",
        "::1/128",
    )


def test_a_webhook_needs_a_secret() -> None:
    with pytest.raises(ConfigurationError, match="needs webhook_secret"):
        check_webhook(URL, None, ())


async def asynchronous(request: object) -> str:
    return URL


@pytest.mark.parametrize("webhook", [1, b"http://example.org", asynchronous])
def test_a_webhook_is_a_url_or_a_plain_callable(webhook: object) -> None:
    with pytest.raises(ConfigurationError, match="must be a URL, or a callable"):
        check_webhook(webhook, SECRET, ())


@pytest.mark.parametrize("package", ["httpcore", "standardwebhooks"])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    wanted = rf'need {package}: pip install "raincheck\[webhooks\]"'
    with pytest.raises(ConfigurationError, match=wanted):
        check_webhook(URL, SECRET, ())


def encoded(length: int) -> str:
    return base64.b64encode(bytes(length)).decode()


@pytest.mark.parametrize(
    "secret",
    [
        *("", "whsec_", "whsec_s3cret!", SECRET.removeprefix("whsec_"), SECRET[:-1], b"whsec_AAAA"),
        *(f"whsec_{encoded(23)}", f"whsec_{encoded(65)}", f"{SECRET}\n", f"whsec_{'ü' * 32}"),
    ],
)
def test_a_secret_that_is_none_is_refused_and_not_shown(secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="python -c") as caught:
        check_webhook(URL, secret, ())
    assert not secret or len(secret) < 8 or f"{secret}" not in f"{caught.value}"


@pytest.mark.parametrize("length", [24, 64])
def test_secrets_of_all_lengths_of_the_standard_are_taken(length: int) -> None:
    check_webhook(URL, f"whsec_{encoded(length)}", ())


def test_the_command_that_is_shown_makes_a_good_secret(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_webhook(URL, "bad", ())
    exec(f"{caught.value}".partition('python -c "')[2].removesuffix('"'))  # noqa: S102
    check_webhook(URL, capsys.readouterr().out.strip(), ())


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.org/t0k3n", "ftp://example.org/t0k3n", "http:///t0k3n", "http://[t0k3n"),
        *("http://example.org:port/t0k3n", "http://example.org:99999/t0k3n", "file:///t0k3n"),
        *("http://example.org:0/t0k3n", "http://exämple.org/t0k3n", "http://example.org/t0k3n\n"),
        *("http://example.org/t0k3n x", "http://exam\tple.org/t0k3n", "http://a\0b/t0k3n"),
        *("http://user:t0k3n@example.org/", "http://example.org\\@127.0.0.1/t0k3n"),
    ],
)
def test_a_url_that_is_none_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_webhook_url(url)
    assert "t0k3n" not in f"{caught.value}"


@pytest.mark.parametrize(
    "url", [URL, "http://127.0.0.1:80", "HTTP://EXAMPLE.ORG./", "https://[::1]:8443/a?b#c"]
)
def test_other_urls_are_taken(url: str) -> None:
    check_webhook_url(url)


@pytest.mark.parametrize("networks", ["10.0.0.0/8", 10, ["10.0.0.1/8"], ["intranet"], [10], [""]])
def test_networks_are_a_list_of_networks(networks: Any) -> None:
    with pytest.raises(ConfigurationError, match="webhook_networks"):
        check_webhook(URL, SECRET, networks)
