"""What webhooks may be configured with. Pure: no host is looked up here."""

from __future__ import annotations

import base64
import inspect
import ipaddress
import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from urllib.parse import urlsplit

from raincheck.errors import ConfigurationError

_URL_CHARACTERS = re.compile(r"[!-~]+")  # ASCII that can be seen; in a host name: punycode
_SECRET = re.compile(r"whsec_([A-Za-z0-9+/=]+)")
_SECRET_BYTES = range(24, 65)  # of Standard Webhooks
_PACKAGES = ("httpcore", "standardwebhooks")


def check_webhook(
    webhook: object, secret: object, networks: str | Iterable[object]
) -> tuple[str, ...]:
    """Check the options of webhooks against each other, and return the networks.

    Raises:
        ConfigurationError: One is wrong or missing, or what they need is not installed.
    """
    if webhook is not None and secret is None:
        raise ConfigurationError("webhook needs webhook_secret, which signs what it is told")
    if isinstance(webhook, str):
        check_webhook_url(webhook)
    elif webhook is not None and not _is_plain_callable(webhook):
        raise ConfigurationError("webhook must be a URL, or a callable that is not async")
    if secret is not None:
        _check_installed()
        _check_secret(secret)
    return _read_networks(networks)


def check_webhook_url(url: str) -> None:
    """Check a URL, which may hold credentials and is therefore not shown.

    Raises:
        ConfigurationError: Nothing can be posted there.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets or a port that mean nothing
        usable = False
    if not usable or not _URL_CHARACTERS.fullmatch(url):
        raise ConfigurationError(
            "a webhook must be a URL like https://example.org/hook, encoded (RFC 3986, punycode)"
        )
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"the webhook at {parts.hostname} has credentials in its URL, which nobody would "
            "send: what it is told is signed"
        )


def _is_plain_callable(value: object) -> bool:
    return isinstance(value, Callable) and not inspect.iscoroutinefunction(value)  # type: ignore[arg-type]


def _check_installed() -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f'webhooks need {" and ".join(missing)}: pip install "raincheck[webhooks]"'
        )


def _check_secret(secret: object) -> None:
    match = _SECRET.fullmatch(secret) if isinstance(secret, str) else None
    try:
        key = base64.b64decode(match[1], validate=True) if match else b""
    except ValueError:
        key = b""
    if len(key) not in _SECRET_BYTES:
        raise ConfigurationError(
            "webhook_secret must be whsec_ and 24 to 64 random bytes in base64; make one with "
            "python -c \"import base64, secrets; print('whsec_' + "
            'base64.b64encode(secrets.token_bytes(32)).decode())"'
        )


def _read_networks(networks: str | Iterable[object]) -> tuple[str, ...]:
    if isinstance(networks, str) or not isinstance(networks, Iterable):
        raise ConfigurationError(f"give webhook_networks a list of networks, not {networks!r}")
    return tuple(_read_network(network) for network in networks)


def _read_network(network: object) -> str:
    try:
        return str(ipaddress.ip_network(network if isinstance(network, str) else ""))
    except ValueError:
        raise ConfigurationError(
            f"webhook_networks has networks like 10.1.0.0/16, with no bits set beyond the "
            f"prefix, unlike {network!r}"
        ) from None
