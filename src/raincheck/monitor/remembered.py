"""What polls were told, for the same client that asks the same again while nothing has changed.

Clients poll more often than operations change. What is remembered is what any other poll would be
told: of the same operation by the same request, with the same estimates.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass

from raincheck.engine.per_process import PerProcess
from raincheck.http.messages import Request, StoredBody
from raincheck.monitor import estimates
from raincheck.monitor.poll import Answer, Poll
from raincheck.operations.durations import Sketch
from raincheck.operations.operation import Operation, is_expired

MOST = 512  # polls that are remembered
LARGEST_CHUNK_BYTES = 64 * 1024
CHUNKS_BYTES = 4 * 1024 * 1024  # together
LARGEST_BYTES = 4096  # of a request's header fields, and of a response's header fields and body


@dataclass(frozen=True, slots=True)
class _Told:
    """What one poll was told.

    Attributes:
        asked: All of the request that the answer may depend on.
        foreseen: All of the answer that depends on the time.
    """

    asked: Hashable
    operation: Operation
    foreseen: Hashable
    answer: Answer


class Remembered:
    """Remembers the latest polls of one status monitor."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], _Told] = {}

    def recall(
        self, poll: Poll, operation: Operation, now: float, past: Sketch | None
    ) -> Answer | None:
        """Return what the same poll was told, if it would be told the same now."""
        told = self._told.get((poll.operation_id, poll.resource))
        if told is None or told.operation is not operation or told.asked != _asked(poll):
            return None
        return told.answer if told.foreseen == _foreseen(operation, now, past) else None

    def note(
        self, poll: Poll, operation: Operation, now: float, past: Sketch | None, answer: Answer
    ) -> None:
        """Remember what a poll is told, if nothing else decides what the next one is told."""
        request = poll.request
        is_simple = not (request.query or request.header(b"prefer") or answer.feed)
        if is_simple and _is_small(request, answer):
            if len(self._told) >= MOST:
                self._told.pop(next(iter(self._told)), None)
            foreseen = _foreseen(operation, now, past)
            told = _Told(_asked(poll), operation, foreseen, answer)
            self._told[poll.operation_id, poll.resource] = told


class Chunks:
    """Remembers the first chunks of small bodies that were read last. Thread-safe.

    They do not change; whether they may still be shown, the record says.
    """

    def __init__(self) -> None:
        self._read: dict[tuple[str, int], bytes] = {}
        self._size = 0
        self._lock = PerProcess(threading.Lock)

    def recall(self, body: StoredBody) -> bytes | None:
        """Return the first chunk of a body; None: it is not remembered."""
        return self._read.get((body.operation_id, body.fence))

    def note(self, body: StoredBody, chunk: bytes) -> None:
        """Remember the first chunk of a body."""
        key = body.operation_id, body.fence
        with self._lock.get():
            if len(chunk) > LARGEST_CHUNK_BYTES or key in self._read:
                return
            while self._read and self._size + len(chunk) > CHUNKS_BYTES:
                self._forget(next(iter(self._read)))
            self._read[key] = chunk
            self._size += len(chunk)

    def forget(self, operation_id: str) -> None:
        """Forget what an operation has answered."""
        with self._lock.get():
            for key in [key for key in self._read if key[0] == operation_id]:
                self._forget(key)

    def _forget(self, key: tuple[str, int]) -> None:
        self._size -= len(self._read.pop(key))


def _asked(poll: Poll) -> Hashable:
    asked = poll.request
    return (
        asked.headers,
        asked.method,
        asked.scheme,
        asked.raw_path,
        asked.path,
        asked.query,
        asked.server,
        asked.root_path,
        poll.path,
        poll.root_path,
    )


def _foreseen(operation: Operation, now: float, past: Sketch | None) -> Hashable:
    if operation.is_terminal:
        return is_expired(operation, now)
    retry_after = estimates.retry_after(operation, now, past)
    return retry_after, estimates.estimate(operation, now, past)


def _is_small(request: Request, answer: Answer) -> bool:
    response = answer.response
    body = 0 if isinstance(response.body, StoredBody) else len(response.body)
    fields = (*request.headers, *response.headers)
    return body + sum(len(name) + len(value) for name, value in fields) <= LARGEST_BYTES
