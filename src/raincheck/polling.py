"""Answering polls: from the store, by the rules of `monitor`, the same for every gateway.

Synchronous and thread-safe, like the core; may block on the store.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

from raincheck import monitor
from raincheck.core import Raincheck
from raincheck.dialects import DIALECTS
from raincheck.errors import BodyMissing, StoreError
from raincheck.links import Resource, local_path, locate
from raincheck.messages import Request, Response, StoredBody
from raincheck.monitor import View
from raincheck.operation import Operation, is_expired
from raincheck.policy import Candidate, Refusal

logger = logging.getLogger("raincheck")

STORE_RETRY_AFTER = 5  # seconds, for a client whose poll met a store that fails
OVERLOADED_RETRY_AFTER = 5  # seconds


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


def may_begin(decision: Candidate | Refusal, core: Raincheck) -> TypeGuard[Candidate]:
    """Tell whether a handler may be called at all; if not, `refuse` says why."""
    return isinstance(decision, Candidate) and not (decision.budget == 0 and core.is_full)


def refuse(decision: Candidate | Refusal) -> Response:
    """Refuse before anything has run; a candidate is refused because too much runs already."""
    if isinstance(decision, Refusal):
        return monitor.problem(decision.status, decision.code, decision.detail)
    return monitor.unavailable("Too many operations are in flight.", OVERLOADED_RETRY_AFTER)


def unreadable(error: StoreError) -> Response:
    """Answer a poll for which the store failed."""
    if isinstance(error, BodyMissing):  # purged between the look and the reading
        return monitor.gone("The response is no longer kept.")
    return monitor.unavailable("Operations can't be read now.", STORE_RETRY_AFTER)


class StatusMonitor:
    """Shows the operations of one core to those who may see them."""

    def __init__(self, core: Raincheck) -> None:
        self._core = core
        self._dialect = DIALECTS[core.settings.dialect]

    def started(
        self, operation: Operation, request: Request, applied: str | None, path: str | None = None
    ) -> Response:
        """Return the 202 for the request that became this operation."""
        return monitor.started(self._view(operation, request, path), applied)

    def respond(self, poll: Poll) -> Response:
        """Answer a request to the status monitor; never raises for a store that fails."""
        self._core.heartbeat.ensure(soon=False)
        try:
            response = self._respond(poll)
        except StoreError as error:
            logger.error("a poll could not be answered: %s", error)
            response = unreadable(error)
        return monitor.for_method(poll.request.method, response)

    def _respond(self, poll: Poll) -> Response:
        if poll.request.method not in monitor.ALLOWED[poll.resource]:
            return monitor.method_not_allowed(poll.resource)
        operation = self._core.look(poll.operation_id)
        if operation is None or operation.owner not in (None, poll.owner):
            return monitor.not_found()
        if poll.request.method == "DELETE" and not is_expired(operation, self._core.store.now()):
            end = self._core.forget if operation.is_terminal else self._core.cancel
            # None: it ended between the look and the step, so the other step is the right one.
            operation = end(operation.id) or self._core.forget(operation.id) or operation
            return monitor.deleted(self._view(operation, poll.request, poll.path))
        view = self._view(operation, poll.request, poll.path)
        return monitor.read(view, poll.resource, poll.request)

    def read(self, body: StoredBody) -> Iterator[bytes]:
        """Yield the bytes of a stored body, chunk by chunk.

        Raises:
            BodyMissing: The response was purged meanwhile.
        """
        size = body.chunk_size
        first, last = body.start // size, -(-body.stop // size)
        chunks = self._core.store.read_chunks(body.operation_id, body.fence, first, last)
        for n, chunk in enumerate(chunks, first):
            yield chunk[max(0, body.start - n * size) : body.stop - n * size]

    def _view(self, operation: Operation, request: Request, path: str | None) -> View:
        settings = self._core.settings
        path = path or local_path(request, settings.prefix, operation.id)
        links = locate(request, path, settings.location, settings.public_url)
        return View(operation, links, self._dialect, self._core.store.now())
