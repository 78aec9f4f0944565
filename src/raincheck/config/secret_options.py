"""Checks of the options that are secrets: one, or several of which the first is used from now on.

No error shows a secret. Pure: whether the packages that use them are there is seen elsewhere.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

from raincheck.errors import ConfigurationError

Secrets = str | Iterable[str] | None

SHORTEST = 16  # characters of a secret that nobody guesses
LONGEST_LIFETIME = 100 * 365 * 86_400  # seconds
_FERNET_KEY = 32  # bytes


def url_secrets(value: Secrets) -> tuple[str, ...]:
    """Return the secrets that sign URLs; none for None.

    Raises:
        ConfigurationError: One is too short or given twice, or there is none.
    """
    secrets = _several("url_secret", value)
    if any(len(secret) < SHORTEST for secret in secrets):
        raise ConfigurationError(
            f"url_secret must have at least {SHORTEST} characters that nobody can guess, such as "
            "secrets.token_urlsafe() returns"
        )
    return secrets


def encryption_keys(value: Secrets) -> tuple[str, ...]:
    """Return the keys that captured requests are encrypted with; none for None.

    Raises:
        ConfigurationError: One is no Fernet key or given twice, or there is none.
    """
    keys = _several("encryption_key", value)
    if not all(_is_fernet_key(key) for key in keys):
        raise ConfigurationError(
            "encryption_key must be a Fernet key (32 bytes in URL-safe base64, 44 characters), "
            "such as cryptography.fernet.Fernet.generate_key().decode() returns"
        )
    return keys


def check_url_lifetime(value: object) -> None:
    """Check how long a signed URL is to be good for, in seconds.

    Raises:
        ConfigurationError: It is no such number.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value <= LONGEST_LIFETIME:  # type: ignore[operator]
        raise ConfigurationError(
            f"url_lifetime must be a number of seconds > 0 and ≤ {LONGEST_LIFETIME} (a century), "
            f"not {value!r}"
        )


def _several(name: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, (bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{name} must be a str or a list of them, not {_kind(value)}")
    secrets = (value,) if isinstance(value, str) else tuple(value)
    for secret in secrets:
        if not isinstance(secret, str):
            raise ConfigurationError(f"{name} must hold only str, not {_kind(secret)}")
    if not secrets:
        raise ConfigurationError(f"{name} is an empty list; leave it out if there is to be none")
    if len(set(secrets)) < len(secrets):
        raise ConfigurationError(f"{name} holds one twice; list each once, the newest first")
    return secrets


def _kind(value: object) -> str:
    return type(value).__name__


def _is_fernet_key(key: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(key)) == _FERNET_KEY
    except ValueError:  # also binascii.Error
        return False
