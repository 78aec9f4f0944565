"""What a failure of redis-py or of the server means to the user of a store, and what to do."""

from __future__ import annotations

import ssl
from typing import NamedTuple

from redis import exceptions as redis

from raincheck.errors import StoreError, StoreUnavailable

FAILURES = (redis.RedisError, redis.RedisClusterException, OSError)


class Refused(StoreUnavailable):
    """A server that answers does not do it now, though it may do something else."""


class _Case(NamedTuple):
    """Kinds of failure, or the first words of their texts; what they are to us; what to do."""

    kinds: tuple[type[Exception] | str, ...]
    error: type[StoreError]
    advice: str


# The first that fits counts: an AuthenticationError is also a ConnectionError.
_CASES = (
    _Case(
        (redis.AuthenticationError, redis.AuthenticationWrongNumberOfArgsError),
        StoreError,
        "refused the login: check the user and the password in the store's URL",
    ),
    _Case(
        (redis.AuthorizationError, redis.NoPermissionError),
        StoreError,
        "does not let this user do it: allow it all commands on keys and channels with the prefix",
    ),
    _Case(
        (redis.MovedError, redis.AskError, redis.ClusterCrossSlotError, "MOVED", "ASK"),
        StoreError,
        "is a node of a cluster: add cluster=true to the store's URL",
    ),
    _Case(
        ("Cluster mode is not enabled", "This instance has cluster support disabled"),
        StoreError,
        "is no cluster: remove cluster=true from the store's URL",
    ),
    _Case(
        ("WRONGTYPE",),
        StoreError,
        "holds something else under this prefix: choose another one in the store's URL",
    ),
    _Case(
        (redis.ReadOnlyError,),
        Refused,
        "is a read-only replica: name the primary in the store's URL, or wait for the failover",
    ),
    _Case(
        (redis.OutOfMemoryError,),
        Refused,
        "is out of memory: raise maxmemory, or keep large bodies elsewhere",
    ),
    _Case((redis.BusyLoadingError,), StoreUnavailable, "is loading its data: wait"),
    _Case(
        ("MISCONF", "NOREPLICAS", "BUSY"),
        Refused,
        "accepts no writes at present: see its log",
    ),
    _Case(
        (redis.ClusterError, redis.TryAgainError, redis.RedisClusterException, "CLUSTERDOWN"),
        StoreUnavailable,
        "is part of a cluster that is not complete: wait for its failover, or see its log",
    ),
    _Case(
        (redis.TimeoutError, TimeoutError),
        StoreUnavailable,
        "does not answer in time: see whether it is overloaded or cut off",
    ),
    _Case(
        (redis.ConnectionError, OSError),
        StoreUnavailable,
        "can't be reached: see whether it runs and listens there",
    ),
)
_TLS = _Case(
    (),
    StoreUnavailable,
    "can't be reached by TLS: see whether this port speaks it, and whether the store's URL trusts "
    "the server's certificate (ssl_ca_certs)",
)
_ANY = _Case((), StoreError, "refused: see whether it is Redis 6.2, Valkey 7.2, or newer")


def explain(error: BaseException, address: str) -> StoreError:
    """Return what to raise for a failure.

    Args:
        address: Host and port of the server, for the message.
    """
    if isinstance(error, redis.RedisClusterException) and error.__cause__ is not None:
        return explain(error.__cause__, address)  # of the last node that it tried
    if isinstance(error.__context__, ssl.SSLError):  # redis-py makes a ConnectionError of it
        case = _TLS
    else:
        case = next((case for case in _CASES if _fits(error, case)), _ANY)
    return case.error(f"the Redis server {address} {case.advice} ({error})")


def _fits(error: BaseException, case: _Case) -> bool:
    return any(
        str(error).startswith(kind) if isinstance(kind, str) else isinstance(error, kind)
        for kind in case.kinds
    )
