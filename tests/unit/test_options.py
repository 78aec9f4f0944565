"""Options are checked when the middleware is made, and their errors help."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from raincheck import ConfigurationError, Limits
from raincheck.asgi import RaincheckMiddleware
from raincheck.config.options import Options, Settings


async def app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("not called")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budgt": 2}, "did you mean 'budget'"),
        ({"colour": 2}, "known: budget"),
        ({"budget": -1}, "budget must be a number of seconds"),
        ({"budget": "2"}, "budget must be"),
        ({"budget": float("nan")}, "budget must be"),
        ({"budget": True}, "budget must be"),
        ({"budgets": {"/a": -1}}, "budgets['/a'] must be"),
        ({"budgets": {"a": 1}}, "path pattern"),
        ({"mode": "sometimes"}, "mode must be one of auto, prefer, marked"),
        ({"location": "url"}, "location must be"),
        ({"dialect": "klingon"}, "dialect must be one of location, see-other"),
        ({"prefix": "operations"}, "prefix must be"),
        ({"prefix": "/operations/"}, "prefix must be"),
        ({"prefix": "/"}, "prefix must be"),
        ({"prefix": "/a b"}, "prefix must be"),
        ({"public_url": "example.org"}, "public_url must be"),
        ({"public_url": "https://e.org/?q"}, "public_url can't have"),
        ({"public_url": "https://e.org", "location": "path"}, "needs location="),
        ({"retention": None}, "retention must be"),
        ({"owner": "me"}, "owner must be callable"),
        ({"status_url": "/x"}, "status_url must be callable"),
        ({"limits": {"operatons": 1}}, "limits has operations"),
        ({"limits": {"operations": -1}}, "operations must be"),
        ({"store": "mongodb://user:secret@host"}, "is not the URL of a store"),
        ({"include": "/a"}, "give include a list"),
        ({"identity_headers": "X-API-Key"}, "give identity_headers a list"),
        ({"identity_headers": ["X-API-Key:"]}, "give identity_headers a list"),
        ({"identity_headers": [b"x-api-key"]}, "give identity_headers a list"),
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"abandon_after": 14}, "abandon_after must be at least 15 seconds"),
    ],
)
def test_a_wrong_option_is_said_at_construction(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RaincheckMiddleware(app, **options)
    assert said in str(caught.value)
    assert "user:secret" not in str(caught.value)


def test_options_are_keyword_only() -> None:
    middleware: Any = RaincheckMiddleware
    with pytest.raises(TypeError):
        middleware(app, 2.0)


def test_the_types_of_options_and_settings_are_the_same() -> None:
    assert get_type_hints(Options) == get_type_hints(Settings)


def test_every_option_is_documented() -> None:
    text = Settings.__doc__ or ""
    assert [f.name for f in fields(Settings) if f"{f.name}:" not in text] == []


def test_limits_may_be_a_mapping() -> None:
    settings = Settings.build({"limits": {"operations": 5}})
    assert settings.effective_limits() == Limits(operations=5)


def test_construction_opens_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    RaincheckMiddleware(app)
    RaincheckMiddleware(app, store=f"sqlite://{tmp_path}/a/b.db")
    assert list(tmp_path.iterdir()) == []
