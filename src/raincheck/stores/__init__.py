"""Where operations are kept; `open_store` chooses by URL and imports only what that one needs."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from raincheck.errors import ConfigurationError

if TYPE_CHECKING:
    from raincheck.contracts import Store

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
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(f"this is not a URL of a store; known: {KNOWN}") from None
    if parts.scheme == "memory":
        from raincheck.stores.memory import MemoryStore

        return MemoryStore()
    path = unquote(parts.path)
    is_path = path.strip("/") and "\0" not in path and not parts.netloc and not parts.fragment
    if parts.scheme == "sqlite" and is_path:
        from raincheck.stores.sqlite import SQLiteStore

        return SQLiteStore(path, synchronous=_synchronous(parts.query))
    # Nothing but the scheme is shown: what follows may hold a password, wherever it stands.
    scheme = f"{parts.scheme}:…" if "://" in url else "this"
    raise ConfigurationError(f"{scheme} is not the URL of a store; known: {KNOWN}")


def _synchronous(query: str) -> str:
    name, _, value = query.partition("=")
    if not query:
        return "normal"
    if name != "synchronous" or value not in ("normal", "full"):
        raise ConfigurationError(
            "a store takes ?synchronous=normal or ?synchronous=full, nothing else"
        )
    return value
