"""Posting to a URL that a stranger may have chosen, and that may be anything.

Only addresses that the guard allows are connected to, without asking for them again. Redirects are
not followed, proxies of the environment not used. What the other side does, it is over in time.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import httpcore

from raincheck.engine.webhooks.guard import Guard, NotSent

DEADLINE = 15.0  # seconds for all of it but the look-up of the host, which only the system ends
CONNECTING = 5.0  # seconds for one address
MOST_BYTES = 64 * 1024  # that are read; more than any status and its headers need

_FAILURES = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


class Sender:
    """Posts messages, each over a connection of its own.

    Args:
        guard: Says which addresses may be reached.
        deadline: Seconds that one may take.
    """

    def __init__(self, guard: Guard, *, deadline: float = DEADLINE) -> None:
        self._guard = guard
        self._deadline = deadline

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpcore.default_ssl_context()  # trusts what the system does, SSL_CERT_FILE included

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Return the status that was answered.

        Raises:
            NotSent: None was.
        """
        target = httpcore.URL(url)
        everything = [("host", urlsplit(url).netloc), *headers.items()]
        network = _GuardedNetwork(self._guard, _Bounds(self._deadline))
        try:
            with (
                httpcore.HTTPConnection(
                    target.origin, ssl_context=self._tls, network_backend=network
                ) as connection,
                # The body of the answer is of no interest, and not waited for.
                connection.stream("POST", target, headers=everything, content=body) as response,
            ):
                return response.status
        except _FAILURES as error:
            raise NotSent(str(error) or type(error).__name__) from error


class _Bounds:
    """What is left of the time and the bytes of one post."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._bytes = MOST_BYTES

    def seconds_left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore.TimeoutException(f"it has taken more than {self._seconds:g} seconds")
        return left

    def count(self, data: bytes) -> bytes:
        self._bytes -= len(data)
        if self._bytes < 0:
            raise httpcore.ReadError(f"it has answered more than {MOST_BYTES} bytes")
        return data


class _GuardedNetwork(httpcore.NetworkBackend):
    def __init__(self, guard: Guard, bounds: _Bounds) -> None:
        self._guard = guard
        self._bounds = bounds
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = NotSent("it has no address")
        for address in self._guard.addresses(host, port):
            seconds = min(CONNECTING, self._bounds.seconds_left())
            try:
                stream = self._network.connect_tcp(address, port, seconds)
                return _BoundedStream(stream, self._bounds)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _BoundedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, bounds: _Bounds) -> None:
        self._stream = stream
        self._bounds = bounds

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._bounds.count(self._stream.read(max_bytes, self._bounds.seconds_left()))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._bounds.seconds_left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            seconds = self._bounds.seconds_left()
        except httpcore.TimeoutException:
            self.close()  # nobody else knows of it yet
            raise
        stream = self._stream.start_tls(ssl_context, server_hostname, seconds)
        return _BoundedStream(stream, self._bounds)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
