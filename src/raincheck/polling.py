"""Answering polls: from the store, by the rules of `monitor`, the same for every gateway.

Synchronous and thread-safe, like the core; may block on the store. A client that would rather wait
for the end of its operation than poll again says `Prefer: wait`; how its gateway waits is its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

from raincheck import monitor
from raincheck.core import Raincheck
from raincheck.dialects import DIALECTS
from raincheck.errors import BodyMissing, StoreError
from raincheck.links import Resource, local_path, locate
from raincheck.messages import Request, Response, StoredBody, parse_prefer
from raincheck.monitor import View
from raincheck.operation import Operation, State, is_expired
from raincheck.policy import Candidate, Refusal
from raincheck.watching import Watcher

logger = logging.getLogger("raincheck")

STORE_RETRY_AFTER = 5  # seconds, for a client whose poll met a store that fails
OVERLOADED_RETRY_AFTER = 5  # seconds
UNREADABLE = "Operations can't be read now."
CANCELS = (State.CANCELLING, State.CANCELLED)
_REFUSED = (406, 412)  # whatever the operation becomes


@dataclass(frozen=True, slots=True)
class Poll:
    """A request to the status monitor.

    Attributes:
        owner: The principal it comes from.
        path: Where R lies, root path included; None: below the configured prefix.
    """

    request: Request
    operation_id: str
    resource: Resource
    owner: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be said to a poll now.

    Attributes:
        wait: Seconds that the client would rather wait for the end of its operation; 0: it would
            not, or has nothing to wait for.
    """

    response: Response
    wait: float = 0


def may_begin(decision: Candidate | Refusal, core: Raincheck) -> TypeGuard[Candidate]:
    """Tell whether a handler may be called at all; if not, `refuse` says why."""
    if isinstance(decision, Refusal):
        return False
    return decision.budget != 0 or not (core.is_full or core.is_cut_off)


def refuse(decision: Candidate | Refusal, core: Raincheck) -> Response:
    """Refuse before anything has run, for the reason why it may not begin."""
    if isinstance(decision, Refusal):
        return monitor.problem(decision.status, decision.code, decision.detail)
    if core.is_full:
        return monitor.unavailable("Too many operations are in flight.", OVERLOADED_RETRY_AFTER)
    return monitor.unavailable("Operations can't be recorded now.", STORE_RETRY_AFTER)


def unreadable(error: StoreError) -> Response:
    """Answer a poll for which the store failed."""
    if isinstance(error, BodyMissing):  # purged between the look and the reading
        return monitor.gone("The response is no longer kept.")
    return monitor.unavailable(UNREADABLE, STORE_RETRY_AFTER)


class StatusMonitor:
    """Shows the operations of one core to those who may see them.

    Attributes:
        watcher: Wakes those who wait for the end of an operation.
    """

    def __init__(self, core: Raincheck) -> None:
        self.watcher = Watcher(lambda interval: core.store.watch(interval))
        self._core = core
        self._dialect = DIALECTS[core.settings.dialect]

    def started(
        self, operation: Operation, request: Request, applied: str | None, path: str | None = None
    ) -> Response:
        """Return the 202 for the request that became this operation."""
        return monitor.started(self._view(operation, request, path), applied)

    def look(self, poll: Poll, *, waited: float = 0) -> Answer:
        """Find an answer to a request as things are now; never raises for a store that fails.

        Args:
            waited: Seconds that the client has been made to wait at most.
        """
        self._core.heartbeat.ensure(soon=False)
        try:
            answer = self._look(poll)
        except StoreError as error:
            logger.error("a poll could not be answered: %s", error)
            answer, waited = Answer(unreadable(error)), 0
        except Exception:  # the server's 500 would look like the handler's
            logger.exception("a poll could not be answered")
            answer, waited = Answer(monitor.unavailable(UNREADABLE, STORE_RETRY_AFTER)), 0
        response = monitor.for_method(poll.request.method, answer.response)
        if waited:
            response = monitor.after_waiting(response, waited)
        return Answer(response, answer.wait)

    def wait(self, poll: Poll, seconds: float) -> Response:
        """Wait in this thread for the end of an operation, and return what to say then.

        Args:
            seconds: How long at most.
        """
        woken, end = threading.Event(), time.monotonic() + seconds
        with self.watcher.waiting(poll.operation_id, woken.set) as waiter:
            while True:
                in_time = woken.wait(max(0.0, end - time.monotonic()))
                woken.clear()
                is_last = waiter.is_dismissed or not in_time
                answer = self.look(poll, waited=seconds)
                if is_last or not answer.wait:
                    return answer.response

    def close(self) -> None:
        """Let all who wait have their answers now."""
        self.watcher.close()

    def _look(self, poll: Poll) -> Answer:
        if poll.request.method not in monitor.ALLOWED[poll.resource]:
            return Answer(monitor.method_not_allowed(poll.resource))
        operation = self._core.look(poll.operation_id)
        if operation is None or operation.owner not in (None, poll.owner):
            return Answer(monitor.not_found())
        response = self._respond(poll, operation)
        is_final = operation.is_terminal or response.status in _REFUSED
        return Answer(response, 0 if is_final else self._wait_of(poll.request))

    def _wait_of(self, request: Request) -> float:
        prefer = request.header(b"prefer")
        if prefer is None or request.method == "DELETE":
            return 0
        return min(parse_prefer(prefer).wait or 0, self._core.settings.max_wait)

    def _respond(self, poll: Poll, operation: Operation) -> Response:
        if poll.request.method == "DELETE" and not is_expired(operation, self._core.store.now()):
            end = self._core.forget if operation.is_terminal else self._core.cancel
            # None: it ended between the look and the step, so the other step is the right one.
            operation = end(operation.id) or self._core.forget(operation.id) or operation
            if not operation.forgotten and operation.state not in CANCELS:  # a newer raincheck's
                return monitor.unavailable("This can't be cancelled now.", STORE_RETRY_AFTER)
            return monitor.deleted(self._view(operation, poll.request, poll.path))
        view = self._view(operation, poll.request, poll.path)
        return monitor.read(view, poll.resource, poll.request)

    def read(self, body: StoredBody) -> Iterator[bytes]:
        """Yield the bytes of a stored body, chunk by chunk.

        Raises:
            BodyMissing: The response was purged meanwhile.
            StoreError: It can't be read.
        """
        size = body.chunk_size
        first, last = body.start // size, -(-body.stop // size)
        try:
            chunks = self._core.store.read_chunks(body.operation_id, body.fence, first, last)
            for n, chunk in enumerate(chunks, first):
                yield chunk[max(0, body.start - n * size) : body.stop - n * size]
        except StoreError:
            raise
        except Exception as error:  # the server's 500 would look like the handler's
            raise StoreError(f"the store met a defect: {error!r}") from error

    def _view(self, operation: Operation, request: Request, path: str | None) -> View:
        settings = self._core.settings
        path = path or local_path(request, settings.prefix, operation.id)
        links = locate(request, path, settings.location, settings.public_url)
        return View(operation, links, self._dialect, self._core.store.now())
