"""What the URL of a PostgreSQL store says: to us, and to libpq. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from raincheck.errors import ConfigurationError
from raincheck.stores.patience import LONGEST_TIMEOUT, TIMEOUT, to_timeout

POOL = 8  # connections
LONGEST_NAME = 63  # bytes; the server would cut what is longer


class ParsedURL(NamedTuple):
    """What a store is made of."""

    parameters: dict[str, Any]
    schema: str | None = None
    timeout: float = TIMEOUT
    pool: int = POOL


def parse_url(url: str) -> ParsedURL:
    """Split a URL into our parameters and libpq's.

    Raises:
        ConfigurationError: One of them is unknown, wrong, or there twice. It shows none that may
            be a secret.
    """
    base, _, query = url.partition("?")
    ours: dict[str, str] = {}
    others: list[str] = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name not in ("schema", "timeout", "pool"):
            others.append(pair)
        elif name in ours:
            raise ConfigurationError(f"the URL of a PostgreSQL store has {name} twice")
        else:
            ours[name] = unquote(value)
    return ParsedURL(
        _libpq_parameters(f"{base}?{'&'.join(others)}".rstrip("?")),
        schema=_schema(ours["schema"]) if "schema" in ours else None,
        timeout=_seconds(ours["timeout"]) if "timeout" in ours else TIMEOUT,
        pool=_count(ours["pool"]) if "pool" in ours else POOL,
    )


def _libpq_parameters(url: str) -> dict[str, Any]:
    try:
        return dict(conninfo_to_dict(url))
    except (psycopg.Error, UnicodeError, ValueError):
        # libpq's own message shows the URL, or the value it can't understand.
        raise ConfigurationError(
            "this is not the URL of a PostgreSQL store: "
            "postgresql://user:password@host:5432/database, with ?schema=, timeout=, pool= and "
            "what libpq knows (sslmode, target_session_attrs …); special characters as %XX"
        ) from None


def _schema(text: str) -> str:
    encoded = text.encode(errors="replace")
    if not text or "\0" in text or len(encoded) > LONGEST_NAME:
        raise ConfigurationError(
            f"schema in the URL of a PostgreSQL store has to be a name of 1 to {LONGEST_NAME} bytes"
        )
    return text


def _seconds(text: str) -> float:
    seconds = to_timeout(text)
    if seconds is None:
        raise ConfigurationError(
            "timeout in the URL of a PostgreSQL store has to be a number of seconds above 0 and "
            f"up to {LONGEST_TIMEOUT:g}"
        )
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) < 10_000 and len(text) < 6):
        raise ConfigurationError(
            "pool in the URL of a PostgreSQL store has to be a number of connections from 1 on"
        )
    return int(text)
