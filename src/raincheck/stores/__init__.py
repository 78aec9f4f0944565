"""Where operations are kept; `open_store` chooses by URL and imports only what that one needs."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from raincheck.contracts import Store
from raincheck.errors import ConfigurationError

KNOWN = "memory:, sqlite:///absolute/path.db, sqlite:relative.db"


def open_store(url: str) -> Store:
    """Return the store that a URL names; nothing is opened before its first use.

    Args:
        url: `memory:` or `sqlite:///path` (two slashes and an absolute path).
            `?synchronous=full` makes SQLite wait for the disk at every commit, so that not even
            a power cut loses one.

    Raises:
        ConfigurationError: The URL names no store.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        from raincheck.stores.memory import MemoryStore

        return MemoryStore()
    if parts.scheme == "sqlite" and not parts.netloc and parts.path.strip("/"):
        from raincheck.stores.sqlite import SQLiteStore

        return SQLiteStore(unquote(parts.path), synchronous=_synchronous(parts.query))
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    raise ConfigurationError(f"{shown!r} is not the URL of a store; known: {KNOWN}")


def _synchronous(query: str) -> str:
    name, _, value = query.partition("=")
    if not query:
        return "normal"
    if name != "synchronous" or value not in ("normal", "full"):
        raise ConfigurationError(f"?{query}: expected synchronous=normal or synchronous=full")
    return value
