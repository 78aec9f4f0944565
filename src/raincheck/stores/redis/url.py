"""What the URL of a Redis store may say. Opens nothing, and repeats no URL: it holds secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from redis import ConnectionPool
from redis.exceptions import RedisError

from raincheck.errors import ConfigurationError
from raincheck.stores import not_a_store
from raincheck.stores.patience import LONGEST_TIMEOUT, TIMEOUT, to_timeout

_SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
_OURS = ("prefix", "cluster", "timeout", "max_connections")
_PLAIN = ("client_name", "health_check_interval", "protocol")
_TLS = (
    *("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"),
    *("ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version", "ssl_ciphers"),
)
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_COUNT = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)
_DATABASE = re.compile(r"/?|/[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a URL says.

    Attributes:
        url: What redis-py is given; holds the credentials.
        address: The server's host and port, for messages.
        database: The number of the database on it.
        prefix: What all keys begin with.
        cluster: Whether the server is a node of a cluster.
        timeout: Seconds to wait for an answer.
        max_connections: How many calls of a process may use a connection at once; None is no limit.
    """

    url: str
    address: str
    database: int
    prefix: str
    cluster: bool
    timeout: float
    max_connections: int | None

    def __repr__(self) -> str:
        return f"<Settings of {self.address}>"


def parse(url: str) -> Settings:
    """Read a URL.

    Raises:
        ConfigurationError: It is not the URL of a Redis server, or has a wrong parameter.
    """
    parts, address = _server(url)
    given = _parameters(parts)
    ours = {name: given.pop(name) for name in _OURS if name in given}
    settings = Settings(
        url=_for_driver(parts, given),
        address=address,
        database=int(parts.path.strip("/") or 0),
        prefix=_prefix(ours.get("prefix", "raincheck")),
        cluster=_cluster(ours.get("cluster", "false"), parts),
        timeout=_timeout(ours.get("timeout", str(TIMEOUT))),
        max_connections=_max_connections(ours.get("max_connections")),
    )
    _try(settings.url)
    return settings


def _server(url: str) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise not_a_store(url) from None  # its text may show the URL
    if parts.scheme not in _SCHEMES or not parts.netloc or parts.fragment:
        raise not_a_store(url)
    if not _DATABASE.fullmatch(parts.path):
        raise not_a_store(url)
    host = host or "localhost"
    return parts, f"[{host}]:{port or 6379}" if ":" in host else f"{host}:{port or 6379}"


def _parameters(parts: SplitResult) -> dict[str, str]:
    known = (*_OURS, *_PLAIN, *(_TLS if _SCHEMES[parts.scheme] == "rediss" else ()))
    try:
        given = parse_qsl(parts.query, strict_parsing=True, keep_blank_values=True)
    except ValueError:
        given = [("", "")] if parts.query else []
    names = [name for name, _ in given]
    if not set(names) <= set(known) or len(set(names)) < len(names):
        # Without saying which: what follows a `?` may be half of a password.
        _refuse(f"takes these parameters, each at most once: {', '.join(known)}")
    return dict(given)


def _for_driver(parts: SplitResult, given: dict[str, str]) -> str:
    given = {"protocol": "2"} | given  # all servers speak it, and it takes no handshake
    if given["protocol"] not in ("2", "3"):
        _refuse("takes protocol=2 or protocol=3")
    return parts._replace(scheme=_SCHEMES[parts.scheme], query=urlencode(given)).geturl()


def _prefix(value: str) -> str:
    if not _PREFIX.fullmatch(value):
        _refuse("takes a prefix of up to 100 letters, digits, and any of _ . : -")
    return value


def _cluster(value: str, parts: SplitResult) -> bool:
    if value not in ("true", "false"):
        _refuse("takes cluster=true or cluster=false")
    if value == "true" and parts.path.strip("/0"):
        _refuse("has no other database than 0 where it is a cluster")
    return value == "true"


def _timeout(value: str) -> float:
    timeout = to_timeout(value)
    if timeout is None:
        _refuse(f"takes a timeout of more than 0 and up to {LONGEST_TIMEOUT:g} seconds")
    return timeout


def _max_connections(value: str | None) -> int | None:
    if value is not None and not _COUNT.fullmatch(value):
        _refuse("takes max_connections from 1 to 9999")
    return None if value is None else int(value)


def _try(url: str) -> None:
    """Let redis-py judge its own parameters; a connection is made but not opened."""
    try:
        ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, AttributeError, RedisError):
        _refuse("was given a parameter with a value that redis-py does not take")


def _refuse(what: str) -> NoReturn:
    raise ConfigurationError(f"the URL of a Redis store {what}") from None
