"""The way to a Redis server: clients, scripts, the server's clock, subscriptions. Knows no keys."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.cluster import RedisCluster
from redis.exceptions import ReadOnlyError, ResponseError
from redis.retry import Retry

from raincheck.engine.awake import Deadline, Moment
from raincheck.engine.per_process import PerProcess
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.stores.patience import SLACK, Patience
from raincheck.stores.redis.errors import FAILURES, Refused, explain
from raincheck.stores.redis.names import Command, to_run
from raincheck.stores.redis.scripts import TIME
from raincheck.stores.redis.url import Settings
from raincheck.stores.server_clock import ServerClock, measure

CONNECT_TIMEOUT = 2.0  # seconds, if the timeout is not shorter
NO_LIMIT = 1 << 30  # connections
ASK_EVERY = 5.0  # seconds without a message after which a subscription asks whether it still lives

logger = logging.getLogger("raincheck")

_T = TypeVar("_T")
_Client = Redis | RedisCluster


class Server:
    """A server or cluster; what is open to it belongs to one process, and a fork opens its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._link = PerProcess(partial(_Link, settings))

    def command(self, *command: str | bytes | float) -> Any:
        """Return the answer to one command."""
        return self._run(lambda client: _send(client, command))

    def commands(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to several commands, which run in order if on one node."""
        return self._run(lambda client: _pipe(client, commands)) if commands else []

    def after(
        self,
        first: Sequence[Command],
        last: Command,
        again: Sequence[Command] = (),
        later: Sequence[Command] = (),
    ) -> Any:
        """Return the answer to `last`, which runs between the others, if any; one round trip.

        In a cluster the others take their own, as nodes do not wait for each other.

        Args:
            later: What may fail when the rest is done.
        """

        def work(client: _Client) -> Any:
            if isinstance(client, Redis):
                return _pipe(client, [*first, last, *again], later)[len(first)]
            _pipe(client, first)
            answer = _send(client, last)
            _pipe(client, again, later)
            return answer

        return self._run(work) if first or again or later else self.command(*last)

    def now(self, key: str) -> float:
        """Return the time by the clock of the node that has `key`; seldom takes a round trip."""
        link = self._link.get()
        if link.clock is None:
            link.clock = ServerClock(partial(self._how_far_ahead, key))
        return link.clock()

    def _how_far_ahead(self, key: str) -> float:
        def work(client: _Client) -> float:
            # The quicker of two: the first may have had to connect.
            return min(measure(lambda: _tell_time(client, key)) for _ in range(2))[1]

        return self._run(work)

    def about(self) -> tuple[str, str | None]:
        """Return what the server is called, and its version if it tells."""
        try:
            answer = self.command("INFO", "server")
        except StoreUnavailable:
            raise
        except StoreError as error:  # many hosts forbid the command
            logger.debug("the Redis server's version is unknown: %s", error)
            return "Redis", None
        told = answer if "redis_version" in answer else next(iter(answer.values()))  # of a node
        if "valkey_version" in told:
            return "Valkey", str(told["valkey_version"])
        return "Redis", str(told["redis_version"])

    def subscribe(self, channel: str) -> Subscription:
        """Return what hears a channel from now on.

        Raises:
            StoreUnavailable: The server did not confirm it.
        """
        return self._run(lambda client: Subscription(client, channel, self.settings))

    def close(self) -> None:
        """Close this process's connections, but for those in use at this moment."""
        link = self._link.peek()
        if link is not None:
            link.close()

    def _run(self, work: Callable[[_Client], _T]) -> _T:
        link = self._link.get()

        def attempt() -> _T | Refused:
            if not link.take_place():
                return self._all_in_use()
            try:
                if not link.is_checked:
                    self._check(link)
                return work(link.client())
            except FAILURES as error:
                if isinstance(error, ReadOnlyError):
                    link.close()  # after a failover the name may lead to another server
                failure = explain(error, self.settings.address)
                if isinstance(failure, Refused):  # it answers, so it is not down
                    failure.__cause__ = error
                    return failure
                raise failure from error
            finally:
                link.places.release()

        answer = link.patience.call(attempt)
        if isinstance(answer, Refused):
            raise answer
        return answer

    def _all_in_use(self) -> Refused:
        return Refused(
            f"all connections to the Redis server {self.settings.address} were in use for "
            f"{self.settings.timeout:g} s: allow more with ?max_connections=…"
        )

    def _check(self, link: _Link) -> None:
        """Warn once in a process if the server may delete what was promised to be kept."""
        try:
            found = _send(link.client(), ("CONFIG GET", "maxmemory*"))
        except ResponseError as error:  # many hosts forbid the command, and choose the policy
            logger.debug("the Redis server's eviction policy is unknown: %s", error)
            found = {}
        if link.is_checked:  # by another thread
            return
        link.is_checked = True
        policy = found.get("maxmemory-policy", "noeviction")
        if int(found.get("maxmemory", 0)) and policy != "noeviction":
            logger.warning(
                "the Redis server %s may evict keys when its memory is full (maxmemory-policy %s): "
                "operations and their responses can be lost before they expire. "
                "Set maxmemory-policy noeviction, or use another server",
                self.settings.address,
                policy,
            )


class _Link:
    """What one process has open, and what it knows about the server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: _Client | None = None
        self._used = Moment.now()
        self.patience = Patience(settings.timeout + SLACK)
        # redis-py's own limit is no wait: whoever comes while it is reached fails at once.
        self.places = threading.BoundedSemaphore(settings.max_connections or NO_LIMIT)
        self.is_checked = False
        self.clock: ServerClock | None = None

    def take_place(self) -> bool:
        """Wait for one's turn to use a connection; False if it does not come in time."""
        deadline = Deadline(self._settings.timeout)
        while step := deadline.step:
            if self.places.acquire(timeout=step):
                return True
        return False

    def client(self) -> _Client:
        """Return this process's client.

        No lock: while a server hangs, threads would wait for each other. One client too many,
        at the start, is dropped.
        """
        if self._client is None:
            self._client = _open(self._settings)
        if self._used.has_slept:
            self.close()  # or who is at the other end may have forgotten the connections
        self._used = Moment.now()
        return self._client

    def close(self) -> None:
        """Close the connections that nobody uses."""
        client = self._client
        if isinstance(client, RedisCluster):
            found = client.get_nodes()  # type: ignore[no-untyped-call]  # redis-py says none
            nodes = [node.redis_connection for node in found]
        else:
            nodes = [client]
        for node in nodes:
            if node is not None:
                node.connection_pool.disconnect(inuse_connections=False)


class Subscription:
    """A connection that hears one channel; open when constructed."""

    def __init__(self, client: _Client, channel: str, settings: Settings) -> None:
        if isinstance(client, RedisCluster):  # every node hears what is published at any
            node = client.get_node_from_key(channel)  # type: ignore[no-untyped-call]  # as above
            client = client.get_redis_connection(node)
        self._settings = settings
        self._pubsub: PubSub = client.pubsub()  # type: ignore[no-untyped-call]  # as above
        self._heard, self._asked, self._overdue = time.monotonic(), False, False
        try:
            self._pubsub.subscribe(channel)
            if self._pubsub.get_message(timeout=settings.timeout) is None:
                raise TimeoutError("no answer to SUBSCRIBE")
        except BaseException:
            self.close()
            raise

    def hear(self, timeout: float) -> bytes | None:
        """Return the next message; None if there was none in time, or some may have been missed.

        Raises:
            StoreUnavailable: The connection is lost.
        """
        deadline = time.monotonic() + timeout
        try:
            while (left := deadline - time.monotonic()) > 0:
                message = self._pubsub.get_message(timeout=min(left, ASK_EVERY))
                if message is None:
                    self._ask()
                    continue
                self._heard, self._asked, self._overdue = time.monotonic(), False, False
                if message["type"] == "message":
                    return bytes(message["data"])
                if message["type"] == "subscribe":  # again, after a connection was lost
                    return None
        except FAILURES as error:
            raise explain(error, self._settings.address) from error
        return None

    def _ask(self) -> None:
        """See that the server is still there: a connection that it has lost looks idle."""
        silence = time.monotonic() - self._heard
        if silence > ASK_EVERY and not self._asked:
            self._asked = True
            self._pubsub.ping()
        elif silence > ASK_EVERY + self._settings.timeout:
            if self._overdue:
                raise TimeoutError("no answer to PING")
            self._overdue = True  # the answer may have come while this process was frozen

    def close(self) -> None:
        """Close the connection."""
        self._pubsub.close()


def _open(settings: Settings) -> _Client:
    connect_timeout = min(settings.timeout, CONNECT_TIMEOUT)
    retry = Retry(NoBackoff(), 0)  # `Patience` does that
    kind = RedisCluster if settings.cluster else Redis
    return kind.from_url(
        settings.url,
        retry=retry,
        socket_timeout=settings.timeout,
        socket_connect_timeout=connect_timeout,
    )


def _send(client: _Client, command: Command) -> Any:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py says none


def _tell_time(client: _Client, key: str) -> float:
    seconds, microseconds = _send(client, to_run(TIME, [key], []))
    return int(seconds) + int(microseconds) / 1e6


def _pipe(client: _Client, commands: Sequence[Command], later: Sequence[Command] = ()) -> list[Any]:
    """Return the answers to commands that are sent together.

    Args:
        later: Sent with them; what they meet is only said.
    """
    with client.pipeline(transaction=False) as pipeline:
        for command in (*commands, *later):
            pipeline.execute_command(*command)
        # redis-py would put the command, and so an operation's whole id, into the error's text.
        answers = pipeline.execute(raise_on_error=False)
    for n, answer in enumerate(answers):
        if isinstance(answer, Exception):
            if n < len(commands):
                raise answer
            logger.info("what could be done later was not done: %s", answer)
    return answers
