"""What `encryption_key` may be; what it does is said in `test_captured_request`."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from raincheck import ConfigurationError
from raincheck.config.options import Settings
from raincheck.engine.encryption import PLAIN, Sealed, sealing_with

# Not made anew: they are in the names of tests, which several processes have to agree on.
KEY = "mB5oFJ1bQ3bBFX0F3v2v0iE0Cj1cO6C5r7gk2n1hT4s="
OTHER = "Yy0pWb1n2vF8q7t6Zs5xR4cV3bN2mK1jH0gF9dS8aP8="


@pytest.mark.parametrize("keys", [KEY, [KEY], (KEY, OTHER), iter([KEY, OTHER])])
def test_keys_may_be_one_or_several(keys: Any) -> None:
    settings = Settings(encryption_key=keys)
    assert isinstance(sealing_with(settings.encryption_key), Sealed)
    assert Settings(encryption_key=settings.encryption_key) == settings


def test_without_a_key_nothing_is_sealed() -> None:
    assert sealing_with(Settings().encryption_key) is PLAIN


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("s3cret", "encryption_key must be a Fernet key"),
        ("", "encryption_key must be a Fernet key"),
        ("s3cret" * 7 + "é=", "encryption_key must be a Fernet key"),
        (KEY[:-4], "encryption_key must be a Fernet key"),
        ([KEY, "s3cret"], "encryption_key must be a Fernet key"),
        ([], "encryption_key is an empty list"),
        ([KEY, KEY], "encryption_key holds one twice"),
        (KEY.encode(), "encryption_key must be a str or a list of them, not bytes"),
        ([KEY.encode()], "encryption_key must hold only str, not bytes"),
        (12345678, "encryption_key must be a str or a list of them, not int"),
        ({KEY: "s3cret"}, "encryption_key must be a str or a list of them, not dict"),
    ],
)
def test_a_wrong_key_is_said_and_not_shown(keys: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(encryption_key=keys)
    assert said in str(caught.value)
    assert not any(secret in str(caught.value) for secret in ("s3cret", KEY, "12345678"))
    with pytest.raises(ConfigurationError):
        Sealed(keys)


def test_settings_that_are_printed_show_no_key() -> None:
    assert KEY not in repr(Settings(encryption_key=KEY))


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.setitem(sys.modules, name, None)
    settings = Settings(encryption_key=KEY)
    with pytest.raises(ConfigurationError, match=r'pip install "raincheck\[encryption\]"'):
        sealing_with(settings.encryption_key)
