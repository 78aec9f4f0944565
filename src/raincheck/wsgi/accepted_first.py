"""A request that becomes an operation before its handler is called.

Because it is deferred from the start, so that limits are looked at before anything runs; or because
another request may have become the same operation: both have an `Idempotency-Key`, or are alike.
"""

from __future__ import annotations

from contextvars import copy_context

from raincheck.engine.idempotency import Sharing
from raincheck.engine.refusals import may_pass, refuse_unaccepted
from raincheck.http.messages import Headers, Request, Response
from raincheck.monitor.links import fill
from raincheck.monitor.poll import Repeat
from raincheck.operations.operation import Operation
from raincheck.wsgi.race import Race


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
        """Return what the client is told.

        Returns:
            None if it is answered as it would be without: the response is being passed on, or the
            request has to go on as it is.
        """
        race, waits = self._race, may_pass(self._race.candidate, self._sharing)
        if waits:
            race.deferral.attend()
        try:
            accepted = race.accept(self._sharing)
        except Exception as error:
            return self._refuse(error)
        if not accepted.is_new:
            race.drop()
            return self._answer(accepted.operation)
        if race.deferral.queue is not None:
            race.drop()
            return self._started(accepted.operation)
        if not race.start():
            race.deferral.stop_attending()  # nobody would take it meanwhile
            copy_context().run(race.run)  # in this thread: it has been accepted
        if not waits or not race.is_answered_in_time():
            return self._started(accepted.operation)
        if race.is_passing:
            return None
        writer = race.deferral.writer
        headers = writer.first_headers if writer is not None else None
        return self._answer(accepted.operation, headers)

    def _refuse(self, error: Exception) -> Response | None:
        self._race.deferral.keep()
        queue = self._race.deferral.queue
        refusal = refuse_unaccepted(error, self._sharing, self._race.path, queue)
        if refusal is None:
            return None
        self._race.drop()
        return self._race.gateway.monitor.refusal(refusal, self._request)

    def _started(self, operation: Operation) -> Response:
        applied, path = self._race.candidate.applied, fill(self._template, operation.id)
        return self._race.gateway.monitor.started(operation, self._request, applied, path)

    def _answer(self, operation: Operation, first: Headers | None = None) -> Response:
        """Answer with what the operation has come to; where another request runs it, wait."""
        repeat = Repeat.of(self._race.deferral, self._request, operation, self._template, first)
        return self._race.gateway.status.answer(repeat)
