"""Where operations are kept; `open_store` chooses by URL and imports only what that one needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from raincheck.errors import ConfigurationError

if TYPE_CHECKING:
    from raincheck.operations.store import Store

OBJECTS = "raincheck:objects"  # the id of a record that is no operation (see `objects`)
KNOWN = (
    "memory:, sqlite:///absolute/path.db, sqlite:relative.db, redis://host:6379/0, "
    "postgresql://user@host/database"
)


class _Kind(NamedTuple):
    """Where the stores of a scheme are: a module with `from_url`, and the extra it needs."""

    module: str
    extra: str | None = None


_KINDS = {
    "memory": _Kind("memory"),
    "sqlite": _Kind("sqlite"),
    "redis": _Kind("redis", "redis"),
    "rediss": _Kind("redis", "redis"),
    "valkey": _Kind("redis", "redis"),
    "valkeys": _Kind("redis", "redis"),
    "postgresql": _Kind("postgresql", "postgres"),
    "postgres": _Kind("postgresql", "postgres"),
}
_OBJECTS = _Kind("objects", "object-storage")


def open_store(url: str) -> Store:
    """Return the store that a URL names; nothing is opened before its first use.

    Args:
        url: `memory:`, `sqlite:///path` (two slashes and an absolute path), `redis://…` or
            `postgresql://…`; each store's `from_url` says what else may be in it.

    Raises:
        ConfigurationError: The URL names no store, or what it needs is not installed.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    kind = _KINDS.get(scheme)
    if kind is None:
        raise not_a_store(url)
    store: Store = _load(kind).from_url(url)
    return store


def keep_bodies(store: Store, elsewhere: str | None) -> Store:
    """Return a store that keeps large bodies elsewhere; the same one if there is no elsewhere.

    Args:
        elsewhere: The URL of an object storage, such as `s3://bucket/prefix`.

    Raises:
        ConfigurationError: It names no storage, or what it needs is not installed.
    """
    if elsewhere is None:
        return store
    kept: Store = _load(_OBJECTS).with_bodies_at(store, elsewhere)
    return kept


def not_a_store(url: str) -> ConfigurationError:
    """Say so without showing more than the scheme: what follows may hold a password."""
    scheme = f"{url.partition(':')[0]}:…" if "://" in url else "this"
    return ConfigurationError(f"{scheme} is not the URL of a store; known: {KNOWN}")


def _load(kind: _Kind) -> Any:
    try:
        return import_module(f"raincheck.stores.{kind.module}")
    except ModuleNotFoundError as error:
        if kind.extra is None or (error.name or "").startswith("raincheck"):
            raise
        raise ConfigurationError(
            f'this store needs {error.name}: pip install "raincheck[{kind.extra}]"'
        ) from error
