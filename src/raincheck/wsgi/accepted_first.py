"""A request that becomes an operation before its handler is called.

Because it is deferred from the start, so that limits are looked at before anything runs; or because
another request may have become the same operation: both have an `Idempotency-Key`, or are alike.
"""

from __future__ import annotations

import logging

from raincheck.errors import Overloaded, RaincheckError
from raincheck.keys import Sharing
from raincheck.links import Resource, fill
from raincheck.messages import Headers, Request, Response
from raincheck.operation import Operation
from raincheck.policy import Candidate
from raincheck.polling import Repeat, overloaded, too_large_for_key, unrecordable
from raincheck.wsgi.gateway import Gateway
from raincheck.wsgi.race import Race

logger = logging.getLogger("raincheck")


def is_accepted_first(candidate: Candidate, sharing: Sharing | None) -> bool:
    """Tell whether a request becomes an operation before its handler is called."""
    return candidate.budget == 0 or sharing is not None


def refuse_unread(
    candidate: Candidate, sharing: Sharing | None, gateway: Gateway, *, has_room: bool
) -> Response | None:
    """Refuse a request whose body could not be read ahead; None if it may go on as it is.

    Args:
        has_room: Whether there was room for what was read.
    """
    if not has_room and is_accepted_first(candidate, sharing):
        return overloaded(Overloaded("spooled", gateway.core.limits.spooled))
    return too_large_for_key() if sharing is not None else None


class AcceptedFirst:
    """Records the operation of a race, and then has it run.

    Args:
        sharing: How others may be one with it; None: they may not.
        request: The request, of which links are made.
        template: The path of R where the application has mounted it, with a placeholder.
    """

    def __init__(
        self, race: Race, sharing: Sharing | None, request: Request, template: str | None
    ) -> None:
        self._race = race
        self._sharing = sharing
        self._request = request
        self._template = template

    def response(self) -> Response | None:
        """Return what the client is told; None if the request has to go on as it is."""
        race = self._race
        try:
            accepted = race.accept(self._sharing)
        except Overloaded as error:
            race.drop()
            return overloaded(error)
        except Exception as error:
            return self._note_failure(error)
        if not accepted.is_new:
            race.drop()
            return self._answer(accepted.operation)
        if not race.start():
            race.run()  # in this thread: it has been accepted
        if self._sharing is None or race.candidate.budget == 0 or not race.has_ended_in_time():
            return self._started(accepted.operation)
        headers = race.recording.first_headers if race.recording is not None else None
        return self._answer(accepted.operation, headers)

    def _note_failure(self, error: Exception) -> Response | None:
        has_key = self._sharing is not None  # another request might be handled, too
        defect = None if isinstance(error, RaincheckError) else error
        outcome = "is refused" if has_key else "stays synchronous"
        logger.warning("%r %s: %s", self._race.path, outcome, error, exc_info=defect)
        self._race.stay()
        if not has_key:
            return None
        self._race.drop()
        return unrecordable()

    def _started(self, operation: Operation) -> Response:
        applied, path = self._race.candidate.applied, fill(self._template, operation.id)
        return self._race.gateway.monitor.started(operation, self._request, applied, path)

    def _answer(self, operation: Operation, first: Headers | None = None) -> Response:
        """Answer with what the operation has come to; where another request runs it, wait."""
        race = self._race
        assert race.key is not None  # noqa: S101 - or there would be nothing to share
        repeat = Repeat(
            request=self._request,
            operation_id=operation.id,
            resource=Resource.RESPONSE,
            path=fill(self._template, operation.id),
            key=race.key,
            budget=race.candidate.budget or 0,
            first=first,
            applied=race.candidate.applied,
        )
        return race.gateway.answer(repeat)
